"""The item explorer: each item of a column, how hard it is, and what every model answered.

Pages of `packed.PAGE` items, readable and findable without scripts; on the first one a script
adds a search and "A right, B wrong". Texts are shown of the sets that the package carries.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from hebench.board.columns import Column
from hebench.board.difficulty import MIN_MODELS, ItemFacts
from hebench.board.documents import Field, documents, fields_of
from hebench.board.packed import PAGE, facts_of
from hebench.board.page import Page, Site
from hebench.board.show import MAX_NAME, visible
from hebench.board.standings import Board
from hebench.board.suite import Doc
from hebench.records import Answer

SHOWN_MODELS = 20  # whose answers stand in a page; of the others the data have the scores


@dataclass(frozen=True, kw_only=True)
class Group:
    """The models that gave one answer to an item."""

    text: Markup | None  # None where there is only a number, or nothing was kept
    choice: int | None  # number of the choice, from 1, where its text is not in the package
    nats: float | None  # log-likelihood of a text that was read
    score: float | None  # None: not judged
    slugs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Item:
    """One item as a page shows it."""

    anchor: str
    name: Markup
    cluster: int | None  # its number, from 1; None where items are independent
    fields: tuple[Field, ...]
    mean: float | None  # over the ranked models
    discrimination: float | None
    suspect: bool
    groups: tuple[Group, ...]
    not_run: int  # of the models shown, those that were not run on this item


def item_path(column: Column, place: int) -> str:
    """Return where the item at `place` (from 0) stands, below the folder of the language."""
    return f"items/{column.key}/{place // PAGE + 1}.html#{anchor(place)}"


def anchor(place: int) -> str:
    """Return an item's anchor: by its place, since an id may hold anything."""
    return f"item-{place + 1}"


def pages(site: Site) -> Iterator[Page]:
    """Yield the list of columns and the pages of each."""
    board = site.board
    facts = {key: facts_of(board, column) for key, column in board.columns.items()}
    yield Page(
        path="items/index.html",
        template="items_index.html",
        title="items.title",
        section="tasks",
        styles=("explore.css",),
        context={
            "facts": facts,
            "texts": {key: bool(documents(column)) for key, column in board.columns.items()},
            "min_models": MIN_MODELS,
        },
    )
    for key, column in board.columns.items():
        yield from _column_pages(board, column, facts[key])


def _column_pages(board: Board, column: Column, facts: ItemFacts) -> Iterator[Page]:
    docs = documents(column)
    slugs = [entry.slug for entry in board.rows(column.track) if entry.slug in column.scores]
    answers = {slug: _by_item(column, slug) for slug in slugs[:SHOWN_MODELS]}
    count = len(column.items)
    last = math.ceil(count / PAGE)
    for number in range(1, last + 1):
        places = range((number - 1) * PAGE, min(number * PAGE, count))
        yield Page(
            path=f"items/{column.key}/{number}.html",
            template="items.html",
            title="items.page_title",
            title_values={"task": column.key, "page": number},
            section="tasks",
            styles=("explore.css",),
            scripts=("assets/core.js", "assets/packed.js", "assets/items.js")
            if number == 1
            else (),
            context={
                "column": column,
                "facts": facts,
                "items": [_item(column, docs, facts, answers, place) for place in places],
                "texts": bool(docs),
                "slugs": slugs,
                "number": number,
                "last": last,
                "suspects": _suspects(column, facts) if number == 1 else (),
                "shown_models": SHOWN_MODELS,
                "more": max(0, len(slugs) - SHOWN_MODELS),
            },
        )


def _suspects(column: Column, facts: ItemFacts) -> list[tuple[str, Markup]]:
    """Return path and name of the suspected items."""
    return [
        (item_path(column, int(place)), visible(column.items[place], MAX_NAME))
        for place in facts.suspect.nonzero()[0]
    ]


def _by_item(column: Column, slug: str) -> dict[str, Answer | None]:
    """Return what a model answered, by the items that it was run on."""
    part = column.part(slug)
    return dict(zip(part.items, part.answers or [None] * len(part.items), strict=True))


def _item(
    column: Column,
    docs: dict[str, Doc],
    facts: ItemFacts,
    answers: dict[str, dict[str, Answer | None]],
    place: int,
) -> Item:
    name = column.items[place]
    doc = docs.get(name, {})
    ran = [slug for slug in answers if name in answers[slug]]
    given = [(answers[slug][name], _number(column.scores[slug][place]), slug) for slug in ran]
    return Item(
        anchor=anchor(place),
        name=visible(name, MAX_NAME),
        cluster=int(column.codes[place]) + 1 if column.units < len(column.items) else None,
        fields=tuple(fields_of(doc)),
        mean=_number(facts.mean[place]),
        discrimination=_number(facts.discrimination[place]),
        suspect=bool(facts.suspect[place]),
        groups=_groups(given, doc.get("choices", ())),
        not_run=len(answers) - len(ran),
    )


def _groups(
    given: Sequence[tuple[Answer | None, float | None, str]], choices: Sequence[str]
) -> tuple[Group, ...]:
    """Return the answers, each once, with the models that gave it: best score first.

    The same text can have two scores (a judge's, or an older scorer's): they stay apart.
    """
    found: dict[tuple[str | int | float | None, float | None], list[str]] = {}
    for answer, score, slug in given:
        found.setdefault((_said(answer), score), []).append(slug)
    order = sorted(found.items(), key=lambda item: _worst_last(item[0][1]))
    return tuple(
        Group(
            text=_text(said, choices),
            choice=said + 1 if isinstance(said, int) else None,
            nats=said if isinstance(said, float) else None,
            score=score,
            slugs=tuple(slugs),
        )
        for (said, score), slugs in order
    )


def _said(answer: Answer | None) -> str | int | float | None:
    """Return a text, the index of the likeliest choice (of equals the first), or nats."""
    if answer is None or isinstance(answer, str):
        return answer
    return answer.index(max(answer)) if len(answer) > 1 else float(answer[0])


def _text(said: str | int | float | None, choices: Sequence[str]) -> Markup | None:
    if isinstance(said, int) and said < len(choices):
        return visible(choices[said])
    return visible(said) if isinstance(said, str) else None


def _worst_last(score: float | None) -> float:
    return math.inf if score is None else -score


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
