"""What a study of votes says in numbers: who is preferred, how surely, and what may bend it.

    >>> result = study_result(site.votes[0], site.board)
    >>> result.groups[0][0].slug, result.groups[0][0].win_rate
    ('model-a', 0.71...)

Models that no chain of votes connects are ranked apart, each group by itself.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hebench.board.standings import Board
from hebench.board.votes import Study, Vote
from hebench.stats.agreement import Agreement, krippendorff
from hebench.stats.ballots import DECIDED, OUTCOMES, UNJUDGED, Tally, tally
from hebench.stats.correlation import Correlation, rank_correlation
from hebench.stats.davidson import expected_share
from hebench.stats.vote_plan import Fragility, Needed, fragility, votes_needed
from hebench.stats.votes import Strengths, fit, ranks_of

_FEW = 3  # models with votes and a benchmark mean, at the least, for a correlation


@dataclass(frozen=True, kw_only=True)
class Rated:
    """One model in a study; shares are of the votes in which it was shown, in [0, 1]."""

    slug: str
    win_rate: float  # NaN for a model without rivals
    low: float
    high: float
    rank_low: int
    rank_high: int
    p_best: float | None  # None where it cannot be known: a single rater
    votes: int
    wins: float
    ties: float
    both_good: float
    both_bad: float
    cannot_judge: float


@dataclass(frozen=True, kw_only=True)
class Preference:
    """One fit to votes: groups of models that comparisons connect, each best first."""

    groups: tuple[tuple[Rated, ...], ...]
    found: Strengths
    slugs: tuple[str, ...]  # in the order of the fit's arrays
    tally: Tally

    def of(self, slug: str) -> Rated | None:
        """Return a model's numbers, None if none of these votes is about it."""
        return next((model for group in self.groups for model in group if model.slug == slug), None)


@dataclass(frozen=True, kw_only=True)
class Side:
    """How often the answer shown first is preferred between two that are equally good."""

    rate: float
    low: float | None  # None with a single rater
    high: float | None


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """All that the page shows of a study."""

    study: Study
    main: Preference
    with_excluded: Preference | None  # None where no vote was excluded
    without_bad: Preference | None  # "both bad" left out; None where nobody said so
    side: Side | None
    agreement: Agreement
    fragility: Fragility | None  # None where models are not connected
    needed: Needed
    exclusions: tuple[tuple[str, int], ...]  # reason, votes; most frequent first
    raters: tuple[int, ...]  # votes of each rater, fewest first
    items: int
    benchmark: tuple[tuple[str, float], ...]  # models with a mean over tasks, best first
    correlation: Correlation | None

    @property
    def every_model(self) -> tuple[str, ...]:
        """Return the models in the order of the ranking, then those of excluded votes only."""
        first = [model.slug for group in self.main.groups for model in group]
        rest = self.with_excluded.slugs if self.with_excluded else ()
        return tuple(dict.fromkeys([*first, *rest]))


def study_result(study: Study, board: Board) -> StudyResult:
    """Return the numbers of a study."""
    counted = study.counted
    main = preference(counted)
    benchmark = _benchmark(main, board)
    return StudyResult(
        study=study,
        main=main,
        with_excluded=preference(study.votes) if len(counted) < len(study.votes) else None,
        without_bad=_without_bad(counted),
        side=_side(main.found),
        agreement=krippendorff(ratings(counted), "ordinal"),
        fragility=_fragility(main, counted),
        needed=votes_needed(main.found),
        exclusions=tuple(
            sorted(
                Counter(vote.excluded for vote in study.votes if vote.excluded).items(),
                key=lambda item: (-item[1], item[0]),
            )
        ),
        raters=tuple(sorted(Counter(vote.rater for vote in counted).values())),
        items=len({vote.item for vote in counted}),
        benchmark=benchmark,
        correlation=_correlation(main, benchmark),
    )


def preference(votes: Sequence[Vote]) -> Preference:
    """Return the models of some votes by their strength, at least one of the votes judged."""
    slugs = tuple(sorted({slug for vote in votes for slug in (vote.first, vote.second)}))
    first, second, words = _arrays(votes, slugs)
    counts = tally(first, second, words, models=len(slugs))
    raters = [vote.rater for vote in votes]
    found = fit(first, second, counts.codes, raters, models=len(slugs))
    groups = []
    for group in sorted(found.components, key=lambda members: -len(members)):
        rated = _rated(group, slugs, found, counts)
        groups.append(tuple(sorted(rated, key=lambda model: -model.win_rate)))
    return Preference(groups=tuple(groups), found=found, slugs=slugs, tally=counts)


