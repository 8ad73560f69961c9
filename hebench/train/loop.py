"""The training loop: a backend's Trainer, with our loss, order, schedule, logs and checkpoints.

The subclass replaces what decides the numbers and is otherwise different from version to version
and from backend to backend: how a loss is divided, in which order rows come, the learning rate's
curve, what is logged, and that a checkpoint is complete or absent. Used by `hebench.train.trainer`
alone, which says how a job is run.
"""

import contextlib
import itertools
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import SequentialSampler
from tqdm import tqdm
from transformers import TrainerCallback

from hebench.errors import DataError
from hebench.files import write_atomically
from hebench.train.allocator import FreedMemory
from hebench.train.checkpoints import (
    CheckpointRecord,
    can_be_a_model,
    complete_checkpoints,
    named_failure,
    read_checkpoint,
    rotate,
    settle,
)
from hebench.train.device import Backend, Batch
from hebench.train.leak import check_leaks
from hebench.train.objective import Objective
from hebench.train.packing import PADDING
from hebench.train.settings import TrainingConfig

LOG_NAME = "log.jsonl"
_SAVING = ".saving.tmp"  # one name for all processes; swept with what else was cut off


@dataclass(kw_only=True)
class Course:
    """What one training is, and how far it has come; the same in every process but `seconds`."""

    config: TrainingConfig
    backend: Backend
    objective: Objective
    out: Path
    total_steps: int
    record: Callable[[int, int, float | None, float], CheckpointRecord]
    tokens: int = 0  # seen, without padding
    seconds: float = 0.0  # of training before this process began
    loss_nats: float | None = None  # per item, of the last log
    begun: float = field(default_factory=time.perf_counter)
    memory: FreedMemory = field(init=False)

    def __post_init__(self) -> None:
        """Take what the steps free."""
        self.memory = FreedMemory(kept=self.backend.name == "cpu")

    @property
    def spent(self) -> float:
        """Return the seconds of training, those before an interruption included."""
        return self.seconds + time.perf_counter() - self.begun

    @property
    def first(self) -> bool:
        """Return whether this process writes the files."""
        return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


