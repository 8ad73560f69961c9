"""The checkpoints of a run folder: which are there, complete, and what is known of them.

Two kinds are understood: ours, complete when `hebench.json` is there (`hebench.train.checkpoints`),
and those of a plain Hugging Face Trainer, complete when `trainer_state.json`, which it writes last
of what says anything, is there and no weight file is shorter than its own header says.

A checkpoint is known again by its mark: the same folder may hold another training's weights later.

    >>> [each.name for each in complete(Path("runs/he/pretrain"))]
    ['checkpoint-100', 'checkpoint-200']
"""

import hashlib
import json
import math
import struct
from collections.abc import Iterable
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
_PIECES, _PIECE = 8, 4096  # of a weight file, and bytes of each, that go into a mark


@dataclass(frozen=True, kw_only=True)
class Found:
    """A complete checkpoint."""

    folder: Path
    step: int
    tokens: int | None
    loss_nats: float | None  # per token
    seed: int | None
    mark: str  # SHA-256: another one is another checkpoint; our marker's, or see `_mark`
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


# Why the best of a run that is watched are pinned; gone again once others are better.
BEST_SO_FAR = "among the best so far (hebench watch --keep)"


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
    """Return whether the log holds this very checkpoint on the items `asked` stands for.

    A line without a mark is of a model in memory that was not saved just then: the weights that
    stand here now may be others.
    """
    entry = log.get(found.name)
    return entry is not None and any(
        settings.get("asked") == asked and settings.get("mark") == found.mark
        for settings in entry.all_settings
    )


def of_these(log: Iterable[Evaluated], there: Iterable[Found]) -> list[Evaluated]:
    """Return the lines of a log but those of weights in whose place others stand now."""
    marks = {found.name: found.mark for found in there}
    kept = []
    for entry in log:
        mark = entry.settings.get("mark")
        if mark is None or marks.get(entry.checkpoint, mark) == mark:
            kept.append(entry)
    return kept


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
        mark=_mark(path, weights),
    )


def _mark(state: Path, weights: Iterable[Path]) -> str:
    """Return the SHA-256 of a Trainer's state and of pieces of the weights, spread over each file.

    Until the first log nothing in the state depends on the data or the learning rate; and times
    of files, which would tell as well, change when a run is copied.
    """
    digest = hashlib.sha256(state.read_bytes())
    for path in weights:
        size = path.stat().st_size
        with path.open("rb") as stream:
            for place in range(_PIECES):
                stream.seek(max(0, size - _PIECE) * place // (_PIECES - 1))
                digest.update(stream.read(_PIECE))
    return digest.hexdigest()


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
