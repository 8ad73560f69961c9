"""What a study found, in numbers: the owner's dashboard, the study card and exports read this.

    >>> results = study_results(collected(database, "summaries-1"))
    >>> results.ranking.rows[0].model, results.counts.votes, results.agreement["outcome"].value
    ('dicta', 1180, 0.41)

Where something cannot be known it is None, or an `Agreement` with its reason in words. Results
are given without excluded votes and, where there are any, with them.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from hebench.human.collected import Collected, CollectedVote
from hebench.human.ranking import Ranking, rank
from hebench.human.raters import RaterRow, rater_rows
from hebench.human.store import LATE
from hebench.human.study import Axis, Study
from hebench.human.values import (
    Order,
    Value,
    accepted,
    by_model,
    categories,
    marked,
    ratings,
    score_on,
    values_of,
)
from hebench.stats.agreement import (
    Agreement,
    Metric,
    gwet_ac1,
    krippendorff,
)
from hebench.stats.intervals import Interval, mean_interval


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Sizes. Slots are pages of the plan, with repeats and checks; votes are on its questions."""

    slots: int
    answered: int
    leased: int
    votes: int
    excluded: int
    corrections: int
    forgotten: int
    raters: int  # who voted
    joined: int  # who came in as raters
    items: int
    exclusions: tuple[tuple[str, int], ...]  # reason, votes; most frequent first


@dataclass(frozen=True, kw_only=True)
class PairCount:
    """Votes on one pair of models, or on one model."""

    models: tuple[str, ...]
    planned: int
    votes: int


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How much of the plan is there: questions with any vote, and with all they were planned."""

    questions: int
    begun: int
    complete: int
    pairs: tuple[PairCount, ...]


@dataclass(frozen=True, kw_only=True)
class AxisModel:
    """One model on one scale, in points."""

    model: str
    mean: float
    low: float
    high: float
    counts: tuple[int, ...]  # of 1, 2, ...
    cannot_judge: int


@dataclass(frozen=True, kw_only=True)
class AxisSummary:
    """One scale; intervals clustered by rater."""

    axis: Axis
    rows: tuple[AxisModel, ...]  # the best first


@dataclass(frozen=True, kw_only=True)
class ShareSummary:
    """How often something is true of a model's answers, in [0, 1], clustered by rater."""

    model: str
    share: Interval
    counts: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class StopState:
    """Whether the rule that was declared in advance says to stop, and why, in words."""

    reached: bool
    words: str


@dataclass(frozen=True, kw_only=True)
class StudyResults:
    """All numbers of a study; what its type does not have is empty."""

    counts: Counts
    coverage: Coverage
    agreement: dict[str, Agreement]  # "outcome", an axis or "verdict": Krippendorff's alpha
    agreement_ac1: dict[str, Agreement]  # Gwet's AC1 of the same, for answers that dominate
    ranking: Ranking | None
    ranking_all: Ranking | None  # with excluded votes; None where none is
    ranking_unclustered: Ranking | None  # votes taken as independent: intervals too narrow
    dimensions: dict[str, Ranking | None]  # by axis
    axes: tuple[AxisSummary, ...]
    axes_all: tuple[AxisSummary, ...]
    marked: tuple[ShareSummary, ...]  # answers with an unsupported claim
    accepted: tuple[ShareSummary, ...]  # items accepted as they are
    raters: tuple[RaterRow, ...]
    stop: StopState


def study_results(
    found: Collected, *, level: float = 0.95, seed: int = 0, order: Order = str
) -> StudyResults:
    """Return the numbers of a study as it stands.

    level: of all intervals. seed: of the bootstrap of agreement. order: of models where no number
    orders them; the alphabet's would tell masked models by their places.
    """
    study, counted, every = found.study, found.counted(), found.every()
    some_excluded = len(counted) < len(every)
    values = values_of(study)
    ranked = partial(rank, level=level, order=order)
    ranking = ranked(counted) if study.paired else None
    likert = study.type == "likert"
    axes = _axes(study, counted, level, order) if likert else ()
    marks = _shares(counted, marked, level, order) if study.type == "spans" else ()
    verdicts = _shares(counted, accepted, level, order) if study.type == "review" else ()
    metric: Metric = "nominal" if study.type in ("spans", "review") else "ordinal"
    tables = {name: ratings(counted, value) for name, value in values.items()}
    paired_all = study.paired and some_excluded
    return StudyResults(
        counts=_counts(found),
        coverage=_coverage(found, order),
        agreement={
            name: krippendorff(table, metric, level=level, seed=seed)
            for name, table in tables.items()
        },
        agreement_ac1={
            name: gwet_ac1(table, categories(study, name)) for name, table in tables.items()
        },
        ranking=ranking,
        ranking_all=ranked(every) if paired_all else None,
        ranking_unclustered=ranked(counted, clustered=False) if study.paired else None,
        dimensions={
            axis.name: ranked(counted, dimension=axis.name) for axis in study.axes if study.paired
        },
        axes=axes,
        axes_all=_axes(study, every, level, order) if likert and some_excluded else (),
        marked=marks,
        accepted=verdicts,
        raters=rater_rows(found),
        stop=_stop(found, ranking, axes, (*marks, *verdicts)),
    )


