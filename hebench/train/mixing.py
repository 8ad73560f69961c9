"""Mixing: rows of several languages in the shares that a recipe asks for.

Each language is tokenised and packed by itself, its sources drawn by their sizes on disk to the
power of `source_exponent`: 1 takes them as large as they are, 0 all alike, so that law, of which
there is most, is not most of what is read (Conneau and Lample 2019, section 3.1, for languages:
0.5). Then so many rows of each language are used that the shares hold. The paper's: half Hebrew,
half English.

    >>> counts = rows_by_share({"he": 900, "en": 400}, {"he": 0.5, "en": 0.5})
    >>> counts
    {'he': 400, 'en': 400}
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from hebench.errors import ConfigError
from hebench.files import encodable
from hebench.train.packing import Piece, Row, Rows, cut, write_rows
from hebench.train.texts import read_documents, source_files

_AT_ONCE = 64  # documents tokenised in one call


def rows_by_share(available: Mapping[str, int], shares: Mapping[str, float]) -> dict[str, int]:
    """Return how many rows of each language are used: as many as keep the shares, at least 1."""
    total = min(available[code] / share for code, share in shares.items())
    return {
        code: max(1, min(available[code], round(total * share))) for code, share in shares.items()
    }


def token_pieces(
    folder: Path, tokenizer: Any, row_tokens: int, *, source_exponent: float = 1.0
) -> Iterator[Piece]:
    """Yield a language's documents as pieces: BOS, text, EOS; long ones cut at the row's length.

    The next piece is always of the source that has had least of its share so far, so that a few
    long documents do not crowd out the rest; a source that ends leaves its share to the others.
    A tokenizer without BOS gives none. Raises ConfigError if it has no EOS.
    """
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            "the tokenizer names no EOS token, which ends each document; add eos_token to its "
            "tokenizer_config.json"
        )
    sources = source_files(folder)
    streams = {name: _pieces(paths, tokenizer, row_tokens) for name, paths in sources.items()}
    shares = {
        name: max(1, sum(path.stat().st_size for path in paths)) ** source_exponent
        for name, paths in sources.items()
    }
    waiting = [(0.0, name) for name in sorted(streams)]
    while waiting:
        had, name = waiting[0]
        if piece := next(streams[name], None):
            heapq.heapreplace(waiting, (had + len(piece.tokens) / shares[name], name))
            yield piece
        else:
            heapq.heappop(waiting)


def _pieces(paths: Sequence[Path], tokenizer: Any, row_tokens: int) -> Iterator[Piece]:
    """Yield the pieces of a source: of some documents at a time, one of each in turn."""
    opening = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    documents = chain.from_iterable(map(read_documents, paths))
    while texts := [encodable(document.text) for document in islice(documents, _AT_ONCE)]:
        # verbose: a document longer than the model's context is expected here, and is cut.
        # split_special_tokens: a text that spells one out ends nothing.
        encoded = tokenizer(
            texts,
            add_special_tokens=False,
            return_attention_mask=False,
            split_special_tokens=True,
            verbose=False,
        )
        cuts = [
            cut([*opening, *ids, tokenizer.eos_token_id], row_tokens)
            for ids in encoded["input_ids"]
        ]
        for turn in zip_longest(*cuts):
            yield from (Piece.whole(part) for part in turn if part is not None)


def write_mixture(  # noqa: PLR0913 (each is named at the call)
    folder: Path,
    corpus: Path,
    tokenizer: Any,
    *,
    shares: Mapping[str, float],
    row_tokens: int,
    rows: int | None,
    source_exponent: float = 1.0,
) -> None:
    """Pack `corpus`/<language> for every language into `folder`/<language>.

    rows: of the mixture that the training will see; None packs all there are. A language that
    is packed already is left. Raises DataError if a language has no text.
    """
    for code, share in shares.items():
        if (folder / code).is_dir():
            continue
        pieces = token_pieces(corpus / code, tokenizer, row_tokens, source_exponent=source_exponent)
        write_rows(
            folder / code,
            tqdm(pieces, desc=f"pack {code}", unit=" pieces", disable=None),
            row_tokens=row_tokens,
            padding_id=tokenizer.eos_token_id,
            most_rows=None if rows is None else round(rows * share) + 1,
        )


class Mixture:
    """Rows of several languages as one data set, in the order of the languages' names."""

    def __init__(self, folder: Path, shares: Mapping[str, float]) -> None:
        """Open what `write_mixture` packed."""
        self.parts = {code: Rows(folder / code) for code in sorted(shares)}
        counts = {code: len(part) for code, part in self.parts.items()}
        self.counts = rows_by_share(counts, shares)

    def __len__(self) -> int:
        """Return the rows in use."""
        return sum(self.counts.values())

    def __getitem__(self, index: int) -> Row:
        """Return row `index`, counted over the languages."""
        for code, count in self.counts.items():
            if index < count:
                return self.parts[code][index]
            index -= count
        raise IndexError(index)


class Ordered:
    """A data set in a shuffled order, pass after pass, long enough for a whole training.

    Item i of pass p is the same on every machine and for every number of processes, so a resumed
    or a differently launched run sees the same rows at the same steps. `rows[i]` carries its
    row's number in the data set under `row`.
    """

    def __init__(self, rows: Any, *, first: int, last: int, seed: int) -> None:
        """Take rows, and the places of the endless order that are wanted: [first, last)."""
        self._rows, self._first, self._last, self._seed = rows, first, last, seed
        self._pass, self._order = -1, np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        """Return the rows of the training, repeated ones counted again."""
        return self._last - self._first

    def __getitem__(self, index: int) -> Row:
        """Return the row of place `index`, with its number under `row`."""
        number, place = divmod(self._first + index, len(self._rows))
        if number != self._pass:
            order = np.random.default_rng([self._seed, number])
            self._pass, self._order = number, order.permutation(len(self._rows))
        row = int(self._order[place])
        return {**self._rows[row], "row": np.asarray(row, dtype=np.int64)}
