"""Compare models: any two in the browser, and a table of the leading pairs for all readers.

The script computes the paired test of `hebench.stats.paired` anew for the reader's choice of
models, columns and items. Without scripts the page has the pairs of each track's first models
over the columns of its first ranking.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from hebench.board.columns import Column
from hebench.board.page import Page, Site
from hebench.board.standings import Board
from hebench.records import ModelEntry
from hebench.stats.macro import pooled_error, student
from hebench.stats.multiplicity import holm
from hebench.stats.paired import minimum_detectable

SCRIPTS = tuple(f"assets/{name}.js" for name in ("core", "stats", "packed", "compare"))
LEADING = 10  # models of a track whose pairs are shown without scripts
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The mean difference of two ranked models over the columns of a ranking, first - second."""

    first: str  # slug; its mean is the higher one
    second: str
    difference: float
    low: float
    high: float
    p: float  # Holm-adjusted over the pairs of the track that are shown
    detectable: float


@dataclass(frozen=True, kw_only=True)
class Track:
    """What can be compared in one track."""

    name: str
    models: list[ModelEntry]
    columns: list[Column]
    presets: dict[str, tuple[str, ...]]
    preset: str | None  # the one that `pairs` are of
    pairs: tuple[Pair, ...]


def pages(site: Site) -> Iterator[Page]:
    """Yield the page of comparisons."""
    tracks = [_track(site.board, track) for track in site.board.tracks]
    yield Page(
        path="compare.html",
        template="compare.html",
        title="compare.title",
        section="compare",
        styles=("explore.css",),
        scripts=SCRIPTS if tracks else (),
        context={"tracks": tracks},
    )


def _track(board: Board, track: str) -> Track:
    preset = board.preset(track)
    return Track(
        name=track,
        models=board.rows(track),
        columns=board.columns_of(track),
        presets=board.presets[track],
        preset=preset,
        pairs=leading_pairs(board, track, preset) if preset else (),
    )


def leading_pairs(board: Board, track: str, preset: str) -> tuple[Pair, ...]:
    """Return every pair of the first LEADING models of a ranking, the better model first.

    The numbers are those of `paired.macro_difference`, from the variances that the rank sets
    use: no item is visited again. (Where an item was judged for only one of two models, the
    means here include it and a paired comparison would not.)
    """
    ranking = board.rankings[track, preset]
    slugs = list(ranking.standings)[:LEADING]
    units = [board.columns[key].units for key in ranking.keys]
    places = {key: board.ranked(key) for key in ranking.keys}
    found = []
    for first, second in itertools.combinations(slugs, 2):
        errors = [
            float(board.variances[key][of.index(first), of.index(second)] ** 0.5)
            for key, of in places.items()
        ]
        error, dof = pooled_error(errors, units)
        means = (ranking.standings[slug].mean.mean for slug in (first, second))
        difference = next(means) - next(means)
        low, high, p = student(difference, error, dof, LEVEL, lowest=-1.0)
        found.append(
            Pair(
                first=first,
                second=second,
                difference=difference,
                low=low,
                high=high,
                p=p,
                detectable=minimum_detectable(error, LEVEL),
            )
        )
    adjusted = holm(np.array([pair.p for pair in found]))
    return tuple(replace(pair, p=float(p)) for pair, p in zip(found, adjusted, strict=True))
