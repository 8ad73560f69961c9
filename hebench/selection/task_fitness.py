"""How fit each task is for choosing checkpoints, measured on finished runs.

    hebench select --fitness runs/seed1/pretrain runs/seed2/pretrain --seeds

Every task is looked at three times where it has choices: by its scores, by its margins (the
probability of the right choice) and by its answers (that of a byte of it), which often rise while
accuracy is at chance. What is measured of each stands in `hebench.stats.fitness`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hebench.errors import DataError
from hebench.selection.log import LOG_NAME, Evaluated, Measure, TaskItems, read_log
from hebench.stats.fitness import Fitness, fitness
from hebench.stats.ranks import mean_covariance

MEASURES: tuple[Measure, ...] = ("score", "margin", "answer")


@dataclass(frozen=True, kw_only=True)
class TaskFitness:
    """One task by one measure."""

    task: str
    measure: Measure
    items: int
    chance: float | None
    first: float  # mean over runs at the first step that they share, in [0, 1]
    last: float
    fitness: Fitness


def fitness_of_runs(runs: Sequence[Path], *, seeds: bool) -> list[TaskFitness]:
    """Return the fitness of every task that all runs' logs hold, by each measure that all have.

    seeds: the runs are seeds of one model, not different models. Raises DataError if the logs
    share no task, or a task is not the same in all of them.
    """
    logs = [
        [entry for entry in read_log(run / LOG_NAME) if not entry.averaged and entry.tasks]
        for run in runs
    ]
    names = [
        name
        for name in dict.fromkeys(name for log in logs for entry in log for name in entry.tasks)
        if all(any(name in entry.tasks for entry in log) for log in logs)
    ]
    if not names:
        raise DataError(f"the logs of {', '.join(map(str, runs))} share no task")
    found = []
    for name in names:
        _require_same(name, logs, runs)
        tasks = [entry.tasks[name] for log in logs for entry in log if name in entry.tasks]
        found += [
            _fitness(name, measure, logs, seeds=seeds)
            for measure in MEASURES
            if all(task.by(measure) is not None for task in tasks)
        ]
    return found


def _fitness(
    name: str, measure: Measure, logs: Sequence[Sequence[Evaluated]], *, seeds: bool
) -> TaskFitness:
    steps = sorted({entry.step for log in logs for entry in log if name in entry.tasks})
    means = np.full((len(logs), len(steps)), math.nan)
    errors = means.copy()
    for row, log in enumerate(logs):
        for entry in log:
            if name in entry.tasks:
                place = row, steps.index(entry.step)
                means[place], errors[place] = _mean(entry.tasks[name], measure)
    if np.isnan(means).all():
        raise DataError(f"{name}: no item could be judged in any of the logs")
    task = next(entry.tasks[name] for entry in logs[0] if name in entry.tasks)
    known = means[:, ~np.isnan(means).any(axis=0)]
    return TaskFitness(
        task=name,
        measure=measure,
        items=len(task.scores),
        chance=task.chance_by(measure),
        first=float(known[:, 0].mean()) if known.size else math.nan,
        last=float(known[:, -1].mean()) if known.size else math.nan,
        fitness=fitness(
            means,
            steps,
            task.chance_by(measure),
            models=[None] * len(logs) if seeds else None,
            errors=errors,
            generative=task.chance is None,
        ),
    )


def _mean(task: TaskItems, measure: Measure) -> tuple[float, float]:
    """Return the mean over items and its standard error, NaN where no item was judged."""
    values = task.by(measure)
    assert values is not None, "only measures that all lines have"
    if np.isnan(values).all():
        return math.nan, math.nan
    codes = np.arange(len(values)) if task.clusters is None else np.array(task.clusters)
    table = values.astype(np.float64)[None]
    return float(np.nanmean(table)), math.sqrt(float(mean_covariance(table, codes)[0, 0]))


def _require_same(name: str, logs: Sequence[Sequence[Evaluated]], runs: Sequence[Path]) -> None:
    first: tuple[str, str, str, int] | None = None
    for log, run in zip(logs, runs, strict=True):
        for entry in log:
            if name in entry.tasks:
                first = first or entry.tasks[name].signature
                if entry.tasks[name].signature != first:
                    raise DataError(
                        f"{run}: {name} at step {entry.step} is not the task that it is elsewhere "
                        "(version, prompts, data or number of items); evaluate it anew"
                    )
