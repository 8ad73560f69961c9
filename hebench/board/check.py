"""Check a submission: does a leaderboard folder hold what it says? `hebench board check`.

    hebench board check --against ../main/leaderboard

Five things, each for every live record: the file is a record (schema, counts, ranges); its task
is of the version and the shots that hebench has, on the documents that hebench has; its prompts
are those that everyone was given; its scores follow from its answers, by the scorers of the
tasks; and no record and no votes that were on the board have been changed or deleted. People's
votes are read as the site's builder reads them. Where data are not in the cache, the check says
so and goes on.
"""

import functools
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hebench.board.extract import MAX_ANSWER, chance_of, corpus_parts
from hebench.board.store import live, read_store
from hebench.board.suite import Doc, TaskInfo, split_key, suite
from hebench.board.votes import read_votes
from hebench.errors import DataError, SplitError
from hebench.files import sha256_of_json
from hebench.records import Answer, TaskRecord

# Another machine's libraries may differ in the last digit.
_TOLERANCE = 1e-9
# Of so many answers one may be so long that it was cut, and its score is taken on trust.
_PER_CUT_ANSWER = 100
# What a scorer raises for an answer that no model gave: AttributeError for numbers where it reads a
# text, ArithmeticError for numbers beyond all floats.
_UNREADABLE = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError)

Documents = Callable[[TaskInfo, str | None], list[Doc]]
# (task, split, number of items) -> the hash of hebench's own prompts for a base model, as a
# record holds it; raises DataError where the data cannot be had.
PromptHash = Callable[[str, str | None, int], str]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a check found."""

    records: int
    recomputed: int  # items whose scores follow from their answers
    problems: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)  # and why


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What a look at one task of a record found; as in a report, without the record's name."""

    recomputed: int = 0
    problems: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


def check_board(
    folder: Path, *, prompt_hash: PromptHash | None = None, against: Path | None = None
) -> Report:
    """Return what is wrong with a leaderboard folder.

    prompt_hash: what the harness says of the prompts; None compares the records among
    themselves. against: the folder as it was before; its records and votes must be there
    unchanged.
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
    found = {
        f"{item.name}, {key}": _checked(key, task, item.record.track, documents, prompts)
        for item in live(stored)
        for key, task in item.record.tasks.items()
    }
    problems = [f"{where}: {line}" for where, each in found.items() for line in each.problems]
    return Report(
        records=len(stored),
        recomputed=sum(each.recomputed for each in found.values()),
        problems=[*(_lost(folder, against) if against else ()), *problems],
        unchecked=[f"{where}: {line}" for where, each in found.items() for line in each.unchecked],
    )


def _lost(folder: Path, against: Path) -> Iterator[str]:
    for path in sorted([*(against / "results").glob("*/*"), *(against / "votes").glob("*.jsonl")]):
        votes = path.suffix == ".jsonl"
        name = path.relative_to(against)
        now = folder / name
        if not path.is_file():
            continue
        if now.is_symlink() or not now.is_file():
            do = "votes stay" if votes else "withdraw a record, never delete it"
            yield f"{name}: was on the board and is gone; {do}"
        elif now.read_bytes() != path.read_bytes():
            do = "only a maintainer replaces votes" if votes else "add a new record instead"
            yield f"{name}: was on the board and has changed; {do}"


def _checked(
    key: str,
    task: TaskRecord,
    track: str,
    documents: Documents,
    prompt_hash: PromptHash | None,
) -> _Found:
    """Return what is wrong with a task of a record; without a hash its prompts are left alone."""
    info = suite().get(split_key(key)[0])
    if info is None:
        return _Found(unchecked=["not a task of hebench; nothing is recomputed"])
    if problems := list(_task_problems(info, task)):
        return _Found(problems=problems)
    try:
        docs = documents(info, task.split)
        problems = _item_problems(task, docs)
        if prompt_hash and track == "base" and not problems:
            expected = prompt_hash(info.name, task.split, len(task.items))
            if expected != task.prompt_sha256:
                problems.append("its prompts are not those of hebench's task")
    except SplitError as error:
        return _Found(problems=[str(error)])
    except DataError as error:
        return _Found(unchecked=[str(error)])
    if problems or task.answers is None:
        unkept = ["no answers are kept; nothing is recomputed"] if task.answers is None else []
        return _Found(problems=problems, unchecked=unkept)
    return _recomputed(info, task, docs, thinking=track == "thinking")


def _task_problems(info: TaskInfo, task: TaskRecord) -> Iterator[str]:
    """Yield what is wrong with a task and shows without its documents."""
    if task.version != info.version:
        yield f"version {task.version}, hebench has {info.version}"
        return
    if task.shots != info.shots:
        yield f"{task.shots} shots, hebench has {info.shots}"
    if task.split and not info.has_splits:
        yield f"hebench's task has no split {task.split}"


def _item_problems(task: TaskRecord, docs: Sequence[Doc]) -> list[str]:
    """Return what tells the items from the first ones of the split, in their order.

    Their ids and clusters, the chance level of their choices, and the documents to the letter.
    """
    found = []
    if task.total != len(docs):
        found.append(f"{task.total} items in the split, hebench has {len(docs)}")
    run = docs[: len(task.items)]
    if tuple(str(doc["id"]) for doc in run) != task.items:
        found.append("its items are not the first ones of the split, in its order")
        return found
    codes: dict[str, int] = {}
    clusters = tuple(codes.setdefault(str(doc["cluster"]), len(codes)) for doc in run)
    if (task.clusters or tuple(range(len(run)))) != clusters:
        found.append("its clusters are not those of the documents")
    chance = chance_of(run)
    if not _same(math.nan if chance is None else chance, task.chance):
        found.append(f"chance level {task.chance}, the documents give {chance}")
    if data_sha256(run) != task.data_sha256:
        found.append("its documents are not those of hebench's task, though their ids are")
    return found


def data_sha256(docs: Sequence[Doc]) -> str:
    """Return the hash of documents that a record holds: over the hashes in lm-eval's samples."""
    texts = [json.dumps(doc, indent=2, ensure_ascii=False) for doc in docs]
    return sha256_of_json([hashlib.sha256(text.encode("utf-8")).hexdigest() for text in texts])


