"""The page of votes in a real Chromium: accessible, no wider than a phone, numbers in order."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from hebench.board.build import build_site
from tests.board.made import made_board
from tests.board.made_votes import MODELS, header, made_votes, write_votes

pytestmark = pytest.mark.slow

# The first and last visible characters of each left-to-right run that stands in one line.
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


@pytest.fixture(scope="module")
def voted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with two studies: an ordinary one, and one of a single rater."""
    folder = made_board(tmp_path_factory.mktemp("voted") / "leaderboard")
    lines = made_votes()
    lines[7]["excluded"] = "failed attention check"
    write_votes(folder, lines)
    write_votes(folder, made_votes(20, raters=1, models=MODELS[:2]), first=header("one-rater"))
    return build_site(folder, folder.parent / "site")


@pytest.fixture(params=["he", "en"])
def page(request: pytest.FixtureRequest, voted: Path, browser: Browser) -> Iterator[Page]:
    # axe's own script is injected, which the page's policy would refuse.
    context = browser.new_context(bypass_csp=True)
    found = context.new_page()
    found.goto((voted / request.param / "votes.html").as_uri())
    yield found
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_page_of_votes(page: Page, scheme: str) -> None:
    # Without motion: a colour half-way between two schemes is nobody's contrast.
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    page.locator("details").evaluate_all("all => all.forEach((one) => { one.open = true })")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_a_phone_scrolls_the_tables_and_not_the_page(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_numbers_read_from_left_to_right_in_both_languages(page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 900})
    page.locator("details").evaluate_all("all => all.forEach((one) => { one.open = true })")
    assert page.locator("main .ltr").count() > 30
    assert page.evaluate(REVERSED) == []


def test_the_navigation_leads_to_the_votes_and_the_language_switch_keeps_them(page: Page) -> None:
    link = page.locator("nav [aria-current=page]").first
    assert (link.get_attribute("href") or "").endswith("votes.html")
    before = page.url
    page.locator("[data-keep-state]").click()
    expect(page).not_to_have_url(before)
    expect(page).to_have_url(re.compile("votes.html$"))
    expect(page.locator("section[id]")).to_have_count(2)
