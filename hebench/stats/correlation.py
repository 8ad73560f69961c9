"""Do two measures order the same models alike: a rank correlation that admits how little few say.

>>> found = rank_correlation([0.2, 0.4, 0.5, 0.9], [0.1, 0.5, 0.3, 0.7])
>>> f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"
'0.80 [-0.82, 1.00]'
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """Spearman's coefficient, in [-1, 1], of `n` pairs; None where one measure is constant."""

    value: float | None
    low: float
    high: float
    n: int


def rank_correlation(a: Sequence[float], b: Sequence[float], *, level: float = 0.95) -> Correlation:
    """Return Spearman's rank correlation with its interval on Fisher's scale.

    The variance is that of Bonett and Wright 2000 (Psychometrika 65, 23-28),
    (1 + rho^2 / 2) / (n - 3): three pairs say nothing, [-1, 1]. Orders that agree (or disagree)
    throughout would be known with certainty; the bound is then that of the nearest other order,
    in which two neighbours are swapped. Raises ValueError for unequal lengths or fewer than 3.
    """
    n = len(a)
    if n != len(b) or n < 3:
        raise ValueError(f"expected 3 or more pairs, found {n} and {len(b)}")
    if len(set(a)) == 1 or len(set(b)) == 1:
        return Correlation(value=None, low=-1.0, high=1.0, n=n)
    value = float(stats.spearmanr(a, b).statistic)
    if n == 3:
        return Correlation(value=value, low=-1.0, high=1.0, n=n)
    nearest = 1 - 12 / (n * (n * n - 1))
    inside = max(-nearest, min(nearest, value))
    half = float(stats.norm.ppf(0.5 + level / 2)) * math.sqrt((1 + inside**2 / 2) / (n - 3))
    low, high = (math.tanh(math.atanh(inside) + move) for move in (-half, half))
    return Correlation(value=value, low=min(low, value), high=max(high, value), n=n)
