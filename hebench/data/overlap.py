"""Contamination: which evaluation items stand in a training corpus, and the corpus without them.

A score says nothing about a model that was trained on the questions. An item is cut into
shingles (12 words in a row) under the `hebrew` profile of `hebench.hebrew.normalise`, so that
points, quotation marks, a maqaf or a final letter do not hide it, and the corpus is read once.

    >>> items = [Item("heq", "q1", "בִּירַת ישראל היא ירושלים־הקדושה, עיר שחוברה לה")]
    >>> overlap = find_overlap(Path("corpus/"), items, workers=2)
    >>> overlap.items[0].share, overlap.items[0].examples
    (1.0, ('wiki/part-0.jsonl.gz:17',))
    >>> clean_corpus(Path("corpus/"), items, Path("corpus-clean/")).removed
    1

Only the evaluation side is held in memory: its distinct shingles, by 64-bit hash. A hash that
is met again is confirmed on the words, so two texts that hash alike are never confused.
With several workers this needs the usual `if __name__ == "__main__":` in a script.

What a corpus may be, and how it is read and written, is in `hebench.data.corpora`.

Shapes: G distinct shingles of one length, I items, P pairs of a shingle and an item that has it.
"""

import multiprocessing
import signal
import unicodedata
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, groupby, repeat
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from tqdm import tqdm

from hebench.data.corpora import (
    Chunk,
    chunk_texts,
    cleaned_writer,
    corpus_files,
    published,
    read_chunks,
    require_new,
)
from hebench.errors import ConfigError
from hebench.hebrew import Profile, limit_marks, normalise

CONTAINED_SHARE = 0.8  # an item with this share of its shingles in the corpus counts as contained
EXAMPLES = 3  # locations kept for each item

Hashes = NDArray[np.uint64]
Ints = NDArray[np.int64]

# Any large odd number: multiplication by it is one-to-one modulo 2^64.
_BASE = np.uint64(0x9E3779B97F4A7C15)
# A worker process gets its index once, when it starts, and not with every chunk.
_IN_WORKER: dict[str, "_Index"] = {}


@dataclass(frozen=True)
class Item:
    """An evaluation item: the text whose presence in a corpus would spoil it."""

    set: str
    id: str
    text: str


@dataclass(frozen=True, kw_only=True)
class ItemOverlap:
    """How much of one item the corpus holds."""

    set: str
    id: str
    words: int
    shingles: int  # distinct ones; 0 if the item is too short to judge, 1 if matched as a whole
    share: float | None  # of its shingles that the corpus holds, in [0, 1]; None: too short
    documents: int  # that hold any of its shingles
    examples: tuple[str, ...]  # the first few, as file:line (file:row for Parquet)


@dataclass(frozen=True, kw_only=True)
class SetOverlap:
    """The items of one evaluation set, counted; items = judged + too_short."""

    set: str
    items: int
    judged: int  # the n of the next two
    touched: int  # with any shingle in the corpus
    contained: int  # with at least CONTAINED_SHARE of their shingles in the corpus
    too_short: int  # to judge


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """What a corpus holds of the evaluation sets, and what was read to say so."""

    profile: Profile  # of normalisation
    shingle_words: int
    whole_words: int
    files: int
    skipped: tuple[str, ...]  # files and linked folders of a format that was not read
    documents: int
    words: int
    sets: tuple[SetOverlap, ...]
    items: tuple[ItemOverlap, ...]  # in the order given


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """What was taken out of a corpus; a document can hold items of several sets."""

    documents: int  # read
    removed: int
    removed_by_set: dict[str, int]
    min_share: float
    overlap: Overlap  # of the corpus before cleaning


def hebrew_words(text: str) -> list[str]:
    """Return `normalise(limit_marks(text), "hebrew").split()`, about three times as fast."""
    return unicodedata.normalize("NFKC", limit_marks(text)).translate(_FOLDED).split()


