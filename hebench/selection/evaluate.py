"""Evaluate one checkpoint: from its folder, or as it stands in memory in the middle of training.

    >>> entry = evaluate_folder(look(Path("runs/he/checkpoint-200")), EvaluateConfig(limit=50))
    >>> append(Path("runs/he/selection.jsonl"), entry)

A folder's evaluation is a run folder for each task or group that was named,
RUN/evals/<checkpoint>/<key>/, like any other: `hebench compare` and `hebench board
add` take it, and one that was cut off goes on where it was. A task that fails is recorded with
the reason, and the others keep their scores.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hebench.config import plain
from hebench.errors import CheckpointError, ConfigError, DataError, one_line
from hebench.files import sha256_of_json
from hebench.harness.run import EvalConfig, evaluate
from hebench.harness.tasks import load_tasks
from hebench.records import RunManifest
from hebench.selection.found import Found
from hebench.selection.items import items_of, read_items
from hebench.selection.log import Evaluated, TaskItems

EVALS = "evals"
DTYPES = ("bfloat16", "float16", "float32", "auto")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What checkpoints are asked, and how."""

    tasks: tuple[str, ...] = ("hebench_select",)  # tasks and groups
    limit: int | None = None  # items a task, from the first; None for all
    dtype: str = "bfloat16"  # of a folder's weights; a model in memory keeps its own
    device: str = "cpu"  # as torch names it
    batch_size: int = 8  # requests a forward pass, where nothing can be shared
    seed: int = 1234
    include: tuple[Path, ...] = ()  # further task folders

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if not self.tasks:
            raise ConfigError("expected at least one task, found none; name one with --tasks")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit: expected at least 1 item, found {self.limit}")
        if self.dtype not in DTYPES:
            raise ConfigError(f"dtype: expected {', '.join(DTYPES)}, found {self.dtype!r}")

    @property
    def asked(self) -> str:
        """Return what stands for the items asked: lines that share it can be compared."""
        return sha256_of_json([sorted(self.tasks), self.limit, self.seed])[:12]


def leaf_tasks(config: EvaluateConfig) -> tuple[str, ...]:
    """Return the tasks without their groups. Raises TaskError or DataError if one does not load."""
    return tuple(load_tasks(config.tasks, config.include)["tasks"])


def units(config: EvaluateConfig) -> tuple[EvaluateConfig, ...]:
    """Return one configuration for each task or group that was named: what is asked at a time.

    A model's answers differ in the last digits with what else it is asked in the same call, so
    whoever evaluates a checkpoint, one process or many, asks it unit by unit.
    """
    return tuple(replace(config, tasks=(name,)) for name in dict.fromkeys(config.tasks))


def run_folder(found: Found, unit: EvaluateConfig) -> Path:
    """Return where the evaluation of a unit on a checkpoint goes, on whichever device of a kind."""
    alike = replace(unit, device=unit.device.partition(":")[0])
    key = sha256_of_json([plain(alike), found.mark])[:12]
    return found.folder.parent / EVALS / found.name / key


def evaluate_folder(found: Found, config: EvaluateConfig) -> Evaluated:
    """Return the scores of a checkpoint's folder, written below the run folder as well.

    Raises CheckpointError if the folder is no model or has gone, and TaskError or DataError if
    the tasks themselves cannot be loaded.
    """
    return together(found, config, [evaluate_unit(found, unit) for unit in units(config)])


def evaluate_unit(found: Found, unit: EvaluateConfig) -> Evaluated:
    """Return the scores of a checkpoint on one of the `units` of a configuration."""
    clock = time.perf_counter()
    out = run_folder(found, unit)
    failed: dict[str, str] = {}
    try:
        tasks, weights = _run(found, unit, out)
    except (CheckpointError, ConfigError, OSError):
        raise  # the model or the place, not a task
    # A task is somebody's code; which one it was, and what the others score, shows one by one.
    except Exception:  # noqa: BLE001
        tasks, failed, weights = _one_by_one(found, unit, out)
    return Evaluated(
        checkpoint=found.name,
        step=found.step,
        tokens=found.tokens,
        loss_nats=found.loss_nats,
        averaged=found.averaged,
        weights_sha256=weights,
        settings=settings_of(unit, found.mark),
        seconds=round(time.perf_counter() - clock, 1),
        tasks=tasks,
        failed=failed,
    )


