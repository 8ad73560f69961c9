"""Which ranks a model can have, for all models at once, and how often it would come first.

A rank read off overlapping error bars is no statement with a stated chance of being wrong. The
sets here are one: with chance `level` *every* model's true rank lies in its set (Mogstad, Romano,
Shaikh, Wilhelm 2024, Review of Economic Studies 91, 476-518). Differences of pairs are
standardised by their *paired* errors; one critical value bounds the largest of them all.

    >>> scores = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]], dtype=float)
    >>> variances = difference_variances(scores, np.arange(4))
    >>> ranks = rank_sets(scores.mean(axis=1), variances, dof=3)
    >>> ranks.low.tolist(), ranks.high.tolist()
    ([1, 1, 1], [3, 3, 3])

Letters: M models, N items, G clusters (independent units), D draws. Rank 1 is the best.

The random numbers are a formula, not a generator's state: `hebench/board/static/stats.js`
computes the same in the reader's browser. To port `rank_sets`:

1. Order the models by falling rint(1e9 score), equal ones by index; all below is in this order, so
   that neither the order of rows in a table nor the rounding of a mean matters. Model 0, the best,
   is the reference.
2. S_ij = (V_i0 + V_j0 - V_ij) / 2. Its Cholesky factor L goes column by column from the left;
   a pivot (S_jj less the squares to its left) that is not above 1e-6 S_jj makes column j zero.
3. Normal number of draw d, coordinate m: k = d M + m, z = sqrt(-2 ln u(2k)) cos(2 pi u(2k + 1)),
   u(x) = (h(x) + 0.5) / 2^32, and h in arithmetic modulo 2^32: x ^= x >> 16; x *= 0x7feb352d;
   x ^= x >> 15; x *= 0x846ca68b; x ^= x >> 16. Then x_d = L z_d.
4. For each draw the largest |x_i - x_j| / sqrt(V_ij) over pairs; c is the ceil(level D)-th
   smallest of these (no interpolation), and c' the number that Student's t with `dof` exceeds
   as often as a normal number exceeds c.
5. k is better than j if s_k - s_j > c' sqrt(V_kj). Best possible rank of j: 1 + the models better
   than j; worst: M - the models that j is better than.
6. P(best): the share of draws in which s + x is largest at j; those within 1e-12 of the largest
   share the draw equally.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

PIVOT = 1e-6  # share of a variance: less is rounding, also of variances kept in 32 bits
ROUNDING = 1e-13  # of two models' summed variances: their difference does not vary
TIE = 1e-12
_BLOCK = 250  # draws looked at in one go


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Rank sets of M models at once; every array has shape (M,)."""

    low: Integers  # best possible rank
    high: Integers  # worst possible rank
    p_best: Floats  # share of the draws in which the model comes first; sums to 1
    best_set: NDArray[np.bool_]  # not distinguishable from the best: low == 1
    critical: float  # c', in standard errors of a pair's difference


def difference_variances(scores: Floats, codes: Integers) -> Floats:
    """Return the cluster-robust variance of the difference of means, for each pair: (M, M).

    scores: (M, N), NaN where an item could not be judged: it is left out of that model's mean.
    codes: (N,), the cluster of each item. With C_ic the sum of model i's residuals in cluster c
    over its number of judged items, V_ij = G / (G - 1) sum_c (C_ic - C_jc)^2: the square of
    the error that `paired.compare` gives, in one matrix product for all pairs.

    A pair that never varies (the same answers throughout) would be known with certainty; its
    variance is (1/G)^2, which is what one 0/1 item that differs makes of it. The diagonal is 0.
    Raises ValueError for wrong shapes and for a model without a judged item.
    """
    products, units = _products(scores, codes)
    own = np.diag(products)
    total = own[:, None] + own[None, :]
    variances = total - 2 * products
    floor = 1.0 / np.minimum(units[:, None], units[None, :]) ** 2
    unknown = (variances <= ROUNDING * total) | (floor == 1)  # rounding, or one unit alone
    variances = np.where(unknown, np.maximum(variances, floor), variances)
    np.fill_diagonal(variances, 0)
    return np.asarray(variances)


def mean_covariance(scores: Floats, codes: Integers) -> Floats:
    """Return the cluster-robust covariance of the models' means, (M, M).

    Arguments and errors as for `difference_variances`. A model whose units do not vary gets the
    variance (1/G)^2 in place of none.
    """
    products, units = _products(scores, codes)
    own = np.diag(products)
    unknown = (own <= ROUNDING) | (units == 1)
    return np.asarray(products + np.diag(np.where(unknown, 1.0 / units**2, own) - own))


