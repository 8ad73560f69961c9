"""A training job: one stage that trains, in one process or many, resumable at any moment.

    with open_job(out, "pretrain", config, config.training, inputs) as job:
        if job.record.finished:
            return job.record
        model, tokenizer = job.load(folder)
        fit = job.fit(model=model, tokenizer=tokenizer, dataset=rows, record=record)
        job.export(out / "model", lambda: job.load(fit.checkpoint)[0], tokenizer, record)
        return job.finish({"steps": fit.step})

Every process runs the same lines; the first alone holds the stage's lock and writes its files.
They share one file system.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers

from hebench.config import plain
from hebench.errors import CheckpointError, ConfigError, one_line
from hebench.processes import rank
from hebench.train import device
from hebench.train.checkpoints import (
    CheckpointRecord,
    can_be_a_model,
    complete_checkpoints,
    read_checkpoint,
    save_model,
)
from hebench.train.device import Backend
from hebench.train.mixing import Ordered
from hebench.train.objective import NEXT_TOKEN, Objective
from hebench.train.settings import TrainingConfig
from hebench.train.stage import Stage, StageRecord, open_stage, read_stage

if TYPE_CHECKING:
    from hebench.train.loop import Course


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What a training came to."""

    step: int
    tokens: int  # seen, without padding
    loss_nats: float | None  # per item, of the last log
    seconds: float  # of training, interruptions left out
    checkpoint: Path


class Job:
    """A stage that trains, as one of its processes sees it."""

    def __init__(
        self, out: Path, record: StageRecord, training: TrainingConfig, stage: Stage | None
    ) -> None:
        """Take a stage's folder and what is known of it; `begin` starts the work."""
        self.out = out
        self.record = record
        self.training = device.with_precision(training, _precision_begun(out))
        self._stage = stage  # None in all processes but the first
        self._backend: Backend | None = None
        self._arguments: Any = None

    def begin(self) -> None:
        """Start threads and process group."""
        self._backend = device.open_backend(self.training)
        self._arguments = device.start(self.training, self._backend, self.out)

    @property
    def backend(self) -> Backend:
        """Return the backend that this job runs on."""
        assert self._backend is not None, "a finished job has no backend"
        return self._backend

    @property
    def device(self) -> torch.device:
        """Return the device of this process."""
        return self._arguments.device

    def load(self, folder: Path) -> tuple[Any, Any]:
        """Return the model of a folder, in fp32 and without cache, and its tokenizer.

        Raises CheckpointError if there is none, or if it has fewer rows than the tokenizer pieces,
        and ConfigError if it knows fewer positions than a row has.
        """
        model = device.load_model(folder, self.backend.attention)
        window = device.sliding_window(model.config)
        self._backend = self.backend.for_window(window, self.training.row_tokens)
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        except Exception as error:  # tokenizers raises nothing narrower
            raise CheckpointError(
                f"{folder}: expected a tokenizer, found {one_line(error)}; save the model's there"
            ) from error
        device.require_rows(folder, tokenizer, model.config)
        device.require_positions(folder, model, self.training.row_tokens)
        return model, tokenizer

    def once(self, work: Callable[[], object]) -> None:
        """Do `work` in the first process while the others wait."""
        device.first_then_all(work)

    def fit(  # noqa: PLR0913 (each is named at the call)
        self,
        *,
        model: Any,
        tokenizer: Any,
        dataset: Any,
        record: CheckpointRecord,
        objective: Objective = NEXT_TOKEN,
        callbacks: Sequence[Any] = (),
    ) -> Fit:
        """Train from the newest complete checkpoint on, or from `model`; return what came of it.

        dataset: map-style, of rows as `hebench.train.packing.lay` makes them. record: what is
        known of the checkpoints beforehand; step, tokens, loss and time are filled in. callbacks:
        transformers' TrainerCallbacks; at `on_save` the checkpoint is complete. Raises ConfigError
        for a leak, a setting that did not take effect or a device without the memory, DataError
        for a loss that is no number, CheckpointError for a save that failed.
        """
        # Not before the backend is known: accelerate, once imported, has chosen DeepSpeed's device.
        from hebench.train.loop import Course, cut_log

        config = self.training
        total = config.total_steps(len(dataset))
        newest = (complete_checkpoints(self.out) or [None])[-1]  # type: ignore[list-item]
        state = read_checkpoint(newest) if newest else None
        if state and config.seconds and state.metrics["training_seconds"] >= config.seconds:
            total = state.step  # its time was over: nothing is left to train
        course = Course(
            config=config,
            backend=self.backend,
            objective=objective,
            out=self.out,
            total_steps=total,
            record=_recorder(record, config),
            tokens=state.tokens if state else 0,
            seconds=state.metrics["training_seconds"] if state else 0.0,
            loss_nats=state.loss_nats if state else None,
        )
        with _lack_of_memory_named(self.out, config):
            trainer = self._trainer(course, model, tokenizer, dataset, callbacks)
            self.once(lambda: cut_log(self.out, state.step if state else 0))
            with course.memory:
                trainer.train(resume_from_checkpoint=str(newest) if newest else None)
        device.leave_deepspeed(config, trainer)
        return Fit(
            step=trainer.step(),
            tokens=course.tokens,
            loss_nats=course.loss_nats,
            seconds=course.spent,
            checkpoint=self.out / f"checkpoint-{trainer.step()}",
        )

    def _trainer(
        self, course: "Course", model: Any, tokenizer: Any, dataset: Any, callbacks: Sequence[Any]
    ) -> Any:
        from hebench.train.loop import Guard, packed_trainer

        config = self.training
        rows = Ordered(
            dataset,
            first=config.start_step * config.global_rows,
            last=course.total_steps * config.global_rows,
            seed=config.seed,
        )
        self._arguments.max_steps = course.total_steps - config.start_step
        trainer = device.build_trainer(
            self.backend,
            packed_trainer(device.trainer_class(self.backend)),
            self._arguments,
            model=model,
            processing_class=tokenizer,
            train_dataset=rows,
        )
        if trainer.is_deepspeed_enabled != (config.zero_stage > 0):
            raise ConfigError(
                f"zero_stage: expected DeepSpeed to be {'on' if config.zero_stage else 'off'}, "
                "found the opposite; launch with torchrun or deepspeed, not with accelerate"
            )
        model.config.use_cache = False
        trainer.follow(course)
        trainer.add_callback(Guard(trainer))
        for callback in callbacks:
            trainer.add_callback(callback)
        return trainer

    def export(
        self, folder: Path, load: Callable[[], Any], tokenizer: Any, record: CheckpointRecord
    ) -> None:
        """Write a plain Hugging Face folder of the model that `load` returns, in the recipe's type.

        The first process does it: it alone needs the whole model in its memory once more.
        """
        kind = {"bf16": torch.bfloat16, "fp32": torch.float32}[self.training.export_dtype]

        def write() -> None:
            model = load()
            model.config.use_cache = True
            save_model(folder, model.to(device="cpu", dtype=kind), tokenizer, record)

        self.once(write)

    def finish(self, metrics: Mapping[str, Any]) -> StageRecord:
        """Mark the stage complete and return its record."""
        found = {**metrics, "precision": self.training.precision}
        self.once(lambda: self._stage and self._stage.finish(found))
        record = read_stage(self.out)
        assert record and record.finished, "the first process has finished the stage"
        self.record = record
        return record


