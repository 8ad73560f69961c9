"""How fast the corpus stage cleans text on one core, and whether its memory grows with the corpus.

    python benchmarks/corpus.py CORPUS [megabytes]

CORPUS: a file or folder of Hebrew documents (.jsonl(.gz), .parquet, .txt). First each group of
rules alone on documents in memory, then the whole stage on the given megabytes of text (10) and on
four times as many, made of the same documents with their words in another order. MB are 10^6 bytes
of UTF-8; seconds are of processor time, on one core.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hebench.data.evaluated import evaluation_items
from hebench.data.overlap import find_overlap
from hebench.train.corpus.blocks.minhash import Signatures
from hebench.train.corpus.config import CorpusConfig, Input, Rules
from hebench.train.corpus.edits import (
    Edits,
    collapse_repeats,
    edit,
    mask_foreign,
    mask_private,
    strip_controls,
    strip_markup,
    tidy,
)
from hebench.train.corpus.refusals import count_words, frequent_share
from hebench.train.corpus.stage import run
from hebench.train.languages import language
from hebench.train.texts import read_documents

HEBREW = language("he")


def texts_of(corpus: Path, megabytes: float) -> list[str]:
    """Return documents of about so many MB, taken evenly from the whole corpus."""
    texts = [document.text for document in read_documents(corpus)]
    random.Random(0).shuffle(texts)
    taken, size = [], 0
    for text in texts:
        taken.append(text)
        size += len(text.encode())
        if size >= megabytes * 10**6:
            break
    return taken


def write(folder: Path, texts: list[str], copies: int) -> float:
    """Write the texts, and copies of them with words in another order; return the MB."""
    folder.mkdir(parents=True)
    size = 0
    for copy in range(copies):
        order = random.Random(copy)
        with (folder / f"part{copy}.jsonl").open("w", encoding="utf-8") as stream:
            for text in texts:
                lines = text.split("\n")
                if copy:
                    words = [line.split() for line in lines]
                    lines = [" ".join(order.sample(line, len(line))) for line in words]
                written = "\n".join(lines)
                size += len(written.encode())
                stream.write(json.dumps({"text": written}, ensure_ascii=False) + "\n")
    return size / 1e6


def seconds(work: Callable[[], object]) -> float:
    """Return the processor time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def rule_groups(texts: list[str], folder: Path) -> None:
    """Print one line for each group of rules."""
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    frequent = frozenset(count_words(texts, HEBREW, by_document=True))
    items, _ = evaluation_items()
    asked = CorpusConfig(language="he", inputs={"texts": Input(language="he", path=folder)})
    signatures = Signatures(folder / "signatures", asked)
    write(folder / "texts", texts, 1)

    def each(work: Callable[[str], object]) -> Callable[[], object]:
        return lambda: [work(text) for text in texts]

    groups: dict[str, Callable[[], object]] = {
        "markup and entities": each(lambda text: strip_markup(text, Edits())),
        "control characters": each(lambda text: strip_controls(text, Edits())),
        "e-mail, phone, URL": each(lambda text: mask_private(text, "he", Edits())),
        "other languages": each(
            lambda text: mask_foreign(text, HEBREW, Rules().foreign_words, Edits())
        ),
        "spaces and repeats": each(
            lambda text: collapse_repeats(tidy(text), Rules().max_repeats, Edits())
        ),
        "all edits": each(lambda text: edit(text, Rules(), HEBREW, "he")),
        "frequent words": each(lambda text: frequent_share(text, HEBREW, frequent)),
        "benchmark items": lambda: find_overlap(folder / "texts", items),
        "MinHash signatures": each(
            lambda text: signatures.get_signature(signatures.get_shingles(text))
        ),
    }
    print(f"\n**Rule groups, one core, {megabytes:.1f} MB**\n\n| rules | MB a second |\n|---|--:|")
    for name, work in groups.items():
        print(f"| {name} | {megabytes / seconds(work):.1f} |", flush=True)


def whole_stage(texts: list[str], folder: Path) -> None:
    """Print the speed and the peak memory of the stage at one and at four times the size."""
    print(
        "\n**The whole stage**\n\n| MB | MB a second and core | peak MB of memory |\n|--:|--:|--:|"
    )
    sizes, times = [], []
    for copies in (1, 4):
        sizes.append(write(folder / f"he{copies}", texts, copies))
        command = [sys.executable, __file__, "--stage", str(folder / f"he{copies}")]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        times.append(found["seconds"])
        speed = sizes[-1] / times[-1]
        print(f"| {sizes[-1]:.1f} | {speed:.2f} | {found['peak_megabytes']:.0f} |", flush=True)
    further = (sizes[1] - sizes[0]) / (times[1] - times[0])
    print(f"\nWithout what a run of any size costs: {further:.2f} MB a second and core.")


def stage_alone(corpus: Path) -> None:
    """Run the stage in this process and print its processor time and peak memory as JSON."""
    # Words in another order are frequent words still, but no document is like another.
    asked = CorpusConfig(language="he", inputs={"texts": Input(language="he", path=corpus)})
    used = seconds(lambda: run(asked, out=corpus.with_suffix(".out")))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": used, "peak_megabytes": peak}))


def main() -> None:
    """Print both tables."""
    if sys.argv[1:2] == ["--stage"]:
        stage_alone(Path(sys.argv[2]))
        return
    if len(sys.argv) < 2:
        sys.exit("python benchmarks/corpus.py CORPUS [megabytes]")
    texts = texts_of(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 10.0)
    with tempfile.TemporaryDirectory() as folder:
        rule_groups(texts, Path(folder) / "rules")
        whole_stage(texts, Path(folder))


if __name__ == "__main__":
    main()
