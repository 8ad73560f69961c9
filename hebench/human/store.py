"""A rater's side of the database: pages given out, votes taken in, and none lost.

A vote carries an id that the browser made, so that sending it again, after a lost connection,
changes nothing. Votes are rows that are only ever added: a correction is a further row, and
taking one back is one, too. A vote that comes too late (its slot went to someone else, others
gave the last of the declared number of votes, or the study is closed) is kept and excluded with
that reason, never refused.

    >>> page = claim(database, rater).assignments[0]
    >>> vote(database, rater, Ballot(id=uuid, slot=page.slot, answer={"outcome": "tie"}, seconds=9))
    Receipt(id='...', slot='...', replayed=False, counted=True, reason=None, revision=1)
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, exists, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from hebench.errors import HebenchError
from hebench.human import schema
from hebench.human.access import AccessDenied
from hebench.human.ballot import Ballot, BallotError, check_answer, check_id
from hebench.human.claims import Claimed, Progress, claim, lock_stop, release_expired, stopped
from hebench.human.database import Database
from hebench.human.masking import storable
from hebench.human.visit import (
    Assignment,
    Visit,
    assignment,
    assignments_of,
    free,
    new_to,
    pages,
    visited,
    with_another,
)

__all__ = [  # the one door for whoever serves raters
    "AFTER_CLOSE",
    "AFTER_STOP",
    "LATE",
    "SLOT_TAKEN",
    "Assignment",
    "Ballot",
    "BallotError",
    "Claimed",
    "ConflictError",
    "Past",
    "Progress",
    "Receipt",
    "claim",
    "history",
    "own_vote",
    "release_expired",
    "undo",
    "vote",
    "votes_standing",
]

SLOT_TAKEN = "slot_taken"
AFTER_CLOSE = "after_close"
AFTER_STOP = "after_stop"
LATE = (SLOT_TAKEN, AFTER_CLOSE, AFTER_STOP)


class ConflictError(HebenchError):
    """A vote under an id that another vote has."""


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """An acknowledged vote: it is on the disk."""

    id: str
    slot: str
    replayed: bool
    counted: bool
    reason: str | None  # why it does not count: one of LATE
    revision: int


@dataclass(frozen=True, kw_only=True)
class Past:
    """One of a rater's own votes."""

    assignment: Assignment
    answer: dict[str, Any]
    note: str
    at: float
    revision: int


def vote(database: Database, rater: int, ballot: Ballot) -> Receipt:
    """Store a vote, or a correction of one, and return its receipt once it is on the disk.

    Raises BallotError for an answer that the study does not ask for, AccessDenied for a slot
    that this rater was never given, ConflictError for an id that was used for another vote.
    """
    try:
        with database.begin() as connection:
            return _voted(visited(database, connection, rater), ballot)
    except IntegrityError as error:  # the same id at the same moment, from another rater
        raise ConflictError("this vote's id belongs to another vote; make a new one") from error


def _voted(visit: Visit, ballot: Ballot) -> Receipt:
    leases, slots, votes = schema.leases, schema.slots, schema.votes
    page = visit.connection.execute(
        pages()
        .join(leases, and_(leases.c.slot == slots.c.id, leases.c.rater == visit.rater))
        .where(slots.c.code == storable(ballot.slot))
    ).one_or_none()
    if page is None:
        raise AccessDenied("forbidden")
    row = {
        "id": ballot.id,
        "slot": page.id,
        "rater": visit.rater,
        "answer": check_answer(visit.study, ballot.answer, assignment(page).answers),
        "note": storable(ballot.note),
    }
    earlier = visit.connection.execute(select(votes).where(votes.c.id == ballot.id)).one_or_none()
    if earlier is not None:
        if {key: getattr(earlier, key) for key in row} != row:
            raise ConflictError("this vote's id belongs to another vote; make a new one")
        return _receipt(visit, page.code, earlier.id, earlier.revision, replayed=True)
    reason = _too_late(visit, page)
    revision = _append(visit, row | {"seconds": float(ballot.seconds)})
    if reason is not None:
        visit.connection.execute(
            insert(schema.exclusions),
            {
                "study": visit.study_id,
                "rater": visit.rater,
                "vote": ballot.id,
                "reason": reason,
                "detail": "",
                "by": "collector",
                "at": visit.now,
            },
        )
    return _receipt(visit, page.code, ballot.id, revision, replayed=False)


def _too_late(visit: Visit, page: Any) -> str | None:
    """Return why a vote does not count, one of LATE; None: it does, and its slot is answered."""
    if visit.closed:
        return AFTER_CLOSE
    lapsed = page.answered is None and (page.leased_until or 0.0) < visit.now
    if lapsed and page.kind == "main":  # its place may be another question's by now
        lock_stop(visit)
        if stopped(visit):
            return AFTER_STOP
    return None if _filled(visit, page) else SLOT_TAKEN


