"""Raters and owners as they are: real Chromium, mouse and keys, no connection, hostile answers."""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from hebench.board.build import build_site
from hebench.human.access import invite, invites, revoke
from hebench.human.blinding import reveal
from hebench.human.collected import CollectedVote, collected
from hebench.human.quality import exclusions, lift
from hebench.selection.rules import read_evidence
from tests.board.made import made_board
from tests.human.made_pages import ANSWERS, HOSTILE, Served, served

pytestmark = pytest.mark.slow

LOST = r"ERR_INTERNET_DISCONNECTED|the server responded with a status of (401|403|410|429|500|503)"
KINDS = ("pairwise", "pairwise_dimensions", "likert", "spans", "review")
SIZES = {"phone": {"width": 360, "height": 740}, "desktop": {"width": 1280, "height": 900}}


@pytest.fixture(scope="module", params=KINDS)
def each(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A server of each type of study."""
    with served(tmp_path_factory.mktemp("each"), request.param) as found:
        yield found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Served]:
    """A server of a pairwise study of one's own."""
    with served(tmp_path) as found:
        yield found


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A fresh profile of a Hebrew reader."""
    found = browser.new_context(viewport=SIZES["desktop"], locale="he-IL")  # type: ignore[arg-type]
    yield found
    found.close()


@pytest.fixture
def tab(context: BrowserContext) -> Iterator[Page]:
    """A page that fails its test on a script error or a breach of the policy."""
    found = context.new_page()
    errors: list[str] = []
    found.on("pageerror", lambda error: errors.append(str(error)))
    found.on(
        "console", lambda message: errors.append(message.text) if message.type == "error" else 0
    )
    yield found
    assert [text for text in errors if not re.search(LOST, text)] == []


def follow(tab: Page, link: Any) -> None:
    """Click what leads to another page, and wait for that page."""
    with tab.expect_navigation():
        link.click()


def enter(tab: Page, site: Served, role: str = "rater") -> None:
    tab.goto(site.link(role))
    follow(tab, tab.locator("main form button").last)
    tab.wait_for_load_state("networkidle")


def votes(site: Served) -> tuple[CollectedVote, ...]:
    return collected(site.database, site.study.name).votes


def wait_for_votes(tab: Page, site: Served, count: int) -> tuple[CollectedVote, ...]:
    for _ in range(200):
        if len(found := votes(site)) == count:
            return found
        tab.wait_for_timeout(50)
    raise AssertionError(f"expected {count} votes, found {len(votes(site))}")


def progress(tab: Page) -> str:
    return re.sub(r"[^\d ]+", "", tab.locator("#progress-text").inner_text())


def slot(tab: Page) -> str:
    found = tab.locator("[data-slot]").get_attribute("data-slot")
    assert found
    return found


def wait_for_answers(tab: Page, asked: list[str], answered: list[str]) -> None:
    """Until nothing that the page asked for is on its way."""
    for _ in range(100):
        tab.wait_for_timeout(100)
        if len(asked) == len(answered):
            return
    raise AssertionError(f"asked for {len(asked)}, answered {len(answered)}")


def wait_for_another_page(tab: Page, left: str) -> None:
    """A page of another slot, or the message that there is none."""
    tab.wait_for_function(
        "left => document.querySelector('[data-slot], [data-status]')?.dataset.slot !== left",
        arg=left,
    )
    tab.locator("[data-slot], [data-status]").wait_for()


def vote(tab: Page, key: str) -> str:
    """Answer the page with a key, wait for the next; the slot that was answered."""
    left = slot(tab)
    tab.keyboard.press(key)
    wait_for_another_page(tab, left)
    return left


# ------------------------------------------------------------------------------- a whole study


def test_a_whole_study_in_hebrew_with_the_connection_lost_in_the_middle(
    site: Served, tab: Page, context: BrowserContext
) -> None:
    asked: list[str] = []
    answered: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("requestfinished", lambda request: answered.append(request.url))
    enter(tab, site)
    right = tab.locator(".card:has(#answer-first)").bounding_box()
    left = tab.locator(".card:has(#answer-second)").bounding_box()
    assert right and left and right["x"] > left["x"], "in Hebrew the first card is the right one"

    tab.locator("button.first").click()
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("Digit3")
    found = wait_for_votes(tab, site, 3)
    assert [v.shown_answer["outcome"] for v in found] == ["first", "second", "tie"]
    expect(tab.locator("#notice")).to_be_hidden()

    wait_for_answers(tab, asked, answered)  # among them the pages to come
    context.set_offline(True)
    for key in ("ArrowRight", "Digit4", "Digit5"):
        vote(tab, key)
    expect(tab.locator("#notice")).to_contain_text("הצבעות ממתינות לחיבור")
    assert progress(tab).startswith("6"), "what waits counts as done"
    assert len(votes(site)) == 3
    tab.keyboard.press("KeyZ")  # taken back before it was ever sent
    expect(tab.locator("#notice")).to_contain_text("שתי הצבעות")
    tab.keyboard.press("Digit6")
    context.set_offline(False)
    found = wait_for_votes(tab, site, 6)
    given = [v.shown_answer["outcome"] for v in found]
    assert given[3:] == ["first", "both_good", "cannot_judge"]
    expect(tab.locator("#notice")).to_be_hidden()

    last = slot(tab)
    tab.get_by_role("button", name="ביטול ההצבעה האחרונה").click()
    wait_for_votes(tab, site, 5)
    expect(tab.locator("[data-slot]")).not_to_have_attribute("data-slot", last)
    tab.keyboard.press("Digit2")
    found = wait_for_votes(tab, site, 6)
    assert found[-1].shown_answer["outcome"] == "second"
    expect(tab.locator("[data-slot]")).to_have_attribute("data-slot", last)

    while tab.locator("[data-slot]").count():
        vote(tab, "Digit1")
    expect(tab.locator("[data-status]")).to_contain_text("סיימתם")
    total = len(votes(site))
    assert progress(tab) == f"{total}  {total}"
    assert all(0 < v.seconds < 60 for v in votes(site))

    tab.goto(site.address + "/history")
    follow(tab, tab.locator(".votes a").first)
    tab.locator("button.both_bad").click()
    tab.wait_for_url("**/history")
    assert len(votes(site)) == total
    assert {url.split("/")[2] for url in asked} == {site.address.split("/")[2]}
    assert not any(name in url for name in site.study.models for url in asked)


def test_a_connection_that_returns_while_a_request_still_fails_is_used_at_once(
    site: Served, tab: Page
) -> None:
    enter(tab, site)
    tab.evaluate(
        """() => {
            const send = fetch;
            window.setTimeout = () => 0;  // no second try by the clock
            window.fetch = (path, ...rest) => {
                if (path !== "/vote" || window.lose) return send(path, ...rest);
                return new Promise((_, fail) => (window.lose = () => fail(new TypeError("lost"))));
            };
        }"""
    )
    tab.keyboard.press("Digit1")
    tab.wait_for_function("() => window.lose")
    tab.evaluate("dispatchEvent(new Event('online')), lose()")
    wait_for_votes(tab, site, 1)


def test_what_was_done_though_its_answer_broke_off_is_done_once(site: Served, tab: Page) -> None:
    enter(tab, site)
    tab.evaluate(
        """() => {
            const send = fetch, broken = new Set();
            window.setTimeout = () => 0;  // no second try by the clock
            window.fetch = async (path, ...rest) => {
                const answer = await send(path, ...rest);
                if (!broken.has(path)) answer.json = () => Promise.reject(new TypeError("lost"));
                broken.add(path);
                return answer;
            };
        }"""
    )
    tab.keyboard.press("Digit1")
    expect(tab.locator("#notice")).to_contain_text("הצבעה אחת ממתינה")
    assert len(votes(site)) == 1
    tab.evaluate("dispatchEvent(new Event('online'))")
    expect(tab.locator("#notice")).to_be_hidden()
    last = vote(tab, "Digit2")
    wait_for_votes(tab, site, 2)
    tab.keyboard.press("KeyZ")
    expect(tab.locator("#notice")).to_contain_text("דרוש חיבור")
    wait_for_votes(tab, site, 1)
    tab.keyboard.press("KeyZ")
    expect(tab.locator("[data-slot]")).to_have_attribute("data-slot", last)
    assert len(votes(site)) == 1, "the vote before it stands"


def test_a_page_that_was_taken_back_stays_while_others_are_asked_for(
    site: Served, tab: Page
) -> None:
    enter(tab, site)
    tab.evaluate(
        """() => {
            const send = fetch, held = new Promise((go) => (window.release = () => go()));
            window.fetch = async (path, ...rest) => {
                if (path === "/claim") await held;
                return send(path, ...rest);
            };
        }"""
    )
    while not tab.locator("[aria-busy]").count():
        tab.keyboard.press("Digit1")
        tab.wait_for_timeout(50)
    tab.keyboard.press("KeyZ")
    tab.locator("[data-slot]").wait_for()
    taken = slot(tab)
    tab.evaluate("release()")
    expect(tab.locator("#item")).not_to_have_attribute("aria-busy", "true")
    tab.wait_for_timeout(200)
    assert slot(tab) == taken


def test_a_double_click_is_one_vote(tmp_path: Path, tab: Page) -> None:
    with served(tmp_path, texts=("קצר",) * 3) as site:  # pages that look alike
        enter(tab, site)
        tab.locator("button.first").dblclick()
        wait_for_votes(tab, site, 1)
        tab.wait_for_timeout(200)
        assert len(votes(site)) == 1
        vote(tab, "Digit1")
        wait_for_votes(tab, site, 2)


def test_the_owner_watches_closes_and_downloads(
    site: Served, tab: Page, context: BrowserContext
) -> None:
    for count in (3, 6):
        context.clear_cookies()
        enter(tab, site)
        for key in ("Digit1", "Digit2", "Digit3"):
            vote(tab, key)
        wait_for_votes(tab, site, count)
    context.clear_cookies()
    enter(tab, site, "owner")
    assert "מודל 1" in tab.locator("main").inner_text()
    follow(tab, tab.get_by_role("button", name="סגירת המחקר"))
    with tab.expect_download() as waiting:
        tab.get_by_role("link", name="הצבעות ללוח התוצאות").click()
    assert waiting.value.suggested_filename == "summaries-1.jsonl", "as the board wants it"
    lines = Path(waiting.value.path()).read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0])["study"] == "summaries-1"
    assert all(json.loads(line)["outcome"] for line in lines[1:]) and len(lines) > 1
    assert all(name in tab.locator("main").inner_text() for name in site.study.models)


def test_votes_end_as_a_ranking_on_the_board_pairs_for_training_and_evidence(
    tmp_path: Path, tab: Page, context: BrowserContext
) -> None:
    with served(tmp_path, models=("model-a", "model-b", "model-c")) as site:
        for _ in range(2):
            context.clear_cookies()
            enter(tab, site)
            while tab.locator("[data-slot]").count():
                cards = tab.locator(".pair .card").all_inner_texts()
                best = [place for place, text in enumerate(cards) if ANSWERS[0][:20] in text]
                vote(tab, f"Digit{best[0] + 1}" if best else "Digit3")
            expect(tab.locator("#notice")).to_be_hidden()
        context.clear_cookies()
        enter(tab, site, "owner")
        follow(tab, tab.get_by_role("button", name="סגירת המחקר"))
        for one in exclusions(site.database, site.study.name):  # no one reads so fast
            lift(site.database, site.study.name, one.id, by="owner")
        board = made_board(tmp_path / "leaderboard")
        (board / "votes").mkdir()
        folders = {"votes": board / "votes", "preferences": tmp_path, "evidence": tmp_path}
        files = {}
        for name, folder in folders.items():
            with tab.expect_download() as waiting:
                tab.locator(f"a[href^='/owner/export/{name}']").click()
            files[name] = folder / waiting.value.suggested_filename
            waiting.value.save_as(files[name])
    tab.goto((build_site(board, tmp_path / "site") / "he" / "votes.html").as_uri())
    rows = tab.locator("table.forest").first.locator("tbody tr").all_inner_texts()
    assert len(rows) == 3 and "Model A" in rows[0], rows
    assert read_evidence(files["evidence"])["model-a"] == 1
    pairs = [json.loads(line) for line in files["preferences"].read_text("utf-8").splitlines()]
    assert pairs and {pair["chosen_model"] for pair in pairs} == {"model-a"}


# ---------------------------------------------------------------------------- nothing is lost


def test_votes_of_a_tab_that_was_closed_are_sent_on_the_next_visit(
    site: Served, context: BrowserContext
) -> None:
    first = context.new_page()
    enter(first, site)
    context.set_offline(True)
    left = [vote(first, key) for key in ("Digit1", "Digit2")]
    expect(first.locator("#notice")).to_be_visible()
    first.close()
    assert votes(site) == ()
    context.set_offline(False)
    second = context.new_page()
    second.goto(site.address + "/work")
    found = wait_for_votes(second, site, 2)
    assert [v.shown_answer["outcome"] for v in found] == ["first", "second"]
    for one in left:  # the page that came with the visit is one of those
        wait_for_another_page(second, one)
    assert slot(second) not in left
    vote(second, "Digit3")
    assert len(wait_for_votes(second, site, 3)) == 3


def test_raters_who_run_out_of_pages_offline_go_on_when_the_connection_is_back(
    site: Served, tab: Page, context: BrowserContext
) -> None:
    enter(tab, site)
    context.set_offline(True)
    for _ in range(8):
        tab.keyboard.press("Digit1")
        tab.wait_for_timeout(50)
    expect(tab.locator("#item")).to_contain_text("אין חיבור")
    context.set_offline(False)
    expect(tab.locator("[data-slot]")).to_have_count(1)
    assert len(votes(site)) >= 5


def test_an_error_of_the_server_keeps_the_vote_and_sends_it_again(site: Served, tab: Page) -> None:
    codes = itertools.cycle([500, 503])
    answered: list[int] = []
    mended: list[bool] = []

    def fail(route: Any) -> None:  # until the rater has been told: the page tries by itself, too
        if mended:
            route.continue_()
        else:
            answered.append(next(codes))
            route.fulfill(status=answered[-1], body="")

    tab.route("**/vote", fail)  # before the page is there: one that is may send some past this
    enter(tab, site)
    tab.keyboard.press("Digit1")
    for attempts in (1, 2):
        expect(tab.locator("#notice")).to_contain_text("הצבעה אחת ממתינה")
        while len(answered) <= attempts:
            tab.evaluate("dispatchEvent(new Event('online'))")
            tab.wait_for_timeout(100)
    assert votes(site) == ()
    mended.append(True)
    tab.evaluate("dispatchEvent(new Event('online'))")
    wait_for_votes(tab, site, 1)
    expect(tab.locator("#notice")).to_be_hidden()


def test_a_vote_that_arrived_without_an_answer_is_taken_back_on_the_server_too(
    site: Served, tab: Page
) -> None:
    def lose(route: Route) -> None:
        route.fetch()
        route.abort("internetdisconnected")

    enter(tab, site)
    first = slot(tab)
    tab.route("**/vote", lose, times=1)
    tab.keyboard.press("Digit1")
    expect(tab.locator("#notice")).to_contain_text("הצבעה אחת ממתינה")
    wait_for_votes(tab, site, 1)
    tab.keyboard.press("KeyZ")
    expect(tab.locator("[data-slot]")).to_have_attribute("data-slot", first)
    expect(tab.locator("#notice")).to_be_hidden()
    tab.evaluate("dispatchEvent(new Event('online'))")
    wait_for_votes(tab, site, 0)
    tab.keyboard.press("Digit2")
    (found,) = wait_for_votes(tab, site, 1)
    assert found.shown_answer["outcome"] == "second"
    assert slot(tab) != first


@pytest.mark.parametrize("status", [429, 500])
def test_a_taking_back_that_the_server_cannot_do_now_is_said_so(
    site: Served, tab: Page, status: int
) -> None:
    tab.route("**/undo", lambda route: route.fulfill(status=status, body=""), times=1)
    enter(tab, site)
    first = slot(tab)
    tab.keyboard.press("Digit1")
    wait_for_votes(tab, site, 1)
    tab.keyboard.press("KeyZ")
    expect(tab.locator("#notice")).to_contain_text("אינו יכול לבטל אותה כרגע")
    assert slot(tab) != first
    tab.keyboard.press("KeyZ")
    expect(tab.locator("[data-slot]")).to_have_attribute("data-slot", first)


def test_votes_of_a_session_that_ended_wait_for_the_next_one(
    site: Served, tab: Page, context: BrowserContext
) -> None:
    link = site.link()
    tab.goto(link)
    follow(tab, tab.locator("main form button"))
    tab.wait_for_load_state("networkidle")
    context.clear_cookies()
    tab.keyboard.press("Digit2")
    expect(tab.locator("#notice")).to_contain_text("קישור ההזמנה")
    assert votes(site) == ()
    tab.goto(link)
    follow(tab, tab.locator("main form button"))
    wait_for_votes(tab, site, 1)


def test_votes_of_a_session_by_a_shared_link_are_said_to_stay_behind(
    site: Served, tab: Page, context: BrowserContext
) -> None:
    link = invite(site.database, site.study.name, people=2)
    tab.goto(f"{site.address}/rate/{link.token}")
    follow(tab, tab.locator("main form button"))
    tab.wait_for_load_state("networkidle")
    context.clear_cookies()
    tab.keyboard.press("Digit2")
    expect(tab.locator("#notice")).to_contain_text("קישור משותף אינו מחזיר לחשבון קודם")
    assert votes(site) == ()


def test_signing_out_while_votes_wait_is_asked_about(site: Served, tab: Page) -> None:
    tab.route("**/vote", lambda route: route.fulfill(status=500, body=""))
    enter(tab, site)
    tab.keyboard.press("Digit1")
    expect(tab.locator("#notice")).to_contain_text("הצבעה אחת ממתינה")
    tab.goto(site.address + "/data")
    leave, said = tab.get_by_role("button", name="יציאה"), []
    tab.once("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    leave.click()
    assert len(said) == 1 and "עוד לא נשלחו" in said[0]
    assert tab.url == site.address + "/data"
    tab.once("dialog", lambda dialog: dialog.accept())
    follow(tab, leave)
    assert tab.url == site.address + "/"


def test_a_vote_with_a_token_from_an_earlier_session_waits_for_a_fresh_page(
    site: Served, context: BrowserContext
) -> None:
    link = site.link()
    tabs = [context.new_page(), context.new_page()]
    for tab in tabs:  # the second one's session replaces the first one's
        tab.goto(link)
        follow(tab, tab.locator("main form button").last)
        tab.wait_for_load_state("networkidle")
    tabs[0].keyboard.press("Digit2")
    expect(tabs[0].locator("#notice")).to_contain_text("הצבעה אחת ממתינה")
    tabs[0].reload()
    wait_for_votes(tabs[0], site, 1)
    expect(tabs[0].locator("#notice")).to_be_hidden()


def test_a_vote_that_can_never_count_is_kept_and_said(site: Served, tab: Page) -> None:
    enter(tab, site)
    tab.locator("input[name=slot]").evaluate("box => { box.value = 'never-given-to-anyone' }")
    tab.keyboard.press("Digit1")
    expect(tab.locator("#notice")).to_contain_text("השרת דחה הצבעה אחת")
    tab.keyboard.press("Digit1")
    wait_for_votes(tab, site, 1)
    assert tab.evaluate("Object.values(localStorage).some((text) => text.includes('never-given'))")


def test_a_rater_without_scripts_votes_all_the_same(site: Served, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False, locale="he")
    tab = context.new_page()
    enter(tab, site)
    tab.locator("button.second").click()
    tab.locator("button.tie").click()
    tab.locator("#undo button").click()
    tab.locator("button.first").click()
    assert [v.shown_answer["outcome"] for v in votes(site)] == ["second", "first"]
    assert not tab.locator("kbd").first.is_visible()
    context.close()


# ------------------------------------------------------------------------------------ each type


def click_through(tab: Page, kind: str) -> dict[str, Any]:
    """Answer one page of a type with keys where it has them; return the answer."""
    if kind == "pairwise":
        tab.keyboard.press("Digit4")
        return {"outcome": "both_good"}
    if kind == "pairwise_dimensions":
        for key in ("ArrowRight", "Digit3", "Digit5"):
            tab.keyboard.press(key)
        return {"outcome": "both_bad", "dimensions": {"faithful": "first", "fluent": "tie"}}
    if kind == "likert":
        for key in ("Digit4", "Digit0", "Enter"):
            tab.keyboard.press(key)
        return {"scores": {"faithful": 4, "fluent": None}}
    if kind == "review":
        tab.keyboard.press("Digit2")
        tab.locator("#fixed").fill("תקין\nלגמרי")
        tab.locator("button.save").click()
        return {"verdict": "fix", "text": "תקין\nלגמרי"}
    tab.keyboard.press("Digit0")
    return {"cannot_judge": True}


def test_each_type_is_answered_with_keys(each: Served, tab: Page) -> None:
    before = len(votes(each))
    enter(tab, each)
    answer = click_through(tab, each.study.type)
    found = wait_for_votes(tab, each, before + 1)
    assert found[-1].shown_answer == answer


@pytest.mark.parametrize("script", [True, False])
def test_enter_on_a_choice_is_no_judgement(tmp_path: Path, browser: Browser, script: bool) -> None:
    context = browser.new_context(java_script_enabled=script, locale="he")
    tab = context.new_page()
    with served(tmp_path, "pairwise_dimensions") as site:
        enter(tab, site)
        before = slot(tab)
        for axis in tab.locator("fieldset.axis").all():
            axis.locator("input").first.check()
        tab.locator("fieldset.axis input").first.press("Enter")
        tab.wait_for_timeout(200)
        assert votes(site) == () and slot(tab) == before
        tab.locator("button.tie").click()
        (found,) = wait_for_votes(tab, site, 1)
        assert found.answer["outcome"] == "tie"
    context.close()


def test_marked_words_are_the_words_that_are_stored(tmp_path: Path, tab: Page) -> None:
    text = "א😀ב C++ \u202eגד\n\nשורה `קוד` שנייה."
    with served(tmp_path, "spans", texts=(text,) * 3) as site:
        enter(tab, site)
        tab.evaluate(
            """() => {
              const [first, second] = document.querySelectorAll("[data-mark] [data-at]");
              const range = document.createRange();
              range.setStart(first.querySelector("bdi").firstChild, 0);
              range.setEnd(second.querySelector("code").firstChild, 4);
              getSelection().removeAllRanges();
              getSelection().addRange(range);
            }"""
        )
        tab.keyboard.press("KeyM")
        tab.locator(".sentence input").last.check()
        tab.keyboard.press("Enter")
        (vote,) = wait_for_votes(tab, site, 1)
        marked = [text[span["start"] : span["end"]] for span in vote.answer["spans"]]
        assert marked[0].startswith("C++ \u202eגד\n\nשורה `קוד"), marked


def test_keys_can_be_turned_off_and_never_fire_while_writing(site: Served, tab: Page) -> None:
    enter(tab, site)
    tab.locator(".remark summary").click()
    tab.locator("#note").press_sequentially("123 הערה z")
    assert votes(site) == ()
    tab.locator(".menu summary").click()
    tab.get_by_role("button", name="ביטול קיצורי המקלדת").click()
    tab.locator("h1").click()
    tab.keyboard.press("Digit1")
    tab.keyboard.press("Control+Digit1")
    tab.wait_for_timeout(200)
    assert votes(site) == ()
    tab.reload()
    tab.keyboard.press("Digit1")
    tab.wait_for_timeout(200)
    assert votes(site) == (), "the choice stays"


def test_the_view_changes_at_once_and_stays(site: Served, tab: Page) -> None:
    enter(tab, site)
    points = tab.locator(".nikud").first
    tab.locator(".menu summary").click()
    size = "parseFloat(getComputedStyle(document.querySelector('.text')).fontSize)"
    before = tab.evaluate(size)
    tab.get_by_role("button", name="אותיות גדולות").click()
    assert tab.evaluate(size) > 1.2 * before
    tab.get_by_role("button", name="הסתרת הניקוד").click()
    if points.count():
        expect(points).to_be_hidden()
    tab.reload()
    assert tab.evaluate(size) > 1.2 * before
    assert "plain" in (tab.locator("html").get_attribute("class") or "")


def test_the_note_travels_with_the_vote(site: Served, tab: Page) -> None:
    enter(tab, site)
    tab.locator(".remark summary").click()
    tab.locator("#note").fill("הערה <b>")
    tab.locator("button.tie").click()
    (vote,) = wait_for_votes(tab, site, 1)
    assert vote.note == "הערה <b>"


# --------------------------------------------------------------------------------------- drafts


def begin(tab: Page, kind: str) -> str:
    """Fill a page in by half, and a note; return what is then on it."""
    if kind in ("pairwise_dimensions", "likert"):
        tab.locator("fieldset.axis").first.locator("input").nth(1).check()
    elif kind == "review":
        tab.locator("input[value=fix]").check()
        tab.locator("#fixed").fill("שורה מתוקנת\nושנייה")
        tab.locator("#reason").fill("כתיב")
    elif kind == "spans":
        tab.locator("label.sentence input").first.check()
        select_words(tab)
        tab.keyboard.press("KeyM")
    tab.locator(".remark").evaluate("remark => { remark.open = true }")
    tab.locator("#note").fill("הערה באמצע <b>")
    return filled(tab)


def select_words(tab: Page) -> None:
    tab.evaluate(
        """() => {
          const node = document.querySelector("[data-mark] [data-at]").firstChild;
          getSelection().setBaseAndExtent(node, 2, node, 9);
        }"""
    )


def filled(tab: Page) -> str:
    """What the form would send, and the words that are marked in the text."""
    return str(
        tab.evaluate(
            """() => {
              const all = [...new FormData(document.querySelector("form.ballot"))];
              const kept = all.filter(([name]) => !["token", "id", "shown"].includes(name));
              const marked = [...(CSS.highlights.get("marked") ?? [])].map(String);
              const words = [...document.querySelectorAll("[data-marks] bdi")];
              return JSON.stringify([kept, marked, words.map((one) => one.textContent)]);
            }"""
        )
    )


def drafts(tab: Page) -> list[str]:
    found = tab.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('hebench-d'))")
    return list(found)


def test_a_half_filled_page_is_there_again_after_the_tab_was_closed(
    each: Served, context: BrowserContext
) -> None:
    first = context.new_page()
    enter(first, each)
    left = slot(first)
    assert drafts(first) == [], "a page that was only opened is no draft yet"
    before = begin(first, each.study.type)
    first.wait_for_timeout(300)
    first.close()

    second = context.new_page()
    second.goto(each.address + "/work")
    expect(second.locator("[data-slot]")).to_have_attribute("data-slot", left)
    expect(second.locator("#note")).to_be_visible()
    assert filled(second) == before
    expect(second.locator("#spoken")).to_have_text("התשובה שהתחלתם למלא שוחזרה")
    kept = json.loads(second.evaluate("key => localStorage.getItem(key)", drafts(second)[0]))
    assert kept["seconds"] > 0.3, "the time on the page counts on from where it was"

    counted = len(votes(each))
    answer = click_through(second, each.study.type)
    (vote,) = wait_for_votes(second, each, counted + 1)[counted:]
    assert vote.note == "הערה באמצע <b>" and vote.seconds > 0.3
    if each.study.type not in {"likert", "pairwise_dimensions"}:  # half of those was there before
        assert answer.items() <= vote.shown_answer.items()
    assert drafts(second) == [], "what was sent is a draft no more"
    second.keyboard.press("KeyZ")
    expect(second.locator("[data-slot]")).to_have_attribute("data-slot", left)
    assert "הערה באמצע" not in filled(second)
    assert not any(left in key for key in drafts(second))
    second.context.clear_cookies()


def test_a_draft_survives_looking_elsewhere_and_goes_with_its_rater(
    tmp_path: Path, tab: Page
) -> None:
    with served(tmp_path, "likert") as site:
        link = site.link()
        tab.goto(link)
        follow(tab, tab.locator("main form button"))
        tab.wait_for_load_state("networkidle")
        before = begin(tab, "likert")
        tab.goto(site.address + "/history")
        tab.goto(site.address + "/work")
        assert filled(tab) == before and len(drafts(tab)) == 1

        tab.goto(site.address + "/data")
        follow(tab, tab.get_by_role("button", name="יציאה"))
        tab.wait_for_load_state("networkidle")
        assert drafts(tab) == []
        tab.goto(link)  # the same rater, the same page, and nothing on it
        follow(tab, tab.locator("main form button"))
        tab.wait_for_load_state("networkidle")
        assert filled(tab) != before

        begin(tab, "likert")
        tab.goto(site.address + "/data")
        tab.locator("[name=sure]").check()
        tab.get_by_role("button", name="מחיקת כל הנתונים שלי").click()
        expect(tab.locator("h1")).to_contain_text("נמחקו")
        assert tab.evaluate("localStorage.length") == 0


def test_another_raters_link_in_the_same_browser_takes_drafts_away(
    tmp_path: Path, tab: Page
) -> None:
    with served(tmp_path, "review") as site:
        enter(tab, site)
        begin(tab, "review")
        assert len(drafts(tab)) == 1
        enter(tab, site)  # a link of somebody else's
        assert drafts(tab) == []
        assert "שורה מתוקנת" not in filled(tab) and "באמצע" not in filled(tab)


def test_a_withdrawn_link_takes_drafts_away(tmp_path: Path, tab: Page) -> None:
    with served(tmp_path, "likert") as site:
        enter(tab, site)
        begin(tab, "likert")
        for link in invites(site.database, site.study.name):
            revoke(site.database, site.study.name, link.id)
        tab.goto(site.address + "/work")
        expect(tab.locator("main")).to_contain_text("הקישור הזה בוטל")
        tab.wait_for_load_state("networkidle")
        assert drafts(tab) == []


def test_drafts_are_few_and_none_is_huge(tmp_path: Path, tab: Page) -> None:
    with served(tmp_path, "review") as site:
        enter(tab, site)
        for number in range(7):
            tab.evaluate(
                """number => {
                  const by = document.getElementById("item").dataset.rater;
                  const fields = number === 6 ? [["note", "הערה"]] : [];
                  const draft = { by, at: Date.now() - 1000 * number, seconds: 1, fields };
                  localStorage.setItem(`hebench-draft:other:${number}`, JSON.stringify(draft));
                }""",
                number,
            )
        begin(tab, "review")
        assert len(drafts(tab)) == 5
        assert "hebench-draft:other:6" in drafts(tab), "times alone go before what was written"
        own = [key for key in drafts(tab) if slot(tab) in key]
        assert len(own) == 1, "the newest is among those that stay"
        tab.locator("#fixed").fill("א" * 260_000)
        kept = json.loads(tab.evaluate("key => localStorage.getItem(key)", own[0]))
        assert kept["fields"] == [] and kept["seconds"] > 0, "only the time is kept of such a page"


def test_the_time_on_a_page_counts_on_though_nothing_was_filled_in(site: Served, tab: Page) -> None:
    enter(tab, site)
    tab.goto(site.address + "/history")
    tab.wait_for_function("Object.keys(localStorage).length === 1")
    (key,) = drafts(tab)
    tab.evaluate(
        """key => {
            const draft = JSON.parse(localStorage.getItem(key));
            localStorage.setItem(key, JSON.stringify({ ...draft, seconds: 99 }));
        }""",
        key,
    )
    tab.goto(site.address + "/language/en?back=/work")
    tab.wait_for_load_state("networkidle")
    expect(tab.locator("#spoken")).to_be_empty()  # nothing was filled in again
    tab.keyboard.press("Digit1")
    (found,) = wait_for_votes(tab, site, 1)
    assert found.seconds > 99


def test_a_vote_taken_back_before_it_was_sent_was_read_all_the_same(
    site: Served, tab: Page, context: BrowserContext
) -> None:
    enter(tab, site)
    context.set_offline(True)
    first = vote(tab, "Digit1")
    tab.evaluate(
        """() => {
            const key = Object.keys(localStorage).find((key) => key.startsWith("hebench:"));
            const text = localStorage.getItem(key).replace(/seconds=[0-9.]+/, "seconds=99.00");
            localStorage.setItem(key, text);
        }"""
    )
    left = slot(tab)
    tab.keyboard.press("KeyZ")
    expect(tab.locator("[data-slot]")).to_have_attribute("data-slot", first)
    assert any(left in key for key in drafts(tab)), "and so was the page that came after it"
    vote(tab, "Digit2")
    context.set_offline(False)
    (found,) = wait_for_votes(tab, site, 1)
    assert found.shown_answer["outcome"] == "second"
    assert found.revision == 1 and found.seconds > 99


# ----------------------------------------------------------------------------------- accessible


def pages_of(site: Served, tab: Page) -> Iterator[str]:
    """Go through every page that a rater and an owner have."""
    tab.goto(site.link())
    yield "enter"
    follow(tab, tab.locator("main form button"))
    tab.wait_for_load_state("networkidle")
    yield from pages_of_type(site, tab)
    for path in ("/history", "/data", "/nothing"):
        tab.goto(site.address + path)
        yield path
    reveal(site.database, site.study.name, what="status", why="מודל אחד נראה שבור")
    tab.goto(site.link("owner"))
    follow(tab, tab.locator("main form button").last)
    tab.locator("details").evaluate_all("all => all.forEach((one) => { one.open = true })")
    yield "owner"
    tab.goto(site.address + "/owner/invites")
    follow(tab, tab.locator("form.row button"))
    yield "invites"


def pages_of_type(site: Served, tab: Page) -> Iterator[str]:
    """Go through the pages that look otherwise for each type of study."""
    before = len(votes(site))
    yield "work"
    click_through(tab, site.study.type)
    wait_for_votes(tab, site, before + 1)
    tab.wait_for_timeout(150)
    tab.locator("details").evaluate_all("all => all.forEach((one) => { one.open = true })")
    yield "work, all open"
    tab.goto(site.address + "/history")
    follow(tab, tab.locator(".votes a").first)
    yield "correct"


TOO_SMALL = """() => [...document.querySelectorAll("a, button, input, select, textarea, summary")]
  .filter((one) => one.offsetParent && one.type !== "hidden" && !one.closest(".skip, p, li, td"))
  .map((one) => [one.outerHTML.slice(0, 90), (one.closest("label") ?? one).getBoundingClientRect()])
  .filter(([, box]) => box.width && (box.width < 24 || box.height < 24)).map(([html]) => html)"""
REVERSED = """() => [...document.querySelectorAll("main .ltr, main td.num")].flatMap((run) => {
  const found = [], walker = document.createTreeWalker(run, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const text = node.data, first = text.search(/\\S/), last = text.trimEnd().length - 1;
    if (last <= first) continue;
    const range = document.createRange(), [a, b] = [first, last].map((place) => {
      range.setStart(node, place);
      range.setEnd(node, place + 1);
      return range.getBoundingClientRect();
    });
    if (Math.abs(a.top - b.top) < 3 && a.left > b.left) found.push(text);
  }
  return found;
})"""


def open_tab(browser: Browser, language: str, scheme: Any, size: str) -> Page:
    # axe's own script is injected, which the page's policy would refuse.
    context = browser.new_context(
        viewport=SIZES[size],  # type: ignore[arg-type]
        color_scheme=scheme,
        locale=language,
        bypass_csp=True,
    )
    return context.new_page()


def check_page(tab: Page, name: str, language: str) -> None:
    found = Axe().run(tab)
    assert found.violations_count == 0, (name, found.generate_report())
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    assert tab.evaluate(TOO_SMALL) == [], name
    assert tab.evaluate(REVERSED) == [], name
    assert tab.locator("h1").count() == 1, name
    assert tab.locator("html").get_attribute("lang") == language


@pytest.mark.parametrize(
    ("language", "scheme", "size"),
    [
        ("he", "light", "desktop"),
        ("he", "dark", "phone"),
        ("en", "light", "phone"),
        ("en", "dark", "desktop"),
    ],
)
def test_every_page_is_accessible_and_fits(
    site: Served, browser: Browser, language: str, scheme: Any, size: str
) -> None:
    tab = open_tab(browser, language, scheme, size)
    for name in pages_of(site, tab):
        check_page(tab, name, language)
    tab.context.close()


@pytest.mark.parametrize(
    ("language", "scheme", "size"), [("he", "dark", "phone"), ("en", "light", "desktop")]
)
def test_every_type_is_accessible_and_fits(
    each: Served, browser: Browser, language: str, scheme: Any, size: str
) -> None:
    tab = open_tab(browser, language, scheme, size)
    enter(tab, each)
    for name in pages_of_type(each, tab):
        check_page(tab, name, language)
    tab.goto(each.link("owner"))
    follow(tab, tab.locator("main form button").last)
    check_page(tab, "owner", language)
    tab.context.close()


def test_the_keyboard_alone_reaches_everything_in_order(site: Served, tab: Page) -> None:
    enter(tab, site)
    tab.keyboard.press("Tab")
    reached = []
    for _ in range(30):
        tab.keyboard.press("Tab")
        reached.append(
            tab.evaluate(
                "(document.activeElement.value || document.activeElement.textContent).trim()"
            )
        )
        assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        if reached[-1].startswith("ביטול ההצבעה"):
            break
    outcomes = [word for word in reached if word in ("first", "second", "tie", "both_good")]
    assert outcomes == ["first", "second", "tie", "both_good"]
    assert reached.index("first") > reached.index("הנחיות")


# -------------------------------------------------------------------------------------- hostile


@pytest.mark.parametrize("kind", ["pairwise", "spans"])
def test_hostile_answers_are_shown_and_do_nothing(
    tmp_path: Path, context: BrowserContext, kind: str
) -> None:
    asked: list[str] = []
    with served(tmp_path, kind, texts=HOSTILE, source=HOSTILE[0] + HOSTILE[1]) as site:
        tab = context.new_page()
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("dialog", lambda dialog: asked.append(f"dialog {dialog.message}"))
        enter(tab, site)
        for width in (1280, 360):
            tab.set_viewport_size({"width": width, "height": 800})
            for _ in range(3):
                assert tab.evaluate("window.hacked") is None
                assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
                assert tab.locator(".text script, .text img, .text svg, .text a").count() == 0
                text = tab.locator("main").inner_text()
                assert "<script>window.hacked=1</script>" in text
                assert not re.search("[\u200f\u202a-\u202e\x00\x07]", text)
                tab.keyboard.press("Digit1" if kind == "pairwise" else "Digit0")
                tab.wait_for_timeout(200)
        tab.goto(site.address + "/history")
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert tab.evaluate("window.hacked") is None
    hosts = {url.split("/")[2] for url in asked}
    assert hosts == {site.address.split("/")[2]}, hosts


def test_answers_keep_their_direction_and_their_words(site: Served, tab: Page) -> None:
    enter(tab, site)
    shown: set[str] = set()
    direction: Callable[[str], str] = lambda text: tab.evaluate(  # noqa: E731
        """(text) => { for (const p of document.querySelectorAll(".text p"))
             if (p.textContent.includes(text)) return getComputedStyle(p).direction; }""",
        text,
    )
    for _ in range(8):
        shown |= {answer for answer in ANSWERS if answer.split("\n")[0][:20] in tab.content()}
        if "The library will be closed." in tab.content():
            assert direction("The library") == "ltr" and direction("בעמדת") == "rtl"
            assert tab.locator("pre").first.evaluate("e => getComputedStyle(e).direction") == "ltr"
            assert tab.get_by_role("img", name="שם שהוסתר").count() >= 1
            return
        vote(tab, "Digit3")
    pytest.fail(f"the mixed answer never came; only {shown}")
