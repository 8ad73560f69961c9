"""Byte-pair encoding continued: the next merges of a tokenizer that is finished already.

A BPE tokenizer is a list of merges, each with a rank, and a lower rank goes first. Merges put
at the end of that list touch nothing that the older ones made of a text unless the text holds
what they spell. So a vocabulary grows for one script, and texts without it stay as they were:
a piece is accepted only if it spells whole characters of the language, and at most one space
before them.

Two ways of writing a piece are known. Byte-level tokenizers (GPT-2, Llama 3, Qwen, SmolLM) give
each byte a printable letter, `Ġ` is the space; SentencePiece-style ones (Llama 2, Mistral, Gemma)
write characters, `▁` for the space, and `<0xD7>` for the bytes of a character that they lack.
A character of three bytes is reached only where the tokenizer has a piece for two of them,
because half a character is never accepted.

    >>> spelling = Spelling(byte_level=False)
    >>> pieces = [["▁", "ש", "ל", "ו", "ם"], ["▁", "ש", "ל"]]
    >>> growth = Continuation(pieces, [3, 5], merges=[], join=joiner(spelling, language("he")))
    >>> growth.step(), growth.step()
    (Merge(left='ש', right='ל', piece='של'), Merge(left='▁', right='של', piece='▁של'))
    >>> growth.words
    [['▁של', 'ו', 'ם'], ['▁של']]
"""

import functools
import heapq
import itertools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hebench.train.languages import Language

Join = Callable[[str, str], str | None]
_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


class Merge(NamedTuple):
    """Two neighbouring pieces, and the piece that takes their place."""

    left: str
    right: str
    piece: str


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """How a tokenizer writes bytes in its pieces."""

    byte_level: bool  # otherwise SentencePiece-style, with byte fallback

    def raw(self, piece: str) -> bytes | None:
        """Return the bytes that a piece stands for, or None if it stands for none (`<unk>`)."""
        if self.byte_level:
            table = _byte_of_letter()
            return bytes(table[char] for char in piece) if table.keys() >= set(piece) else None
        if byte := _BYTE_PIECE.fullmatch(piece):
            return bytes([int(byte[1], 16)])
        return piece.replace("▁", " ").encode()

    def piece(self, text: str) -> str:
        """Return the piece that stands for whole characters."""
        if self.byte_level:
            table = _letter_of_byte()
            return "".join(table[byte] for byte in text.encode())
        return text.replace(" ", "▁")


@functools.cache
def _letter_of_byte() -> list[str]:
    """Return GPT-2's letter for each byte: itself if it prints, else the next one from U+0100."""
    prints = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in prints else next(others)) for byte in range(256)]


@functools.cache
def _byte_of_letter() -> dict[str, int]:
    return {letter: byte for byte, letter in enumerate(_letter_of_byte())}


def acceptable(text: str, language: Language) -> bool:
    """Return whether a text may be a new piece: the language's own letters and marks alone.

    One leading space is allowed. Combining marks that scripts share (an acute accent) do not
    make a piece by themselves: it would change how other languages are read.
    """
    body = text.removeprefix(" ")
    return bool(language.own.fullmatch(body)) and any(
        not unicodedata.name(char, "").startswith("COMBINING") for char in body
    )


def joiner(spelling: Spelling, language: Language) -> Join:
    """Return the function that names the piece two pieces make, or None where they may not."""

    def join(left: str, right: str) -> str | None:
        first, second = spelling.raw(left), spelling.raw(right)
        if first is None or second is None:
            return None
        try:
            text = (first + second).decode()
        except UnicodeDecodeError:
            return None
        return spelling.piece(text) if acceptable(text, language) else None

    return functools.cache(join)


class Continuation:
    """Words in the pieces of a tokenizer, and the merges that are learned on top of its own.

    `words` always holds the segmentation by the old merges and all new ones so far. A word of
    weight 0 teaches nothing; it is carried along, for whoever counts held-out text.
    """

    def __init__(
        self,
        words: Iterable[Sequence[str]],
        weights: Sequence[int],
        *,
        merges: Iterable[tuple[str, str]],
        join: Join,
    ) -> None:
        """Take words as the old `merges` leave them, each with its weight in the counts."""
        self.words = [list(word) for word in words]
        self._weights = weights
        self._join = join
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._places: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        for index, weight in enumerate(weights):
            for pair in self._pairs(index):
                self._counts[pair] += weight
                self._places[pair].add(index)
        self._heap = [(-count, pair) for pair, count in self._counts.items() if count]
        heapq.heapify(self._heap)

    def step(self) -> Merge | None:
        """Learn the merge of the heaviest pair, carry it out and return it; None if none is left.

        Among equals the first in order of code points wins, so that a run can be repeated.
        """
        while self._heap:
            negative, pair = heapq.heappop(self._heap)
            count = self._counts[pair]
            if count == -negative:
                return self._learn(pair)
            if count:  # it fell since this entry was made
                heapq.heappush(self._heap, (-count, pair))
        return None

    def _learn(self, pair: tuple[str, str]) -> Merge:
        piece = self._join(*pair)
        assert piece is not None, "only pairs that may join are counted"
        self._ranks[pair] = len(self._ranks)
        touched = set()
        for index in self._places.pop(pair):
            weight, before = self._weights[index], self._pairs(index)
            known = set(before)
            for old in before:
                self._counts[old] -= weight
            self._settle(self.words[index])
            for new in self._pairs(index):
                self._counts[new] += weight
                if new not in known:
                    self._places[new].add(index)
                    touched.add(new)
        for changed in touched:
            if count := self._counts[changed]:
                heapq.heappush(self._heap, (-count, changed))
        return Merge(*pair, piece)

    def _pairs(self, index: int) -> list[tuple[str, str]]:
        """Return the neighbours in a word that may become a piece."""
        word = self.words[index]
        return [pair for pair in itertools.pairwise(word) if self._join(*pair)]

    def _settle(self, word: list[str]) -> None:
        """Carry out in place every merge that applies, lowest rank first, from the left.

        More than one can apply: a new merge may make a piece that existed, and with it old ones.
        In time n log n: a word may be a run of thousands of letters.
        """
        end = len(word)
        before, after = list(range(-1, end - 1)), list(range(1, end + 1))
        gone = [False] * end

        def rank(place: int) -> int | None:
            other = after[place]
            return self._ranks.get((word[place], word[other])) if other < end else None

        heap = [(found, place) for place in range(end) if (found := rank(place)) is not None]
        heapq.heapify(heap)
        while heap:
            found, place = heapq.heappop(heap)
            if gone[place] or rank(place) != found:
                continue  # it was made into another pair since
            other = after[place]
            # Old merges are written as their parts; a character out of bytes is not.
            pair = word[place], word[other]
            word[place], gone[other] = self._join(*pair) or "".join(pair), True
            after[place] = after[other]
            if after[other] < end:
                before[after[other]] = place
            for changed in (before[place], place):
                if changed >= 0 and (new := rank(changed)) is not None:
                    heapq.heappush(heap, (new, changed))
        word[:] = [piece for piece, merged in zip(word, gone, strict=True) if not merged]
