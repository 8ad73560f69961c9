"""The checkpoints of a run folder: which are there, complete, and what is known of them.

Two kinds are understood: ours, complete when `hebench.json` is there (`hebench.train.checkpoints`),
and those of a plain Hugging Face Trainer, complete when `trainer_state.json`, which it writes last
of what says anything, is there and no weight file is shorter than its own header says.

    >>> [each.name for each in complete(Path("runs/he/pretrain"))]
    ['checkpoint-100', 'checkpoint-200']
"""

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hebench.errors import CheckpointError
from hebench.files import sha256_of
from hebench.selection.log import Evaluated
from hebench.train.checkpoints import MARKER, read_checkpoint

TRAINER_STATE = "trainer_state.json"
PREFIX = "checkpoint-"
_MAX_HEADER = 100_000_000  # bytes, as safetensors itself allows


@dataclass(frozen=True, kw_only=True)
class Found:
    """A complete checkpoint."""

    folder: Path
    step: int
    tokens: int | None
    loss_nats: float | None  # per token
    seed: int | None
    mark: str  # SHA-256 of what marks it as complete: another one is another checkpoint
    averaged: tuple[str, ...] = ()  # of which checkpoints it is the mean

    @property
    def name(self) -> str:
        """Return its name in logs: that of its folder."""
        return self.folder.name


def complete(run: Path) -> list[Found]:
    """Return the complete `checkpoint-<step>` folders of a run, the newest step last.

    Raises CheckpointError if the run folder is not there.
    """
    if not run.is_dir():
        raise CheckpointError(f"expected a run folder with checkpoints, found nothing at {run}")
    found = []
    for folder in run.glob(f"{PREFIX}*"):
        if folder.name.removeprefix(PREFIX).isdecimal():
            each = look(folder)
            if each is not None:
                found.append(each)
    return sorted(found, key=lambda each: each.step)


def look(folder: Path) -> Found | None:
    """Return what a folder is known to be, or None while it is not complete, or no more there.

    Raises CheckpointError for a damaged marker of ours.
    """
    try:
        record = read_checkpoint(folder)
        if record is not None:
            return Found(
                folder=folder,
                step=record.step,
                tokens=record.tokens or None,
                loss_nats=record.loss_nats,
                seed=record.seed,
                mark=sha256_of(folder / MARKER),
                averaged=tuple(record.metrics.get("averaged", ())),
            )
        return _of_trainer(folder)
    except FileNotFoundError:  # removed while it was looked at
        return None


def is_done(found: Found, log: dict[str, Evaluated], asked: str) -> bool:
    """Return whether the log holds this very checkpoint on the items `asked` stands for."""
    entry = log.get(found.name)
    if entry is None or entry.settings.get("asked") != asked:
        return False
    return entry.settings.get("mark") in (None, found.mark)


def _of_trainer(folder: Path) -> Found | None:
    path = folder / TRAINER_STATE
    try:
        state: Any = json.loads(path.read_text(encoding="utf-8"))
        step = int(state["global_step"])
        losses = [line["loss"] for line in state["log_history"] if "loss" in line]
        tokens = int(state.get("num_input_tokens_seen") or 0) or None
    except (ValueError, KeyError, TypeError):  # half written
        return None
    weights = sorted(folder.glob("*.safetensors"))
    if not weights or not all(map(_is_whole, weights)) or not _has_all_shards(folder):
        return None
    loss = float(losses[-1]) if losses else math.nan
    return Found(
        folder=folder,
        step=step,
        tokens=tokens,
        loss_nats=loss if math.isfinite(loss) else None,
        seed=None,
        mark=sha256_of(path),
    )


def _is_whole(path: Path) -> bool:
    """Return whether a safetensors file is as long as its header says."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        if len(start) < 8:
            return False
        length = struct.unpack("<Q", start)[0]
        if length > min(_MAX_HEADER, size):
            return False
        try:
            header = json.loads(stream.read(length))
            ends = [part["data_offsets"][1] for name, part in header.items() if name[0] != "_"]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return False
    return bool(size == 8 + length + max(ends, default=0))


def _has_all_shards(folder: Path) -> bool:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return True
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError):
        return False
    return all((folder / name).is_file() for name in names)
