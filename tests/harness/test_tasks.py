import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from lm_eval.tasks import TaskManager
from transformers import AutoTokenizer

from hebench.data import load
from hebench.data.load import NULL_ANSWER, SENTIMENT_LABELS, mini_records
from hebench.errors import DataError, TaskError
from hebench.harness.check import (
    Rendering,
    changed_prompts,
    check_boundaries,
    check_tasks,
    named_tasks,
    render_tasks,
    store_prompts,
)
from hebench.harness.tasks import load_tasks, prompts, task_names, tasks_folder, upstream_folders

REPOSITORY = Path(__file__).parents[2]
MINI = (
    "hebench_mini_qa",
    "hebench_mini_sentiment",
    "hebench_mini_winograd",
    "hebench_mini_translation_en_he",
    "hebench_mini_translation_he_en",
    "hebench_mini_summarization",
)

GOOD = """
task: hebench_toy
custom_dataset: !function hebench.data.load.mini_sentiment
output_type: multiple_choice
test_split: test
num_fewshot: 0
doc_to_text: "{{text}}"
doc_to_choice: choices
doc_to_target: label
process_results: !function hebench.metrics.choice.process_results
metric_list: [{metric: score, aggregation: mean, higher_is_better: true}]
metadata: {version: 1.0}
"""


def test_the_packaged_tasks_have_no_fault() -> None:
    assert check_tasks(tasks_folder()) == []


def test_every_yaml_is_indexed() -> None:
    stems = {path.stem for path in tasks_folder().rglob("*.yaml")}
    assert stems == set(task_names())
    assert len(stems) >= 45
    assert task_names()["hebench_mini"] == "group"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: [hebench_toy\n", "cannot be loaded"),
        (GOOD.replace("mini_sentiment", "no_such_loader"), "has no function 'no_such_loader'"),
        (GOOD.replace("hebench.data.load", "no_such_module"), "no_such_module"),
        (GOOD.replace("metadata: {version: 1.0}", ""), "metadata with a version"),
        (GOOD.replace("hebench_toy", "toy"), "starts with hebench_"),
        (GOOD.replace("num_fewshot: 0", ""), "num_fewshot"),
        (GOOD.replace("num_fewshot: 0", "num_fewshot: 3"), "not fixed"),
        (GOOD.replace("num_fewshot: 0", "num_fewshot: '3'"), "a value of the wrong kind"),
        (GOOD.replace("[{metric: score,", "[score, {metric: score,"), "a value of the wrong kind"),
        (GOOD + "description: 5\n", "a value of the wrong kind"),
        (GOOD.replace("metric: score", "metric: acc"), "the metric `score`"),
        (GOOD + 'description: "קראו."\n', "blank line"),
        (GOOD.replace("multiple_choice", "generate_until"), "generation_kwargs.until"),
        (
            GOOD.replace("multiple_choice", "generate_until")
            + "generation_kwargs: {until: ['\\n']}\n",
            "double quotes",
        ),
        (
            GOOD.replace("multiple_choice", "generate_until")
            + "generation_kwargs: {until: '\\n'}\n",
            "double quotes",
        ),
        (
            "group: hebench_all\nmetadata: {version: 1}\n"
            "task: [{group: hebench_inner, task: [hebench_gone]}]\n",
            "hebench_gone",
        ),
        ("group: hebench_all\ntask: [hebench_gone]\nmetadata: {version: 1}\n", "hebench_gone"),
        ("- a\n- b\n", "cannot be loaded"),
        (GOOD + "num_fewshot: 5\n", "the key 'num_fewshot' again after line"),
        ("include: ../_families/gone\ntask: hebench_toy\n", "cannot be loaded"),
        ("dataset_path: json\n", "expected `task: NAME`"),
        ("task: 5\n", "cannot be loaded: task: expected a name, found 5"),
    ],
)
def test_a_planted_fault_is_found(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "good.yaml").write_text(GOOD.replace("hebench_toy", "hebench_good"), "utf-8")
    path = tmp_path / "planted.yaml"
    path.write_text(text, encoding="utf-8")
    found = [problem for problem in check_tasks(tmp_path) if message in problem.message]
    assert [problem.path for problem in found] == [path]
    assert all("\n" not in str(problem) for problem in found)


