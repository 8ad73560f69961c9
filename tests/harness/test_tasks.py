import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from hebench.data import load
from hebench.data.load import NULL_ANSWER, SENTIMENT_LABELS
from hebench.errors import TaskError
from hebench.harness.tasks import check_tasks, load_tasks, prompts, task_names, tasks_folder

REPOSITORY = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("prompts.json")
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
        (GOOD.replace("metric: score", "metric: acc"), "the metric `score`"),
        (GOOD + 'description: "קראו."\n', "blank line"),
        (GOOD.replace("multiple_choice", "generate_until"), "generation_kwargs.until"),
        (
            GOOD.replace("multiple_choice", "generate_until")
            + "generation_kwargs: {until: ['\\n']}\n",
            "double quotes",
        ),
        ("group: hebench_all\ntask: [hebench_gone]\nmetadata: {version: 1}\n", "hebench_gone"),
        ("- a\n- b\n", "cannot be loaded"),
        ("include: ../_families/gone\ntask: hebench_toy\n", "cannot be loaded"),
        ("dataset_path: json\n", "expected `task: NAME`"),
    ],
)
def test_a_planted_fault_is_found(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "good.yaml").write_text(GOOD.replace("hebench_toy", "hebench_good"), "utf-8")
    path = tmp_path / "planted.yaml"
    path.write_text(text, encoding="utf-8")
    found = [problem for problem in check_tasks(tmp_path) if message in problem.message]
    assert [problem.path for problem in found] == [path]
    assert all("\n" not in str(problem) for problem in found)


def test_a_name_taken_twice_is_found(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(GOOD, encoding="utf-8")
    (problem,) = check_tasks(tmp_path)
    assert problem.path.name == "b.yaml" and "a.yaml" in problem.message


def test_a_broken_file_stops_the_load_instead_of_vanishing(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("task: [hebench_toy\n", encoding="utf-8")
    with pytest.raises(TaskError, match=r"broken\.yaml cannot be loaded.*tasks check"):
        load_tasks(("hebench_mini_qa",), (tmp_path,), split=None)


def test_an_unknown_task_is_one_line_with_a_hint() -> None:
    with pytest.raises(TaskError, match="did you mean hebench_mini_qa") as info:
        load_tasks(("hebench_mini_qq",), (), split=None)
    assert "\n" not in str(info.value)


def test_prompts_match_the_stored_ones() -> None:
    """A changed prompt changes scores: bump the task's version with the stored text.

    `python -m tests.harness.test_tasks` stores them anew.
    """
    assert stored_prompts() == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_the_prompt_and_the_metric_agree_on_the_null_answer() -> None:
    (prompt,) = prompts("hebench_mini_qa", 1)
    assert prompt.splitlines()[0].endswith(f"כתבו: {NULL_ANSWER}.")
    assert f"תשובה: {NULL_ANSWER}\n" in prompt  # one of the shots abstains


def test_the_prompt_and_the_labels_agree() -> None:
    (prompt,) = prompts("hebench_mini_sentiment", 1)
    assert all(prompt.count(f"רגש: {label}\n") == 3 for label in SENTIMENT_LABELS.values())


@pytest.mark.parametrize("name", MINI)
def test_shots_are_as_many_as_the_yaml_says_and_choices_start_at_a_space(name: str) -> None:
    task = load_tasks((name,), (), split=None)["tasks"][name]
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


@pytest.mark.parametrize("name", [*MINI, "hebench_heq"])
def test_each_task_has_a_data_card(name: str) -> None:
    path = next(tasks_folder().rglob(f"{name}.yaml"))
    card = path.read_text(encoding="utf-8").split("data_card: ")[1].split("}")[0]
    text = (REPOSITORY / "data_cards" / f"{card}.md").read_text(encoding="utf-8")
    for head in ("Source", "Licence", "Size", "How it was made", "Known limits", "Citation"):
        assert f"\n## {head}\n" in text, (card, head)


def stored_prompts() -> dict[str, Any]:
    """The first prompt of each packaged task, with the version that it belongs to."""
    head = (Path(load.__file__).parent / "mini/qa/items.jsonl").read_text("utf-8")
    found: dict[str, Any] = {"canary": json.loads(head.splitlines()[0])["canary"]}
    for name in MINI:
        task = load_tasks((name,), (), split=None)["tasks"][name]
        (prompt,) = prompts(name, 1)
        found[name] = {
            "version": str(task.VERSION),
            "sha256": hashlib.sha256(prompt.encode()).hexdigest(),
            "prompt": prompt,
        }
    return found


if __name__ == "__main__":
    GOLDEN.write_text(
        json.dumps(stored_prompts(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
