"""Which documents are held out and which are mixed in: by a hash, so always the same ones.

A document's key is a seeded 64-bit hash of its text. Held out are, in each source, the documents
with the smallest keys; mixed in are those below a limit that gives the wanted number of words. So
tasks need not talk to each other, and another seed gives another choice.

Shapes: B bins of keys.
"""

import hashlib
import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 2**16  # of the 64-bit keys: what is mixed in is exact to the documents of one bin
_PIECES = 8  # held-out text comes from at least so many documents, if there are so many
_FEWEST_WORDS = 20  # of a document that may be held out; phrases are in every text
_LARGEST_SHARE = 0.2  # of a source's words that holding out may cost

Counts = NDArray[np.int64]


def key_of(text: str, seed: int) -> int:
    """Return a hash of the text in [0, 2^63); equal texts have equal keys."""
    digest = hashlib.blake2b(text.encode(), digest_size=8, salt=str(seed).encode()[:16]).digest()
    return int.from_bytes(digest, "big") >> 1


def bin_of(key: int) -> int:
    """Return the bin of a key, in [0, BINS); bins are in the order of their keys."""
    return key >> 47


@dataclass(frozen=True, order=True)
class Candidate:
    """A document that may be held out, and the passage of it that would be."""

    key: int
    id: str
    words: int  # of the whole document, which training loses
    passage: str


class Candidates:
    """The documents of one source with the smallest keys, enough to hold out `words`."""

    def __init__(self, words: int) -> None:
        """Start with none."""
        self.words = words
        self._heap: list[tuple[int, Candidate]] = []  # the largest key on top
        self._keys: set[int] = set()  # of those on the heap: a text that comes again is no other
        self._held = 0

    def offer(self, key: int, document_id: str, text: str) -> None:
        """Keep a document if its key is among the smallest."""
        if self._held >= 2 * self.words and -self._heap[0][0] <= key:
            return
        words = len(text.split())
        if words < _FEWEST_WORDS or key in self._keys:
            return
        passage = passage_of(text, key, max(self.words // _PIECES, _FEWEST_WORDS))
        candidate = Candidate(key, document_id, words, passage)
        heapq.heappush(self._heap, (-key, candidate))
        self._keys.add(key)
        self._held += len(passage.split())
        # Twice the words: some may be passed over for being too large a part of the source.
        while self._held - len(self._heap[0][1].passage.split()) >= 2 * self.words:
            gone = heapq.heappop(self._heap)[1]
            self._keys.remove(gone.key)
            self._held -= len(gone.passage.split())

    def kept(self) -> list[Candidate]:
        """Return the candidates by ascending key."""
        return sorted(candidate for _, candidate in self._heap)


def passage_of(text: str, key: int, words: int) -> str:
    """Return `words` to twice as many words in a row, from a line that the key decides.

    Whole lines, but for a last one that is too long.
    """
    lines = text.split("\n")
    sizes = [len(line.split()) for line in lines]
    after, start = 0, 0  # words from a line to the end; the last line with enough of them
    for place in range(len(lines) - 1, -1, -1):
        after += sizes[place]
        if after >= words:
            start = place
            break
    passage: list[str] = []
    found = 0
    for line, size in list(zip(lines, sizes, strict=True))[key % (start + 1) :]:
        if found >= words:
            break
        fits = found + size <= 2 * words
        passage.append(line if fits else " ".join(line.split()[: words - found]))
        found += size
    return "\n".join(passage).strip()


def hold_out(candidates: Iterable[Candidate], words: int, source_words: int) -> list[Candidate]:
    """Return the candidates to hold out of one source, `words` words of passages or a little more.

    source_words: of all its documents. A document that would cost training too large a part of
    the source is passed over.
    """
    chosen: dict[int, Candidate] = {}
    held = lost = 0
    for candidate in sorted(candidates):
        if held >= words:
            break
        if candidate.key in chosen or lost + candidate.words > _LARGEST_SHARE * source_words:
            continue
        chosen[candidate.key] = candidate
        held += len(candidate.passage.split())
        lost += candidate.words
    return list(chosen.values())


def limits(
    histograms: Mapping[str, Counts], most: Mapping[str, int | None], mix: Mapping[str, float]
) -> dict[str, int]:
    """Return for each source the bin below which its documents are mixed in.

    histograms: words by bin (B,), by `language/source`. most: words of a source at most. mix:
    language -> share of words; the language that is scarcest for its share is taken whole.
    """
    words = {name: int(bins.sum()) for name, bins in histograms.items()}
    for name, limit in most.items():
        if limit is not None and name in words:
            words[name] = min(words[name], limit)
    by_language = dict.fromkeys(mix, 0)
    for name, count in words.items():
        if mix:
            by_language[name.split("/")[0]] += count
    whole = min((by_language[code] / share for code, share in mix.items()), default=0.0)
    found = {}
    for name, bins in histograms.items():
        code = name.split("/")[0]
        rate = whole * mix[code] / by_language[code] if mix and by_language[code] else 1.0
        wanted = round(words[name] * min(rate, 1.0))
        if wanted >= int(bins.sum()):
            found[name] = BINS
        else:  # the bin with which the words come nearest to what is wanted
            sums = np.concatenate([[0], np.cumsum(bins)])
            found[name] = int(np.abs(sums - wanted).argmin())
    return found
