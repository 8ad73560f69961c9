import json
import multiprocessing
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hebench.errors import DataError
from hebench.selection.log import Evaluated, append, read_log
from tests.conftest import REPOSITORY
from tests.selection.made_run import made_entry, made_items


def test_a_line_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "selection.jsonl"
    task = made_items(
        [0.0, 1.0, np.nan, 0.25],
        margins=np.array([0.1, 0.9, np.nan, 0.5], dtype=np.float32),
        answers=np.array([0.2, 0.3, np.nan, 1.0], dtype=np.float32),
        clusters=(0, 0, 1, 2),
        chance=0.5,
    )
    entry = made_entry(
        100, [0], tasks={"task": task}, loss_nats=3.25, averaged=("a", "b"), failed={"x": "broke"}
    )
    append(path, entry)
    (found,) = read_log(path)
    assert (found.checkpoint, found.step, found.loss_nats) == ("checkpoint-100", 100, 3.25)
    assert found.averaged == ("a", "b") and found.failed == {"x": "broke"}
    own = found.tasks["task"]
    assert np.array_equal(own.scores, task.scores, equal_nan=True)
    assert own.margins is not None and task.margins is not None
    assert np.array_equal(own.margins, task.margins, equal_nan=True)
    assert own.answers is not None and task.answers is not None
    assert np.array_equal(own.answers, task.answers, equal_nan=True)
    assert (own.clusters, own.chance, own.score) == ((0, 0, 1, 2), 0.5, pytest.approx(1.25 / 3))


@given(scores=st.lists(st.floats(0, 1, width=32) | st.just(float("nan")), min_size=1))
def test_any_scores_survive_the_file(scores: list[float], tmp_path_factory: object) -> None:
    path = tmp_path_factory.mktemp("log") / "selection.jsonl"  # type: ignore[attr-defined]
    append(path, made_entry(1, scores))
    found = read_log(path)[0].tasks["task"].scores
    assert np.array_equal(found, np.array(scores, dtype=np.float32), equal_nan=True)


def test_lines_come_by_step_and_the_later_of_two_counts(tmp_path: Path) -> None:
    path = tmp_path / "selection.jsonl"
    for step, score in ((300, 0.0), (100, 0.0), (300, 1.0)):
        append(path, made_entry(step, [score]))
    found = read_log(path)
    assert [(entry.step, entry.score) for entry in found] == [(100, 0.0), (300, 1.0)]


@pytest.mark.parametrize("cut", [1, 30])
def test_half_a_line_is_no_evaluation_and_gives_way_to_the_next(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "selection.jsonl"
    append(path, made_entry(100, [1.0]))
    append(path, made_entry(200, [1.0]))
    path.write_bytes(path.read_bytes()[:-cut])
    assert [entry.step for entry in read_log(path)] == [100]
    append(path, made_entry(300, [0.0]))
    assert [entry.step for entry in read_log(path)] == [100, 300]


FULL_DISK = """
import resource, sys
from pathlib import Path
from hebench.selection.log import append
from tests.selection.made_run import made_entry

path = Path(sys.argv[1])
append(path, made_entry(100, [1.0] * 50))
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 3_000, hard))
try:  # a line of some 4,000 bytes: what has no room is shorter than what had
    append(path, made_entry(200, [1.0] * 700))
except OSError:
    print("full")
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
append(path, made_entry(300, [0.0]))
"""


def test_a_full_disk_leaves_no_piece_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "selection.jsonl"
    found = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout) == (0, "full\n"), found.stderr
    assert [entry.step for entry in read_log(path)] == [100, 300]
    assert len(path.read_bytes().splitlines()) == 2


def _of_tasks(names: str, score: float, **settings: object) -> Evaluated:
    tasks = {name: made_items([score, score]) for name in names}
    return made_entry(100, [0], tasks=tasks, settings=settings, weights_sha256=None)


def test_two_lines_of_the_same_weights_are_one_evaluation_with_the_tasks_of_both(
    tmp_path: Path,
) -> None:
    path = tmp_path / "selection.jsonl"
    append(path, replace(_of_tasks("ab", 0.5, asked="1", mark=None), failed={"c": "broke"}))
    append(path, replace(_of_tasks("bc", 1.0, asked="2", mark="m"), weights_sha256="w"))
    append(path, replace(_of_tasks("d", 0.0, asked="3", mark="m"), failed={"a": "broke"}))
    (found,) = read_log(path)
    scores = {name: task.score for name, task in found.tasks.items()}
    assert scores == {"a": 0.5, "b": 1.0, "c": 1.0, "d": 0.0} and found.failed == {}
    assert [settings["asked"] for settings in found.all_settings] == ["1", "2", "3"]
    assert found.weights_sha256 == "w"


