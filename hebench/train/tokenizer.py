"""Stage `tokenizer`: the base model's tokenizer learns to read a language in longer pieces.

A model trained on English reads Hebrew letter by letter, or byte by byte: six tokens a word, so
six times the price and a sixth of the context. This stage continues the training of its BPE on
text of the language and appends the new pieces to the vocabulary. Text without the language's
letters and marks is tokenised exactly as before; the stage proves it on the other languages'
held-out text.

    hebench train tokenizer --recipe smollm2_he_cpu

    >>> run(TokenizerConfig(language="he"), model=model, corpus=corpus, out=out).metrics
    {'tokens_added': 1000, 'tokens_per_word_before': 6.1, 'tokens_per_word_after': 2.5, ...}

`curve.json` and `curve.png` say what each size of the extension buys, in tokens per whitespace
word of held-out text. Sources count alike, however much of each there is: the largest one (law,
say) is not what a model will mostly read.
"""

import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from hebench.errors import ConfigError, DataError
from hebench.files import write_atomically, write_bytes_atomically
from hebench.train.bpe import Continuation, Merge, joiner
from hebench.train.checkpoints import TOKENIZER_NAME, CheckpointRecord, publish, tokenizer_sha256
from hebench.train.languages import language
from hebench.train.stage import Stage, StageRecord, open_stage
from hebench.train.texts import corpus_sha256, read_documents, source_files
from hebench.train.tokenizer_files import write_tokenizer
from hebench.train.vocabulary import Base, extended, read_base