def _products(scores: Floats, codes: Integers) -> tuple[Floats, Integers]:
    """Return the models' products of summed residuals, (M, M), and their clusters, (M,)."""
    if scores.ndim != 2 or codes.shape != scores.shape[1:]:
        raise ValueError(f"expected (M, N) and (N,), found {scores.shape} and {codes.shape}")
    judged = ~np.isnan(scores)
    counts = judged.sum(axis=1)
    if not counts.all():
        raise ValueError(f"no judged item in the models at places {np.flatnonzero(counts == 0)}")
    means = np.where(judged, scores, 0).sum(axis=1) / counts
    residuals = np.where(judged, scores - means[:, None], 0) / counts[:, None]
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=codes[order[0]] - 1))
    sums = np.add.reduceat(residuals[:, order], starts, axis=1)
    units = np.add.reduceat(judged[:, order], starts, axis=1, dtype=np.int64)
    units = (units > 0).sum(axis=1)
    sums *= np.sqrt(units / np.maximum(units - 1, 1))[:, None]
    return sums @ sums.T, units


def rank_sets(
    scores: Floats, variances: Floats, *, dof: float, level: float = 0.95, draws: int = 2000
) -> Ranks:
    """Return the simultaneous rank sets of M models and their chances of being first.

    scores: (M,), higher is better. variances: (M, M), of each pair's difference, positive off
    the diagonal. dof: degrees of freedom behind the variances (clusters less one), math.inf if
    they are known; 0 (one unit) leaves every rank possible. The chances of being first take the
    variances as known. Raises ValueError for other shapes, NaN, or variances that are not positive.
    """
    models = len(scores)
    if scores.ndim != 1 or variances.shape != (models, models) or not models:
        raise ValueError(f"expected (M,) and (M, M), found {scores.shape}, {variances.shape}")
    off = ~np.eye(models, dtype=bool)
    if not (np.isfinite(scores).all() and (variances[off] > 0).all()):
        raise ValueError("expected finite scores and variances above 0 off the diagonal")
    order = np.argsort(-np.rint(1e9 * scores), kind="stable")
    s, v = scores[order], variances[np.ix_(order, order)]
    x = standard_normals(draws, models) @ _factor((v[:, :1] + v[:1, :] - v) / 2).T
    critical = _widened(_largest_quantile(x, v, level), dof)
    # An infinite critical value is not multiplied by the diagonal's zero.
    bound = np.where(v > 0, critical * np.sqrt(np.where(v > 0, v, 1)), math.inf)
    better = s[:, None] - s[None, :] > bound
    back = np.argsort(order)
    low = (1 + better.sum(axis=0))[back]
    high = (models - better.sum(axis=1))[back]
    return Ranks(
        low=low,
        high=high,
        p_best=_chances_of_first(s + x)[back],
        best_set=low == 1,
        critical=critical,
    )