@pytest.mark.parametrize(
    "members",
    [
        "[hebench_good, hebench_mini_qa, hebench_mini]",
        "[belebele_heb_Hebr]",
        "[{group: hebench_inner, task: [hebench_mini_qa, {group: hebench_mini, alias: x}]}]",
        "[{task: hebench_mini_qa, num_fewshot: 0}]",
        f"[{{task: written_out, {', '.join(GOOD.strip().splitlines()[1:])}}}]",
    ],
)
def test_a_group_of_what_exists_has_no_fault(tmp_path: Path, members: str) -> None:
    (tmp_path / "good.yaml").write_text(GOOD.replace("hebench_toy", "hebench_good"), "utf-8")
    text = f"group: hebench_all\ntask: {members}\nmetadata: {{version: 1}}\n"
    (tmp_path / "hebench_all.yaml").write_text(text, encoding="utf-8")
    assert check_tasks(tmp_path) == []


def test_a_stop_text_may_stand_without_a_list(tmp_path: Path) -> None:
    text = GOOD.replace("multiple_choice", "generate_until")
    (tmp_path / "a.yaml").write_text(text + 'generation_kwargs: {until: "\\n"}\n', "utf-8")
    assert check_tasks(tmp_path) == []


@pytest.mark.parametrize(
    ("template", "reason"),
    [("{{txt}}", "UndefinedError: 'txt' is undefined"), ("{{text", "TemplateSyntaxError")],
)
def test_a_template_that_fails_is_one_line(tmp_path: Path, template: str, reason: str) -> None:
    text = GOOD.replace("{{text}}", template)
    (tmp_path / "hebench_toy.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(TaskError, match=reason) as info:
        prompts("hebench_toy", 1, (tmp_path,))
    assert "\n" not in str(info.value)


def test_a_template_that_fails_at_a_later_item_is_one_line(tmp_path: Path) -> None:
    template = "{% if text != TEXT %}{{1 // 0}}{% endif %}"
    first = json.dumps(mini_records("sentiment")[0]["text"], ensure_ascii=False)
    text = GOOD.replace('"{{text}}"', json.dumps(template.replace("TEXT", first)))
    (tmp_path / "hebench_toy.yaml").write_text(text, encoding="utf-8")
    assert prompts("hebench_toy", 1, (tmp_path,)) == [""]
    with pytest.raises(TaskError, match="cannot write its prompts: ZeroDivisionError"):
        prompts("hebench_toy", 2, (tmp_path,))


def test_tasks_are_found_whatever_their_files_are_called(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(GOOD, encoding="utf-8")
    group = "group: hebench_all\ntask: [hebench_toy]\nmetadata: {version: 1}\n"
    (tmp_path / "two.yaml").write_text(group, encoding="utf-8")
    assert named_tasks(tmp_path) == ["hebench_toy"]
    (rendered,) = render_tasks(tmp_path, named_tasks(tmp_path))
    assert rendered.prompt_sha256


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise ConnectionError("Couldn't reach the Hub\n(offline)")

    monkeypatch.setattr(TaskManager, "load", load)
    with pytest.raises(DataError, match="cannot get the data of belebele_heb_Hebr") as info:
        load_tasks(("belebele_heb_Hebr",))
    assert "\n" not in str(info.value) and str(info.value).endswith("connect to the Hub")


def test_a_key_given_twice_in_an_included_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "family").write_text(GOOD.replace("task: hebench_toy\n", ""), "utf-8")
    (tmp_path / "middle").write_text("include: family\nnum_fewshot: 0\n", "utf-8")
    (tmp_path / "a.yaml").write_text("include: [middle]\ntask: hebench_a\n", "utf-8")
    assert check_tasks(tmp_path) == []
    with (tmp_path / "family").open("a", encoding="utf-8") as file:
        file.write("num_fewshot: 5\n")
    (found,) = check_tasks(tmp_path)
    assert found.path == tmp_path / "a.yaml"
    assert "the key 'num_fewshot' again" in found.message
    assert str(tmp_path / "family") in found.message


def test_a_name_taken_twice_is_found(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(GOOD, encoding="utf-8")
    (problem,) = check_tasks(tmp_path)
    assert problem.path.name == "b.yaml" and "a.yaml" in problem.message


def test_a_broken_file_stops_the_load_instead_of_vanishing(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("task: [hebench_toy\n", encoding="utf-8")
    with pytest.raises(TaskError, match=r"broken\.yaml cannot be loaded.*tasks check"):
        load_tasks(("hebench_mini_qa",), (tmp_path,))
    (tmp_path / "broken.yaml").write_text("task: 5\n", encoding="utf-8")
    with pytest.raises(TaskError, match=r"broken\.yaml cannot be loaded: task: expected a name"):
        load_tasks(("hebench_mini_qa",), (tmp_path,))


def test_an_unknown_task_is_one_line_with_a_hint() -> None:
    with pytest.raises(TaskError, match="did you mean hebench_mini_qa") as info:
        load_tasks(("hebench_mini_qq",))
    assert "\n" not in str(info.value)


def test_every_prompt_of_the_package_is_stored() -> None:
    """A changed prompt changes scores: raise the version, then `hebench tasks check --store`."""
    names = [name for name, kind in task_names().items() if kind == "task"]
    rendered = render_tasks(tasks_folder(), [name for name in names if "_mini_" in name])
    assert len(rendered) >= 22 and all(item.prompt_sha256 for item in rendered)
    assert changed_prompts(tasks_folder(), rendered) == []
    stored = json.loads((tasks_folder() / "prompts.json").read_text(encoding="utf-8"))
    assert set(stored) <= set(names)


def test_a_changed_prompt_needs_another_version(tmp_path: Path) -> None:
    before = [Rendering("hebench_toy", "a" * 64, "1.0")]
    assert changed_prompts(tmp_path, before) == []  # nothing is stored, nothing compared
    store_prompts(tmp_path, before)
    assert changed_prompts(tmp_path, before) == []
    (problem,) = changed_prompts(tmp_path, [Rendering("hebench_toy", "b" * 64, "1.0")])
    assert "raise metadata.version" in problem.message
    assert changed_prompts(tmp_path, [Rendering("hebench_toy", "b" * 64, "1.1")]) == []
    assert changed_prompts(tmp_path, [Rendering("hebench_toy", None, "", "no data")]) == []
    (new,) = changed_prompts(tmp_path, [Rendering("hebench_new", "c" * 64, "1.0")])
    assert "no prompt is stored" in new.message


def test_a_task_without_its_data_is_named_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEBENCH_CACHE", str(tmp_path))
    (item,) = render_tasks(tasks_folder(), ["hebench_heq"])
    assert item.prompt_sha256 is None
    assert "hebench data get heq" in item.reason


def test_a_choice_that_a_tokenizer_swallows_is_found(tmp_path: Path, tiny_model: Path) -> None:
    """A tokenizer with merges across the boundary leaves nothing of a choice without a space."""
    good = GOOD.replace("hebench_toy", "hebench_good")
    (tmp_path / "hebench_good.yaml").write_text(good, encoding="utf-8")
    encode = AutoTokenizer.from_pretrained(tiny_model).encode
    words = {word for record in load.mini_records("qa") for word in record["passage"].split()}
    # A word whose last letter costs no token of its own: prompt and choice meet inside a merge.
    word = min(w for w in words if len(w) > 2 and len(encode(w)) <= len(encode(w[:-1])))
    (tmp_path / "hebench_toy.yaml").write_text(
        GOOD.replace('doc_to_text: "{{text}}"', f"doc_to_text: '{word[:-1]}'")
        .replace("doc_to_choice: choices", f"doc_to_choice: ['{word[-1]}', ' כן']")
        .replace("doc_to_target: label", "doc_to_target: 0")
        .replace("metadata", 'target_delimiter: ""\nmetadata'),
        encoding="utf-8",
    )
    rendered = render_tasks(tmp_path, ["hebench_good", "hebench_toy"])
    problems = check_boundaries(tmp_path, rendered, str(tiny_model))
    assert [problem.message.split(":")[0] for problem in problems] == ["hebench_toy"]


def test_no_packaged_choice_is_swallowed(tiny_model: Path) -> None:
    names = [name for name, kind in task_names().items() if kind == "task" and "_mini_" in name]
    rendered = render_tasks(tasks_folder(), names)
    assert check_boundaries(tasks_folder(), rendered, str(tiny_model)) == []


def test_lm_evals_own_hebrew_tasks_exist_by_name() -> None:
    """The names of `hebench_extended` are in the installed version, and are read in a moment."""
    manager = TaskManager(
        include_path=[str(folder) for folder in upstream_folders()], include_defaults=False
    )
    text = (tasks_folder() / "hebench_extended.yaml").read_text(encoding="utf-8")
    asked = re.findall(r"^  - (\w+)$", text, flags=re.M)
    assert len(asked) == 6
    assert set(asked) <= set(manager.all_tasks)
    assert (
        len([name for name in manager.all_tasks if name.startswith("global_mmlu_full_he_")]) >= 57
    )


def test_the_prompt_and_the_metric_agree_on_the_null_answer() -> None:
    (prompt,) = prompts("hebench_mini_qa", 1)
    assert prompt.splitlines()[0].endswith(f"כתבו: {NULL_ANSWER}.")
    assert f"תשובה: {NULL_ANSWER}\n" in prompt  # one of the shots abstains


def test_the_prompt_and_the_labels_agree() -> None:
    (prompt,) = prompts("hebench_mini_sentiment", 1)
    assert all(prompt.count(f"רגש: {label}\n") == 3 for label in SENTIMENT_LABELS.values())


@pytest.mark.parametrize("name", MINI)
def test_shots_are_as_many_as_the_yaml_says_and_choices_start_at_a_space(name: str) -> None:
    task = load_tasks((name,))["tasks"][name]
    task.build_all_requests(limit=2, rank=0, world_size=1)
    for instance in task.instances:
        context = instance.args[0]
        assert context == context.rstrip()
        if task.OUTPUT_TYPE == "multiple_choice":
            assert instance.args[1].startswith(" ") and instance.args[1].strip()
    cues = {"qa": "תשובה:", "sentiment": "רגש:", "winograd": "תשובה:", "en_he": "עברית:"}
    for suffix, cue in cues.items():
        if name.endswith(suffix):
            shown = task.instances[0].args[0].split(cue)
            assert len(shown) - 2 == task.get_config("num_fewshot")


def test_every_task_has_a_data_card_in_the_one_format() -> None:
    cards = REPOSITORY / "data_cards"
    named = set()
    for path in tasks_folder().rglob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        if "\ngroup: " in f"\n{text}":
            continue
        named.add(re.search(r"data_card: ([a-z-]+)", text).group(1))  # type: ignore[union-attr]
    written = {path.stem for path in cards.glob("*.md")} - {"README", "baselines"}
    assert named == written - {"train-chat"}  # training data has a card and no task
    heads = ["Source", "Licence", "Size", "Splits", "How it was made", "Known limits"]
    heads += ["Baselines", "Saturation", "Citation"]
    for name in written:
        text = (cards / f"{name}.md").read_text(encoding="utf-8")
        assert re.findall(r"^## (.*)$", text, flags=re.M) == heads, name
        assert f"[{name}]({name}.md)" in (cards / "README.md").read_text(encoding="utf-8")


def test_the_packaged_grammar_pairs_are_what_their_builder_prints() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "hebench.data.builders.grammar"], check=True, capture_output=True
    ).stdout.decode("utf-8")
    packaged = Path(load.__file__).parent / "mini" / "grammar" / "items.jsonl"
    assert packaged.read_text(encoding="utf-8").splitlines()[1:] == printed.splitlines()
