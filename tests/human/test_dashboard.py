"""The owner's pages: numbers without names until the end, quality, links, exports."""

import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from fastapi import FastAPI
from sqlalchemy import select

from hebench.human import dashboard as module
from hebench.human import schema
from hebench.human.access import forget
from hebench.human.blinding import close_study, reopen_study, reveal
from hebench.human.collected import Collected, collected
from hebench.human.database import Database
from hebench.human.publish import study_state
from hebench.human.quality import exclude, exclusions, lift
from hebench.human.store import claim, undo, vote
from tests.human.made_study import MODELS, Clock, ballot, joined, new_id, published, vote_all
from tests.human.web import ON_SQLITE, Guest, app_for, guest

pytestmark = ON_SQLITE

NAMES = re.compile(r"\b(?:aleph|bet|gimel)\b")


@pytest.fixture
def app(database: Database) -> FastAPI:
    published(database, plan={"gold": 1, "attention": 1, "overlap_share": 1.0, "overlap": 3})
    return app_for(database)


@pytest.fixture
def owner(database: Database, app: FastAPI) -> Guest:
    """The owner of a study in which two raters have answered."""
    for outcome in ("first", "tie"):
        vote_all(database, joined(database), outcome)
    return guest(database, app, role="owner")


def test_the_dashboard_masks_names_until_the_study_closes(database: Database, owner: Guest) -> None:
    owner.get("/owner")
    assert "מודל 1" in owner.text() and not NAMES.search(owner.page)
    assert owner.submit("/owner/reveal").status_code == 400, "a reason is asked for"
    assert not NAMES.search(owner.page)
    owner.get("/owner")
    owner.submit("/owner/reveal", why="<b>נראה שבור</b>")
    assert all(name in owner.page for name in MODELS)
    votes = len(collected(database, "summaries-1").counted())
    for _ in range(2):
        text = owner.text()
        assert "השמות הוצגו בעמוד הזה" in text and "נראה שבור" in text and "<b>נר" not in owner.page
        assert re.search(rf"UTC {votes} השמות", text), "the row says after how many votes"
        owner.get("/owner")
    assert not NAMES.search(owner.page), "showing them was for one page"
    owner.submit("/owner/state", state="close")
    assert study_state(database, "summaries-1").state == "closed"
    assert all(name in owner.page for name in MODELS)
    owner.submit("/owner/state", state="reopen")
    assert not NAMES.search(owner.page)
    assert "המחקר נפתח מחדש אחרי סגירה" in owner.text()


def test_where_no_number_orders_models_their_masks_do_and_not_the_alphabet(
    database: Database,
) -> None:
    published(database, plan={"overlap_share": 1.0, "overlap": 3})
    vote_all(database, joined(database), "tie")
    for secret in range(6):
        board = module.dashboard(database, "summaries-1", key=bytes([secret]), named=False)
        pairs = board.results.coverage.pairs
        labels = [[board.label(model) for model in pair.models] for pair in pairs]
        assert labels == [[1, 2], [1, 3], [2, 3]]
        assert board.results.ranking
        assert [board.label(row.model) for row in board.results.ranking.rows] == [1, 2, 3]


def test_the_page_shows_the_numbers_of_the_results(
    database: Database, app: FastAPI, owner: Guest
) -> None:
    owner.get("/owner")
    found = module.dashboard(database, "summaries-1", key=app.state.site.key, named=False)
    text = owner.text()
    assert found.results.ranking
    for row in found.results.ranking.rows:
        assert f"{100 * row.win_rate:.1f}" in text
    counts = found.results.counts
    assert f"הצבעות שנספרות {counts.votes}" in text and counts.votes > 4
    for rater in found.results.raters:
        assert rater.rater in text
    assert f"ממתינים להכרעה: {found.disputed}" in text and found.disputed > 0


@pytest.mark.parametrize(
    ("kind", "answers"),
    [
        ("pairwise", [{"outcome": "first"}, {"outcome": "tie"}]),
        (
            "pairwise_dimensions",
            [{"outcome": "tie", "dimensions": {"fluent": "first", "faithful": "tie"}}],
        ),
        ("likert", [{"scores": {"fluent": 4, "faithful": None}}]),
        ("spans", [{"spans": []}, {"spans": [{"start": 0, "end": 3}]}, {"cannot_judge": True}]),
        ("review", [{"verdict": "accept"}, {"verdict": "reject", "reason": "שגוי"}]),
    ],
)
def test_every_type_has_a_dashboard_with_and_without_votes(
    database: Database, kind: str, answers: list[dict[str, object]]
) -> None:
    published(database, type=kind, checks=None)
    reader = guest(database, app_for(database), role="owner")
    assert reader.get("/owner").status_code == 200
    for number in range(2):
        rater = joined(database)
        for turn in range(3):
            page = claim(database, rater).assignments[0]
            answer = answers[(turn + number) % len(answers)]
            vote(database, rater, ballot(page, answer=answer))
    for language in ("en", "he"):
        assert reader.get(f"/language/{language}?back=/owner").status_code == 200
        assert not NAMES.search(reader.page)
        assert reader.text().count("r-") >= 2


