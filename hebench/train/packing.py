"""Packing: documents laid into rows of one length, so that no computation goes to padding.

A row holds whole documents and pieces of long ones; each is numbered, counts its positions from
0 and is attended to by nobody else (`hebench.train.device` makes the mask). Rows are written once
to memory-mapped files, so that a corpus larger than memory can be trained on.

    >>> best_fit([3, 5, 2, 6], capacity=8)      # indices of documents, row by row
    [[3, 2], [1, 0]]
    >>> row = lay([Piece.whole([7, 8, 9]), Piece.whole([5, 6])], row_tokens=6, padding_id=0)
    >>> row["position_ids"].tolist(), row["labels"].tolist()
    ([0, 1, 2, 0, 1, 0], [-100, 8, 9, -100, 6, -100])

Shapes: n is a piece's length, L a row's.
"""

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hebench.errors import DataError, one_line
from hebench.files import write_atomically

IGNORED = -100  # a label that no loss counts
PADDING = -1  # document number of padding
ROWS_NAME = "rows.json"
_WINDOW_TOKENS = 4_000_000  # packed at a time: bounds the memory, costs no more than its last rows
_MOST_PIECES = 65_535  # of a row: pieces are numbered in 16 bits
_FILES = {"tokens": np.uint32, "pieces": np.uint16, "trained": np.bool_}

Tokens = npt.NDArray[np.int64]
Row = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Part or whole of a document: token ids and which of them are targets, both (n,)."""

    tokens: Tokens
    trained: npt.NDArray[np.bool_]

    @classmethod
    def whole(cls, tokens: Sequence[int] | Tokens) -> "Piece":
        """Return a piece all of whose tokens are targets; the first, unseen by any, never is."""
        ids = np.asarray(tokens, dtype=np.int64)
        return cls(tokens=ids, trained=np.ones(len(ids), dtype=bool))


@dataclass(frozen=True, kw_only=True)
class RowsRecord:
    """What a folder of packed rows holds."""

    rows: int
    row_tokens: int
    padding_id: int
    pieces: int
    tokens: int  # of the pieces, without padding
    trained_tokens: int  # targets

    @property
    def filled(self) -> float:
        """Return the share of positions that are not padding, in [0, 1]."""
        return self.tokens / max(1, self.rows * self.row_tokens)


def cut(tokens: Sequence[int] | Tokens, row_tokens: int) -> list[Tokens]:
    """Return a document's ids in pieces of at most a row; a last one of one token is dropped.

    A piece that continues a document starts at position 0 and sees nothing before it.
    """
    ids = np.asarray(tokens, dtype=np.int64)
    parts = [ids[start : start + row_tokens] for start in range(0, len(ids), row_tokens)]
    return [part for part in parts if len(part) > 1]  # one token has no target


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Return rows of indices: each item, longest first, goes where it leaves the least room.

    Deterministic: of equals, the lower index comes first. Raises ValueError for an item longer
    than a row. (Best-fit decreasing: at most 11/9 of the best number of rows, Johnson 1973.)
    """
    rows: list[list[int]] = []
    waiting: list[list[int]] = [[] for _ in range(capacity + 1)]  # rows by room left
    rooms = 0  # bit r: a row with room r is waiting; finds the tightest in one shift
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[index]
        if length > capacity:
            raise ValueError(f"item {index} is longer ({length}) than a row ({capacity})")
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = waiting[room].pop(0)
            if not waiting[room]:
                rooms &= ~(1 << room)
        else:
            room, row = capacity, len(rows)
            rows.append([])
        rows[row].append(index)
        waiting[room - length].append(row)
        rooms |= 1 << (room - length)
    return rows


def lay(pieces: Sequence[Piece], row_tokens: int, padding_id: int) -> Row:
    """Return one row: `input_ids`, `labels`, `position_ids`, `document_ids`, all (L,) int64.

    Padding is a document of its own, numbered -1. Raises ValueError if the pieces do not fit.
    """
    lengths = [len(piece.tokens) for piece in pieces]
    used = sum(lengths)
    if used > row_tokens or len(pieces) > _MOST_PIECES:
        raise ValueError(f"{len(pieces)} pieces of {used} tokens do not fit a row of {row_tokens}")
    tokens = np.full(row_tokens, padding_id, dtype=np.int64)
    trained = np.zeros(row_tokens, dtype=bool)
    numbers = np.full(row_tokens, PADDING, dtype=np.int64)
    if pieces:
        tokens[:used] = np.concatenate([piece.tokens for piece in pieces])
        trained[:used] = np.concatenate([piece.trained for piece in pieces])
        numbers[:used] = np.repeat(np.arange(len(pieces)), lengths)
    return _finished(tokens, trained, numbers)


