"""The rules that choose a checkpoint, and what they can say about their choice.

confident (default): keep the set that paired intervals cannot tell from the best (or, within
    `indifference_points`, need not), and take from it by the stated preference: the highest score
    after smoothing over neighbouring checkpoints, the earliest, or the one of lowest loss. The set
    compares scores as measured: smoothing picks better, but it rounds off a bend, and of a short
    run that rises to a corner a set made of the smoothed curve lost that corner in a third of
    made-up runs in place of one in twenty.
best: the highest mean as measured. The winner of many equals is a lucky one.
paper: DictaLM 2.0's (arXiv 2407.07080): of the last 10,000 steps the 10 checkpoints of lowest
    loss, and of these the highest mean.
constraint: `confident` among the checkpoints whose guard tasks (English, say) have not fallen
    by more than `max_fall` below those of the first checkpoint, with one-sided confidence.
votes: what people preferred; where they could not tell, the highest smoothed score. Never a
    checkpoint that nobody judged.

Where no checkpoint is above chance on a task of choices, its margin (see `hebench.selection.items`)
stands in for its score, if the measure is `auto`. Not its answer: that also rises with what has
nothing to do with the task, and as nobody knows what a guesser has there, it could not say that
all are at chance. Checkpoints that are gone from the disk still tell about their neighbours, and
are not chosen.

Whatever chose it, the interval of the chosen checkpoint allows for the choice: the rule is applied
again and again to curves made of the smoothed one and noise of the size that was measured, and
what the winner's score is off by then, bias and spread, is taken off here.

    >>> decide(read_log(Path("runs/he/selection.jsonl")), SelectConfig()).chosen
    'checkpoint-800'
"""

import contextlib
import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hebench.errors import ConfigError, DataError, one_line
from hebench.selection.log import Evaluated, Measure
from hebench.selection.table import Table, pair_variances, read_table
from hebench.stats.paired import minimum_detectable
from hebench.stats.ranks import may_be_best, normal_draws, simultaneous_critical

Floats = NDArray[np.float64]
DRAWS = 4000  # curves that a rule is applied to again
_WORDS: dict[Measure, str] = {
    "margin": "the right choice",
    "answer": "a byte of the right answer",
}
RuleName = Literal["confident", "best", "paper", "constraint", "votes"]


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """How to choose."""

    rule: RuleName = "confident"
    prefer: Literal["score", "earliest", "lowest_loss"] = "score"  # within the set of equals
    tasks: tuple[str, ...] = ()  # the choice rests on these; none: on all of the log
    # auto: margins for tasks at chance
    measure: Literal["auto", "score", "margin", "answer"] = "auto"
    level: float = 0.95  # of the set and of all intervals
    window_steps: int = 10_000  # paper: how far back from the last step
    lowest: int = 10  # paper: checkpoints of lowest loss
    indifference_points: float = 0.0  # differences that surely are smaller do not count
    guard: tuple[str, ...] = ()  # constraint: tasks that must not fall
    max_fall: float = 0.01  # constraint: by more than this, in units of the score
    evidence: Path | None = None  # votes: what `hebench human export` wrote

    def __post_init__(self) -> None:
        """Refuse values that contradict each other or mean nothing."""
        if not 0.5 <= self.level < 1:
            raise ConfigError(f"level: expected 0.5 to below 1, found {self.level}")
        if self.window_steps < 1 or self.lowest < 1 or self.max_fall < 0:
            raise ConfigError(
                "expected window_steps and lowest of 1 or more, max_fall of 0 or more"
            )
        if self.rule in ("best", "paper") and self.prefer != "score":
            raise ConfigError(
                f"prefer {self.prefer} belongs to the rules confident, constraint and votes; rule "
                f"{self.rule} takes the highest mean"
            )
        if self.indifference_points < 0:
            raise ConfigError(
                f"expected indifference of 0 points or more, found {self.indifference_points}"
            )
        if (self.rule == "constraint") != bool(self.guard):
            raise ConfigError("rule constraint and guard tasks go together: name both, or neither")
        if (self.rule == "votes") != (self.evidence is not None):
            raise ConfigError("rule votes and an evidence file go together: name both, or neither")
        if set(self.guard) & set(self.tasks):
            raise ConfigError("a task cannot be guarded and chosen by; name it once")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One checkpoint as the decision saw it; scores in [0, 1]."""

    checkpoint: str
    step: int
    loss_nats: float | None
    score: float  # mean over tasks, as measured
    standard_error: float  # of `score`
    smoothed: float  # over neighbouring checkpoints
    behind: float  # of the best smoothed score; 0 or more
    equal: bool  # cannot be told from the best
    allowed: bool  # by the rule's window, guard or votes, and still there
    averaged: bool  # a mean of weights, off the curve


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The choice, and all that it rests on."""

    rule: str
    chosen: str
    step: int
    score: float  # of the chosen one on the items that chose it
    flattery: float  # by how much such a choice looks better than it is, on average
    low: float  # of the true score; allows for the choice
    high: float
    detectable: float  # the smallest difference of two that would be found 4 times in 5
    equals: tuple[str, ...]
    at_chance: bool
    bandwidth: float | None  # in typical distances between checkpoints
    reasons: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    level: float = 0.95


