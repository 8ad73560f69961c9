"""Evaluate (checkpoints x tasks) on many machines: Ray, the only file that imports it.

    hebench sweep runs/he/pretrain                          (a local cluster, made for it)
    hebench sweep runs/he/pretrain --address ray://head:10001 --gpus 1

A unit of work is one of the named tasks or groups on one checkpoint. All machines see the run
folder at the same path. A worker that dies is replaced, and the new one goes on with the answers of
the dead one. The lines of the log are those of a watcher: the units are the same, wherever each is
evaluated, and they are put together in the order of their names.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hebench.errors import CheckpointError, ConfigError, one_line
from hebench.selection.evaluate import (
    EvaluateConfig,
    evaluate_unit,
    leaf_tasks,
    together,
    units,
)
from hebench.selection.found import Found, complete, is_done
from hebench.selection.log import LOG_NAME, Evaluated, append
from hebench.selection.watch import known, lease_of

RETRIES = 3  # of a unit whose worker died
Announce = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """What to evaluate, and on which cluster."""

    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    address: str | None = None  # of an existing cluster; None starts a local one
    cpus: float = 1.0  # of a unit of work
    gpus: float = 0.0  # of a unit of work; 0.5 lets two share one
    again: bool = False  # evaluate what the log holds already, too

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.cpus <= 0 or self.gpus < 0:
            raise ConfigError("expected cpus above 0 and gpus of 0 or more")
        if self.evaluate.device.startswith("cuda") and self.gpus == 0:
            raise ConfigError("--device cuda needs --gpus above 0: Ray hides GPUs not asked for")


def sweep(run: Path, config: SweepConfig, announce: Announce = lambda _: None) -> int:
    """Evaluate the complete checkpoints that the log lacks; return how many it has more.

    Raises ConfigError if Ray is not installed, the cluster cannot be reached or a setting does not
    go with it, TaskError or DataError if the tasks cannot be loaded. A unit whose worker died once
    more than `RETRIES` is a failed task of its checkpoint; a checkpoint that cannot be loaded, or
    has gone, gets no line.
    """
    ray = _ray()
    run = run.resolve()
    log = known(run)
    waiting = [
        found
        for found in complete(run)
        if config.again or not is_done(found, log, config.evaluate.asked)
    ]
    asked = units(config.evaluate)
    leaves = {unit.tasks: leaf_tasks(unit) for unit in asked}
    if not waiting:
        return 0
    _connect(ray, config)
    try:
        remote = ray.remote(num_cpus=config.cpus, num_gpus=config.gpus, max_retries=RETRIES)(_unit)
        work = {remote.remote(found, unit): (found, unit) for found in waiting for unit in asked}
        parts: dict[str, dict[tuple[str, ...], Evaluated]] = {each.name: {} for each in waiting}
        done = 0
        # disable=None: a bar on a terminal, nothing in a log file.
        with tqdm(total=len(work), desc="sweep", unit="unit", disable=None) as bar:
            left = list(work)
            while left:
                (ready,), left = ray.wait(left, num_returns=1)
                found, unit = work[ready]
                own = parts[found.name]
                bar.update()
                try:
                    own[unit.tasks] = _result(ray, ready, found, leaves[unit.tasks])
                except (CheckpointError, OSError) as error:
                    announce(f"{found.name}: not evaluated, {one_line(error)}")
                    continue
                if len(own) == len(asked):
                    entry = together(found, config.evaluate, [own[each.tasks] for each in asked])
                    append(run / LOG_NAME, entry)
                    done += 1
                    _say(entry, announce)
        return done
    finally:
        ray.shutdown()


def _unit(found: Found, unit: EvaluateConfig) -> Evaluated:
    """Evaluate one unit on one checkpoint, in a worker."""
    while True:
        with lease_of(found.folder.parent, found, unit) as held:
            if held is not None:
                return evaluate_unit(found, unit)
        time.sleep(1.0)  # a watcher is at it; its answers will be there


def _result(ray: Any, ready: Any, found: Found, leaves: tuple[str, ...]) -> Evaluated:
    """Return a unit's evaluation, or one in which all its tasks failed, with the reason.

    Raises what is no task's fault as the worker did: ConfigError, CheckpointError, OSError.
    """
    try:
        entry: Evaluated = ray.get(ready)
        return entry
    # What happened to one unit, or to its machine, must not take the others with it.
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, ConfigError | CheckpointError | OSError):
            raise cause from error
        why = one_line(cause or error)
        return Evaluated(
            checkpoint=found.name, step=found.step, tasks={}, failed=dict.fromkeys(leaves, why)
        )


def _say(entry: Evaluated, announce: Announce) -> None:
    for task, reason in entry.failed.items():
        announce(f"{entry.checkpoint}: {task} failed: {reason}")
    announce(f"{entry.checkpoint}: {100 * entry.score:.1f}")


def _connect(ray: Any, config: SweepConfig) -> None:
    try:
        ray.init(
            address=config.address or "local",
            include_dashboard=False if config.address is None else None,
            log_to_driver=False,
            logging_level="ERROR",
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"--address: expected a Ray cluster at {config.address}, found {one_line(error)}"
        ) from error


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigError("hebench sweep needs Ray: pip install 'hebench[ray]'") from error
    return ray
