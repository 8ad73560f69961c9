"""Check a submission: does a leaderboard folder hold what it says? `hebench board check`.

    hebench board check --against ../main/leaderboard

Five things, each for every live record: the file is a record (schema, counts, ranges); its task
is of the version that hebench has, on the documents that hebench has; its prompts are those
that everyone was given; its scores follow from its answers, by the scorers of the tasks; and
nothing that was on the board has been changed or deleted. People's votes are read as the site's
builder reads them. Where data are not in the cache, the check says so and goes on.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hebench.board.extract import MAX_ANSWER, corpus_parts
from hebench.board.store import live, read_store
from hebench.board.suite import Doc, TaskInfo, split_key, suite
from hebench.board.votes import read_votes
from hebench.errors import DataError
from hebench.records import TaskRecord

# Another machine's libraries may differ in the last digit.
_TOLERANCE = 1e-9

# (task, split, number of items) -> the hash of hebench's own prompts for a base model, as a
# record holds it; raises DataError where the data cannot be had.
PromptHash = Callable[[str, str | None, int], str]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a check found."""

    records: int
    recomputed: int  # scores that follow from their answers
    problems: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)  # and why


def check_board(
    folder: Path, *, prompt_hash: PromptHash | None = None, against: Path | None = None
) -> Report:
    """Return what is wrong with a leaderboard folder.

    prompt_hash: what the harness says of the prompts; None compares the records among
    themselves. against: the folder as it was before; its records must be there unchanged.
    Raises DataError, as `read_store` and `read_votes`, for what cannot be read at all, and for no
    folder.
    """
    for place in (folder, against or folder):
        if not place.is_dir():
            raise DataError(f"expected a leaderboard's folder, found none at {place}")
    entries, stored = read_store(folder)
    read_votes(folder, entries)
    # Records share tasks, whose documents and prompts are made once.
    documents = functools.cache(TaskInfo.docs)
    prompts = functools.cache(prompt_hash) if prompt_hash else None
    problems = [] if against is None else list(_lost(folder, against))
    unchecked: list[str] = []
    recomputed = 0
    for item in live(stored):
        for key, task in item.record.tasks.items():
            where = f"{item.name}, {key}"
            info = suite().get(split_key(key)[0])
            if info is None:
                unchecked.append(f"{where}: not a task of hebench; nothing is recomputed")
                continue
            if task.version != info.version:
                problems.append(f"{where}: version {task.version}, hebench has {info.version}")
                continue
            if task.split and not info.has_splits:
                problems.append(f"{where}: hebench's task has no split {task.split}")
                continue
            try:
                docs = documents(info, task.split)
                found = _item_problems(task, docs)
                if prompts and item.record.track == "base" and not found:
                    expected = prompts(info.name, task.split, len(task.items))
                    if expected != task.prompt_sha256:
                        found.append("its prompts are not those of hebench's task")
            except DataError as error:
                unchecked.append(f"{where}: {error}")
                continue
            problems += [f"{where}: {problem}" for problem in found]
            if not found and task.answers is not None:
                wrong = list(_wrong_scores(info, task, docs))
                problems += [f"{where}: {problem}" for problem in wrong[:3]]
                recomputed += 0 if wrong else len(task.answers)
            elif task.answers is None:
                unchecked.append(f"{where}: no answers are kept; nothing is recomputed")
    return Report(
        records=len(stored), recomputed=recomputed, problems=problems, unchecked=unchecked
    )


def _lost(folder: Path, against: Path) -> Iterator[str]:
    for path in sorted((against / "results").glob("*/*")):
        name = path.relative_to(against)
        now = folder / name
        if not path.is_file():
            continue
        if now.is_symlink() or not now.is_file():
            yield f"{name}: was on the board and is gone; withdraw a record, never delete it"
        elif now.read_bytes() != path.read_bytes():
            yield f"{name}: was on the board and has changed; add a new record instead"


def _item_problems(task: TaskRecord, docs: Sequence[Doc]) -> list[str]:
    """Return whether the items are the first ones of the split, in order, with its clusters."""
    found = []
    if task.total != len(docs):
        found.append(f"{task.total} items in the split, hebench has {len(docs)}")
    ids = tuple(str(doc["id"]) for doc in docs[: len(task.items)])
    if ids != task.items:
        found.append("its items are not the first ones of the split, in its order")
        return found
    codes: dict[str, int] = {}
    clusters = tuple(codes.setdefault(str(doc["cluster"]), len(codes)) for doc in docs[: len(ids)])
    if (task.clusters or tuple(range(len(ids)))) != clusters:
        found.append("its clusters are not those of the documents")
    return found


def _wrong_scores(info: TaskInfo, task: TaskRecord, docs: Sequence[Doc]) -> Iterator[str]:
    """Yield items whose metrics do not follow from their answers, and metrics of other tasks."""
    assert task.answers is not None, "the caller has looked"
    read: dict[int, dict[str, Any]] = {}  # place -> what its answer scores
    for place, (doc, answer) in enumerate(zip(docs, task.answers, strict=False)):
        if isinstance(answer, str) and len(answer) >= MAX_ANSWER:
            continue  # cut when it was kept: the score is of all of it
        try:
            scored = info.score(doc, answer)
            wrong = [
                name
                for name, values in task.metrics.items()
                if name in scored and not _same(scored[name], values[place])
            ]
        # AttributeError: numbers where the scorer reads a text.
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            yield f"item {task.items[place]}: its answer cannot be scored ({error!r})"
            continue
        for name in wrong:
            yield (
                f"item {task.items[place]}: {name} {task.metrics[name][place]} does not follow "
                f"from its answer, which scores {scored[name]}"
            )
        read[place] = scored
    if read:
        yield from _wrong_names_and_parts(info, task, read)


def _wrong_names_and_parts(
    info: TaskInfo, task: TaskRecord, read: dict[int, dict[str, Any]]
) -> Iterator[str]:
    expected = corpus_parts(list(read.values()), info.name)
    known = next(iter(read.values()))
    strange = ({*task.metrics} - {*known}) | ({*task.parts} - {*expected})
    if strange:
        yield f"{', '.join(sorted(strange))}: no metric of the task"
    for name in (name for name in expected if name in task.parts):
        for place, row in zip(read, expected[name], strict=True):
            found = task.parts[name][place]
            if len(row) != len(found) or not all(map(_same, row, found)):
                where = f"item {task.items[place]}"
                yield f"{where}: its part of {name} does not follow from its answer"


def _same(expected: Any, found: float | None) -> bool:
    if found is None:
        return isinstance(expected, float) and math.isnan(expected)
    return math.isclose(float(expected), found, abs_tol=_TOLERANCE)