def find_overlap(  # noqa: PLR0913 (the options of the command, one to one)
    corpus: Path,
    items: Iterable[Item],
    *,
    field: str = "text",
    shingle_words: int = 12,
    whole_words: int = 6,
    workers: int = 1,
) -> Overlap:
    """Return what `corpus` holds of `items`; the result does not depend on `workers`.

    An item shorter than `shingle_words` is matched as a whole if it has at least `whole_words`
    words; below that it is counted as too short to judge, since every text holds such phrases.

    Raises DataError (file and line) for input that cannot be read, ConfigError for options that
    cannot be carried out, ValueError for no items or two of one set with the same id.
    """
    _require_positive(shingle_words=shingle_words, whole_words=whole_words, workers=workers)
    index, tally = _prepare(items, field, shingle_words, whole_words)
    files, skipped = corpus_files(corpus)
    with closing(_scan(corpus, files, index, workers, rows=False)) as scan:
        for chunk, found in scan:
            tally.add(chunk, found)
    return tally.report(files=len(files), skipped=skipped)


def clean_corpus(  # noqa: PLR0913 (the options of the command, one to one)
    corpus: Path,
    items: Iterable[Item],
    out: Path,
    *,
    min_share: float = 0.0,
    field: str = "text",
    shingle_words: int = 12,
    whole_words: int = 6,
    workers: int = 1,
) -> Cleaning:
    """Write `corpus` to `out` without the documents that hold an item; return what went.

    A document goes if it holds a shingle of an item, and at least `min_share` in [0, 1] of that
    item's shingles. The rest is written in the same format (bytes of lines unchanged, blank
    lines of JSON Lines left out). `out` appears when it is complete, never before.

    Raises what `find_overlap` raises, and ConfigError if `out` exists, lies in the corpus or has
    another suffix than a corpus that is a file.
    """
    if not 0 <= min_share <= 1:
        raise ConfigError(f"min_share: expected a proportion in [0, 1], found {min_share}")
    _require_positive(shingle_words=shingle_words, whole_words=whole_words, workers=workers)
    index, tally = _prepare(items, field, shingle_words, whole_words)
    files, skipped = corpus_files(corpus)
    require_new(out, corpus)
    removed, removed_by_set = 0, dict.fromkeys(tally.set_names, 0)
    scan = _scan(corpus, files, index, workers, rows=True)
    with published(out) as target, closing(scan):
        for path, group in groupby(scan, key=lambda pair: pair[0].path):
            with cleaned_writer(path, target / path.relative_to(corpus)) as write:
                for chunk, found in group:
                    keep = [True] * len(chunk.numbers)
                    for document, touched, shares in tally.add(chunk, found):
                        guilty = touched[shares >= min_share]
                        keep[document] = not len(guilty)
                        for name in {tally.items[item].set for item in guilty}:
                            removed_by_set[name] += 1
                    removed += keep.count(False)
                    write(chunk, keep)
    overlap = tally.report(files=len(files), skipped=skipped)
    return Cleaning(
        documents=overlap.documents,
        removed=removed,
        removed_by_set=removed_by_set,
        min_share=min_share,
        overlap=overlap,
    )


class _Folding(dict[int, int | str | None]):
    """The `hebrew` profile as a table for str.translate, filled as characters are met.

    After NFKC every step of the profile looks at one character at a time, so asking `normalise`
    about each character once, between two digits that keep a space visible, is the profile.
    """

    def __missing__(self, code: int) -> int | str | None:
        folded = normalise(f"0{chr(code)}0", "hebrew")[1:-1]
        self[code] = ord(folded) if len(folded) == 1 else folded or None
        return self[code]


