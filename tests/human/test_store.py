"""Slots and votes on both engines: quotas, leases, replays, corrections, undo, late votes."""

import json
import random
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, select, update

from hebench.errors import ConfigError, DataError
from hebench.human import schema
from hebench.human.access import AccessDenied, invites, revoke
from hebench.human.adjudicate import claim_disputed, disputed
from hebench.human.ballot import BallotError
from hebench.human.blinding import close_study, reopen_study
from hebench.human.collected import collected
from hebench.human.database import Database, open_database
from hebench.human.material import read_material
from hebench.human.publish import publish, stored_study, studies, study_state
from hebench.human.store import (
    ConflictError,
    claim,
    history,
    own_vote,
    release_expired,
    undo,
    vote,
    votes_standing,
)
from hebench.human.study import Source, Stop
from tests.human.made_study import (
    MODELS,
    Clock,
    ballot,
    joined,
    made_material,
    made_study,
    new_id,
    published,
    vote_all,
)

STUDY = "summaries-1"
HOUR = 3600.0


def slot_counts(database: Database) -> Counter[int]:
    """Return the counted votes of each slot: never more than one."""
    votes, slots = schema.votes, schema.slots
    with database.read() as connection:
        rows = connection.execute(
            select(votes.c.slot, votes.c.rater)
            .join(slots, votes.c.slot == slots.c.id)
            .where(slots.c.rater == votes.c.rater, slots.c.answered.is_not(None))
            .distinct()
        )
        return Counter(row.slot for row in rows)


# ------------------------------------------------------------------------------------ databases


def differences(database: Database) -> list[Any]:
    """Return what the database's schema has otherwise than it is declared."""
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, schema.metadata))


def test_the_migrated_schema_is_the_declared_one(database: Database) -> None:
    assert differences(database) == []


def test_opening_a_database_again_changes_nothing(database: Database, url: str) -> None:
    published(database)
    with open_database(url) as again:
        assert [state.name for state in studies(again)] == [STUDY]


def version_of(database: Database) -> str:
    with database.read() as connection:
        found = connection.exec_driver_sql("SELECT version_num FROM alembic_version")
        return str(found.scalar_one())


def set_version(database: Database, version: str) -> None:
    with database.begin() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{version}'")


def test_a_database_of_a_newer_hebench_is_refused(database: Database, url: str) -> None:
    current = version_of(database)
    set_version(database, "9999")
    try:
        with pytest.raises(DataError, match="a newer hebench made it"):
            open_database(url)
    finally:
        set_version(database, current)  # other tests use this database, too


def test_a_database_of_the_first_version_is_brought_up_to_date_with_its_votes(
    database: Database, url: str
) -> None:
    published(database)
    vote_all(database, joined(database))
    before = collected(database, STUDY)
    current = version_of(database)
    with database.begin() as connection:
        schema.reveals.drop(connection)
    set_version(database, "0001")
    with open_database(url) as again:
        after = collected(replace(again, clock=database.clock), STUDY)
        assert version_of(again) == current
    assert after == before
    assert differences(database) == []


@pytest.mark.parametrize(
    "wrong",
    [
        "mysql://x/y",
        "sqlite://",
        "://",
        "postgresql://127.0.0.1:9/x",
        "postgresql://u@h:54x2/x",
        "/proc/nowhere/study.sqlite",
    ],
)
def test_another_database_is_refused_in_one_line(wrong: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_database(wrong)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("לא מסד נתונים\n" * 500, encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="not a database.*name another") as caught:
        open_database(str(path))
    assert "\n" not in str(caught.value) and path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]


def test_postgresql_without_its_driver_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"pip install 'hebench\[postgres\]'"):
        open_database("postgresql://127.0.0.1:9/x")


def test_a_postgresql_user_without_rights_is_told_in_one_line(postgres_database: Database) -> None:
    url = postgres_database.engine.url.set(drivername="postgresql", username="reader")
    with postgres_database.begin() as connection:
        connection.exec_driver_sql("CREATE ROLE reader LOGIN")
    try:
        with pytest.raises(ConfigError, match="permission denied") as caught:
            open_database(url.render_as_string(hide_password=False))
    finally:
        with postgres_database.begin() as connection:
            connection.exec_driver_sql("DROP ROLE reader")
    assert "\n" not in str(caught.value)


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    published(database)
    with pytest.raises(RuntimeError), database.begin() as connection:
        connection.execute(schema.invites.delete())
        connection.execute(schema.slots.update().values(kind="gold"))
        raise RuntimeError
    with database.read() as connection:
        kinds = connection.execute(select(schema.slots.c.kind).distinct()).scalars().all()
    assert "main" in kinds