def test_rules_exclude_and_the_owner_lifts_and_excludes(database: Database, owner: Guest) -> None:
    fast = joined(database)
    for _ in range(4):
        page = claim(database, fast).assignments[0]
        vote(database, fast, ballot(page, seconds=0.2))
    owner.get("/owner")
    assert owner.submit("/owner/quality").url.path == "/owner"
    found = exclusions(database, "summaries-1")
    assert found and "מהירה מכדי קריאה" in owner.text()
    for one in found:
        owner.submit("/owner/lift", exclusion=str(one.id))
    assert all(one.lifted for one in exclusions(database, "summaries-1"))
    rater = collected(database, "summaries-1").votes[0].rater
    owner.submit("/owner/exclude", rater=rater, detail="<b>לא קרא</b>")
    last = exclusions(database, "summaries-1")[-1]
    assert (last.rater, last.reason, last.vote) == (rater, "owner", None)
    assert "לא קרא" in owner.text() and "<b>לא" not in owner.page
    assert "גם עם ההצבעות שאינן נספרות" in owner.text()


UNMEANT = [
    ("/owner/state", {"state": "burn"}),
    ("/owner/lift", {"exclusion": "x"}),
    ("/owner/lift", {"exclusion": "999999"}),
    ("/owner/exclude", {"rater": "' OR 1=1"}),
    ("/owner/invites", {"role": "admin", "people": "1", "days": "1"}),
    ("/owner/invites", {"role": "rater", "people": "0", "days": "1"}),
    ("/owner/invites", {"role": "rater", "people": "١", "days": "1"}),
    ("/owner/invites/revoke", {"invite": "999999"}),
    ("/owner/invites/revoke", {"invite": "99999999999999999999"}),
]


def test_what_an_owner_cannot_mean_is_refused(owner: Guest) -> None:
    token = dict(owner.form("/owner/quality"))["token"]
    for path, fields in UNMEANT:
        code = owner.post(path, fields | {"token": token}).status_code
        assert 400 <= code < 500, (path, fields)


def test_an_owner_makes_a_link_sees_it_once_and_withdraws_it(app: FastAPI, owner: Guest) -> None:
    owner.get("/owner/invites")
    owner.submit("", to="/owner/invites", role="rater", people="3", days="7")
    link = re.search(r"http://localhost(/rate/[\w-]+)", owner.page)
    assert link
    first = Guest(app)
    first.enter(link[1].removeprefix("/rate/"))
    assert first.get("/work").status_code == 200
    owner.get("/owner/invites")
    assert link[1] not in owner.page and "1/3" in owner.page and "תקף עוד 7 ימים" in owner.text()
    number = re.findall(r'name="invite" value="(\d+)"', owner.page)[-1]
    owner.submit("/owner/invites/revoke", invite=number)
    assert first.get("/work").status_code == 410


def test_the_owners_words_are_asked_for_where_a_rater_is_excluded(owner: Guest) -> None:
    owner.get("/owner")
    rater = dict(owner.form("/owner/exclude"))["rater"]
    asked = re.search(r'<input name="detail" [^>]*required [^>]*>', owner.page)
    assert asked and rater in asked[0]


def test_files_are_those_of_the_command_line_and_of_the_type(
    database: Database,
) -> None:
    published(database, type="review", checks=None)
    rater, owner = joined(database), guest(database, app_for(database), role="owner")
    for seconds in (0.01, 30.0):
        page = claim(database, rater).assignments[0]
        verdict = {"verdict": "accept"}
        vote(database, rater, ballot(page, answer=verdict, seconds=seconds))
    owner.get("/owner")
    owner.submit("/owner/state", state="close")
    assert [one.reason for one in exclusions(database, "summaries-1")] == ["too_fast"]
    files = re.findall(r'href="/owner/export/([^"]+)"', owner.page)
    assert files == ["raw.jsonl", "review.jsonl", "card.md"]
    rows = [json.loads(line) for line in owner.get("/owner/export/review.jsonl").text.splitlines()]
    assert sum(row["votes"]["accept"] for row in rows) == 1


