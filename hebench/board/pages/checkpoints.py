"""Training runs: score against step, which checkpoints can be told apart, which tasks to trust.

A run is the entries of `models.yaml` whose `checkpoint.run` is its name, one line a seed. The
checkpoints are compared on the columns that all of them were run whole, by the same simultaneous
rank sets as models; and since the best of many looks better than it is, the page says by how much.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hebench.board import svg
from hebench.board.columns import Column
from hebench.board.page import Page, Site
from hebench.board.pages.tasks import Reference, reference
from hebench.board.standings import Board, Standing, pair_variances, ranking, shared_keys
from hebench.board.suite import task_info
from hebench.records import ModelEntry
from hebench.stats.fitness import Fitness, fitness
from hebench.stats.intervals import Interval
from hebench.stats.macro import MacroMean, pooled_error, student, winner_bias

Floats = NDArray[np.float64]
Seed = int | None


@dataclass(frozen=True, kw_only=True)
class Step:
    """One checkpoint among those of its run."""

    entry: ModelEntry
    standing: Standing  # ranks are among the checkpoints of the run
    difference: tuple[float, float, float] | None  # to the best, low, high; None for the best


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The checkpoints of a run, compared on the columns that all of them have."""

    keys: tuple[str, ...]
    steps: tuple[Step, ...]  # by seed and step
    best: str
    bias: float  # by how much the best of so many equals looks better than it is


@dataclass(frozen=True, kw_only=True)
class Chart:
    """The scores of one column over training."""

    column: Column
    lines: tuple[svg.Line, ...]  # one for each of the run's seeds, also an empty one
    levels: dict[str, float]
    fitness: Fitness


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run with all its numbers."""

    name: str
    seeds: dict[Seed, tuple[ModelEntry, ...]]  # entries by step
    chosen: tuple[ModelEntry, ...]
    selection: Selection | None  # None: no column that all checkpoints have
    charts: tuple[Chart, ...]
    tokens: dict[float, str]  # step -> tokens in short, where the seeds agree

    @property
    def entries(self) -> list[ModelEntry]:
        """Return all checkpoints, by seed and step; averages of their weights are none."""
        return [entry for entries in _on_curve(self.seeds).values() for entry in entries]

    @property
    def steps(self) -> list[int]:
        """Return the steps of all, averages too, in order."""
        return sorted(_step(entry) for entries in self.seeds.values() for entry in entries)


def pages(site: Site) -> Iterator[Page]:
    """Yield the index of training runs and the page of each; nothing without any."""
    board = site.board
    found = runs(board)
    if not found:
        return
    yield Page(
        path="runs/index.html",
        template="runs.html",
        title="run.title",
        section="runs",
        styles=("pages.css",),
        context={"runs": found},
    )
    for run in found:
        yield Page(
            path=f"runs/{run.name}.html",
            template="run.html",
            title="run.page_title",
            title_values={"name": run.name},
            section="runs",
            styles=("pages.css",),
            context={
                "svg": svg,
                "run": run,
                "mean_lines": _mean_lines(run),
                "loss_lines": _loss_lines(run),
            },
        )


def runs(board: Board) -> list[Run]:
    """Return the training runs of the board, in the order of models.yaml."""
    return [_run(board, name, entries) for name, entries in board.runs.items()]


def _run(board: Board, name: str, entries: Sequence[ModelEntry]) -> Run:
    seeds: dict[Seed, list[ModelEntry]] = {}
    order = sorted(entries, key=lambda entry: (_seed(entry) is not None, _seed(entry) or 0))
    for entry in sorted(order, key=_step):
        seeds.setdefault(_seed(entry), []).append(entry)
    ordered = {seed: tuple(seeds[seed]) for seed in dict.fromkeys(map(_seed, order))}
    curve = _on_curve(ordered)
    charts = [
        _chart(board, column, curve)
        for column in board.columns.values()
        if any(column.complete(entry.slug) for own in curve.values() for entry in own)
    ]
    return Run(
        name=name,
        seeds=ordered,
        chosen=tuple(e for e in entries if e.checkpoint and e.checkpoint.chosen),
        selection=_selection(board, [e for own in ordered.values() for e in own]),
        charts=tuple(charts),
        tokens=_tokens(entries),
    )


def _on_curve(seeds: dict[Seed, tuple[ModelEntry, ...]]) -> dict[Seed, tuple[ModelEntry, ...]]:
    """Return the seeds without averages of weights, which have no place on a run's curve."""
    return {
        seed: tuple(e for e in entries if not (e.checkpoint and e.checkpoint.averaged))
        for seed, entries in seeds.items()
    }


def _seed(entry: ModelEntry) -> Seed:
    return entry.checkpoint.seed if entry.checkpoint else None


def _step(entry: ModelEntry) -> int:
    return entry.checkpoint.step if entry.checkpoint else 0


def _tokens(entries: Sequence[ModelEntry]) -> dict[float, str]:
    found: dict[float, set[int | None]] = {}
    for entry in entries:
        if entry.checkpoint and not entry.checkpoint.averaged:
            found.setdefault(entry.checkpoint.step, set()).add(entry.checkpoint.tokens)
    known = {step: next(iter(tokens)) for step, tokens in found.items() if len(tokens) == 1}
    return {step: svg.compact(count) for step, count in known.items() if count is not None}