def test_a_transaction_that_reads_and_then_writes_waits_for_no_conflict(
    database: Database,
) -> None:
    """With a deferred BEGIN, SQLite would refuse the write: its snapshot is old by then."""
    published(database)
    rows = schema.studies.update()

    def other() -> None:
        with database.begin() as connection:
            connection.execute(rows.values(forgotten=schema.studies.c.forgotten + 1))

    with ThreadPoolExecutor(1) as pool:
        with database.begin() as connection:
            connection.execute(select(schema.invites)).all()
            done = pool.submit(other)
            time.sleep(0.2)  # SQLite: waits its turn; PostgreSQL: is through by now
            connection.execute(rows.values(forgotten=schema.studies.c.forgotten + 1))
        done.result()
    assert collected(database, STUDY).forgotten == 2


# ----------------------------------------------------------------------------------- publishing


def test_publishing_stores_the_study_and_its_slots(database: Database) -> None:
    study = published(database, plan={"gold": 1, "attention": 1})
    state = study_state(database, STUDY)
    assert (state.state, state.answered, state.slots) == ("open", 0, 3 * (4 + 1 + 2))
    assert stored_study(database, STUDY).title == study.title
    found = collected(database, STUDY)
    quota = Counter(task.planned for task in found.tasks if task.kind == "main")
    assert set(quota) == {1, 2}


def test_a_second_study_of_that_name_is_refused_and_leaves_the_first(database: Database) -> None:
    published(database)
    before = study_state(database, STUDY)
    with pytest.raises(DataError, match="is there already"):
        publish(database, made_study(), made_material())
    assert study_state(database, STUDY) == before


def test_nothing_that_a_rater_gets_names_a_model_or_an_item(database: Database) -> None:
    published(database)
    rater = joined(database)
    claimed = claim(database, rater, ahead=5)
    shown = repr([(page.source, page.answers) for page in claimed.assignments])
    assert not any(name in shown for name in (*MODELS, "item-", "cluster"))
    fields = {"slot", "source", "answers", "leased_until"}
    assert all(set(vars(page)) == fields for page in claimed.assignments)
    assert len({page.slot for page in claimed.assignments}) == len(claimed.assignments)
    assert all(len(page.slot) == 22 for page in claimed.assignments)


# --------------------------------------------------------------------------------------- claims


def test_a_reload_shows_the_same_page(database: Database, clock: Clock) -> None:
    published(database)
    rater = joined(database)
    first = claim(database, rater)
    clock.now += 60
    again = claim(database, rater)
    assert again.assignments[0].slot == first.assignments[0].slot
    assert again.assignments[0].leased_until == first.assignments[0].leased_until + 60


def test_pages_ahead_begin_with_those_held(database: Database) -> None:
    published(database)
    rater = joined(database)
    one = claim(database, rater).assignments
    three = claim(database, rater, ahead=3).assignments
    assert three[0] == one[0] and len({page.slot for page in three}) == 3
    assert claim(database, rater, ahead=3).assignments == three


def test_progress_grows_to_its_total(database: Database) -> None:
    published(database, plan={"gold": 1})
    rater = joined(database)
    total = claim(database, rater).progress.total
    assert total == 6
    for done in range(total):
        claimed = claim(database, rater)
        assert (claimed.progress.answered, claimed.progress.total) == (done, total)
        vote(database, rater, ballot(claimed.assignments[0]))
    assert claim(database, rater).status == "enough"


def test_everybody_together_fills_the_plan_and_not_more(database: Database) -> None:
    published(database)
    raters = [joined(database) for _ in range(4)]  # one more than there are seats
    for rater in raters:
        vote_all(database, rater)
    found = collected(database, STUDY)
    assert found.answered == found.slots == len(found.votes)
    assert set(slot_counts(database).values()) == {1}
    votes = Counter(vote.task.id for vote in found.counted())
    assert all(votes[task.id] == task.planned for task in found.tasks if task.kind == "main")
    assert claim(database, raters[3]).status in ("finished", "wait")