def _arrays(votes: Sequence[Vote], slugs: Sequence[str]) -> tuple[list[int], list[int], list[str]]:
    place = {slug: number for number, slug in enumerate(slugs)}
    first = [place[vote.first] for vote in votes]
    second = [place[vote.second] for vote in votes]
    return first, second, [vote.outcome for vote in votes]


def _rated(
    group: tuple[int, ...], slugs: Sequence[str], found: Strengths, counts: Tally
) -> list[Rated]:
    low, high, chances = ranks_of(found, group)
    return [
        Rated(
            slug=slugs[model],
            win_rate=float(found.win_rates[model]),
            low=float(found.win_rates_low[model]),
            high=float(found.win_rates_high[model]),
            rank_low=low[number],
            rank_high=high[number],
            p_best=chances[number],
            votes=int(counts.votes[model]),
            wins=float(counts.shares["win"][model]),
            ties=float(counts.shares["tie"][model]),
            both_good=float(counts.shares["both_good"][model]),
            both_bad=float(counts.shares["both_bad"][model]),
            cannot_judge=float(counts.shares["cannot_judge"][model]),
        )
        for number, model in enumerate(group)
    ]


def _without_bad(votes: Sequence[Vote]) -> Preference | None:
    kept = [vote for vote in votes if vote.outcome != "both_bad"]
    judged = any(OUTCOMES[vote.outcome] != UNJUDGED for vote in kept)
    return preference(kept) if judged and len(kept) < len(votes) else None


def _side(found: Strengths) -> Side | None:
    if "side_unknown" in found.notes:
        return None

    def share(effect: float) -> float:
        return float(expected_share(np.array([effect]), found.tie)[0][0])

    if found.dof < 1:
        return Side(rate=share(found.side), low=None, high=None)
    low, high = found.side_interval
    return Side(rate=share(found.side), low=share(low), high=share(high))


def _fragility(main: Preference, votes: Sequence[Vote]) -> Fragility | None:
    if len(main.found.components) > 1:
        return None
    first, second, _ = _arrays(votes, main.slugs)
    return fragility(first, second, main.tally.codes, models=len(main.slugs))


def ratings(votes: Sequence[Vote]) -> list[list[float]]:
    """Return votes as ratings for an ordinal alpha, shape (units, raters), NaN where none.

    A unit is a pair of models on an item. 0 prefers the model whose slug comes first in the
    alphabet, 2 the other one, 1 neither, whichever side they were shown on.
    """
    raters = {name: number for number, name in enumerate(sorted({vote.rater for vote in votes}))}
    units: dict[tuple[str, str, str], list[float]] = {}
    for vote in votes:
        if OUTCOMES[vote.outcome] == UNJUDGED:
            continue
        pair = sorted((vote.first, vote.second))
        row = units.setdefault((vote.item, pair[0], pair[1]), [math.nan] * len(raters))
        value = 1.0
        if vote.outcome in DECIDED:
            winner = vote.first if vote.outcome == "first" else vote.second
            value = 2.0 * pair.index(winner)
        row[raters[vote.rater]] = value
    return list(units.values())


def _benchmark(main: Preference, board: Board) -> tuple[tuple[str, float], ...]:
    """Return the rated models' means over the default columns of their track, best first."""
    track = board.models[main.slugs[0]].track
    preset = board.preset(track)
    if preset is None:
        return ()
    return tuple(
        (slug, standing.mean.mean)
        for slug, standing in board.rankings[track, preset].standings.items()
        if slug in main.slugs
    )


def _correlation(main: Preference, benchmark: tuple[tuple[str, float], ...]) -> Correlation | None:
    """Return how votes and benchmark agree, within the largest group of connected models."""
    strength = {model.slug: model.win_rate for model in main.groups[0]}
    both = [(strength[slug], mean) for slug, mean in benchmark if slug in strength]
    if len(both) < _FEW:
        return None
    return rank_correlation([rate for rate, _ in both], [mean for _, mean in both])