FOLDER = "tokenizer"
_CURVE_POINTS = 40
_SCALE = 10**15  # of a source's words together; whole numbers, so that sums are exact


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """How a vocabulary is extended."""

    language: str  # code in hebench/train/languages.py
    tokens: int = 1000  # added to the vocabulary
    curve_tokens: int = 4000  # up to which the gain is measured
    words: int = 500_000  # whitespace words learned from, of each source, at most
    heldout_words: int = 20_000  # whitespace words measured, of each source, at most
    weights: dict[str, float] = field(default_factory=dict)  # of sources; 1 where not named

    def __post_init__(self) -> None:
        """Refuse sizes that are none."""
        language(self.language)
        for name in ("tokens", "words", "heldout_words"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, found {getattr(self, name)}")
        if self.curve_tokens < self.tokens:
            raise ConfigError(
                f"curve_tokens: expected at least tokens={self.tokens}, found {self.curve_tokens}"
            )
        for source, weight in self.weights.items():
            if not weight >= 0:
                raise ConfigError(f"weights.{source}: expected 0 or more, found {weight}")


@dataclass(frozen=True, kw_only=True)
class Counted:
    """A source's text as the merges see it."""

    words: int  # whitespace words
    pieces: Counter[str]  # from Base.pieces


def run(config: TokenizerConfig, *, model: Path, corpus: Path, out: Path) -> StageRecord:
    """Extend the tokenizer of `model` into `out`/tokenizer and return the stage's record.

    corpus: with train/<language>/ and heldout/<language>/. Raises CheckpointError for a tokenizer
    that cannot be extended, DataError for a corpus with too little of the language.
    """
    train, heldout = corpus / "train" / config.language, corpus / "heldout"
    inputs = {
        "tokenizer": tokenizer_sha256(model),
        "train": corpus_sha256(train),
        "heldout": corpus_sha256(heldout),
    }
    with open_stage(out, "tokenizer", config, inputs) as stage:
        if stage.record.finished:
            return stage.record
        base = read_base(model)
        learned = count(base, train, config.words)
        measured = count(base, heldout / config.language, config.heldout_words)
        merges, curve = grow(base, config, learned, measured)
        folder = _publish(base, merges, stage)
        write_atomically(out / "curve.json", json.dumps(curve, indent=2) + "\n")
        write_bytes_atomically(out / "curve.png", plot(curve, config))
        return stage.finish(_measure(base, folder, heldout, config))


def count(base: Base, corpus: Path, words: int) -> dict[str, Counted]:
    """Return the pieces of about `words` whitespace words of each source of a folder."""
    found = {}
    for source, paths in tqdm(source_files(corpus).items(), desc="reading", disable=None):
        pieces: Counter[str] = Counter()
        seen = 0
        for text in _texts(paths, words):
            seen += len(text.split())
            pieces.update(base.pieces(text))
        found[source] = Counted(words=seen, pieces=pieces)
    return found


def _texts(paths: Sequence[Path], words: int) -> Iterator[str]:
    """Yield texts of about `words` whitespace words in all, as many from each file, from its top.

    Raises DataError for a file without text.
    """
    for path in paths:
        left = words / len(paths)
        for document in read_documents(path):
            if left <= 0:
                break
            left -= len(document.text.split())
            yield document.text


def grow(
    base: Base,
    config: TokenizerConfig,
    learned: Mapping[str, Counted],
    measured: Mapping[str, Counted],
) -> tuple[list[Merge], list[dict[str, Any]]]:
    """Return the merges that add `config.tokens` pieces, and the points of the gain curve.

    A point is `tokens` added, `tokens_per_word` as the mean over the sources of `measured`, and
    `sources` by name. Raises DataError if `learned` holds fewer pairs that may become a piece.
    """
    weights = _weights(config, learned)
    words = list(weights | dict.fromkeys((w for part in measured.values() for w in part.pieces), 0))
    growth = Continuation(
        map(base.split, words),
        [weights.get(word, 0) for word in words],
        merges=base.merges,
        join=joiner(base.spelling, language(config.language)),
    )
    occurrences = {
        source: np.array([part.pieces[word] for word in words]) / part.words
        for source, part in measured.items()
    }
    every = max(config.curve_tokens // _CURVE_POINTS, 1)
    known = set(base.ids)
    curve, merges, chosen, added = [_point(0, growth, occurrences)], list[Merge](), 0, 0
    with tqdm(total=config.curve_tokens, desc="merging", unit="token", disable=None) as bar:
        while added < config.curve_tokens and (merge := growth.step()):
            merges.append(merge)
            if merge.piece in known:
                continue  # another way to a piece that there is costs no row
            known.add(merge.piece)
            added += 1
            bar.update()
            if added == config.tokens:
                chosen = len(merges)
            if added % every == 0 or added == config.tokens:
                curve.append(_point(added, growth, occurrences))
    if added < config.tokens:
        raise DataError(
            f"expected text with {config.tokens} mergeable pairs of {config.language!r} pieces, "
            f"found {added} in {sum(part.words for part in learned.values()):,} words; "
            "give more text of the language, or ask for fewer tokens"
        )
    return merges[:chosen], curve


def _weights(config: TokenizerConfig, learned: Mapping[str, Counted]) -> dict[str, int]:
    """Return what each piece of the training text weighs: every source the same in all."""
    if unknown := config.weights.keys() - learned.keys():
        raise ConfigError(
            f"weights: no source {', '.join(sorted(unknown))}; there are {', '.join(learned)}"
        )
    total: Counter[str] = Counter()
    for source, part in learned.items():
        share = int(_SCALE * config.weights.get(source, 1.0))
        for piece, times in part.pieces.items():
            total[piece] += share * times // part.words
    return dict(total)


def _point(
    added: int, growth: Continuation, occurrences: Mapping[str, np.ndarray[Any, Any]]
) -> dict[str, Any]:
    """Return the curve's point at this moment; occurrences: of each word, per word of a source."""
    lengths = np.array([len(word) for word in growth.words])
    sources = {source: float(times @ lengths) for source, times in occurrences.items()}
    return {"tokens": added, "tokens_per_word": _mean(sources), "sources": sources}


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)


def _publish(base: Base, merges: list[Merge], stage: Stage) -> Path:
    text = json.dumps(extended(base, merges), ensure_ascii=False, indent=2) + "\n"

    def write(work: Path) -> None:
        write_tokenizer(base.tokenizer, work)
        write_atomically(work / TOKENIZER_NAME, text)

    record = CheckpointRecord(stage="tokenizer", parent=stage.record.key)
    return publish(stage.folder / FOLDER, write, record)


def _measure(base: Base, folder: Path, heldout: Path, config: TokenizerConfig) -> dict[str, Any]:
    """Return tokens per word of held-out text before and after, by the tokenizers themselves.

    Text of other languages, where nothing of this one stands in it, must come out the same.
    """
    from transformers import AutoTokenizer

    after = AutoTokenizer.from_pretrained(folder)
    own = language(config.language).own
    before_rates: dict[str, float] = {}
    after_rates: dict[str, float] = {}
    others: dict[str, float] = {}
    for part in sorted(path for path in heldout.iterdir() if path.is_dir()):
        for source, paths in source_files(part).items():
            texts = list(_texts(paths, config.heldout_words))
            if part.name != config.language:
                texts = [text for text in texts if not own.search(text)]
            words = sum(len(text.split()) for text in texts)
            old, new = _ids(base.tokenizer, texts), _ids(after, texts)
            if part.name == config.language:
                before_rates[source] = sum(map(len, old)) / words
                after_rates[source] = sum(map(len, new)) / words
            elif words:
                assert old == new, f"{part.name}/{source} is tokenised otherwise than before"
                others[f"{part.name}/{source}"] = sum(map(len, new)) / words
    return {
        "tokens_added": len(after) - base.rows,
        "tokens_per_word_before": _mean(before_rates),
        "tokens_per_word_after": _mean(after_rates),
        "tokens_per_word_after_by_source": after_rates,
        "tokens_per_word_unchanged": others,
    }


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    encoded = tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    return [encoding.ids for encoding in encoded]


def plot(curve: Sequence[Mapping[str, Any]], config: TokenizerConfig) -> bytes:
    """Return the gain curve as a PNG picture: each source thin, their mean thick."""
    from matplotlib.figure import Figure  # without pyplot nothing looks for a display

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    added = [point["tokens"] for point in curve]
    each = [[point["sources"][source] for point in curve] for source in curve[0]["sources"]]
    lines = axes.plot(added, np.transpose(each), color="0.75", linewidth=1)
    lines[0].set_label("each source")
    mean = [point["tokens_per_word"] for point in curve]
    axes.plot(added, mean, color="C0", linewidth=2.5, label="their mean")
    axes.legend(frameon=False)
    chosen = next(point for point in curve if point["tokens"] == config.tokens)
    axes.plot(config.tokens, chosen["tokens_per_word"], "o", color="C0")
    axes.annotate(
        f"{config.tokens:,} tokens: {chosen['tokens_per_word']:.2f}",
        (config.tokens, chosen["tokens_per_word"]),
        xytext=(12, 18),
        textcoords="offset points",
    )
    axes.set(
        title=f"{language(config.language).name}: what an extended vocabulary buys",
        xlabel="tokens added to the vocabulary",
        ylabel="tokens per word of held-out text",
        xlim=(0, None),
        ylim=(0, None),
    )
    axes.grid(alpha=0.3)
    target = io.BytesIO()
    figure.savefig(target, format="png", metadata={"Software": None})
    return target.getvalue()
