"""Do raters agree: Krippendorff's alpha and its plainer companions.

`ratings` everywhere has shape (units, raters), NaN where a rater did not see a unit. Code
answers as numbers: A / tie / B as 0, 1, 2 and a Likert scale as it is for an ordinal alpha; any
numbers at all for a nominal one.

Where a measure is undefined its value is None and `reason` says why, in words. Alpha compares
observed with expected disagreement; if everyone gave the same answer there is none to expect,
and calling that 1 (perfect) would be a guess. Low agreement is no defect of a preference study:
tastes differ, and many votes still rank models precisely. Show alpha beside the intervals.

    >>> from math import nan
    >>> found = krippendorff([[1, 1, nan], [2, 2, 3], [3, 3, 3], [1, 2, 2]], "ordinal")
    >>> round(found.value, 3)
    0.738
    >>> krippendorff([[1, 1], [1, 1]], "nominal").reason
    'everyone gave the same answer'
"""

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hebench.stats.intervals import Interval, mean_interval

Floats = NDArray[np.float64]
Metric = Literal["nominal", "ordinal", "interval"]

NO_RATINGS = "nobody rated anything"
ONE_RATER = "only one rater answered"
NO_PAIRS = "no unit was rated twice"
NO_VARIATION = "everyone gave the same answer"

_BLOCK = 1_000_000  # units drawn at a time: 8 MB


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """A coefficient, 1 for perfect agreement and 0 for chance, or the reason there is none.

    low, high: bounds of the interval; None where it is undefined or not asked for. units:
    those rated at least twice. raters, ratings: all, those on other units too.
    """

    value: float | None
    low: float | None
    high: float | None
    reason: str | None
    units: int
    raters: int
    ratings: int


