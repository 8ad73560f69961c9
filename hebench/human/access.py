"""Who may come in: invite links, sessions, consent, limits, and delete-my-data.

A link holds a token that is signed with the study's secret; the database holds only its hash, so
that neither a copy of the database nor a guess opens a door. Entering through a link gives the
browser a session, likewise stored as a hash. A session ends with its link. Nobody's name or
address is stored: raters have random pseudonyms, and limits are counted under keyed hashes.

    >>> link = invite(database, "summaries-1", people=30, days=14)
    >>> entry = enter(database, link.token, consent="1")
    >>> person(database, entry.session).pseudonym
    'r-3f9a01bc'
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from hebench.errors import ConfigError, HebenchError
from hebench.human import schema
from hebench.human.database import Database
from hebench.human.publish import study_of, study_row
from hebench.human.tokens import claimed_study, fingerprint, is_signed, new_token

ROLES = ("rater", "adjudicator", "owner")
_DAY = 86_400.0
_MOST_SESSIONS = 10  # browsers of one rater; the oldest is signed out
_MOST_PEOPLE = 10_000

Role = Literal["rater", "adjudicator", "owner"]
Denied = Literal[
    "unknown", "expired", "revoked", "full", "closed", "consent", "signed_out", "forbidden"
]
_WORDS: dict[str, str] = {
    "unknown": "this link is not one of ours; ask for it anew",
    "expired": "this link has expired; ask for a new one",
    "revoked": "this link was withdrawn by the study's owner",
    "full": "everyone this link was made for has come in; ask for another",
    "closed": "the study is closed; thank you",
    "consent": "the consent text is another one by now; open the link again",
    "signed_out": "this browser is not signed in; open the link again",
    "forbidden": "this page was not given to you",
}


class AccessDenied(HebenchError):
    """A door that stays shut; `code` says why, in one of the words of `Denied`."""

    def __init__(self, code: Denied) -> None:
        """Say why in a sentence."""
        super().__init__(_WORDS[code])
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Invite:
    """A new link. The token is in no other place: show it once."""

    id: int
    token: str
    role: Role
    people: int
    expires: float


@dataclass(frozen=True, kw_only=True)
class InviteState:
    """A link as the database knows it."""

    id: int
    study: str
    role: Role
    people: int  # 1: a personal link, always the same rater; else each entry is a new one
    used: int
    expires: float
    revoked: float | None


@dataclass(frozen=True, kw_only=True)
class Person:
    """Someone who came in."""

    rater: int
    pseudonym: str
    study: str
    role: Role
    consented: str  # version of the consent text
    shared: bool  # came in by a link for several people: once signed out, there is no way back


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A new session: what goes into the browser's cookie, and who it is."""

    session: str
    person: Person


def invite(
    database: Database, study: str, *, role: Role = "rater", people: int = 1, days: float = 30.0
) -> Invite:
    """Return a new link to a study: personal, or for so many people.

    Raises ConfigError for a role, number or time that cannot be, DataError for no such study.
    """
    if role not in ROLES:
        raise ConfigError(f"role: expected one of {', '.join(ROLES)}, found {role!r}")
    if not 1 <= people <= _MOST_PEOPLE or not 0 < days <= 3650:
        raise ConfigError(f"expected 1 to {_MOST_PEOPLE:,} people, and up to 3,650 days")
    with database.begin() as connection:
        row = study_row(connection, study)
        token = new_token(row.id, row.secret)
        values = {
            "study": row.id,
            "token_sha256": fingerprint(token),
            "role": role,
            "people": people,
        }
        expires = database.clock() + days * _DAY
        number = connection.execute(
            insert(schema.invites).returning(schema.invites.c.id),
            values | {"used": 0, "expires": expires},
        ).scalar_one()
    return Invite(id=number, token=token, role=role, people=people, expires=expires)


def peek(database: Database, token: str) -> InviteState:
    """Return what a link is, without entering: programs that preview links must change nothing.

    Raises AccessDenied.
    """
    with database.read() as connection:
        return _invite_state(_valid(connection, token, database.clock()))


def invites(database: Database, study: str) -> tuple[InviteState, ...]:
    """Return all links of a study, oldest first."""
    with database.read() as connection:
        row = study_row(connection, study)
        found = connection.execute(
            _invites().where(schema.invites.c.study == row.id).order_by(schema.invites.c.id)
        )
        return tuple(_invite_state(link) for link in found)


