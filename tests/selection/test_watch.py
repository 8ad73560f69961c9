import multiprocessing
import os
import shutil
import signal
import threading
import time
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hebench.errors import CheckpointError, ConfigError, TaskError
from hebench.selection import watch as watching
from hebench.selection.evaluate import EVALS, EvaluateConfig, evaluate_folder, units
from hebench.selection.found import Found, complete
from hebench.selection.leases import lease
from hebench.selection.log import Evaluated, append, read_log
from hebench.selection.watch import LEASES, WatchConfig, known, lease_of, retain, watch
from hebench.train.checkpoints import MARKER, PIN, pin, rotate
from tests.selection.made_run import TASK, add_checkpoint, made_curve, made_entry, made_items

FORK = multiprocessing.get_context("fork")
ASKED = EvaluateConfig(tasks=(TASK,), limit=2, dtype="float32")
ONCE = WatchConfig(evaluate=ASKED, once=True, poll_seconds=0.02)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Evaluations that take no model; the names of the checkpoints evaluated, in order."""
    seen: list[str] = []

    def evaluate(found: Found, config: EvaluateConfig) -> Evaluated:
        seen.append(found.name)
        settings = {"asked": config.asked, "mark": found.mark}
        return made_entry(found.step, [1.0, 0.0], settings=settings)

    monkeypatch.setattr(watching, "evaluate_folder", evaluate)
    return seen


def test_what_is_there_is_evaluated_once(tiny_model: Path, tmp_path: Path) -> None:
    for step in (100, 200):
        add_checkpoint(tmp_path, tiny_model, step)
    said: list[str] = []
    assert watch(tmp_path, ONCE, said.append) == 2
    assert [entry.step for entry in read_log(tmp_path / "selection.jsonl")] == [100, 200]
    assert said[0] == "checkpoint-200: evaluating"  # the newest first
    assert watch(tmp_path, ONCE) == 0
    assert list((tmp_path / EVALS / LEASES).iterdir()) == []


def test_a_device_that_is_not_there_is_told_at_once(
    tiny_model: Path, tmp_path: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    add_checkpoint(tmp_path, tiny_model, 100)
    with pytest.raises(ConfigError, match="expected a device of this machine.*found cuda"):
        watch(tmp_path, replace(ONCE, evaluate=replace(ASKED, device="cuda")))
    assert quick == [] and not (tmp_path / "selection.jsonl").exists()


def test_checkpoints_are_evaluated_as_they_appear(
    tiny_model: Path, tmp_path: Path, quick: list[str]
) -> None:
    def train() -> None:
        for step in (100, 200, 300):
            add_checkpoint(tmp_path, tiny_model, step)
            time.sleep(0.05)

    trainer = threading.Thread(target=train)
    trainer.start()
    config = replace(ONCE, once=False, idle_seconds=1.0)
    assert watch(tmp_path, config) == 3
    trainer.join()
    assert sorted(quick) == ["checkpoint-100", "checkpoint-200", "checkpoint-300"]


def test_a_half_written_checkpoint_is_left_alone(
    tiny_model: Path, tmp_path: Path, quick: list[str]
) -> None:
    (add_checkpoint(tmp_path, tiny_model, 100) / MARKER).unlink()
    assert watch(tmp_path, ONCE) == 0 and quick == []


def test_a_checkpoint_that_disappears_is_a_line_and_no_end(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (100, 200):
        add_checkpoint(tmp_path, tiny_model, step)

    def evaluate(found: Found, config: EvaluateConfig) -> Evaluated:
        if found.step == 200:
            shutil.rmtree(found.folder)
        return evaluate_folder(found, config)

    monkeypatch.setattr(watching, "evaluate_folder", evaluate)
    said: list[str] = []
    assert watch(tmp_path, ONCE, said.append) == 1
    assert "checkpoint-200: not evaluated, it was removed meanwhile" in said


def test_a_damaged_checkpoint_is_a_line_and_no_end(tiny_model: Path, tmp_path: Path) -> None:
    for step in (100, 200):
        add_checkpoint(tmp_path, tiny_model, step)
    (tmp_path / "checkpoint-200" / "model.safetensors").write_bytes(b"x" * 64)
    said: list[str] = []
    assert watch(tmp_path, ONCE, said.append) == 1
    tries = [line for line in said if line.startswith("checkpoint-200: not evaluated, cannot load")]
    assert len(tries) == 4 and tries[-1].endswith("(4 of 4 tries)")
    assert [entry.step for entry in read_log(tmp_path / "selection.jsonl")] == [100]


def test_what_fails_for_a_moment_is_tried_again(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_checkpoint(tmp_path, tiny_model, 100)
    tries: list[float] = []

    def evaluate(found: Found, config: EvaluateConfig) -> Evaluated:
        tries.append(time.monotonic())
        if len(tries) < 3:
            raise CheckpointError("cannot load the model: out of memory")
        return made_entry(100, [1.0], settings={"asked": config.asked, "mark": found.mark})

    monkeypatch.setattr(watching, "evaluate_folder", evaluate)
    assert watch(tmp_path, ONCE) == 1 and len(tries) == 3
    assert tries[1] - tries[0] >= watching.POLLS_TO_RETRY * ONCE.poll_seconds


def test_tasks_that_are_asked_in_two_calls_are_asked_once_each(
    tiny_model: Path, tmp_path: Path, quick: list[str]
) -> None:
    """A watcher of a task keeps its lines beside those of another task's."""
    add_checkpoint(tmp_path, tiny_model, 100)
    other = replace(ONCE, evaluate=replace(ASKED, tasks=("hebench_mini_qa",)))
    assert [watch(tmp_path, config) for config in (ONCE, other, ONCE, other)] == [1, 1, 0, 0]