def _finished(tokens: Tokens, trained: npt.NDArray[np.bool_], numbers: Tokens) -> Row:
    """Return the row that ids, targets and document numbers, each (L,), describe."""
    first = np.ones(len(tokens), dtype=bool)
    first[1:] = numbers[1:] != numbers[:-1]
    starts = np.maximum.accumulate(np.where(first, np.arange(len(tokens)), 0))
    return {
        "input_ids": tokens,
        "labels": np.where(trained & ~first, tokens, IGNORED),
        "position_ids": np.arange(len(tokens)) - starts,
        "document_ids": numbers,
    }


def write_rows(
    folder: Path,
    pieces: Iterable[Piece],
    *,
    row_tokens: int,
    padding_id: int,
    most_rows: int | None = None,
) -> RowsRecord:
    """Pack pieces into a new folder of memory-mapped rows, in bounded memory; return its record.

    most_rows: enough; no more pieces are taken then. The folder appears whole or not at all.
    Raises DataError if no piece came.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp"))
    try:
        record = _write(work, iter(pieces), row_tokens, padding_id, most_rows)
        if not record.rows:
            raise DataError(f"{folder}: expected text to pack, found none; give another corpus")
        write_atomically(work / ROWS_NAME, json.dumps(asdict(record), indent=2) + "\n")
        work.chmod(0o755)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return record


def _write(
    work: Path, pieces: Iterator[Piece], row_tokens: int, padding_id: int, most_rows: int | None
) -> RowsRecord:
    counts = {"rows": 0, "pieces": 0, "tokens": 0, "trained_tokens": 0}
    streams = {name: (work / f"{name}.bin").open("wb") for name in _FILES}
    try:
        while most_rows is None or counts["rows"] < most_rows:
            wanted = _WINDOW_TOKENS
            if most_rows is not None:  # a window cut off later would keep the long ones only
                wanted = min(wanted, (most_rows - counts["rows"]) * row_tokens)
            window = _window(pieces, wanted)
            if not window:
                break
            rows = best_fit([len(piece.tokens) for piece in window], row_tokens)
            left = len(rows) if most_rows is None else most_rows - counts["rows"]
            for indices in rows[:left]:
                row = lay([window[index] for index in indices], row_tokens, padding_id)
                inside = row["document_ids"] != PADDING
                trained = row["labels"] != IGNORED
                row["document_ids"][~inside] = _MOST_PIECES
                values = (row["input_ids"], row["document_ids"], trained)
                for (name, kind), value in zip(_FILES.items(), values, strict=True):
                    streams[name].write(value.astype(kind).tobytes())
                counts["rows"] += 1
                counts["pieces"] += len(indices)
                counts["tokens"] += int(inside.sum())
                counts["trained_tokens"] += int(trained.sum())
    finally:
        for stream in streams.values():
            stream.close()
    return RowsRecord(row_tokens=row_tokens, padding_id=padding_id, **counts)


def _window(pieces: Iterator[Piece], tokens: int) -> list[Piece]:
    """Return the next pieces, as many as have `tokens` tokens in all."""
    window: list[Piece] = []
    while tokens > 0 and (piece := next(pieces, None)) is not None:
        window.append(piece)
        tokens -= len(piece.tokens)
    return window


class Rows:
    """The rows of a folder, as a map-style data set: `rows[i]` is what `lay` returned."""

    def __init__(self, folder: Path) -> None:
        """Open a folder. Raises DataError if it is not whole."""
        path = folder / ROWS_NAME
        try:
            self.record = RowsRecord(**json.loads(path.read_text(encoding="utf-8")))
            shape = (self.record.rows, self.record.row_tokens)
            self._arrays = {
                name: np.memmap(folder / f"{name}.bin", dtype=kind, mode="r", shape=shape)
                for name, kind in _FILES.items()
            }
        except (OSError, ValueError, TypeError) as error:
            raise DataError(
                f"{folder}: expected packed rows, found {one_line(error)}; remove the folder "
                "and run the stage again"
            ) from error

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.record.rows

    def __getitem__(self, index: int) -> Row:
        """Return row `index`."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        numbers = self._arrays["pieces"][index].astype(np.int64)
        numbers[numbers == _MOST_PIECES] = PADDING
        tokens = self._arrays["tokens"][index].astype(np.int64)
        return _finished(tokens, np.asarray(self._arrays["trained"][index]), numbers)
