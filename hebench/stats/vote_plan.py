"""How many votes: to overturn the first place, to tell the first two apart, to plan a study.

Three plain numbers for people who do not read intervals:

* `fragility`: "dropping 3 of 412 votes puts another model first";
* `votes_needed`: "about 190 more votes would separate the first two";
* `needed_votes`: "30 raters and 207 votes find a win rate of 60 % four times out of five".

    >>> needed_votes(0.6, tie_share=0.2, raters=30).votes
    207
    >>> needed_votes(0.55, tie_share=0.2, raters=30).reason
    'too few raters'
"""

import math
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from hebench.stats.ballots import UNJUDGED, codes_of, connected, counts, design, pairs_shown
from hebench.stats.davidson import TIE, derivatives, maximum
from hebench.stats.votes import Strengths

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RIDGE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Fragility:
    """The fewest votes found whose removal costs the leader the first place.

    votes: their number; 0 if the first place is shared as it is. share: of all judged votes, in
    [0, 1]. exact: True if no smaller set does it (all were tried); else `votes` is an upper bound,
    checked by a fit without them.
    """

    leader: int
    rival: int
    votes: int
    share: float
    exact: bool


class _Kinds:
    """Votes grouped by (first, second, outcome), to be fitted with some of them dropped."""

    def __init__(self, shown: Ints, codes: Ints, models: int) -> None:
        rows, self.count = np.unique(np.column_stack([shown, codes]), axis=0, return_counts=True)
        self.codes, self.models = rows[:, 2], models
        groups, _ = connected(*counts(shown, codes, models))
        if len(groups) > 1:
            raise ValueError(f"expected connected models, found groups {groups}: take one group")
        self.rows, _ = design(rows[:, :2], np.zeros((len(rows), 0)), models, 1)
        self.tied = bool((self.codes == TIE).any())
        self.all_votes = self._maximum(self.count, self.tied, None)

    def fit(self, left: Ints) -> Floats:
        """Return theta for `left[k]` votes of each kind."""
        tied = bool(left[self.codes == TIE].any())
        return self._maximum(left, tied, self.all_votes if tied == self.tied else None)

    def _maximum(self, left: Ints, tied: bool, start: Floats | None) -> Floats:
        weight = left.astype(np.float64)
        return maximum(self.rows, self.codes, weight, tied=tied, ridge=RIDGE, start=start)

    def influence(self, theta: Floats, leader: int) -> Floats:
        """Return by how much one vote of each kind raises leader over each model, (kinds, M)."""
        tied = len(theta) > self.rows.shape[1]
        score, _ = derivatives(self.rows, self.codes, np.ones(len(self.codes)), theta, tied)
        weight = self.count.astype(np.float64)
        _, information = derivatives(self.rows, self.codes, weight, theta, tied)
        moved = score @ np.linalg.inv(information + RIDGE * np.eye(len(theta)))
        return np.asarray(moved[:, [leader]] - moved[:, : self.models], dtype=np.float64)

    def overtaken(self, left: Ints, leader: int) -> int | None:
        """Return who is level with or ahead of `leader` in a fit to the votes left, or None."""
        strengths = self.fit(left)[: self.models].copy()
        reach = strengths[leader] - 1e-6
        strengths[leader] = -math.inf
        best = int(strengths.argmax())
        return best if strengths[best] >= reach else None


def fragility(
    first: ArrayLike, second: ArrayLike, outcome: ArrayLike, *, models: int, refits: int = 500
) -> Fragility:
    """Return how few votes decide who is first.

    first, second, outcome: shape (n,), as `votes.fit` takes them. The votes that lift the leader
    most over each rival, to first order, are dropped in that order until a fit without them has
    another leader; then all smaller sets are tried if `refits` fits are enough for that.
    Raises ValueError for fewer than two models and for models that are not connected.
    """
    codes = codes_of(outcome, np.asarray(first).size)
    shown = pairs_shown(first, second, len(codes), models)[codes != UNJUDGED]
    kinds = _Kinds(shown, codes[codes != UNJUDGED], models)
    theta = kinds.all_votes
    leader = int(theta[:models].argmax())
    total = int(kinds.count.sum())
    shared = kinds.overtaken(kinds.count, leader)
    if shared is not None:
        return Fragility(leader=leader, rival=shared, votes=0, share=0.0, exact=True)
    best, rival = _greedy(kinds, theta, leader)
    exact, smaller = _smaller(kinds, leader, best, refits)
    if smaller is not None:
        best, rival = smaller
    return Fragility(leader=leader, rival=rival, votes=best, share=best / total, exact=exact)


