"""From run folders to records: allow-listed, bounded, and equal for ours and lm-eval's."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from hebench.board.extract import MAX_ANSWER, extract
from hebench.board.record_file import read_record, write_record
from hebench.board.store import add_run
from hebench.errors import DataError
from hebench.harness.run import EvalConfig, evaluate
from hebench.harness.tasks import prompt_sha256
from hebench.records import MANIFEST_NAME, RunRecord
from tests.board.test_read import TASK, samples_of, write_run


def taken(folder: Path) -> RunRecord:
    return extract(folder, model="some-model", added="2026-11-25")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "random"
    tasks = ("hebench_mini_qa", "hebench_mini_sentiment", "hebench_mini_translation_en_he")
    evaluate(EvalConfig(model="baseline:random", tasks=tasks, out=folder, limit=12))
    return folder


def test_a_record_of_our_run_holds_each_item(run: Path) -> None:
    record = taken(run)
    task = record.tasks["hebench_mini_qa"]
    assert (record.track, record.settings["source"]) == ("base", "baseline:random")
    assert (len(task.items), task.total, task.shots, task.chance) == (12, 187, 3, None)
    assert task.answers is not None and all(isinstance(answer, str) for answer in task.answers)
    assert set(task.metrics) >= {"score", "tlnls", "exact_match"}
    choices = record.tasks["hebench_mini_sentiment"]
    assert choices.chance == pytest.approx(1 / 3)
    assert choices.answers is not None and all(len(answer) == 3 for answer in choices.answers)
    assert set(choices.parts) == {"macro_f1"}


def test_prompts_have_the_hash_that_the_harness_gives(run: Path) -> None:
    for key, task in taken(run).tasks.items():
        assert task.prompt_sha256 == prompt_sha256(key, None, 12)


def test_corpus_metrics_come_back_from_their_parts(run: Path) -> None:
    import numpy as np

    from hebench.board.read import read_run
    from hebench.stats.resample import bleu_from_statistics, chrf_from_statistics

    key = "hebench_mini_translation_en_he"
    parts = taken(run).tasks[key].parts
    metrics = read_run(run).tasks[key].metrics
    for name, score in (
        ("bleu_corpus", bleu_from_statistics),
        ("chrf_corpus", chrf_from_statistics),
    ):
        total = np.array(parts[name]).sum(axis=0, keepdims=True)
        assert score(total)[0] == pytest.approx(metrics[name], abs=1e-9)


def test_a_record_survives_its_file_and_is_the_same_bytes_each_time(
    run: Path, tmp_path: Path
) -> None:
    record = taken(run)
    for name in ("a.json.gz", "b.json.gz"):
        write_record(tmp_path / name, record)
    assert read_record(tmp_path / "a.json.gz") == record
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()


def test_a_plain_lm_eval_folder_gives_a_record(tmp_path: Path) -> None:
    record = taken(write_run(tmp_path / "run", name="/home/noa/secret/llama", scores=(1.0, 0.0)))
    assert record.settings["backend"] == "lm_eval"
    assert "noa" not in json.dumps(record.settings)
    task = record.tasks[TASK]
    assert task.metrics == {"score": (1.0, 0.0)} and task.answers == ((-1.5, -2.5, -3.5),) * 2


def test_another_split_is_another_column(tmp_path: Path) -> None:
    """Sentiment of the package has one split, so that the word is of no effect there."""
    run = write_run(tmp_path / "run", split="validation")
    assert set(taken(run).tasks) == {TASK}
    for path in run.glob("*/*"):
        text = path.read_text(encoding="utf-8").replace(TASK, "hebench_heq")
        path.write_text(text, encoding="utf-8")
        path.rename(path.with_name(path.name.replace(TASK, "hebench_heq")))
    assert set(taken(run).tasks) == {"hebench_heq.validation"}


def test_an_item_that_could_not_be_judged_is_kept_as_such(tmp_path: Path) -> None:
    record = taken(write_run(tmp_path / "run", scores=(1.0, float("nan"))))
    assert record.tasks[TASK].metrics["score"] == (1.0, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"doc_hash": None}, "expected doc_hash and prompt_hash"),
        ({"metrics": ["score", "extra"], "extra": float("inf")}, "found an infinite one"),
        ({"doc": {"id": "se-1"}}, "found an id twice"),
        ({"score": float("nan")}, "no item could be judged"),
    ],
)
def test_what_is_no_record_is_refused_with_the_reason(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = write_run(tmp_path / "run", scores=(1.0, 1.0))
    path = samples_of(folder)
    lines = [json.loads(line) | change for line in path.read_text("utf-8").splitlines()]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        taken(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seconds": math.nan}, "expected finite numbers in the settings"),
        ({"model": {"source": None}}, "expected a text in the model's source, found None"),
    ],
)
def test_a_manifest_that_no_record_can_hold_is_refused_in_one_line(
    run: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    content = json.loads((folder / MANIFEST_NAME).read_text("utf-8"))
    for key, value in change.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    (folder / MANIFEST_NAME).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        add_run(tmp_path / "board", folder)
    assert "\n" not in str(caught.value) and not (tmp_path / "board").exists()


def test_a_very_long_answer_is_cut(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", scores=(1.0,))
    path = samples_of(folder)
    sample = json.loads(path.read_text("utf-8"))
    sample |= {"filtered_resps": ["א" * 100_000], "arguments": {"gen_args_0": {"arg_1": {"x": 1}}}}
    path.write_text(json.dumps(sample), encoding="utf-8")
    assert taken(folder).tasks[TASK].answers == ("א" * MAX_ANSWER,)
