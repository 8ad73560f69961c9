"""The selection log: `selection.jsonl` of a training run, one line for each evaluated checkpoint.

    {"schema": 1, "checkpoint": "checkpoint-200", "step": 200, "tokens": 102400, "loss_nats": 3.1,
     "weights_sha256": "…", "settings": {…}, "seconds": 41.0, "failed": {},
     "tasks": {"hebench_mini_nli": {"version": "1.0", "prompt_sha256": "…", "data_sha256": "…",
               "scores": "<float32, base64>", "margins": "<float32, base64>",
               "answers": "<float32, base64>", "clusters": null, "chance": 0.33}}}

Every item's score stands in the line, since two checkpoints are compared item by item; lines of
before there were `answers` have none. Lines are appended whole and under a lock, so that a callback
and several watchers can share a file. Two lines of the same weights are one evaluation with the
tasks of both, of a task in both the later scores; where the weights are others, as of a training
that went on from an earlier checkpoint and passed a step again, the later line counts. Half a line
at the end, which only a power cut can leave, counts as nothing and gives way to the next line.

    >>> log = read_log(Path("runs/he/selection.jsonl"))
    >>> [(entry.step, round(entry.score, 3)) for entry in log]
    [(100, 0.412), (200, 0.437)]
"""

import base64
import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from io import FileIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hebench.errors import DataError, one_line

LOG_NAME = "selection.jsonl"
LOG_SCHEMA = 1
Measure = Literal["score", "margin", "answer"]


@dataclass(frozen=True, kw_only=True)
class TaskItems:
    """The scores of one task's items; (n,), in the order of the task's documents.

    scores: in [0, 1], NaN where an item could not be judged. margins: the probability of the right
    choice among the choices; answers: the geometric mean probability of a byte of the right choice,
    2 ** -(bits per byte); both None where there are no choices. clusters: codes from 0 of items
    that are not independent; None where each stands for itself. chance: mean score, and margin, of
    a uniform guesser, None where there are no choices.
    """

    version: str
    prompt_sha256: str
    data_sha256: str
    scores: NDArray[np.float32]
    margins: NDArray[np.float32] | None = None
    answers: NDArray[np.float32] | None = None
    clusters: tuple[int, ...] | None = None
    chance: float | None = None

    @property
    def score(self) -> float:
        """Return the mean over judged items, NaN if none was."""
        judged = self.scores[~np.isnan(self.scores)]
        return float(judged.mean(dtype=np.float64)) if judged.size else math.nan

    def by(self, measure: Measure) -> NDArray[np.float32] | None:
        """Return the items' values of a measure, (n,), None where the task has none."""
        return {"score": self.scores, "margin": self.margins, "answer": self.answers}[measure]

    def chance_by(self, measure: Measure) -> float | None:
        """Return a uniform guesser's mean, None where it is not known: of `answer` it never is."""
        return None if measure == "answer" else self.chance

    @property
    def signature(self) -> tuple[str, str, str, int]:
        """Return what must agree for two checkpoints to be compared on this task."""
        return self.version, self.prompt_sha256, self.data_sha256, len(self.scores)


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """One checkpoint with its scores: a line of the log."""

    checkpoint: str  # its folder, relative to the run folder
    step: int  # of an average: that of its last member
    averaged: tuple[str, ...] = ()  # the checkpoints whose mean this is; it is on no curve then
    tokens: int | None = None  # seen in training so far
    loss_nats: float | None = None  # per token
    weights_sha256: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)  # dtype, batch size, limit, versions
    seconds: float = 0.0  # that the evaluation took
    tasks: Mapping[str, TaskItems]
    failed: Mapping[str, str] = field(default_factory=dict)  # task -> why it has no scores

    @property
    def score(self) -> float:
        """Return the mean of the tasks' scores, NaN if one of them has none."""
        return float(np.mean([task.score for task in self.tasks.values()] or [math.nan]))

    @property
    def all_settings(self) -> tuple[Mapping[str, Any], ...]:
        """Return the settings of all lines that were read as this one, the latest last."""
        return *self.settings.get("earlier", ()), self.settings


def append(path: Path, entry: Evaluated) -> None:
    """Add one line to the log, whole or not at all, safe beside other writers."""
    line = json.dumps(_plain(entry), ensure_ascii=False).encode() + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    # No buffer: closing one would write what a full disk had no room for, behind the cut.
    with path.open("ab+", buffering=0) as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        end = _end_of_lines(stream)
        try:
            os.ftruncate(stream.fileno(), end)
            rest = line
            while rest:
                rest = rest[stream.write(rest) :]
            os.fsync(stream.fileno())
        except OSError:  # disk full: no half line stays
            os.ftruncate(stream.fileno(), end)
            raise


