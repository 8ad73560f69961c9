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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--limit 0", "--limit: expected at least 1, found 0"),
        ("--piece 0", "--piece: expected at least 1, found 0"),
        ("--piece 5 --sample 1", "--sample: expected at least 2, found 1"),
        ("--sample 4", "--sample: expected --piece N beside it"),
    ],
)
def test_too_few_items_are_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: str,
    message: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "model", *options.split()])
    with pytest.raises(SystemExit) as info:
        evaluate.main()
    assert info.value.code == 2
    assert message in capsys.readouterr().err


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


def piece(first: int, last: int, seconds: float, score: float = 1.0) -> dict[str, Any]:
    taken = dict.fromkeys(("model_seconds", "model_cpu_seconds", "tokens", "requests"), seconds)
    return taken | {
        "side": "stock",
        "kind": "generate_until",
        "job": JOB | {"batch": 8, "items": [first, last]},
        "seconds": seconds + 10,
        "scored": last - first,
        "score": score,
        "peak_mib": 100 * seconds,
        "answers": [[[f"item {number}"]] for number in range(first, last)],
    }


def ours(count: int) -> dict[str, Any]:
    answers = [[[f"item {number}"]] for number in range(count)]
    found = piece(0, count, 1.0) | {"side": "ours", "job": JOB, "answers": answers}
    return found | {"tokens_per_second": 1.0}


def test_pieces_make_a_run_once_all_are_there_and_their_start_counts_once() -> None:
    pieces = [piece(3, 5, 2.0, 0.5), piece(0, 3, 4.0, 1.0)]
    assert evaluate.whole_runs(pieces[:1], ours(5)) == []
    assert evaluate.whole_runs(pieces, ours(5) | {"job": JOB | {"split": "validation"}}) == []
    (whole,) = evaluate.whole_runs(pieces, ours(5))
    assert (whole["seconds"], whole["tokens"], whole["peak_mib"]) == (16.0, 6.0, 400.0)
    assert whole["score"] == pytest.approx(4 / 5)
    assert whole["answers"] == [[[f"item {number}"]] for number in range(5)]
    assert "[" not in " ".join(evaluate.row(ours(5), whole))


def test_some_pieces_are_a_sample_whose_ratios_have_an_interval() -> None:
    pieces = [piece(0, 5, 9.0), piece(5, 10, 10.0), piece(10, 15, 11.0)]
    assert evaluate.whole_runs(pieces[1:], ours(20)) == []  # the first and the third would be one
    (whole,) = evaluate.whole_runs(pieces, ours(20))
    assert (whole["model_seconds"], whole["seconds"], whole["tokens"]) == (40.0, 50.0, 40.0)
    # 4.303 sd / sqrt(3), of which a quarter of the set remains: sqrt(1 - 15 / 20)
    half = 4.3027 * 1.0 / 3**0.5 * 0.5 / 10.0
    assert whole["off"]["model_seconds"] == pytest.approx(half, rel=1e-4)
    cells = evaluate.row(ours(20), whole)
    assert f"40.0 [{40 * (1 - half):.1f}, {40 * (1 + half):.1f}]" in cells
    assert "0 of 15" in cells
    assert cells[-1].endswith("stock on 15 of 20 items")
    other = ours(20)
    other["answers"][7] = [["another"]]
    other["answers"][17] = [["of no piece"]]
    assert "1 of 15" in evaluate.row(other, whole)


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (None, [[0, 3], [3, 6], [6, 9], [9, 10]]),
        (2, [[0, 3], [6, 9]]),
        (9, [[0, 3], [3, 6], [6, 9], [9, 10]]),
    ],
)
def test_a_sample_is_spread_over_the_set(sample: int | None, expected: list[list[int]]) -> None:
    assert evaluate.spread(10, 3, sample) == expected


def test_pieces_that_a_sample_has_not_are_in_the_file_and_not_in_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(side: str, job: dict[str, Any]) -> dict[str, Any]:
        if side == "ours":
            return ours(20) | {"job": job}
        first, last = job["items"]
        return piece(first, last, seconds=10.0 + first) | {"job": job}

    def cells(*options: str) -> list[str]:
        argv = ["evaluate.py", "model", "--tasks", "hebench_mini_nli", "--piece", "5", *options]
        argv += ["--stock-batch-sizes", "8", "--out", str(tmp_path / "runs.json")]
        monkeypatch.setattr(sys, "argv", argv)
        evaluate.main()
        (line,) = (line for line in capsys.readouterr().out.splitlines() if "mini_nli" in line)
        return line.split(" | ")

    monkeypatch.setattr(evaluate, "run", run)
    assert cells()[5] == "70.0"  # seconds of 10 + 15 + 20 + 25
    assert cells("--sample", "2")[5] == "60.0"  # twice those of the first and the third
