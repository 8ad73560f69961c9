"""Evaluate in the middle of training: one line for any Hugging Face Trainer.

    trainer.add_callback(HebenchCallback(trainer))

At every save (or every so many steps) the tasks are asked of the model as it stands, the scores go
to the Trainer's loggers (TensorBoard, W&B, trackio: whatever it reports to) as `hebench/<task>`
and, with every item, to `selection.jsonl` in the output folder; the answers go to a run folder,
`evals/<checkpoint>/live-<key>/`, as a watcher's do. Training is what it would have been without:
the same numbers, to the bit (`hebench.harness.live.undisturbed`).

It costs time, and says how much: `hebench/overhead`. An evaluation that would take more than
`max_overhead` of the training time so far is left out; `hebench watch RUN --once` makes up for it.
The first one runs in any case, since nothing is known of its cost before.

Data-parallel processes (DDP, DeepSpeed ZeRO-1 and 2) share the items. Where no process holds the
whole model (ZeRO-3, FSDP) it refuses at the start and names the way out.
"""

import contextlib
import logging
import math
import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from hebench.errors import CheckpointError, ConfigError
from hebench.harness.live import Asked, Share, ask, undisturbed
from hebench.harness.live_folder import write_run_folder
from hebench.harness.models import identify
from hebench.processes import leave_gloo_at_exit
from hebench.records import Model, RunManifest
from hebench.selection.evaluate import (
    EVALS,
    EvaluateConfig,
    evaluated_samples,
    leaf_tasks,
    settings_of,
)
from hebench.selection.found import PREFIX, Found, look
from hebench.selection.log import LOG_NAME, Evaluated, append
from hebench.train.mixing import Ordered

_LOGGER = logging.getLogger(__name__)