@pytest.mark.parametrize("other", [{"mark": "other"}, {"mark": "m", "weights": "other"}])
def test_lines_of_other_weights_are_not_mixed(tmp_path: Path, other: dict[str, str]) -> None:
    path = tmp_path / "selection.jsonl"
    append(path, replace(_of_tasks("a", 1.0, asked="1", mark="m"), weights_sha256="w"))
    later = _of_tasks("b", 1.0, asked="2", mark=other["mark"])
    append(path, replace(later, weights_sha256=other.get("weights")))
    (found,) = read_log(path)
    assert list(found.tasks) == ["b"] and len(found.all_settings) == 1


def test_what_is_asked_in_memory_is_of_another_pass_than_what_was_saved_before(
    tmp_path: Path,
) -> None:
    """Training that goes on from an earlier checkpoint comes to the same steps again."""
    path = tmp_path / "selection.jsonl"
    append(path, _of_tasks("a", 1.0, asked="1", mark="m"))
    append(path, _of_tasks("b", 1.0, asked="2", mark=None))
    (found,) = read_log(path)
    assert list(found.tasks) == ["b"] and len(found.all_settings) == 1


def test_items_whose_place_others_took_count_as_not_asked(tmp_path: Path) -> None:
    path = tmp_path / "selection.jsonl"
    append(path, _of_tasks("ab", 0.5, asked="two items"))
    fewer = made_entry(100, [0], tasks={"a": made_items([1.0])}, settings={"asked": "one item"})
    append(path, fewer)
    (found,) = read_log(path)
    assert [settings["asked"] for settings in found.all_settings] == ["one item"]


def _append_many(path: Path, first: int) -> None:
    for step in range(first, first + 20):
        append(path, made_entry(step, np.full(2000, 0.5)))


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "selection.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_many, args=(path, first)) for first in (0, 100)]
    thread = threading.Thread(target=_append_many, args=(path, 200))
    for each in (*writers, thread):
        each.start()
    for each in (*writers, thread):
        each.join()
    assert len(read_log(path)) == 60


def _line(**changes: object) -> bytes:
    content = {
        "schema": 1,
        "checkpoint": "checkpoint-1",
        "step": 1,
        "averaged": [],
        "tasks": {},
    }
    return json.dumps(content | changes).encode() + b"\n"


SCORES = {"version": "1", "prompt_sha256": "p", "data_sha256": "d", "margins": None, "chance": None}


def test_a_line_of_before_there_were_answers_is_read(tmp_path: Path) -> None:
    path = tmp_path / "selection.jsonl"
    path.write_bytes(_line(tasks={"t": SCORES | {"scores": "AAAAAA==", "clusters": None}}))
    task = read_log(path)[0].tasks["t"]
    assert task.answers is None and task.score == 0.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "at least one evaluated checkpoint"),
        (b"not json\n", "line 1: expected a JSON object"),
        (b"[1]\n", "line 1: expected a JSON object, found a list"),
        (_line(schema=2), "expected schema 1, found 2"),
        (_line(step="x"), "expected a checkpoint's name and step"),
        (_line(extra=1), "expected an evaluated checkpoint"),
        (_line(tasks={"t": SCORES | {"scores": "AAAAQA==", "clusters": None}}), "values in .0, 1."),
        (_line(tasks={"t": SCORES | {"scores": "AAAAAA==", "clusters": [0, 1]}}), "1 values, one"),
        (
            _line(
                tasks={
                    "t": SCORES
                    | {"scores": "AAAAAA==", "clusters": None, "answers": "AAAAAAAAAAA="}
                }
            ),
            "1 values, one an item, found 2",
        ),
        (_line(tasks={"t": SCORES | {"scores": "", "clusters": None}}), "values in .0, 1."),
        (_line(tasks={"t": SCORES | {"scores": "!", "clusters": None}}), "an evaluated checkpoint"),
    ],
)
def test_a_damaged_log_is_named_with_the_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "selection.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_log(path)


def test_no_log_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="evaluate checkpoints first"):
        read_log(tmp_path / "selection.jsonl")


def test_a_line_without_tasks_has_no_score() -> None:
    assert np.isnan(Evaluated(checkpoint="c", step=1, tasks={}).score)