def revoke(database: Database, study: str, invite_id: int) -> None:
    """Withdraw a link: it and the sessions made with it stop at once; votes stay.

    Raises AccessDenied if this study has no such link.
    """
    with database.begin() as connection:
        row = study_row(connection, study)
        links = schema.invites
        changed = connection.execute(
            update(links)
            .where(links.c.id == invite_id, links.c.study == row.id)
            .values(revoked=func.coalesce(links.c.revoked, database.clock()))
        )
        if not changed.rowcount:
            raise AccessDenied("unknown")


def enter(database: Database, token: str, *, consent: str) -> Entry:
    """Return a session for a link, made for a person who agreed to version `consent`.

    A personal link leads to the same rater on every device, a shared one makes a new rater each
    time. Raises AccessDenied.
    """
    with database.begin() as connection:
        now = database.clock()
        link = _valid(connection, token, now)
        study = connection.execute(
            select(schema.studies).where(schema.studies.c.id == link.study)
        ).one()
        if consent != study_of(study).consent.version:
            raise AccessDenied("consent")
        rater = _known(connection, link) if link.people == 1 else None
        rater = rater or _joined(connection, link, consent, now)
        session = secrets.token_urlsafe(32)
        connection.execute(
            insert(schema.sessions),
            {"rater": rater.id, "token_sha256": fingerprint(session), "started": now},
        )
        _prune_sessions(connection, rater.id)
        return Entry(session=session, person=_person(rater, link))


def _known(connection: Connection, link: Any) -> Any:
    """Return the rater of a personal link, None before the first entry."""
    # The row lock lets two devices that open a new link at once become one rater.
    connection.execute(
        select(schema.invites.c.id).where(schema.invites.c.id == link.id).with_for_update()
    )
    return connection.execute(
        select(schema.raters).where(schema.raters.c.invite == link.id)
    ).one_or_none()


def _joined(connection: Connection, link: Any, consent: str, now: float) -> Any:
    links = schema.invites
    used = connection.execute(
        update(links)
        .where(links.c.id == link.id, links.c.used < links.c.people)
        .values(used=links.c.used + 1)
    )
    if not used.rowcount:
        raise AccessDenied("full")
    return connection.execute(
        insert(schema.raters).returning(schema.raters),
        {
            "study": link.study,
            "invite": link.id,
            "pseudonym": f"r-{secrets.token_hex(4)}",
            "role": link.role,
            "consent": consent,
            "joined": now,
            "seen": now,
        },
    ).one()


def _prune_sessions(connection: Connection, rater: int) -> None:
    sessions = schema.sessions
    kept = connection.execute(
        select(sessions.c.id)
        .where(sessions.c.rater == rater)
        .order_by(sessions.c.id.desc())
        .limit(_MOST_SESSIONS)
    ).scalars()
    connection.execute(
        delete(sessions).where(sessions.c.rater == rater, sessions.c.id.not_in(list(kept)))
    )


def person(database: Database, session: str) -> Person:
    """Return who a session belongs to. Raises AccessDenied if it, or its link, is over."""
    raters, sessions = schema.raters, schema.sessions
    with database.read() as connection:
        row = connection.execute(
            select(raters, schema.studies.c.name, schema.invites.c.revoked)
            .add_columns(schema.invites.c.expires, schema.invites.c.people)
            .join_from(sessions, raters, sessions.c.rater == raters.c.id)
            .join(schema.invites, raters.c.invite == schema.invites.c.id)
            .join(schema.studies, raters.c.study == schema.studies.c.id)
            .where(sessions.c.token_sha256 == fingerprint(session), raters.c.erased.is_(None))
        ).one_or_none()
    if row is None:
        raise AccessDenied("signed_out")
    _check_open(row, database.clock())
    return _person(row, row)


def leave(database: Database, session: str) -> None:
    """Sign a browser out."""
    with database.begin() as connection:
        connection.execute(
            delete(schema.sessions).where(schema.sessions.c.token_sha256 == fingerprint(session))
        )


