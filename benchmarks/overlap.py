"""How fast a corpus is searched for evaluation items, and how much memory that takes.

    python benchmarks/overlap.py FOLDER_OF_JSONL [--items 20000] [--workers 2]

Half of the items are cut out of the corpus (8 to 120 words each), half are the same words
shuffled; so the right answer is known: every judged item of the first half is contained. The
whole corpus is searched first, in this process's clean memory. Then the first documents are
searched again in one process, beside the plain way to write it: sets of word tuples. Its answers
must be the same. Two ratios are printed: a plain one that calls `normalise`, as its author would,
and one that is lent our faster words, which leaves the search alone.
"""

import argparse
import gzip
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hebench.data.overlap import Item, find_overlap, hebrew_words
from hebench.hebrew import normalise

SHINGLE_WORDS, WHOLE_WORDS = 12, 6
RUNS = 3


def texts(folder: Path) -> Iterator[str]:
    """Yield the texts of the JSON Lines files of a folder, plain or gzipped."""
    for path in sorted(folder.glob("*.jsonl*")):
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as stream:
            yield from (json.loads(line)["text"] for line in stream)


def draw(folder: Path, wanted: int) -> list[Item]:
    """Return about `wanted` items, evenly spread: cut from the corpus, and shuffled."""
    total = sum(len(text.split()) for text in texts(folder))
    chance = random.Random(0)
    items: list[Item] = []
    due = 0.0
    for text in texts(folder):
        words = text.split()
        due += len(words) * (wanted / 2) / total
        while due >= 1:
            due -= 1
            start = chance.randrange(len(words))
            span = words[start : start + chance.randint(8, 120)]
            items.append(Item("cut", f"{len(items)}", " ".join(span)))
            chance.shuffle(span)
            items.append(Item("shuffled", f"{len(items)}", " ".join(span)))
    return items


def naive(
    documents: list[str], items: list[Item], words_of: Callable[[str], list[str]]
) -> list[float | None]:
    """Return the share of each item's shingles in the documents, by sets of tuples."""
    shingles_of: list[set[tuple[str, ...]]] = []
    known: dict[int, set[tuple[str, ...]]] = {}
    found = set()
    for item in items:
        words = words_of(item.text)
        size = min(len(words), SHINGLE_WORDS)
        own = {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}
        shingles_of.append(own if size >= WHOLE_WORDS else set())
        if size >= WHOLE_WORDS:
            known.setdefault(size, set()).update(own)
    for text in documents:
        words = words_of(text)
        for size, wanted in known.items():
            for i in range(len(words) - size + 1):
                shingle = tuple(words[i : i + size])
                if shingle in wanted:
                    found.add(shingle)
    return [len(own & found) / len(own) if own else None for own in shingles_of]


def compare(folder: Path, items: list[Item], sample_words: int) -> None:
    """Print the ratios on the first documents. Raises SystemExit where answers differ."""
    documents, size = [], 0
    for text in texts(folder):
        if size >= sample_words:
            break
        documents.append(text)
        size += len(text.split())
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "sample.jsonl"
        lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents]
        path.write_text("".join(lines), encoding="utf-8")
        rows: dict[str, list[float]] = {"plain": [], "plain, our words": []}
        for _ in range(RUNS):
            start = time.perf_counter()
            shares = [item.share for item in find_overlap(path, items).items]
            ours = time.perf_counter() - start
            for name, words_of in (
                ("plain", lambda text: normalise(text, "hebrew").split()),
                ("plain, our words", hebrew_words),
            ):
                start = time.perf_counter()
                if naive(documents, items, words_of) != shares:
                    sys.exit(f"{name}: the answers differ")
                rows[name].append((time.perf_counter() - start) / ours)
    print(f"sample: {size:,} words in {len(documents):,} documents, {RUNS} runs, one process")
    for name, ratios in rows.items():
        low, middle, high = sorted(ratios)
        print(f"{name:18} {middle:5.1f} times our time ({low:.1f} to {high:.1f}), same answers")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Speed and memory of hebench.data.overlap.")
    parser.add_argument("corpus", type=Path, help="a folder of .jsonl or .jsonl.gz files")
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sample-words", type=int, default=1_000_000)
    options = parser.parse_args()
    items = draw(options.corpus, options.items)
    start = time.perf_counter()
    overlap = find_overlap(options.corpus, items, workers=options.workers)
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    processes = options.workers if options.workers > 1 else 0
    print(
        f"{overlap.words:,} words, {overlap.documents:,} documents, {len(items):,} items, "
        f"{options.workers} workers: {seconds:.1f} s, {overlap.words / seconds:,.0f} words/s"
    )
    print(
        f"peak memory {own / 2**20:,.0f} MiB and {processes} x {child / 2**20:,.0f} MiB at most, "
        f"{(own + processes * child) / 2**20:,.0f} MiB together"
    )
    for found in overlap.sets:
        print(
            f"{found.set:9} {found.judged:,} of {found.items:,} judged, {found.contained:,} "
            f"contained, {found.touched:,} touched"
        )
    if any(item.set == "cut" and item.share not in {None, 1.0} for item in overlap.items):
        sys.exit("an item that was cut from the corpus was not found whole")
    compare(options.corpus, items, options.sample_words)


if __name__ == "__main__":
    main()