def _recomputed(info: TaskInfo, task: TaskRecord, docs: Sequence[Doc], *, thinking: bool) -> _Found:
    """Return whether the scores follow from the answers; of a long free one there is only a part.

    More than one such answer in a hundred (a single one passes, unless there is no other) are a
    problem: whoever makes answers long could give them any score. Not of models that think, whose
    thoughts are long and are in what is kept.
    """
    assert task.answers is not None, "the caller has looked"
    count = len(task.answers)
    cut = {place for place, answer in enumerate(task.answers) if _is_cut(info, answer)}
    problems = list(itertools.islice(_wrong_scores(info, task, docs, cut), 3))
    most = count if thinking else min(max(1, count // _PER_CUT_ANSWER), count - 1)
    told = f"{len(cut)} of {count} answers are longer than what is kept of them"
    if len(cut) > most:
        problems.append(
            f"{told}, so that their scores cannot be checked; expected at most {most} (one in "
            f"{_PER_CUT_ANSWER}): let answers be shorter than {MAX_ANSWER:,} characters"
        )
    return _Found(
        recomputed=0 if problems else count - len(cut),
        problems=problems,
        unchecked=[f"{told}; their scores are not recomputed"] if 0 < len(cut) <= most else [],
    )


def _is_cut(info: TaskInfo, answer: Answer) -> bool:
    """Return whether a record may hold no more than the beginning of an answer."""
    free = info.output_type == "generate_until"
    return free and isinstance(answer, str) and len(answer) >= MAX_ANSWER


def _wrong_scores(
    info: TaskInfo, task: TaskRecord, docs: Sequence[Doc], cut: Collection[int]
) -> Iterator[str]:
    """Yield items whose metrics do not follow from their answers, and metrics of other tasks.

    cut: places of the answers that are not whole; what they score is not known.
    """
    assert task.answers is not None, "the caller has looked"
    read: dict[int, dict[str, Any]] = {}  # place -> what its answer scores
    for place, (doc, answer) in enumerate(zip(docs, task.answers, strict=False)):
        if place in cut:
            continue
        try:
            scored = info.score(doc, answer)
            wrong = [
                name
                for name, values in task.metrics.items()
                if name in scored and not _same(scored[name], values[place])
            ]
        except _UNREADABLE as error:
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
