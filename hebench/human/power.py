"""What a plan can find: votes needed for a given difference, before the first one is asked for.

>>> planned = power(study, material)
>>> planned.votes, planned.votes_a_pair, planned.detectable
(1200, 400.0, 0.588...)
"""

import math
from collections import Counter
from dataclasses import dataclass

from scipy import stats

from hebench.human.material import Material
from hebench.human.plan import Seat, plan_seats
from hebench.human.study import Study
from hebench.stats.vote_plan import Needed, needed_votes

TIE_SHARE = 0.2  # assumed, as in most preference studies
RATER_CORRELATION = 0.05  # of two votes of one rater: a mild difference of tastes
_SCORE_SD = 1.0  # points of a five-step scale
_RATES = (0.55, 0.6, 0.65, 0.7, 0.75)
_POWER = 0.8
_LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Power:
    """A plan in numbers. `needed` holds, by win rate, the votes that a pair of models needs."""

    seats: int
    votes: int  # of the plan, without repeats and checks
    questions: int
    shared: int  # questions asked of several raters
    votes_a_pair: float  # of models, until the study stops; of a model where judged singly
    needed: dict[float, Needed]  # empty where answers are judged singly
    detectable: float | None  # smallest win rate found four times out of five; None: none is
    detectable_points: float | None  # likert: smallest difference of two models' means
    short_by: int  # votes that the plan asks for and items and models do not allow


def seats_of(study: Study, material: Material) -> tuple[Seat, ...]:
    """Return the seats of a study."""
    kinds = Counter(check.kind for check in material.checks)
    return plan_seats(
        study.plan,
        items=len(material.items),
        models=len(study.models),
        paired=study.paired,
        checks=(kinds["gold"], kinds["attention"]),
        seed=study.seed,
    )


def power(study: Study, material: Material) -> Power:
    """Return what the plan of a study can find."""
    seats = seats_of(study, material)
    uses = Counter(page.question for seat in seats for page in seat if page.kind == "main")
    votes, models = uses.total(), len(study.models)
    units = math.comb(models, 2) if study.paired else models
    # A study that stops by its votes finds what so many can.
    each, raters = min(votes, study.stop.votes or votes) / units, study.plan.raters
    needed = {}
    if study.paired and raters > 1:
        needed = {rate: _needed(rate, raters) for rate in _RATES}
    return Power(
        seats=len(seats),
        votes=votes,
        questions=len(uses),
        shared=sum(count > 1 for count in uses.values()),
        votes_a_pair=each,
        needed=needed,
        detectable=_detectable(each, raters) if needed else None,
        detectable_points=_points(each, raters) if study.type == "likert" else None,
        short_by=max(0, _asked(study) - votes),
    )


def _asked(study: Study) -> int:
    """Return the votes that whole questions make of the plan's budget."""
    plan = study.plan
    questions = int(plan.raters * plan.votes_each / (1 + plan.overlap_share * (plan.overlap - 1)))
    return questions + int(questions * plan.overlap_share) * (plan.overlap - 1)


def _needed(rate: float, raters: int) -> Needed:
    return needed_votes(
        rate,
        tie_share=min(TIE_SHARE, 2 * (1 - rate)),
        raters=raters,
        rater_correlation=RATER_CORRELATION,
        level=_LEVEL,
        power=_POWER,
    )


def _detectable(votes: float, raters: int) -> float | None:
    """Return the smallest win rate, in steps of 0.1 %, that so many votes of a pair find."""
    for thousandths in range(505, 900):
        found = _needed(thousandths / 1000, raters)
        if found.votes is not None and found.votes <= votes:
            return thousandths / 1000
    return None


def _points(votes: float, raters: int) -> float | None:
    """Return the smallest difference of two means that so many scores a model find.

    The variance of a mean of n scores by R raters is s2 (1 + (n / R - 1) r) / n.
    """
    if raters < 2 or votes < 2:
        return None
    spread = 1 + max(votes / raters - 1, 0) * RATER_CORRELATION
    error = _SCORE_SD * math.sqrt(2 * spread / votes)
    reach = stats.t.ppf(0.5 + _LEVEL / 2, raters - 1) + stats.t.ppf(_POWER, raters - 1)
    return float(reach * error)
