"""The pages without a browser: a whole study by plain forms, every type, and nothing unblinded."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI

from hebench.human.access import invite, invites
from hebench.human.collected import collected
from hebench.human.database import Database
from hebench.human.publish import publish
from tests.human.made_study import MODELS, Clock, made_material, made_study, new_id, published
from tests.human.web import ENGINES, Guest, app_for, guest

pytestmark = ENGINES

# What a form of each type sends, and the answer that it is.
CHOSEN: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "pairwise": ({"outcome": "tie"}, {"outcome": "tie"}),
    "pairwise_dimensions": (
        {"outcome": "both_bad", "dimension__fluent": "tie", "dimension__faithful": "cannot_judge"},
        {"outcome": "both_bad", "dimensions": {"fluent": "tie", "faithful": "cannot_judge"}},
    ),
    "likert": (
        {"score__fluent": "4", "score__faithful": "none"},
        {"scores": {"fluent": 4, "faithful": None}},
    ),
    "spans": ({"span": "0-5"}, {"spans": [{"start": 0, "end": 5}]}),
    "review": (
        {"verdict": "fix", "text": "שורה\r\nתקינה", "reason": " "},
        {"verdict": "fix", "text": "שורה\nתקינה"},
    ),
}


@pytest.fixture
def app(database: Database) -> FastAPI:
    published(database, plan={"gold": 1, "attention": 1})
    return app_for(database)


def vote(rater: Guest, **chosen: str) -> Any:
    return rater.submit("/vote", **(chosen or {"outcome": "first"}))


@pytest.mark.parametrize("kind", CHOSEN)
def test_a_form_of_each_type_becomes_its_answer(database: Database, kind: str) -> None:
    published(database, type=kind, checks=None)
    rater = guest(database, app_for(database))
    chosen, answer = CHOSEN[kind]
    assert vote(rater, **chosen).url.path == "/work"
    (found,) = collected(database, "summaries-1").votes
    assert found.answer == answer
    rater.get("/history")
    assert "תיקון" in rater.text()
    slot = re.search(r"/history/([\w-]+)", rater.page)
    assert slot
    rater.get(slot[0])
    assert "aria-current=" in rater.page or " checked" in rater.page, "the given answer is shown"


def test_the_first_vote_is_two_clicks_away_from_the_link(database: Database, app: FastAPI) -> None:
    rater = Guest(app)
    token = invite(database, "summaries-1").token
    rater.get(f"/rate/{token}")
    rater.submit("", to=f"/rate/{token}")  # one
    vote(rater, outcome="first")  # two
    assert len(collected(database, "summaries-1").votes) == 1


def test_a_rater_votes_to_the_end_corrects_takes_back_and_leaves(
    database: Database, app: FastAPI, clock: Clock
) -> None:
    rater = guest(database, app)
    count = 0
    while 'action="/vote"' in rater.page:
        clock.now += 40
        assert f"{count} מתוך" in rater.text()
        vote(rater, outcome="first")
        count += 1
    assert "סיימתם" in rater.text() and count > 4
    assert {v.seconds for v in collected(database, "summaries-1").votes} == {40.0}

    rater.submit("/undo")
    assert 'action="/vote"' in rater.page, "the page that was taken back is there again"
    assert len(collected(database, "summaries-1").votes) == count - 1
    vote(rater, outcome="second")

    rater.get("/history")
    first = re.findall(r"/history/[\w-]+", rater.page)[-1]
    rater.get(first)
    assert re.search(r'value="first"[^>]*aria-current="true"', rater.page)
    assert vote(rater, outcome="both_good").url.path == "/history"
    words = [v.shown_answer["outcome"] for v in collected(database, "summaries-1").votes]
    assert sorted(words) == sorted(["first"] * (count - 2) + ["second", "both_good"])

    rater.get("/data")
    assert rater.submit("/leave").url.path == "/"
    assert rater.get("/work").status_code == 401


def test_every_vote_of_a_long_history_is_listed_in_turn_and_can_be_corrected(
    database: Database, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hebench.human.rating._TOGETHER", 2)
    rater = guest(database, app, language="en")
    for _ in range(5):
        vote(rater, outcome="first")
    rater.get("/history")
    pages = [rater.page]
    while older := re.search(r'href="(/history\?skip=\d+)">Older votes', rater.page):
        rater.get(older[1].replace("&amp;", "&"))
        pages.append(rater.page)
    numbers = [re.findall(r'Correct<span class="visually-hidden"> (\d)', one) for one in pages]
    assert numbers == [["5", "4"], ["3", "2"], ["1"]]
    assert 'start="3"' in pages[1] and "Newer votes" in pages[1] and "Newer" not in pages[0]
    rater.get(re.findall(r"/history/[\w-]+", rater.page)[0])
    assert vote(rater, outcome="tie").url.path == "/history"
    assert collected(database, "summaries-1").corrections == 1
    assert rater.get("/history/" + "x" * 22).status_code == 404
    assert rater.get("/history?skip=-1").status_code == 422
    assert rater.get("/history?skip=900000").status_code == 200


def test_the_same_form_twice_is_one_vote(database: Database, app: FastAPI) -> None:
    rater = guest(database, app)
    fields = dict([*rater.form("/vote"), ("outcome", "tie")])
    for _ in range(3):
        assert rater.post("/vote", fields).status_code == 200
    assert len(collected(database, "summaries-1").votes) == 1
    assert rater.post("/vote", fields | {"outcome": "first"}).status_code == 409


def test_a_script_gets_json_and_pages_ahead(database: Database, app: FastAPI) -> None:
    rater = guest(database, app)
    token = dict(rater.form("/vote"))["token"]
    script = {"accept": "application/json", "x-form-token": token}
    ahead = rater.post("/claim", {"x": ""}, headers=script).json()
    assert ahead["status"] == "work" and len(ahead["pages"]) == 5
    assert all(page["slot"] in page["html"] for page in ahead["pages"])
    held = {"held": [page["slot"] for page in ahead["pages"][:4]]}
    again = rater.post("/claim", held, headers=script).json()["pages"]
    assert ["html" in page for page in again] == [False] * 4 + [True]
    assert token not in json.dumps(ahead), "what is kept in a browser holds no token"
    body = {"slot": ahead["pages"][2]["slot"], "id": new_id(), "seconds": "3.5", "outcome": "tie"}
    receipt = rater.post("/vote", body, headers=script).json()
    assert receipt["counted"] and not receipt["replayed"]
    assert rater.post("/vote", body, headers=script).json()["replayed"]
    undone = rater.post("/undo", {"id": new_id()}, headers=script).json()
    assert undone["page"]["slot"] == body["slot"]
    assert rater.post("/undo", {"id": new_id()}, headers=script).json() == {"page": None}
    bad = rater.post("/vote", body | {"id": new_id(), "outcome": "best"}, headers=script)
    assert bad.status_code == 422 and bad.json()["error"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"outcome": "best"},
        {"outcome": ""},
        {"outcome": "first", "id": "7"},
        {"outcome": "first", "shown": "now"},
        {"outcome": "first", "shown": "nan"},
        {"outcome": "first", "seconds": "-inf"},
        {"outcome": "first", "seconds": "inf"},
        {"outcome": "first", "note": "x" * 1001},
    ],
)
def test_a_broken_form_is_refused_with_words(
    database: Database, app: FastAPI, wrong: dict[str, str]
) -> None:
    rater = guest(database, app)
    assert vote(rater, **wrong).status_code == 422
    assert "חסר משהו בתשובה" in rater.text()
    assert collected(database, "summaries-1").votes == ()


def test_a_preview_of_a_link_uses_up_nothing(database: Database, app: FastAPI) -> None:
    token = invite(database, "summaries-1").token
    for _ in range(3):
        assert Guest(app).get(f"/rate/{token}").status_code == 200
    assert [link.used for link in invites(database, "summaries-1")] == [0]


def test_a_shared_link_leads_back_whoever_came_in_already(database: Database, app: FastAPI) -> None:
    token = invite(database, "summaries-1", people=2).token
    rater = Guest(app)
    rater.enter(token)
    rater.get(f"/rate/{token}")
    assert 'href="/work"' in rater.page
    assert Guest(app).enter(token).url.path == "/work"
    late = Guest(app)
    assert late.enter(token).status_code == 403
    assert "המקומות" in late.text()


def test_who_came_by_a_shared_link_is_told_that_there_is_no_way_back(
    database: Database, app: FastAPI
) -> None:
    for people, told in ((1, "פותחים שוב את קישור ההזמנה"), (2, "אין דרך לחזור אליהן")):
        rater = Guest(app)
        rater.enter(invite(database, "summaries-1", people=people).token)
        assert ("data-shared" in rater.page) == (people > 1)
        rater.get("/data")
        assert told in rater.text()


def test_all_that_is_kept_of_a_rater_is_said(database: Database, app: FastAPI) -> None:
    rater = guest(database, app)
    rater.get("/data")
    for part in ("באיזה קישור הזמנה", "ומתי קיבלתם כל עמוד", "אם הצבעות שלכם אינן נספרות"):
        assert part in rater.text()
    rater.get("/language/en?back=/data")
    for part in ("by which invitation link", "when each page was given", "do not count"):
        assert part in rater.text()


def test_the_first_button_beside_choices_is_none_that_judges(database: Database) -> None:
    published(database, type="pairwise_dimensions", checks=None)
    rater = guest(database, app_for(database))
    first = re.search(r'action="/vote".*?<button ([^>]*)>', rater.page, re.DOTALL)
    assert first and first[1] == 'hidden formmethod="dialog"'


def test_pages_speak_the_language_that_was_chosen(app: FastAPI) -> None:
    reader = Guest(app, language="en-GB,en;q=0.9,he;q=0.5")
    reader.get("/")
    assert '<html lang="en" dir="ltr"' in reader.page
    assert reader.get("/language/he?back=/data").history[0].headers["location"] == "/data"
    reader.get("/")
    assert '<html lang="he" dir="rtl"' in reader.page
    assert reader.get("/language/fr").status_code == 404


@pytest.mark.parametrize(
    "back", ["//evil.example", "https://evil.example/", "/\\evil.example", "/a\r\nX-Evil: 1", ""]
)
def test_a_language_link_leads_to_no_other_site(app: FastAPI, back: str) -> None:
    found = Guest(app).get("/language/he", params={"back": back}, follow_redirects=False)
    assert found.headers["location"] == "/"
    assert "x-evil" not in found.headers


def test_switches_of_the_view_stay(database: Database, app: FastAPI) -> None:
    rater = guest(database, app)
    rater.submit("/view", switch="large")
    rater.submit("/view", switch="plain")
    assert '<html lang="he" dir="rtl" class="large plain">' in rater.page
    rater.submit("/view", switch="large")
    assert 'class="plain">' in rater.page


def test_deleting_my_data_wants_a_yes_and_then_is_thorough(
    database: Database, app: FastAPI
) -> None:
    rater = guest(database, app)
    vote(rater)
    rater.get("/data")
    assert rater.submit("/data/delete").status_code == 422
    assert len(collected(database, "summaries-1").votes) == 1
    rater.submit("/data/delete", sure="yes")
    assert "נמחקה הצבעה אחת" in rater.text()
    assert collected(database, "summaries-1").votes == ()
    assert rater.get("/work").status_code == 401


def test_an_adjudicator_gets_what_raters_differ_on(database: Database) -> None:
    published(database, plan={"overlap_share": 1.0, "overlap": 3, "repeats": 0})
    app = app_for(database)
    for outcome in ("first", "second", "tie"):
        rater = guest(database, app)
        while 'action="/vote"' in rater.page:
            vote(rater, outcome=outcome)
    judge = guest(database, app, role="adjudicator")
    settled = 0
    while 'action="/vote"' in judge.page:
        vote(judge, outcome="first")
        settled += 1
    assert settled >= 4
    kinds = [v.kind for v in collected(database, "summaries-1").votes]
    assert kinds.count("adjudication") == settled


@pytest.mark.parametrize(
    "kind", ["pairwise", *(pytest.param(k, marks=pytest.mark.slow) for k in [*CHOSEN][1:])]
)
def test_no_model_is_named_in_all_that_anyone_is_sent(database: Database, kind: str) -> None:
    """Names that stand nowhere by chance, over a whole run of every page."""
    secret = {name: f"zq{name}xk" for name in MODELS}
    _publish_renamed(database, made_study(type=kind, checks=None), secret)
    app = app_for(database)
    rater = guest(database, app)
    for path in ("/history", "/data", "/nothing", "/work?x=1", "/work"):
        rater.get(path)
    token = dict(rater.form("/vote"))["token"]
    while 'action="/vote"' in rater.page:
        rater.post("/claim", {"token": token}, headers={"accept": "application/json"})
        vote(rater, **CHOSEN[kind][0])
    rater.submit("/undo")
    rater.get("/history")
    rater.get(re.findall(r"/history/[\w-]+", rater.page)[0])
    judge = guest(database, app, role="adjudicator")
    owner = guest(database, app, role="owner")
    owner.get("/owner/invites")
    for file in ("raw.jsonl", "votes.jsonl", "card.md", "evidence.json"):
        assert owner.get(f"/owner/export/{file}").status_code == 409
    everything = "\n".join(rater.received + judge.received + owner.received).lower()
    assert len(everything) > 20_000
    for name in secret.values():
        assert name not in everything, name
    owner.get("/owner")
    owner.submit("/owner/state", state="close")
    assert all(name in owner.page for name in secret.values()), "now they may be known"


def _publish_renamed(database: Database, study: Any, secret: dict[str, str]) -> None:
    material = made_material(single=not study.paired)
    items = tuple(
        replace(
            item,
            answers={
                secret[m]: replace(answer, model=secret[m]) for m, answer in item.answers.items()
            },
        )
        for item in material.items
    )
    models = {secret[name]: source for name, source in study.models.items()}
    publish(database, replace(study, models=models), replace(material, items=items, checks=()))


def test_every_file_of_the_pages_is_there_and_ages_never(app: FastAPI) -> None:
    reader = Guest(app)
    reader.get("/")
    links = re.findall(r'(?:href|src)="(/static/[^"]+)"', reader.page)
    css = next(link for link in links if link.endswith(".css"))
    fonts = re.findall(r'url\("([^"]+)"\)', reader.get(css).text)
    assert len(links) >= 2 and len(fonts) == 2
    for link in (*links, *(css.rpartition("/")[0] + "/" + font for font in fonts)):
        found = reader.get(link)
        assert found.status_code == 200, link
        assert "immutable" in found.headers["cache-control"]


def test_a_first_page_weighs_less_than_sixty_kilobytes(database: Database, app: FastAPI) -> None:
    rater = guest(database, app)
    compressed = {"accept-encoding": "gzip"}
    page = rater.client.get("/work", headers=compressed)
    total = int(page.headers["content-length"])
    css = re.search(r'href="(/static/[^"]+/)human.css"', page.text)
    assert css
    for name in ("human.css", "rate.js", "queue.js", "spans.js", "drafts.js", "icon.svg"):
        total += int(rater.client.get(css[1] + name, headers=compressed).headers["content-length"])
    for name in ("noto-sans-hebrew.woff2", "noto-sans-hebrew-latin.woff2"):
        total += len(rater.client.get(f"{css[1]}fonts/{name}").content)
    assert total < 60_000