def decide(
    log: Sequence[Evaluated], config: SelectConfig, *, present: Collection[str] | None = None
) -> Decision:
    """Return the decision of a rule over a log's checkpoints.

    present: those that can be chosen, by name; None for all. Raises DataError if the log cannot
    be compared (see `read_table`) and ConfigError if the rule leaves no checkpoint.
    """
    names = config.tasks or tuple(
        dict.fromkeys(n for e in log for n in [*e.tasks, *e.failed] if n not in config.guard)
    )
    if not names:
        raise ConfigError("every task of the log is guarded; evaluate on one to choose by")
    table = read_table(log, (*names, *config.guard))
    reasons = [
        f"{len(table.entries)} checkpoints on {len(names)} tasks, {_items(table.of(names))} items"
    ]
    measures = _measures(table.of(names), config)
    if measures:
        table = read_table(log, (*names, *config.guard), measures=measures)
        what = _WORDS[next(iter(measures.values()))]
        reasons.append(f"by the probability of {what}: {', '.join(measures)}")
    chosen_by = table.of(names)
    if table.left_out:
        reasons.append(f"{len(table.left_out)} checkpoints left out, see left_out")
    unscored = {name: count for name, count in table.unscored.items() if count}
    if unscored:
        reasons.append(
            f"{sum(unscored.values())} items left out, which no checkpoint could judge: "
            f"{', '.join(unscored)}"
        )
    allowed = _present(table, _allowed(log, table, config, reasons), present, reasons)
    view = _view(chosen_by, allowed, config)
    return _decision(view, _pick(view, config, reasons), config, reasons)


@dataclass(frozen=True, kw_only=True)
class _View:
    """What a rule looks at; arrays are (M,)."""

    table: Table
    smooth: Floats  # smoothed scores
    allowed: NDArray[np.bool_]
    equal: NDArray[np.bool_]  # allowed, and cannot be told, or need not be, from the best that is
    at_chance: bool


def _view(table: Table, allowed: NDArray[np.bool_], config: SelectConfig) -> _View:
    level, variances = config.level, pair_variances(table.covariance)
    places = np.flatnonzero(allowed)
    equal = np.zeros(len(allowed), dtype=bool)
    equal[places] = may_be_best(
        table.scores[places], variances[np.ix_(places, places)], dof=table.dof, level=level
    )
    if config.indifference_points and table.dof > 0:
        best = places[np.argmax(table.scores[places])]
        t = float(stats.t.ppf((1 + level) / 2, table.dof))
        furthest = table.scores[best] - table.scores + t * np.sqrt(variances[best])
        equal |= allowed & (100 * furthest < config.indifference_points)
    return _View(
        table=table,
        smooth=table.smoother @ table.scores,
        allowed=allowed,
        equal=equal,
        at_chance=_at_chance(table, level),
    )


