"""Who is preferred, how surely, and what may bend it: votes on pairs, ranked.

Davidson's model with ties and a side effect (`hebench.stats.votes`), intervals clustered by
rater. A "both bad" is a tie in the fit and is counted apart.

    >>> rank(votes).rows[0].model, rank(votes).rows[0].win_rate
    ('dicta', 0.71)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from hebench.human.collected import CollectedVote
from hebench.human.values import Order
from hebench.stats.ballots import OUTCOMES, UNJUDGED, tally
from hebench.stats.davidson import expected_share
from hebench.stats.vote_plan import Needed, votes_needed
from hebench.stats.votes import Strengths, fit, ranks_of


@dataclass(frozen=True, kw_only=True)
class RankedModel:
    """One model; shares are of the votes in which it was shown, in [0, 1]."""

    model: str
    win_rate: float  # against the others, half of each tie included; NaN without rivals
    low: float
    high: float
    strength: float  # log, mean 0
    strength_low: float
    strength_high: float
    rank_low: int | None  # None without rivals, as nobody judged it against another
    rank_high: int | None
    p_best: float | None  # None with a single rater
    votes: int
    win: float
    loss: float
    tie: float
    both_good: float
    both_bad: float
    cannot_judge: float

    @property
    def ranks(self) -> str:
        """Return the ranks that it may have, such as `1-2`; a dash without rivals."""
        return "-" if self.rank_low is None else f"{self.rank_low}-{self.rank_high}"


@dataclass(frozen=True, kw_only=True)
class Side:
    """The share of preferences of the answer shown first, of two equally good; a tie is half."""

    rate: float
    low: float | None  # None with a single rater
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Two neighbours of a ranking, and the votes that would still tell them apart."""

    better: str
    worse: str
    separated: bool
    needed: Needed  # more votes of the whole study, from new raters


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Models by strength. Groups that no chain of votes connects are ranked each by itself."""

    rows: tuple[RankedModel, ...]  # group after group, the best first
    groups: tuple[tuple[str, ...], ...]
    gaps: tuple[Gap, ...]
    side: Side | None  # None where models were not shown on both sides
    rates: dict[str, float]  # outcome -> share of all votes
    notes: dict[str, str]  # what cannot be known: code -> sentence
    method: str
    votes: int  # judged
    raters: int


def rank(
    votes: Sequence[CollectedVote],
    *,
    dimension: str | None = None,
    clustered: bool = True,
    level: float = 0.95,
    order: Order = str,
) -> Ranking | None:
    """Return the ranking of votes on pairs, None if none of them was judged.

    dimension: rank by the answers on that axis. clustered: False takes every vote as
    independent, which promises too much; it is there to be shown beside the honest interval.
    order: of models that are level.
    """
    words = [_word(vote, dimension) for vote in votes]
    if all(OUTCOMES[word] == UNJUDGED for word in words):
        return None
    models = tuple(sorted({model for vote in votes for model in vote.models}, key=order))
    place = {model: number for number, model in enumerate(models)}
    first, second = ([place[vote.shown[side]] for vote in votes] for side in (0, 1))
    counts = tally(first, second, words, models=len(models))
    found = fit(
        first,
        second,
        counts.codes,
        [vote.rater for vote in votes],
        models=len(models),
        clustered=clustered,
        level=level,
    )
    rows, groups = [], []
    for group in sorted(found.components, key=len, reverse=True):
        low, high, best = ranks_of(found, group)
        alone = len(group) == 1
        ranked = [
            RankedModel(
                model=models[m],
                win_rate=float(found.win_rates[m]),
                low=float(found.win_rates_low[m]),
                high=float(found.win_rates_high[m]),
                strength=float(found.strengths[m]),
                strength_low=float(found.low[m]),
                strength_high=float(found.high[m]),
                rank_low=None if alone else low[i],
                rank_high=None if alone else high[i],
                p_best=best[i],
                votes=int(counts.votes[m]),
                **{share: float(values[m]) for share, values in counts.shares.items()},
            )
            for i, m in enumerate(group)
        ]
        ranked.sort(key=lambda row: -row.strength)
        rows += ranked
        groups.append(tuple(row.model for row in ranked))
    return Ranking(
        rows=tuple(rows),
        groups=tuple(groups),
        gaps=_gaps(found, place, groups),
        side=_side(found),
        rates={word: count / len(votes) for word, count in counts.totals.items()},
        notes=found.notes,
        method=found.method,
        votes=found.votes,
        raters=found.raters,
    )


def _word(vote: CollectedVote, dimension: str | None) -> str:
    """Return the outcome as shown, overall or on one axis."""
    answer = vote.shown_answer
    return str(answer["outcome"] if dimension is None else answer["dimensions"][dimension])


def _gaps(
    found: Strengths, place: dict[str, int], groups: Sequence[tuple[str, ...]]
) -> tuple[Gap, ...]:
    gaps = []
    for group in groups:
        for better, worse in pairwise(group):
            two = [place[better], place[worse]]
            only = replace(
                found,
                strengths=found.strengths[two],
                covariance=found.covariance[np.ix_(two, two)],
                components=((0, 1),),
            )
            needed = votes_needed(only)
            gaps.append(Gap(better=better, worse=worse, separated=needed.votes == 0, needed=needed))
    return tuple(gaps)


def _side(found: Strengths) -> Side | None:
    if "side_unknown" in found.notes:
        return None

    def share(effect: float) -> float:
        return float(expected_share(np.array([effect]), found.tie)[0][0])

    if found.dof < 1:
        return Side(rate=share(found.side), low=None, high=None)
    low, high = found.side_interval
    return Side(rate=share(found.side), low=share(low), high=share(high))
