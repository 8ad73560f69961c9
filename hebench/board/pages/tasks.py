"""Task pages: what each column measures, how far its scores can be trusted, and how hard it is.

`tasks/index.html` lists the columns of each track by group; `tasks/<column>.html` is one column:
chance, baselines and ceiling, all models with their simultaneous rank sets, the hardest and the
easiest items, the smallest difference that it can show, and the data card.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from markdown_it import MarkdownIt
from markupsafe import Markup

from hebench.board import svg
from hebench.board.columns import Column
from hebench.board.numbers import method_words
from hebench.board.packed import facts_of
from hebench.board.page import Page, Site
from hebench.board.pages.items import item_path
from hebench.board.show import visible
from hebench.board.standings import Board, Cell
from hebench.board.suite import task_info
from hebench.catalogue import catalogue
from hebench.stats.intervals import Interval
from hebench.stats.paired import minimum_detectable
from hebench.stats.ranks import rank_sets

BINS = 10  # of the histogram of difficulty
EXTREMES = 10  # hardest and easiest items that are listed


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model on the page of a column."""

    slug: str
    cell: Cell
    ranks: tuple[int, int] | None  # None: not ranked


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the scores of a column are read against."""

    chance: float | None
    floor: tuple[float, str] | None  # score and slug of the best baseline
    best: tuple[str, Interval] | None  # of the ranked models
    saturated: bool
    at_floor: bool

    def marks(self, *, best: bool) -> dict[str, float]:
        """Return the places that interval bars mark: the floor, and the best model's mean."""
        floor = max(self.chance or 0.0, self.floor[0] if self.floor else 0.0)
        found = {"floor": floor} if self.floor or self.chance is not None else {}
        return found | ({"best": self.best[1].mean} if best and self.best else {})


@dataclass(frozen=True, kw_only=True)
class Difficulty:
    """How hard the items are for the ranked models."""

    models: int
    binary: bool  # an item's difficulty is the share of models that are right
    counts: tuple[int, ...]  # items in equal parts of [0, 1]
    hardest: tuple[tuple[str, Markup, float], ...]  # path, name, mean score
    easiest: tuple[tuple[str, Markup, float], ...]


def pages(site: Site) -> Iterator[Page]:
    """Yield the index of the columns and the page of each."""
    board = site.board
    references = {key: reference(board, key) for key in board.columns}
    yield Page(
        path="tasks/index.html",
        template="tasks.html",
        title="tasks.title",
        section="tasks",
        styles=("pages.css",),
        context={"groups": _groups(board), "references": references},
    )
    for key, column in board.columns.items():
        yield Page(
            path=f"tasks/{key}.html",
            template="task.html",
            title=f"task.{key}.title"
            if f"task.{key}.title" in catalogue("hebench.board")
            else "tasks.page_title",
            title_values={"task": key},
            section="tasks",
            styles=("pages.css",),
            context=_context(board, column, references[key]),
        )


def reference(board: Board, key: str) -> Reference:
    """Return what the scores of a column are read against."""
    return Reference(
        chance=board.columns[key].chance,
        floor=board.floor(key),
        best=board.best(key),
        saturated=board.saturated(key),
        at_floor=board.at_floor(key),
    )


def _groups(board: Board) -> dict[str, dict[str, list[Column]]]:
    """Return the columns of each track by the first complete group that has them, or `other`."""
    found: dict[str, dict[str, list[Column]]] = {}
    for track in board.tracks:
        names = [name for name in board.presets.get(track, {}) if name != "all"]
        own: dict[str, list[Column]] = {}
        for column in board.columns_of(track):
            name = next((n for n in names if column.key in board.presets[track][n]), "other")
            own.setdefault(name, []).append(column)
        found[track] = {name: own[name] for name in [*names, "other"] if name in own}
    return found


def _context(board: Board, column: Column, found: Reference) -> dict[str, object]:
    ranked, others = _rows(board, column)
    info = task_info(column.record_key)
    hashes = Counter(column.part(slug).prompt_sha256 for slug in _complete(column))
    data = {column.part(slug).data_sha256 for slug in _complete(column)}
    return {
        "svg": svg,
        "column": column,
        "info": info,
        "reference": found,
        "ranked": ranked,
        "others": others,
        "difficulty": difficulty(board, column),
        "detectable": detectable(board, column),
        "method_words": method_words,
        "prompts": sorted(hashes.items(), key=lambda item: (-item[1], item[0])),
        "data_hashes": sorted(data),
        "card": card_html(info.card_text()),
        "presets": [
            name
            for name, keys in board.presets[column.track].items()
            if column.key in keys and name != "all"
        ],
    }


def _complete(column: Column) -> list[str]:
    return [slug for slug in column.scores if column.complete(slug)]


def _rows(board: Board, column: Column) -> tuple[list[Row], list[Row]]:
    """Return the ranked models by falling score, then all other rows the same way."""
    slugs = board.ranked(column.key)
    ranks: dict[str, tuple[int, int]] = {}
    if slugs:
        means = np.array([board.cells[column.key, slug].interval.mean for slug in slugs])
        found = rank_sets(means, board.variances[column.key], dof=column.units - 1)
        pairs = zip(found.low.tolist(), found.high.tolist(), strict=True)
        ranks = dict(zip(slugs, pairs, strict=True))

    def row(slug: str) -> Row:
        return Row(slug=slug, cell=board.cells[column.key, slug], ranks=ranks.get(slug))

    def order(found: Row) -> tuple[float, str]:
        return -found.cell.interval.mean, found.slug

    rest = [row(slug) for slug in column.scores if slug not in ranks]
    return sorted(map(row, slugs), key=order), sorted(rest, key=order)


def detectable(board: Board, column: Column) -> float | None:
    """Return the smallest difference that a test of two typical ranked models finds (80 %).

    Typical: the pair of median standard error. None for fewer than two models.
    """
    variances = board.variances[column.key]
    upper = variances[np.triu_indices(len(variances), 1)]
    if not len(upper) or column.units < 2:
        return None
    return minimum_detectable(math.sqrt(float(np.median(upper))))


def difficulty(board: Board, column: Column) -> Difficulty | None:
    """Return how hard a column's items are; None without a ranked model."""
    facts = facts_of(board, column)
    judged = np.flatnonzero(~np.isnan(facts.mean))
    if not len(judged):
        return None
    counts, _ = np.histogram(facts.mean[judged], bins=BINS, range=(0.0, 1.0))
    order = judged[np.argsort(facts.mean[judged], kind="stable")]
    listed = min(EXTREMES, len(order) // 2)

    def named(place: int) -> tuple[str, Markup, float]:
        name = visible(column.items[place], 80)
        return item_path(column, place), name, float(facts.mean[place])

    return Difficulty(
        models=facts.models,
        binary=column.binary,
        counts=tuple(int(count) for count in counts),
        hardest=tuple(named(int(place)) for place in order[:listed]),
        easiest=tuple(named(int(place)) for place in order[::-1][:listed]),
    )


def card_html(text: str) -> Markup:
    """Return a data card as HTML: headings two levels down, no HTML of its own, no near links.

    A link within the repository leads nowhere from the site; its text stays.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    for token in tokens:
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
        inside, far = token.children or [], True
        kept = []
        for child in inside:
            if child.type == "link_open":
                far = str(child.attrGet("href")).startswith("https://")
                child.attrSet("rel", "nofollow noopener")
            if far or child.type not in {"link_open", "link_close"}:
                kept.append(child)
        token.children = kept if token.children else token.children
    return Markup(parser.renderer.render(tokens, parser.options, {}))
