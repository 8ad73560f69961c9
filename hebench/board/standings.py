"""Every number of the board: intervals, sets of the best, means over tasks, rank sets.

    >>> board = standings(models, stored)
    >>> board.cell("hebench_mini_qa", "smollm2-135m-instruct").interval.text()
    '4.4 [3.0, 5.8]'

Three kinds of rows: models, the checkpoints of a training run, and baselines (no model at all).
Only models and the *chosen* checkpoint of a run are ranked, and only within a track; baselines
mark the floor. Numbers are computed from the items' scores and from nothing else.
"""

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hebench.board.columns import Column, read_columns
from hebench.board.models_file import TRACKS
from hebench.board.store import Stored, live
from hebench.board.suite import groups
from hebench.records import ModelEntry
from hebench.stats.intervals import Interval, mean_interval
from hebench.stats.macro import MacroMean, macro_mean
from hebench.stats.ranks import difference_variances, rank_sets

Floats = NDArray[np.float64]
Measure = Callable[[Column, str], Interval]  # the interval of a model's mean in a column
SATURATED = 0.99  # an interval that reaches this leaves no room to be better


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model on one column."""

    interval: Interval
    partial: bool  # fewer items than the column has
    best: bool  # not distinguishable from the best model of the column, all pairs at once
    record: str  # name of the record


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One model's place in a ranking."""

    mean: MacroMean
    low: int  # best possible rank
    high: int
    p_best: float


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The models of a track by their mean over a set of columns, as far as it can be known."""

    track: str
    keys: tuple[str, ...]
    standings: dict[str, Standing]  # slug -> standing, best mean first
    missing: dict[str, tuple[str, ...]]  # slug -> columns that it lacks, so that it has no mean
    dof: float
    critical: float


@dataclass(frozen=True, kw_only=True)
class Board:
    """All that the site shows in numbers."""

    models: dict[str, ModelEntry]
    stored: list[Stored]
    columns: dict[str, Column]
    cells: dict[tuple[str, str], Cell]  # (column, slug)
    presets: dict[str, dict[str, tuple[str, ...]]]  # track -> preset -> columns
    rankings: dict[tuple[str, str], Ranking]  # (track, preset)
    variances: dict[str, Floats] = field(repr=False)  # column -> of ranked(column)'s pairs

    def cell(self, key: str, slug: str) -> Cell | None:
        """Return a model's cell of a column, None where it was not run."""
        return self.cells.get((key, slug))

    @property
    def tracks(self) -> tuple[str, ...]:
        """Return the tracks that have rows, in their order."""
        used = {self.models[slug].track for _, slug in self.cells}
        return tuple(track for track in TRACKS if track in used)

    @functools.cached_property
    def runs(self) -> dict[str, tuple[ModelEntry, ...]]:
        """Return the checkpoints that have scores by training run, in the order of models.yaml."""
        used = {slug for _, slug in self.cells}
        found: dict[str, list[ModelEntry]] = {}
        for slug, entry in self.models.items():
            if entry.checkpoint and slug in used:
                found.setdefault(entry.checkpoint.run, []).append(entry)
        return {name: tuple(entries) for name, entries in found.items()}

    def preset(self, track: str) -> str | None:
        """Return the set of columns that a track is ranked by first, None if it has no columns."""
        return next(iter(self.presets.get(track, {})), None)

    def rows(self, track: str) -> list[ModelEntry]:
        """Return the entries of a track that have scores: ranked, then the rest by name."""
        preset = self.preset(track)
        first = list(self.rankings[track, preset].standings) if preset else []
        used = {slug for _, slug in self.cells}
        rest = [
            slug
            for slug, entry in self.models.items()
            if entry.track == track and slug in used and slug not in first
        ]
        return [self.models[slug] for slug in first + sorted(rest, key=self._order)]

    def _order(self, slug: str) -> tuple[bool, bool, str]:
        entry = self.models[slug]
        return entry.kind == "baseline", entry.checkpoint is not None, entry.name

    def columns_of(self, track: str) -> list[Column]:
        """Return the columns of a track, in order."""
        return [column for column in self.columns.values() if column.track == track]

    def floor(self, key: str) -> tuple[float, str] | None:
        """Return the score of the best baseline of a column and its slug, None without one."""
        found = [
            (cell.interval.mean, slug)
            for (column, slug), cell in self.cells.items()
            if column == key and self.models[slug].kind == "baseline" and not cell.partial
        ]
        return max(found, default=None)

    def best(self, key: str) -> tuple[str, Interval] | None:
        """Return the ranked model with the highest score of a column, None without one."""
        found = [(slug, self.cells[key, slug].interval) for slug in self.ranked(key)]
        return max(found, key=lambda item: item[1].mean, default=None)

    def saturated(self, key: str) -> bool:
        """Return whether the best model's interval reaches the top of the scale."""
        best = self.best(key)
        return best is not None and best[1].high >= SATURATED

    def at_floor(self, key: str) -> bool:
        """Return whether no model is clearly better than chance and the best baseline."""
        floor = max(self.columns[key].chance or 0.0, (self.floor(key) or (0.0, ""))[0])
        cells = [self.cells[key, slug].interval for slug in self.ranked(key)]
        return bool(cells) and all(interval.low <= floor for interval in cells)

    def ranked(self, key: str) -> list[str]:
        """Return the slugs whose whole scores of a column are ranked, in the order of models."""
        return ranked(self.columns[key], self.models)


