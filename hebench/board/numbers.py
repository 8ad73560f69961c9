"""A model's other metrics on one column, computed anew from its record, each with an interval.

    >>> [(found.name, found.kind) for found in other_metrics(part)]
    [('f1', 'share'), ('exact_match', 'share')]

Metrics that are a number an item are means of items. Those of a whole corpus are no means: the
record keeps what their sums are made of (`TaskRecord.parts`), and whole clusters are resampled:

- `bleu_corpus`, `chrf_corpus`: rows of counts, as `hebench.stats.resample` reads them
- `bits_per_byte`: (log-likelihood in nats, bytes) of a text; -sum(ll) / (ln 2 sum(bytes))
- `macro_f1`: (gold, predicted) labels of an item, -1 for an answer that named none

Metrics that repeat the score, and those outside [0, 1] whose scale is unknown, are left out.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hebench.errors import DataError
from hebench.records import TaskRecord
from hebench.stats.intervals import Interval, mean_interval
from hebench.stats.resample import (
    CorpusScore,
    bleu_from_statistics,
    chrf_from_statistics,
    corpus_bootstrap,
)

Floats = NDArray[np.float64]

MAX_LABELS = 200  # of a classification; more are no labels, and would fill the memory
# Metrics of a whole corpus that are a function of the sums of the record's parts.
CORPUS_SCORES: dict[str, CorpusScore] = {
    "bleu_corpus": bleu_from_statistics,
    "chrf_corpus": chrf_from_statistics,
}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric of one model on one column.

    kind `share`: in [0, 1], printed in percent. kind `bits`: bits per byte, lower is better.
    """

    name: str
    kind: str
    value: float  # NaN where no item was judged
    low: float
    high: float
    n: int
    method: str  # as `Interval.method`


def other_metrics(part: TaskRecord) -> list[Metric]:
    """Return the metrics beside the score: those of the items in order, then of the corpus.

    Raises DataError for parts that are not what their metric adds up.
    """
    return [*_of_items(part), *_of_corpus(part)]


def method_words(method: str) -> tuple[str, int]:
    """Return the key of an interval's method in the catalogue, and the number that it names.

    >>> method_words("cluster-robust t, 42 clusters")
    ('clusters', 42)
    """
    name, _, rest = method.partition(", ")
    count = int(rest.split()[0]) if rest else 0
    if name == "bootstrap":
        return f"bootstrap_{rest.split()[1]}", count
    known = {"t": "t", "wilson": "wilson", "cluster-robust t": "clusters", "none": "none"}
    return known.get(name, "undefined"), count


def _of_items(part: TaskRecord) -> Iterator[Metric]:
    score = part.metrics["score"]
    for name, values in part.metrics.items():
        judged = [value for value in values if value is not None]
        if values == score or not all(0 <= value <= 1 for value in judged):
            continue
        found = mean_interval(np.array(values, dtype=np.float64), part.clusters)  # None: NaN
        yield _metric(name, "share", found)


def _of_corpus(part: TaskRecord) -> Iterator[Metric]:
    for name, rows in part.parts.items():
        sums = np.array(rows, dtype=np.float64)
        _require_summable(name, sums)
        if name == "bits_per_byte":
            yield _bits(name, corpus_bootstrap(sums, _byte_probability, part.clusters))
        elif name == "macro_f1":
            statistics, score = _label_counts(sums)
            yield _metric(name, "share", corpus_bootstrap(statistics, score, part.clusters))
        elif name in CORPUS_SCORES:
            found = corpus_bootstrap(sums, CORPUS_SCORES[name], part.clusters)
            yield _metric(name, "share", found)


def _require_summable(name: str, sums: Floats) -> None:
    width = sums.shape[1]
    right = {"bleu_corpus": width == 10, "chrf_corpus": width % 3 == 0, "macro_f1": width == 2}
    if not right.get(name, name != "bits_per_byte" or width == 2):
        raise DataError(f"{name}: rows of {width} numbers are not what this metric adds up")
    if name in CORPUS_SCORES and sums.min() < 0:
        raise DataError(f"{name}: expected counts of 0 or more, found {sums.min():g}")


def _metric(name: str, kind: str, found: Interval) -> Metric:
    return Metric(
        name=name,
        kind=kind,
        value=found.mean,
        low=found.low,
        high=found.high,
        n=found.n,
        method=found.method,
    )


def _bits(name: str, found: Interval) -> Metric:
    """Return bits per byte from an interval of 2^-bits; the order of the bounds turns round."""
    low, value, high = (
        -math.log2(share) if share > 0 else math.inf
        for share in (found.high, found.mean, found.low)
    )
    return Metric(
        name=name,
        kind="bits",
        value=max(0.0, value),
        low=max(0.0, low),
        high=high,
        n=found.n,
        method=found.method,
    )


def _byte_probability(sums: Floats) -> Floats:
    """Return 2^-bits per byte, which is in [0, 1] as the rules for intervals want it.

    sums: (R, 2), log-likelihoods in nats and bytes.
    """
    return np.asarray(np.exp(np.minimum(0.0, sums[:, 0] / np.maximum(sums[:, 1], 1))))


def _label_counts(pairs: Floats) -> tuple[Floats, CorpusScore]:
    """Return rows of (right, gold, predicted) an item and label, and macro-F1 of their sums.

    pairs: (n, 2). A label counts where it is gold or predicted, as in `metrics.choice.macro_f1`.
    """
    labels = np.unique(pairs[pairs >= 0])
    if len(labels) > MAX_LABELS:
        raise DataError(f"macro_f1: expected at most {MAX_LABELS} labels, found {len(labels)}")
    gold, predicted = pairs[:, :1] == labels, pairs[:, 1:] == labels
    size = len(labels)

    def macro_f1(sums: Floats) -> Floats:
        right, possible = sums[:, :size], sums[:, size : 2 * size] + sums[:, 2 * size :]
        f1 = np.where(possible > 0, 2 * right / np.maximum(possible, 1), 0.0)
        return np.asarray(f1.sum(axis=1) / np.maximum(1, (possible > 0).sum(axis=1)))

    statistics = np.concatenate([gold & predicted, gold, predicted], axis=1)
    return statistics.astype(np.float64), macro_f1
