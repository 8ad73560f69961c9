"""Which model people prefer, and how sure that is: a paired-comparison model of votes with ties.

A vote shows two models' answers side by side; the rater prefers one or calls a tie. With log
strengths b, the model shown first i, the one shown second j and eta = b_i - b_j + side + x c,

    P(first wins) : P(second wins) : P(tie)  =  exp(eta / 2) : exp(-eta / 2) : tie

which is Davidson 1970 (JASA 65, 317-328) with the multiplicative order effect of Davidson and
Beaver 1977 (Biometrics 33, 693-702), exp(side) the factor on the odds of whoever is shown
first. Their tie parameter is ours times exp(side / 2): written this way, swapping the sides of
all votes turns the sign of `side` and leaves everything else alone. x are optional differences
of style (first minus second), so that c shows how much length or lists are worth.

Raters have tastes, so one rater's votes are not independent: by default variances are summed
over raters (a sandwich with factor R / (R - 1)) and intervals use Student's t with R - 1 degrees
of freedom. `benchmarks/coverage_votes.py` shows what ignoring that costs.

What cannot be known is said in `Strengths.notes`, code and sentence: groups of models never
compared with each other, a model that never lost, a single rater.

    >>> found = fit([0, 0, 1, 1, 0, 1], [1, 1, 0, 0, 1, 0], [0, 0, 1, 0, 2, 1],
    ...             ["דנה", "דנה", "דנה", "יואב", "יואב", "יואב"], models=2)
    >>> found.win_rates.round(2).tolist()
    [0.76, 0.24]
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from hebench.stats.ballots import (
    UNJUDGED,
    Groups,
    codes_of,
    connected,
    counts,
    design,
    numbered,
    pairs_shown,
    scaled_styles,
    scaled_weights,
)
from hebench.stats.davidson import TIE, derivatives, expected_share, maximum
from hebench.stats.ranks import rank_sets
from hebench.stats.sandwich import centred_inverse, clustered_covariance, open_ends

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NOTES = {
    "disconnected": "some models were never compared with the others, not even through a third: "
    "strengths can be compared only within a group",
    "separated": "a model or group of models never lost, or never won, against the rest: no "
    "finite strength fits best; a small penalty keeps it finite, and the interval is very wide",
    "open": "the votes hardly tell some difference, or the effect of the side or style: a small "
    "penalty keeps it finite, and the interval is very wide",
    "one_cluster": "the votes come from a single rater, or item: how much raters, or items, "
    "differ is unknown, so there is no interval",
    "raters_alike": "all raters voted alike: the interval counts each rater as one vote",
    "side_unknown": "models were not shown on both sides, so the side effect cannot be told from "
    "their strengths: it is taken as none",
    "no_ties": "no vote is a tie: the tie parameter is 0",
    "all_ties": "every vote is a tie: nothing tells the models apart",
}


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """A fit. Arrays over models have shape (M,), over pairs (M, M), over styles (K,).

    Strengths are logs, with mean 0 within each group of connected models; a group of one has
    bounds of -inf and inf and a win rate of NaN. A win rate, in [0, 1], is the expected share of
    wins, half of each tie included, against every other model of the group, sides in balance
    and styles alike. `wins[i, j]` counts votes for i over j, `pairs[i, j]` votes between them.
    Style coefficients are per root mean square of their column.
    """

    strengths: Floats
    covariance: Floats
    low: Floats
    high: Floats
    win_rates: Floats
    win_rates_low: Floats
    win_rates_high: Floats
    tie: float
    side: float
    side_error: float
    style: Floats
    style_errors: Floats
    dof: float
    level: float
    method: str
    votes: int
    unjudged: int
    raters: int
    tie_share: float
    pairs: Ints
    wins: Ints
    components: Groups
    notes: dict[str, str]

    @property
    def side_interval(self) -> tuple[float, float]:
        """Return the bounds of `side`, NaN where it or its error is unknown."""
        half = float(stats.t.ppf(0.5 + self.level / 2, max(self.dof, 1))) * self.side_error
        return self.side - half, self.side + half

    @property
    def difference_variances(self) -> Floats:
        """Return the variance of each difference of strengths, as rank sets take it.

        Zero on the diagonal; inf where a difference is unknown, across groups or with one rater,
        so rank within each of `components`.
        """
        own = np.diag(self.covariance)
        found = np.maximum(own[:, None] + own[None, :] - 2 * self.covariance, 0.0)
        group = _group_of(self.components, len(own))
        found[(group[:, None] != group[None, :]) | np.isnan(found)] = math.inf
        np.fill_diagonal(found, 0.0)
        return np.asarray(found, dtype=np.float64)


def fit(  # noqa: PLR0913 (one argument a column of the votes)
    first: ArrayLike,
    second: ArrayLike,
    outcome: ArrayLike,
    rater: Sequence[Hashable],
    *,
    models: int,
    items: Sequence[Hashable] | None = None,
    weights: ArrayLike | None = None,
    style: ArrayLike | None = None,
    clustered: bool = True,
    level: float = 0.95,
    ridge: float = 1e-3,
) -> Strengths:
    """Return the strengths of `models` models, fitted to n votes.

    first, second: shape (n,), indices of the models shown first and second. outcome: shape (n,),
    0 first wins, 1 second wins, 2 tie, -1 could not be judged (counted, not fitted). rater: n
    labels. items: n labels of what was judged; with them variances are clustered both ways, with
    the smaller number of clusters minus 1 degrees of freedom. weights: n positive sampling
    weights, where pairs were not drawn evenly. style: shape (n, K), differences first minus
    second. clustered: False takes every vote as independent. ridge: see `davidson.maximum`.
    Raises ValueError for misuse: unequal lengths, unknown models or outcomes, a model against
    itself, no vote to fit, a style column that never differs or that the models determine.
    """
    shown, codes = pairs_shown(first, second, len(rater), models), codes_of(outcome, len(rater))
    keep = codes != UNJUDGED
    shown, codes = shown[keep], codes[keep]
    wins, ties = counts(shown, codes, models)
    groups, finite = connected(wins, ties)
    rows, sided = design(shown, scaled_styles(style, keep), models, len(groups))
    weight = scaled_weights(weights, keep)
    tied = bool(ties.any())
    theta = maximum(rows, codes, weight, tied=tied, ridge=ridge)
    for group in groups:  # to the last digit: a tiny ridge lets the mean drift by rounding
        theta[list(group)] -= theta[list(group)].mean()

    raters = numbered(rater, keep)
    clusters = {"raters": raters} if clustered else {"votes": np.arange(len(codes))}
    if clustered and items is not None:
        clusters["items"] = numbered(items, keep)
    score, information = derivatives(rows, codes, weight, theta, tied)
    bread = centred_inverse(information + ridge * np.eye(len(theta)), groups)
    flat = open_ends(bread, ridge)
    covariance, alike = clustered_covariance(score, bread, list(clusters.values()))
    sizes = {kind: int(label.max()) + 1 for kind, label in clusters.items()}
    dof = min(sizes.values()) - 1
    found = {
        "disconnected": len(groups) > 1,
        "separated": not finite,
        "open": finite and bool(flat.any()),
        "no_ties": not tied,
        "all_ties": not wins.any(),
        "side_unknown": not sided,
        "raters_alike": bool(alike[:models].any()),
        "one_cluster": dof < 1,
    }
    covariance = covariance + flat
    return Strengths(
        **_bounds(theta, covariance, groups, tied, stats.t.ppf(0.5 + level / 2, max(dof, 1))),
        **_effects(theta, covariance, models, sided, tied),
        covariance=covariance[:models, :models],
        dof=float(dof),
        level=level,
        method=_method(sizes),
        votes=len(codes),
        unjudged=int((~keep).sum()),
        raters=int(raters.max()) + 1,
        tie_share=float((codes == TIE).mean()),
        pairs=wins + wins.T + ties,
        wins=wins,
        components=groups,
        notes={code: NOTES[code] for code, true in found.items() if true},
    )


def ranks_of(
    found: Strengths, group: Sequence[int]
) -> tuple[list[int], list[int], list[float | None]]:
    """Return best and worst possible rank, and the chance of being first, of a connected group.

    group: places of its models in `found`. With one rater, or raters who each balance out (a
    variance of 0 is no certainty), every rank stays possible and no chance is known.
    """
    size, places = len(group), list(group)
    variances = found.difference_variances[np.ix_(places, places)]
    told = np.count_nonzero(variances > 0) == size * (size - 1)
    if found.dof < 1 or size < 2 or not told:
        return [1] * size, [size] * size, [None] * size
    ranks = rank_sets(found.strengths[places], variances, dof=found.dof, level=found.level)
    return ranks.low.tolist(), ranks.high.tolist(), ranks.p_best.tolist()


def _group_of(groups: Groups, models: int) -> Ints:
    group = np.empty(models, dtype=np.int64)
    for number, members in enumerate(groups):
        group[list(members)] = number
    return group


def _method(sizes: dict[str, int]) -> str:
    if "votes" in sizes:
        return f"t, {sizes['votes']} votes taken as independent"
    counted = " and ".join(f"{size} {kind}" for kind, size in sizes.items())
    return f"undefined: {counted}" if min(sizes.values()) < 2 else f"cluster-robust t, {counted}"


def _bounds(
    theta: Floats, covariance: Floats, groups: Groups, tied: bool, width: float
) -> dict[str, Any]:
    """Return strengths and win rates with their intervals.

    A win rate's interval is made on the logit scale (delta method), to stay in [0, 1].
    """
    models = sum(len(group) for group in groups)
    strengths = theta[:models]
    group = _group_of(groups, models)
    field = (group[:, None] == group[None, :]) & ~np.eye(models, dtype=bool)
    rivals = field.sum(axis=1)
    alone = rivals == 0
    share = field / np.where(alone, 1, rivals)[:, None]
    rate, slope, tie_slope = expected_share(
        strengths[:, None] - strengths[None, :], float(np.exp(theta[-1])) if tied else 0.0
    )
    gradient = np.zeros((models, len(theta)))
    gradient[:, :models] = np.diag((share * slope).sum(axis=1)) - share * slope
    if tied:
        gradient[:, -1] = (share * tie_slope).sum(axis=1)
    mean = np.where(alone, math.nan, (share * rate).sum(axis=1))
    spread = np.clip(mean * (1 - mean), 1e-12, None)
    half = width * np.sqrt(np.maximum(np.diag(gradient @ covariance @ gradient.T), 0)) / spread
    error = np.sqrt(np.maximum(np.diag(covariance)[:models], 0))
    reach = np.where(alone | np.isnan(error), math.inf, width * error)
    unknown = np.isnan(half) & ~alone
    low, high = (_moved(mean, move) for move in (-half, half))
    return {
        "strengths": strengths,
        "low": strengths - reach,
        "high": strengths + reach,
        "win_rates": mean,
        "win_rates_low": np.where(unknown, 0.0, low),
        "win_rates_high": np.where(unknown, 1.0, high),
    }


def _moved(rate: Floats, move: Floats) -> Floats:
    """Return rates moved on the logit scale, without overflow."""
    inside = np.clip(rate, 1e-12, 1 - 1e-12)
    return np.asarray(1 / (1 + (1 - inside) / inside * np.exp(np.clip(-move, -700, 700))))


def _effects(
    theta: Floats, covariance: Floats, models: int, sided: bool, tied: bool
) -> dict[str, Any]:
    """Return the effects beside the strengths, with their standard errors."""
    errors = np.sqrt(np.maximum(np.diag(covariance), 0))
    styles = slice(models + sided, len(theta) - tied)
    return {
        "tie": float(np.exp(theta[-1])) if tied else 0.0,
        "side": float(theta[models]) if sided else 0.0,
        "side_error": float(errors[models]) if sided else math.nan,
        "style": theta[styles],
        "style_errors": errors[styles],
    }