def is_ranked(entry: ModelEntry) -> bool:
    """Return whether a row takes part in rankings."""
    return entry.kind == "model" and (entry.checkpoint is None or entry.checkpoint.chosen)


def ranked(column: Column, models: Mapping[str, ModelEntry]) -> list[str]:
    """Return the slugs of a column that are ranked and complete, in the order of models.yaml."""
    return [slug for slug, entry in models.items() if is_ranked(entry) and column.complete(slug)]


def standings(models: Mapping[str, ModelEntry], stored: Sequence[Stored]) -> Board:
    """Return the board of the live records. Raises DataError as `read_columns` does."""
    columns = read_columns(models, live(list(stored)))
    variances = {key: pair_variances(column, models) for key, column in columns.items()}
    presets = track_presets(columns, models)
    cells = _cells(columns, models, variances)

    def known(column: Column, slug: str) -> Interval:
        return cells[column.key, slug].interval

    return Board(
        models=dict(models),
        stored=list(stored),
        columns=columns,
        cells=cells,
        presets=presets,
        rankings={
            (track, name): ranking(track, keys, columns, models, variances, measure=known)
            for track, found in presets.items()
            for name, keys in found.items()
        },
        variances=variances,
    )


def pair_variances(column: Column, models: Mapping[str, ModelEntry]) -> Floats:
    """Return the variances of the ranked models' pairwise differences in a column.

    Rounded to 32 bits, as the reader's browser gets them.
    """
    slugs = ranked(column, models)
    if not slugs:
        return np.zeros((0, 0))
    scores = np.stack([column.scores[slug] for slug in slugs])
    return difference_variances(scores, column.codes).astype(np.float32).astype(np.float64)


def ranking(  # noqa: PLR0913 (what a ranking is made of)
    track: str,
    keys: Sequence[str],
    columns: Mapping[str, Column],
    models: Mapping[str, ModelEntry],
    variances: Mapping[str, Floats],
    *,
    measure: Measure | None = None,
) -> Ranking:
    """Return the ranking of a track by the plain mean over `keys`.

    A model that lacks one of the columns has no mean: means over different tasks do not compare.
    measure: `interval_of`, or a look-up of what it gave before.
    """
    entries = [slug for slug, entry in models.items() if entry.track == track and is_ranked(entry)]
    missing = {
        slug: tuple(key for key in keys if not columns[key].complete(slug)) for slug in entries
    }
    whole = [slug for slug in entries if keys and not missing[slug]]
    missing = {slug: lacks for slug, lacks in missing.items() if lacks and len(lacks) < len(keys)}
    if not whole:
        return Ranking(
            track=track, keys=tuple(keys), standings={}, missing=missing, dof=0, critical=math.inf
        )
    measure = measure or interval_of
    means = {slug: mean_over([measure(columns[key], slug) for key in keys]) for slug in whole}
    total = np.zeros((len(whole), len(whole)))
    spread = []
    for key in keys:
        place_of = {slug: place for place, slug in enumerate(ranked(columns[key], models))}
        places = [place_of[slug] for slug in whole]
        part = variances[key][np.ix_(places, places)] / len(keys) ** 2
        total += part
        spread.append((part.sum(), columns[key].units - 1))
    dof = _pooled_dof(spread)
    ranks = rank_sets(np.array([means[slug].mean for slug in whole]), total, dof=dof)
    order = sorted(range(len(whole)), key=lambda place: -means[whole[place]].mean)
    return Ranking(
        track=track,
        keys=tuple(keys),
        standings={
            whole[place]: Standing(
                mean=means[whole[place]],
                low=int(ranks.low[place]),
                high=int(ranks.high[place]),
                p_best=float(ranks.p_best[place]),
            )
            for place in order
        },
        missing=missing,
        dof=dof,
        critical=ranks.critical,
    )


