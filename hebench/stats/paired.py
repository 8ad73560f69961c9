"""Whether one model is better than another on the same items, and how small a difference shows.

Two models that answer the same items share the items' difficulty. A test on the differences
item by item leaves it out; the usual test on two means does not, and misses real differences.

    >>> a = np.array([1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 1], dtype=float)
    >>> b = np.array([1, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1], dtype=float)
    >>> found = compare(a, b)
    >>> f"{found.difference:.2f} [{found.low:.2f}, {found.high:.2f}], p {found.p:.3f}, {found.test}"
    '0.50 [0.17, 0.83], p 0.031, exact McNemar'

The rule, printed as `test`:

1. All scores 0 or 1 and items independent: McNemar's exact test on the items that differ.
2. Otherwise Student's t on the cluster-robust error of the differences, G - 1 degrees of freedom.

The interval is that of rule 2 in both cases. Differences that do not vary (the same model twice;
one that is right wherever the other is wrong) have no error to measure, which is not certainty:
the standard error is then 1/G, what a single 0/1 unit that differs would make it. One unit alone
tells nothing: [-1, 1], p = 1. Sign flips and the bootstrap stand beside, resting on less theory.

"Not significant" says nothing without `detectable`, the true difference that such a test finds
with chance `power`. Letters: n items, G clusters (independent units).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hebench.stats.intervals import ROUNDING, Labels, cluster_codes, cluster_standard_error
from hebench.stats.macro import pooled_error, student
from hebench.stats.resample import percentile_interval

Floats = NDArray[np.float64]

EXACT_UNITS = 12  # 2^12 sign patterns are enumerated
CHUNK = 2_000_000  # numbers drawn at once, 16 MB


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Model a against model b on the items that both were judged on; differences are a - b."""

    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    p: float  # two-sided; NaN with no item
    test: str  # the test behind p, in words
    n: int
    clusters: int
    better: int  # items where a scored higher
    worse: int
    equal: int
    unscored: int  # items that one or both were not judged on
    standard_error: float
    detectable: float
    sign_flip_p: float
    bootstrap_low: float
    bootstrap_high: float


@dataclass(frozen=True, kw_only=True)
class MacroDifference:
    """The mean over tasks of the differences of two models; these tasks, not tasks in general."""

    difference: float
    low: float
    high: float
    p: float
    standard_error: float
    dof: float
    detectable: float
    tasks: int