def _selection(board: Board, entries: Sequence[ModelEntry]) -> Selection | None:
    """Return the comparison of a run's checkpoints; None without a column that all have."""
    slugs = [entry.slug for entry in entries]
    keys = shared_keys(board, slugs)
    if not keys:
        return None
    # Every checkpoint takes part here, not the chosen one alone.
    rivals = {entry.slug: dataclasses.replace(entry, checkpoint=None) for entry in entries}
    variances = {key: pair_variances(board.columns[key], rivals) for key in keys}
    found = ranking(entries[0].track, keys, board.columns, rivals, variances)
    best = next(iter(found.standings))
    units = [board.columns[key].units for key in keys]

    def difference(slug: str) -> tuple[float, float, float] | None:
        if slug == best:
            return None
        pair = slugs.index(slug), slugs.index(best)
        errors = [math.sqrt(variances[key][pair]) for key in keys]
        error, dof = pooled_error(errors, units)
        gap = found.standings[slug].mean.mean - found.standings[best].mean.mean
        low, high, _ = student(gap, error, dof, 0.95, lowest=-1.0)
        return gap, low, high

    return Selection(
        keys=tuple(keys),
        steps=tuple(
            Step(entry=e, standing=found.standings[e.slug], difference=difference(e.slug))
            for e in entries
        ),
        best=best,
        bias=_bias(list(variances.values())),
    )


def _bias(variances: Sequence[Floats]) -> float:
    """Return the optimism of taking the best of equally good checkpoints.

    Half the variance of a pair's difference is SE^2 (1 - r): what `winner_bias` wants of the
    errors and their correlation. The median pair stands for all.
    """
    total = sum(variances) / len(variances) ** 2
    upper = np.asarray(total)[np.triu_indices(len(variances[0]), 1)]
    if not len(upper):
        return 0.0
    return winner_bias(len(variances[0]), math.sqrt(float(np.median(upper)) / 2))


def _chart(board: Board, column: Column, seeds: dict[Seed, tuple[ModelEntry, ...]]) -> Chart:
    found = {
        seed: [entry for entry in entries if column.complete(entry.slug)]
        for seed, entries in seeds.items()
    }
    cells = board.cells
    lines = [
        _line(entries, [cells[column.key, entry.slug].interval for entry in entries])
        for entries in found.values()
    ]
    return Chart(
        column=column,
        lines=tuple(lines),
        levels=_levels(reference(board, column.key)),
        fitness=_fitness(board, column, found),
    )


def _levels(found: Reference) -> dict[str, float]:
    levels = {} if found.chance is None else {"level-chance": found.chance}
    return levels | ({"level-floor": found.floor[0]} if found.floor else {})


def _line(entries: Sequence[ModelEntry], means: Sequence[Interval | MacroMean]) -> svg.Line:
    chosen = [bool(e.checkpoint and e.checkpoint.chosen) for e in entries]
    return svg.Line(
        x=tuple(_step(entry) for entry in entries),
        y=tuple(found.mean for found in means),
        low=tuple(found.low for found in means),
        high=tuple(found.high for found in means),
        chosen=chosen.index(True) if any(chosen) else None,
    )


def _mean_lines(run: Run) -> tuple[svg.Line, ...]:
    """Return the means over the shared columns, one line a seed; none without a checkpoint."""
    if run.selection is None or not run.entries:
        return ()
    means = {step.entry.slug: step.standing.mean for step in run.selection.steps}
    return tuple(_line(own, [means[e.slug] for e in own]) for own in _on_curve(run.seeds).values())


def _loss_lines(run: Run) -> tuple[svg.Line, ...]:
    """Return the losses, one line a seed; none where no checkpoint has one."""
    lines = []
    for entries in _on_curve(run.seeds).values():
        known = [e.checkpoint for e in entries if e.checkpoint and e.checkpoint.loss is not None]
        lines.append(
            svg.Line(
                x=tuple(point.step for point in known),
                y=tuple(point.loss for point in known if point.loss is not None),
                chosen=next((n for n, point in enumerate(known) if point.chosen), None),
            )
        )
    return tuple(lines) if any(line.x for line in lines) else ()


def _fitness(board: Board, column: Column, found: dict[Seed, list[ModelEntry]]) -> Fitness:
    """Return how fit a column is for choosing among these checkpoints.

    What no ability scores is chance or the best baseline, whichever is higher: a free answer has
    no chance level, and a majority label beats chance without any ability.
    """
    steps = sorted({_step(entry) for entries in found.values() for entry in entries})
    # A seed that was not run on the column is a row of NaN, which `fitness` leaves out.
    scores = np.full((len(found), len(steps)), math.nan)
    errors = scores.copy()
    for row, entries in enumerate(found.values()):
        for entry in entries:
            interval = board.cells[column.key, entry.slug].interval
            place = row, steps.index(_step(entry))
            scores[place], errors[place] = interval.mean, interval.standard_error
    return fitness(
        scores,
        steps,
        max(_levels(reference(board, column.key)).values(), default=None),
        models=[None] * len(scores),  # seeds of one model
        errors=errors,
        generative=task_info(column.record_key).output_type == "generate_until",
    )
