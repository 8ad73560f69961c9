"""How fast the statistics of the board are, beside named packages on the same data.

    python benchmarks/stats_speed.py

Ratios of times in one process, several runs, the lowest and highest ratio in brackets. Where the
peer would take minutes it does a sample of the work, and its time is scaled up: the table says
which. Nothing is timed before the answers have been compared.
"""

import time
from collections.abc import Callable

import numpy as np
from errorbars.compare import paired_compare
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import _bootstrap_resample
from scipy import stats

from hebench.metrics.text import chrf_statistics
from hebench.stats.paired import compare
from hebench.stats.ranks import difference_variances, rank_sets
from hebench.stats.resample import chrf_from_statistics, corpus_bootstrap

RUNS = 3
MODELS, ITEMS = 200, 20_000
SAMPLED_PAIRS = 300
SEGMENTS, RESAMPLES = 1000, 1000
FLIPS, SAMPLED_FLIPS = 10_000, 200


def seconds(work: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def print_row(name: str, peer: str, timed: list[tuple[float, float]]) -> None:
    """Print our time, the peer's, and the ratio, from (ours, peer's) of each run."""
    ratios = sorted(theirs / ours for ours, theirs in timed)
    ours, theirs = (sorted(column)[len(timed) // 2] for column in zip(*timed, strict=True))
    print(
        f"| {name} | {ours:.2f} s | {peer} | {theirs:.1f} s | {ratios[len(ratios) // 2]:.0f} "
        f"({ratios[0]:.0f} to {ratios[-1]:.0f}) |",
        flush=True,
    )


def all_pairs() -> None:
    """Time the errors of all pairs and the rank sets, against one comparison after another.

    Items are independent and graded, the peer's best case: with clusters, and with its exact
    McNemar test of 20,000 binary items, it takes seconds a pair.
    """
    generator = np.random.default_rng(0)
    easy = generator.uniform(0.2, 0.8, ITEMS)
    scores = np.clip(easy + generator.normal(0, 0.1, (MODELS, ITEMS)), 0, 1)
    codes = np.arange(ITEMS)
    variances = difference_variances(scores, codes)
    pairs = [generator.choice(MODELS, 2, replace=False) for _ in range(SAMPLED_PAIRS)]
    for i, j in pairs[:5]:
        expected = paired_compare(scores[i], scores[j]).se_paired
        assert np.isclose(np.sqrt(variances[i, j]), expected), "the errors differ"

    def ours() -> object:
        found = difference_variances(scores, codes)
        return rank_sets(scores.mean(axis=1), found, dof=int(codes.max()))

    def theirs() -> None:
        for i, j in pairs:
            paired_compare(scores[i], scores[j])

    scale = MODELS * (MODELS - 1) / 2 / SAMPLED_PAIRS
    timed = [(seconds(ours), seconds(theirs) * scale) for _ in range(RUNS)]
    print_row(
        f"errors of {MODELS * (MODELS - 1) // 2:,} pairs, {ITEMS:,} items, and rank sets",
        f"errorbars, pair by pair, no rank sets; scaled from {SAMPLED_PAIRS} pairs",
        timed,
    )


def corpus_scores() -> None:
    """Time the bootstrap of corpus chrF++ from the same statistics."""
    words = ["הילד", "אכל", "תפוח", "ירוק", "בבית", "הספר", "שלום", "כל", "יום", "גדול"]
    generator = np.random.default_rng(0)
    drawn = [generator.choice(words, (2, 18)) for _ in range(SEGMENTS)]
    rows = chrf_statistics([(" ".join(a), [" ".join(b)]) for a, b in drawn])
    metric, plain = CHRF(word_order=2), rows.tolist()
    score = 100 * corpus_bootstrap(rows, chrf_from_statistics).mean
    assert np.isclose(metric._aggregate_and_compute(plain).score, score), "the scores differ"
    timed = [
        (
            seconds(lambda: corpus_bootstrap(rows, chrf_from_statistics, resamples=RESAMPLES)),
            seconds(lambda: _bootstrap_resample(plain, metric, RESAMPLES)),
        )
        for _ in range(RUNS)
    ]
    print_row(
        f"corpus chrF++, {SEGMENTS:,} items, {RESAMPLES:,} resamples",
        "sacrebleu, its own bootstrap of the same statistics",
        timed,
    )


def one_pair() -> None:
    """Time one comparison, sign flips and bootstrap included, against scipy's sign flips alone."""
    generator = np.random.default_rng(0)
    a, b = (generator.random((2, ITEMS)) < 0.6).astype(float)

    def theirs() -> float:
        found = stats.permutation_test(
            (a, b),
            lambda x, y, axis: (x - y).mean(axis=axis),
            permutation_type="samples",
            n_resamples=SAMPLED_FLIPS,
            vectorized=True,
            batch=50,
            rng=generator,
        )
        return float(found.pvalue)

    assert abs(theirs() - compare(a, b, draws=FLIPS).sign_flip_p) < 0.15, "the p-values differ"
    timed = [
        (seconds(lambda: compare(a, b, draws=FLIPS)), seconds(theirs) * FLIPS / SAMPLED_FLIPS)
        for _ in range(RUNS)
    ]
    print_row(
        f"one pair of {ITEMS:,} 0/1 items, {FLIPS:,} sign flips and as many resamples",
        f"scipy's permutation test, flips alone; scaled from {SAMPLED_FLIPS} flips",
        timed,
    )


def main() -> None:
    """Print the table."""
    print(f"| work | ours | peer | peer's time | ratio of {RUNS} runs |")
    print("|---|---|---|---|---|")
    all_pairs()
    corpus_scores()
    one_pair()


if __name__ == "__main__":
    main()