def compare(  # noqa: PLR0913 (each is named at the call)
    a: Sequence[float] | Floats,
    b: Sequence[float] | Floats,
    clusters: Labels | None = None,
    *,
    level: float = 0.95,
    power: float = 0.8,
    draws: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Return the paired comparison of two score vectors on the same items, in the same order.

    a, b: (n,) in [0, 1], NaN where not judged: such items are left out of both and counted.
    clusters: one label an item; None if items are independent. draws, seed: of the sign flips and
    the bootstrap. Raises ValueError for unequal lengths, no items and scores outside [0, 1].
    """
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if left.shape != right.shape or left.ndim != 1 or not left.size:
        raise ValueError(f"expected two vectors of n > 0 scores, found {left.shape}, {right.shape}")
    judged = ~(np.isnan(left) | np.isnan(right))
    codes = cluster_codes(clusters, left.size)[judged]
    left, right = left[judged], right[judged]
    if not np.all((np.minimum(left, right) >= 0) & (np.maximum(left, right) <= 1)):
        raise ValueError("expected scores in [0, 1]")
    if not left.size:
        return _nothing(judged.size)
    codes = np.unique(codes, return_inverse=True)[1]
    units = int(codes.max()) + 1
    differences = left - right
    difference = float(differences.mean())
    error = _error(differences, codes, units)
    low, high, p = student(difference, error, units - 1, level, lowest=-1.0)
    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    p, test = _test(np.concatenate([left, right]), p, (better, worse), units)
    sums = np.bincount(codes, weights=differences, minlength=units).astype(np.float64)
    sizes = np.bincount(codes, minlength=units).astype(np.float64)
    generator = np.random.default_rng(seed)
    flipped = sign_flip_p(sums, draws, generator)
    means = _resampled_means(sums, sizes, draws, generator)
    bootstrap = percentile_interval(means, units, level) if units > 1 else (-1.0, 1.0)
    return Comparison(
        mean_a=float(left.mean()),
        mean_b=float(right.mean()),
        difference=difference,
        low=low,
        high=high,
        p=p,
        test=test,
        n=left.size,
        clusters=units,
        better=better,
        worse=worse,
        equal=left.size - better - worse,
        unscored=int(judged.size - left.size),
        standard_error=error,
        detectable=minimum_detectable(error, level, power),
        sign_flip_p=flipped,
        bootstrap_low=bootstrap[0],
        bootstrap_high=bootstrap[1],
    )


def mcnemar(better: int, worse: int) -> float:
    """Return the exact two-sided p-value of McNemar's test: items that differ fall either way.

    better, worse: items that only one of the two got right. 1.0 where there are none.
    McNemar 1947, Psychometrika 12, 153-157, with the binomial distribution itself.
    """
    return min(1.0, 2 * float(stats.binom.cdf(min(better, worse), better + worse, 0.5)))


def minimum_detectable(standard_error: float, level: float = 0.95, power: float = 0.8) -> float:
    """Return the true difference that a test at `level` finds with chance `power`."""
    return float((stats.norm.ppf(0.5 + level / 2) + stats.norm.ppf(power)) * standard_error)


def needed_items(  # noqa: PLR0913 (each is named at the call)
    sd_of_differences: float,
    difference: float,
    *,
    level: float = 0.95,
    power: float = 0.8,
    within_a: float = 0.0,
    within_b: float = 0.0,
    repeats: int = 1,
) -> int:
    """Return how many items a paired test needs to find a true `difference` with chance `power`.

    sd_of_differences: over items, of the *expected* scores' difference. within_a, within_b: the
    variances of one item's score over repeated generations, `repeats` of them a model, averaged.
    Miller 2024, arXiv 2411.00640. Raises ValueError for no difference or no repeat.
    """
    if difference == 0 or repeats < 1:
        raise ValueError(f"expected a difference and repeats, found {difference} and {repeats}")
    spread = sd_of_differences**2 + (within_a + within_b) / repeats
    return max(
        2, math.ceil(minimum_detectable(math.sqrt(spread), level, power) ** 2 / difference**2)
    )


def macro_difference(
    comparisons: Sequence[Comparison], *, level: float = 0.95, power: float = 0.8
) -> MacroDifference:
    """Return the mean of the differences of several tasks, each task counted once.

    The tasks are taken as they are and as independent: SE = sqrt(sum SE_t^2) / T, with
    Satterthwaite's degrees of freedom. Raises ValueError for no task or one without an item.
    """
    empty = [place for place, found in enumerate(comparisons) if not found.n]
    if not comparisons or empty:
        raise ValueError(f"expected tasks with items, found {len(comparisons)}, empty: {empty}")
    error, dof = pooled_error(
        [found.standard_error for found in comparisons],
        [found.clusters for found in comparisons],
    )
    difference = float(np.mean([found.difference for found in comparisons]))
    low, high, p = student(difference, error, dof, level, lowest=-1.0)
    return MacroDifference(
        difference=difference,
        low=low,
        high=high,
        p=p,
        standard_error=error,
        dof=dof,
        detectable=minimum_detectable(error, level, power),
        tasks=len(comparisons),
    )


def sign_flip_p(sums: Floats, draws: int, generator: np.random.Generator) -> float:
    """Return the two-sided p-value of flipping the signs of the units' summed differences.

    sums: (G,). If neither model is better in any unit, each sign could have been the other.
    Exact where at most 12 sums are not zero (a zero has no sign); else (1 + hits) / (1 + draws).
    """
    moving = np.abs(sums[np.abs(sums) > ROUNDING])
    observed = abs(float(sums.sum())) - 1e-9 * float(moving.sum())  # flips that only round off tie
    if moving.size <= EXACT_UNITS:
        patterns = np.arange(2**moving.size)[:, None] >> np.arange(moving.size) & 1
        return float(np.mean(np.abs((2 * patterns - 1) @ moving) >= observed))
    hits = 0
    for rows in _chunks(draws, moving.size):
        bits = np.frombuffer(generator.bytes(rows * -(-moving.size // 8)), dtype=np.uint8)
        signs = np.unpackbits(bits.reshape(rows, -1), axis=1, count=moving.size)
        totals = 2 * (signs.astype(np.float64) @ moving) - moving.sum()
        hits += int((np.abs(totals) >= observed).sum())
    return (1 + hits) / (1 + draws)


def _error(differences: Floats, codes: NDArray[np.int64], units: int) -> float:
    """Return the standard error of the mean difference, or 1/G where nothing varies."""
    error = cluster_standard_error(differences, codes) if units > 1 else 0.0
    return error if error >= ROUNDING else 1 / units


def _test(scores: Floats, p: float, differing: tuple[int, int], units: int) -> tuple[float, str]:
    """Return the p-value by the rule of this module, and its name."""
    n = scores.size // 2
    if units < 2:
        return p, "undefined: one independent unit"
    if units == n and np.all((scores == 0) | (scores == 1)):
        return mcnemar(*differing), "exact McNemar"
    return p, "paired t" if units == n else f"paired cluster-robust t, {units} clusters"


def _resampled_means(
    sums: Floats, sizes: Floats, draws: int, generator: np.random.Generator
) -> Floats:
    """Return (draws,) mean differences over G units drawn with replacement.

    Units that are alike need not be told apart: few kinds (0/1 scores have three) are drawn as
    counts, hundreds of times faster than unit by unit, from the same distribution.
    """
    units = len(sums)
    kinds, counts = np.unique(np.column_stack([sums, sizes]), axis=0, return_counts=True)
    means = np.empty(draws)
    if len(kinds) * 16 < units:
        drawn = generator.multinomial(units, counts / units, size=draws) @ kinds
        return np.asarray(drawn[:, 0] / drawn[:, 1])
    done = 0
    for rows in _chunks(draws, units):
        picked = generator.integers(0, units, size=(rows, units), dtype=np.int32)
        total = sums[picked].sum(axis=1)
        means[done : done + rows] = total / sizes[picked].sum(axis=1)
        done += rows
    return means


def _chunks(draws: int, width: int) -> Iterator[int]:
    """Yield how many draws of `width` numbers to make at once, until all are made."""
    rows = max(1, CHUNK // width)
    while draws > 0:
        yield min(rows, draws)
        draws -= rows


def _nothing(unscored: int) -> Comparison:
    return Comparison(
        mean_a=math.nan,
        mean_b=math.nan,
        difference=math.nan,
        low=-1.0,
        high=1.0,
        p=math.nan,
        test="none",
        n=0,
        clusters=0,
        better=0,
        worse=0,
        equal=0,
        unscored=unscored,
        standard_error=math.nan,
        detectable=math.nan,
        sign_flip_p=math.nan,
        bootstrap_low=-1.0,
        bootstrap_high=1.0,
    )
