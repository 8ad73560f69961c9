"""Answers as numbers, so that agreement, means and shares can be taken of them.

>>> values_of(study)["outcome"](vote)  # 0 the first model, 1 neither, 2 the second
2.0
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

from hebench.human.collected import CollectedVote
from hebench.human.study import Study
from hebench.stats.ballots import DECIDED, OUTCOMES, UNJUDGED
from hebench.stats.davidson import TIE

Value = Callable[[CollectedVote], float]  # NaN where it was not judged
Order = Callable[[str], str | int]  # what models are sorted by where no number says more
VERDICTS = ("accept", "fix", "reject")


def values_of(study: Study) -> dict[str, Value]:
    """Return what agreement is about: a number for each answer, by name."""
    if study.type == "spans":
        return {"marked": marked}
    if study.type == "review":
        return {"verdict": lambda vote: float(VERDICTS.index(vote.answer["verdict"]))}
    if study.type == "likert":
        return {axis.name: score_on(axis.name) for axis in study.axes}
    return {"outcome": lambda vote: _preference(vote.answer["outcome"])} | {
        axis.name: _dimension_on(axis.name) for axis in study.axes
    }


def score_on(axis: str) -> Value:
    """Return the score on a scale."""
    return lambda vote: math.nan if (s := vote.answer["scores"][axis]) is None else float(s)


def _dimension_on(axis: str) -> Value:
    return lambda vote: _preference(vote.answer["dimensions"][axis])


def _preference(outcome: str) -> float:
    """Return 0 for the first model, 2 for the second, 1 for neither: an ordered scale."""
    if OUTCOMES[outcome] == UNJUDGED:
        return math.nan
    return 2.0 * DECIDED.index(outcome) if outcome in DECIDED else 1.0


def marked(vote: CollectedVote) -> float:
    """Return 1 if an unsupported claim was marked, else 0."""
    return float(bool(vote.answer["spans"])) if "spans" in vote.answer else math.nan


def accepted(vote: CollectedVote) -> float:
    """Return 1 if the item was accepted as it is, else 0."""
    return float(vote.answer["verdict"] == "accept")


def categories(study: Study, name: str) -> int:
    """Return how many different values an answer may have."""
    if study.type == "likert":
        return next(axis.steps for axis in study.axes if axis.name == name)
    if name == "outcome" and TIE not in (OUTCOMES[word] for word in study.outcomes):
        return 2
    return 2 if study.type == "spans" else 3


def ratings(votes: Sequence[CollectedVote], value: Value) -> list[list[float]]:
    """Return ratings of shape (questions, raters), NaN where there is none."""
    raters = {name: number for number, name in enumerate(sorted({vote.rater for vote in votes}))}
    rows: dict[int, list[float]] = {}
    for vote in votes:
        row = rows.setdefault(vote.task.id, [math.nan] * len(raters))
        row[raters[vote.rater]] = value(vote)
    # Agreement wants a table with two axes, also where nobody voted.
    return list(rows.values()) or [[math.nan]]


def by_model(votes: Sequence[CollectedVote], order: Order = str) -> dict[str, list[CollectedVote]]:
    """Return votes on single answers by model, models in this order."""
    found: dict[str, list[CollectedVote]] = defaultdict(list)
    for vote in votes:
        found[vote.models[0]].append(vote)
    return {model: found[model] for model in sorted(found, key=order)}
