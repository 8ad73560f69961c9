"""From records to columns: each task's scores, item by item, for all models in one order of items.

>>> columns = read_columns(models, live(stored))
>>> columns["hebench_mini_qa"].scores["smollm2-135m-instruct"][:2]
array([0.  , 0.12])

A column's items are those of its longest run. A run of fewer items (`--limit`) is *partial*: it
is shown and marked, and enters no mean over tasks and no ranking. The reader's browser compares
models on the items that all of them answered, partial runs, too.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hebench.board.store import Stored
from hebench.board.suite import groups, split_key, task_info
from hebench.errors import DataError
from hebench.records import ModelEntry, TaskRecord

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Column:
    """One task on one split, with the scores of every model that was run on it."""

    key: str  # of this column on the board: `column_id` of the two below
    record_key: str  # of the task in a record: its name, or name.split
    track: str
    version: str
    shots: int
    total: int  # items of the split
    chance: float | None
    items: tuple[str, ...]
    codes: NDArray[np.int64]  # (items,), the cluster of each item
    units: int  # clusters: independent units
    scores: dict[str, Floats]  # slug -> (items,), NaN where not judged or not run
    ran: dict[str, int]  # slug -> items that were run; fewer than all: partial
    records: dict[str, Stored]  # slug -> the record that holds the scores

    @property
    def task(self) -> str:
        """Return the name of the task."""
        return split_key(self.record_key)[0]

    @property
    def split(self) -> str | None:
        """Return the split, None for the reported one."""
        return split_key(self.record_key)[1]

    @property
    def groups(self) -> tuple[str, ...]:
        """Return the groups of tasks that this one belongs to; a column of a split, to none."""
        if self.split:
            return ()
        return tuple(name for name, members in groups().items() if self.task in members)

    @property
    def headline(self) -> str:
        """Return what the score is, as the field names it."""
        return task_info(self.record_key).headline

    @functools.cached_property
    def binary(self) -> bool:
        """Return whether every score of every model, as far as judged, is 0 or 1."""
        scores = np.concatenate(list(self.scores.values()))
        judged = scores[~np.isnan(scores)]
        return bool(len(judged)) and bool(np.all((judged == 0) | (judged == 1)))

    def complete(self, slug: str) -> bool:
        """Return whether a model was run on every item of this column."""
        return self.ran.get(slug) == len(self.items)

    def part(self, slug: str) -> TaskRecord:
        """Return a model's task record."""
        return self.records[slug].record.tasks[self.record_key]


def read_columns(models: Mapping[str, ModelEntry], stored: Iterable[Stored]) -> dict[str, Column]:
    """Return the columns of live records, by key: groups of tasks in order, then the rest.

    Raises DataError if the items of a partial run are not among those of the longest one, or
    the clusters of two runs differ.
    """
    parts: dict[tuple[str, str], list[tuple[Stored, TaskRecord]]] = {}
    for item in stored:
        for key, task in item.record.tasks.items():
            parts.setdefault((key, models[item.record.model].track), []).append((item, task))
    order = {name: place for place, name in enumerate(_task_order())}
    names = sorted(parts, key=lambda name: (order.get(split_key(name[0])[0], len(order)), name))
    return {column_id(*name): _column(*name, parts[name]) for name in names}


def column_id(record_key: str, track: str) -> str:
    """Return a column's key: tracks have columns of their own, also for the same task.

    Safe as a file name and in a URL.
    """
    native = "chat" if "_chat_" in record_key else "base"
    return record_key if track == native else f"{record_key}--{track}"


def _task_order() -> list[str]:
    found = groups()
    first = ("hebench_mini", "hebench", "hebench_paper")
    names = [name for name in first if name in found] + [n for n in found if n not in first]
    return list(dict.fromkeys(task for name in names for task in found[name]))


def _column(key: str, track: str, parts: list[tuple[Stored, TaskRecord]]) -> Column:
    _, longest = max(parts, key=lambda part: len(part[1].items))
    codes = _codes(longest)
    place = {item: number for number, item in enumerate(longest.items)}
    scores, ran, records = {}, {}, {}
    for item, task in parts:
        slug = item.record.model
        values = np.array(task.metrics["score"], dtype=np.float64)  # None becomes NaN
        if task.items != longest.items:
            values = _aligned(values, task, place, f"{item.name}, {key}")
        elif task.clusters != longest.clusters:
            raise DataError(f"{item.name}, {key}: other clusters than in the other runs")
        scores[slug], ran[slug], records[slug] = values, len(task.items), item
    return Column(
        key=column_id(key, track),
        record_key=key,
        track=track,
        version=longest.version,
        shots=longest.shots,
        total=longest.total,
        chance=longest.chance,
        items=longest.items,
        codes=codes,
        units=int(codes.max()) + 1,
        scores=scores,
        ran=ran,
        records=records,
    )


def _codes(task: TaskRecord) -> NDArray[np.int64]:
    if task.clusters is None:
        return np.arange(len(task.items))
    return np.unique(np.array(task.clusters, dtype=np.int64), return_inverse=True)[1]


def _aligned(values: Floats, task: TaskRecord, place: dict[str, int], where: str) -> Floats:
    """Return the values of a partial run at the places of the whole one."""
    try:
        places = np.array([place[item] for item in task.items])
    except KeyError as error:
        raise DataError(
            f"{where}: item {error.args[0]!r} is in no longer run of this task; the runs are of "
            "different items"
        ) from error
    found = np.full(len(place), np.nan)
    found[places] = values
    return found
