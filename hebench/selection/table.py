"""The evaluated checkpoints side by side: aligned items, means, errors, smoothed curves.

Checkpoints of one run answered the same items, so a difference of two is measured item by item;
and a run's quality moves slowly, so neighbours tell about each other. How far they do is found
from the curve itself: the bandwidth that predicts a checkpoint best from its neighbours.
A curve is smoothed by lines fitted locally (Cleveland 1979, JASA 74, 829-836, without the
robustness weights), which unlike local means do not bend at the last checkpoint.

Letters: M checkpoints, T tasks, N items of a task.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hebench.errors import DataError
from hebench.selection.log import Evaluated, Measure, TaskItems
from hebench.stats.ranks import ROUNDING, mean_covariance

Floats = NDArray[np.float64]
BANDWIDTHS = (1.0, 2.0, 4.0, 8.0, 16.0)  # in typical distances between checkpoints
ENOUGH = 5  # checkpoints: with fewer there is no curve to speak of


@dataclass(frozen=True, kw_only=True)
class Table:
    """Checkpoints that can be compared, in the order of their steps."""

    entries: tuple[Evaluated, ...]  # M
    items: dict[str, Floats]  # task -> (M, N) of its measure: all were judged on all of them
    codes: dict[str, NDArray[np.int64]]  # task -> (N,) clusters
    chance: dict[str, float | None]  # of the measure
    left_out: dict[str, str]  # checkpoint -> why it is not here
    unscored: dict[str, int]  # task -> its items that are not here: no checkpoint could judge them

    @property
    def steps(self) -> Floats:
        """Return the steps, (M,)."""
        return np.array([entry.step for entry in self.entries], dtype=np.float64)

    @property
    def on_curve(self) -> NDArray[np.int64]:
        """Return the places of the run's own checkpoints: an average has no place on its curve."""
        return np.flatnonzero([not entry.averaged for entry in self.entries])

    @cached_property
    def means(self) -> Floats:
        """Return the mean score of each checkpoint on each task, (M, T)."""
        return np.column_stack([scores.mean(axis=1) for scores in self.items.values()])

    @cached_property
    def scores(self) -> Floats:
        """Return the mean over tasks, each counted once, (M,)."""
        return np.asarray(self.means.mean(axis=1))

    @cached_property
    def covariance(self) -> Floats:
        """Return the covariance of `scores` over other items of these tasks, (M, M)."""
        # One task at a time: with a thousand checkpoints each matrix is 8 MB.
        total = sum(
            mean_covariance(scores, self.codes[name]) for name, scores in self.items.items()
        )
        return np.asarray(total) / len(self.items) ** 2

    @property
    def dof(self) -> float:
        """Return degrees of freedom: those of the task with fewest independent units."""
        return float(min(len(np.unique(codes)) for codes in self.codes.values()) - 1)

    @cached_property
    def bandwidth(self) -> float | None:
        """Return the bandwidth of `BANDWIDTHS` that predicts each checkpoint best from the others.

        In units of the median distance between checkpoints; None with too few of them.
        """
        if len(self.on_curve) < ENOUGH:
            return None
        steps, scores = self.steps[self.on_curve], self.scores[self.on_curve]
        losses = []
        for bandwidth in BANDWIDTHS:
            smoother = local_lines(steps, bandwidth)
            left = 1 - np.diag(smoother)
            residuals = (scores - smoother @ scores) / np.where(left > 1e-9, left, np.nan)
            losses.append(float((residuals**2).mean()))
        known = np.where(np.isnan(losses), math.inf, losses)
        return BANDWIDTHS[int(np.argmin(known))] if np.isfinite(known).any() else None

    @cached_property
    def smoother(self) -> Floats:
        """Return the (M, M) matrix that takes `scores` to the smoothed curve.

        Checkpoints also differ truly from their neighbours. What the points scatter about the
        lines beyond the noise of the items is such difference; of each point's distance from its
        line the share that is, on average, true stays (as in James and Stein 1961).
        """
        whole = np.eye(len(self.entries))
        if self.bandwidth is None:
            return whole
        on = self.on_curve
        lines = local_lines(self.steps[on], self.bandwidth)
        rest = np.eye(len(on)) - lines
        scatter = float(((rest @ self.scores[on]) ** 2).sum())
        noise = float(((rest @ self.covariance[np.ix_(on, on)]) * rest).sum())  # a trace
        kept = max(0.0, 1 - noise / scatter) if scatter > 0 else 0.0
        whole[np.ix_(on, on)] = lines + kept * rest
        return whole

    def of(self, tasks: Sequence[str]) -> "Table":
        """Return the table with these tasks alone."""
        return Table(
            entries=self.entries,
            items={task: self.items[task] for task in tasks},
            codes={task: self.codes[task] for task in tasks},
            chance={task: self.chance[task] for task in tasks},
            left_out=self.left_out,
            unscored={task: self.unscored[task] for task in tasks},
        )


