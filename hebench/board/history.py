"""What changed on the board, day by day, and who moved and why; from the records alone.

    >>> days = history(site.board)
    >>> days[0].date, days[0].new
    ('2026-11-10', ('run-x-s0-100', ...))

A record counts from the day it was added until the day of its tombstone. The board of each day
is computed anew by the code that computes today's, on the records that counted then, going
back from today: a column that only loses models on the way back keeps its scores, variances
and intervals, so that a year of days costs little more than the rankings.

Who is a model, a baseline or a chosen checkpoint is what models.yaml says today.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hebench.board.columns import Column, read_columns
from hebench.board.models_file import TRACKS
from hebench.board.show import percent
from hebench.board.standings import (
    Board,
    Ranking,
    Standing,
    interval_of,
    pair_variances,
    ranked,
    ranking,
    track_presets,
)
from hebench.board.store import Stored
from hebench.errors import DataError
from hebench.records import ModelEntry
from hebench.stats.intervals import Interval

Floats = NDArray[np.float64]
DAYS = 20  # shown, the newest
Counting = dict[tuple[str, str], Stored]  # (model, key of a record) -> the record that counts


@dataclass(frozen=True, kw_only=True)
class Move:
    """A model whose place or mean is not what it was; `before` or `after` is None off the list.

    reasons: codes, each with the models that it is about (none where it is the model itself):
    new, back, rerun, withdrawn, partial, columns; above, more, left, others.
    """

    slug: str
    before: Standing | None
    after: Standing | None
    reasons: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class TrackChange:
    """What a day did to the default ranking of a track."""

    track: str
    preset: str | None  # None: nobody is ranked any more
    preset_before: str | None
    added: tuple[str, ...]  # columns that the mean is now taken over, too
    removed: tuple[str, ...]
    moves: tuple[Move, ...]


@dataclass(frozen=True, kw_only=True)
class Day:
    """What changed on one day; models by slug, records by name, columns by key."""

    date: str
    new: tuple[str, ...]
    rerun: tuple[str, ...]
    withdrawn: tuple[Stored, ...]
    columns: tuple[str, ...]
    gone: tuple[str, ...]  # columns that no record counts for any more
    tracks: tuple[TrackChange, ...]
    unknown: bool  # the board of the day, or the one before, cannot be computed


@dataclass(frozen=True, kw_only=True)
class _State:
    """The board of one day, as far as a ranking needs it."""

    counting: Counting
    columns: dict[str, Column] | None  # None: its records do not go together
    variances: dict[str, Floats]
    rankings: dict[str, tuple[str, Ranking]]  # track -> default preset and its ranking


@dataclass
class _Measures:
    """Intervals of means that were computed before."""

    board: Board
    found: dict[tuple[Path, str, bool], Interval] = field(default_factory=dict)

    def of(self, column: Column, slug: str) -> Interval:
        path, whole = column.records[slug].path, column.complete(slug)
        today = self.board.columns.get(column.key)
        same = today and slug in today.records and today.records[slug].path == path
        if same and today and today.complete(slug) == whole:
            return self.board.cells[column.key, slug].interval
        place = (path, column.key, whole)
        if place not in self.found:
            self.found[place] = interval_of(column, slug)
        return self.found[place]


def history(board: Board, days: int = DAYS) -> tuple[Day, ...]:
    """Return the last `days` days on which anything changed, newest first."""
    dates = sorted({item.record.added for item in board.stored} | set(_gravestones(board)))
    measures = _Measures(board)
    now = _today(board)
    found = []
    for place in range(len(dates) - 1, max(-1, len(dates) - 1 - days), -1):
        before = _state(_counting(board, dates[place - 1]) if place else {}, now, measures)
        found.append(_day(dates[place], before, now, board))
        now = before
    return tuple(found)


def _gravestones(board: Board) -> Iterator[str]:
    for item in board.stored:
        if item.withdrawn:
            yield item.withdrawn.date


def _counting(board: Board, date: str) -> Counting:
    """Return the records that counted at the end of a day."""
    return {
        (item.record.model, key): item
        for item in board.stored
        if item.record.added <= date and not (item.withdrawn and item.withdrawn.date <= date)
        for key in item.record.tasks
    }


# --------------------------------------------------------------------- the board of a day


def _today(board: Board) -> _State:
    return _State(
        counting={
            (slug, column.record_key): stored
            for column in board.columns.values()
            for slug, stored in column.records.items()
        },
        columns=board.columns,
        variances=board.variances,
        rankings={
            track: (name, board.rankings[track, name])
            for track, presets in board.presets.items()
            for name in list(presets)[:1]
        },
    )


def _state(counting: Counting, later: _State, measures: _Measures) -> _State:
    """Return the state of an earlier day, made from a later one where that is possible."""
    models = measures.board.models
    if counting == later.counting:
        return later
    try:
        columns, kept = _columns(counting, later, models)
    except DataError:
        # What was withdrawn need not go together with what counted then: the day says so.
        return _State(counting=counting, columns=None, variances={}, rankings={})
    variances = {}
    for key, column in columns.items():
        if key in kept and later.columns:
            old = {slug: place for place, slug in enumerate(ranked(later.columns[key], models))}
            places = [old[slug] for slug in ranked(column, models)]
            variances[key] = later.variances[key][np.ix_(places, places)]
        else:
            variances[key] = pair_variances(column, models)
    rankings = {}
    for track, presets in track_presets(columns, models).items():
        name, keys = next(iter(presets.items()))
        rankings[track] = (
            name,
            _ranking(track, keys, columns, variances, later, measures),
        )
    return _State(counting=counting, columns=columns, variances=variances, rankings=rankings)


def _ranking(  # noqa: PLR0913, PLR0917 (what a ranking is made of)
    track: str,
    keys: tuple[str, ...],
    columns: dict[str, Column],
    variances: dict[str, Floats],
    later: _State,
    measures: _Measures,
) -> Ranking:
    """Return a ranking, the later one itself where no record behind it is another."""
    known, now = later.rankings.get(track, ("", None))[1], later.columns or {}
    same = known is not None and known.keys == keys
    if same and known and all(columns[key].records == now[key].records for key in keys):
        return known
    return ranking(track, keys, columns, measures.board.models, variances, measure=measures.of)


def _columns(
    counting: Counting, later: _State, models: Mapping[str, ModelEntry]
) -> tuple[dict[str, Column], set[str]]:
    """Return the columns of the records that count, and the keys of those cut from later ones."""
    parts: dict[tuple[str, str], dict[str, Stored]] = {}
    for (slug, key), item in counting.items():
        parts.setdefault((key, models[slug].track), {})[slug] = item
    old = {(column.record_key, column.track): column for column in (later.columns or {}).values()}
    cut: dict[str, Column] = {}
    anew: list[Stored] = []
    for place, records in parts.items():
        column = old.get(place)
        restricted = _restricted(column, records) if column else None
        if restricted:
            cut[restricted.key] = restricted
        else:
            anew += [_only(item, place[0]) for item in records.values()]
    # In the order of the board, which read_columns knows for all columns together.
    read = read_columns(models, anew)
    order = {key: place for place, key in enumerate(later.columns or {})}
    found = {**cut, **read}
    return {key: found[key] for key in sorted(found, key=lambda key: order.get(key, -1))}, set(cut)


def _restricted(column: Column, records: Mapping[str, Stored]) -> Column | None:
    """Return a later column with the models of these records only, None if that is not it."""
    known = all(
        slug in column.records and column.records[slug].path == item.path
        for slug, item in records.items()
    )
    if not known or not any(column.complete(slug) for slug in records):
        return None
    slugs = [slug for slug in column.scores if slug in records]
    return dataclasses.replace(
        column,
        scores={slug: column.scores[slug] for slug in slugs},
        ran={slug: column.ran[slug] for slug in slugs},
        records={slug: column.records[slug] for slug in slugs},
    )


def _only(item: Stored, key: str) -> Stored:
    """Return a record with one of its tasks."""
    record = dataclasses.replace(item.record, tasks={key: item.record.tasks[key]})
    return dataclasses.replace(item, record=record)


# ------------------------------------------------------------------------ what happened


def _day(date: str, before: _State, now: _State, board: Board) -> Day:
    seen = {item.record.model for item in board.stored if item.record.added < date}
    added = {item.record.model for item in board.stored if item.record.added == date}
    columns = [set(state.columns or {}) for state in (before, now)]
    unknown = before.columns is None or now.columns is None
    return Day(
        date=date,
        new=tuple(slug for slug in board.models if slug in added - seen),
        rerun=tuple(slug for slug in board.models if slug in added & seen),
        withdrawn=tuple(
            item for item in board.stored if item.withdrawn and item.withdrawn.date == date
        ),
        columns=() if unknown else tuple(key for key in now.columns or {} if key not in columns[0]),
        gone=() if unknown else tuple(key for key in before.columns or {} if key not in columns[1]),
        tracks=() if unknown else tuple(_track_changes(before, now, date, board)),
        unknown=unknown,
    )


def _track_changes(before: _State, now: _State, date: str, board: Board) -> Iterator[TrackChange]:
    for track in TRACKS:
        old_preset, old = before.rankings.get(track, (None, None))
        preset, new = now.rankings.get(track, (None, None))
        if old is new:
            continue
        keys, later = (found.keys if found else () for found in (old, new))
        moves = tuple(_moves(old, new or _nobody(track), before, now, date, board))
        if moves or set(keys) != set(later):
            yield TrackChange(
                track=track,
                preset=preset,
                preset_before=old_preset,
                added=tuple(key for key in later if key not in keys) if old else (),
                removed=tuple(key for key in keys if key not in later) if new else (),
                moves=moves,
            )


def _nobody(track: str) -> Ranking:
    return Ranking(track=track, keys=(), standings={}, missing={}, dof=0, critical=math.inf)


def _moves(  # noqa: PLR0913, PLR0917 (two rankings and what they rest on)
    old: Ranking | None, new: Ranking, before: _State, now: _State, date: str, board: Board
) -> Iterator[Move]:
    past = old.standings if old else {}
    entered = [slug for slug in new.standings if slug not in past]
    left = [slug for slug in past if slug not in new.standings]
    reran = [
        slug
        for slug in new.standings
        if slug in past and _records(before, slug, new.keys) != _records(now, slug, new.keys)
    ]
    first = {
        slug
        for slug in entered
        if all(i.record.added >= date for i in board.stored if i.record.model == slug)
    }
    keys = old.keys if old else ()
    changed = old is not None and set(keys) != set(new.keys)
    for slug in [*new.standings, *left]:
        standing, earlier = new.standings.get(slug), past.get(slug)
        if earlier is None:
            code = "new" if slug in first else "columns" if changed else "back"
            yield Move(slug=slug, before=None, after=standing, reasons=((code, ()),))
        elif standing is None:
            gone = _records(before, slug, keys) - _records(now, slug, keys)
            code = "withdrawn" if gone else "columns" if changed else "partial"
            yield Move(slug=slug, before=earlier, after=None, reasons=((code, ()),))
        elif _shown(earlier) != _shown(standing):
            own = [code for code, true in (("columns", changed), ("rerun", slug in reran)) if true]
            others = _others(slug, new, entered, left, reran)
            reasons = *((code, ()) for code in own), *others
            yield Move(slug=slug, before=earlier, after=standing, reasons=tuple(reasons))


def _others(
    slug: str, new: Ranking, entered: Sequence[str], left: Sequence[str], reran: Sequence[str]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield what other models did to a model's rank set."""
    mean = new.standings[slug].mean.mean
    above = tuple(name for name in entered if new.standings[name].mean.mean > mean)
    found = {
        "above": above,
        "more": tuple(name for name in entered if name not in above),
        "left": tuple(left),
        "others": tuple(name for name in reran if name != slug),
    }
    yield from ((code, names) for code, names in found.items() if names)


def _records(state: _State, slug: str, keys: Sequence[str]) -> set[tuple[str, Path]]:
    """Return which record holds a model's scores in each of some columns."""
    columns = state.columns or {}
    return {
        (key, columns[key].records[slug].path)
        for key in keys
        if key in columns and slug in columns[key].records
    }


def _shown(standing: Standing) -> tuple[int, int, str]:
    return standing.low, standing.high, percent(standing.mean.mean)
