"""Intervals for scores of a whole corpus, BLEU and chrF++, which are no means of items.

Each item leaves its counts (n-grams, matches, lengths); a corpus score is a function of their
sums. So a resample of items is a row of counts times a matrix, and no text is read again:
`hebench.metrics.text.chrf_statistics` and `bleu_statistics` make the rows.

    >>> rows = chrf_statistics([("הילד אכל תפוח", ["הילד אכל תפוח ירוק"]), ("שלום", ["שלום לך"])])
    >>> corpus_bootstrap(rows, chrf_from_statistics).text()
    '66.4 [57.5, 72.9]'

Whole clusters (documents) are drawn, with replacement. A plain percentile interval of few units
is too narrow; its percentiles are moved out as Hesterberg 2015 (The American Statistician 69,
371-386, section 5.3) says, by the factor of a t interval with n - 1 in the variance.

Letters: n items, k statistics an item, G clusters, R resamples.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hebench.stats.intervals import ROUNDING, Interval, Labels, cluster_codes, wilson

Floats = NDArray[np.float64]
CorpusScore = Callable[[Floats], Floats]  # (R, k) sums -> (R,) scores in [0, 1]

CHUNK = 2_000_000  # counts drawn at once, 16 MB


@dataclass(frozen=True, kw_only=True)
class CorpusDifference:
    """The corpus scores of two systems on the same items; differences are a - b."""

    score_a: float
    score_b: float
    difference: float
    low: float
    high: float
    p: float  # two-sided: twice the smaller share of resamples on either side of 0
    n: int
    clusters: int


def corpus_bootstrap(  # noqa: PLR0913 (each is named at the call)
    statistics: Floats,
    score: CorpusScore,
    clusters: Labels | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Return the corpus score of n items with its bootstrap interval.

    statistics: (n, k). Where resamples do not vary, and for one cluster, the rules of
    `intervals.mean_interval` hold. Raises ValueError for no item or wrong shapes.
    """
    rows, codes = _by_cluster(statistics, clusters)
    units = len(rows)
    mean = float(score(rows.sum(axis=0, keepdims=True))[0])
    drawn = _resampled(rows, (score,), resamples, seed)[0]
    error = float(drawn.std(ddof=1))
    z = float(stats.norm.ppf(0.5 + level / 2))
    if units < 2:
        low, high, error, method = 0.0, 1.0, 0.5 / z, "undefined: one independent unit"
    elif error < ROUNDING:
        low, high = wilson(mean, units, level)
        error, method = (high - low) / (2 * z), "wilson"
    else:
        low, high = percentile_interval(drawn, units, level)
        method = f"bootstrap, {units} {'items' if clusters is None else 'clusters'}"
    return Interval(
        mean=mean,
        low=low,
        high=high,
        standard_error=error,
        n=len(codes),
        clusters=units,
        unscored=0,
        method=method,
    )


