"""How sure a mean score is: one 95 % interval, by a rule that is printed beside it.

The rule, in order:

1. Items that come in clusters (questions of one passage): cluster-robust standard error and
   Student's t with G - 1 degrees of freedom, G the number of clusters.
2. Scores that are all 0 or 1: Wilson's interval, which stays honest near 0 and 1 and for
   small n, where mean +/- 1.96 SE covers far less than it says.
3. Other scores: Student's t with n - 1 degrees of freedom.

If the independent units do not vary (all wrong, all right, one of two right in every pair),
rules 1 and 3 would claim certainty; Wilson's interval on the number of units stands in. One
unit alone tells nothing: [0, 1]. Where such an interval stands in, half its width over z is the
standard error that averages over tasks count with, so no task enters them as certain.

    >>> mean_interval([1, 0, 1, 1, 0, 1, 1, 1, 0, 1]).text()
    '70.0 [39.7, 89.2]'
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Labels = Sequence[Hashable] | NDArray[np.int64]

ROUNDING = 1e-12  # a standard error below it means that the units do not vary


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean in [0, 1] with its confidence interval and how it was found."""

    mean: float
    low: float
    high: float
    standard_error: float  # of the mean, cluster-robust; never 0 (see above)
    n: int
    clusters: int
    unscored: int
    method: str

    def text(self) -> str:
        """Return mean and interval in percent, as tables print them."""
        if math.isnan(self.mean):
            return "unscored"
        return f"{100 * self.mean:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def wilson(mean: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval for a proportion `mean` of `n` independent units.

    Wilson 1927, JASA 22, 209-212. Raises ValueError unless 0 <= mean <= 1 and n > 0.
    """
    if not 0 <= mean <= 1 or n <= 0:
        raise ValueError(f"expected a proportion and n > 0, found mean {mean}, n {n}")
    z = float(stats.norm.ppf(0.5 + level / 2))
    centre = (mean + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def cluster_standard_error(scores: Floats, clusters: NDArray[np.int64]) -> float:
    """Return the standard error of the mean of `scores`, items summed within clusters.

    scores: shape (n,); clusters: shape (n,), codes 0..G-1. With residuals r,
    SE^2 = G / (G - 1) * sum_c (sum_{i in c} r_i)^2 / n^2 (Miller 2024, arXiv 2411.00640).
    With every item its own cluster this is the ordinary sd / sqrt(n).
    Raises ValueError for fewer than two clusters.
    """
    count = int(clusters.max()) + 1
    if count < 2:
        raise ValueError("a standard error needs at least two clusters, found one")
    sums = np.bincount(clusters, weights=scores - scores.mean(), minlength=count)
    return math.sqrt(count / (count - 1) * float(sums @ sums)) / len(scores)


def mean_interval(
    scores: Sequence[float] | Floats,
    clusters: Labels | None = None,
    *,
    level: float = 0.95,
) -> Interval:
    """Return the mean of per-item `scores` with its interval, by the rule of this module.

    scores: one number in [0, 1] an item, NaN for an item that could not be judged (counted in
    `unscored`, left out of the mean). clusters: one label an item; None if items are independent.
    Raises ValueError for no scores, for scores outside [0, 1] and for unequal lengths.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0:
        raise ValueError("expected at least one score, found none")
    all_codes = cluster_codes(clusters, values.size)
    judged = ~np.isnan(values)
    if not np.all((values[judged] >= 0) & (values[judged] <= 1)):
        raise ValueError(
            f"expected scores in [0, 1], found {np.nanmin(values)} to {np.nanmax(values)}"
        )
    unscored = int(values.size - judged.sum())
    codes = all_codes[judged]
    values = values[judged]
    if values.size == 0:
        return Interval(
            mean=math.nan,
            low=0.0,
            high=1.0,
            standard_error=math.nan,
            n=0,
            clusters=0,
            unscored=unscored,
            method="none",
        )
    codes = np.unique(codes, return_inverse=True)[1]
    count = int(codes.max()) + 1
    mean = float(values.mean())
    low, high, error, method = _bounds(values, codes, count, level)
    return Interval(
        mean=mean,
        low=low,
        high=high,
        standard_error=error,
        n=int(values.size),
        clusters=count,
        unscored=unscored,
        method=method,
    )


def cluster_codes(clusters: Labels | None, n: int) -> NDArray[np.int64]:
    """Return a code 0..G-1 for each of n labels; without labels every item has its own.

    Raises ValueError unless there are n labels.
    """
    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise ValueError(f"expected {n} cluster labels, found {len(clusters)}")
    if isinstance(clusters, np.ndarray):
        return np.unique(clusters, return_inverse=True)[1]
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(label, len(seen)) for label in clusters], dtype=np.int64)


def _bounds(
    values: Floats, codes: NDArray[np.int64], count: int, level: float
) -> tuple[float, float, float, str]:
    """Return low, high, standard error and method."""
    mean = float(values.mean())
    z = float(stats.norm.ppf(0.5 + level / 2))
    clustered = count < values.size
    if count < 2:
        return 0.0, 1.0, 0.5 / z, "undefined: one independent unit"
    binary = bool(np.all((values == 0) | (values == 1)))
    error = cluster_standard_error(values, codes)
    constant = error < ROUNDING
    if (binary and not clustered) or constant:
        low, high = wilson(mean, count, level)
        return low, high, (high - low) / (2 * z) if constant else error, "wilson"
    half = float(stats.t.ppf(0.5 + level / 2, count - 1)) * error
    method = f"cluster-robust t, {count} clusters" if clustered else "t"
    return max(0.0, mean - half), min(1.0, mean + half), error, method
