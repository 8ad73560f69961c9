"""Links, sessions, limits and delete-my-data, on both engines."""

import base64
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

from hebench.errors import ConfigError, DataError
from hebench.human import access, schema
from hebench.human.access import (
    AccessDenied,
    enter,
    forget,
    invite,
    invites,
    leave,
    peek,
    person,
    revoke,
    signing_key,
    within_limit,
)
from hebench.human.collected import collected
from hebench.human.database import Database
from hebench.human.quality import exclude
from hebench.human.store import claim, history, vote
from tests.human.made_study import Clock, ballot, joined, published, vote_all

STUDY = "summaries-1"
DAY = 86_400.0


def denied(code: str, call: Any, *arguments: Any, **named: Any) -> None:
    with pytest.raises(AccessDenied) as caught:
        call(*arguments, **named)
    assert caught.value.code == code


def test_a_personal_link_is_one_rater_on_every_device(database: Database) -> None:
    published(database)
    link = invite(database, STUDY)
    first, second = (enter(database, link.token, consent="1") for _ in range(2))
    assert first.session != second.session
    assert first.person == second.person == person(database, first.session)
    assert (first.person.study, first.person.role) == (STUDY, "rater")
    assert not first.person.shared
    assert invites(database, STUDY)[0].used == 1


def test_a_shared_link_is_a_new_rater_each_time_and_then_full(database: Database) -> None:
    published(database)
    link = invite(database, STUDY, people=2)
    entries = [enter(database, link.token, consent="1") for _ in range(2)]
    assert len({entry.person.rater for entry in entries}) == 2
    assert all(person(database, entry.session).shared for entry in entries)
    denied("full", enter, database, link.token, consent="1")
    assert peek(database, link.token).used == 2


def test_many_who_enter_at_once_are_no_more_than_the_link_is_for(database: Database) -> None:
    published(database)
    link = invite(database, STUDY, people=5)

    def come_in(_: int) -> str:
        try:
            return enter(database, link.token, consent="1").person.pseudonym
        except AccessDenied as error:
            return error.code

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(come_in, range(16)))
    assert found.count("full") == 11 and len(set(found)) == 6


