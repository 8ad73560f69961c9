from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hebench.errors import DataError
from hebench.train import packing
from hebench.train.packing import IGNORED, PADDING, Piece, Rows, best_fit, cut, lay, write_rows

LENGTHS = st.lists(st.integers(1, 32), max_size=60)


def pieces_of(lengths: list[int]) -> list[Piece]:
    """Return pieces whose tokens tell piece and place: 1000 x piece + place."""
    return [Piece.whole(1000 * i + np.arange(n)) for i, n in enumerate(lengths)]


@pytest.mark.parametrize(
    ("lengths", "capacity", "rows"),
    [
        ([], 8, []),
        ([8], 8, [[0]]),
        ([3, 5, 2, 6], 8, [[3, 2], [1, 0]]),
        ([1, 1, 1], 2, [[0, 1], [2]]),
        # 4 goes to the row with room 4 and not to the one with room 5
        ([4, 5, 6, 4], 10, [[2, 0], [1, 3]]),
    ],
)
def test_each_item_goes_where_it_leaves_the_least_room(
    lengths: list[int], capacity: int, rows: list[list[int]]
) -> None:
    assert best_fit(lengths, capacity) == rows


@given(LENGTHS)
def test_rows_hold_every_item_once_and_no_two_half_empty_ones_remain(lengths: list[int]) -> None:
    rows = best_fit(lengths, 32)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    filled = [sum(lengths[index] for index in row) for row in rows]
    assert max(filled, default=0) <= 32
    assert sum(2 * used <= 32 for used in filled) <= 1


def test_an_item_longer_than_a_row_is_a_misuse() -> None:
    with pytest.raises(ValueError, match="item 1 is longer"):
        best_fit([3, 9], 8)


@given(st.integers(0, 100), st.integers(2, 20))
def test_cutting_loses_nothing_but_a_last_single_token(length: int, row_tokens: int) -> None:
    parts = cut(range(length), row_tokens)
    assert all(2 <= len(part) <= row_tokens for part in parts)
    joined = [int(token) for part in parts for token in part]
    lost = 1 if length % row_tokens == 1 else 0
    assert joined == list(range(length - lost))


def test_a_row_numbers_its_documents_and_counts_each_from_zero() -> None:
    answer = Piece(tokens=np.array([5, 6, 7]), trained=np.array([True, False, True]))
    row = lay([Piece.whole([7, 8, 9]), answer], row_tokens=8, padding_id=0)
    assert row["input_ids"].tolist() == [7, 8, 9, 5, 6, 7, 0, 0]
    assert row["labels"].tolist() == [IGNORED, 8, 9, IGNORED, IGNORED, 7, IGNORED, IGNORED]
    assert row["position_ids"].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert row["document_ids"].tolist() == [0, 0, 0, 1, 1, 1, PADDING, PADDING]


def test_a_row_without_documents_is_all_padding() -> None:
    row = lay([], row_tokens=8, padding_id=3)
    assert set(row["input_ids"]) == {3}
    assert set(row["document_ids"]) == {PADDING}


def test_pieces_that_do_not_fit_are_a_misuse() -> None:
    with pytest.raises(ValueError, match="do not fit a row of 8"):
        lay(pieces_of([5, 4]), row_tokens=8, padding_id=0)


@pytest.mark.parametrize("window", [1, 40, 10_000])
def test_rows_on_disk_are_the_rows_laid_in_memory_whatever_the_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(packing, "_WINDOW_TOKENS", window)
    lengths = [int(n) for n in np.random.default_rng(0).integers(2, 33, size=50)]
    record = write_rows(tmp_path / "rows", iter(pieces_of(lengths)), row_tokens=32, padding_id=9)
    rows = Rows(tmp_path / "rows")
    assert (record.pieces, record.tokens) == (50, sum(lengths))
    assert record.trained_tokens == sum(lengths) - 50
    found = []
    for row in (rows[index] for index in range(len(rows))):
        numbers = [int(n) for n in np.unique(row["document_ids"]) if n != PADDING]
        parts = [row["input_ids"][row["document_ids"] == number] for number in numbers]
        found += [(int(part[0]) // 1000, len(part)) for part in parts]
        again = lay([Piece.whole(part) for part in parts], row_tokens=32, padding_id=9)
        assert all(np.array_equal(row[name], again[name]) for name in again)
    assert sorted(found) == list(enumerate(lengths))


def test_packing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_rows(tmp_path / name, pieces_of([9, 4, 7, 30, 2] * 9), row_tokens=32, padding_id=0)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_rows_of_many_short_documents_are_nearly_full(tmp_path: Path) -> None:
    lengths = [int(n) for n in np.random.default_rng(1).geometric(0.02, size=2000).clip(2, 256)]
    record = write_rows(tmp_path / "rows", pieces_of(lengths), row_tokens=256, padding_id=0)
    assert record.filled > 0.99


def test_no_more_pieces_are_taken_than_the_rows_asked_for_need(tmp_path: Path) -> None:
    taken = []

    def endless() -> Iterator[Piece]:
        for number in range(10_000):
            taken.append(number)
            yield Piece.whole([1, 2, 3, 4, 5])

    record = write_rows(tmp_path / "r", endless(), row_tokens=32, padding_id=0, most_rows=7)
    assert record.rows == len(Rows(tmp_path / "r")) == 7
    assert len(taken) < 80


def test_packing_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[Piece]:
        yield Piece.whole([1, 2])
        raise DataError("damaged")

    with pytest.raises(DataError, match="damaged"):
        write_rows(tmp_path / "rows", broken(), row_tokens=32, padding_id=0)
    with pytest.raises(DataError, match="expected text to pack, found none"):
        write_rows(tmp_path / "rows", [], row_tokens=32, padding_id=0)
    assert list(tmp_path.iterdir()) == []


def test_rows_that_were_cut_short_are_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows", pieces_of([9, 9, 9, 30]), row_tokens=32, padding_id=0)
    path = tmp_path / "rows" / "tokens.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="remove the folder and run the stage again"):
        Rows(tmp_path / "rows")
