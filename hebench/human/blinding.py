"""Who may know which model is which: raters never, owners once the study is closed.

An owner who asks for the names earlier gets them, but first a row says who asked, when, why and
at how many votes. So does opening a closed study again, since its names were free to see. These
rows are only added, and readers of the results find them on the dashboard, in the study card, among
the raw rows and in the evidence.

    >>> reveal(database, "summaries-1", what="dashboard", why="a model seems broken", rater=7)
    >>> collected(database, "summaries-1").reveals[0].votes
    212
"""

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, func, insert, select, update

from hebench.errors import ConfigError
from hebench.human import schema
from hebench.human.database import Database
from hebench.human.masking import storable
from hebench.human.publish import study_row

MAX_WHY = 500  # characters
COMMAND_LINE = "command line"
What = Literal["dashboard", "status", "reopened"]


@dataclass(frozen=True, kw_only=True)
class Reveal:
    """One time at which models could be told before the end."""

    what: str  # dashboard or status, where names were shown; reopened after a close
    by: str  # an owner's pseudonym, or COMMAND_LINE
    link: int | None  # the number of the invitation by which that owner came in
    why: str  # "" for a reopening, and where an owner had their data deleted
    votes: int  # answered questions of the plan at that moment
    at: float


def close_study(database: Database, name: str) -> None:
    """End collecting: no slot is given out any more, and models may be named from now on.

    Votes that come later (from a browser that was offline) are kept and excluded.
    """
    with database.begin() as connection:
        row = study_row(connection, name)
        _set_closed(connection, row.id, database.clock())


def reopen_study(database: Database, name: str, *, rater: int | None = None) -> None:
    """Go on collecting, and keep that names could be seen before the votes to come.

    rater: the owner who does it; None: the command line.
    """
    with database.begin() as connection:
        row = study_row(connection, name)
        if row.closed is not None:
            _set_closed(connection, row.id, None)
            _note(connection, row.id, "reopened", "", rater, database.clock())


def reveal(
    database: Database, name: str, *, what: What, why: str, rater: int | None = None
) -> None:
    """Note that an owner is about to see the models' names; nothing to note once it is closed.

    rater: the owner; None: the command line. Raises ConfigError without a reason of at most
    MAX_WHY characters.
    """
    with database.begin() as connection:
        row = study_row(connection, name)
        if row.closed is not None:
            return
        words = " ".join(why.split())  # one line, as a table's cell has it
        if not 1 <= len(words) <= MAX_WHY:
            raise ConfigError(
                f"names before the end: expected the reason, in 1 to {MAX_WHY} characters"
            )
        _note(connection, row.id, what, storable(words), rater, database.clock())


def reveals(connection: Connection, study: int) -> tuple[Reveal, ...]:
    """Return all reveals of a study, oldest first."""
    table, raters = schema.reveals, schema.raters
    rows = connection.execute(
        select(table, raters.c.pseudonym, raters.c.invite)
        .outerjoin(raters, table.c.rater == raters.c.id)
        .where(table.c.study == study)
        .order_by(table.c.id)
    )
    return tuple(
        Reveal(
            what=row.what,
            by=row.pseudonym or COMMAND_LINE,
            link=row.invite,
            why=row.why,
            votes=row.votes,
            at=row.at,
        )
        for row in rows
    )


def _set_closed(connection: Connection, study: int, at: float | None) -> None:
    studies = schema.studies
    connection.execute(update(studies).where(studies.c.id == study).values(closed=at))


def _note(  # noqa: PLR0913, PLR0917 (one argument a column)
    connection: Connection, study: int, what: What, why: str, rater: int | None, at: float
) -> None:
    slots = schema.slots
    votes = connection.execute(
        select(func.count(slots.c.answered)).where(slots.c.study == study, slots.c.kind == "main")
    ).scalar_one()
    row: dict[str, Any] = {"study": study, "rater": rater, "what": what, "why": why}
    connection.execute(insert(schema.reveals), row | {"votes": votes, "at": at})