def krippendorff(
    ratings: ArrayLike,
    metric: Metric,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Agreement:
    """Return Krippendorff's alpha with a percentile bootstrap interval over units.

    Krippendorff 2018, Content Analysis (4th edition), chapter 12. Whole units are resampled, so
    the interval says how alpha would vary with other units and the same raters. Resamples with no
    variation are left out; if they are more than 5 %, there is no interval.
    """
    table = _table(ratings)
    found, counts, values = _describe(table)
    if counts is None:
        return found
    # Units rated alike are one kind, and kinds are few: only how often each is drawn matters.
    kinds, kind_of, sizes = np.unique(counts, axis=0, return_inverse=True, return_counts=True)
    value = float(_alphas(kinds, values, sizes[None].astype(np.float64), metric)[0])
    if math.isnan(value):
        return _undefined(found, NO_VARIATION)
    generator = np.random.default_rng(seed)
    drawn = np.concatenate(
        [
            _alphas(kinds, values, weights, metric)
            for weights in _resampled(generator, kind_of, resamples)
        ]
    )
    kept = drawn[~np.isnan(drawn)]
    low = high = None
    if len(kept) >= 0.95 * resamples and found.units > 1:
        low, high = (float(q) for q in np.quantile(kept, [0.5 - level / 2, 0.5 + level / 2]))
    return _with(found, value, low, high)


def _table(ratings: ArrayLike) -> Floats:
    table = np.asarray(ratings, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"expected ratings of shape (units, raters), found shape {table.shape}")
    return table


def _describe(table: Floats) -> tuple[Agreement, Floats | None, Floats]:
    """Return sizes, counts of each value in each pairable unit (None if undefined), the values."""
    given = ~np.isnan(table)
    pairable = given.sum(axis=1) >= 2
    found = Agreement(
        value=None,
        low=None,
        high=None,
        reason=None,
        units=int(pairable.sum()),
        raters=int(given.any(axis=0).sum()),
        ratings=int(given.sum()),
    )
    reason = None
    if not given.any():
        reason = NO_RATINGS
    elif found.raters < 2:
        reason = ONE_RATER
    elif not pairable.any():
        reason = NO_PAIRS
    if reason is not None:
        return _undefined(found, reason), None, np.zeros(0)
    values = np.unique(table[pairable][given[pairable]])
    counts = (table[pairable][:, :, None] == values).sum(axis=1).astype(np.float64)
    return found, counts, values


def _undefined(found: Agreement, reason: str) -> Agreement:
    return Agreement(**{**found.__dict__, "reason": reason})


def _with(found: Agreement, value: float, low: float | None, high: float | None) -> Agreement:
    return Agreement(**{**found.__dict__, "value": value, "low": low, "high": high})


def _resampled(
    generator: np.random.Generator, kind_of: NDArray[np.intp], resamples: int
) -> Iterator[Floats]:
    """Yield how often units of each kind were drawn: some resamples at a time, shape (n, kinds).

    kind_of: shape (units,).
    """
    units, kinds = len(kind_of), int(kind_of.max()) + 1
    block = max(1, _BLOCK // units)
    for begun in range(0, resamples, block):
        rows = min(block, resamples - begun)
        drawn = kind_of[generator.integers(0, units, (rows, units))]
        drawn += kinds * np.arange(rows)[:, None]
        found = np.bincount(drawn.ravel(), minlength=rows * kinds)
        yield found.reshape(rows, kinds).astype(np.float64)


def _alphas(counts: Floats, values: Floats, weights: Floats, metric: Metric) -> Floats:
    """Return alpha for each row of weights, NaN where only one value occurs.

    counts: shape (kinds, values), each row summing to at least 2. weights: shape (n, kinds),
    how many units of a kind are counted. Sums of squared differences between all pairs of ratings
    are taken from sums and sums of squares, since n sum(x^2) - sum(x)^2 is half of theirs.
    """
    size, total = counts.sum(axis=1), weights @ counts
    share, every = weights / (size - 1), total.sum(axis=1)
    if metric == "nominal":
        observed = share @ (size**2 - (counts**2).sum(axis=1))
        expected = every**2 - (total**2).sum(axis=1)
    else:
        # Ordinal: ranks between values, so that a seldom used value is a small step.
        place = np.cumsum(total, axis=1) - total / 2
        if metric == "interval":
            place = np.broadcast_to(values - values.mean(), total.shape)
        apart = size[:, None] * (counts @ place.T**2) - (counts @ place.T) ** 2
        observed = (share.T * apart).sum(axis=0)
        expected = every * (total * place**2).sum(axis=1) - (total * place).sum(axis=1) ** 2
    varied = (total > 0).sum(axis=1) >= 2
    found = 1 - observed * (every - 1) / np.where(varied, expected, 1.0)
    return np.where(varied, found, np.nan)


def raw_agreement(ratings: ArrayLike) -> Agreement:
    """Return the share of pairs of raters of one unit who answer alike, averaged over units."""
    found, counts, _ = _describe(_table(ratings))
    if counts is None:
        return found
    return _with(found, float(_alike(counts).mean()), None, None)


def gwet_ac1(ratings: ArrayLike, categories: int) -> Agreement:
    """Return Gwet's AC1, which stays sensible when one answer dominates.

    Gwet 2008 (British Journal of Mathematical and Statistical Psychology 61, 29-48). categories:
    answers that raters could choose from, used or not, at least 2; so it is defined when everyone
    gave the same answer. Raises ValueError if more were used.
    """
    table = _table(ratings)
    used = len(np.unique(table[~np.isnan(table)]))
    if categories < max(2, used):
        raise ValueError(f"expected at least {max(2, used)} categories, found {categories}")
    found, counts, _ = _describe(table)
    if counts is None:
        return found
    # Units rated once say what is common, if not who agrees.
    values = np.unique(table[~np.isnan(table)])
    every = (table[:, :, None] == values).sum(axis=1)
    rated = every[every.sum(axis=1) > 0]
    common = (rated / rated.sum(axis=1, keepdims=True)).mean(axis=0)
    chance = float((common * (1 - common)).sum()) / (categories - 1)
    return _with(found, (float(_alike(counts).mean()) - chance) / (1 - chance), None, None)


def _alike(counts: Floats) -> Floats:
    """Return for each unit the share of pairs of its ratings that are equal."""
    size = counts.sum(axis=1)
    return np.asarray((counts * (counts - 1)).sum(axis=1) / (size * (size - 1)))


def cohen_kappa(a: ArrayLike, b: ArrayLike, metric: Metric = "nominal") -> Agreement:
    """Return Cohen's kappa of two raters, weighted by squared distance if not nominal.

    a, b: shape (units,), NaN for not rated. Cohen 1968 (Psychological Bulletin 70, 213-220).
    metric: nominal counts any difference as 1; interval takes squared differences of the values;
    ordinal, squared differences of their rank among the values used.
    """
    table = np.column_stack([np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)])
    found, counts, values = _describe(table)
    if counts is None:
        return found
    both = table[~np.isnan(table).any(axis=1)]
    place = values if metric == "interval" else np.arange(len(values), dtype=np.float64)
    distance = (place[:, None] - place[None, :]) ** 2
    if metric == "nominal":
        distance = np.minimum(distance, 1.0)
    codes = np.searchsorted(values, both)
    first, second = (np.bincount(codes[:, side], minlength=len(values)) for side in (0, 1))
    expected = float(first @ distance @ second) / len(both) ** 2
    if expected == 0:
        return _undefined(found, NO_VARIATION)
    observed = float(distance[codes[:, 0], codes[:, 1]].mean())
    return _with(found, 1 - observed / expected, None, None)


def raters_against_rest(ratings: ArrayLike) -> tuple[Agreement, ...]:
    """Return for each rater how often the others who saw the same unit answer alike.

    The value is the mean over the rater's shared units of the share of the other ratings that
    equal theirs; `units` is the number of shared units, `ratings` the number of others' answers.
    """
    table = _table(ratings)
    found = []
    for column in range(table.shape[1]):
        own = table[:, column]
        others = np.delete(table, column, axis=1)
        shared = ~np.isnan(own) & ~np.isnan(others).all(axis=1)
        given = ~np.isnan(others[shared])
        equal = (others[shared] == own[shared, None]).sum(axis=1)
        value = float((equal / given.sum(axis=1)).mean()) if shared.any() else None
        found.append(
            Agreement(
                value=value,
                low=None,
                high=None,
                reason=None if shared.any() else NO_PAIRS,
                units=int(shared.sum()),
                raters=int((~np.isnan(others[shared])).any(axis=0).sum()) + 1,
                ratings=int(given.sum()),
            )
        )
    return tuple(found)


def self_agreement(answers: ArrayLike, repeats: ArrayLike, raters: Sequence[Hashable]) -> Interval:
    """Return how often raters answer a hidden repeat as they did before, with its interval.

    answers, repeats: shape (n,), NaN where either is missing (counted as unscored). raters: n
    labels; repeats of one rater are clustered. Raises ValueError for no repeat.
    """
    before, after = (np.asarray(given, dtype=np.float64) for given in (answers, repeats))
    same = np.where(np.isnan(before) | np.isnan(after), math.nan, before == after)
    return mean_interval(same.tolist(), list(raters))
