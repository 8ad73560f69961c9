"""`evaluate` end to end on a two-layer random model: scores, resume, refusals."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from hebench.board.read import read_run
from hebench.errors import CheckpointError, ConfigError, DataError, TaskError
from hebench.files import read_jsonl
from hebench.harness.answers import ANSWERS_NAME, AnswerLog, is_truncated
from hebench.harness.prefix import lm as prefix_lm
from hebench.harness.run import EvalConfig, evaluate
from hebench.harness.tasks import load_tasks
from hebench.records import MANIFEST_NAME, RunManifest
from tests.conftest import make_tiny_model

ALL = ("hebench_mini",)
QUICK = ("hebench_mini_sentiment", "hebench_mini_qa")


def config(model: Path | str, out: Path, **changes: Any) -> EvalConfig:
    """A quick evaluation in float32; batch size 1 makes each answer independent of the others."""
    start = EvalConfig(
        model=str(model), tasks=QUICK, out=out, limit=4, dtype="float32", batch_size=1
    )
    return replace(start, **changes)


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted evaluation."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    evaluate(config(tiny_model, out))
    return out


def scores(folder: Path) -> dict[str, tuple[float, ...]]:
    return {name: task.scores for name, task in read_run(folder).tasks.items()}


def test_every_mini_task_gives_finite_scores(tiny_model: Path, tmp_path: Path) -> None:
    manifest = evaluate(config(tiny_model, tmp_path, tasks=ALL, limit=2, max_tokens=64))
    run = read_run(tmp_path)
    assert set(run.tasks) == set(manifest.tasks) and len(run.tasks) == 11
    for task in run.tasks.values():
        assert len(task.scores) == 2 and task.total >= 30
        assert all(0 <= value <= 1 for value in task.scores)
        assert math.isfinite(task.metrics["score"])
        assert task.metrics["score"] == pytest.approx(sum(task.scores) / 2)
    assert {"chrf_corpus", "bleu_corpus"} <= set(
        run.tasks["hebench_mini_translation_he_en"].metrics
    )
    results = json.loads(next(tmp_path.glob("results_*.json")).read_text(encoding="utf-8"))
    assert "hebench_mini" in results["groups"]


def test_the_manifest_says_what_the_scores_depend_on(whole: Path, tiny_model: Path) -> None:
    manifest = RunManifest.read(whole)
    assert manifest is not None
    assert manifest.model.source == "tiny" and len(manifest.model.weights_sha256 or "") == 64
    assert manifest.model.parameters and manifest.model.dtype == "float32"
    tasks = load_tasks(QUICK)["tasks"]
    assert manifest.task_versions == {name: str(tasks[name].VERSION) for name in QUICK}
    assert set(manifest.prompt_sha256) == set(manifest.data_sha256) == set(QUICK)
    assert manifest.requests == 4 * 3 + 4 and manifest.requests_failed == 0
    assert {"lm_eval", "torch", "transformers", "hebench"} <= set(manifest.versions)
    assert str(tiny_model.parent) not in (whole / MANIFEST_NAME).read_text(encoding="utf-8")


def test_the_same_command_twice_gives_the_same(
    whole: Path, tiny_model: Path, tmp_path: Path
) -> None:
    manifest = evaluate(config(tiny_model, tmp_path))
    before = RunManifest.read(whole)
    assert before and manifest.prompt_sha256 == before.prompt_sha256
    assert scores(tmp_path) == scores(whole)


def test_a_finished_folder_is_reused_without_loading_the_model(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate(config(tiny_model, tmp_path))

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded again")

    monkeypatch.setattr("hebench.harness.run.load_local", fail)
    assert evaluate(config(tiny_model, tmp_path)) == first


@pytest.mark.parametrize("after", [1, 7, 13])
def test_an_interrupted_evaluation_ends_with_the_same_scores(
    whole: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    record = AnswerLog.add_partial

    def interrupted(self: AnswerLog, attr: str, req: Any, res: Any) -> None:
        record(self, attr, req, res)
        if len(self) == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(AnswerLog, "add_partial", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluate(config(tiny_model, tmp_path))
    assert not (tmp_path / MANIFEST_NAME).exists()
    with pytest.raises(DataError, match="did not finish|not finished"):
        read_run(tmp_path)
    with (tmp_path / ANSWERS_NAME).open("a") as stream:
        stream.write('{"key": "cut sh')  # what a power cut leaves
    manifest = evaluate(config(tiny_model, tmp_path))
    assert manifest.requests_reused == after
    assert scores(tmp_path) == scores(whole)


def test_raising_the_limit_reuses_the_answers(tiny_model: Path, tmp_path: Path) -> None:
    evaluate(config(tiny_model, tmp_path, limit=2))
    manifest = evaluate(config(tiny_model, tmp_path, limit=4))
    assert manifest.requests_reused == 2 * 3 + 2
    assert len(read_run(tmp_path).tasks[QUICK[0]].scores) == 4


@pytest.mark.parametrize(
    ("changes", "setting"),
    [({"batch_size": 2}, "batch_size"), ({"dtype": "bfloat16"}, "dtype"), ({"seed": 1}, "seed")],
)
def test_answers_under_other_settings_are_refused(
    tiny_model: Path, tmp_path: Path, changes: dict[str, Any], setting: str
) -> None:
    evaluate(config(tiny_model, tmp_path, limit=1))
    with pytest.raises(ConfigError, match=f"{setting} = .*choose another folder"):
        evaluate(config(tiny_model, tmp_path, limit=1, **changes))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"dtype": "bfloat16", "backend": "hf"}, {"dtype": "bfloat16"}),
        ({}, {"backend": "vllm"}),
    ],
)
def test_a_finished_folder_is_not_returned_for_another_backend(
    tiny_model: Path, tmp_path: Path, first: dict[str, Any], second: dict[str, Any]
) -> None:
    evaluate(config(tiny_model, tmp_path, limit=1, **first))
    with pytest.raises(ConfigError, match="engine = .*choose another folder"):
        evaluate(config(tiny_model, tmp_path, limit=1, **second))


def test_in_float32_the_shared_backend_goes_on_where_the_stock_one_ended(
    tiny_model: Path, tmp_path: Path
) -> None:
    evaluate(config(tiny_model, tmp_path, limit=1, backend="hf"))
    assert evaluate(config(tiny_model, tmp_path, limit=2)).requests_reused == 4


def test_a_users_copy_of_the_log_is_left_alone(tiny_model: Path, tmp_path: Path) -> None:
    evaluate(config(tiny_model, tmp_path, limit=1))
    copy = tmp_path / "answers.before.jsonl"
    shutil.copy(tmp_path / ANSWERS_NAME, copy)
    content = copy.read_bytes()
    (tmp_path / ANSWERS_NAME).unlink()
    assert evaluate(config(tiny_model, tmp_path, limit=1)).requests_reused == 0
    assert copy.read_bytes() == content


def test_a_model_that_tells_of_its_answers_at_the_end_is_asked_in_parts(tmp_path: Path) -> None:
    """As vLLM does: what it has answered before it is killed is kept."""
    calls: list[int] = []

    def ask(requests: list[Any], *, disable_tqdm: bool) -> list[str]:
        calls.append(len(requests))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return [request.args[0] for request in requests]

    requests = [
        Instance("generate_until", {}, (f"שאלה {number}", {"until": []}), 0, ("t", number, 1))
        for number in range(7)
    ]

    def log() -> AnswerLog:
        return AnswerLog(tmp_path / ANSWERS_NAME, {}, {"t": "1"}, at_once=3)

    first = log()
    with pytest.raises(KeyboardInterrupt):
        first.answer(ask, "generate_until", requests)
    first.close()
    second = log()
    assert second.answer(ask, "generate_until", requests) == [each.args[0] for each in requests]
    second.close()
    assert calls == [3, 3, 1, 1]


def test_a_folder_whose_log_is_gone_is_asked_anew(tiny_model: Path, tmp_path: Path) -> None:
    evaluate(config(tiny_model, tmp_path, limit=1))
    (tmp_path / ANSWERS_NAME).unlink()
    manifest = evaluate(config(tiny_model, tmp_path, limit=1))
    assert (manifest.requests, manifest.requests_reused) == (4, 0)
    assert (tmp_path / ANSWERS_NAME).read_text(encoding="utf-8").count("\n") == 1 + 4


def test_another_checkpoint_under_the_same_name_never_gets_these_answers(
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"
    evaluate(config(make_tiny_model(tmp_path / "a" / "model", seed=0), out, limit=1))
    other = make_tiny_model(tmp_path / "b" / "model", seed=1)
    with pytest.raises(ConfigError, match="weights_sha256"):
        evaluate(config(other, out, limit=1))


def test_a_prompt_beyond_the_context_is_counted(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "short", seed=0, context=256)
    manifest = evaluate(config(model, tmp_path / "run", limit=2))
    assert manifest.requests_truncated == manifest.requests == 8


@pytest.mark.parametrize(
    ("options", "cut"),
    [({}, True), ({"max_gen_toks": 200}, False), ({"max_new_tokens": 230}, True)],
)
def test_room_for_the_answer_counts_as_the_model_counts_it(
    options: dict[str, Any], cut: bool
) -> None:
    lm = SimpleNamespace(max_length=300, max_gen_toks=256, tok_encode=lambda text: text.split())
    assert is_truncated(lm, "generate_until", ("מילה " * 80, options)) == cut


def test_the_type_that_was_loaded_is_recorded(tiny_model: Path, tmp_path: Path) -> None:
    manifest = evaluate(config(tiny_model, tmp_path, limit=1, dtype="auto"))
    assert manifest.model.dtype == "float32"
    assert evaluate(config(tiny_model, tmp_path, limit=1, dtype="auto")) == manifest


def test_a_model_that_returns_no_number_is_counted_not_scored(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    model = make_tiny_model(tmp_path / "diverged", seed=0)
    path = model / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], math.nan)
    save_file(weights, path, metadata={"format": "pt"})
    manifest = evaluate(config(model, tmp_path / "run", limit=2, tasks=QUICK[:1]))
    assert manifest.requests_failed == 6
    task = read_run(tmp_path / "run").tasks[QUICK[0]]
    assert all(math.isnan(value) for value in task.scores)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("/no/such/folder", "expected a model folder, found nothing"),
        ("nothing-like-that", "expected a model folder or a Hub id"),
        ("nobody/no-such-model", "cannot load nobody/no-such-model"),
    ],
)
def test_what_is_no_model_is_one_line(tmp_path: Path, model: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as info:
        evaluate(config(model, tmp_path))
    assert "\n" not in str(info.value)


def test_a_folder_that_is_not_a_model_is_one_line(tiny_model: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CheckpointError, match="not a model folder: no weight files"):
        evaluate(config(empty, tmp_path / "run"))
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (empty / name).write_bytes((tiny_model / name).read_bytes())
    whole = (tiny_model / "model.safetensors").read_bytes()
    (empty / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="cannot load the model") as info:
        evaluate(config(empty, tmp_path / "run"))
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ()}, "at least one task"),
        ({"limit": 0}, "at least 1 item"),
        ({"batch_size": 0}, "at least 1"),
        ({"max_tokens": -3}, "--max-tokens: expected at least 1, found -3"),
        ({"seed": -1}, "--seed: expected 0 to 4294967295, found -1"),
        ({"dtype": "bf16"}, "--dtype: expected bfloat16, float16, float32, auto, found 'bf16'"),
    ],
)
def test_values_that_mean_nothing_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        config("baseline:random", tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "validaton"}, "--split: expected a task that has a choice of it, found hebench"),
        ({"text": "notes.txt"}, "--text: expected a task that has a choice of it, found hebench"),
        ({"revision": "main"}, "--revision: expected a model of the Hub, found baseline:random"),
    ],
)
def test_options_that_nothing_asks_for_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate(config("baseline:random", tmp_path, **changes))


def test_a_revision_of_a_folder_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--revision: expected a model of the Hub, found /"):
        evaluate(config(tiny_model, tmp_path, revision="main"))


@pytest.mark.parametrize("backend", ["prefix", "hf"])
def test_answers_that_leave_no_room_for_a_prompt_are_refused(
    tiny_model: Path, tmp_path: Path, backend: str
) -> None:
    changes: dict[str, Any] = {"tasks": QUICK[1:], "max_tokens": 100_000, "backend": backend}
    with pytest.raises(ConfigError, match="hebench_mini_qa lets answers have 100000 tokens"):
        evaluate(config(tiny_model, tmp_path, **changes))


def test_a_device_that_is_not_here_is_refused_before_anything_is_asked(
    tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="--device: expected a device of this .* found cuda:99"):
        evaluate(config(tiny_model, tmp_path, device="cuda:99"))
    assert not (tmp_path / MANIFEST_NAME).exists()


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("nobody/model", {"backend": "hf"}),
        ("nobody/model", {"backend": "vllm"}),
        ("baseline:random", {}),
        (
            "he-1",
            {"backend": "openai", "base_url": "http://127.0.0.1:9/v1", "track": "chat"},
        ),
    ],
)
def test_processes_that_cannot_share_the_work_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, changes: dict[str, Any]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="expected one process, found 2: only --backend prefix"):
        evaluate(config(model, tmp_path, **changes))


def test_processes_that_would_wait_for_each_other_are_refused(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_lm, "branched", lambda _: "made up")
    monkeypatch.setattr(prefix_lm.PrefixLM, "world_size", 2)
    text = tmp_path / "text.txt"
    text.write_text("הגשם ירד.\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="hebench_bpb can be asked .* by one process only"):
        evaluate(config(tiny_model, tmp_path / "run", tasks=("hebench_bpb",), text=str(text)))


def test_processes_that_would_have_no_item_are_refused(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_lm.PrefixLM, "world_size", 2)
    with pytest.raises(ConfigError, match="hebench_mini_.*: expected an item for each of 2 proc"):
        evaluate(config(tiny_model, tmp_path / "run", limit=1))


def test_the_chat_track_needs_a_template_that_works(tiny_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    chat = {"track": "chat", "tasks": ("hebench_mini_chat_math",)}
    with pytest.raises(ConfigError, match="--track chat: expected a chat template .* is not set"):
        evaluate(config(model, tmp_path / "none", **chat))
    for number, template in enumerate(("{{ raise_exception('no users') }}", "{{ messages")):
        (model / "chat_template.jinja").write_text(template, encoding="utf-8")
        with pytest.raises(ConfigError, match="add one, or use --track base") as info:
            evaluate(config(model, tmp_path / str(number), **chat))
        assert "\n" not in str(info.value)


def test_the_thinking_track_tells_the_template_so(tiny_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    (model / "chat_template.jinja").write_text(
        "{{ messages[-1].content }}{% if enable_thinking %}<think>"
        "{% elif enable_thinking is defined %}<think></think>{% endif %}",
        encoding="utf-8",
    )
    ends = {}
    for track in ("base", "chat", "thinking"):
        for backend in ("hf", "prefix"):
            out = tmp_path / f"{track}-{backend}"
            more = {"track": track, "backend": backend, "max_tokens": 2}
            evaluate(config(model, out, tasks=("hebench_mini_chat_math",), limit=1, **more))
            (_, sample) = next(read_jsonl(next(out.glob("samples_*.jsonl"))))
            prompt = sample["arguments"]["gen_args_0"]["arg_0"]
            ends[track, backend] = "<think>" in prompt, prompt.endswith("</think>")
    assert {ends["base", backend] for backend in ("hf", "prefix")} == {(False, False)}
    assert {ends["chat", backend] for backend in ("hf", "prefix")} == {(True, True)}
    assert {ends["thinking", backend] for backend in ("hf", "prefix")} == {(True, False)}


def test_a_start_that_failed_binds_nobody_to_its_settings(tiny_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    whole = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="cannot load the model"):
        evaluate(config(broken, tmp_path / "run", seed=1))
    assert not (tmp_path / "run" / ANSWERS_NAME).exists()
    assert evaluate(config(tiny_model, tmp_path / "run")).seed == 1234


OWN_TASK = """
task: own_task
custom_dataset: !function utils.documents
output_type: multiple_choice
test_split: test
fewshot_split: train
num_fewshot: 1
fewshot_config: {sampler: first_n}
doc_to_text: "{{question}}"
doc_to_target: 0
doc_to_choice: ["א", "ב"]
process_results: !function utils.score
metric_list: [{metric: score, aggregation: mean, higher_is_better: true}]
metadata: {version: 1.0}
"""
OWN_CODE = """
import datasets

