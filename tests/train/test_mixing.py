import copy
import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hebench.errors import ConfigError
from hebench.train.mixing import Mixture, Ordered, rows_by_share, token_pieces, write_mixture
from hebench.train.packing import IGNORED, PADDING, Row
from tests.train.made_rows import SHARES, make_corpus


class Numbered:
    """Ten rows that say their number."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Row:
        return {"input_ids": np.array([index])}


@pytest.mark.parametrize(
    ("available", "shares", "rows"),
    [
        ({"he": 900, "en": 400}, {"he": 0.5, "en": 0.5}, {"he": 400, "en": 400}),
        ({"he": 90, "en": 400}, {"he": 0.9, "en": 0.1}, {"he": 90, "en": 10}),
        ({"he": 90}, {"he": 1.0}, {"he": 90}),
        ({"he": 1, "en": 400}, {"he": 0.99, "en": 0.01}, {"he": 1, "en": 1}),
    ],
)
def test_as_many_rows_are_used_as_keep_the_shares(
    available: dict[str, int], shares: dict[str, float], rows: dict[str, int]
) -> None:
    assert rows_by_share(available, shares) == rows


@given(first=st.integers(0, 40), length=st.integers(1, 40), seed=st.integers(0, 5))
def test_a_stretch_of_the_order_is_the_same_wherever_it_begins(
    first: int, length: int, seed: int
) -> None:
    whole = Ordered(Numbered(), first=0, last=first + length, seed=seed)
    part = Ordered(Numbered(), first=first, last=first + length, seed=seed)
    assert [int(part[i]["row"]) for i in range(length)] == [
        int(whole[first + i]["row"]) for i in range(length)
    ]


def test_each_pass_sees_every_row_once_in_another_order() -> None:
    ordered = Ordered(Numbered(), first=0, last=30, seed=1)
    rows = [int(ordered[index]["row"]) for index in range(30)]
    passes = [rows[:10], rows[10:20], rows[20:]]
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert len({tuple(one) for one in passes}) == 3
    assert [int(ordered[i]["input_ids"][0]) for i in range(30)] == rows


def test_documents_open_with_bos_close_with_eos_and_long_ones_are_cut(
    tmp_path: Path, tiny_tokenizer: Any
) -> None:
    text = "The old ferry left the harbour. " * 40
    lines = [json.dumps({"text": text}), json.dumps({"text": "sheep"})]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    pieces = [piece.tokens for piece in token_pieces(tmp_path, tiny_tokenizer, 64)]
    bos, eos = tiny_tokenizer.bos_token_id, tiny_tokenizer.eos_token_id
    assert max(map(len, pieces)) == 64
    short = pieces.pop(1)  # of each document in turn
    assert [*short] == [bos, *tiny_tokenizer("sheep", add_special_tokens=False).input_ids, eos]
    ids = [int(token) for piece in pieces for token in piece]
    assert (ids.count(bos), ids.count(eos)) == (1, 1)
    assert (ids[0], ids[-1]) == (bos, eos)
    assert tiny_tokenizer.decode(ids[1:-1]) == text


@pytest.mark.parametrize("exponent", [1.0, 0.5, 0.0])
def test_every_source_is_read_all_along_in_its_share_of_the_text(
    tmp_path: Path, tiny_tokenizer: Any, exponent: float
) -> None:
    # A large source of long documents in two shards, a small one of short documents.
    made = {"a.0": ("ferry " * 10, 150), "a.1": ("ferry " * 10, 150), "b": ("bread ", 400)}
    size = dict.fromkeys("ab", 0)
    for name, (text, count) in made.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join([json.dumps({"text": text})] * count))
        size[name[0]] += path.stat().st_size
    pieces = token_pieces(tmp_path, tiny_tokenizer, 64, source_exponent=exponent)
    tokens = Counter[str]()
    while tokens.total() < 1000:
        piece = next(pieces).tokens
        tokens[tiny_tokenizer.decode(piece[1:-1]).split()[0]] += len(piece)
    share = size["a"] ** exponent / (size["a"] ** exponent + size["b"] ** exponent)
    assert tokens["ferry"] / tokens.total() == pytest.approx(share, abs=0.03)


def test_a_book_does_not_crowd_out_what_stands_beside_it(
    tmp_path: Path, tiny_tokenizer: Any
) -> None:
    texts = {"books": ["ferry " * 3000, "bread " * 3000], "poems": ["sheep " * 40] * 20}
    for source, documents in texts.items():
        lines = [json.dumps({"text": text}) for text in documents]
        (tmp_path / f"{source}.jsonl").write_text("\n".join(lines))
    pieces = token_pieces(tmp_path, tiny_tokenizer, 64, source_exponent=0)
    start = [set(tiny_tokenizer.decode(piece.tokens[1:-1]).split()) for piece in islice(pieces, 16)]
    read = Counter(word for words in start for word in words & {"ferry", "bread", "sheep"})
    assert min(read.values()) >= 3 and len(read) == 3, read


def test_a_special_token_that_a_text_spells_out_ends_nothing(
    tmp_path: Path, tiny_tokenizer: Any
) -> None:
    eos = tiny_tokenizer.eos_token
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": f"sheep {eos} bread"}))
    (piece,) = token_pieces(tmp_path, tiny_tokenizer, 64)
    assert list(piece.tokens).count(tiny_tokenizer.eos_token_id) == 1
    assert tiny_tokenizer.decode(piece.tokens[1:-1]) == f"sheep {eos} bread"


def test_a_tokenizer_without_an_end_token_is_refused(tmp_path: Path, tiny_tokenizer: Any) -> None:
    make_corpus(tmp_path)
    endless = copy.deepcopy(tiny_tokenizer)
    endless.eos_token = None
    with pytest.raises(ConfigError, match="names no EOS token"):
        next(token_pieces(tmp_path / "train" / "he", endless, 64))


def test_a_mixture_holds_its_languages_in_their_shares(tmp_path: Path, tiny_tokenizer: Any) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    shares = {"he": 0.75, "en": 0.25}
    for _ in range(2):  # the second time nothing is left to do
        write_mixture(
            tmp_path / "rows",
            corpus / "train",
            tiny_tokenizer,
            shares=shares,
            row_tokens=64,
            rows=16,
        )
    mixture = Mixture(tmp_path / "rows", shares)
    assert mixture.counts["he"] == pytest.approx(3 * mixture.counts["en"], abs=1)
    assert 15 <= len(mixture) <= 18
    rows = [mixture[index] for index in range(len(mixture))]
    assert all((row["labels"] != IGNORED).any() for row in rows)
    assert sum((row["document_ids"] != PADDING).mean() for row in rows) > 0.9 * len(rows)
    with pytest.raises(IndexError):
        mixture[len(mixture)]


def test_without_a_number_all_text_is_packed(tmp_path: Path, tiny_tokenizer: Any) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    write_mixture(
        tmp_path / "rows",
        corpus / "train",
        tiny_tokenizer,
        shares=SHARES,
        row_tokens=64,
        rows=None,
    )
    parts = Mixture(tmp_path / "rows", SHARES).parts
    for code in SHARES:
        pieces = token_pieces(corpus / "train" / code, tiny_tokenizer, 64)
        assert parts[code].record.pieces == len(list(pieces))