class HebenchCallback(TrainerCallback):  # type: ignore[misc]
    """A Trainer's callback that evaluates the model in training; see the module."""

    def __init__(  # noqa: PLR0913 (all but the first are named at the call)
        self,
        trainer: Any = None,
        *,
        tasks: Sequence[str] = ("hebench_select",),
        limit: int | None = None,
        every: int | None = None,
        max_overhead: float = 0.05,
        batch_size: int = 8,
        start_step: int = 0,
        include: Sequence[Path] = (),
    ) -> None:
        """Take the trainer whose loggers are told; None writes `selection.jsonl` alone.

        limit: items a task; None for all. every: steps between evaluations; None for every save.
        max_overhead: share of the training time, math.inf for no bound. batch_size: requests a
        forward pass, where nothing can be shared. start_step: what hebench's own training, where
        it goes on from another one's weights, adds to the Trainer's steps in its checkpoints'
        names. A plain Trainer does not, and a watcher knows steps by names: there it is not added.
        """
        if not max_overhead > 0 or (every is not None and every < 1):
            raise ConfigError("expected max_overhead above 0 and every of 1 step or more")
        self.config = EvaluateConfig(
            tasks=tuple(tasks), limit=limit, batch_size=batch_size, include=tuple(include)
        )
        self.spent = 0.0  # seconds of evaluation
        self.left_out: list[int] = []  # steps that would have cost too much
        self._latest: Evaluated | None = None  # this training's last evaluation
        self._saved = False  # whether this training saved anything
        self._trainer, self._every, self._start = trainer, every, start_step
        self._max, self._last, self._begun = max_overhead, math.nan, math.nan

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Refuse what cannot work, and tasks that do not load, before hours are spent."""
        _refuse_sharded(args, kwargs["model"])
        _tokenizer(kwargs)
        leaf_tasks(self.config)
        leave_gloo_at_exit()  # else a process may be aborted after all its work
        if state.is_world_process_zero and self._step(state, kwargs) == 0:
            _put_aside(Path(args.output_dir) / LOG_NAME)
        self.spent, self.left_out = 0.0, []
        self._latest, self._saved = None, False
        self._last, self._begun = math.nan, time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate every so many steps, if that was asked for."""
        if self._every and state.global_step % self._every == 0:
            self._evaluate(args, state, kwargs)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate what was just saved; where steps are chosen, say whose scores this one's are."""
        self._saved = True
        latest = self._latest if state.is_world_process_zero else None
        if self._every is None:
            self._evaluate(args, state, kwargs)
        elif latest is not None and latest.step == self._step(state, kwargs):
            self._append_saved(Path(args.output_dir), latest, kwargs["model"])

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say what it cost, and what was left out for its cost."""
        if not state.is_world_process_zero:
            return
        _LOGGER.warning("hebench: evaluation took %.1f%% of training time", 100 * self.overhead)
        if not self.left_out:
            return
        way = ""
        if self._saved:
            command = self._by_watcher(args.output_dir, _dtype(kwargs["model"]))
            way = f"; `{command}` makes up for those that were saved"
        _LOGGER.warning(
            "hebench: %d evaluations were left out to stay within %.0f%%%s",
            len(self.left_out),
            100 * self._max,
            way,
        )

    @property
    def overhead(self) -> float:
        """Return the seconds of evaluation over those of training alone, so far."""
        return self.spent / max(time.perf_counter() - self._begun - self.spent, 1e-9)

    def _by_watcher(self, run: str, dtype: str) -> str:
        """Return the command that evaluates what was saved on the same items, as precisely."""
        config = self.config
        parts = ["hebench", "watch", str(run), "--once"]
        parts += [part for task in config.tasks for part in ("--tasks", task)]
        parts += [] if config.limit is None else ["--limit", str(config.limit)]
        parts += ["--dtype", dtype]
        parts += [part for each in config.include for part in ("--include-path", str(each))]
        return shlex.join(parts)

    def _evaluate(self, args: Any, state: Any, kwargs: dict[str, Any]) -> None:
        step = self._step(state, kwargs)
        if not _told_by_first(self._can_pay()):
            self.left_out.append(step)
            return
        clock = time.perf_counter()
        entry = self._latest = self._entry(args, state, step, kwargs)
        self._last = time.perf_counter() - clock
        self.spent += self._last
        if state.is_world_process_zero:
            append(Path(args.output_dir) / LOG_NAME, entry)
        if self._trainer is not None:
            found = {f"hebench/{name}": task.score for name, task in entry.tasks.items()}
            total = {"hebench/score": entry.score, "hebench/overhead": self.overhead}
            self._trainer.log(found | total)
        for name, reason in entry.failed.items():
            _LOGGER.warning("hebench: step %d: %s failed: %s", step, name, reason)

    def _step(self, state: Any, kwargs: dict[str, Any]) -> int:
        return int(state.global_step) + (self._start if _is_our_own(kwargs) else 0)

    def _can_pay(self) -> bool:
        if math.isnan(self._last):
            return True
        trained = time.perf_counter() - self._begun - self.spent
        return self.spent + self._last <= self._max * trained

    def _entry(self, args: Any, state: Any, step: int, kwargs: dict[str, Any]) -> Evaluated:
        clock, config, model = time.perf_counter(), self.config, kwargs["model"]
        rank, count = _place()
        with undisturbed(model):
            own = ask(
                model,
                _tokenizer(kwargs),
                config.tasks,
                limit=config.limit,
                batch_size=config.batch_size,
                seed=config.seed,
                include=config.include,
                share=Share(rank=rank, count=count),
            )
        asked = _together(own)
        tasks, failed = evaluated_samples(asked.samples, asked.versions)
        asked = replace(
            asked,
            samples={name: asked.samples[name] for name in tasks},
            described={name: asked.described[name] for name in tasks},
            failed=asked.failed | failed,
        )
        # Only what this very save wrote: a folder of that name may be of an earlier run.
        run = Path(args.output_dir)
        checkpoint = f"{PREFIX}{step}"
        saved = look(run / checkpoint) if self._every is None else None
        losses = [line["loss"] for line in state.log_history if "loss" in line]
        weights = None
        if state.is_world_process_zero and asked.samples:
            identity = _identity(model, run, checkpoint, saved)
            weights = identity.weights_sha256
            write_run_folder(
                asked,
                self._answers(run, checkpoint),
                model=identity,
                seconds=time.perf_counter() - clock,
            )
        return Evaluated(
            checkpoint=checkpoint,
            step=step,
            tokens=saved.tokens if saved else None,
            loss_nats=saved.loss_nats if saved else (losses[-1] if losses else None),
            weights_sha256=weights,
            settings=settings_of(config, saved.mark if saved else None)
            | {"dtype": _dtype(model), "device": str(model.device)},
            seconds=round(time.perf_counter() - clock, 1),
            tasks=tasks,
            failed=asked.failed,
        )

    def _answers(self, run: Path, checkpoint: str) -> Path:
        """Return the run folder of what a checkpoint answers in memory."""
        return run / EVALS / checkpoint / f"live-{self.config.asked}"

    def _append_saved(self, run: Path, entry: Evaluated, model: Any) -> None:
        """Say of scores, in the log and in their run folder, which saved weights' they are.

        Else they would count for whatever a later training saves under the same name.
        """
        clock = time.perf_counter()
        saved = look(run / entry.checkpoint)
        if saved is None:
            return
        identity = _identity(model, run, entry.checkpoint, saved)
        answers = self._answers(run, entry.checkpoint)
        # Where every task failed there is none of this step's.
        if entry.tasks and (manifest := RunManifest.read(answers)):
            replace(manifest, model=identity).write(answers)
        append(
            run / LOG_NAME,
            replace(
                entry,
                tokens=saved.tokens,
                loss_nats=saved.loss_nats,
                weights_sha256=identity.weights_sha256,
                settings={**entry.settings, "mark": saved.mark},
            ),
        )
        self.spent += time.perf_counter() - clock


def _is_our_own(kwargs: dict[str, Any]) -> bool:
    """Return whether hebench's own loop trains, whose checkpoints' names count `start_step`.

    Its rows tell it: a callback may know no trainer.
    """
    return isinstance(getattr(kwargs.get("train_dataloader"), "dataset", None), Ordered)


def _identity(model: Any, run: Path, checkpoint: str, saved: Found | None) -> Model:
    """Return what is known of the model: with the weights of its folder, where it was saved.

    A folder with an adapter alone is no model: its weights have no hash.
    """
    name = f"{run.resolve().name} {checkpoint}"
    if saved is not None:
        with contextlib.suppress(CheckpointError):
            found = identify(str(saved.folder), name=name, revision=None, dtype=_dtype(model))
            return replace(found, parameters=int(model.num_parameters()))
    return Model(
        name=name,
        source=checkpoint,
        revision=None,
        weights_sha256=None,
        parameters=int(model.num_parameters()),
        dtype=_dtype(model),
    )


def _put_aside(log: Path) -> None:
    """Rename the log of an earlier training in the same folder: its steps are not this one's."""
    if not log.exists():
        return
    number = 1
    while (aside := log.with_name(f"{log.stem}.{number}{log.suffix}")).exists():
        number += 1
    log.rename(aside)
    _LOGGER.warning("hebench: %s is of an earlier training; it is kept as %s", log, aside.name)