def test_an_idle_watcher_stays_while_others_work(
    tiny_model: Path, tmp_path: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No end while another one holds a checkpoint, nor while another one evaluates new ones."""
    seconds = 0

    def evaluated_by_another(step: int) -> None:
        add_checkpoint(tmp_path, tiny_model, step)
        settings = {"asked": ASKED.asked, "mark": complete(tmp_path)[-1].mark}
        append(tmp_path / "selection.jsonl", made_entry(step, [1.0], settings=settings))

    def sleep(_: float) -> None:
        nonlocal seconds
        seconds += 1
        if seconds == 8:
            append(tmp_path / "selection.jsonl", made_entry(100, [1.0], settings=settings))
            held.__exit__(None, None, None)
        if seconds == 11:
            evaluated_by_another(200)

    add_checkpoint(tmp_path, tiny_model, 100)
    (found,) = complete(tmp_path)
    settings = {"asked": ASKED.asked, "mark": found.mark}
    held = lease_of(tmp_path, found, ASKED)
    held.__enter__()
    clock = types.SimpleNamespace(monotonic=lambda: seconds, sleep=sleep)
    monkeypatch.setattr(watching, "time", clock)
    assert watch(tmp_path, replace(ONCE, once=False, idle_seconds=5)) == 0
    assert seconds == 16 and quick == []


def test_a_watcher_and_a_sweep_never_have_the_same_unit(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_checkpoint(tmp_path, tiny_model, 100)
    asked = replace(ASKED, tasks=(TASK, "hebench_mini_qa"))
    held: list[bool] = []

    def evaluate(found: Found, config: EvaluateConfig) -> Evaluated:
        for unit in units(asked):
            with lease_of(tmp_path, found, unit) as own:
                held.append(own is None)
        return made_entry(100, [1.0], settings={"asked": config.asked, "mark": found.mark})

    monkeypatch.setattr(watching, "evaluate_folder", evaluate)
    assert watch(tmp_path, replace(ONCE, evaluate=asked)) == 1 and held == [True, True]
    assert list((tmp_path / EVALS / LEASES).iterdir()) == []


def test_the_same_step_of_another_run_is_evaluated_anew(
    tiny_model: Path, tmp_path: Path, quick: list[str]
) -> None:
    folder = add_checkpoint(tmp_path, tiny_model, 100)
    watch(tmp_path, ONCE)
    shutil.rmtree(folder)
    add_checkpoint(tmp_path, tiny_model, 100)
    assert watch(tmp_path, ONCE) == 0  # the same weights under the same marker
    marker = folder / MARKER
    marker.write_text(marker.read_text("utf-8").replace('"seed": 7', '"seed": 8'), "utf-8")
    assert watch(tmp_path, ONCE) == 1
    assert len(read_log(tmp_path / "selection.jsonl")) == 1


def test_other_items_are_asked_anew(tiny_model: Path, tmp_path: Path, quick: list[str]) -> None:
    add_checkpoint(tmp_path, tiny_model, 100)
    watch(tmp_path, ONCE)
    assert watch(tmp_path, replace(ONCE, evaluate=replace(ASKED, limit=5))) == 1


def test_a_failed_task_is_asked_again_when_asked_to(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found_count = []

    def evaluate(found: Found, config: EvaluateConfig) -> Evaluated:
        found_count.append(found.name)
        settings = {"asked": config.asked, "mark": found.mark}
        return made_entry(found.step, [1.0], settings=settings, failed={TASK: "broke"})

    monkeypatch.setattr(watching, "evaluate_folder", evaluate)
    add_checkpoint(tmp_path, tiny_model, 100)
    said: list[str] = []
    assert watch(tmp_path, ONCE, said.append) == 1
    assert f"checkpoint-100: {TASK} failed: broke" in said
    assert watch(tmp_path, ONCE) == 0
    assert watch(tmp_path, replace(ONCE, again=True)) == 1  # once, though it fails again
    assert len(found_count) == 2
    # Another task's failure is not this watcher's to mend.
    mark = complete(tmp_path)[0].mark
    other = {"asked": "other", "mark": mark}
    failed = made_entry(100, [1.0], settings=other, failed={"other": "broke"}, tasks={})
    append(tmp_path / "selection.jsonl", failed)
    asked = {"asked": ASKED.asked, "mark": mark}
    whole = made_entry(100, [1.0], settings=asked, tasks={TASK: made_items([1])})
    append(tmp_path / "selection.jsonl", whole)
    assert watch(tmp_path, replace(ONCE, again=True)) == 0


def _watch(run: Path) -> None:
    watch(run, ONCE)


def test_two_watchers_do_nothing_twice(tiny_model: Path, tmp_path: Path) -> None:
    steps = [100, 200, 300, 400]
    for step in steps:
        add_checkpoint(tmp_path, tiny_model, step)
    watch(tmp_path, replace(ONCE, evaluate=replace(ASKED, limit=1)))  # imports before the fork
    watchers = [FORK.Process(target=_watch, args=(tmp_path,)) for _ in range(2)]
    for each in watchers:
        each.start()
    for each in watchers:
        each.join()
    assert [each.exitcode for each in watchers] == [0, 0]
    lines = (tmp_path / "selection.jsonl").read_bytes().splitlines()
    assert len(lines) == 2 * len(steps)  # those of one item, and each once of two
    assert {len(e.tasks[TASK].scores) for e in read_log(tmp_path / "selection.jsonl")} == {2}


def _die_in_the_middle(run: Path) -> None:
    from hebench.selection import evaluate

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    evaluate.read_items = die  # type: ignore[assignment]
    watch(run, ONCE)


def test_a_watcher_killed_loses_nothing(tiny_model: Path, tmp_path: Path) -> None:
    add_checkpoint(tmp_path, tiny_model, 100)
    victim = FORK.Process(target=_die_in_the_middle, args=(tmp_path,))
    victim.start()
    victim.join()
    assert victim.exitcode == -signal.SIGKILL
    assert known(tmp_path) == {} and len(list((tmp_path / EVALS / LEASES).iterdir())) == 1
    (answers,) = tmp_path.glob(f"{EVALS}/checkpoint-100/*/answers.jsonl")
    asked = answers.read_bytes()
    assert watch(tmp_path, ONCE) == 1
    assert answers.read_bytes() == asked  # nothing was asked twice
    assert list(known(tmp_path)) == ["checkpoint-100"]
    assert list((tmp_path / EVALS / LEASES).iterdir()) == []


def test_work_that_was_taken_over_is_not_written_twice(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = complete(add_checkpoint(tmp_path, tiny_model, 100).parent)[0]
    name = f"{found.name}-{ASKED.asked}"

    def sleep_through(found: Found, config: EvaluateConfig) -> Evaluated:
        (tmp_path / EVALS / LEASES / f"{name}.1").touch()  # another one took it
        entry = made_entry(100, [1.0], settings={"asked": config.asked, "mark": found.mark})
        append(tmp_path / "selection.jsonl", entry)
        return entry

    monkeypatch.setattr(watching, "evaluate_folder", sleep_through)
    said: list[str] = []
    assert watch(tmp_path, ONCE, said.append) == 0
    assert any("taken over" in line for line in said)
    assert len((tmp_path / "selection.jsonl").read_bytes().splitlines()) == 1


def test_what_another_one_holds_is_waited_for(
    tiny_model: Path, tmp_path: Path, quick: list[str]
) -> None:
    add_checkpoint(tmp_path, tiny_model, 100)
    found = complete(tmp_path)[0]
    released = threading.Event()

    def hold() -> None:
        with lease(tmp_path / EVALS / LEASES, f"{found.name}-{ASKED.asked}"):
            released.wait(20)

    other = threading.Thread(target=hold)
    other.start()
    while not list((tmp_path / EVALS / LEASES).glob("checkpoint*")):
        time.sleep(0.01)
    threading.Timer(0.2, released.set).start()
    assert watch(tmp_path, ONCE) == 1 and quick == ["checkpoint-100"]
    other.join()


# ------------------------------------------------------------------ retention


def _run_with_scores(run: Path, model: Path, levels: list[float]) -> None:
    log = made_curve(levels, items=400)
    for entry in log:
        add_checkpoint(run, model, entry.step)
        append(run / "selection.jsonl", replace(entry, settings={}))


def _names(run: Path) -> list[str]:
    return [found.name.removeprefix("checkpoint-") for found in complete(run)]


def test_the_best_and_the_last_are_kept(tiny_model: Path, tmp_path: Path) -> None:
    _run_with_scores(tmp_path, tiny_model, [0.2, 0.5, 0.9, 0.6, 0.3, 0.1])
    gone = retain(tmp_path, 2)
    assert _names(tmp_path) == ["300", "400", "600"]
    assert len(gone) == 3 and retain(tmp_path, 2) == []


def test_the_best_so_far_are_spared_by_the_training_s_rotation(
    tiny_model: Path, tmp_path: Path
) -> None:
    _run_with_scores(tmp_path, tiny_model, [0.2, 0.9])
    retain(tmp_path, 3)
    rotate(tmp_path, 1)
    assert _names(tmp_path) == ["100", "200"], "there are no better ones yet"
    for step, level in ((300, 0.95), (400, 0.8), (500, 0.1)):
        add_checkpoint(tmp_path, tiny_model, step)
        append(tmp_path / "selection.jsonl", made_entry(step, (np.arange(400) < 400 * level) * 1.0))
    retain(tmp_path, 1)
    assert rotate(tmp_path, 1) == []
    assert _names(tmp_path) == ["300", "500"]
    assert not (tmp_path / "checkpoint-500" / PIN).exists()


def test_the_best_are_not_let_go_while_they_cannot_be_compared(
    tiny_model: Path, tmp_path: Path
) -> None:
    _run_with_scores(tmp_path, tiny_model, [0.2, 0.9, 0.5, 0.4])
    retain(tmp_path, 1)
    assert (tmp_path / "checkpoint-200" / PIN).exists()
    # A task that was asked later is there for the newest alone so far.
    asked = made_entry(400, [], tasks={"english": made_items(np.ones(40))}, settings={})
    append(tmp_path / "selection.jsonl", asked)
    retain(tmp_path, 1)
    assert rotate(tmp_path, 1) == []
    assert _names(tmp_path) == ["200", "400"]


def test_a_checkpoint_that_goes_while_it_is_pinned_leaves_nothing(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run_with_scores(tmp_path, tiny_model, [0.2, 0.9])

    def quicker(folder: Path, reason: str) -> None:
        shutil.rmtree(folder)
        pin(folder, reason)

    monkeypatch.setattr(watching, "pin", quicker)
    assert retain(tmp_path, 3) == [] and _names(tmp_path) == []


def test_pinned_half_written_and_unevaluated_ones_are_never_removed(
    tiny_model: Path, tmp_path: Path
) -> None:
    _run_with_scores(tmp_path, tiny_model, [0.1, 0.2, 0.9, 0.5, 0.4])
    pin(tmp_path / "checkpoint-100", "the paper's")
    (tmp_path / "checkpoint-200" / MARKER).unlink()
    for step in (450, 600):
        add_checkpoint(tmp_path, tiny_model, step)
    retain(tmp_path, 1)
    assert _names(tmp_path) == ["100", "300", "450", "600"]
    assert (tmp_path / "checkpoint-200").is_dir()


def test_one_that_judged_the_easy_items_alone_takes_no_good_ones_place(
    tiny_model: Path, tmp_path: Path
) -> None:
    _run_with_scores(tmp_path, tiny_model, [0.2, 0.5, 0.9, 0.6])
    add_checkpoint(tmp_path, tiny_model, 250)
    scores = np.where(np.arange(400) < 200, 1.0, np.nan)
    append(tmp_path / "selection.jsonl", made_entry(250, scores))
    retain(tmp_path, 1)
    assert _names(tmp_path) == ["250", "300", "400"]


def test_nothing_is_removed_while_the_log_cannot_be_compared(
    tiny_model: Path, tmp_path: Path
) -> None:
    _run_with_scores(tmp_path, tiny_model, [0.1, 0.2, 0.9, 0.5])
    append(tmp_path / "selection.jsonl", made_entry(200, np.ones(3)))
    said: list[str] = []
    assert retain(tmp_path, 1, said.append) == [] and len(_names(tmp_path)) == 4
    assert said[0].startswith("nothing is removed: task is not the same task")


def test_watching_keeps_what_it_is_told_to(
    tiny_model: Path, tmp_path: Path, quick: list[str]
) -> None:
    for step in (100, 200, 300, 400):
        add_checkpoint(tmp_path, tiny_model, step)
    watch(tmp_path, replace(ONCE, keep=1))
    assert len(_names(tmp_path)) == 2 and "400" in _names(tmp_path)


# ------------------------------------------------------------------ refusals


def test_what_cannot_be_watched_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a run folder"):
        watch(tmp_path / "none", ONCE)
    with pytest.raises(TaskError, match="unknown task"):
        watch(tmp_path, replace(ONCE, evaluate=EvaluateConfig(tasks=("hebench_none",))))
    with pytest.raises(ConfigError, match="keep"):
        WatchConfig(keep=0)
    with pytest.raises(ConfigError, match="poll_seconds"):
        WatchConfig(poll_seconds=0)