def read_table(
    log: Sequence[Evaluated],
    tasks: Sequence[str] = (),
    *,
    measures: Mapping[str, Measure] | None = None,
) -> Table:
    """Return the table of a log's checkpoints, over `tasks` or over all that the log names.

    measures: by task, what stands in for its scores. A checkpoint that lacks a task or its
    measure, or could not judge an item that another one judged, is left out with the reason: on
    fewer items its mean is another thing. Items that none could judge are left out for all.
    Raises DataError if a task is in no line, if its version, prompts or data changed within the
    log, or if no checkpoint is left.
    """
    known = list(dict.fromkeys(name for entry in log for name in [*entry.tasks, *entry.failed]))
    unknown = [name for name in tasks if name not in known]
    if unknown or not known:
        found = ", ".join(known) or "none"
        raise DataError(f"expected tasks of the log ({found}), found {', '.join(unknown)}")
    scores: dict[str, Measure] = dict.fromkeys(list(tasks) or known, "score")
    by = scores | dict(measures or {})
    left_out = {}
    for entry in log:
        reason = _reason_against(entry, by)
        if reason:
            left_out[entry.checkpoint] = reason
    entries = _without(log, left_out)
    for name in by:
        _require_alike(name, entries)
    judged = {name: _judged(name, measure, entries) for name, measure in by.items()}
    for entry in entries:
        reason = _lacking(entry, by, judged)
        if reason:
            left_out[entry.checkpoint] = reason
    entries = _without(entries, left_out)
    first = entries[0].tasks
    return Table(
        entries=entries,
        items={
            name: np.array([_values(e, name, measure)[judged[name]] for e in entries])
            for name, measure in by.items()
        },
        codes={name: _codes(first[name])[judged[name]] for name in by},
        chance={name: first[name].chance_by(measure) for name, measure in by.items()},
        left_out=left_out,
        unscored={name: int((~judged[name]).sum()) for name in by},
    )


def local_lines(steps: Floats, bandwidth: float) -> Floats:
    """Return the smoother that fits a line around each step, (M, M); its rows sum to 1.

    bandwidth: standard deviation of the Gaussian weights, in units of the median distance.
    """
    gap = float(np.median(np.diff(steps))) or 1.0
    distance = (steps[None, :] - steps[:, None]) / gap
    weights = np.exp(-0.5 * (distance / bandwidth) ** 2)
    first, second = weights * distance, weights * distance**2
    s0, s1, s2 = weights.sum(axis=1), first.sum(axis=1), second.sum(axis=1)
    bottom = s0 * s2 - s1**2
    # Where no neighbour has any weight there is no line: the point stands for itself.
    lines = (s2[:, None] * weights - s1[:, None] * first) / np.where(bottom > 0, bottom, 1)[:, None]
    return np.where((bottom > 1e-12 * s0**2)[:, None], lines, np.eye(len(steps)))


def pair_variances(covariance: Floats) -> Floats:
    """Return the variance of each pair's difference, (M, M), never 0 off the diagonal."""
    own = np.diag(covariance)
    found = np.maximum(own[:, None] + own[None, :] - 2 * covariance, ROUNDING)
    np.fill_diagonal(found, 0)
    return np.asarray(found)


def _codes(task: TaskItems) -> NDArray[np.int64]:
    if task.clusters is None:
        return np.arange(len(task.scores))
    return np.asarray(task.clusters, dtype=np.int64)


def _reason_against(entry: Evaluated, by: Mapping[str, Measure]) -> str | None:
    for name, measure in by.items():
        if name in entry.failed:
            return f"{name} failed: {entry.failed[name]}"
        if name not in entry.tasks:
            return f"{name} was not evaluated"
        values = entry.tasks[name].by(measure)
        if values is None:
            return f"{name} has no {measure} here"
        if np.isnan(values).all():
            return f"{name}: no item could be judged"
    return None


def _values(entry: Evaluated, name: str, measure: Measure) -> Floats:
    """Return a task's items by its measure, (N,), NaN where not judged."""
    return np.asarray(entry.tasks[name].by(measure), dtype=np.float64)


def _judged(name: str, measure: Measure, entries: Sequence[Evaluated]) -> NDArray[np.bool_]:
    """Return which items of a task at least one checkpoint could judge, (N,)."""
    return np.asarray(~np.isnan([_values(entry, name, measure) for entry in entries]).all(axis=0))


def _lacking(
    entry: Evaluated, by: Mapping[str, Measure], judged: Mapping[str, NDArray[np.bool_]]
) -> str | None:
    for name, measure in by.items():
        known = judged[name]
        missing = int(np.isnan(_values(entry, name, measure)[known]).sum())
        if missing:
            return f"{name}: {missing} of {known.sum()} items could not be judged"
    return None


def _without(log: Sequence[Evaluated], left_out: Mapping[str, str]) -> tuple[Evaluated, ...]:
    """Return the checkpoints that are not left out. Raises DataError if there is none."""
    entries = tuple(entry for entry in log if entry.checkpoint not in left_out)
    if not entries:
        name, reason = next(iter(left_out.items()))
        raise DataError(f"no checkpoint has scores on every task; {name}: {reason}")
    return entries


def _require_alike(name: str, entries: Sequence[Evaluated]) -> None:
    seen: dict[tuple[str, str, str, int], int] = {}
    for entry in entries:
        seen.setdefault(entry.tasks[name].signature, entry.step)
    if len(seen) > 1:
        shown = "; ".join(
            f"from step {step} version {version}, prompts {prompt[:8]}, data {data[:8]}, n {n}"
            for (version, prompt, data, n), step in seen.items()
        )
        raise DataError(
            f"{name} is not the same task in all lines of the log ({shown}); evaluate these "
            "checkpoints anew, or leave the task out with --tasks"
        )
