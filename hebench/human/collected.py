"""All that a study has collected, as plain values: what results, checks and exports read.

    >>> found = collected(database, "summaries-1")
    >>> found.votes[0].models, found.votes[0].answer, found.votes[0].excluded
    (('dicta', 'smollm2'), {'outcome': 'first'}, ())

One vote stands for a rater and a slot: the newest row that did not come too late, unless it was
taken back. Answers are about the models in the order of `models`, whichever side they were on.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from hebench.human import schema
from hebench.human.ballot import unswapped
from hebench.human.blinding import Reveal, reveals
from hebench.human.database import Database
from hebench.human.publish import study_of, study_row
from hebench.human.store import LATE, SLOT_TAKEN
from hebench.human.study import Study


@dataclass(frozen=True, kw_only=True)
class Task:
    """One question: an item with two models, or one; a check has none."""

    id: int
    kind: str  # main, gold or attention
    item: str
    cluster: str
    source: str
    prompt: str
    models: tuple[str, ...]  # () for a check
    texts: tuple[str, ...]  # as the models wrote them, in the order of `models`
    masked: tuple[bool, ...]  # whether a model's name was hidden from the raters
    expected: dict[str, Any] | None  # of a check
    planned: int  # votes that the plan asks for


@dataclass(frozen=True, kw_only=True)
class Rater:
    """A person, by pseudonym."""

    pseudonym: str
    role: str
    joined: float
    seen: float
    erased: bool  # asked for delete-my-data


@dataclass(frozen=True, kw_only=True)
class CollectedVote:
    """A vote as it stands."""

    id: str
    task: Task
    rater: str
    kind: str  # main, repeat, gold, attention or adjudication
    swapped: bool  # the second of `models` was shown first
    answer: dict[str, Any]  # about the order of `models`
    seconds: float
    note: str
    at: float
    first_at: float  # when its page was first answered: `at`, unless it replaces another
    revision: int
    position: int  # of the page in its seat
    excluded: tuple[str, ...]  # why it does not count; (): it counts

    @property
    def models(self) -> tuple[str, ...]:
        """Return the models compared, or the one judged; () in a check."""
        return self.task.models

    @property
    def shown(self) -> tuple[str, ...]:
        """Return the models in the order in which they were shown."""
        return tuple(reversed(self.models)) if self.swapped else self.models

    @property
    def shown_answer(self) -> dict[str, Any]:
        """Return the answer as the rater gave it, about the sides on the page."""
        return unswapped(self.answer, self.swapped)


@dataclass(frozen=True, kw_only=True)
class Collected:
    """One moment of a study."""

    study: Study
    published: float
    closed: float | None
    now: float
    tasks: tuple[Task, ...]
    raters: tuple[Rater, ...]
    votes: tuple[CollectedVote, ...]  # in order of arrival
    slots: int  # of the plan, with repeats and checks
    answered: int
    leased: int  # given out and not yet answered
    corrections: int  # rows that replaced or took back another
    forgotten: int  # votes erased at their raters' wish
    reveals: tuple[Reveal, ...]  # when models could be told before the end

    def counted(self, kind: str = "main") -> tuple[CollectedVote, ...]:
        """Return the votes of a kind that are not excluded."""
        return tuple(v for v in self.votes if v.kind == kind and not v.excluded)

    def every(self, kind: str = "main") -> tuple[CollectedVote, ...]:
        """Return the votes of a kind, excluded ones too (a slot's second vote never counts)."""
        return tuple(v for v in self.votes if v.kind == kind and SLOT_TAKEN not in v.excluded)


def collected(database: Database, study: str) -> Collected:
    """Return what a study has collected. Raises DataError for a name that is not there."""
    with database.read() as connection:
        row = study_row(connection, study)
        now = database.clock()
        tasks = _tasks(connection, row.id)
        raters = {
            rater.id: Rater(
                pseudonym=rater.pseudonym,
                role=rater.role,
                joined=rater.joined,
                seen=rater.seen,
                erased=rater.erased is not None,
            )
            for rater in connection.execute(
                select(schema.raters)
                .where(schema.raters.c.study == row.id)
                .order_by(schema.raters.c.id)
            )
        }
        reasons = _reasons(connection, row.id)
        votes, rows = _votes(connection, row.id, tasks, raters, reasons)
        slots = schema.slots
        sizes = connection.execute(
            select(
                func.count(),
                func.count(slots.c.answered),
                func.count().filter(slots.c.answered.is_(None), slots.c.leased_until >= now),
            ).where(slots.c.study == row.id, slots.c.kind != "adjudication")
        ).one()
        return Collected(
            study=study_of(row),
            published=row.published,
            closed=row.closed,
            now=now,
            tasks=tuple(tasks.values()),
            raters=tuple(raters.values()),
            votes=votes,
            slots=sizes[0],
            answered=sizes[1],
            leased=sizes[2],
            corrections=rows - len(votes),
            forgotten=row.forgotten,
            reveals=reveals(connection, row.id),
        )


def _tasks(connection: Connection, study: int) -> dict[int, Task]:
    tasks, items, slots = schema.tasks, schema.items, schema.slots
    a, b = schema.first_answers, schema.second_answers
    counts = connection.execute(
        select(slots.c.task, func.count().label("planned"))
        .where(slots.c.study == study, slots.c.kind.not_in(("repeat", "adjudication")))
        .group_by(slots.c.task)
    )
    planned = {row.task: row.planned for row in counts}
    rows = connection.execute(
        select(tasks, items.c.name, items.c.cluster, items.c.source, items.c.prompt)
        .add_columns(a.c.model.label("model_a"), a.c.text.label("text_a"))
        .add_columns(b.c.model.label("model_b"), b.c.text.label("text_b"))
        .add_columns(a.c.masked.label("masked_a"), b.c.masked.label("masked_b"))
        .join(items, tasks.c.item == items.c.id)
        .join(a, tasks.c.first == a.c.id)
        .outerjoin(b, tasks.c.second == b.c.id)
        .where(tasks.c.study == study)
        .order_by(tasks.c.id)
    )
    found = {}
    for row in rows:
        both = row.text_b is not None
        found[row.id] = Task(
            id=row.id,
            kind=row.kind,
            item=row.name,
            cluster=row.cluster,
            source=row.source,
            prompt=row.prompt,
            models=tuple(m for m in (row.model_a, row.model_b) if m is not None),
            texts=(row.text_a, row.text_b) if both else (row.text_a,),
            masked=(row.masked_a, row.masked_b) if both else (row.masked_a,),
            expected=row.expected,
            planned=planned.get(row.id, 0),
        )
    return found


def _reasons(connection: Connection, study: int) -> dict[int | str, list[str]]:
    """Return the reasons in force, by rater id and by vote id."""
    table = schema.exclusions
    found: dict[int | str, list[str]] = defaultdict(list)
    rows = connection.execute(
        select(table.c.rater, table.c.vote, table.c.reason)
        .where(table.c.study == study, table.c.lifted.is_(None))
        .order_by(table.c.id)
    )
    for rater, vote, reason in rows:
        found[rater if vote is None else vote].append(reason)
    return found


def _votes(
    connection: Connection,
    study: int,
    tasks: dict[int, Task],
    raters: dict[int, Rater],
    reasons: dict[int | str, list[str]],
) -> tuple[tuple[CollectedVote, ...], int]:
    """Return the votes as they stand, and how many rows there are."""
    votes, slots = schema.votes, schema.slots
    rows = connection.execute(
        select(votes, slots.c.task, slots.c.kind, slots.c.swapped, slots.c.position)
        .join(slots, votes.c.slot == slots.c.id)
        .where(slots.c.study == study)
        .order_by(votes.c.number)
    ).all()
    by_place: dict[tuple[int, int], list[Any]] = defaultdict(list)
    for row in rows:
        by_place[row.slot, row.rater].append(row)
    standing = [_newest(group, reasons) for group in by_place.values()]
    begun = {place: min(row.at for row in group) for place, group in by_place.items()}
    found = [
        CollectedVote(
            id=row.id,
            task=tasks[row.task],
            rater=raters[row.rater].pseudonym,
            kind=row.kind,
            swapped=row.swapped,
            answer=unswapped(row.answer, row.swapped),
            seconds=row.seconds,
            note=row.note,
            at=row.at,
            first_at=begun[row.slot, row.rater],
            revision=row.revision,
            position=row.position,
            excluded=tuple(dict.fromkeys([*reasons.get(row.id, ()), *reasons.get(row.rater, ())])),
        )
        for row in sorted(standing, key=lambda row: int(row.number))
        if row.answer is not None
    ]
    return tuple(found), len(rows)


def _newest(group: Iterable[Any], reasons: dict[int | str, list[str]]) -> Any:
    """Return the row of a slot and rater that stands: the newest in time, else the newest."""
    return max(group, key=lambda row: (not set(LATE) & set(reasons.get(row.id, ())), row.revision))
