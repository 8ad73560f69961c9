"""The main page: for each track one table of all its models, as far as an order can be known.

    >>> [page.path for page in pages(site)]
    ['index.html']

Tracks are never mixed in one ranking. Rows are in the HTML, best mean first; the scripts sort,
filter and compute other means, and what they do is in the URL's hash.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hebench.board.columns import Column
from hebench.board.page import Page, Site
from hebench.board.show import shown
from hebench.board.standings import Board, Cell, Standing, is_ranked, mean_over
from hebench.records import ModelEntry, Tombstone
from hebench.stats.macro import MacroMean

SCRIPTS = ("assets/core.js", "assets/packed.js", "assets/table.js")
LONG = 50  # rows; a longer table has columns of fixed width, so that sorting it stays quick
KINDS = ("model", "checkpoint", "baseline")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model's row."""

    entry: ModelEntry
    standing: Standing | None  # None: not ranked
    mean: MacroMean | None  # over the counted columns; None: lacks some
    lacks: int  # counted columns that it was not run on, or not whole
    cells: tuple[Cell | None, ...]  # one a column


@dataclass(frozen=True, kw_only=True)
class TrackTable:
    """The table of a track."""

    track: str
    columns: tuple[Column, ...]  # the counted ones first
    presets: dict[str, tuple[int, ...]]  # name -> places of its columns; the first is counted
    rows: dict[str, list[Row]]  # kind -> rows, best mean first
    scale: tuple[float, float]  # ends of the axis on which means are drawn
    licences: tuple[str, ...]

    @property
    def counted(self) -> tuple[int, ...]:
        """Return the places of the columns that the mean is taken over."""
        return next(iter(self.presets.values()))

    @property
    def long(self) -> bool:
        """Return whether the browser need not lay out every row to know the columns' widths."""
        return sum(len(found) for found in self.rows.values()) > LONG

    def keys(self, places: Sequence[int]) -> str:
        """Return the columns at these places as the browser's state names them."""
        return ",".join(self.columns[place].key for place in sorted(places))


def pages(site: Site) -> Iterator[Page]:
    """Yield the main page."""
    board = site.board
    tables = [track_table(board, track) for track in board.tracks]
    yield Page(
        path="index.html",
        template="table.html",
        title="table.title",
        context={
            "tables": tables,
            "withdrawn": withdrawn(board),
            "licence": licence,
        },
        section="table",
        scripts=SCRIPTS if tables else (),
    )


def track_table(board: Board, track: str) -> TrackTable:
    """Return the table of a track."""
    preset, keys = next(iter(board.presets[track].items()))
    own = board.columns_of(track)
    columns = sorted(own, key=lambda column: column.key not in keys)  # stable
    places = {column.key: place for place, column in enumerate(columns)}
    standings = board.rankings[track, preset].standings
    rows: dict[str, list[Row]] = {kind: [] for kind in KINDS}
    for entry in board.rows(track):
        row = _row(board, entry, columns, keys, standings.get(entry.slug))
        rows[_kind(entry)].append(row)
    for found in rows.values():
        found.sort(key=lambda row: -row.mean.mean if row.mean else math.inf)
    return TrackTable(
        track=track,
        columns=tuple(columns),
        presets={
            name: tuple(places[key] for key in members)
            for name, members in board.presets[track].items()
        },
        rows={kind: found for kind, found in rows.items() if found},
        scale=_scale([row.mean for found in rows.values() for row in found if row.mean]),
        licences=tuple(sorted({licence(entry) for entry in board.rows(track)} - {""})),
    )


def licence(entry: ModelEntry) -> str:
    """Return a model's licence as the table shows it and filters by it; empty if unknown."""
    return shown(entry.licence or "", 40)


def withdrawn(board: Board) -> list[tuple[ModelEntry, Tombstone]]:
    """Return the models that have no live record left, each with its last tombstone."""
    stones: dict[str, list[Tombstone | None]] = {}
    for item in board.stored:
        stones.setdefault(item.record.model, []).append(item.withdrawn)
    return [
        (board.models[slug], max((stone for stone in found if stone), key=lambda s: s.date))
        for slug, found in stones.items()
        if all(found)
    ]


def _row(
    board: Board,
    entry: ModelEntry,
    columns: Sequence[Column],
    keys: Sequence[str],
    standing: Standing | None,
) -> Row:
    cells = {column.key: board.cell(column.key, entry.slug) for column in columns}
    whole = [cell.interval for key in keys if (cell := cells[key]) and _counts(cell)]
    mean = None
    if standing:
        mean = standing.mean
    elif len(whole) == len(keys):
        mean = mean_over(whole)
    return Row(
        entry=entry,
        standing=standing,
        mean=mean,
        lacks=len(keys) - len(whole),
        cells=tuple(cells.values()),
    )


def _counts(cell: Cell) -> bool:
    return not cell.partial and cell.interval.n > 0


def _kind(entry: ModelEntry) -> str:
    if entry.kind == "baseline":
        return "baseline"
    return "model" if is_ranked(entry) else "checkpoint"


def _scale(means: Sequence[MacroMean]) -> tuple[float, float]:
    """Return the tens of percent around all intervals, as shares."""
    low = math.floor(10 * min((mean.low for mean in means), default=0)) / 10
    high = math.ceil(10 * max((mean.high for mean in means), default=1)) / 10
    return low, max(high, low + 0.1)
