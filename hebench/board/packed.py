"""Scores packed for the reader's browser, which compares any two models item by item.

    >>> pack_scores(np.array([1.0, 0.0, 1.0]))
    'bBQ=='

The files are classic scripts that call `hebenchData(name, payload)`, so that they load from a
plain folder, too:

- `data/scores/<slug>.js`: {column: packed scores}
- `data/columns.js`: [{key, task, track, n, units, codes}], codes the packed clusters or null
- `data/items/<key>.js`: {ids, text, lead, page, mean, suspect}: text and lead (the normalised
  text that is searched, the beginning that is shown) are null for sets that are not in the
  package; mean over the ranked models, packed; suspect: places of suspected label errors
"""

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hebench.board.columns import Column
from hebench.board.difficulty import ItemFacts, item_facts
from hebench.board.documents import documents, lead, search_text
from hebench.board.page import Site
from hebench.board.standings import Board

Floats = NDArray[np.float64]

PAGE = 50  # items a page of the item explorer


def files(site: Site) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of every data file."""
    board = site.board
    yield "data/columns.js", script("columns", [_column(c) for c in board.columns.values()])
    for slug in board.models:
        scores = {
            key: pack_scores(column.scores[slug])
            for key, column in board.columns.items()
            if slug in column.scores
        }
        if scores:
            yield f"data/scores/{slug}.js", script(f"scores/{slug}", scores)
    for key, column in board.columns.items():
        yield f"data/items/{key}.js", script(f"items/{key}", _items(board, column))


def script(name: str, payload: Any) -> bytes:
    """Return a classic script that hands `payload` to the page under `name`.

    A lone surrogate, which UTF-8 has no bytes for, stands as its escape.
    """
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f'hebenchData("{name}",{text});\n'.encode("utf-8", "backslashreplace")


def pack_scores(scores: Floats) -> str:
    """Return scores in [0, 1] as text, NaN for an item that was not judged or not run.

    All 0 or 1: `b` and the base64 of their bits, the first item in the lowest bit. Otherwise
    `f` and the base64 of little-endian 32-bit numbers. These hold seven decimals of a number in
    [0, 1]: rounded to them (packed.js) they are what most metrics write, so that equal
    differences are equal in the browser, too.
    """
    if np.all((scores == 0) | (scores == 1)):
        return "b" + _base64(np.packbits(scores == 1, bitorder="little"))
    return "f" + _base64(scores.astype("<f4"))


def pack_codes(codes: NDArray[np.int64]) -> str | None:
    """Return the items' clusters as text, None where every item is its own.

    `2` or `4`, the bytes of a number, and the base64 of little-endian numbers.
    """
    if np.array_equal(codes, np.arange(len(codes))):
        return None
    size = 2 if codes.max() < 2**16 else 4
    return str(size) + _base64(codes.astype(f"<u{size}"))


def facts_of(board: Board, column: Column) -> ItemFacts:
    """Return the facts of a column's items, from the models that are ranked in it."""
    slugs = board.ranked(column.key)
    scores = np.array([column.scores[slug] for slug in slugs], dtype=np.float64)
    return item_facts(scores.reshape(len(slugs), len(column.items)))


def _column(column: Column) -> dict[str, Any]:
    return {
        "key": column.key,
        "task": column.task,
        "track": column.track,
        "n": len(column.items),
        "units": column.units,
        "codes": pack_codes(column.codes),
    }


def _items(board: Board, column: Column) -> dict[str, Any]:
    docs, facts = documents(column), facts_of(board, column)
    shown = [docs.get(item, {}) for item in column.items] if docs else None
    return {
        "ids": column.items,
        "text": shown and [search_text(doc) for doc in shown],
        "lead": shown and [lead(doc) for doc in shown],
        "page": PAGE,
        "mean": pack_scores(facts.mean),
        "suspect": np.flatnonzero(facts.suspect).tolist(),
    }


def _base64(array: NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")