class PackedTraining:
    """What a Trainer does otherwise, as a class to be put before it; `course` says what is trained.

    The Trainer's own names are declared here for the type checker.
    """

    args: Any
    model: Any
    optimizer: Any
    state: Any
    train_dataset: Any
    lr_scheduler: Any
    course: Course
    loss_is_scaled_for_ga = True  # by compute_loss, to the whole step's items

    def follow(self, course: Course) -> None:
        """Take the course; called once, before train()."""
        self.course = course
        self.model_accepts_loss_kwargs = True  # transformers 4.55 asks this instead
        self._clear()
        self._unjudged: list[tuple[dict[str, torch.Tensor], torch.Tensor]] = []

    def step(self) -> int:
        """Return the number of optimiser steps, those before a restart included."""
        return int(self.state.global_step) + self.course.config.start_step

    def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
        return SequentialSampler(self.train_dataset)  # `Ordered` has shuffled already

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Return the recipe's schedule, which goes on where a restart's parent stopped."""
        if self.lr_scheduler is None:
            config, total = self.course.config, self.course.total_steps
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer,
                lambda step: config.rate_factor(step + config.start_step, total),
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, *_: Any
    ) -> tuple[list[Batch], torch.Tensor]:
        """Return this process's batches of one optimiser step, and the items of all processes."""
        batches = list(itertools.islice(epoch_iterator, num_batches))
        items = sum(int(self.course.objective.count(batch)) for batch in batches)
        tokens = sum(int((batch["document_ids"] != PADDING).sum()) for batch in batches)
        counts = self._summed(torch.tensor([items, tokens]))
        self.course.tokens += int(counts[1])
        self._items += int(counts[0])
        return batches, counts[0]

    get_batch_samples_transformers = get_batch_samples  # GaudiTrainer's name for it

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        """Return this batch's share of the step's mean loss, for the objective on its mask."""
        mask = inputs.get("attention_mask")
        assert mask is None, "a mask is made here, by the backend's convention"
        assert not self.model.config.use_cache, "with a cache, positions are not looked at"
        total, others = self.course.objective.total(model, inputs, self.course.backend)
        sums = {"loss_nats": total.detach()}
        sums.update({name: value.detach() for name, value in others.items()})
        self._unjudged.append((sums, inputs["row"]))
        # Gradients are averaged over processes, and the items are those of all of them.
        return total / num_items_in_batch.clamp(min=1) * self.args.world_size

    def judge(self) -> None:
        """Take in the losses since the last call; DataError names rows whose is no number."""
        unjudged, self._unjudged = self._unjudged, []
        for sums, rows in unjudged:
            loss = sums["loss_nats"].item()
            if not math.isfinite(loss):
                self._stop(f"the loss of rows {sorted(rows.tolist())} is {loss}")
            for name, value in sums.items():
                self._sums[name] = self._sums.get(name, 0.0) + value.item()

    def _stop(self, what: str) -> None:
        kept = complete_checkpoints(self.course.out)
        good, way = "none was saved yet", "begin"
        if kept and (record := read_checkpoint(kept[-1])):
            good = f"the last good checkpoint is {kept[-1].name}"
            if can_be_a_model(kept[-1], record):
                way = f"go on from it (as the model, with start_step={record.step})"
        raise DataError(
            f"{self.course.out}: step {self.step() + 1}: expected a finite loss and gradient, "
            f"but {what}; {good}; look at the text of these rows, or {way} in another folder "
            "with a lower learning_rate"
        )

    def _summed(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over processes."""
        values = values.to(self.args.device)
        if self.args.world_size > 1:
            torch.distributed.all_reduce(values)
        return values

    def _clear(self) -> None:
        self._sums: dict[str, float] = {}
        self._items = 0
        self._logged = (self.course.tokens, time.perf_counter())

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Write our line of what the Trainer logs."""
        if "loss" in logs and self._items:
            self._write_line(logs)
        super().log(logs, *args, **kwargs)  # type: ignore[misc]

    def _write_line(self, logs: Mapping[str, Any]) -> None:
        """Append to the log the means since the last line, and their speed."""
        self.judge()
        names = sorted(self._sums)
        sums = self._summed(torch.tensor([self._sums[name] for name in names], dtype=torch.float64))
        means = {name: float(total) / self._items for name, total in zip(names, sums, strict=True)}
        norm = logs.get("grad_norm")
        course, (tokens, then) = self.course, self._logged
        course.loss_nats = means.pop("loss_nats")
        line = {
            "step": self.step(),
            "tokens": course.tokens,
            "loss_nats": course.loss_nats,
            **means,
            "learning_rate": logs["learning_rate"],
            "grad_norm": None if norm is None else float(norm),
            "tokens_per_second": (course.tokens - tokens) / (time.perf_counter() - then),
            "seconds": course.spent,
        }
        self._clear()
        if norm is not None and not math.isfinite(norm):
            self._stop(f"the norm of the gradient at step {self.step()} is {float(norm)}")
        if course.first:
            path = course.out / LOG_NAME
            with named_failure(path), path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")

    def _get_output_dir(self, trial: Any = None) -> str:
        return str(self.course.out / _SAVING)

    def _save_checkpoint(self, model: Any, trial: Any = None) -> None:
        """Save beside the run's checkpoints, then move there what is complete."""
        course = self.course
        folder = course.out / f"checkpoint-{self.step()}"
        saving = course.out / _SAVING
        record = course.record(self.step(), course.tokens, course.loss_nats, course.spent)
        with named_failure(folder), _removed(saving):
            if course.first:
                shutil.rmtree(saving, ignore_errors=True)
                saving.mkdir()
            self._wait()
            with _cache_allowed(self.model):
                super()._save_checkpoint(model, trial)  # type: ignore[misc]
            self._wait()
            if course.first:
                (written,) = saving.iterdir()
                (written / "training_args.bin").unlink(missing_ok=True)  # paths, pickled
                settle(written, folder, record)
                rotate(course.out, course.config.keep)
            self._wait()
        self._logged = (course.tokens, time.perf_counter())  # a save is not slow training

    def _wait(self) -> None:
        if self.args.world_size > 1:
            torch.distributed.barrier()


def packed_trainer(base: type[Any]) -> type[Any]:
    """Return the subclass of a backend's Trainer class that trains on packed rows."""
    return type("PackedTrainer", (PackedTraining, base), {})


class Guard(TrainerCallback):  # type: ignore[misc]
    """Checks for leaks at the start and losses at each step; saves, ends, and shows progress."""

    def __init__(self, trainer: Any) -> None:
        """Take the trainer, whose course is known."""
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Refuse a model whose packed documents see each other; start the bar and the clock."""
        course = self._trainer.course
        check_leaks(self._trainer.model, course.backend)
        course.begun = time.perf_counter()
        self._trainer._clear()
        self._bar = tqdm(
            total=course.total_steps,
            initial=self._trainer.step(),
            desc="train",
            unit="step",
            disable=None if course.first else True,
        )

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop before a loss that is not a number reaches the weights."""
        self._trainer.judge()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Decide whether to save and whether to end; a save has its own line in the log."""
        course, step = self._trainer.course, self._trainer.step()
        course.memory.step_over()
        limit = course.config.seconds
        over = 0
        if limit is not None:  # one process's clock may be ahead: all end with the first
            over = int(self._trainer._summed(torch.tensor(int(course.spent >= limit))))
        last = step >= course.total_steps or over > 0
        if last or step % course.config.save_every == 0:
            control.should_save = control.should_log = True
        control.should_training_stop = control.should_training_stop or last
        self._bar.set_postfix(loss=course.loss_nats, refresh=False)
        self._bar.update()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar."""
        self._bar.close()


def cut_log(out: Path, step: int) -> None:
    """Take from a run's log what came after `step`: a resumed run writes it again."""
    path = out / LOG_NAME
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        # A line without its end was cut off with the process.
        if not line.endswith("\n") or json.loads(line)["step"] > step:
            break
        kept.append(line)
    write_atomically(path, "".join(kept))


@contextlib.contextmanager
def _cache_allowed(model: Any) -> Iterator[None]:
    """Let what is saved generate with a cache: that training does without is not its nature."""
    model.config.use_cache = True
    try:
        yield
    finally:
        model.config.use_cache = False


@contextlib.contextmanager
def _removed(saving: Path) -> Iterator[None]:
    """Remove the folder of a save at its end: empty, or with what a failed one has written."""
    try:
        yield
    finally:
        shutil.rmtree(saving, ignore_errors=True)