def paired_corpus_bootstrap(  # noqa: PLR0913 (each is named at the call)
    statistics_a: Floats,
    statistics_b: Floats,
    score: CorpusScore,
    clusters: Labels | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> CorpusDifference:
    """Return the difference of two systems' corpus scores, both on the same resamples.

    statistics_a, statistics_b: (n, k), same items in the same order. With one cluster the
    interval is [-1, 1] and p 1. Raises ValueError for no item or unequal shapes.
    Koehn 2004, EMNLP, 388-395, two-sided, with 1 added to hits and resamples.
    """
    if statistics_a.shape != statistics_b.shape:
        raise ValueError(f"expected equal shapes, found {statistics_a.shape}, {statistics_b.shape}")
    k = statistics_a.shape[-1]
    rows, codes = _by_cluster(np.concatenate([statistics_a, statistics_b], axis=-1), clusters)
    parts: tuple[CorpusScore, ...] = (lambda sums: score(sums[:, :k]), lambda s: score(s[:, k:]))
    score_a, score_b = (float(part(rows.sum(axis=0, keepdims=True))[0]) for part in parts)
    drawn_a, drawn_b = _resampled(rows, parts, resamples, seed)
    drawn = drawn_a - drawn_b
    low, high, p = -1.0, 1.0, 1.0
    if len(rows) > 1:
        low, high = percentile_interval(drawn, len(rows), level)
        smaller = min(int((drawn <= ROUNDING).sum()), int((drawn >= -ROUNDING).sum()))
        p = min(1.0, 2 * (1 + smaller) / (1 + resamples))
    return CorpusDifference(
        score_a=score_a,
        score_b=score_b,
        difference=score_a - score_b,
        low=low,
        high=high,
        p=p,
        n=len(codes),
        clusters=len(rows),
    )


def percentile_interval(drawn: Floats, units: int, level: float) -> tuple[float, float]:
    """Return the percentile interval of resampled values, moved out for few `units` (>= 2).

    The tail share becomes Phi(-sqrt(G / (G - 1)) t), t the quantile of Student's t(G - 1).
    """
    t = float(stats.t.ppf(0.5 + level / 2, units - 1))
    tail = float(stats.norm.cdf(-np.sqrt(units / (units - 1)) * t))
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


def bleu_from_statistics(sums: Floats) -> Floats:
    """Return corpus BLEU-4 in [0, 1], smoothed exponentially, full order: sacrebleu's default.

    sums: (R, 10): hypothesis length, reference length, 4 matches, 4 n-gram totals.
    """
    length, reference = sums[:, 0], sums[:, 1]
    correct, total = sums[:, 2:6], sums[:, 6:10]
    # The k-th order in a row without a match counts as 2^-k matches.
    halvings = np.cumsum(correct == 0, axis=1)
    matches = np.where(correct > 0, correct, 0.5**halvings)
    usable = (total > 0).all(axis=1) & (correct > 0).any(axis=1)
    logs = np.log(matches / np.where(total > 0, total, 1)).mean(axis=1)
    brevity = np.minimum(0, 1 - reference / np.where(length > 0, length, 1))
    return np.where(usable, np.minimum(1, np.exp(logs + brevity)), 0.0)


def chrf_from_statistics(sums: Floats) -> Floats:
    """Return corpus chrF++ in [0, 1], beta 2, orders without n-grams left out, as sacrebleu has it.

    sums: (R, 3 * orders): n-grams of the hypothesis, of the reference, and matches, an order.
    """
    hypothesis, reference, matches = (sums[:, start::3] for start in range(3))
    usable = (hypothesis > 0) & (reference > 0)
    orders = np.maximum(1, usable.sum(axis=1))
    precision = np.where(usable, matches / np.where(usable, hypothesis, 1), 0).sum(axis=1) / orders
    recall = np.where(usable, matches / np.where(usable, reference, 1), 0).sum(axis=1) / orders
    below = 4 * precision + recall
    scores: Floats = np.minimum(1, 5 * precision * recall / np.where(below > 0, below, 1))
    return scores


def _by_cluster(statistics: Floats, clusters: Labels | None) -> tuple[Floats, NDArray[np.int64]]:
    """Return (G, k) sums of the clusters and the (n,) codes of the items."""
    values = np.asarray(statistics, dtype=np.float64)
    if values.ndim != 2 or not len(values):
        raise ValueError(f"expected (n, k) with n > 0, found {values.shape}")
    if clusters is None:
        return values, np.arange(len(values))
    codes = cluster_codes(clusters, len(values))
    rows = np.zeros((int(codes.max()) + 1, values.shape[1]))
    np.add.at(rows, codes, values)
    return rows, codes


def _resampled(
    rows: Floats, scores: Sequence[CorpusScore], resamples: int, seed: int
) -> list[Floats]:
    """Return (R,) values of each score, all on the same draws of G of the G rows."""
    generator = np.random.default_rng(seed)
    found: list[list[Floats]] = [[] for _ in scores]
    for sums in _sums(rows, resamples, generator):
        for values, score in zip(found, scores, strict=True):
            values.append(score(sums))
    return [np.concatenate(values) for values in found]


def _sums(rows: Floats, resamples: int, generator: np.random.Generator) -> Iterator[Floats]:
    units = len(rows)
    step = max(1, CHUNK // units)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        picked = generator.integers(0, units, size=(size, units))
        places = picked + units * np.arange(size)[:, None]
        counts = np.bincount(places.ravel(), minlength=size * units).reshape(size, units)
        yield counts @ rows
