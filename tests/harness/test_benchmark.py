"""`benchmarks/evaluate.py`: a side that fails is a failure, not an empty measurement."""

import contextlib
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import evaluate

JOB = {
    "model": "/no/such/model",
    "task": "hebench_mini_nli",
    "split": "",
    "limit": 1,
    "dtype": "float32",
    "device": "cpu",
    "batch": 0,
}


@pytest.fixture(autouse=True)
def _unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting patches the models for good, and the command reads its arguments from `sys`."""
    monkeypatch.setattr(evaluate, "counted", contextlib.nullcontext)
    monkeypatch.setattr(sys, "argv", ["hebench"])


@pytest.mark.parametrize("option", ["--limit", "--piece"])
def test_no_items_at_all_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "model", option, "0"])
    with pytest.raises(SystemExit) as info:
        evaluate.main()
    assert info.value.code == 2
    assert f"{option}: expected at least 1, found 0" in capsys.readouterr().err


def test_a_side_that_fails_ends_its_process_with_its_exit_code(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as info:
        evaluate.measured("ours", JOB, tmp_path)
    assert info.value.code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_log_likelihood_that_is_no_number_on_one_side_is_a_difference() -> None:
    def side(*values: str) -> dict[str, Any]:
        return {"kind": "loglikelihood", "answers": [[[[value, "True"]]] for value in values]}

    assert evaluate.differences(side("-1.5", "nan"), side("-1.25", "nan")) == (0.25, 0, 2)
    assert evaluate.differences(side("-1.5", "nan"), side("-1.5", "-2.0"))[0] == math.inf
    assert evaluate.differences(side("-2.0", "-1.5"), side("nan", "-1.5"))[0] == math.inf


def test_a_side_that_ends_well_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(*_: Any) -> None:
        raise SystemExit(0)

    monkeypatch.setattr("hebench.cli.main", ends)
    evaluate.measured("ours", JOB, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["measured.json"]


def test_pieces_make_a_run_once_all_are_there_and_their_start_counts_once() -> None:
    def piece(first: int, last: int, seconds: float, score: float) -> dict[str, Any]:
        taken = dict.fromkeys(("model_seconds", "model_cpu_seconds", "tokens", "requests"), seconds)
        return taken | {
            "side": "stock",
            "job": JOB | {"batch": 8, "items": [first, last]},
            "seconds": seconds + 10,
            "scored": last - first,
            "score": score,
            "peak_mib": 100 * seconds,
            "answers": [[f"item {number}"] for number in range(first, last)],
        }

    ours = {"side": "ours", "job": JOB, "answers": [[]] * 5}
    pieces = [piece(3, 5, 2.0, 0.5), piece(0, 3, 4.0, 1.0)]
    assert evaluate.whole_runs(pieces[:1], ours) == []
    assert evaluate.whole_runs(pieces, ours | {"job": JOB | {"split": "validation"}}) == []
    (whole,) = evaluate.whole_runs(pieces, ours)
    assert (whole["seconds"], whole["tokens"], whole["peak_mib"]) == (16.0, 6.0, 400.0)
    assert whole["score"] == pytest.approx(4 / 5)
    assert whole["answers"] == [[f"item {number}"] for number in range(5)]
