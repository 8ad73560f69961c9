"""Checkpoints: Hugging Face folders that are complete only when their marker is there.

`hebench.json` is written last. A folder without it is a save that was cut off: it is never
resumed from, evaluated or counted, and the next save may take its place.

    >>> read_checkpoint(Path("runs/he/pretrain/checkpoint-200")).step
    200
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hebench.errors import CheckpointError, one_line
from hebench.files import sha256_of, write_atomically

MARKER = "hebench.json"
CHECKPOINT_SCHEMA = 1
TOKENIZER_NAME = "tokenizer.json"


@dataclass(frozen=True, kw_only=True)
class CheckpointRecord:
    """What a checkpoint is and where it came from: the content of its marker."""

    schema: int = CHECKPOINT_SCHEMA
    stage: str  # tokenizer, distil, calibrate, pretrain, sft or dpo
    run: str = ""  # name of the training run
    step: int = 0  # optimiser steps of this stage
    tokens: int = 0  # seen in this stage
    seed: int = 0
    loss_nats: float | None = None  # training loss per token, of the last log before the save
    world_size: int = 1  # processes that took part
    parent: str | None = None  # key of the stage, or path, that it started from
    config_sha256: str = ""  # of the stage's configuration
    tokenizer_sha256: str = ""  # of tokenizer.json
    data_sha256: str = ""  # of the training text
    metrics: Mapping[str, Any] = field(default_factory=dict)


def read_checkpoint(folder: Path) -> CheckpointRecord | None:
    """Return the record of a complete checkpoint, or None where there is no marker.

    Raises CheckpointError if the marker is damaged or of another schema.
    """
    path = folder / MARKER
    try:
        return CheckpointRecord(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path}: expected a checkpoint's record, found {one_line(error)}; remove the folder"
        ) from error


def mark_complete(folder: Path, record: CheckpointRecord) -> None:
    """Write the marker of a checkpoint whose other files are all on disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
    write_atomically(folder / MARKER, json.dumps(asdict(record), indent=2) + "\n")


def publish(folder: Path, write: Callable[[Path], None], record: CheckpointRecord) -> Path:
    """Write a checkpoint beside `folder`, mark it and move it there; return `folder`.

    write: puts the files into the folder that it is given. A complete checkpoint that stands
    there already is replaced; a process killed at any moment leaves the old one or the new one,
    and nothing that looks complete and is not. Raises OSError (disk full) with nothing changed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp"))
    try:
        write(work)
        work.chmod(0o755)
        mark_complete(work, record)
        if folder.exists():
            old = work.with_suffix(".old")
            folder.rename(old)
            work.rename(folder)
            shutil.rmtree(old)
        else:
            work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def save_model(folder: Path, model: Any, tokenizer: Any, record: CheckpointRecord) -> Path:
    """Publish a model and its tokenizer as a plain Hugging Face folder; return it."""

    def write(work: Path) -> None:
        model.save_pretrained(work)
        tokenizer.save_pretrained(work)

    return publish(folder, write, record)


def tokenizer_sha256(folder: Path) -> str:
    """Return the SHA-256 of a model folder's fast tokenizer, or "" where it has none."""
    path = folder / TOKENIZER_NAME
    return sha256_of(path) if path.is_file() else ""