def test_a_rater_never_gets_a_question_twice_but_as_a_hidden_repeat(database: Database) -> None:
    published(database, plan={"raters": 3, "votes_each": 4, "most_each": 12})
    rater = joined(database)
    vote_all(database, rater)
    found = collected(database, STUDY)
    asked = Counter((vote.task.id, vote.kind) for vote in found.votes)
    assert set(asked.values()) == {1}
    repeats = [vote for vote in found.votes if vote.kind == "repeat"]
    first = {vote.task.id: vote for vote in found.votes if vote.kind == "main"}
    assert repeats and all(first[r.task.id].swapped is not r.swapped for r in repeats)


def test_the_quota_of_a_rater_holds_where_there_is_more_work(database: Database) -> None:
    published(database, plan={"most_each": 6})
    rater = joined(database)
    vote_all(database, rater)
    assert len(collected(database, STUDY).counted()) == 6
    assert claim(database, rater).status == "enough"


def test_an_expired_lease_goes_to_another_rater_and_a_running_one_does_not(
    database: Database, clock: Clock
) -> None:
    published(database, plan={"raters": 1, "overlap": 1, "repeats": 0})
    first, second = joined(database), joined(database)
    held = claim(database, first, ahead=4).assignments
    assert len(held) == 4
    assert claim(database, second).status == "wait"
    clock.now += 25 * HOUR  # beyond the lease, and the seat is idle
    taken = claim(database, second, ahead=4).assignments
    assert {page.slot for page in taken} == {page.slot for page in held}
    assert claim(database, first).status == "wait"


def test_a_repeat_is_not_given_to_somebody_who_never_had_the_question(
    database: Database, clock: Clock
) -> None:
    published(database, plan={"raters": 1, "overlap": 1, "repeats": 1})
    first, second = joined(database), joined(database)
    claim(database, first)
    clock.now += 25 * HOUR
    assert vote_all(database, second) == 4  # the questions; the repeat stays with its seat
    assert claim(database, first).status == "finished"


def test_the_seat_of_somebody_who_is_at_work_is_left_alone(
    database: Database, clock: Clock
) -> None:
    published(database, plan={"raters": 1, "overlap": 1, "repeats": 0})
    first, second = joined(database), joined(database)
    page = claim(database, first).assignments[0]
    clock.now += HOUR
    vote(database, first, ballot(page))
    assert claim(database, second).status == "wait"
    revoke(database, STUDY, invites(database, STUDY)[0].id)
    assert claim(database, second).status == "work"


def test_released_leases_count_as_free(database: Database, clock: Clock) -> None:
    published(database)
    rater = joined(database)
    claim(database, rater, ahead=3)
    assert collected(database, STUDY).leased == 3
    assert release_expired(database, STUDY) == 0
    clock.now += HOUR
    assert release_expired(database, STUDY) == 3
    assert collected(database, STUDY).leased == 0


def test_a_declared_number_of_votes_is_not_exceeded(database: Database) -> None:
    published(database, stop=Stop(rule="votes", votes=5))
    raters = [joined(database) for _ in range(3)]
    for rater in raters:
        vote_all(database, rater)
    assert len(collected(database, STUDY).counted()) == 5
    assert claim(database, raters[2]).status == "finished"


def test_pages_kept_too_long_do_not_exceed_a_declared_number_of_votes(
    database: Database, clock: Clock
) -> None:
    published(database, stop=Stop(rule="votes", votes=5), plan={"repeats": 0})
    late, other = joined(database), joined(database)
    kept = claim(database, late, ahead=3).assignments
    vote(database, late, ballot(kept[0]))
    clock.now += HOUR
    held = claim(database, other, ahead=4).assignments
    receipts = [vote(database, late, ballot(page)) for page in kept[1:]]
    assert {(receipt.counted, receipt.reason) for receipt in receipts} == {(False, "after_stop")}
    assert claim(database, late, ahead=3).status == "finished", "what lapsed is not given anew"
    for page in held:
        assert vote(database, other, ballot(page)).counted
    excluded = [v.excluded for v in collected(database, STUDY).votes]
    assert excluded.count(("after_stop",)) == 2
    assert undo(database, late, id=new_id()) is not None
    again = ballot(kept[2], "tie")
    assert [vote(database, late, again).reason for _ in range(2)] == ["after_stop"] * 2
    assert vote(database, late, ballot(kept[0], "tie")).counted, "a correction is no further vote"
    found = collected(database, STUDY)
    assert len(found.counted()) == found.answered == 5


