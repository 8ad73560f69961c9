"""What the table's column picker computes with: data/board.js and data/pairs/<column>.js.

    hebenchData("board", {"base": {"columns": ["hebench_mini_qa", ...], "units": [...], "rows": ...

A reader who chooses other columns gets means, intervals and rank sets from the same unrounded
numbers and by the same rules as `standings.ranking`; the files are loaded only then.
"""

import base64
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hebench.board.page import Site
from hebench.board.standings import Board, is_ranked


def files(site: Site) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each data file, in the order of tracks and columns."""
    board = site.board
    yield "data/board.js", _call("board", {track: _track(board, track) for track in board.tracks})
    for key in board.columns:
        upper = np.triu_indices(len(board.variances[key]), k=1)
        pairs = board.variances[key][upper].astype("<f4")  # rounded to 32 bits already
        payload = {"models": board.ranked(key), "v": _packed(pairs)}
        yield f"data/pairs/{key}.js", _call(f"pairs/{key}", payload)


def _track(board: Board, track: str) -> dict[str, Any]:
    """Return a track's columns with their units, and its rows in the order of models.yaml.

    A row is [slug, whether it is ranked, numbers]: for each column mean, standard error and
    units as 64-bit floats; NaN where the model was not run on all of it.
    """
    columns = board.columns_of(track)
    shown = {entry.slug for entry in board.rows(track)}
    rows = []
    for slug, entry in board.models.items():
        if slug not in shown:
            continue
        numbers = np.full((len(columns), 3), math.nan)
        for place, column in enumerate(columns):
            cell = board.cell(column.key, slug)
            if cell and not cell.partial:
                found = cell.interval
                numbers[place] = found.mean, found.standard_error, found.clusters
        rows.append([slug, is_ranked(entry), _packed(numbers.astype("<f8"))])
    return {
        "columns": [column.key for column in columns],
        "units": [column.units for column in columns],
        "rows": rows,
    }


def _packed(numbers: NDArray[Any]) -> str:
    return base64.b64encode(numbers.tobytes()).decode("ascii")


def _call(name: str, payload: Any) -> bytes:
    text = json.dumps(payload, separators=(",", ":"), allow_nan=False)
    return f"hebenchData({json.dumps(name)},{text})\n".encode()
