"""The descent of a small training loop: how far it is, at what rate it learns, its state on disk.

Distillation and calibration train two tables over a frozen body in minutes. They end after a
number of steps or of seconds, and when they are cut off they go on from the last saved state as
if nothing had happened.

    descent = Descent(out / PROGRESS, limits, [optimiser], {"rows": table})
    for step in descent.steps("distil"):
        descent.learn(texts, loss, size=len, where=f"passages {indices}")
"""

import contextlib
import math
import os
import pickle
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from hebench.errors import CheckpointError, ConfigError, DataError, one_line
from hebench.train.allocator import FreedMemory
from hebench.train.checkpoints import named_failure

PROGRESS = "progress.pt"  # the saved state in a stage's folder, while it is not finished
BETAS = (0.9, 0.98)  # of Adam: hundreds of steps, not the thousands that 0.999 looks back
_FINAL_RATE = 0.05  # of the peak: what the cosine falls to
_MEMORY = 0.98  # of the smoothed loss, for each step
_WINDOW = 16  # batches whose texts are sorted by length together

_Text = TypeVar("_Text")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When a loop ends, how its rate runs until then, and how often its state is saved."""

    steps: int | None  # optimiser steps
    seconds: float | None  # of training, not counting what comes before and after
    learning_rate: float  # peak; a cosine leads from it to a twentieth at the end
    warmup_steps: int
    save_seconds: float = 60.0  # between two saved states

    def __post_init__(self) -> None:
        """Refuse a loop without an end."""
        if self.steps is None and self.seconds is None:
            raise ConfigError("expected a limit, found neither steps nor seconds; set one")
        for name in ("steps", "seconds", "learning_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name}: expected more than 0, found {value}")
        if self.warmup_steps < 0:
            raise ConfigError(f"warmup_steps: expected 0 or more, found {self.warmup_steps}")

    def done(self, step: int, seconds: float) -> float:
        """Return the share of the loop that is behind, in [0, 1]: of the limit that is nearer."""
        by_steps = step / self.steps if self.steps else 0.0
        by_time = seconds / self.seconds if self.seconds else 0.0
        return min(1.0, max(by_steps, by_time))

    def rate(self, step: int, done: float) -> float:
        """Return the learning rate of the step after `step` others, at `done` of the loop."""
        cosine = 0.5 * (1 + math.cos(math.pi * done))
        warm = min(1.0, (step + 1) / (self.warmup_steps + 1))
        return self.learning_rate * warm * (_FINAL_RATE + (1 - _FINAL_RATE) * cosine)


class Descent:
    """A loop that counts its steps and seconds, and goes on from `path` if it was cut off."""

    def __init__(
        self,
        path: Path,
        limits: Limits,
        optimisers: Sequence[Any],
        tables: Mapping[str, Tensor],
        precision: str = "fp32",
    ) -> None:
        """Take what trains (`tables`, by name) and its optimisers; both are set from `path`.

        A group of an optimiser may have a `scale`, by which the rate is multiplied for it.
        precision: of the body, which goes into the saved state.

        Raises CheckpointError if the saved state is damaged.
        """
        self.path, self.limits = path, limits
        self.optimisers, self.tables = list(optimisers), dict(tables)
        self.precision = precision
        self.step, self.seconds, self.loss = 0, 0.0, math.nan
        self.done = 0.0  # share of the loop that is behind
        self._most: int | None = None  # texts that memory holds in one pass, once it has not
        if path.is_file():
            self._load()

    def steps(self, title: str) -> Iterator[int]:
        """Yield the number of each step until a limit is reached; the rate is set before each."""
        saved = time.perf_counter()
        memory = FreedMemory(kept=not torch.cuda.is_available())
        with memory, tqdm(total=100, desc=title, unit="%", disable=None) as bar:
            while (done := self.limits.done(self.step, self.seconds)) < 1:
                self.done = done
                start = time.perf_counter()
                rate = self.limits.rate(self.step, done)
                for group in (g for each in self.optimisers for g in each.param_groups):
                    group["lr"] = rate * group.get("scale", 1.0)
                yield self.step
                memory.step_over()
                self.step += 1
                self.seconds += time.perf_counter() - start
                bar.update(round(100 * done) - bar.n)
                if not math.isnan(self.loss):
                    bar.set_postfix(loss=f"{self.loss:.4f}", refresh=False)
                if time.perf_counter() - saved >= self.limits.save_seconds:
                    self.save()
                    saved = time.perf_counter()
        self.save()

    def learn(
        self,
        batch: Sequence[_Text],
        loss: Callable[[Sequence[_Text]], Tensor],
        size: Callable[[_Text], int],
        where: str,
    ) -> None:
        """Take one step down the gradient of the mean loss of a batch.

        loss: of some of its texts, a mean over numbers of which each text has `size`. Where a
        device has no memory for a batch, its gradient is that of its halves, and so on: of this
        batch and of all that follow.

        Raises DataError if the loss is no finite number, ConfigError if memory does not hold one
        text; the state saved before stays as it is.
        """
        while (value := self._gradient(batch, loss, size, where)) is None:
            most = min(self._most or len(batch), len(batch))
            if most == 1:
                raise ConfigError(
                    f"step {self.step}, {where}: expected memory for one text, found too little; "
                    "lower passage_words, set precision to bf16, or take a larger device"
                )
            self._most = -(-most // 2)
            torch.cuda.empty_cache()
        for optimiser in self.optimisers:
            optimiser.step()
        self.loss = (
            value if math.isnan(self.loss) else self.loss + (1 - _MEMORY) * (value - self.loss)
        )

    def _gradient(
        self,
        batch: Sequence[_Text],
        loss: Callable[[Sequence[_Text]], Tensor],
        size: Callable[[_Text], int],
        where: str,
    ) -> float | None:
        """Leave the gradient in the tables and return the loss; None for want of memory."""
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        most, whole, value = self._most or len(batch), sum(map(size, batch)), 0.0
        for first in range(0, len(batch), most):
            part = batch[first : first + most]
            share = sum(map(size, part)) / max(whole, 1)
            try:
                found = loss(part) * share
                value += float(found.detach())
                if not math.isfinite(value):
                    raise DataError(
                        f"step {self.step}, {where}: expected a finite loss, found {value}; look "
                        "at these texts, or lower learning_rate and begin in another folder than "
                        f"{self.path.parent}"
                    )
                found.backward()
            except torch.OutOfMemoryError:
                return None
        return value

    def save(self) -> None:
        """Write the state so that a process killed at any moment leaves the old one or this.

        Raises CheckpointError (disk full) with the old one kept.
        """
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "loss": self.loss,
            "precision": self.precision,
            "tables": {name: table.detach() for name, table in self.tables.items()},
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }
        with named_failure(self.path):
            handle, name = tempfile.mkstemp(
                dir=self.path.parent, prefix=f".{self.path.name}.", suffix=".tmp"
            )
            try:
                with os.fdopen(handle, "wb") as stream:
                    torch.save(state, stream)
                    stream.flush()
                    os.fsync(stream.fileno())
                Path(name).replace(self.path)
            finally:
                Path(name).unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove the saved state, of no use once the stage is finished."""
        self.path.unlink(missing_ok=True)

    def _load(self) -> None:
        with _readable(self.path):
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(saved)
            with torch.no_grad():
                for name, table in self.tables.items():
                    table.copy_(state["tables"][name])
            self.step, self.seconds, self.loss = state["step"], state["seconds"], state["loss"]


