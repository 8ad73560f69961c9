"""Two runs on the same items: is the difference more than noise? What `hebench compare` prints.

    >>> found = compare_runs(extract(Path("runs/a"), ...), extract(Path("runs/b"), ...))
    >>> found.tasks["hebench_mini_qa"].paired.p
    0.031

Only equal items are compared: same task version, shots, documents and order, and for base models
the same prompts (elsewhere each has its own chat template). Headline scores get the paired test
of `hebench.stats.paired`; corpus BLEU and chrF++, which are no means over items, a paired
bootstrap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hebench.board.numbers import CORPUS_SCORES
from hebench.errors import DataError
from hebench.records import RunRecord, TaskRecord
from hebench.stats.multiplicity import holm
from hebench.stats.paired import Comparison, MacroDifference, compare, macro_difference
from hebench.stats.resample import CorpusDifference, paired_corpus_bootstrap


@dataclass(frozen=True, kw_only=True)
class TaskComparison:
    """One task: the first run against the second; differences are first - second."""

    paired: Comparison
    p_holm: float  # adjusted over the tasks of this comparison
    corpus: dict[str, CorpusDifference]  # corpus metric -> difference


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """Two runs on the tasks that both have."""

    tasks: dict[str, TaskComparison]
    overall: MacroDifference  # each task counted once
    only_first: tuple[str, ...]  # tasks that the other run lacks
    only_second: tuple[str, ...]


def compare_runs(
    first: RunRecord, second: RunRecord, *, tasks: Sequence[str] = ()
) -> RunComparison:
    """Return the paired comparison of two runs on the tasks that both have, or on `tasks`.

    Raises DataError if they share no task, a named one is missing, the runs' versions, shots,
    items or prompts of a task differ, or no item was judged in both.
    """
    shared = [key for key in first.tasks if key in second.tasks]
    for key in tasks:
        if key not in shared:
            raise DataError(
                f"expected {key} in both runs; they share {', '.join(shared) or 'none'}"
            )
    if not shared:
        raise DataError(
            f"the runs share no task: the first has {', '.join(first.tasks)}, the second "
            f"{', '.join(second.tasks)}"
        )
    keys = list(tasks) or shared
    for key in keys:
        _require_same(key, first.tasks[key], second.tasks[key])
        if first.track == second.track == "base":
            _require_same_prompts(key, first.tasks[key], second.tasks[key])
    found = {key: _paired(first.tasks[key], second.tasks[key]) for key in keys}
    if not any(item.n for item in found.values()):
        raise DataError(
            f"{', '.join(keys)}: expected an item that was judged in both runs, found none; run "
            "one of them anew in a --dtype in which its answers are numbers"
        )
    adjusted = holm(np.array([item.p for item in found.values()]))
    return RunComparison(
        tasks={
            key: TaskComparison(
                paired=paired,
                p_holm=float(p),
                corpus=_corpus(first.tasks[key], second.tasks[key]),
            )
            for (key, paired), p in zip(found.items(), adjusted, strict=True)
        },
        overall=macro_difference([item for item in found.values() if item.n]),
        only_first=tuple(key for key in first.tasks if key not in second.tasks),
        only_second=tuple(key for key in second.tasks if key not in first.tasks),
    )


def _require_same(key: str, first: TaskRecord, second: TaskRecord) -> None:
    if first.version != second.version:
        raise DataError(
            f"{key}: the first run is of version {first.version}, the second of "
            f"{second.version}; run one of them anew"
        )
    if first.shots != second.shots:
        raise DataError(
            f"{key}: the first run has {first.shots} shots, the second {second.shots}; run one of "
            "them anew with the other's"
        )
    if first.items != second.items:
        raise DataError(
            f"{key}: expected the same items in both runs, found {len(first.items)} and "
            f"{len(second.items)} with {len(set(first.items) & set(second.items))} in common; "
            "run both with the same --limit and --split"
        )
    if first.data_sha256 != second.data_sha256:
        raise DataError(
            f"{key}: the ids are the same and the documents are not; the data changed between "
            "the runs: run one of them anew"
        )


def _require_same_prompts(key: str, first: TaskRecord, second: TaskRecord) -> None:
    if first.prompt_sha256 != second.prompt_sha256:
        raise DataError(
            f"{key}: the prompts of the two runs differ, though the items are the same; run one of "
            "them anew by the other's task"
        )


def _paired(first: TaskRecord, second: TaskRecord) -> Comparison:
    a, b = (np.array(task.metrics["score"], dtype=np.float64) for task in (first, second))
    return compare(a, b, first.clusters)


def _corpus(first: TaskRecord, second: TaskRecord) -> dict[str, CorpusDifference]:
    return {
        name: paired_corpus_bootstrap(
            np.array(first.parts[name]), np.array(second.parts[name]), score, first.clusters
        )
        for name, score in CORPUS_SCORES.items()
        if name in first.parts and name in second.parts
    }