_FOLDED = _Folding()


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What one chunk holds."""

    words: int
    hits: list[tuple[int, Ints]]  # document of the chunk, numbers of the shingles that it holds


@dataclass(frozen=True, kw_only=True)
class _Shingles:
    """The distinct shingles of one length, in the order of their hashes."""

    first: int  # number of the first; the others follow
    hashes: Hashes  # (G,), ascending
    starts: Ints  # (G,): where the shingle stands in _Index.ids
    present: NDArray[np.bool_]  # by the top bits of a hash: a cheap "certainly not"
    shift: np.uint64  # that leaves these top bits


@dataclass(frozen=True, kw_only=True)
class _Index:
    """What the workers need: the evaluation side, and where a corpus has its text."""

    field: str
    vocabulary: dict[str, int]  # of the items; any other word of a corpus is 0
    word_hashes: Hashes  # by number of the word
    ids: NDArray[np.int32]  # the words of all judged items, one after the other
    shingles: dict[int, _Shingles]  # by length in words


class _Tally:
    """Counts over the corpus so far, for each item."""

    def __init__(self, items: Sequence[Item], words: Ints, pairs: Ints, rule: tuple[int, int]):
        """Start at nought; pairs: (P, 2), shingle and item, ascending; words: (I,)."""
        self.items, self.words, self.rule = items, words, rule
        self.set_names = list(dict.fromkeys(item.set for item in items))
        self.pair_shingle, self.pair_item = pairs[:, 0], pairs[:, 1]
        shingles = int(self.pair_shingle[-1]) + 1 if len(pairs) else 0
        self.bounds = np.searchsorted(self.pair_shingle, np.arange(shingles + 1))
        self.shingles_of_item = np.bincount(self.pair_item, minlength=len(items))
        self.found = np.zeros(shingles, dtype=bool)
        self.documents_of_item = np.zeros(len(items), dtype=np.int64)
        self.examples: dict[int, list[str]] = {}
        self.scanned_documents = self.scanned_words = 0

    def add(self, chunk: Chunk, found: _Found) -> list[tuple[int, Ints, NDArray[np.float64]]]:
        """Return, of each document with a hit, its place in the chunk, the items and the share
        of each item's shingles that this document alone holds."""
        self.scanned_documents += len(chunk.numbers)
        self.scanned_words += found.words
        touching = []
        for document, shingles in found.hits:
            self.found[shingles] = True
            owners = [self.pair_item[self.bounds[g] : self.bounds[g + 1]] for g in shingles]
            touched, held = np.unique(np.concatenate(owners), return_counts=True)
            self.documents_of_item[touched] += 1
            for item in touched[self.documents_of_item[touched] <= EXAMPLES]:
                location = f"{chunk.name}:{chunk.numbers[document]}"
                self.examples.setdefault(int(item), []).append(location)
            touching.append((document, touched, held / self.shingles_of_item[touched]))
        return touching

    def report(self, *, files: int, skipped: tuple[str, ...]) -> Overlap:
        """Return the records."""
        held = np.bincount(self.pair_item[self.found[self.pair_shingle]], minlength=len(self.items))
        records = tuple(
            ItemOverlap(
                set=item.set,
                id=item.id,
                words=int(self.words[number]),
                shingles=(shingles := int(self.shingles_of_item[number])),
                share=int(held[number]) / shingles if shingles else None,
                documents=int(self.documents_of_item[number]),
                examples=tuple(self.examples.get(number, ())),
            )
            for number, item in enumerate(self.items)
        )
        return Overlap(
            profile="hebrew",
            shingle_words=self.rule[0],
            whole_words=self.rule[1],
            files=files,
            skipped=skipped,
            documents=self.scanned_documents,
            words=self.scanned_words,
            sets=tuple(
                _count_set(name, [record for record in records if record.set == name])
                for name in self.set_names
            ),
            items=records,
        )


def _count_set(name: str, records: list[ItemOverlap]) -> SetOverlap:
    shares = [record.share for record in records if record.share is not None]
    return SetOverlap(
        set=name,
        items=len(records),
        judged=len(shares),
        touched=sum(share > 0 for share in shares),
        contained=sum(share >= CONTAINED_SHARE for share in shares),
        too_short=len(records) - len(shares),
    )


def _require_positive(**options: int) -> None:
    for option, value in options.items():
        if value < 1:
            raise ConfigError(f"{option}: expected a number from 1, found {value}")