def _dtype(model: Any) -> str:
    return str(model.dtype).removeprefix("torch.")


def _tokenizer(kwargs: dict[str, Any]) -> Any:
    tokenizer = kwargs.get("processing_class")
    if tokenizer is None:
        raise ConfigError(
            "expected the Trainer to have the tokenizer, found none; give it as processing_class"
        )
    return tokenizer


def _refuse_sharded(args: Any, model: Any) -> None:
    """Raise ConfigError where a process has a part of the model only, by settings or by look."""
    plugin = getattr(args, "deepspeed_plugin", None)
    parts = ""
    if (plugin is not None and plugin.zero_stage == 3) or any(
        hasattr(parameter, "ds_id") for parameter in model.parameters()
    ):
        parts = "DeepSpeed ZeRO-3"
    elif (
        getattr(args, "fsdp", None)
        or any(hasattr(parameter, "placements") for parameter in model.parameters())
        or any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules())
    ):
        parts = "FSDP"
    if parts:
        raise ConfigError(
            f"expected each process to hold the whole model, found it in parts ({parts}); leave "
            f"HebenchCallback out and run `hebench watch {args.output_dir}` beside the training"
        )


def _place() -> tuple[int, int]:
    """Return this process's rank and the number of processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def _told_by_first(value: bool) -> bool:
    """Return the first process's value in all: their clocks differ, and all must do the same."""
    if _place()[1] == 1:
        return value
    found = [value]
    torch.distributed.broadcast_object_list(found, src=0)
    return found[0]


def _together(own: Asked) -> Asked:
    """Return what all processes found, the same in each."""
    if _place()[1] == 1:
        return own
    shares: list[Any] = [None] * _place()[1]
    torch.distributed.all_gather_object(shares, own)
    failed = {name: why for share in shares for name, why in share.failed.items()}
    samples = {
        name: sorted(
            (sample for share in shares for sample in share.samples[name]),
            key=lambda sample: int(sample["doc_id"]),
        )
        for name in own.versions
        if name not in failed
    }
    return replace(
        own,
        samples=samples,
        failed=failed,
        described={name: own.described[name] for name in samples},
        truncated=sum(share.truncated for share in shares),
    )