# ------------------------------------------------------------------------------------ the plan


def _counts(found: Collected) -> Counts:
    every, counted = found.every(), found.counted()
    reasons = Counter(reason for vote in every for reason in vote.excluded)
    return Counts(
        slots=found.slots,
        answered=found.answered,
        leased=found.leased,
        votes=len(counted),
        excluded=len(every) - len(counted),
        corrections=found.corrections,
        forgotten=found.forgotten,
        raters=len({vote.rater for vote in every}),
        joined=sum(rater.role == "rater" for rater in found.raters),
        items=len({vote.task.item for vote in counted}),
        exclusions=tuple(sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))),
    )


def _coverage(found: Collected, order: Order) -> Coverage:
    votes = Counter(vote.task.id for vote in found.counted())
    tasks = [task for task in found.tasks if task.kind == "main"]
    planned: Counter[tuple[str, ...]] = Counter()
    given: Counter[tuple[str, ...]] = Counter()
    for task in tasks:
        models = tuple(sorted(task.models, key=order))
        planned[models] += task.planned
        given[models] += votes[task.id]
    return Coverage(
        questions=len(tasks),
        begun=sum(votes[task.id] > 0 for task in tasks),
        complete=sum(votes[task.id] >= task.planned for task in tasks),
        pairs=tuple(
            PairCount(models=models, planned=count, votes=given[models])
            for models, count in sorted(planned.items(), key=lambda pair: [*map(order, pair[0])])
        ),
    )


def _stop(
    found: Collected,
    ranking: Ranking | None,
    axes: Sequence[AxisSummary],
    shares: Sequence[ShareSummary],
) -> StopState:
    rule = found.study.stop
    if rule.rule == "precision" and rule.half_width is not None:
        bounds = [(row.low, row.high) for row in (ranking.rows if ranking else ())]
        bounds += [(row.low, row.high) for axis in axes for row in axis.rows]
        bounds += [(row.share.low, row.share.high) for row in shares]
        halves = [(high - low) / 2 for low, high in bounds]
        # One that is not known yet, NaN or of a model that nobody judged, is as wide as can be.
        missing = len(bounds) < len(found.study.models) * max(1, len(axes))
        widest = max(
            (math.inf if missing or math.isnan(h) else h for h in halves), default=math.inf
        )
        words = f"widest half interval {widest:.3f}, to stop at {rule.half_width:g}"
        return StopState(reached=widest <= rule.half_width, words=words)
    done = sum(vote.kind == "main" for vote in found.votes if not {*LATE} & {*vote.excluded})
    goal = sum(task.planned for task in found.tasks if task.kind == "main")
    if rule.votes is not None:
        goal = min(goal, rule.votes)
    return StopState(reached=done >= goal, words=f"{done:,} of {goal:,} votes")


# -------------------------------------------------------------------------- models, one by one


def _axes(
    study: Study, votes: Sequence[CollectedVote], level: float, order: Order
) -> tuple[AxisSummary, ...]:
    return tuple(
        AxisSummary(
            axis=axis,
            rows=tuple(
                sorted(
                    (_on_axis(axis, m, own, level) for m, own in by_model(votes, order).items()),
                    key=lambda row: -math.inf if math.isnan(row.mean) else row.mean,
                    reverse=True,
                )
            ),
        )
        for axis in study.axes
    )


def _on_axis(axis: Axis, model: str, votes: Sequence[CollectedVote], level: float) -> AxisModel:
    scores = [score_on(axis.name)(vote) for vote in votes]
    span = axis.steps - 1
    raters = [vote.rater for vote in votes]
    found = mean_interval([(score - 1) / span for score in scores], raters, level=level)
    given = Counter(scores)
    return AxisModel(
        model=model,
        mean=1 + span * found.mean,
        low=1 + span * found.low,
        high=1 + span * found.high,
        counts=tuple(given[float(step)] for step in range(1, axis.steps + 1)),
        cannot_judge=found.unscored,
    )


def _shares(
    votes: Sequence[CollectedVote], value: Value, level: float, order: Order
) -> tuple[ShareSummary, ...]:
    rows = []
    for model, own in by_model(votes, order).items():
        given = [value(vote) for vote in own]
        words = Counter(_outcome_word(vote) for vote in own)
        share = mean_interval(given, [vote.rater for vote in own], level=level)
        rows.append(ShareSummary(model=model, share=share, counts=dict(sorted(words.items()))))
    return tuple(rows)


def _outcome_word(vote: CollectedVote) -> str:
    if "verdict" in vote.answer:
        return str(vote.answer["verdict"])
    if "spans" not in vote.answer:
        return "cannot_judge"
    return "marked" if vote.answer["spans"] else "clean"
