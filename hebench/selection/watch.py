"""Evaluate a run's checkpoints as they appear, beside the training and without touching it.

    hebench watch runs/he/pretrain --keep 3      (on another device or host, as many as you like)

Any number of watchers share a run folder: each checkpoint is one watcher's (`leases.py`), its
answers are kept as they come, and its line is appended to `selection.jsonl` at once. A watcher
killed at any moment loses nothing: the next one takes its checkpoint over, with the answers.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hebench.errors import CheckpointError, ConfigError, DataError, one_line
from hebench.selection.evaluate import (
    EVALS,
    EvaluateConfig,
    device_of,
    evaluate_folder,
    leaf_tasks,
    units,
)
from hebench.selection.found import BEST_SO_FAR, Found, complete, is_done, look, of_these
from hebench.selection.leases import Lease, LeaseLostError, lease
from hebench.selection.log import LOG_NAME, Evaluated, append, read_log
from hebench.selection.rules import SelectConfig, decide
from hebench.train.checkpoints import PIN, discard, pin, unpin

LEASES = ".leases"
TRIES = 4  # of a checkpoint that could not be evaluated
POLLS_TO_RETRY = 3
Announce = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """What to evaluate, and what to keep."""

    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    once: bool = False  # evaluate what is there and end
    idle_seconds: float | None = None  # end after so long without a new checkpoint; None: never
    poll_seconds: float = 10.0  # between two looks at the folder
    keep: int | None = None  # remove evaluated checkpoints but the best so many and the last
    again: bool = False  # evaluate those of the log anew on which a task failed

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.keep is not None and self.keep < 1:
            raise ConfigError(f"keep: expected at least 1 checkpoint, found {self.keep}")
        if self.poll_seconds <= 0:
            raise ConfigError(f"expected poll_seconds above 0, found {self.poll_seconds}")


def watch(run: Path, config: WatchConfig, announce: Announce = lambda _: None) -> int:
    """Evaluate complete checkpoints of a run folder; return how many this process did.

    announce: is told each thing as it happens, in one line. Raises TaskError or DataError at
    once if the tasks cannot be loaded, ConfigError if there is no such device, CheckpointError if
    there is no run folder.
    """
    device_of(config.evaluate.device)  # each checkpoint would fail, and be tried again
    watcher = _Watcher(
        run=run, config=config, announce=announce, leaves=leaf_tasks(config.evaluate)
    )
    done, seen, heard = 0, set[str](), time.monotonic()
    while True:
        there = complete(run)
        waiting = watcher.waiting(there)
        own = sum(map(watcher.one, waiting))
        done += own
        if config.keep is not None:
            retain(run, config.keep, announce)
        # What another watcher holds is waited for: it may die, and nothing be lost.
        left = [found for found in waiting if found.mark not in watcher.over]
        marks = {found.mark for found in there}
        if own or left or marks - seen:
            heard = time.monotonic()
        seen |= marks
        if own:
            continue  # look again at once: training went on meanwhile
        if config.once and not left:
            return done
        idle = config.idle_seconds
        if not config.once and idle is not None and time.monotonic() - heard >= idle:
            return done
        time.sleep(config.poll_seconds)


def known(run: Path) -> dict[str, Evaluated]:
    """Return the log's lines by checkpoint, none where there is no log yet."""
    path = run / LOG_NAME
    if not path.is_file() or b"\n" not in path.read_bytes():
        return {}
    return {entry.checkpoint: entry for entry in read_log(path)}


def retain(run: Path, keep: int, announce: Announce = lambda _: None) -> list[Path]:
    """Remove evaluated checkpoints but the best `keep`, the last, and what must not go.

    The best are pinned, so that the rotation of hebench's own training spares them, too. Never
    removed: a pinned one, one that is not complete, one whose scores are not there yet or
    cannot be compared with the others' (see `read_table`). Nothing is while the log cannot be
    compared. Return what was removed.
    """
    there = complete(run)
    log = {entry.checkpoint: entry for entry in of_these(known(run).values(), there)}
    evaluated = [found for found in there if found.name in log]
    if len(evaluated) <= keep:
        _pin_best(evaluated, [found.name for found in evaluated], keep)
        return []
    try:
        candidates = decide(list(log.values()), SelectConfig()).candidates
    except DataError as error:
        announce(f"nothing is removed: {one_line(error)}")
        return []
    order = sorted(candidates, key=lambda each: -each.smoothed)
    names = [each.checkpoint for each in order if each.checkpoint in {f.name for f in evaluated}]
    _pin_best(evaluated, names, keep)
    spared = {*names[:keep], there[-1].name}
    gone: list[Path] = []
    if len(evaluated) <= keep + 1:  # one more than the best: the last one's place
        return gone
    for found in evaluated:
        if found.name in spared or found.name not in names or (found.folder / PIN).exists():
            continue
        try:
            discard(found.folder)
        except FileNotFoundError:
            continue  # another watcher, or the training's own rotation, was quicker
        gone.append(found.folder)
        announce(f"{found.name}: removed, {keep} others are better (--keep)")
    return gone


