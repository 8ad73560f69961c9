import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from hebench.selection import leases
from hebench.selection.leases import LeaseLostError, holder, lease

FORK = multiprocessing.get_context("fork")


def test_one_lease_one_holder(tmp_path: Path) -> None:
    with lease(tmp_path, "work") as first, lease(tmp_path, "work") as second:
        assert first is not None and second is None
        assert holder(tmp_path, "work") == os.getpid()
        first.require()
    assert list(tmp_path.iterdir()) == [] and holder(tmp_path, "work") is None
    with lease(tmp_path, "work") as again:
        assert again is not None


def test_names_that_begin_alike_are_other_leases(tmp_path: Path) -> None:
    with lease(tmp_path, "checkpoint-10-a") as first, lease(tmp_path, "checkpoint-1-a") as other:
        assert first is not None and other is not None
        with lease(tmp_path, "checkpoint-10-a") as taken:
            assert taken is None


def _hold(folder: Path, ready: object) -> None:
    with lease(folder, "work"):
        ready.set()  # type: ignore[attr-defined]
        time.sleep(60)


def test_the_lease_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    ready = FORK.Event()
    process = FORK.Process(target=_hold, args=(tmp_path, ready))
    process.start()
    assert ready.wait(30)
    with lease(tmp_path, "work") as none:
        assert none is None
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    with lease(tmp_path, "work") as taken:
        assert taken is not None
    assert list(tmp_path.iterdir()) == []


def test_a_silent_holder_on_another_machine_loses_its_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lease(tmp_path, "work", expires=1000) as first:
        assert first is not None
        monkeypatch.setattr(leases, "_machine", lambda: "another")
        with lease(tmp_path, "work", expires=1000) as early:
            assert early is None
        os.utime(first.path, (0, 0))
        with lease(tmp_path, "work", expires=1000) as second:
            assert second is not None
            second.require()
            with pytest.raises(LeaseLostError, match="taken over"):
                first.require()
        with pytest.raises(LeaseLostError):
            first.require()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_lease_that_cannot_be_read_holds_until_it_is_old(tmp_path: Path, content: str) -> None:
    path = tmp_path / "work.0"
    path.write_text(content, encoding="utf-8")
    with lease(tmp_path, "work") as none:
        assert none is None
    os.utime(path, (0, 0))
    with lease(tmp_path, "work") as taken:
        assert taken is not None


def test_a_holder_shows_that_it_lives(tmp_path: Path) -> None:
    with lease(tmp_path, "work", expires=0.2) as held:
        assert held is not None
        os.utime(held.path, (0, 0))
        deadline = time.monotonic() + 20
        while held.path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert held.path.stat().st_mtime > 0


def _race(folder: Path, start: object, wins: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    for number in range(30):
        with lease(folder, f"work-{number}") as held:
            if held is not None and not (folder / f"done-{number}").exists():
                # Whoever holds the lease is alone here.
                handle = os.open(folder / f"inside-{number}", os.O_CREAT | os.O_EXCL)
                os.close(handle)
                (folder / f"done-{number}").touch()
                (folder / f"inside-{number}").unlink()
                with wins.get_lock():  # type: ignore[attr-defined]
                    wins.value += 1  # type: ignore[attr-defined]


def test_racing_processes_never_do_the_same_work_twice(tmp_path: Path) -> None:
    start, wins = FORK.Event(), FORK.Value("i", 0)
    for number in range(30):
        if number % 2:  # left by a process that died long ago
            path = tmp_path / f"work-{number}.0"
            path.write_text("{}", encoding="utf-8")
            os.utime(path, (0, 0))
    racers = [FORK.Process(target=_race, args=(tmp_path, start, wins)) for _ in range(4)]
    for racer in racers:
        racer.start()
    start.set()
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0, 0, 0, 0]
    assert len(list(tmp_path.glob("done-*"))) == 30 and wins.value == 30