def test_a_place_that_came_free_again_is_for_whoever_comes_first(
    database: Database, clock: Clock
) -> None:
    published(database, stop=Stop(rule="votes", votes=4), plan={"repeats": 0})
    late, other = joined(database), joined(database)
    kept = claim(database, late, ahead=2).assignments
    clock.now += HOUR
    assert len(claim(database, other, ahead=4).assignments) == 4
    assert vote(database, late, ballot(kept[0])).reason == "after_stop"
    clock.now += HOUR
    assert vote(database, late, ballot(kept[0])).counted
    assert len(claim(database, late, ahead=2).assignments) == 2
    assert len(claim(database, other, ahead=4).assignments) == 1
    assert len(collected(database, STUDY).counted()) == 1


def test_late_votes_at_once_do_not_exceed_a_declared_number(
    database: Database, clock: Clock
) -> None:
    published(database, items=30, stop=Stop(rule="votes", votes=4), plan={"overlap_share": 0.0})
    kept = []
    for _ in range(3):
        rater = joined(database)
        kept += [(rater, page) for page in claim(database, rater, ahead=4).assignments]
        clock.now += HOUR
    with ThreadPoolExecutor(6) as pool:
        receipts = list(pool.map(lambda one: vote(database, one[0], ballot(one[1])), kept))
    main = collected(database, STUDY).counted()
    assert len(receipts) == 12 and len(main) == 4


def test_adjudicators_and_owners_get_no_slots(database: Database) -> None:
    published(database)
    for role in ("adjudicator", "owner"):
        with pytest.raises(AccessDenied) as caught:
            claim(database, joined(database, role=role))
        assert caught.value.code == "forbidden"


# ---------------------------------------------------------------------------------------- votes


def test_a_vote_sent_again_is_one_vote(database: Database) -> None:
    published(database)
    rater = joined(database)
    cast = ballot(claim(database, rater).assignments[0], note="בסדר")
    receipts = [vote(database, rater, cast) for _ in range(3)]
    assert [receipt.replayed for receipt in receipts] == [False, True, True]
    assert {receipt.revision for receipt in receipts} == {1}
    assert len(collected(database, STUDY).votes) == 1


@pytest.mark.parametrize("change", [{"answer": {"outcome": "tie"}}, {"note": "אחר"}])
def test_one_id_for_two_votes_is_a_conflict(database: Database, change: dict[str, Any]) -> None:
    published(database)
    rater = joined(database)
    page = claim(database, rater).assignments[0]
    cast = ballot(page)
    vote(database, rater, cast)
    with pytest.raises(ConflictError):
        vote(database, rater, ballot(page, **{"id": cast.id} | change))
    other = joined(database)
    with pytest.raises(ConflictError):
        vote(database, other, ballot(claim(database, other).assignments[0], id=cast.id))


def test_a_slot_that_was_never_given_to_a_rater_takes_no_vote_of_theirs(
    database: Database,
) -> None:
    published(database)
    first, second = joined(database), joined(database)
    page = claim(database, first).assignments[0]
    for cast in (ballot(page), ballot(page, slot="' OR 1=1 --"), ballot(page, slot="א\ud800")):
        with pytest.raises(AccessDenied) as caught:
            vote(database, second, cast)
        assert caught.value.code == "forbidden"
    assert collected(database, STUDY).votes == ()


def test_a_malformed_answer_leaves_the_slot_open(database: Database) -> None:
    published(database)
    rater = joined(database)
    page = claim(database, rater).assignments[0]
    with pytest.raises(BallotError):
        vote(database, rater, ballot(page, "third"))
    assert claim(database, rater).assignments[0].slot == page.slot


