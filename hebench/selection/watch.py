"""Evaluate a run's checkpoints as they appear, beside the training and without touching it.

    hebench watch runs/he/pretrain --keep 3      (on another device or host, as many as you like)

Any number of watchers share a run folder: each checkpoint is one watcher's (`leases.py`), its
answers are kept as they come, and its line is appended to `selection.jsonl` at once. A watcher
killed at any moment loses nothing: the next one takes its checkpoint over, with the answers.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hebench.errors import CheckpointError, ConfigError, DataError, one_line
from hebench.selection.evaluate import EVALS, EvaluateConfig, evaluate_folder, leaf_tasks
from hebench.selection.found import Found, complete, is_done, look
from hebench.selection.leases import EXPIRES_SECONDS, LeaseLostError, lease
from hebench.selection.log import LOG_NAME, Evaluated, append, read_log
from hebench.selection.rules import SelectConfig, decide
from hebench.train.checkpoints import PIN, discard

LEASES = ".leases"
Announce = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """What to evaluate, and what to keep."""

    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    once: bool = False  # evaluate what is there and end
    idle_seconds: float | None = None  # end after so long without a new checkpoint; None: never
    poll_seconds: float = 10.0  # between two looks at the folder
    expires_seconds: float = EXPIRES_SECONDS  # a watcher that is silent so long is dead
    keep: int | None = None  # remove evaluated checkpoints but the best so many and the last
    again: bool = False  # evaluate those of the log anew on which a task failed

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.keep is not None and self.keep < 1:
            raise ConfigError(f"keep: expected at least 1 checkpoint, found {self.keep}")
        if min(self.poll_seconds, self.expires_seconds) <= 0:
            raise ConfigError("expected poll_seconds and expires_seconds above 0")


def watch(run: Path, config: WatchConfig, announce: Announce = lambda _: None) -> int:
    """Evaluate complete checkpoints of a run folder; return how many this process did.

    announce: is told each thing as it happens, in one line. Raises TaskError or DataError at
    once if the tasks cannot be loaded, CheckpointError if there is no run folder.
    """
    leaf_tasks(config.evaluate)
    # over: marks of what this process has nothing more to do about.
    done, over, heard = 0, set[str](), time.monotonic()
    while True:
        before = done
        waiting = _waiting(run, config, over)
        for found in waiting:
            done += _one(run, found, config, announce, over)
        if config.keep is not None:
            retain(run, config.keep, announce)
        if done > before:
            heard = time.monotonic()
            continue  # look again at once: training went on meanwhile
        # With --once, what another watcher holds is waited for: it may die, and nothing be lost.
        others = [found for found in waiting if found.mark not in over]
        if config.once and not others:
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

    Never removed: a pinned one, one that is not complete, one that has no scores yet. Nothing is
    while the log cannot be compared. Return what was removed.
    """
    log = known(run)
    there = complete(run)
    evaluated = [found for found in there if is_evaluated(found, log)]
    if len(evaluated) <= keep + 1:
        return []
    try:
        candidates = decide(list(log.values()), SelectConfig()).candidates
    except DataError as error:
        announce(f"nothing is removed: {one_line(error)}")
        return []
    order = sorted(candidates, key=lambda each: -each.smoothed)
    names = [each.checkpoint for each in order if each.checkpoint in {f.name for f in evaluated}]
    spared = {*names[:keep], there[-1].name}
    gone = []
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


def is_evaluated(found: Found, log: dict[str, Evaluated]) -> bool:
    """Return whether a line of the log is this very checkpoint's."""
    entry = log.get(found.name)
    return entry is not None and entry.settings.get("mark") in (None, found.mark)


def _waiting(run: Path, config: WatchConfig, over: set[str]) -> list[Found]:
    """Return the checkpoints to evaluate, the newest first: training is there now."""
    log = known(run)
    return [
        found
        for found in reversed(complete(run))
        if found.mark not in over and not _is_settled(found, log, config)
    ]


def _is_settled(found: Found, log: dict[str, Evaluated], config: WatchConfig) -> bool:
    if not is_done(found, log, config.evaluate.asked):
        return False
    return not (config.again and log[found.name].failed)


def _one(run: Path, found: Found, config: WatchConfig, announce: Announce, over: set[str]) -> int:
    """Evaluate one checkpoint if nobody else does; return whether it was done."""
    name = f"{found.name}-{config.evaluate.asked}"
    with lease(run / EVALS / LEASES, name, expires=config.expires_seconds) as held:
        if held is None or _is_settled(found, known(run), config):
            return 0
        announce(f"{found.name}: evaluating")
        try:
            entry = evaluate_folder(found, config.evaluate)
            held.require()
        except LeaseLostError as error:
            announce(one_line(error))
            return 0
        except (CheckpointError, OSError) as error:
            if isinstance(error, OSError) and found.folder.is_dir():
                raise  # a full disk, say
            gone = look(found.folder) is None
            why = "it was removed meanwhile" if gone else one_line(error)
            announce(f"{found.name}: not evaluated, {why}")
            over.add(found.mark)
            return 0
        append(run / LOG_NAME, entry)
        over.add(found.mark)
    for task, reason in entry.failed.items():
        announce(f"{found.name}: {task} failed: {reason}")
    announce(f"{found.name}: {100 * entry.score:.1f} in {entry.seconds:.0f} s")
    return 1