def _greedy(kinds: _Kinds, theta: Floats, leader: int) -> tuple[int, int]:
    """Return the size of the smallest set found by influence, and who is first without it."""
    influence = kinds.influence(theta, leader)
    ranked = [int(other) for other in np.argsort(-theta[: kinds.models]) if other != leader]
    best, rival = int(kinds.count.sum()), ranked[0]  # without any vote all are level
    for other in ranked:
        order = np.argsort(-influence[:, other])
        order = order[influence[order, other] > 0]
        before = np.cumsum(kinds.count[order]) - kinds.count[order]

        def overtaken(size: int, order: Ints = order, before: Ints = before) -> int | None:
            left = kinds.count.copy()
            left[order] -= np.clip(size - before, 0, left[order])
            return kinds.overtaken(left, leader)

        low, high = 0, best - 1
        found = overtaken(high)
        while found is not None:
            best, rival = high, found
            while high - low > 1 and overtaken(middle := (low + high) // 2) is None:
                low = middle
            if high - low <= 1:
                break
            high = middle
            found = overtaken(high)
    return best, rival


def _smaller(
    kinds: _Kinds, leader: int, best: int, refits: int
) -> tuple[bool, tuple[int, int] | None]:
    """Return whether all sets smaller than `best` were tried, and the first that does it."""
    number = len(kinds.count)
    if math.comb(number + best - 1, number) - 1 > refits:
        return False, None
    for size in range(1, best):
        for chosen in combinations_with_replacement(range(number), size):
            left = kinds.count - np.bincount(chosen, minlength=number)
            if left.min() >= 0 and (found := kinds.overtaken(left, leader)) is not None:
                return True, (size, found)
    return True, None


@dataclass(frozen=True, kw_only=True)
class Needed:
    """Votes to collect. `votes` and `raters` are None, with a `reason`, where none suffice.

    For `votes_needed` they are how many more of the kind so far; for `needed_votes` the total.
    """

    votes: int | None
    raters: int | None
    reason: str | None


def votes_needed(found: Strengths, *, power: float = 0.8) -> Needed:
    """Return how many more votes, from new raters, would separate the first two models.

    Assumes the difference is as estimated and new raters vote as often and as variously as the
    present ones, so that the variance falls as 1 / raters; the difference is then significant at
    `found.level` with probability `power`. 0 votes if it is already. The answer is a plan, not a
    stopping rule: looking again after each vote finds differences that are not there.
    """
    if len(found.components) > 1 or found.dof < 1:
        return Needed(votes=None, raters=None, reason="no interval to narrow")
    leader, second = np.argsort(-found.strengths)[:2]
    gap = float(found.strengths[leader] - found.strengths[second])
    if gap < 1e-6:
        return Needed(votes=None, raters=None, reason="the first two are level")
    error = math.sqrt(float(found.difference_variances[leader, second]))
    if error == 0:  # each rater balances out alike: no certainty, see `votes.ranks_of`
        return Needed(votes=None, raters=None, reason="no interval to narrow")
    if gap > stats.t.ppf(0.5 + found.level / 2, found.dof) * error:
        return Needed(votes=0, raters=0, reason=None)
    growth = ((_quantile(0.5 + found.level / 2) + _quantile(power)) * error / gap) ** 2
    more = max(growth - 1, 1 / found.votes)
    return Needed(
        votes=math.ceil(more * found.votes), raters=math.ceil(more * found.raters), reason=None
    )


def needed_votes(  # noqa: PLR0913 (a plan has this many unknowns)
    win_rate: float,
    *,
    tie_share: float,
    raters: int,
    rater_correlation: float = 0.05,
    level: float = 0.95,
    power: float = 0.8,
) -> Needed:
    """Return how many votes between two models show that `win_rate` is not one half.

    win_rate: in (0, 1), half of each tie included. tie_share: in [0, 1]. rater_correlation: of
    two votes of one rater, in [0, 1); 0.05 is a mild difference of tastes, and no number of votes
    makes up for too few raters: with v votes each the variance is s2 (1 + (v - 1) r) / (R v),
    where s2 = win_rate (1 - win_rate) - tie_share / 4. Student's t with R - 1 degrees of freedom.
    Raises ValueError for a win rate of one half or one that so many ties do not allow.
    """
    if not 0 < win_rate < 1 or win_rate == 0.5:
        raise ValueError(f"expected a win rate in (0, 1) other than one half, found {win_rate}")
    if not 0 <= tie_share <= 2 * min(win_rate, 1 - win_rate):
        raise ValueError(f"a win rate of {win_rate} does not allow a tie share of {tie_share}")
    if raters < 2 or not 0 <= rater_correlation < 1:
        raise ValueError("expected at least two raters and a correlation in [0, 1)")
    variance = win_rate * (1 - win_rate) - tie_share / 4
    reach = stats.t.ppf(0.5 + level / 2, raters - 1) + stats.t.ppf(power, raters - 1)
    independent = variance * float(reach / (win_rate - 0.5)) ** 2
    room = 1 - independent * rater_correlation / raters
    if room <= 0:
        return Needed(votes=None, raters=None, reason="too few raters")
    votes = max(math.ceil(independent * (1 - rater_correlation) / room), raters)
    return Needed(votes=votes, raters=raters, reason=None)


def _quantile(share: float) -> float:
    return float(stats.norm.ppf(share))