def test_nulls_and_halves_of_pairs_in_a_note_are_stored_as_signs(database: Database) -> None:
    published(database)
    rater = joined(database)
    cast = ballot(claim(database, rater).assignments[0], note="א\0ב\ud800<script>\u202e")
    vote(database, rater, cast)
    assert vote(database, rater, cast).replayed
    assert history(database, rater)[0].note == "א␀ב\ufffd<script>\u202e"


def test_nulls_and_halves_of_pairs_in_an_answer_are_published_as_signs(
    database: Database, tmp_path: Path
) -> None:
    for place, name in enumerate(MODELS):
        row = {"item": "i\0", "source": "מקור\0", "answer": f"א\0ב\ud800{place}"}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    models = {name: Source(answers=tmp_path / f"{name}.jsonl") for name in MODELS}
    study = made_study(models=models, checks=None, plan={"votes_each": 1, "repeats": 0})
    publish(database, study, read_material(study))
    (page,) = claim(database, joined(database)).assignments
    assert page.source == "מקור␀"
    assert {answer[:4] for answer in page.answers} == {"א␀ב\ufffd"}


def test_a_correction_is_a_new_row_and_the_newest_counts(database: Database) -> None:
    published(database)
    rater = joined(database)
    page = claim(database, rater).assignments[0]
    vote(database, rater, ballot(page, "first"))
    assert vote(database, rater, ballot(page, "tie")).revision == 2
    found = collected(database, STUDY)
    assert [v.answer["outcome"] for v in found.votes] == ["tie"]
    assert (found.corrections, found.answered) == (1, 1)
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(schema.votes)).scalar_one() == 2


def test_undo_gives_the_page_back_and_can_be_sent_twice(database: Database) -> None:
    published(database)
    rater = joined(database)
    pages = claim(database, rater, ahead=2).assignments
    for page in pages:
        vote(database, rater, ballot(page))
    token = new_id()
    back = undo(database, rater, id=token)
    assert back is not None and back.slot == pages[1].slot
    assert undo(database, rater, id=token) == back
    assert [past.assignment.slot for past in history(database, rater)] == [pages[0].slot]
    assert claim(database, rater).assignments[0].slot == pages[1].slot
    vote(database, rater, ballot(back, "both_bad"))
    assert history(database, rater)[0].answer == {"outcome": "both_bad"}
    assert history(database, rater)[0].revision == 3


def test_undo_goes_back_step_by_step_until_nothing_is_left(database: Database) -> None:
    published(database)
    rater = joined(database)
    pages = claim(database, rater, ahead=2).assignments
    for page in pages:
        vote(database, rater, ballot(page))
    undone = [undo(database, rater, id=new_id()) for _ in range(3)]
    assert [page and page.slot for page in undone] == [pages[1].slot, pages[0].slot, None]


def test_the_id_of_a_vote_does_not_undo(database: Database) -> None:
    published(database)
    rater = joined(database)
    cast = ballot(claim(database, rater).assignments[0])
    vote(database, rater, cast)
    with pytest.raises(ConflictError):
        undo(database, rater, id=cast.id)


def test_a_late_vote_for_a_slot_that_went_to_another_is_kept_and_excluded(
    database: Database, clock: Clock
) -> None:
    published(database, plan={"raters": 1, "overlap": 1, "repeats": 0})
    first, second = joined(database), joined(database)
    page = claim(database, first).assignments[0]
    clock.now += 25 * HOUR
    vote(database, second, ballot(claim(database, second).assignments[0]))
    late = ballot(page, "second")
    receipt = vote(database, first, late)
    assert (receipt.counted, receipt.reason) == (False, "slot_taken")
    assert vote(database, first, late).reason == "slot_taken"
    found = collected(database, STUDY)
    assert [v.excluded for v in found.votes] == [(), ("slot_taken",)]
    assert len(found.counted()) == len(found.every()) == 1


def test_a_late_vote_for_a_slot_that_nobody_took_counts(database: Database, clock: Clock) -> None:
    published(database)
    rater = joined(database)
    page = claim(database, rater).assignments[0]
    clock.now += 25 * HOUR
    release_expired(database, STUDY)
    assert vote(database, rater, ballot(page)).counted
    assert collected(database, STUDY).answered == 1


