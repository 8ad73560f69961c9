"""The table that commands print: tasks by runs, every score with its interval.

>>> columns, rows = table([read_run(Path("runs/smollm2"))])
>>> rows[0].cells[0].text()
'8.3 [3.5, 18.5]'
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hebench.board.show import shown
from hebench.board.suite import task_info
from hebench.errors import DataError
from hebench.records import Run, TaskScores
from hebench.stats.intervals import Interval, mean_interval


@dataclass(frozen=True, kw_only=True)
class Column:
    """One task of the table."""

    task: str
    headline: str
    version: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run of the table, a cell a column; None where the run has no such task."""

    name: str
    cells: tuple[Interval | None, ...]


def interval_of(scores: TaskScores) -> Interval:
    """Return a task's mean score with its interval, clustered as the data are."""
    return mean_interval(scores.scores, scores.clusters)


def table(runs: Sequence[Run]) -> tuple[tuple[Column, ...], tuple[Row, ...]]:
    """Return columns and rows in the order of the runs.

    Raises DataError if two runs share a name, or have different versions of a task, whose
    scores do not compare.
    """
    versions: dict[str, str] = {}
    names: set[str] = set()
    for run in runs:
        if run.name in names:
            raise DataError(f"two runs are named {run.name!r}; give one another name with --name")
        names.add(run.name)
        for task, scores in run.tasks.items():
            if versions.setdefault(task, scores.version) != scores.version:
                raise DataError(
                    f"{run.name}: expected version {versions[task]} of {task} as in the other "
                    f"runs, found {scores.version}; scores of different versions do not compare"
                )
    columns = tuple(
        Column(task=task, headline=task_info(task).headline, version=version)
        for task, version in versions.items()
    )
    rows = tuple(
        Row(
            name=shown(run.name),
            cells=tuple(
                interval_of(run.tasks[column.task]) if column.task in run.tasks else None
                for column in columns
            ),
        )
        for run in runs
    )
    return columns, rows
