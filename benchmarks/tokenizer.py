"""What an extended vocabulary buys, in tokens per word of held-out text.

    python benchmarks/tokenizer.py RUN/corpus [--model FOLDER] [--language he]

The corpus is what `hebench train corpus` writes. Every source counts alike. The second column of
a row counts the same words with single spaces between them, since line breaks, which verse and
protocols are full of, are tokens that no vocabulary of letters can save. Beside the continued
merges stands the plain alternative on the same text: a BPE trained from nothing by the
`tokenizers` library, with the 256 bytes and as many merges, which may learn any pieces at all and
reads no English. Then the same merges learned from the sources as large as they are.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from hebench.models.demo import obtain
from hebench.train.languages import language
from hebench.train.texts import read_documents
from hebench.train.tokenizer import Counted, TokenizerConfig, count, grow
from hebench.train.vocabulary import Base, extended, read_base

SIZES = (0, 100, 200, 500, 1000, 2000, 3000, 4000)
ONE_LINE = " in one line"
DRAWN_WORDS = 200_000  # of each source, for a trainer that takes no counts

Texts = dict[str, list[str]]


def heldout(folder: Path) -> Texts:
    """Return the held-out texts of each source, once as they are and once in one line."""
    found: Texts = {}
    for document in read_documents(folder):
        found.setdefault(document.source, []).append(document.text)
    lines = {
        source + ONE_LINE: [" ".join(text.split()) for text in texts]
        for source, texts in found.items()
    }
    return found | lines


def counted(base: Base, texts: list[str]) -> Counted:
    """Return the texts as the merges see them."""
    pieces = Counter(piece for text in texts for piece in base.pieces(text))
    return Counted(words=sum(len(text.split()) for text in texts), pieces=pieces)


def means(rates: dict[str, float]) -> tuple[float, float]:
    """Return the mean over the sources as they are, and in one line."""
    lines = [rate for source, rate in rates.items() if source.endswith(ONE_LINE)]
    return (sum(rates.values()) - sum(lines)) / (len(rates) - len(lines)), sum(lines) / len(lines)


def rates_of(tokenizer: Any, texts: Texts) -> dict[str, float]:
    """Return tokens per word of each source by a whole tokenizer."""
    return {
        source: sum(len(e.ids) for e in tokenizer.encode_batch(part, add_special_tokens=False))
        / sum(len(text.split()) for text in part)
        for source, part in texts.items()
    }


def from_nothing(base: Base, learned: dict[str, Counted], size: int) -> Tokenizer:
    """Return a byte-level BPE that the tokenizers library trains on the same words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = base.tokenizer.backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=256 + size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # Its trainer takes text and no counts, so pieces are repeated: each source weighs the same.
    spelled = (
        (base.spelling.raw(piece) or b"").decode(errors="ignore")
        for part in learned.values()
        for piece, times in part.pieces.items()
        for _ in range(max(1, round(times * DRAWN_WORDS / part.words)))
    )
    tokenizer.train_from_iterator(spelled, trainer)
    return tokenizer


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a call returns, and its seconds."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def check_others(base: Base, merges: list[Any], folder: Path, code: str) -> None:
    """Print that other languages come out the same. Raises SystemExit where they do not."""
    after = Tokenizer.from_str(json.dumps(extended(base, merges)))
    before = base.tokenizer.backend_tokenizer
    for part in sorted(path for path in folder.iterdir() if path.is_dir() and path.name != code):
        texts = [document.text for document in read_documents(part)]
        texts = [text for text in texts if not language(code).own.search(text)]
        words = sum(len(text.split()) for text in texts)
        old, new = (
            [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
            for tokenizer in (before, after)
        )
        if old != new:
            sys.exit(f"{part.name}: {len(merges)} merges changed how it is tokenised")
        rate = sum(map(len, new)) / words
        print(
            f"{part.name}: {rate:.3f} tokens per word before and after, {words:,} words, same ids"
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Gain curve of an extended tokenizer.")
    parser.add_argument("corpus", type=Path, help="a folder with train/ and heldout/")
    parser.add_argument("--model", type=Path, help="by default the demo model")
    parser.add_argument("--language", default="he")
    options = parser.parse_args()
    code = options.language
    base = read_base(options.model or obtain())
    config = TokenizerConfig(language=code, tokens=SIZES[-1], curve_tokens=SIZES[-1])
    learned, reading = timed(lambda: count(base, options.corpus / "train" / code, config.words))
    texts = heldout(options.corpus / "heldout" / code)
    measured = {source: counted(base, part) for source, part in texts.items()}
    (merges, curve), merging = timed(lambda: grow(base, config, learned, measured))
    points = {point["tokens"]: point["sources"] for point in curve}
    print("| tokens added | tokens per word | in one line |\n|---|---|---|")
    for size in SIZES:
        print("| {:,} | {:.3f} | {:.3f} |".format(size, *means(points[size])))
    words, distinct = (
        sum(part.words for part in learned.values()),
        len(set().union(*(part.pieces for part in learned.values()))),
    )
    print(f"{words:,} words in {reading:.1f} s, {distinct:,} distinct; merges {merging:.1f} s")
    check_others(base, merges, options.corpus / "heldout", code)
    print("\n| at 1,000 | before | after |\n|---|---|---|")
    for source in (name for name in texts if not name.endswith(ONE_LINE)):
        print(f"| {source} | {points[0][source]:.3f} | {points[1000][source]:.3f} |")
    largest = max(part.words for part in learned.values())
    sizes = {source: part.words / largest for source, part in learned.items()}
    by_size = TokenizerConfig(
        language=code, tokens=SIZES[-1], curve_tokens=SIZES[-1], weights=sizes
    )
    _, other = grow(base, by_size, learned, measured)
    others = {point["tokens"]: point["sources"] for point in other}
    print("\n| controls | 1,000 | 4,000 |\n|---|---|---|")
    print("| continued, sources alike | {:.3f} | {:.3f} |".format(*_at(points)))
    print("| continued, sources by size | {:.3f} | {:.3f} |".format(*_at(others)))
    scratch = {n: rates_of(from_nothing(base, learned, n), texts) for n in (1000, 4000)}
    print("| from nothing, no English | {:.3f} | {:.3f} |".format(*_at(scratch)))


def _at(points: dict[int, dict[str, float]]) -> list[float]:
    return [means(points[size])[0] for size in (1000, 4000)]


if __name__ == "__main__":
    main()