def test_votes_after_the_close_are_kept_and_do_not_replace_earlier_ones(
    database: Database,
) -> None:
    published(database)
    rater = joined(database)
    pages = claim(database, rater, ahead=2).assignments
    vote(database, rater, ballot(pages[0], "first"))
    close_study(database, STUDY)
    assert claim(database, rater).status == "closed"
    for page in pages:
        receipt = vote(database, rater, ballot(page, "second"))
        assert (receipt.counted, receipt.reason) == (False, "after_close")
    found = collected(database, STUDY)
    assert [(v.shown_answer["outcome"], v.excluded) for v in found.votes] == [
        ("first", ()),
        ("second", ("after_close",)),
    ]
    with pytest.raises(AccessDenied):
        undo(database, rater, id=new_id())
    reopen_study(database, STUDY)
    assert claim(database, rater).status == "work"


def test_a_history_is_paged_and_any_vote_is_found_by_its_slot(database: Database) -> None:
    published(database)
    rater, other = joined(database), joined(database)
    vote_all(database, rater)
    all_of_them = history(database, rater)
    assert len(all_of_them) == votes_standing(database, rater) == 5
    paged = [history(database, rater, limit=2, skip=skip) for skip in (0, 2, 4, 6)]
    assert [len(part) for part in paged] == [2, 2, 1, 0]
    assert sum(paged, ()) == all_of_them
    for past in all_of_them:
        assert own_vote(database, rater, past.assignment.slot) == past
        assert own_vote(database, other, past.assignment.slot) is None
    assert own_vote(database, rater, "no\0slot") is None


@pytest.mark.parametrize("kind", ["likert", "spans", "review", "pairwise_dimensions"])
def test_every_type_of_study_takes_its_answers(database: Database, kind: str) -> None:
    answers: dict[str, dict[str, Any]] = {
        "likert": {"scores": {"fluent": 4, "faithful": None}},
        "spans": {"spans": [{"start": 0, "end": 5}]},
        "review": {"verdict": "fix", "text": "תיקון"},
        "pairwise_dimensions": {
            "outcome": "first",
            "dimensions": {"fluent": "second", "faithful": "tie"},
        },
    }
    published(database, type=kind)
    rater = joined(database)
    page = claim(database, rater).assignments[0]
    assert len(page.answers) == (2 if kind == "pairwise_dimensions" else 1)
    vote(database, rater, ballot(page, answer=answers[kind]))
    assert history(database, rater)[0].answer == answers[kind]


# ----------------------------------------------------------------------------------- concurrency


def test_many_raters_at_once_lose_no_vote_and_exceed_no_quota(database: Database) -> None:
    published(database, items=30, plan={"raters": 6, "votes_each": 5, "overlap": 3})
    raters = [joined(database) for _ in range(6)]

    def work(rater: int) -> int:
        chance = random.Random(rater)
        done = 0
        while pages := claim(database, rater, ahead=chance.randint(1, 3)).assignments:
            cast = ballot(pages[0], chance.choice(["first", "second", "tie"]))
            vote(database, rater, cast)
            if chance.random() < 0.3:
                assert vote(database, rater, cast).replayed
            done += 1
        return done

    with ThreadPoolExecutor(6) as pool:
        acknowledged = sum(pool.map(work, raters))
    found = collected(database, STUDY)
    assert acknowledged == len(found.votes) == found.answered
    assert set(slot_counts(database).values()) == {1}
    votes = Counter(v.task.id for v in found.counted())
    assert all(votes[task.id] <= task.planned for task in found.tasks)
    assert set(Counter((v.rater, v.task.id, v.kind) for v in found.votes).values()) == {1}


def test_two_tabs_of_one_rater_share_one_quota(database: Database) -> None:
    published(database, items=30, plan={"raters": 2, "votes_each": 6, "overlap": 2})
    rater = joined(database)

    def tab(_: int) -> list[str]:
        return [page.slot for page in claim(database, rater, ahead=4).assignments]

    with ThreadPoolExecutor(4) as pool:
        tabs = list(pool.map(tab, range(8)))
    assert len({slot for slots in tabs for slot in slots}) == 4
    assert collected(database, STUDY).leased == 4


