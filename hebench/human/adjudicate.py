"""Questions on which raters differ, for an adjudicator, in the same pages and with the same vote.

An adjudicator's answer stands beside the raters' and enters no ranking; in a review it settles
what becomes of the item.

    >>> claim_disputed(database, rater).status
    'work'
"""

from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import Connection, func, insert, or_, select, update

from hebench.human import schema
from hebench.human.access import AccessDenied
from hebench.human.claims import Claimed, Progress, note_leases
from hebench.human.collected import Collected, CollectedVote, collected
from hebench.human.database import Database
from hebench.human.publish import new_code
from hebench.human.quality import alike
from hebench.human.visit import Visit, assignments_of, visited, with_another

KIND = "adjudication"


def disputed(found: Collected) -> tuple[int, ...]:
    """Return the ids of questions whose counted votes differ and that nobody has settled."""
    votes: dict[int, list[CollectedVote]] = defaultdict(list)
    for vote in found.counted():
        votes[vote.task.id].append(vote)
    settled = {vote.task.id for vote in found.counted(KIND)}
    return tuple(
        task for task, given in sorted(votes.items()) if task not in settled and _differ(given)
    )


def _differ(votes: Iterable[CollectedVote]) -> bool:
    first, *rest = votes
    return not all(alike(first.answer, other.answer) for other in rest)


def claim_disputed(database: Database, rater: int) -> Claimed:
    """Give an adjudicator the next question to settle, the one held already first.

    One that was held for too long and has gone to another adjudicator is not given again.
    Raises AccessDenied for somebody who is no adjudicator.
    """
    with database.begin() as connection:
        visit = visited(database, connection, rater)
        if visit.role != "adjudicator":
            raise AccessDenied("forbidden")
    open_ones = disputed(collected(database, visit.study.name))
    slots = schema.slots
    with database.begin() as connection:
        visit = visited(database, connection, rater)
        mine = slots.c.rater == rater
        answered = connection.execute(
            select(func.count()).where(mine, slots.c.answered.is_not(None))
        ).scalar_one()
        progress = Progress(answered=answered, total=answered + len(open_ones))
        if visit.closed:
            return Claimed(status="closed", assignments=(), progress=progress)
        held = connection.execute(
            update(slots)
            .where(mine, slots.c.answered.is_(None), ~with_another(visit))
            .values(leased_until=visit.lease_ends)
            .returning(slots.c.id)
        ).scalars()
        slot = next(iter(held.all()), None) or _made(connection, visit, open_ones)
        if slot is None:
            return Claimed(status="finished", assignments=(), progress=progress)
        note_leases(visit, [slot])
        return Claimed(
            status="work", assignments=assignments_of(connection, [slot]), progress=progress
        )


def _made(connection: Connection, visit: Visit, open_ones: Iterable[int]) -> int | None:
    """Return a new slot for the first question that no other adjudicator holds."""
    slots = schema.slots
    connection.execute(  # adjudicators take turns, or two would get one question
        select(schema.studies.c.id).where(schema.studies.c.id == visit.study_id).with_for_update()
    )
    taken = set(
        connection.execute(
            select(slots.c.task).where(
                slots.c.study == visit.study_id,
                slots.c.kind == KIND,
                or_(slots.c.answered.is_not(None), slots.c.leased_until >= visit.now),
            )
        ).scalars()
    )
    task = next((task for task in open_ones if task not in taken), None)
    if task is None:
        return None
    swapped = connection.execute(
        select(slots.c.swapped).where(slots.c.task == task).order_by(slots.c.id).limit(1)
    ).scalar_one()
    row = {"study": visit.study_id, "code": new_code(), "task": task, "seat": None, "kind": KIND}
    row |= {"position": 0, "swapped": swapped, "rater": visit.rater}
    found = connection.execute(
        insert(slots).returning(slots.c.id), row | {"leased_until": visit.lease_ends}
    ).scalar_one()
    return int(found)
