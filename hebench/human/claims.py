"""Slots given out: each in one statement, to one rater, for a while.

A lease that ran out may go to another rater. A rater's own seat comes first; what others left
behind, in seats that nobody took or whose raters were not seen for long, comes after it.

    >>> claimed = claim(database, rater, ahead=5)
    >>> claimed.status, len(claimed.assignments), claimed.progress
    ('work', 5, Progress(answered=0, total=42))
"""

import math
import time
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from hebench.human import schema
from hebench.human.access import AccessDenied
from hebench.human.database import Database
from hebench.human.publish import study_row
from hebench.human.visit import Assignment, Visit, assignments_of, free, new_to, visited

MOST_AHEAD = 20
_PAUSES = (0.02, 0.05, 0.1, 0.2)  # seconds: other raters hold row locks for less

Status = Literal["work", "wait", "enough", "finished", "closed"]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Pages answered, of those that this rater has or will have."""

    answered: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """What there is to do.

    wait: others hold what is left, ask again in a minute. enough: this rater's quota is done.
    finished: nothing is left.
    """

    status: Status
    assignments: tuple[Assignment, ...]
    progress: Progress


def claim(database: Database, rater: int, *, ahead: int = 1) -> Claimed:
    """Lease up to `ahead` pages (1 to MOST_AHEAD) to a rater and return them, first come first.

    Pages that the rater holds already come first, so that a reload shows the same one. Raises
    AccessDenied for somebody who is no rater of an existing study.
    """
    if not 1 <= ahead <= MOST_AHEAD:
        raise ValueError(f"expected 1 to {MOST_AHEAD} pages ahead, found {ahead}")
    for pause in (*_PAUSES, None):
        with database.begin() as connection:
            visit = visited(database, connection, rater)
            if visit.role != "rater":
                raise AccessDenied("forbidden")
            found, passing = _claimed(visit, ahead)
        if not passing or pause is None:
            break
        time.sleep(pause)  # other raters' row locks hid what is free: look again
    return found


def _claimed(visit: Visit, ahead: int) -> tuple[Claimed, bool]:
    """Return what was claimed, and whether nothing was only because of passing row locks."""
    if visit.closed:
        return Claimed(status="closed", assignments=(), progress=_progress(visit, None)), False
    seat = _seat(visit)
    lock_stop(visit)
    held = _renewed(visit, ahead)
    while len(held) < ahead:
        taken = _take(visit, seat)
        if taken is None:
            break
        held.append(taken)
    note_leases(visit, held)
    status: Status = "work"
    passing = False
    if not held:
        left = _left(visit, seat)
        if stopped(visit) or left is None:
            status = "finished"
        elif not _room(visit):
            status = "enough"
        else:
            status, passing = "wait", left and visit.postgres
    found = Claimed(
        status=status,
        assignments=assignments_of(visit.connection, held),
        progress=_progress(visit, seat),
    )
    return found, passing


def _seat(visit: Visit) -> int | None:
    """Return the rater's seat, a free one if there was none yet, None if all are taken."""
    seats = schema.seats
    mine = visit.connection.execute(
        select(seats.c.id).where(seats.c.rater == visit.rater)
    ).scalar_one_or_none()
    if mine is not None:
        return int(mine)
    vacant = (
        select(seats.c.id)
        .where(seats.c.study == visit.study_id, seats.c.rater.is_(None))
        .order_by(seats.c.number)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    found = visit.connection.execute(
        update(seats).where(seats.c.id == vacant).values(rater=visit.rater).returning(seats.c.id)
    ).scalar_one_or_none()
    return None if found is None else int(found)


def lock_stop(visit: Visit) -> None:
    """Let raters take turns where a number of votes must not be exceeded."""
    if visit.study.stop.rule == "votes":
        studies = schema.studies
        visit.connection.execute(
            select(studies.c.id).where(studies.c.id == visit.study_id).with_for_update()
        )


def _renewed(visit: Visit, ahead: int) -> list[int]:
    """Return the unanswered slots that the rater holds, leased anew.

    Not those whose lease ran out, where others have since been given the last of the votes.
    """
    slots = schema.slots
    mine = and_(
        slots.c.rater == visit.rater, slots.c.answered.is_(None), slots.c.kind != "adjudication"
    )
    found = visit.connection.execute(
        select(slots).where(mine).order_by(slots.c.position, slots.c.id)
    )
    ids: list[int] = []
    places = _places(visit)
    for row in found:
        lapsed = row.kind == "main" and row.leased_until < visit.now
        if len(ids) < ahead and not (lapsed and places <= 0):
            ids.append(row.id)
            places -= lapsed
    kept = visit.connection.execute(
        update(slots)
        .where(slots.c.id.in_(ids), mine)
        .values(leased_until=visit.lease_ends)
        .returning(slots.c.id)
    ).scalars()
    still = set(kept)
    return [slot for slot in ids if slot in still]


def _take(visit: Visit, seat: int | None) -> int | None:
    """Claim one free slot, of the rater's own seat first; return its id."""
    if stopped(visit):
        return None
    slots = schema.slots
    room = _room(visit)
    choices = []
    if seat is not None:
        choices.append(and_(slots.c.seat == seat, _ready(visit, room)))
    if room:
        choices.append(and_(slots.c.seat != (seat or 0), slots.c.kind == "main", _idle(visit)))
    for chosen in choices:
        next_free = (
            select(slots.c.id)
            .where(slots.c.study == visit.study_id, chosen, free(visit), new_to(visit))
            .order_by(slots.c.position, slots.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
        found = visit.connection.execute(
            update(slots)
            .where(slots.c.id == next_free)
            .values(rater=visit.rater, leased_until=visit.lease_ends)
            .returning(slots.c.id)
        ).scalar_one_or_none()
        if found is not None:
            return int(found)
    return None


def _ready(visit: Visit, room: bool) -> ColumnElement[bool]:
    """In one's own seat: a repeat only of a question that one had, plan's work only with room."""
    slots, origin = schema.slots, schema.other_slots
    had = exists().where(
        origin.c.rater == visit.rater,
        origin.c.task == slots.c.task,
        origin.c.kind == "main",
    )
    ready = or_(slots.c.kind != "repeat", had)
    return ready if room else and_(ready, slots.c.kind != "main")


def _idle(visit: Visit) -> ColumnElement[bool]:
    """In a seat that nobody has, or whose rater was not seen for long or was sent away."""
    slots, raters, links = schema.slots, schema.raters, schema.invites
    since = visit.now - 60 * visit.study.plan.idle_minutes
    return ~exists(
        select(schema.seats.c.id)
        .join(raters, schema.seats.c.rater == raters.c.id)
        .join(links, raters.c.invite == links.c.id)
        .where(schema.seats.c.id == slots.c.seat, raters.c.seen >= since, links.c.revoked.is_(None))
        .correlate(slots)
    )


def _room(visit: Visit) -> bool:
    """Return whether the rater may have one more question of the plan."""
    slots = schema.slots
    count = visit.connection.execute(
        select(func.count()).where(slots.c.rater == visit.rater, slots.c.kind == "main")
    ).scalar_one()
    return bool(count < visit.study.plan.most)


def stopped(visit: Visit) -> bool:
    """Return whether answered and given out questions make up the declared number of votes."""
    return _places(visit) <= 0


def _places(visit: Visit) -> float:
    """Return how many more questions may be given out; infinity where no number was declared."""
    stop, slots = visit.study.stop, schema.slots
    if stop.rule != "votes" or stop.votes is None:
        return math.inf
    count = visit.connection.execute(
        select(func.count()).where(
            slots.c.study == visit.study_id,
            slots.c.kind == "main",
            or_(slots.c.answered.is_not(None), slots.c.leased_until >= visit.now),
        )
    ).scalar_one()
    return float(stop.votes - count)


def _left(visit: Visit, seat: int | None) -> bool | None:
    """Return whether a slot this rater might do is free now; None: there is none at all."""
    slots = schema.slots
    mine = slots.c.seat == (seat or 0)
    open_ones = select(slots.c.id).where(
        slots.c.study == visit.study_id,
        slots.c.kind == "main",
        slots.c.answered.is_(None),
        new_to(visit),
    )
    if visit.connection.execute(open_ones.limit(1)).first() is None:
        return None
    now_free = open_ones.where(free(visit), or_(mine, _idle(visit))).limit(1)
    return visit.connection.execute(now_free).first() is not None


def note_leases(visit: Visit, held: list[int]) -> None:
    """Remember that these slots were given to this rater, so that a late vote is known as such."""
    if held:
        make = postgresql.insert if visit.postgres else sqlite.insert
        visit.connection.execute(
            make(schema.leases).on_conflict_do_nothing(),
            [{"slot": slot, "rater": visit.rater, "given": visit.now} for slot in held],
        )


def _progress(visit: Visit, seat: int | None) -> Progress:
    slots = schema.slots
    mine = slots.c.rater == visit.rater
    coming = and_(slots.c.seat == (seat or 0), free(visit))
    answered, total = visit.connection.execute(
        select(func.count().filter(and_(mine, slots.c.answered.is_not(None))), func.count()).where(
            slots.c.study == visit.study_id, slots.c.kind != "adjudication", or_(mine, coming)
        )
    ).one()
    return Progress(answered=answered, total=total)


def release_expired(database: Database, study: str) -> int:
    """Free the slots whose leases ran out; claims do so by themselves, this tidies the counts."""
    slots = schema.slots
    with database.begin() as connection:
        row = study_row(connection, study)
        expired = (
            select(slots.c.id)
            .where(
                slots.c.study == row.id,
                slots.c.answered.is_(None),
                slots.c.leased_until < database.clock(),
                slots.c.kind != "adjudication",
            )
            .with_for_update(skip_locked=True)
        )
        freed = connection.execute(
            update(slots).where(slots.c.id.in_(expired)).values(rater=None, leased_until=None)
        )
    return int(freed.rowcount)