def precision_begun(path: Path) -> str | None:
    """Return the precision of a saved state's body; None if there is no state, or it is not said.

    Raises CheckpointError if the state is damaged.
    """
    if not path.is_file():
        return None
    with _readable(path):
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return str(state["precision"]) if "precision" in state else None


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (
        RuntimeError,
        ValueError,
        TypeError,
        KeyError,
        EOFError,
        OSError,
        pickle.UnpicklingError,
    ) as error:
        raise CheckpointError(
            f"{path}: expected the saved state of this stage, found {one_line(error)}; "
            "remove the file to begin the stage anew"
        ) from error


class Order:
    """Texts in random order, again and again, in batches: which ones belong to which step.

    They are shuffled anew for each pass; within a window of 16 batches those of similar length go
    together, so that little is computed for padding. A step's batch depends on the seed alone, so
    that a loop which was cut off goes on with the batches that it would have had.
    """

    def __init__(self, lengths: Sequence[int], size: int, seed: int) -> None:
        """Take the texts' lengths in tokens and how many of them are a batch."""
        self._lengths, self._size, self._seed = lengths, min(size, len(lengths)), seed
        self._pass, self._batches = -1, list[list[int]]()

    def batch(self, step: int) -> list[int]:
        """Return the indices of the texts of one step, counted from 0."""
        number, place = divmod(step, len(self._lengths) // self._size)
        if number != self._pass:
            self._pass, self._batches = number, self._shuffled(number)
        return self._batches[place]

    def _shuffled(self, number: int) -> list[list[int]]:
        generator = random.Random(f"{self._seed} {number}")
        order = generator.sample(range(len(self._lengths)), len(self._lengths))
        found: list[list[int]] = []
        for first in range(0, len(order), self._size * _WINDOW):
            window = order[first : first + self._size * _WINDOW]
            window.sort(key=lambda index: self._lengths[index])
            starts = list(range(0, len(window) - self._size + 1, self._size))
            generator.shuffle(starts)
            found += [window[start : start + self._size] for start in starts]
        return found