def _filled(visit: Visit, page: Any) -> bool:
    """Make the slot answered by this rater; return False where it is another's by now.

    Adjudicators have a slot each, so that of theirs it is the question that is another's.
    """
    slots = schema.slots
    changed = visit.connection.execute(
        update(slots)
        .where(
            slots.c.id == page.id,
            or_(slots.c.rater == visit.rater, and_(free(visit), new_to(visit))),
            or_(slots.c.answered.is_not(None), ~with_another(visit)),
        )
        .values(
            rater=visit.rater,
            leased_until=None,
            answered=func.coalesce(slots.c.answered, visit.now),
        )
    )
    return bool(changed.rowcount)


def _append(visit: Visit, row: dict[str, Any]) -> int:
    """Add a row of votes as the next revision of its slot and rater; return the revision."""
    votes = schema.votes
    last = visit.connection.execute(
        select(func.max(votes.c.revision)).where(
            votes.c.slot == row["slot"], votes.c.rater == visit.rater
        )
    ).scalar_one()
    revision = (last or 0) + 1
    visit.connection.execute(insert(votes), row | {"revision": revision, "at": visit.now})
    return revision


def _receipt(visit: Visit, slot: str, vote_id: str, revision: int, *, replayed: bool) -> Receipt:
    table = schema.exclusions
    reason = visit.connection.execute(
        select(table.c.reason).where(
            table.c.vote == vote_id, table.c.reason.in_(LATE), table.c.lifted.is_(None)
        )
    ).scalar_one_or_none()
    return Receipt(
        id=vote_id,
        slot=slot,
        replayed=replayed,
        counted=reason is None,
        reason=reason,
        revision=revision,
    )


def _standing(rater: int) -> Any:
    """Select a rater's votes that no later row replaces or takes back, newest first."""
    votes, later, slots = schema.votes, schema.later_votes, schema.slots
    return (
        pages()
        .add_columns(votes.c.id.label("vote"), votes.c.answer, votes.c.note)
        .add_columns(votes.c.at, votes.c.revision)
        .join(votes, votes.c.slot == slots.c.id)
        .where(
            votes.c.rater == rater,
            slots.c.rater == rater,
            votes.c.answer.is_not(None),
            ~exists().where(
                later.c.slot == votes.c.slot,
                later.c.rater == votes.c.rater,
                later.c.revision > votes.c.revision,
            ),
        )
        .order_by(votes.c.number.desc())
    )


def undo(database: Database, rater: int, *, id: str) -> Assignment | None:
    """Take back the rater's latest vote and return its page, to be answered anew.

    id: a UUID made by the browser; the same one again changes nothing. None: nothing to undo.
    Raises AccessDenied once the study is closed.
    """
    check_id(id)
    votes, slots = schema.votes, schema.slots
    with database.begin() as connection:
        visit = visited(database, connection, rater)
        earlier = connection.execute(select(votes).where(votes.c.id == id)).one_or_none()
        if earlier is not None:
            if earlier.rater != rater or earlier.answer is not None:
                raise ConflictError("this id belongs to a vote; make a new one")
            return assignments_of(connection, [earlier.slot])[0]
        if visit.closed:
            raise AccessDenied("closed")
        last = connection.execute(_standing(rater).limit(1)).one_or_none()
        if last is None:
            return None
        empty = {"answer": None, "seconds": 0.0, "note": ""}
        _append(visit, empty | {"id": id, "slot": last.id, "rater": rater})
        connection.execute(
            update(slots)
            .where(slots.c.id == last.id)
            .values(
                answered=None,
                # One that came too late has no place among the votes, and gets none by this.
                leased_until=last.leased_until if last.answered is None else visit.lease_ends,
            )
        )
        return assignments_of(connection, [last.id])[0]


def history(database: Database, rater: int, *, limit: int = 20, skip: int = 0) -> tuple[Past, ...]:
    """Return a rater's own votes as they stand, newest first, after the `skip` newest."""
    with database.read() as connection:
        rows = connection.execute(_standing(rater).limit(limit).offset(skip))
        return tuple(_past(row) for row in rows)


def votes_standing(database: Database, rater: int) -> int:
    """Return how many votes a rater's whole history has."""
    found = _standing(rater).order_by(None).with_only_columns(func.count())
    with database.read() as connection:
        return int(connection.execute(found).scalar_one())


def own_vote(database: Database, rater: int, slot: str) -> Past | None:
    """Return a rater's own vote on a slot as it stands, if there is one."""
    found = _standing(rater).where(schema.slots.c.code == storable(slot))
    with database.read() as connection:
        row = connection.execute(found).one_or_none()
    return None if row is None else _past(row)


def _past(row: Any) -> Past:
    return Past(
        assignment=assignment(row),
        answer=row.answer,
        note=row.note,
        at=row.at,
        revision=row.revision,
    )