def read_log(path: Path) -> tuple[Evaluated, ...]:
    """Return the evaluated checkpoints by step, each with the tasks of all its lines.

    A cut-off last line is no evaluation and is left out. Raises DataError, with the line, for
    anything else that is not a line of such a log, and if there is none.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected a selection log, found none; evaluate checkpoints first")
    found: dict[str, Evaluated] = {}
    for number, content in _objects(path):
        entry = _entry(content, f"{path} line {number}")
        before = found.get(entry.checkpoint)
        found[entry.checkpoint] = _joined(before, entry) if before else entry
    if not found:
        raise DataError(f"{path}: expected at least one evaluated checkpoint, found none")
    return tuple(sorted(found.values(), key=lambda entry: (entry.step, entry.checkpoint)))


def _joined(before: Evaluated, entry: Evaluated) -> Evaluated:
    """Return the later line with what an earlier one of the same weights has beside it."""
    for one, other in (
        (before.weights_sha256, entry.weights_sha256),
        (before.settings.get("mark"), entry.settings.get("mark")),
    ):
        if one and other and one != other:
            return entry
    # In memory a model is asked before it is saved: what was saved before is an earlier pass's.
    if before.settings.get("mark") and not entry.settings.get("mark"):
        return entry
    tasks = {**before.tasks, **entry.tasks}
    # Other items of a task took the place of those that were asked then.
    whole = all(tasks[name].signature == task.signature for name, task in before.tasks.items())
    asked = entry.settings.get("asked")
    earlier = [
        {key: value for key, value in settings.items() if key != "earlier"}
        for settings in before.all_settings
        if whole and settings.get("asked") != asked
    ]
    failed = {**before.failed, **entry.failed}
    return replace(
        entry,
        tokens=before.tokens if entry.tokens is None else entry.tokens,
        loss_nats=before.loss_nats if entry.loss_nats is None else entry.loss_nats,
        weights_sha256=entry.weights_sha256 or before.weights_sha256,
        settings={**entry.settings, "earlier": earlier},
        tasks=tasks,
        failed={name: why for name, why in failed.items() if name not in tasks},
    )


def _end_of_lines(stream: FileIO) -> int:
    """Return the position behind the last complete line."""
    end = stream.seek(0, os.SEEK_END)
    if end:
        stream.seek(end - 1)
        if stream.read(1) != b"\n":
            stream.seek(0)
            end = stream.read().rfind(b"\n") + 1
    return end


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of complete lines."""
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            content = json.loads(line)
            if not isinstance(content, dict):
                raise ValueError(f"a {type(content).__name__}")
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path} line {number}: expected a JSON object, found {one_line(error)}; "
                "remove the line"
            ) from error
        yield number, content


def _entry(content: dict[str, Any], where: str) -> Evaluated:
    if content.get("schema") != LOG_SCHEMA:
        raise DataError(
            f"{where}: expected schema {LOG_SCHEMA}, found {content.get('schema')!r}; "
            "use the hebench that wrote it"
        )
    try:
        values = {key: value for key, value in content.items() if key != "schema"}
        values["tasks"] = {
            name: _task(task, f"{where}, {name}") for name, task in content["tasks"].items()
        }
        values["averaged"] = tuple(content["averaged"])
        entry = Evaluated(**values)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise DataError(
            f"{where}: expected an evaluated checkpoint, found {one_line(error)}; remove the line"
        ) from error
    if not isinstance(entry.step, int) or not isinstance(entry.checkpoint, str):
        raise DataError(f"{where}: expected a checkpoint's name and step; remove the line")
    return entry


def _task(content: dict[str, Any], where: str) -> TaskItems:
    scores = _numbers(content["scores"], where)
    margins, answers = (
        None if content.get(key) is None else _numbers(content[key], where)
        for key in ("margins", "answers")
    )
    clusters = content["clusters"]
    for other in (margins, answers, clusters):
        if other is not None and len(other) != len(scores):
            raise DataError(
                f"{where}: expected {len(scores)} values, one an item, found {len(other)}; "
                "remove the line"
            )
    return TaskItems(
        version=content["version"],
        prompt_sha256=content["prompt_sha256"],
        data_sha256=content["data_sha256"],
        scores=scores,
        margins=margins,
        answers=answers,
        clusters=None if clusters is None else tuple(clusters),
        chance=content["chance"],
    )


def _numbers(packed: str, where: str) -> NDArray[np.float32]:
    found = np.frombuffer(base64.b64decode(packed, validate=True), dtype="<f4")
    known = found[~np.isnan(found)]
    if not found.size or not ((known >= 0) & (known <= 1)).all():
        raise DataError(f"{where}: expected values in [0, 1], found others; remove the line")
    return found


def _packed(values: NDArray[np.float32] | None) -> str | None:
    return None if values is None else base64.b64encode(values.astype("<f4").tobytes()).decode()


def _plain(entry: Evaluated) -> dict[str, Any]:
    tasks = {
        name: asdict(task)
        | {key: _packed(getattr(task, key)) for key in ("scores", "margins", "answers")}
        for name, task in entry.tasks.items()
    }
    values = {name: getattr(entry, name) for name in entry.__dataclass_fields__}
    return {"schema": LOG_SCHEMA} | values | {"tasks": tasks}
