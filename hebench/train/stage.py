"""A stage's folder: one job at a time, what it was asked, and its numbers when it is done.

`stage.json` is written when a stage begins (with `finished` null) and again, last of all, when it
ends. So a folder says whether it is complete, and a stage asked for again either returns what it
has, goes on from where it stopped, or refuses because it was asked for something else.

    with open_stage(out, "distil", config, {"model": sha}) as stage:
        if stage.record.finished:
            return stage.record
        ...
        return stage.finish({"relative_error": 0.3})
"""

import contextlib
import datetime
import fcntl
import importlib.metadata
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hebench.config import plain
from hebench.errors import ConfigError, DataError, one_line
from hebench.files import finite, require_writable, sha256_of_json, write_atomically
from hebench.train.checkpoints import sweep

STAGE_NAME = "stage.json"
STAGE_SCHEMA = 1
_PACKAGES = ("hebench", "torch", "transformers", "tokenizers", "accelerate", "deepspeed", "numpy")


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """What a stage was asked and what came out: the content of `stage.json`."""

    schema: int = STAGE_SCHEMA
    stage: str
    config: dict[str, Any]
    inputs: dict[str, str]  # SHA-256 of what it read, by name
    versions: dict[str, str] = field(default_factory=dict)  # of packages
    started: str  # ISO time, UTC
    finished: str | None = None  # None while it runs, or if it was cut off
    seconds: float | None = None  # of all runs that worked on it, but for killed ones
    metrics: dict[str, Any] = field(default_factory=dict)  # every number has its unit in its name

    @property
    def key(self) -> str:
        """Return a SHA-256 of what was asked: equal keys mean the same work."""
        return sha256_of_json({"stage": self.stage, "config": self.config, "inputs": self.inputs})


class Stage:
    """A stage folder that this process holds."""

    def __init__(self, folder: Path, record: StageRecord) -> None:
        """Hold `folder`, whose `stage.json` says `record`."""
        self.folder = folder
        self.record = record
        self._clock = time.perf_counter()

    def finish(self, metrics: Mapping[str, Any]) -> StageRecord:
        """Write the numbers, mark the stage complete, and return its record."""
        self._write(finished=_now(), metrics=plain(metrics))
        return self.record

    def leave(self) -> None:
        """Write how long this run took, if it did not finish the stage."""
        if self.record.finished is None:
            self._write()

    def _write(self, **changes: Any) -> None:
        seconds = (self.record.seconds or 0.0) + time.perf_counter() - self._clock
        self.record = replace(self.record, seconds=round(seconds, 3), **changes)
        _write(self.folder, self.record)


@contextlib.contextmanager
def open_stage(
    out: Path, name: str, config: Any, inputs: Mapping[str, str] | None = None
) -> Iterator[Stage]:
    """Give the stage folder `out`, locked for this process; it may be complete already.

    config: the stage's dataclass. inputs: SHA-256 of what it reads, by name. What writes that were
    cut off have left in it is removed. Raises ConfigError if another job holds the folder, or if
    it holds work of another configuration or input.
    """
    require_writable(out)
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"{out}: another job is at work in this folder; wait for it, or choose another"
            ) from error
        sweep(out)
        wanted = StageRecord(
            stage=name,
            config=plain(config),
            inputs=dict(inputs or {}),
            versions=_versions(),
            started=_now(),
        )
        earlier = read_stage(out)
        if earlier and earlier.key != wanted.key and not holds_work(out, earlier):
            earlier = None  # it failed before its first work: the command was mended
        if earlier and earlier.key != wanted.key:
            raise ConfigError(
                f"{out}: holds a stage that was asked for otherwise ({_difference(earlier, wanted)}"
                "); choose another folder, or remove this one"
            )
        if earlier is None:
            _write(out, wanted)
        stage = Stage(out, earlier or wanted)
        try:
            yield stage
        finally:
            with contextlib.suppress(OSError):  # of a full disk, say: the reason is on its way
                stage.leave()


def read_stage(folder: Path) -> StageRecord | None:
    """Return the record of a stage folder, or None if it holds none.

    Raises DataError if the file is damaged.
    """
    path = folder / STAGE_NAME
    if not path.is_file():
        return None
    try:
        return StageRecord(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{path}: expected a stage record of this version, found {one_line(error)}; "
            "remove the folder and run the stage again"
        ) from error


def holds_work(folder: Path, record: StageRecord) -> bool:
    """Return whether a stage folder holds more than what was asked of it."""
    return record.finished is not None or any(
        path.name not in {STAGE_NAME, ".lock"} for path in folder.iterdir()
    )


def _write(folder: Path, record: StageRecord) -> None:
    text = json.dumps(finite(asdict(record)), ensure_ascii=False, indent=2, allow_nan=False)
    write_atomically(folder / STAGE_NAME, text + "\n")


def _difference(earlier: StageRecord, wanted: StageRecord) -> str:
    """Return what differs between two requests, the first three by name."""
    found = []
    for part in ("stage", "config", "inputs"):
        old, new = _flat(getattr(earlier, part), part), _flat(getattr(wanted, part), part)
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                found.append(f"{name} was {old.get(name)}, is {new.get(name)}")
    return one_line("; ".join(found[:3]), 300)


def _flat(value: Any, name: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return {
            key: leaf
            for part, inner in value.items()
            for key, leaf in _flat(inner, f"{name}.{part}").items()
        }
    return {name: value}


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
