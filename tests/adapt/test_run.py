"""Processes that wait for the first one: as long as it lives, and no longer."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hebench.adapt import run
from hebench.errors import HebenchError
from hebench.train.stage import StageRecord, open_stage


def not_here(_: Path) -> StageRecord:
    raise AssertionError("the first process does it")


def waiting(monkeypatch: pytest.MonkeyPatch, looks: Any) -> None:
    """Be a process that waits; `looks` is called each time with how often it has looked before."""
    clock, number = [0.0], [0]

    def sleep(_: float) -> None:
        clock[0] += run.SILENT_SECONDS / 2
        looks(number[0])
        number[0] += 1

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))


def test_a_process_waits_as_long_as_the_first_one_shows_that_it_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive, folder = tmp_path / ".alive", tmp_path / "corpus"

    def looks(number: int) -> None:
        alive.touch()
        os.utime(alive, ns=(number, number))
        if number == 9:
            with open_stage(folder, "corpus", {}) as stage:
                stage.finish({"words": 3})

    waiting(monkeypatch, looks)
    assert run.once(folder, not_here, alive).metrics == {"words": 3}


@pytest.mark.parametrize("began", [True, False])
def test_a_process_that_waits_for_nobody_gives_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, began: bool
) -> None:
    alive = tmp_path / ".alive"
    if began:
        alive.touch()
    waiting(monkeypatch, lambda number: None)
    with pytest.raises(HebenchError, match="no sign of it for 600 seconds; see what it ended") as e:
        run.once(tmp_path / "corpus", not_here, alive)
    assert "\n" not in str(e.value)


def test_the_first_process_shows_that_it_lives_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = tmp_path / ".alive"
    monkeypatch.setattr(run, "BEAT_SECONDS", 0.001)
    with run._alive(alive):
        beats = set()
        while len(beats) < 3:
            beats.add(run._beat(alive))
    assert not alive.exists()
    monkeypatch.setenv("RANK", "1")
    with run._alive(alive):
        assert not alive.exists()