def _pooled_dof(spread: Sequence[tuple[float, int]]) -> float:
    """Return Satterthwaite's degrees of freedom of a sum of variances (part, dof of the part)."""
    if sum(part for part, _ in spread) == 0 or any(dof < 1 for _, dof in spread):
        return float(min(dof for _, dof in spread))
    whole = sum(part for part, _ in spread) ** 2
    return float(whole / sum(part**2 / dof for part, dof in spread))


def mean_over(intervals: Sequence[Interval]) -> MacroMean:
    """Return the mean of a model's scores on some columns, each column counted once."""
    return macro_mean(
        [interval.mean for interval in intervals],
        [interval.standard_error for interval in intervals],
        [interval.clusters for interval in intervals],
    )


def interval_of(column: Column, slug: str) -> Interval:
    """Return the interval of a model's mean score over the items that it was run on."""
    values = column.scores[slug]
    if column.complete(slug):
        return mean_interval(values, column.codes)
    part = column.part(slug)
    judged = np.array(part.metrics["score"], dtype=np.float64)  # None becomes NaN
    return mean_interval(judged, part.clusters)


def _cells(
    columns: Mapping[str, Column],
    models: Mapping[str, ModelEntry],
    variances: Mapping[str, Floats],
) -> dict[tuple[str, str], Cell]:
    found = {}
    for key, column in columns.items():
        best = _best_of(column, models, variances[key])
        for slug in column.scores:
            found[key, slug] = Cell(
                interval=interval_of(column, slug),
                partial=not column.complete(slug),
                best=slug in best,
                record=column.records[slug].name,
            )
    return found


def _best_of(column: Column, models: Mapping[str, ModelEntry], variances: Floats) -> set[str]:
    slugs = ranked(column, models)
    if len(slugs) < 2:
        return set()
    means = np.array([np.nanmean(column.scores[slug]) for slug in slugs])
    ranks = rank_sets(means, variances, dof=column.units - 1)
    return {slug for slug, best in zip(slugs, ranks.best_set, strict=True) if best}


def track_presets(
    columns: Mapping[str, Column], models: Mapping[str, ModelEntry]
) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return, for each track, the named sets of columns that a mean is taken over.

    `all`, and each group of tasks of which the board has every member: a part of a group under
    the group's name would mislead. The set with most complete models comes first, and of equals
    the one with more columns.
    """
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for track in TRACKS:
        own = {key: column for key, column in columns.items() if column.track == track}
        named = {
            name: tuple(key for key, column in own.items() if name in column.groups)
            for name, members in groups().items()
            if all(any(c.task == task and not c.split for c in own.values()) for task in members)
        }
        if own and tuple(own) not in named.values():
            named["all"] = tuple(own)
        if named:
            ranks = {name: _completeness(keys, own, models) for name, keys in named.items()}
            found[track] = dict(sorted(named.items(), key=lambda item: ranks[item[0]]))
    return found


def _completeness(
    keys: Sequence[str], columns: Mapping[str, Column], models: Mapping[str, ModelEntry]
) -> tuple[int, int]:
    whole = sum(
        is_ranked(entry) and all(columns[key].complete(slug) for key in keys)
        for slug, entry in models.items()
    )
    return -whole, -len(keys)


def shared_keys(board: Board, slugs: Iterable[str]) -> list[str]:
    """Return the columns on which all of these models were run whole."""
    names = list(slugs)
    return [key for key, column in board.columns.items() if all(column.complete(s) for s in names)]