@contextlib.contextmanager
def open_job(
    out: Path,
    name: str,
    config: Any,
    training: TrainingConfig,
    inputs: Mapping[str, str] | None = None,
) -> Iterator[Job]:
    """Give the job of a stage folder; `job.record.finished` says whether it was done before.

    Raises ConfigError as `open_stage` does, and where the launcher started other processes than
    asked; CheckpointError if the folder's checkpoints are those of another number of processes.
    """
    refuse_other_world(out, training)
    with contextlib.ExitStack() as held:
        stage, record = None, read_stage(out)
        if rank() == 0:
            stage = held.enter_context(open_stage(out, name, config, inputs))
            record = stage.record
        if record is None:  # another process than the first, at its first start
            record = StageRecord(
                stage=name, config=plain(config), inputs=dict(inputs or {}), started=""
            )
        job = Job(out, record, training, stage)
        if not record.finished:
            job.begin()
        yield job


_NO_MEMORY = "can't allocate memory"


@contextlib.contextmanager
def _lack_of_memory_named(out: Path, config: TrainingConfig) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # On a processor only the text says so.
        if not isinstance(error, torch.OutOfMemoryError) and _NO_MEMORY not in str(error):
            raise
        raise ConfigError(
            f"{out}: expected memory for micro_rows={config.micro_rows} rows of "
            f"{config.row_tokens} tokens, found too little ({one_line(error, 120)}); lower either, "
            "set activation_checkpointing, or take more processes and a zero_stage (--dry-run "
            "works out what is needed)"
        ) from error


def _precision_begun(out: Path) -> str | None:
    """Return the precision of a stage folder's newest checkpoint, if it has one and says it."""
    for folder in complete_checkpoints(out)[-1:]:
        record = read_checkpoint(folder)
        return record.metrics.get("precision") if record else None
    return None


def _recorder(
    record: CheckpointRecord, config: TrainingConfig
) -> Callable[[int, int, float | None, float], CheckpointRecord]:
    """Return what fills a checkpoint's record in at a save."""

    def fill(step: int, tokens: int, loss: float | None, seconds: float) -> CheckpointRecord:
        metrics = {
            **record.metrics,
            "training_seconds": round(seconds, 3),
            "zero_stage": config.zero_stage,
            "precision": config.precision,
        }
        return replace(
            record,
            step=step,
            tokens=tokens,
            loss_nats=loss,
            seed=config.seed,
            world_size=config.world_size,
            metrics=metrics,
        )

    return fill


def refuse_other_world(out: Path, training: TrainingConfig) -> None:
    """Refuse to resume on another number of processes, before anything is loaded."""
    for folder in complete_checkpoints(out)[-1:]:
        record = read_checkpoint(folder)
        if record and record.world_size != training.world_size:
            way = "begin in another folder"
            if can_be_a_model(folder, record):
                way = (
                    "start another folder from its weights alone (the checkpoint as the model, "
                    f"and start_step={record.step})"
                )
            raise CheckpointError(
                f"{folder}: expected a checkpoint of {training.world_size} processes, found one of "
                f"{record.world_size}, whose optimiser state and random numbers are kept by "
                f"process; go on with {record.world_size}, or {way}"
            )