def test_one_vote_sent_many_times_at_once_is_stored_once(database: Database) -> None:
    published(database)
    rater = joined(database)
    cast = ballot(claim(database, rater).assignments[0])
    with ThreadPoolExecutor(4) as pool:
        receipts = list(pool.map(lambda _: vote(database, rater, cast), range(8)))
    assert sorted(receipt.replayed for receipt in receipts) == [False] + [True] * 7


# --------------------------------------------------------------------------------- adjudication


def differing(database: Database) -> int:
    """Let raters differ on all that they share; return the number of such questions."""
    for number in range(3):
        rater = joined(database)
        for _ in range(9):
            pages = claim(database, rater).assignments
            if pages:
                vote(database, rater, ballot(pages[0], ("tie", "both_bad", "both_good")[number]))
    return len(disputed(collected(database, STUDY)))


def test_an_adjudicator_settles_what_raters_differ_on(database: Database) -> None:
    published(database)
    count = differing(database)
    assert count > 0
    judge = joined(database, role="adjudicator")
    for left in range(count, 0, -1):
        claimed = claim_disputed(database, judge)
        assert claimed.status == "work"
        assert claimed.progress.total - claimed.progress.answered == left
        assert claim_disputed(database, judge).assignments[0].slot == claimed.assignments[0].slot
        vote(database, judge, ballot(claimed.assignments[0], "tie"))
    assert claim_disputed(database, judge).status == "finished"
    found = collected(database, STUDY)
    assert len(found.counted("adjudication")) == count
    assert disputed(found) == ()


def test_two_adjudicators_get_different_questions(database: Database) -> None:
    published(database, items=30, plan={"overlap_share": 1.0})
    assert differing(database) >= 2
    judges = [joined(database, role="adjudicator") for _ in range(2)]
    pages = [claim_disputed(database, judge).assignments[0] for judge in judges]
    assert pages[0].source != pages[1].source or pages[0].answers != pages[1].answers


def test_a_question_that_went_to_another_adjudicator_is_no_longer_the_first_ones(
    database: Database, clock: Clock
) -> None:
    published(database)
    assert differing(database) > 0
    late, prompt = (joined(database, role="adjudicator") for _ in range(2))
    (page,) = claim_disputed(database, late).assignments
    clock.now += HOUR
    (other,) = claim_disputed(database, prompt).assignments
    assert (other.source, other.answers) == (page.source, page.answers)
    for answered in (False, True):
        if answered:
            assert vote(database, prompt, ballot(other, "tie")).counted
        held = claim_disputed(database, late).assignments
        assert page.slot not in {one.slot for one in held}
        receipt = vote(database, late, ballot(page, "both_bad"))
        assert (receipt.counted, receipt.reason) == (False, "slot_taken")
    (settled,) = collected(database, STUDY).counted("adjudication")
    assert settled.answer == {"outcome": "tie"}
    assert vote(database, prompt, ballot(other, "both_good")).counted, "a correction"


def test_of_two_adjudicators_who_hold_one_question_the_first_to_answer_counts(
    database: Database, clock: Clock
) -> None:
    published(database)
    assert differing(database) > 0
    judges = [joined(database, role="adjudicator") for _ in range(2)]
    pages = []
    for judge in judges:
        pages += claim_disputed(database, judge).assignments
        clock.now += HOUR
    with database.begin() as connection:  # as where both asked at one moment
        connection.execute(
            update(schema.slots)
            .where(schema.slots.c.kind == "adjudication")
            .values(leased_until=clock.now + HOUR)
        )
    receipts = [
        vote(database, judge, ballot(page, "tie"))
        for judge, page in zip(judges, pages, strict=True)
    ]
    assert [receipt.reason for receipt in receipts] == [None, "slot_taken"]


def test_a_late_answer_to_a_question_that_no_other_adjudicator_took_counts(
    database: Database, clock: Clock
) -> None:
    published(database)
    assert differing(database) > 0
    judge = joined(database, role="adjudicator")
    (page,) = claim_disputed(database, judge).assignments
    clock.now += HOUR
    assert [one.slot for one in claim_disputed(database, judge).assignments] == [page.slot]
    clock.now += HOUR
    assert vote(database, judge, ballot(page, "tie")).counted


def test_a_rater_is_no_adjudicator(database: Database) -> None:
    published(database)
    with pytest.raises(AccessDenied):
        claim_disputed(database, joined(database))
