"""What a model is worth between the stages: bits per byte of held-out text, and how near a
student's states are to its teacher's.

Bits per byte are counted over the text's UTF-8 bytes, which are the same whatever the tokenizer;
a loss per token is not comparable, since longer tokens carry more.

    >>> found = bits_of(model, tokenizer, held_out(folder, words=60, per_source_words=1500))
    >>> summary(found)["bits_per_byte"], summary(found)["bits_per_byte_low"]
    (2.825, 2.73)
    >>> difference(after, before)            # paired: both read the same passages
    Difference(mean=-0.081, low=-0.09, high=-0.07, ...)

The overall figure is the mean over sources, each counted once, because the held-out text of one
source may be much longer than another's. Its interval says what other documents *of these sources*
would have given; a source that is one single document adds nothing to it, and where all are, it is
unknown: NaN.
Letters: P passages.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from hebench.errors import DataError
from hebench.train.passages import Passage, batches, prefix_id

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Bits:
    """How many bits a model needs for each of P passages, and how many bytes those have."""

    bits: Floats  # (P,)
    size: Floats  # (P,), UTF-8 bytes
    sources: tuple[str, ...]  # (P,)
    documents: tuple[str, ...]  # (P,), their ids
    tokens: int  # of all passages, without prefixes
    words: int


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Bits per byte of one model minus another's, a mean over sources with its 95 % interval."""

    mean: float
    low: float  # NaN, as `high`, where the interval is unknown
    high: float


@dataclass(frozen=True, kw_only=True)
class Nearness:
    """How near a student's states are to its teacher's, over held-out words."""

    relative_error: float  # squared error / squared distance of the teacher's from their mean
    cosine: float  # mean over states, in [-1, 1]
    states: int


def bits_of(
    model: Any, tokenizer: Any, passages: Sequence[Passage], batch_tokens: int = 1024
) -> Bits:
    """Return the bits that a causal model needs for each passage, given the prefix token alone.

    Raises DataError if there are no passages, or if a probability is not a number.
    """
    if not passages:
        raise DataError("expected held-out passages, found none; give a corpus with heldout/")
    prefix = prefix_id(tokenizer)
    texts = [passage.text for passage in passages]
    rows = [[prefix, *ids] for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    bits = np.zeros(len(rows))
    model.eval()
    with tqdm(total=len(rows), desc="bits per byte", unit="passage", disable=None) as bar:
        for indices in batches([len(row) for row in rows], batch_tokens):
            ids, targets = padded([rows[i] for i in indices], prefix)
            # No mask is needed: padding stands behind, where a causal model does not look.
            with torch.no_grad():
                logits = model(input_ids=ids.to(model.device), use_cache=False).logits[:, :-1]
            losses = functional.cross_entropy(
                logits.float().transpose(1, 2), targets.to(model.device), reduction="none"
            )
            bits[indices] = losses.double().sum(1).cpu().numpy() / math.log(2)
            bar.update(len(indices))
    if not np.isfinite(bits).all():
        raise DataError("bits per byte: found a probability that is no number; the model is broken")
    return Bits(
        bits=bits,
        size=np.array([len(text.encode("utf-8")) for text in texts], dtype=np.float64),
        sources=tuple(passage.source for passage in passages),
        documents=tuple(passage.document for passage in passages),
        tokens=sum(len(row) - 1 for row in rows),
        words=sum(len(text.split()) for text in texts),
    )


def padded(rows: Sequence[Sequence[int]], filler: int) -> tuple[Tensor, Tensor]:
    """Return token ids (batch, time) and next-token targets (batch, time - 1), -100 in padding."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), filler)
    targets = torch.full((len(rows), longest - 1), -100)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
        targets[place, : len(row) - 1] = torch.tensor(row[1:])
    return ids, targets


def summary(found: Bits) -> dict[str, Any]:
    """Return bits per byte, mean over sources with its interval, of each source, and tokens."""
    mean, low, high = _over_sources(found.bits, found)
    return {
        "bits_per_byte": mean,
        "bits_per_byte_low": low,
        "bits_per_byte_high": high,
        "bits_per_byte_by_source": {
            name: float(found.bits[at].sum() / found.size[at].sum())
            for name, at in _places(found).items()
        },
        "tokens_per_word": found.tokens / found.words,
        "passages": len(found.bits),
    }


def difference(a: Bits, b: Bits) -> Difference:
    """Return bits per byte of `a` minus those of `b`, passage by passage.

    Raises ValueError if they are not of the same passages.
    """
    if a.sources != b.sources or not np.array_equal(a.size, b.size):
        raise ValueError("expected bits of the same passages")
    mean, low, high = _over_sources(a.bits - b.bits, a)
    return Difference(mean=mean, low=low, high=high)


def _over_sources(bits: Floats, of: Bits) -> tuple[float, float, float]:
    """Return the mean over sources of bits per byte, and its 95 % interval: NaN if unknown.

    A source's figure is a ratio of sums; its error is that of the linearised ratio, summed within
    documents. The sources' errors add up, with Satterthwaite's degrees of freedom.
    """
    means, variances, freedom = [], [], []
    for at in _places(of).values():
        size = of.size[at].sum()
        means.append(bits[at].sum() / size)
        _, codes = np.unique([of.documents[i] for i in at], return_inverse=True)
        count = int(codes.max()) + 1
        left = np.bincount(codes, weights=bits[at] - means[-1] * of.size[at])
        if count > 1:
            variances.append(count / (count - 1) * float(left @ left) / size**2)
            freedom.append(count - 1)
    mean, total = float(np.mean(means)), float(np.sum(variances))
    if not variances:  # each source is one document: nothing says how others would differ
        return mean, math.nan, math.nan
    if total == 0:
        return mean, mean, mean
    parts = sum(v * v / f for v, f in zip(variances, freedom, strict=True))
    half = float(stats.t.ppf(0.975, total * total / parts)) * math.sqrt(total) / len(means)
    return mean, mean - half, mean + half


def _places(found: Bits) -> dict[str, NDArray[np.int64]]:
    names = np.array(found.sources)
    return {str(name): np.flatnonzero(names == name) for name in np.unique(names)}


def nearness(student: Tensor, teacher: Tensor) -> Nearness:
    """Return how near a student's states (words, D) are to its teacher's, in the same order."""
    ours, theirs = student.double(), teacher.double()
    error = (ours - theirs).square().sum()
    energy = (theirs - theirs.mean(0)).square().sum()
    cosine = functional.cosine_similarity(ours, theirs, dim=-1).mean()
    return Nearness(relative_error=float(error / energy), cosine=float(cosine), states=len(theirs))