def _measures(table: Table, config: SelectConfig) -> dict[str, Measure]:
    """Return what is looked at in place of scores, by task; all by the same measure.

    A measure that is asked for is that of the tasks of choices; the others keep their scores.
    """
    if config.measure == "score":
        return {}
    measure: Measure = "margin" if config.measure == "auto" else config.measure
    able = [
        name
        for name in table.items
        if all(e.tasks[name].by(measure) is not None for e in table.entries)
    ]
    if config.measure == "auto":
        able = [name for name in able if _at_chance(table.of((name,)), config.level)]
        return dict.fromkeys(able, measure)
    if not able:
        raise ConfigError(
            f"measure {measure} needs tasks of choices, and {', '.join(table.items)} are none in "
            "this log, or were evaluated by a hebench that did not keep it; evaluate anew, or take "
            "measure auto"
        )
    older = [
        name
        for name in table.items
        if name not in able and any(e.tasks[name].margins is not None for e in table.entries)
    ]
    if older:
        raise ConfigError(
            f"{', '.join(older)}: expected the measure {measure} in each line of the log, found it "
            "not in all; evaluate anew, or take measure auto"
        )
    return dict.fromkeys(able, measure)


def _present(
    table: Table,
    allowed: NDArray[np.bool_],
    present: Collection[str] | None,
    reasons: list[str],
) -> NDArray[np.bool_]:
    """Return which of the allowed checkpoints are still there, (M,)."""
    if present is None:
        return allowed
    here = np.array([entry.checkpoint in present for entry in table.entries])
    gone = int((allowed & ~here).sum())
    if not (allowed & here).any():
        raise ConfigError(
            f"expected one of the {allowed.sum()} evaluated checkpoints on the disk, found none; "
            "they were removed since: train with more of them kept, or watch with --keep"
        )
    if gone:
        reasons.append(f"{gone} checkpoints are gone from the disk and cannot be chosen")
    return np.asarray(allowed & here)


def _allowed(
    log: Sequence[Evaluated], table: Table, config: SelectConfig, reasons: list[str]
) -> NDArray[np.bool_]:
    """Return which checkpoints the rule considers, (M,)."""
    count = len(table.entries)
    if config.rule == "paper":
        return _of_lowest_loss(table, config, reasons)
    if config.rule == "constraint":
        return _guarded(_guard_table(log, table, config), table, config, reasons)
    if config.rule == "votes":
        return _preferred(table, config, reasons)
    return np.ones(count, dtype=bool)


def _of_lowest_loss(table: Table, config: SelectConfig, reasons: list[str]) -> NDArray[np.bool_]:
    losses = _losses(table)
    if np.isnan(losses).all():
        raise ConfigError("rule paper needs losses, and the log has none; choose another rule")
    within = table.steps > table.steps.max() - config.window_steps
    order = np.argsort(np.where(within & ~np.isnan(losses), losses, math.inf), kind="stable")
    kept = order[: config.lowest]
    allowed = np.zeros(len(losses), dtype=bool)
    allowed[kept] = (within & ~np.isnan(losses))[kept]
    if not allowed.any():
        raise ConfigError(
            f"rule paper needs losses, and no checkpoint of the last {config.window_steps:,} steps "
            "has one; widen --window (window_steps), or choose another rule"
        )
    reasons.append(f"{allowed.sum()} of lowest loss within the last {config.window_steps:,} steps")
    return allowed


def _guard_table(log: Sequence[Evaluated], table: Table, config: SelectConfig) -> Table:
    """Return the guard tasks of a table's checkpoints, and of the first in the log that has them.

    That one may lack a task to choose by. Where it cannot be compared, the table's first stands
    for it.
    """
    able = [entry for entry in log if set(config.guard) <= set(entry.tasks)]
    first = min(able, key=lambda entry: entry.step)
    if first not in table.entries:
        with contextlib.suppress(DataError):
            found = read_table([first, *table.entries], config.guard)
            if not found.left_out:
                return found
    return table.of(config.guard)