def together(found: Found, config: EvaluateConfig, parts: Sequence[Evaluated]) -> Evaluated:
    """Return a checkpoint's line of the log from those of its units."""
    return Evaluated(
        checkpoint=found.name,
        step=found.step,
        tokens=found.tokens,
        loss_nats=found.loss_nats,
        averaged=found.averaged,
        weights_sha256=next((part.weights_sha256 for part in parts if part.weights_sha256), None),
        settings=settings_of(config, found.mark),
        seconds=round(sum(part.seconds for part in parts), 1),
        tasks={name: items for part in parts for name, items in part.tasks.items()},
        failed={name: why for part in parts for name, why in part.failed.items()},
    )


def settings_of(config: EvaluateConfig, mark: str | None) -> dict[str, Any]:
    """Return what a line of the log says of how it came about."""
    kept = ("limit", "dtype", "device", "batch_size", "seed")
    asked = {"asked": config.asked, "tasks": list(config.tasks), "mark": mark}
    return asked | {key: getattr(config, key) for key in kept}


def evaluated_samples(
    samples: Mapping[str, list[dict[str, Any]]], versions: Mapping[str, str]
) -> tuple[dict[str, TaskItems], dict[str, str]]:
    """Return the items of tasks that were asked in memory, and of which task there are none, why.

    A task may have no score, or one that is none: it fails, and the others do not.
    """
    tasks, failed = {}, {}
    for name, found in samples.items():
        try:
            tasks[name] = items_of(found, versions[name], name)
        except DataError as error:
            failed[name] = one_line(error)
    return tasks, failed


def _run(
    found: Found, config: EvaluateConfig, out: Path
) -> tuple[dict[str, TaskItems], str | None]:
    kind, place = device_of(config.device)
    with place:
        manifest: RunManifest = evaluate(
            EvalConfig(
                model=str(found.folder),
                name=f"{found.folder.resolve().parent.name} {found.name}",
                tasks=config.tasks,
                out=out,
                dtype=config.dtype,
                device=kind,
                batch_size=config.batch_size,
                limit=config.limit,
                seed=config.seed,
                include=config.include,
            )
        )
    return read_items(out), manifest.model.weights_sha256


def device_of(name: str) -> tuple[str, contextlib.AbstractContextManager[Any]]:
    """Return a device's kind, and what makes a numbered GPU the one of that kind meanwhile.

    Answers belong to a kind: one GPU goes on where another one was cut off.
    Raises ConfigError for a GPU that this machine does not have.
    """
    kind, _, number = name.partition(":")
    if kind != "cuda":
        return name, contextlib.nullcontext()
    count = torch.cuda.device_count()
    if not count:
        raise ConfigError(f"--device: expected a device of this machine, such as cpu, found {name}")
    if not number:
        return name, contextlib.nullcontext()
    if not number.isdecimal() or int(number) >= count:
        raise ConfigError(f"--device: expected one of {count} GPUs, from cuda:0 on, found {name}")
    return kind, torch.cuda.device(int(number))


def _one_by_one(
    found: Found, unit: EvaluateConfig, out: Path
) -> tuple[dict[str, TaskItems], dict[str, str], str | None]:
    tasks: dict[str, TaskItems] = {}
    failed: dict[str, str] = {}
    weights = None
    for name in leaf_tasks(unit):
        try:
            items, weights = _run(found, replace(unit, tasks=(name,)), out / name)
            tasks |= items
        except (CheckpointError, ConfigError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 (as above)
            failed[name] = one_line(error)
    return tasks, failed, weights