def documents(**_):
    shots = ["SHOT"]
    return {
        "train": datasets.Dataset.from_list([{"question": text} for text in shots]),
        "test": datasets.Dataset.from_list([{"question": text} for text in "abc"]),
    }

def worth():
    return 0.25

def score(doc, results):
    return {"score": worth()}
"""


@pytest.mark.parametrize(("part", "other"), [("0.25", "0.75"), ("SHOT", "OTHER")])
def test_a_finished_folder_is_scored_anew_for_other_code_or_shots_of_a_task(
    tiny_model: Path, tmp_path: Path, part: str, other: str
) -> None:
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "own.yaml").write_text(OWN_TASK, encoding="utf-8")
    (folder / "utils.py").write_text(OWN_CODE, encoding="utf-8")
    start = config(tiny_model, tmp_path / "run", tasks=("own_task",), include=(folder,))
    first = evaluate(start)
    assert evaluate(start) == first
    (folder / "utils.py").write_text(OWN_CODE.replace(part, other), encoding="utf-8")
    second = evaluate(start)
    assert second.source_sha256 != first.source_sha256
    assert scores(tmp_path / "run") == {"own_task": (0.75 if part == "0.25" else 0.25,) * 3}


def test_a_folder_that_cannot_be_written_is_refused_before_any_work() -> None:
    with pytest.raises(ConfigError, match="cannot write to /proc/hebench.*choose another folder"):
        evaluate(config("baseline:random", Path("/proc/hebench")))


# --------------------------------------------------------------------------- baselines


def test_baselines_are_rows_like_any_model(tmp_path: Path) -> None:
    found = {}
    for kind in ("random", "most_frequent", "copy_source", "first_sentence"):
        out = tmp_path / kind
        manifest = evaluate(EvalConfig(model=f"baseline:{kind}", tasks=ALL, out=out))
        assert manifest.backend == "baseline"
        found[kind] = {name: task.metrics["score"] for name, task in read_run(out).tasks.items()}
    closed = {"sentiment", "winograd", "nli", "trivia", "grammar"}
    assert len(found["random"]) == 11
    assert found["most_frequent"].keys() == {f"hebench_mini_{name}" for name in closed | {"qa"}}
    assert found["copy_source"].keys() == set(found["random"]) - {
        f"hebench_mini_{name}" for name in closed | {"math"}
    }
    assert found["most_frequent"]["hebench_mini_sentiment"] == pytest.approx(1 / 3)
    assert found["most_frequent"]["hebench_mini_winograd"] == 0.5
    assert found["first_sentence"].keys() == {"hebench_mini_qa", "hebench_mini_summarization"}
    # Nothing without a model comes near a good answer.
    assert max(found["random"]["hebench_mini_qa"], found["copy_source"]["hebench_mini_qa"]) < 0.3
    assert found["copy_source"]["hebench_mini_translation_en_he"] < 0.1


@pytest.mark.parametrize(
    ("kind", "task"), [("most_frequent", "hebench_mini_winograd"), ("random", "hebench_mini_qa")]
)
def test_a_baseline_answers_alike_whatever_the_folder_holds(
    tmp_path: Path, kind: str, task: str
) -> None:
    whole, grown = tmp_path / "whole", tmp_path / "grown"
    start = EvalConfig(model=f"baseline:{kind}", tasks=(task,), out=whole, limit=16)
    first = evaluate(start)
    evaluate(replace(start, out=grown, limit=3))
    second = evaluate(replace(start, out=grown))
    assert scores(grown) == scores(whole)
    assert second.requests == first.requests >= 16 and second.requests_reused == 0
    assert evaluate(replace(start, out=grown)) == second


def test_a_baseline_names_its_choice_where_answers_are_free(tmp_path: Path) -> None:
    """As on the tasks that score given choices; the same items are asked in both forms."""
    names = ("sentiment", "nli", "trivia", "winograd")
    closed = tuple(f"hebench_mini_{name}" for name in names)
    free = tuple(f"hebench_mini_chat_{name}" for name in names)
    for kind in ("random", "most_frequent"):
        start = EvalConfig(model=f"baseline:{kind}", tasks=closed, out=tmp_path / kind)
        evaluate(start)
        out = tmp_path / f"{kind}-chat"
        manifest = evaluate(replace(start, tasks=free, out=out, track="chat"))
        assert manifest.track == "chat" and manifest.backend == "baseline"
        assert list(scores(out).values()) == list(scores(tmp_path / kind).values())
        assert all(task.metrics["unparseable"] == 0 for task in read_run(out).tasks.values())


def test_a_baseline_needs_no_device(tmp_path: Path) -> None:
    manifest = evaluate(config("baseline:random", tmp_path, device="cuda:99"))
    assert manifest.device == "cpu" and "accelerator" not in manifest.hardware


def test_a_baseline_that_does_not_apply_says_so(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="does not apply"):
        evaluate(config("baseline:copy_source", tmp_path, tasks=("hebench_mini_winograd",)))
    with pytest.raises(ConfigError, match="unknown baseline clever; expected one of random"):
        evaluate(config("baseline:clever", tmp_path))


def test_another_split_is_scored_on_request(mirror: Path, tmp_path: Path) -> None:
    heq = ("hebench_heq",)
    manifest = evaluate(
        config("baseline:most_frequent", tmp_path, tasks=heq, split="validation", limit=None)
    )
    task = read_run(tmp_path).tasks["hebench_heq"]
    assert (manifest.split, len(task.scores), len(set(task.clusters))) == ("validation", 1501, 239)
    assert task.metrics["score"] == pytest.approx(443 / 1501)  # always abstaining