def test_two_devices_that_open_a_new_personal_link_at_once_are_one_rater(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(database)
    link = invite(database, STUDY)
    join = access._joined

    def slowly(*arguments: Any) -> Any:
        time.sleep(0.1)  # the other device looks whether there is a rater yet
        return join(*arguments)

    monkeypatch.setattr(access, "_joined", slowly)
    with ThreadPoolExecutor(6) as pool:
        entries = list(pool.map(lambda _: enter(database, link.token, consent="1"), range(6)))
    assert len({entry.person.rater for entry in entries}) == 1


def test_looking_at_a_link_changes_nothing(database: Database) -> None:
    published(database)
    link = invite(database, STUDY, people=5, role="adjudicator")
    for _ in range(3):
        assert peek(database, link.token).role == "adjudicator"
    assert invites(database, STUDY)[0].used == 0


def test_only_hashes_are_stored(database: Database) -> None:
    published(database)
    link = invite(database, STUDY)
    entry = enter(database, link.token, consent="1")
    with database.read() as connection:
        stored = "".join(
            str(row)
            for table in schema.metadata.sorted_tables
            for row in connection.execute(select(table))
        )
    assert link.token not in stored and entry.session not in stored


def test_an_expired_or_withdrawn_link_ends_its_sessions(database: Database, clock: Clock) -> None:
    published(database)
    short, long = invite(database, STUDY, days=1), invite(database, STUDY, days=10)
    sessions = [enter(database, link.token, consent="1").session for link in (short, long)]
    clock.now += DAY
    denied("expired", peek, database, short.token)
    denied("expired", enter, database, short.token, consent="1")
    denied("expired", person, database, sessions[0])
    revoke(database, STUDY, long.id)
    denied("revoked", enter, database, long.token, consent="1")
    denied("revoked", person, database, sessions[1])
    denied("unknown", revoke, database, STUDY, 10**9)


def test_a_guessed_changed_or_foreign_token_opens_nothing(database: Database) -> None:
    published(database)
    published(database, name="other-1")
    token = invite(database, STUDY).token
    body = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    changed = []
    for place in (0, 3, 4, 19, 20, 35):  # study, random part, signature
        other = bytearray(body)
        other[place] ^= 1
        changed.append(base64.urlsafe_b64encode(bytes(other)).rstrip(b"=").decode())
    for wrong in (*changed, "", "a", "א" * 48, "\0" * 48, "' OR 1=1 --", token[:-1], token + "A"):
        denied("unknown", peek, database, wrong)
        denied("unknown", enter, database, wrong, consent="1")
    assert signing_key(database, STUDY) != signing_key(database, "other-1")


def test_a_correctly_signed_token_that_was_never_given_out_is_unknown(database: Database) -> None:
    published(database)
    token = invite(database, STUDY).token
    with database.begin() as connection:
        connection.execute(schema.invites.delete())
    denied("unknown", peek, database, token)


def test_consent_to_another_version_is_no_consent(database: Database) -> None:
    published(database)
    link = invite(database, STUDY)
    denied("consent", enter, database, link.token, consent="0")
    assert invites(database, STUDY)[0].used == 0


def test_a_session_ends_when_its_browser_leaves(database: Database) -> None:
    published(database)
    entry = enter(database, invite(database, STUDY).token, consent="1")
    leave(database, entry.session)
    denied("signed_out", person, database, entry.session)
    denied("signed_out", person, database, "")


def test_the_oldest_of_too_many_browsers_is_signed_out(database: Database) -> None:
    published(database)
    link = invite(database, STUDY)
    sessions = [enter(database, link.token, consent="1").session for _ in range(11)]
    denied("signed_out", person, database, sessions[0])
    assert person(database, sessions[1]) == person(database, sessions[-1])


@pytest.mark.parametrize("wrong", [{"role": "admin"}, {"people": 0}, {"days": 0}, {"days": 1e9}])
def test_an_impossible_link_is_refused(database: Database, wrong: dict[str, Any]) -> None:
    published(database)
    with pytest.raises(ConfigError):
        invite(database, STUDY, **wrong)


def test_a_link_to_no_study_names_the_studies_there_are(database: Database) -> None:
    published(database)
    with pytest.raises(DataError, match="there are: summaries-1"):
        invite(database, "sumaries-1")


def test_tries_are_counted_by_key_and_window(database: Database, clock: Clock) -> None:
    published(database)

    def tried(key: str) -> bool:
        return within_limit(database, STUDY, key, limit=2, seconds=60)

    assert [tried("a") for _ in range(3)] == [True, True, False]
    assert tried("b")
    clock.now += 120
    assert tried("a")
    with database.read() as connection:
        rows = connection.execute(select(schema.limits)).all()
    assert len(rows) == 1 and rows[0].key != "a"  # old windows are gone, keys are hashed


def test_delete_my_data_erases_votes_and_frees_the_work(database: Database) -> None:
    published(database)
    link = invite(database, STUDY)
    entry = enter(database, link.token, consent="1")
    rater = entry.person.rater
    page = claim(database, rater).assignments[0]
    cast = vote(database, rater, ballot(page, note="שמי דנה"))
    exclude(database, STUDY, rater=entry.person.pseudonym, vote=cast.id, reason="mine", by="owner")
    vote(database, rater, ballot(page, "second"))  # corrected, so that two rows are one vote
    claim(database, rater, ahead=2)
    assert forget(database, rater) == 1
    assert forget(database, rater) == 0
    denied("signed_out", person, database, entry.session)
    denied("revoked", enter, database, link.token, consent="1")
    denied("signed_out", claim, database, rater)
    found = collected(database, STUDY)
    assert (found.votes, found.forgotten, found.answered, found.leased) == ((), 1, 0, 0)
    assert found.raters[0].erased
    with database.read() as connection:
        left = [connection.execute(select(schema.votes)).all()]
        left.append(connection.execute(select(schema.leases)).all())
        left.append(connection.execute(select(schema.sessions)).all())
    assert left == [[], [], []]
    newcomer = joined(database)
    assert vote_all(database, newcomer) == 5  # the whole seat again


def test_one_raters_wish_touches_nobody_else(database: Database) -> None:
    published(database)
    first, second = joined(database), joined(database)
    vote_all(database, first)
    done = vote_all(database, second)
    forget(database, first)
    assert len(history(database, second)) == done
