"""Pages as a rater may see them, and the rater within a transaction.

    >>> with database.begin() as connection:
    ...     visit = visited(database, connection, rater)
    ...     assignments_of(connection, [17])[0].answers
    ('תקציר אחד', 'תקציר אחר')

Within a transaction the rater's row is locked first, so that two tabs of one rater take turns;
different raters wait for each other only on SQLite.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, exists, or_, select, update

from hebench.human import schema
from hebench.human.access import AccessDenied
from hebench.human.database import Database
from hebench.human.publish import study_of
from hebench.human.study import Study


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A page as the rater may see it: nothing in it names a model, an item or a check."""

    slot: str
    source: str
    answers: tuple[str, ...]  # in the order to show: the first is the right card in Hebrew
    leased_until: float


@dataclass(frozen=True, kw_only=True)
class Visit:
    """A rater within a transaction, and the moment of it."""

    connection: Connection
    rater: int
    study_id: int
    study: Study
    closed: bool
    role: str
    now: float
    postgres: bool

    @property
    def lease_ends(self) -> float:
        """Return when a lease given now runs out."""
        return self.now + 60 * self.study.plan.lease_minutes


def visited(database: Database, connection: Connection, rater: int) -> Visit:
    """Lock the rater's row, note that the rater was seen, and return what is known."""
    now = database.clock()
    raters = schema.raters
    row = connection.execute(
        update(raters)
        .where(raters.c.id == rater, raters.c.erased.is_(None))
        .values(seen=now)
        .returning(raters.c.study, raters.c.role)
    ).one_or_none()
    if row is None:
        raise AccessDenied("signed_out")
    study = connection.execute(select(schema.studies).where(schema.studies.c.id == row.study)).one()
    return Visit(
        connection=connection,
        rater=rater,
        study_id=row.study,
        study=study_of(study),
        closed=study.closed is not None,
        role=row.role,
        now=now,
        postgres=database.postgres,
    )


def free(visit: Visit) -> ColumnElement[bool]:
    """Unanswered, and nobody's or leased until a moment that has passed."""
    slots = schema.slots
    return and_(
        slots.c.answered.is_(None),
        or_(slots.c.rater.is_(None), slots.c.leased_until < visit.now),
    )


def new_to(visit: Visit) -> ColumnElement[bool]:
    """A question that the rater neither answered nor holds."""
    slots, other = schema.slots, schema.other_slots
    return ~exists().where(
        other.c.rater == visit.rater,
        other.c.task == slots.c.task,
        other.c.kind == slots.c.kind,
    )


def with_another(visit: Visit) -> ColumnElement[bool]:
    """An adjudicator's slot whose question another adjudicator has answered or, alone, holds."""
    slots, other = schema.slots, schema.other_slots
    return exists().where(
        slots.c.kind == "adjudication",
        other.c.kind == slots.c.kind,
        other.c.task == slots.c.task,
        other.c.rater != visit.rater,
        or_(
            other.c.answered.is_not(None),
            # Two may hold it who asked at one moment; neither is late then.
            and_(other.c.leased_until >= visit.now, slots.c.leased_until < visit.now),
        ),
    )


def pages() -> Any:
    """Select slots with the texts of their pages."""
    slots, tasks = schema.slots, schema.tasks
    a, b = schema.first_answers, schema.second_answers
    return (
        select(slots, schema.items.c.source, a.c.shown.label("one"), b.c.shown.label("two"))
        .join(tasks, slots.c.task == tasks.c.id)
        .join(schema.items, tasks.c.item == schema.items.c.id)
        .join(a, tasks.c.first == a.c.id)
        .outerjoin(b, tasks.c.second == b.c.id)
    )


def assignment(row: Any) -> Assignment:
    """Return the page that a row of `pages` holds."""
    texts = (row.one,) if row.two is None else (row.one, row.two)
    return Assignment(
        slot=row.code,
        source=row.source,
        answers=tuple(reversed(texts)) if row.swapped else texts,
        leased_until=row.leased_until or 0.0,
    )


def assignments_of(connection: Connection, ids: list[int]) -> tuple[Assignment, ...]:
    """Return the pages of some slots, in that order."""
    if not ids:
        return ()
    rows = connection.execute(pages().where(schema.slots.c.id.in_(ids)))
    found = {row.id: assignment(row) for row in rows}
    return tuple(found[slot] for slot in ids)