def _guarded(
    guard: Table, table: Table, config: SelectConfig, reasons: list[str]
) -> NDArray[np.bool_]:
    """Return which checkpoints of `table` keep the guard tasks, at one-sided level.

    guard: as of `_guard_table`; falls are from its first.
    """
    falls = guard.scores[0] - guard.scores
    t = float(stats.t.ppf(config.level, max(1.0, guard.dof)))
    highest = falls + t * np.sqrt(pair_variances(guard.covariance)[0])
    kept = {
        e.checkpoint
        for e, most in zip(guard.entries, highest, strict=True)
        if most <= config.max_fall
    } | {guard.entries[0].checkpoint}
    allowed = np.array([entry.checkpoint in kept for entry in table.entries])
    if not allowed.any():
        raise ConfigError(
            f"no checkpoint keeps {', '.join(config.guard)} within {100 * config.max_fall:.1f} "
            f"points of {guard.entries[0].checkpoint}; allow a larger --max-fall"
        )
    reasons.append(
        f"{allowed.sum()} of {len(allowed)} keep {', '.join(config.guard)} within "
        f"{100 * config.max_fall:.1f} points of the first, {guard.entries[0].checkpoint}"
    )
    return allowed


def _preferred(table: Table, config: SelectConfig, reasons: list[str]) -> NDArray[np.bool_]:
    """Return the checkpoints that people's votes may rank first."""
    assert config.evidence is not None, "checked by SelectConfig"
    ranks = read_evidence(config.evidence)
    allowed = np.array([ranks.get(e.checkpoint, math.inf) == 1 for e in table.entries])
    if not allowed.any():
        raise ConfigError(
            f"{config.evidence}: none of the models that may be first ({_first(ranks)}) is a "
            "checkpoint of the log; name the study's models as the log does"
        )
    reasons.append(f"{allowed.sum()} checkpoints may be first by votes ({config.evidence.name})")
    return allowed


def read_evidence(path: Path) -> dict[str, int]:
    """Return the best rank that each judged model of a study may have, by name.

    path: the evidence of `hebench human export`. Raises DataError if it is not that.
    """
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        ranks = {str(row["model"]): row["rank_low"] for row in content["models"]}
        return {model: int(rank) for model, rank in ranks.items() if rank is not None}
    except OSError as error:
        raise DataError(f"{path}: expected evidence of votes, found {error.strerror}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: expected evidence of votes, found {one_line(error)}; "
            "write it with `hebench human export`"
        ) from error


def _first(ranks: dict[str, int]) -> str:
    return ", ".join(name for name, rank in ranks.items() if rank == 1) or "none"


def _pick(view: _View, config: SelectConfig, reasons: list[str]) -> int:
    """Return the place of the chosen checkpoint."""
    places = np.flatnonzero(view.allowed)
    if len(view.table.entries) == 1:
        reasons.append("there is one checkpoint: nothing was chosen")
        return 0
    if view.at_chance:
        reasons.append("all are at chance on these tasks: no choice is better than the last")
        return int(places[-1])
    if config.rule in ("best", "paper"):
        reasons.append("the highest mean as measured")
        return int(places[np.argmax(view.table.scores[places])])
    equals = np.flatnonzero(view.equal)
    if len(equals) == len(places) > 1:
        reasons.append("no checkpoint can be told from another on these items")
    if config.prefer == "earliest":
        reasons.append("the earliest of those that cannot be told from the best")
        return int(equals[0])
    if config.prefer == "lowest_loss":
        losses = _losses(view.table)[equals]
        if np.isnan(losses).all():
            raise ConfigError("prefer lowest_loss needs losses, and the log has none")
        reasons.append("the lowest loss of those that cannot be told from the best")
        return int(equals[np.nanargmin(losses)])
    reasons.append("the highest score after smoothing over neighbours")
    return int(equals[np.argmax(view.smooth[equals])])