def _pin_best(evaluated: Sequence[Found], names: Sequence[str], keep: int) -> None:
    """Pin the first `keep` of these names, and let go the others; what is not named stays."""
    for found in evaluated:
        path = found.folder / PIN
        # Another watcher, or the training's own rotation, may be quicker.
        with contextlib.suppress(FileNotFoundError):
            if found.name in names[:keep]:
                if not path.exists():
                    pin(found.folder, BEST_SO_FAR)
            elif found.name in names and path.read_text("utf-8").strip() == BEST_SO_FAR:
                unpin(found.folder)


def lease_of(
    run: Path, found: Found, unit: EvaluateConfig
) -> contextlib.AbstractContextManager[Lease | None]:
    """Return the lease of a unit's evaluation on a checkpoint, a watcher's or a sweep's."""
    return lease(run / EVALS / LEASES, f"{found.name}-{unit.asked}")


@dataclass(kw_only=True)
class _Watcher:
    """What one process does in a run folder, and remembers of it by the checkpoints' marks."""

    run: Path
    config: WatchConfig
    announce: Announce
    leaves: tuple[str, ...]  # the tasks that are asked, without their groups
    over: set[str] = field(default_factory=set)  # there is nothing more to do about them
    tries: dict[str, int] = field(default_factory=dict)  # of those that could not be evaluated
    not_before: dict[str, float] = field(default_factory=dict)  # they are tried again

    def waiting(self, there: Sequence[Found]) -> list[Found]:
        """Return the checkpoints to evaluate, the newest first: training is there now."""
        log = known(self.run)
        return [
            found
            for found in reversed(there)
            if found.mark not in self.over and not self._is_settled(found, log)
        ]

    def _is_settled(self, found: Found, log: dict[str, Evaluated]) -> bool:
        if not is_done(found, log, self.config.evaluate.asked):
            return False
        return not (self.config.again and set(self.leaves) & set(log[found.name].failed))

    def one(self, found: Found) -> int:
        """Evaluate one checkpoint if nobody else does; return how many were: 0 or 1."""
        asked = self.config.evaluate
        if time.monotonic() < self.not_before.get(found.mark, 0):
            return 0
        with contextlib.ExitStack() as stack:
            held = []
            # In one order, so that of two watchers with the same tasks one gets all the leases.
            for unit in sorted(units(asked), key=lambda unit: unit.asked):
                own = stack.enter_context(lease_of(self.run, found, unit))
                if own is None:
                    return 0
                held.append(own)
            if self._is_settled(found, known(self.run)):
                return 0
            self.announce(f"{found.name}: evaluating")
            try:
                entry = evaluate_folder(found, asked)
                for own in held:
                    own.require()
            except LeaseLostError as error:
                self.announce(one_line(error))
                return 0
            except (CheckpointError, OSError) as error:
                if isinstance(error, OSError) and found.folder.is_dir():
                    raise  # a full disk, say
                self._not_evaluated(found, error)
                return 0
            append(self.run / LOG_NAME, entry)
            self.over.add(found.mark)
        for task, reason in entry.failed.items():
            self.announce(f"{found.name}: {task} failed: {reason}")
        self.announce(f"{found.name}: {100 * entry.score:.1f} in {entry.seconds:.0f} s")
        return 1

    def _not_evaluated(self, found: Found, error: Exception) -> None:
        """Say why; one that is still there is tried again: memory may have been short, say."""
        if look(found.folder) is None:
            self.over.add(found.mark)
            self.announce(f"{found.name}: not evaluated, it was removed meanwhile")
            return
        tries = self.tries[found.mark] = self.tries.get(found.mark, 0) + 1
        self.announce(f"{found.name}: not evaluated, {one_line(error)} ({tries} of {TRIES} tries)")
        if tries == TRIES:
            self.over.add(found.mark)
        wait = POLLS_TO_RETRY * self.config.poll_seconds
        self.not_before[found.mark] = time.monotonic() + wait