def forget(database: Database, rater: int) -> int:
    """Erase a rater's votes, notes, consent and sessions; return how many votes stood.

    The rater's slots and seat are free again. A row with the pseudonym stays, so that the study
    card can say that someone withdrew, and so does the number of votes erased. So do an owner's
    reveals, without the reasons given.
    """
    slots, votes, raters = schema.slots, schema.votes, schema.raters
    with database.begin() as connection:
        row = connection.execute(
            select(raters).where(raters.c.id == rater).with_for_update(key_share=True)
        ).one_or_none()
        if row is None or row.erased is not None:
            return 0
        # The study's row before the votes: rules that are being applied hold it, and want those.
        connection.execute(
            select(schema.studies.c.id).where(schema.studies.c.id == row.study).with_for_update()
        )
        newest = (
            select(votes.c.slot, func.max(votes.c.revision).label("revision"))
            .where(votes.c.rater == rater)
            .group_by(votes.c.slot)
            .subquery()
        )
        standing = (
            select(func.count())
            .select_from(votes)
            .join(newest, (votes.c.slot == newest.c.slot) & (votes.c.revision == newest.c.revision))
            .where(votes.c.rater == rater, votes.c.answer.is_not(None))
        )
        count = int(connection.execute(standing).scalar_one())
        for table in (schema.exclusions, votes, schema.leases, schema.sessions):
            connection.execute(delete(table).where(table.c.rater == rater))
        connection.execute(
            delete(slots).where(slots.c.rater == rater, slots.c.kind == "adjudication")
        )
        connection.execute(
            update(slots)
            .where(slots.c.rater == rater)
            .values(rater=None, leased_until=None, answered=None)
        )
        connection.execute(
            update(schema.seats).where(schema.seats.c.rater == rater).values(rater=None)
        )
        # That names were seen stays known, an owner's words about it go.
        connection.execute(
            update(schema.reveals).where(schema.reveals.c.rater == rater).values(why="")
        )
        now = database.clock()
        connection.execute(
            update(raters).where(raters.c.id == rater).values(erased=now, consent="")
        )
        connection.execute(
            update(schema.invites)
            .where(schema.invites.c.id == row.invite, schema.invites.c.people == 1)
            .values(revoked=now)
        )
        connection.execute(
            update(schema.studies)
            .where(schema.studies.c.id == row.study)
            .values(forgotten=schema.studies.c.forgotten + count)
        )
    return count


def within_limit(database: Database, study: str, key: str, *, limit: int, seconds: float) -> bool:
    """Count one try under `key` and return whether it is among the first `limit` of its window.

    key: such as "enter:192.0.2.7"; only a keyed hash of it is stored, and that not for long.
    """
    limits = schema.limits
    now = database.clock()
    digest = hmac.new(signing_key(database, study), key.encode(), hashlib.sha256).hexdigest()
    window = int(now // seconds)
    make = postgresql.insert if database.postgres else sqlite.insert
    statement = make(limits).values(key=digest, window=window, count=1, ends=(window + 1) * seconds)
    with database.begin() as connection:
        count = connection.execute(
            statement.on_conflict_do_update(
                index_elements=[limits.c.key, limits.c.window],
                set_={"count": limits.c.count + 1},
            ).returning(limits.c.count)
        ).scalar_one()
        if count == 1:  # seldom enough to tidy up
            connection.execute(delete(limits).where(limits.c.ends < now))
    return bool(count <= limit)


def signing_key(database: Database, study: str) -> bytes:
    """Return a study's secret, for signing what a server hands out (such as CSRF tokens)."""
    with database.read() as connection:
        return bytes.fromhex(study_row(connection, study).secret)


def _valid(connection: Connection, token: str, now: float) -> Any:
    """Return the row of a link that may be used now, its signature checked first."""
    study = claimed_study(token)
    secret = connection.execute(
        select(schema.studies.c.secret).where(schema.studies.c.id == study)
    ).scalar_one_or_none()
    if secret is None or not is_signed(token, secret):
        _deny("unknown")
    row = connection.execute(
        _invites().where(schema.invites.c.token_sha256 == fingerprint(token))
    ).one_or_none()
    if row is None:
        _deny("unknown")
    _check_open(row, now)
    return row


def _invites() -> Any:
    links = schema.invites
    return select(links, schema.studies.c.name).join(
        schema.studies, links.c.study == schema.studies.c.id
    )


def _check_open(row: Any, now: float) -> None:
    if row.revoked is not None:
        raise AccessDenied("revoked")
    if row.expires <= now:
        raise AccessDenied("expired")


def _deny(code: Denied) -> NoReturn:
    raise AccessDenied(code)


def _invite_state(row: Any) -> InviteState:
    return InviteState(
        id=row.id,
        study=row.name,
        role=row.role,
        people=row.people,
        used=row.used,
        expires=row.expires,
        revoked=row.revoked,
    )


def _person(rater: Any, link: Any) -> Person:
    return Person(
        rater=rater.id,
        pseudonym=rater.pseudonym,
        study=link.name,
        role=rater.role,
        consented=rater.consent,
        shared=link.people > 1,
    )
