"""Raters one by one: how much, how fast, how severe, how much like the others.

>>> rater_rows(collected(database, "summaries-1"))[0].severity
-0.4
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from hebench.human.collected import Collected, CollectedVote
from hebench.human.quality import RaterCheck, rater_checks
from hebench.human.study import Study
from hebench.human.values import Value, accepted, by_model, marked, ratings, values_of
from hebench.stats.agreement import raters_against_rest
from hebench.stats.ballots import DECIDED


@dataclass(frozen=True, kw_only=True)
class RaterRow:
    """One rater. Shares are in [0, 1]; None where they are not defined.

    severity: likert, points below (negative) or above what others gave the same models; else the
    share of votes that found fault (both bad; marked spans; fix or reject).
    """

    rater: str
    votes: int
    excluded: int
    seconds: float  # median of a page
    first_share: float | None  # of decided votes, that chose the answer shown first
    tie_share: float | None
    severity: float | None
    with_others: float | None  # others' answers to the same questions that are the same
    check: RaterCheck


def rater_rows(found: Collected) -> tuple[RaterRow, ...]:
    """Return a row for each rater who voted, by pseudonym; excluded votes are in it, too."""
    every, values = found.every(), values_of(found.study)
    names = sorted({vote.rater for vote in every})
    headline = next(iter(values.values()))
    rest = raters_against_rest(ratings(every, headline)) if names else ()
    checks = {check.rater: check for check in rater_checks(found)}
    severity = _severity(found.study, every, values)
    own: dict[str, list[CollectedVote]] = defaultdict(list)
    for vote in every:
        own[vote.rater].append(vote)
    rows = []
    for number, name in enumerate(names):
        votes = own[name]
        words = [vote.shown_answer["outcome"] for vote in votes if "outcome" in vote.answer]
        decided = [word for word in words if word in DECIDED]
        rows.append(
            RaterRow(
                rater=name,
                votes=len(votes),
                excluded=sum(bool(vote.excluded) for vote in votes),
                seconds=median(vote.seconds for vote in votes),
                first_share=decided.count("first") / len(decided) if decided else None,
                tie_share=1 - len(decided) / len(words) if words else None,
                severity=severity[name],
                with_others=rest[number].value,
                check=checks[name],
            )
        )
    return tuple(rows)


def _severity(
    study: Study, votes: Sequence[CollectedVote], values: dict[str, Value]
) -> dict[str, float | None]:
    """Return each rater's severity: see `RaterRow`."""
    found: dict[str, list[float]] = defaultdict(list)
    if study.type == "likert":
        for value in values.values():
            for model_votes in by_model(votes).values():
                _add_deviations(found, model_votes, value)
    else:
        for vote in votes:
            if not math.isnan(fault := _fault(study, vote)):
                found[vote.rater].append(fault)
    return {
        rater: fmean(found[rater]) if found[rater] else None
        for rater in {vote.rater for vote in votes}
    }


def _add_deviations(
    found: dict[str, list[float]], votes: Sequence[CollectedVote], value: Value
) -> None:
    """Add to each rater, for each score of one model, how far it is from the others' mean."""
    scores = [(vote.rater, score) for vote in votes if not math.isnan(score := value(vote))]
    count, total = Counter(rater for rater, _ in scores), 0.0
    own: dict[str, float] = defaultdict(float)
    for rater, score in scores:
        own[rater] += score
        total += score
    for rater, score in scores:
        others = len(scores) - count[rater]
        if others:
            found[rater].append(score - (total - own[rater]) / others)


def _fault(study: Study, vote: CollectedVote) -> float:
    if study.type == "spans":
        return marked(vote)
    if study.type == "review":
        return 1 - accepted(vote)
    return float(vote.answer["outcome"] == "both_bad")