def _decision(view: _View, place: int, config: SelectConfig, reasons: list[str]) -> Decision:
    table = view.table
    bias, low, high = _errors_of_choice(view, place, config)
    errors = np.sqrt(np.diag(table.covariance))
    best = float(view.smooth[view.allowed].max())
    candidates = tuple(
        Candidate(
            checkpoint=entry.checkpoint,
            step=entry.step,
            loss_nats=entry.loss_nats,
            score=float(table.scores[i]),
            standard_error=float(errors[i]),
            smoothed=float(np.clip(view.smooth[i], 0, 1)),
            behind=max(0.0, best - float(view.smooth[i])),
            equal=bool(view.equal[i]),
            allowed=bool(view.allowed[i]),
            averaged=bool(entry.averaged),
        )
        for i, entry in enumerate(table.entries)
    )
    chosen = candidates[place]
    return Decision(
        rule=config.rule,
        chosen=chosen.checkpoint,
        step=chosen.step,
        score=chosen.score,
        flattery=bias,
        low=float(np.clip(chosen.score - high, 0, 1)),
        high=float(np.clip(chosen.score - low, 0, 1)),
        detectable=minimum_detectable(_typical_error(table.covariance), config.level),
        equals=tuple(c.checkpoint for c in candidates if c.equal),
        at_chance=view.at_chance,
        bandwidth=table.bandwidth,
        reasons=tuple(reasons),
        candidates=candidates,
        left_out=table.left_out,
        tasks=tuple(table.items),
        level=config.level,
    )


def _errors_of_choice(view: _View, place: int, config: SelectConfig) -> tuple[float, float, float]:
    """Return mean, lower and upper quantile of the error of the chosen one's measured score.

    A rule that looks at scores is applied to drawn curves; one that looks at steps or losses
    would choose the same there.
    """
    table, truth = view.table, view.smooth
    noise = normal_draws(table.covariance, DRAWS)
    picked = np.full(DRAWS, place)
    if config.prefer == "score" and not view.at_chance:
        smoother = np.eye(len(truth)) if config.rule in ("best", "paper") else table.smoother
        curves = (truth + noise) @ smoother.T
        curves[:, ~view.allowed] = -math.inf
        picked = curves.argmax(axis=1)
    errors = noise[np.arange(DRAWS), picked]
    tail = (1 - config.level) / 2
    if table.dof <= 0:  # one independent unit says nothing of its own error
        return float(errors.mean()), -math.inf, math.inf
    # Few independent units: the noise itself is known badly, so the tails move out as t's do.
    wider = stats.t.ppf(1 - tail, table.dof) / stats.norm.ppf(1 - tail)
    bias = float(errors.mean())
    low, high = (bias + wider * (float(q) - bias) for q in np.quantile(errors, [tail, 1 - tail]))
    return bias, low, high


def _typical_error(covariance: Floats) -> float:
    """Return the median standard error of a difference of two, 0 for one checkpoint."""
    pairs = pair_variances(covariance)[np.triu_indices(len(covariance), 1)]
    return math.sqrt(float(np.median(pairs))) if pairs.size else 0.0


def _at_chance(table: Table, level: float) -> bool:
    """Return whether no checkpoint is above chance on its tasks' mean, all looked at at once.

    Tasks without choices have chance 0: whoever scores there at all is above it.
    """
    expected = float(np.mean([chance or 0.0 for chance in table.chance.values()]))
    if all(chance is None for chance in table.chance.values()):
        return bool((table.scores <= 0).all())
    errors = np.sqrt(np.diag(table.covariance))
    above = float(((table.scores - expected) / errors).max())
    # Bounds that need no draws settle most cases: of one checkpoint alone, and Bonferroni's.
    tail, freedom = (1 - level) / 2, max(1.0, table.dof)
    if above <= stats.t.isf(tail, freedom):
        return True
    if above > stats.t.isf(tail / len(errors), freedom):
        return False
    return above <= simultaneous_critical(table.covariance, dof=table.dof, level=level)


def _losses(table: Table) -> Floats:
    return np.array(
        [math.nan if e.loss_nats is None else e.loss_nats for e in table.entries], dtype=np.float64
    )


def _items(table: Table) -> int:
    return sum(scores.shape[1] for scores in table.items.values())