def test_a_file_of_a_study_that_closed_without_its_rules_has_them_applied(
    database: Database, owner: Guest
) -> None:
    fast = joined(database)
    vote(database, fast, ballot(claim(database, fast).assignments[0], seconds=0.01))
    close_study(database, "summaries-1")
    assert exclusions(database, "summaries-1") == ()
    assert "too_fast" in owner.get("/owner/export/votes.jsonl").text


def test_files_are_there_once_the_study_is_closed(database: Database, owner: Guest) -> None:
    owner.get("/owner")
    owner.submit("/owner/state", state="close")
    for one in exclusions(database, "summaries-1"):
        owner.submit("/owner/lift", exclusion=str(one.id))
    links = re.findall(r'href="(/owner/export/[^"]+)"', owner.page)
    assert len(links) == 5
    for link in links:
        found = owner.get(link)
        assert found.status_code == 200, link
        assert found.headers["content-disposition"].startswith("attachment;")
        if link.endswith("jsonl"):
            assert all(isinstance(json.loads(line), dict) for line in found.text.splitlines())
    assert owner.get("/owner/export/other.txt").status_code == 404
    assert owner.get("/owner/export/..%2f..%2fstudy.sqlite").status_code == 404


def test_the_votes_for_the_board_are_named_as_the_board_wants_them(owner: Guest) -> None:
    owner.get("/owner")
    owner.submit("/owner/state", state="close")
    for file, name in (
        ("votes.jsonl", "summaries-1.jsonl"),
        ("raw.jsonl", "summaries-1.raw.jsonl"),
    ):
        found = owner.get(f"/owner/export/{file}").headers["content-disposition"]
        assert found == f'attachment; filename="{name}"'


def test_votes_after_the_end_are_kept_and_said_not_to_count(
    database: Database, app: FastAPI, owner: Guest
) -> None:
    rater = guest(database, app)
    fields = dict([*rater.form("/vote"), ("outcome", "first"), ("id", new_id())])
    owner.get("/owner")
    owner.submit("/owner/state", state="close")
    receipt = rater.post("/vote", fields, headers={"accept": "application/json"}).json()
    assert (receipt["counted"], receipt["reason"]) == (False, "after_close")
    rater.get("/work")
    assert "המחקר הסתיים" in rater.text()


def test_numbers_are_worked_out_again_whenever_something_changed_and_only_then(
    database: Database, clock: Clock, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked: list[int] = []
    real = module.study_results
    monkeypatch.setattr(
        module,
        "study_results",
        lambda found, **more: worked.append(len(found.votes)) or real(found, **more),
    )
    latest, study = module.Latest(), "summaries-1"
    rater, other = joined(database), joined(database)
    pages = claim(database, rater, ahead=2).assignments
    changes: list[Callable[[], object]] = [
        lambda: vote(database, rater, ballot(pages[0])),
        lambda: vote(database, rater, ballot(pages[0], "tie")),
        lambda: undo(database, rater, id=new_id()),
        lambda: vote(database, rater, ballot(pages[1])),
        lambda: vote(database, other, ballot(claim(database, other).assignments[0])),
        lambda: exclude(database, study, rater=name_of(rater), reason="owner", by="r-1"),
        lambda: lift(database, study, exclusions(database, study)[0].id, by="r-1"),
        lambda: reveal(database, study, what="status", why="כך"),
        lambda: setattr(clock, "now", clock.now + 86_400),  # leases run out
        lambda: joined(database),
        lambda: forget(database, other),
        lambda: vote(database, rater, ballot(claim(database, rater).assignments[0])),
        lambda: close_study(database, study),
        lambda: reopen_study(database, study),
    ]

    def name_of(rater: int) -> str:
        with database.read() as connection:
            wanted = schema.raters.c.id == rater
            found = connection.execute(select(schema.raters.c.pseudonym).where(wanted))
            return str(found.scalar_one())

    def same(one: Collected) -> Collected:
        return replace(one, now=0.0, raters=tuple(replace(r, seen=0.0) for r in one.raters))

    latest.numbers(database, study, b"key")
    for number, change in enumerate(changes):
        before = len(worked)
        change()
        for _ in range(2):
            found, results = latest.numbers(database, study, b"key")
        assert len(worked) == before + 1, f"change {number}"
        fresh = collected(database, study)
        assert same(found) == same(fresh), f"change {number}"
        assert results.counts == real(fresh).counts