def _prepare(
    items: Iterable[Item], field: str, shingle_words: int, whole_words: int
) -> tuple[_Index, _Tally]:
    """Return the evaluation side, for the workers and for the counting."""
    items = tuple(items)
    if not items or len({(item.set, item.id) for item in items}) < len(items):
        raise ValueError("expected evaluation items, each with an id of its own in its set")
    vocabulary: dict[str, int] = {}
    ids: list[int] = []
    lengths = np.zeros(len(items), dtype=np.int64)
    places: dict[int, list[Ints]] = {}  # length of the shingles -> their starts, by item
    owners: dict[int, list[Ints]] = {}
    for number, item in enumerate(items):
        words = hebrew_words(item.text)
        lengths[number] = len(words)
        size = shingle_words if len(words) >= shingle_words else len(words)
        if size < min(whole_words, shingle_words):
            continue
        starts = np.arange(len(ids), len(ids) + len(words) - size + 1)
        places.setdefault(size, []).append(starts)
        owners.setdefault(size, []).append(np.full(len(starts), number))
        ids.extend(vocabulary.setdefault(word, len(vocabulary) + 1) for word in words)
    index = _Index(
        field=field,
        vocabulary=vocabulary,
        word_hashes=_hashes_of_words(len(vocabulary) + 1),
        ids=np.array(ids, dtype=np.int32),
        shingles={},
    )
    pairs = [np.zeros((0, 2), dtype=np.int64)]
    for size, hashes in _window_hashes(index.word_hashes[index.ids], max(places, default=0)):
        if size in places:
            pairs.append(_add_shingles(index, size, hashes, places[size], owners[size]))
    pairs_of_all = np.concatenate(pairs)
    return index, _Tally(items, lengths, pairs_of_all, (shingle_words, whole_words))


def _add_shingles(
    index: _Index, size: int, hashes: Hashes, places: list[Ints], owners: list[Ints]
) -> Ints:
    """Add the shingles of one length to the index; return their pairs with items, ascending."""
    starts, owner = np.concatenate(places), np.concatenate(owners)
    rows = np.ascontiguousarray(sliding_window_view(index.ids, size)[starts])
    # Rows are compared as bytes: shingles are distinct if their words are, whatever they hash to.
    opaque = rows.view(np.dtype((np.void, rows.itemsize * size))).ravel()
    _, representative, shingle = np.unique(opaque, return_index=True, return_inverse=True)
    starts = starts[representative]
    order = np.argsort(hashes[starts], kind="stable")
    first = sum(len(other.starts) for other in index.shingles.values())
    bits = min(max(len(starts).bit_length() + 3, 10), 27)  # one byte in eight, or fewer, is set
    shift = np.uint64(64 - bits)
    present = np.zeros(2**bits, dtype=bool)
    present[hashes[starts] >> shift] = True
    index.shingles[size] = _Shingles(
        first=first,
        hashes=hashes[starts][order],
        starts=starts[order],
        present=present,
        shift=shift,
    )
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    items = int(owner[-1]) + 1
    keys = np.unique((first + rank[shingle]) * items + owner)
    return np.stack(np.divmod(keys, items), axis=1)


def _hashes_of_words(words: int) -> Hashes:
    """Return one random 64-bit number a word, the same in every run."""
    return np.random.default_rng(0).integers(2**64, size=words, dtype=np.uint64)


def _window_hashes(words: Hashes, largest: int) -> Iterator[tuple[int, Hashes]]:
    """Yield (size, hashes of all windows of that many words) for each size up to `largest`.

    Karp and Rabin's polynomial, modulo 2^64; the hash of a window is that of the window one
    word shorter, times the base, plus its last word.
    """
    hashes = words
    for size in range(1, min(largest, len(words)) + 1):
        if size > 1:
            hashes = hashes[:-1] * _BASE + words[size - 1 :]
        yield size, hashes


