"""Reading run folders and the table that commands print."""

import json
from pathlib import Path
from typing import Any

import pytest

from hebench.board.read import read_breakdown, read_run
from hebench.board.summary import table
from hebench.errors import DataError
from hebench.harness.run import EvalConfig, evaluate
from hebench.records import MANIFEST_NAME

TASK = "hebench_mini_sentiment"
STAMP = "2026-11-23T05-00-00.000000"


def write_run(  # noqa: PLR0913 (what a test may want otherwise)
    folder: Path,
    *,
    name: str = "plain",
    scores: tuple[Any, ...] = (1.0, 0.0, 1.0),
    version: float = 1.0,
    split: str | None = None,
    shots: int = 9,
    chat_template: str | None = None,
) -> Path:
    """A run folder as the plain lm_eval command leaves it, one level down."""
    inner = folder / "model"
    inner.mkdir(parents=True)
    results = {
        "results": {TASK: {"score,none": 0.5, "score_stderr,none": "N/A", "alias": TASK}},
        "configs": {TASK: {"metadata": {"version": version, "split": split}}},
        "versions": {TASK: version},
        "n-shot": {TASK: shots},
        "n-samples": {TASK: {"original": 150, "effective": len(scores)}},
        "model_name": name,
        "chat_template": chat_template,
    }
    (inner / f"results_{STAMP}.json").write_text(json.dumps(results), encoding="utf-8")
    lines = [
        json.dumps(
            {
                "doc_id": place,
                "doc": {"id": f"se-{place}", "choices": ["א", "ב", "ג"], "label": 0},
                "doc_hash": f"d{place}",
                "prompt_hash": f"p{place}",
                "filtered_resps": [["-1.5", "False"], ["-2.5", "False"], ["-3.5", "False"]],
                "metrics": ["score"],
                "score": score,
            }
        )
        for place, score in enumerate(scores)
    ]
    (inner / f"samples_{TASK}_{STAMP}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def samples_of(folder: Path) -> Path:
    return next(folder.glob("*/samples_*"))


def test_a_plain_lm_eval_folder_is_read(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    task = run.tasks[TASK]
    assert (run.name, run.manifest) == ("plain", None)
    assert task.scores == (1.0, 0.0, 1.0) and task.items == ("se-0", "se-1", "se-2")
    assert (task.version, task.shots, task.total) == ("1.0", 9, 150)


@pytest.mark.parametrize(
    ("template", "track"),
    [(None, "base"), ("{% for message in messages %}...", "chat"), ("", "chat")],  # "": a server's
)
def test_a_plain_run_with_a_chat_template_is_no_run_of_a_base_model(
    tmp_path: Path, template: str | None, track: str
) -> None:
    assert read_run(write_run(tmp_path / "run", chat_template=template)).track == track


def test_an_absolute_path_is_not_shown_as_a_name(tmp_path: Path) -> None:
    assert read_run(write_run(tmp_path / "run", name="/home/noa/llama")).name == "llama"


def test_the_newest_of_several_results_counts(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    later = STAMP.replace("23T05", "23T06")
    for path in list(folder.glob("*/*")):
        text = path.read_text(encoding="utf-8").replace('"score": 0.0', '"score": 1.0')
        path.with_name(path.name.replace(STAMP, later)).write_text(text, encoding="utf-8")
    assert read_run(folder).tasks[TASK].scores == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("score", [None, "1.0", True, 1.5, -0.1])
def test_a_score_that_is_none_is_refused(tmp_path: Path, score: Any) -> None:
    with pytest.raises(DataError, match=r"line 2: expected"):
        read_run(write_run(tmp_path / "run", scores=(1.0, score)))


def test_damaged_folders_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a run folder"):
        read_run(tmp_path / "nothing")
    with pytest.raises(DataError, match="expected a results"):
        read_run(tmp_path)
    short = write_run(tmp_path / "short")
    text = samples_of(short).read_text(encoding="utf-8")
    samples_of(short).write_text(text.splitlines()[0] + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="expected 3 items .* found 1"):
        read_run(short)
    cut = write_run(tmp_path / "cut")
    samples_of(cut).write_text(text[:-20], encoding="utf-8")
    with pytest.raises(DataError, match="line 3: expected JSON"):
        read_run(cut)
    samples_of(cut).unlink()
    with pytest.raises(DataError, match="--log_samples"):
        read_run(cut)
    other = write_run(tmp_path / "other")
    next(other.glob("*/results_*")).write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match="another JSON file"):
        read_run(other)
    foreign = write_run(tmp_path / "foreign")
    (foreign / MANIFEST_NAME).write_text('{"schema": 99}', encoding="utf-8")
    with pytest.raises(DataError, match="expected schema 1, found 99"):
        read_run(foreign)


def test_what_does_not_compare_is_not_put_side_by_side(tmp_path: Path) -> None:
    first = read_run(write_run(tmp_path / "a", name="a"))
    with pytest.raises(DataError, match="two runs are named 'a'"):
        table([first, first])
    second = read_run(write_run(tmp_path / "b", name="b", version=2.0))
    with pytest.raises(DataError, match=r"version 1.0 .* found 2.0"):
        table([first, second])


def test_a_score_is_split_by_a_field_of_the_items(tmp_path: Path) -> None:
    out = tmp_path / "run"
    task = "hebench_mini_grammar"
    evaluate(EvalConfig(model="baseline:random", tasks=(task,), out=out))
    parts = read_breakdown(out, task, "phenomenon")
    whole = read_run(out).tasks[task]
    assert len(parts) == 21
    assert sum(len(part.scores) for part in parts.values()) == len(whole.scores)
    assert sum(sum(part.scores) for part in parts.values()) == sum(whole.scores)
    with pytest.raises(
        DataError, match="expected a text or a number as genre of every document; of the first, id"
    ):
        read_breakdown(out, task, "genre")
    with pytest.raises(DataError, match="found no hebench_mini_qa"):
        read_breakdown(out, "hebench_mini_qa", "id")