def may_be_best(
    scores: Floats, variances: Floats, *, dof: float, level: float = 0.95, draws: int = 2000
) -> NDArray[np.bool_]:
    """Return which of M models may be the best, (M,): with chance `level` the true best is among.

    Hsu's comparison with the best (1984, Annals of Statistics 12, 1136-1144) with paired errors:
    model j stays unless some k beats it by more than c_j standard errors, c_j the `level` quantile
    of max_k (x_k - x_j) / sqrt(V_kj). One-sided and about one model only, so it keeps fewer than
    the rank sets of all models do, and a thousand models take a second. Arguments and errors as
    for `rank_sets`; the model with the highest score always stays.
    """
    models = len(scores)
    if scores.ndim != 1 or variances.shape != (models, models) or not models:
        raise ValueError(f"expected (M,) and (M, M), found {scores.shape}, {variances.shape}")
    top = int(np.argmax(scores))
    root = np.sqrt(variances)
    x = (
        standard_normals(draws, models)
        @ _factor((variances[:, [top]] + variances[[top], :] - variances) / 2).T
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        worst = np.where(root > 0, (scores[None, :] - scores[:, None]) / root, -math.inf).max(
            axis=1
        )
    # The bounds between which a critical value lies spare most models their own.
    least = _widened(float(stats.norm.ppf(level)), dof)
    most = _widened(float(stats.norm.isf((1 - level) / max(1, models - 1))), dof)
    stays = worst <= least
    # c_j is at least `worst` where so many draws are: often the first few hundred say so.
    needed = draws - math.ceil(level * draws) + 1
    blocks = [
        np.ascontiguousarray(x[start : start + _BLOCK].T, dtype=np.float32)
        for start in range(0, draws, _BLOCK)
    ]  # (M, draws): the work is along memory
    for j in np.flatnonzero((worst > least) & (worst <= most)):
        scale = np.where(root[j] > 0, 1 / np.where(root[j] > 0, root[j], 1), 0)[:, None]
        bound, reached = _narrowed(float(worst[j]), dof), 0
        for block in blocks:
            room = (block - block[j]) * scale.astype("f4")
            reached += int((room.max(axis=0) >= bound).sum())
            if reached >= needed:
                break
        stays[j] = reached >= needed
    stays[top] = True
    return np.asarray(stays)


def simultaneous_critical(
    covariance: Floats, *, dof: float, level: float = 0.95, draws: int = 2000
) -> float:
    """Return how many standard errors bound the errors of all M means at once.

    With chance `level` every mean +/- this many of its standard errors covers, and so does that
    of a model picked by looking at all of them. covariance: (M, M), positive on the diagonal.
    """
    errors = np.sqrt(np.diag(covariance))
    largest = np.abs(normal_draws(covariance, draws) / errors).max(axis=1)
    return _widened(float(np.sort(largest)[math.ceil(level * draws) - 1]), dof)


def normal_draws(covariance: Floats, draws: int) -> Floats:
    """Return (draws, M) normal numbers of mean 0 with this covariance, the same at every call."""
    return np.asarray(standard_normals(draws, len(covariance)) @ _factor(covariance).T)


@functools.lru_cache(maxsize=2)  # whoever asks task by task asks for the same
def standard_normals(draws: int, models: int) -> Floats:
    """Return (draws, models) standard normal numbers by the formula of this module, read-only."""
    counters = np.arange(2 * draws * models, dtype=np.uint32)
    counters ^= counters >> np.uint32(16)
    counters *= np.uint32(0x7FEB352D)
    counters ^= counters >> np.uint32(15)
    counters *= np.uint32(0x846CA68B)
    counters ^= counters >> np.uint32(16)
    uniform = (counters + 0.5) / 2.0**32
    radius = np.sqrt(-2 * np.log(uniform[0::2]))
    found = (radius * np.cos(2 * math.pi * uniform[1::2])).reshape(draws, models)
    found.setflags(write=False)
    return np.asarray(found)


def _factor(covariance: Floats) -> Floats:
    """Return the lower Cholesky factor, with zero columns where no variance is left."""
    lower = np.zeros_like(covariance)
    for j in range(len(covariance)):
        pivot = covariance[j, j] - lower[j, :j] @ lower[j, :j]
        if pivot > PIVOT * covariance[j, j]:
            lower[j, j] = math.sqrt(pivot)
            rest = covariance[j + 1 :, j] - lower[j + 1 :, :j] @ lower[j, :j]
            lower[j + 1 :, j] = rest / lower[j, j]
    return lower


def _largest_quantile(x: Floats, variances: Floats, level: float) -> float:
    """Return the `level` quantile over draws of the largest standardised difference."""
    rows = np.ascontiguousarray(x.T)  # (M, D): the work is in place and along memory
    largest, room = np.zeros(len(x)), np.empty_like(rows)
    for i in range(len(rows) - 1):
        squares = np.subtract(rows[i + 1 :], rows[i], out=room[i + 1 :])
        squares *= squares
        squares /= variances[i, i + 1 :, None]
        np.maximum(largest, squares.max(axis=0), out=largest)
    return math.sqrt(np.sort(largest)[math.ceil(level * len(x)) - 1])


def _widened(critical: float, dof: float) -> float:
    """Return the number that Student's t exceeds as often as a normal number exceeds `critical`."""
    if dof <= 0:
        return math.inf
    return float(stats.t.isf(stats.norm.sf(critical), dof)) if math.isfinite(dof) else critical


def _narrowed(critical: float, dof: float) -> float:
    """Return the number that `_widened` takes to `critical`."""
    return float(stats.norm.isf(stats.t.sf(critical, dof))) if math.isfinite(dof) else critical


def _chances_of_first(outcomes: Floats) -> Floats:
    first = outcomes >= outcomes.max(axis=1, keepdims=True) - TIE
    return np.asarray((first / first.sum(axis=1, keepdims=True)).mean(axis=0))