def _matches(index: _Index, ids: NDArray[np.int32]) -> tuple[Ints, Ints]:
    """Return (positions in `ids`, numbers of the shingles that stand there), confirmed."""
    positions, numbers = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for size, hashes in _window_hashes(index.word_hashes[ids], max(index.shingles, default=0)):
        if size not in index.shingles:
            continue
        known = index.shingles[size]
        here, there = sliding_window_view(ids, size), sliding_window_view(index.ids, size)
        at = np.flatnonzero(known.present[hashes >> known.shift])
        wanted = hashes[at]
        place = np.searchsorted(known.hashes, wanted)
        while len(at):  # once, and once more for each distinct shingle with the same hash
            inside = place < len(known.hashes)
            at, wanted, place = at[inside], wanted[inside], place[inside]
            alike = known.hashes[place] == wanted
            at, wanted, place = at[alike], wanted[alike], place[alike]
            same = (here[at] == there[known.starts[place]]).all(axis=1)
            positions.append(at[same])
            numbers.append(known.first + place[same])
            at, wanted, place = at[~same], wanted[~same], place[~same] + 1
    return np.concatenate(positions), np.concatenate(numbers)


def _search(chunk: Chunk, index: _Index) -> _Found:
    """Return the shingles in each document of a chunk. Raises DataError for a broken document."""
    ids: list[int] = []
    ends = []
    for text in chunk_texts(chunk, index.field):
        ids.extend(map(index.vocabulary.get, hebrew_words(text), repeat(0)))
        # An unknown word ends each document, so that no shingle matches across two.
        ids.append(0)
        ends.append(len(ids))
    positions, shingles = _matches(index, np.array(ids, dtype=np.int32))
    documents = np.searchsorted(np.array(ends, dtype=np.int64), positions, side="right")
    total = index.ids.size  # no fewer than there are shingles
    documents, shingles = np.divmod(np.unique(documents * total + shingles), max(total, 1))
    hit, firsts = np.unique(documents, return_index=True)
    return _Found(
        words=len(ids) - len(ends),
        hits=list(zip(hit.tolist(), np.split(shingles, firsts)[1:], strict=True)),
    )


def _scan(
    corpus: Path, files: list[Path], index: _Index, workers: int, *, rows: bool
) -> Generator[tuple[Chunk, _Found]]:
    """Yield the corpus's chunks in order, each with what it holds, under a progress bar.

    rows: whether the chunks of Parquet files carry their rows. Close it to stop the workers.
    """
    chunks = chain.from_iterable(
        read_chunks(corpus, file, index.field, rows=rows) for file in files
    )
    size = sum(file.stat().st_size for file in files)
    with (
        tqdm(total=size, desc="overlap", unit="B", unit_scale=True, disable=None) as bar,
        closing(_search_all(chunks, index, workers)) as searched,
    ):
        for chunk, found in searched:
            bar.update(chunk.disk_bytes)
            yield chunk, found


def _search_all(
    chunks: Iterator[Chunk], index: _Index, workers: int
) -> Generator[tuple[Chunk, _Found]]:
    """Yield each chunk with what it holds; a few chunks ahead are in memory, not more."""
    if workers == 1:
        for chunk in chunks:
            yield chunk, _search(chunk, index)
        return
    # Fresh processes: a forked one could inherit a lock that a thread of Arrow's holds.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _start_worker, (index,))
    waiting: deque[tuple[Chunk, Future[_Found]]] = deque()
    try:
        for chunk in chunks:
            waiting.append((chunk, pool.submit(_search_in_worker, replace(chunk, batch=None))))
            if len(waiting) > 2 * workers:
                ready, future = waiting.popleft()
                yield ready, future.result()
        for ready, future in waiting:
            yield ready, future.result()
    except BrokenProcessPool as error:
        raise ConfigError(
            f"workers: expected {workers} processes to run, one was ended from outside (often "
            "for want of memory); use fewer"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(index: _Index) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    _IN_WORKER["index"] = index


def _search_in_worker(chunk: Chunk) -> _Found:
    return _search(chunk, _IN_WORKER["index"])
