"""Checkpoints: Hugging Face folders that are complete only when their marker is there.

`hebench.json` is written last. A folder without it is a save that was cut off: it is never
resumed from, evaluated or counted, and the next save may take its place.

    >>> read_checkpoint(Path("runs/he/pretrain/checkpoint-200")).step
    200
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hebench.errors import CheckpointError, one_line
from hebench.files import sha256_of, sha256_of_files, write_atomically

MARKER = "hebench.json"
PIN = "hebench.pin"  # its presence keeps a checkpoint from rotation
CHECKPOINT_SCHEMA = 1
TOKENIZER_NAME = "tokenizer.json"
_CUT_OFF = ".tmp"  # ends the hidden names of saves and removals under way
_NO_WRITE = ("PytorchStreamWriter", "inline_container", "iostream error")  # torch.save's words


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


def can_be_a_model(folder: Path, record: CheckpointRecord) -> bool:
    """Return whether a stage can begin anew with a checkpoint's weights alone.

    Not with adapters, which are no model, nor in DPO, which would take them for its reference.
    """
    return record.stage != "dpo" and (folder / "config.json").is_file()


def mark_complete(folder: Path, record: CheckpointRecord) -> None:
    """Write the marker of a checkpoint whose other files are all on disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o644)  # safetensors writes for its owner alone; a cluster's users share
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
    write_atomically(folder / MARKER, json.dumps(asdict(record), indent=2) + "\n")


def publish(folder: Path, write: Callable[[Path], None], record: CheckpointRecord) -> Path:
    """Write a checkpoint beside `folder`, mark it and move it there; return `folder`.

    write: puts the files into the folder that it is given. Raises CheckpointError (disk full) with
    nothing changed; about a complete checkpoint that stands there already see `settle`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with named_failure(folder):
        work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=_CUT_OFF))
        try:
            write(work)
            work.chmod(0o755)
            settle(work, folder, record)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return folder


@contextlib.contextmanager
def named_failure(path: Path) -> Iterator[None]:
    """Turn a failed write of `path` into a CheckpointError that says what a next run begins with.

    A full disk is an OSError to Python, an exception of its own to safetensors, and a RuntimeError
    to torch.save.
    """
    from safetensors import SafetensorError  # here: checkpoints are read where it is not installed

    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(sign in str(error) for sign in _NO_WRITE):
            raise  # another failure than torch.save's
        free = shutil.disk_usage(path.parent).free
        kept = complete_checkpoints(path.parent)
        good = f", which goes on from {kept[-1].name}" if kept else ""
        raise CheckpointError(
            f"{path}: expected to write it, found {one_line(error, 200)} and "
            f"{free:,} bytes free; make room on the disk and run again{good}"
        ) from error


def settle(work: Path, folder: Path, record: CheckpointRecord) -> None:
    """Mark the checkpoint in `work`, a neighbour of `folder`, and move it there.

    What stands there is replaced. A process killed at any moment leaves nothing that looks
    complete and is not; killed between the two renames of a replacement, it leaves neither.
    """
    mark_complete(work, record)
    if folder.exists():
        discard(folder)
    work.rename(folder)
    _sync(folder.parent)


def discard(folder: Path) -> None:
    """Remove a checkpoint: out of sight at once, so that a half-removed one is never read."""
    hidden = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=_CUT_OFF))
    folder.rename(hidden)
    shutil.rmtree(hidden)


def sweep(run: Path) -> None:
    """Remove what writes and removals that were cut off left in a folder of a run.

    Only the process that holds the run may call it; `open_stage` does, for the run's own folder.
    """
    for path in run.glob(f".*{_CUT_OFF}"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def complete_checkpoints(run: Path) -> list[Path]:
    """Return the complete `checkpoint-<step>` folders of a run, the newest step last."""
    found = {}
    for path in run.glob("checkpoint-*"):
        number = path.name.removeprefix("checkpoint-")
        if number.isdecimal() and read_checkpoint(path):
            found[int(number)] = path
    return [found[step] for step in sorted(found)]


def pin(folder: Path, reason: str) -> None:
    """Keep a checkpoint from rotation; `reason` is one line, stored beside it.

    Raises FileNotFoundError, and makes no folder, where it has gone already.
    """
    (folder / PIN).write_text(one_line(reason) + "\n", encoding="utf-8")


def unpin(folder: Path) -> None:
    """Let rotation take a checkpoint again."""
    (folder / PIN).unlink(missing_ok=True)


def rotate(run: Path, keep: int) -> list[Path]:
    """Remove all but the newest `keep` complete checkpoints and the pinned ones; return those."""
    old = complete_checkpoints(run)[:-keep]
    gone = [folder for folder in old if not (folder / PIN).exists()]
    for folder in gone:
        discard(folder)
    return gone


def _sync(folder: Path) -> None:
    """Have a folder's entries on the disk, not only its files."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save_model(folder: Path, model: Any, tokenizer: Any, record: CheckpointRecord) -> Path:
    """Publish a model and its tokenizer as a plain Hugging Face folder; return it."""

    def write(work: Path) -> None:
        model.save_pretrained(work)
        tokenizer.save_pretrained(work)

    return publish(folder, write, record)


def model_sha256(folder: Path) -> str:
    """Return one SHA-256 that stands for a model folder: of its record, or of all its files.

    Raises CheckpointError if it is no folder of a model.
    """
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder}: expected a Hugging Face model folder with config.json, found none; "
            "give the folder of a model"
        )
    if (folder / MARKER).is_file():
        return sha256_of(folder / MARKER)
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return sha256_of_files(files, "hash of the model")


def tokenizer_sha256(folder: Path) -> str:
    """Return the SHA-256 of a model folder's fast tokenizer, or "" where it has none."""
    path = folder / TOKENIZER_NAME
    return sha256_of(path) if path.is_file() else ""
