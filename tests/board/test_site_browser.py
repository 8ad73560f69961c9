"""The built site as readers meet it: real Chromium, both languages, from a plain folder."""

import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.board.made import EVIL

pytestmark = pytest.mark.slow

LANGUAGES = ("he", "en")
# One page of each kind.
KINDS = (
    "index.html",
    "models/model-a.html",
    "models/hostile.html",
    "tasks/index.html",
    "tasks/hebench_mini_qa.html",
    "compare.html",
    "runs/index.html",
    "runs/run-x.html",
    "items/index.html",
    "items/hebench_mini_qa/1.html",
    "method.html",
    "changes.html",
)
PLACES = [f"{language}/{kind}" for language in LANGUAGES for kind in KINDS]


def address(site: Path, place: str) -> str:
    return (site / place).as_uri()


@pytest.mark.parametrize("place", PLACES)
def test_a_page_asks_for_nothing_outside_and_raises_no_error(
    site: Path, tab: Page, place: str
) -> None:
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(address(site, place))
    tab.wait_for_timeout(500)  # for what a script would ask for after all is loaded
    assert asked and all(url.startswith(site.as_uri()) or url.startswith("data:") for url in asked)
    language = place[:2]
    assert tab.locator("html").get_attribute("lang") == language
    assert tab.locator("html").get_attribute("dir") == {"he": "rtl", "en": "ltr"}[language]
    assert tab.locator("h1").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("place", PLACES)
def test_axe_finds_nothing_serious(site: Path, browser: Browser, place: str, scheme: str) -> None:
    # axe's own script is injected, which the page's policy would refuse.
    context = browser.new_context(color_scheme=scheme, bypass_csp=True)  # type: ignore[arg-type]
    try:
        page = context.new_page()
        page.goto(address(site, place))
        found = Axe().run(page).response["violations"]
    finally:
        context.close()
    serious = [
        (rule["id"], node["html"][:200])
        for rule in found
        if rule["impact"] in {"serious", "critical"}
        for node in rule["nodes"][:3]
    ]
    assert serious == []


@pytest.mark.parametrize("place", PLACES)
def test_a_phone_scrolls_no_page_sideways(site: Path, browser: Browser, place: str) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740})
    try:
        page = context.new_page()
        page.goto(address(site, place))
        width = page.evaluate("document.documentElement.scrollWidth")
    finally:
        context.close()
    assert width <= 360


@pytest.mark.parametrize("language", LANGUAGES)
def test_everything_is_there_without_scripts(site: Path, browser: Browser, language: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(address(site, f"{language}/index.html"))
        for name in ("Model A", "Run X, seed 1, step 200", "Chat B"):
            assert page.get_by_text(name).first.is_visible(), name
        assert not page.locator(".needs-js").first.is_visible()
        page.goto(address(site, f"{language}/compare.html"))
        assert page.locator("table").first.is_visible()
        page.goto(address(site, f"{language}/items/hebench_mini_qa/1.html"))
        assert page.locator("#item-1").is_visible()
    finally:
        context.close()


@pytest.mark.parametrize("place", [place for place in PLACES if place.startswith("he/")])
def test_the_language_switch_leads_to_the_same_page_and_back(
    site: Path, tab: Page, place: str
) -> None:
    tab.goto(address(site, place))
    for there in (place.replace("he/", "en/", 1), place):
        tab.locator("a.language").click()
        expect(tab).to_have_url(re.compile(re.escape(address(site, there)) + "(#.*)?$"))


def test_every_link_leads_somewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    anchors = {path: set(re.findall(r'\sid="([^"]+)"', path.read_text("utf-8"))) for path in pages}
    broken = []
    for path in pages:
        for link in re.findall(r'\shref="([^"]+)"', path.read_text(encoding="utf-8")):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            # What follows "=" is the state of a page, which its script reads.
            wanted = anchor and "=" not in anchor and target.suffix == ".html"
            if not target.is_file() or (wanted and anchor not in anchors[target]):
                broken.append((str(path.relative_to(site)), link))
    assert broken == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_hostile_model_is_shown_harmlessly(site: Path, tab: Page, language: str) -> None:
    for kind in (
        "index.html",
        "models/hostile.html",
        "items/hebench_mini_qa/1.html",
        "compare.html",
    ):
        tab.goto(address(site, f"{language}/{kind}"))
        assert tab.evaluate("window.hacked") is None
        text = tab.locator("body").inner_text()
        # U+2068 and U+2069 are the site's own: hebenchText isolates names with them.
        assert not re.search("[\u202a-\u202e\u2066\u2067]", text), "nothing reorders the page"
        assert len(text) < 400_000
    for path in site.rglob("*"):
        assert ".." not in path.name
        if path.suffix in {".html", ".js"}:
            assert "<script>window.hacked" not in path.read_text(encoding="utf-8")
    table = (site / "api" / "v1" / "scores.csv").read_text(encoding="utf-8-sig")
    assert not re.search(r'(^|[,"\n])[=+@-][A-Za-z]', table)
    assert EVIL not in table


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_keyboard_reaches_the_table_and_sorts_it(site: Path, tab: Page, language: str) -> None:
    tab.goto(address(site, f"{language}/index.html"))
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    tab.keyboard.press("Enter")
    expect(tab).to_have_url(re.compile("#main$"))
    for _ in range(200):
        tab.keyboard.press("Tab")
        if tab.evaluate("!!document.activeElement.closest('thead th')"):
            break
    else:
        pytest.fail("the table's head cannot be reached with the keyboard")
    tab.keyboard.press("Enter")
    expect(tab.locator(".track:not([hidden]) th[aria-sort]")).to_have_count(1)
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert tab.evaluate(outline) != "none"


def test_numbers_keep_their_order_in_hebrew(site: Path, tab: Page) -> None:
    """In a right-to-left page an interval must not read [86.5, 83.9]: ask where letters stand."""
    tab.goto(address(site, "he/models/model-a.html"))
    places = tab.evaluate(
        """() => {
          const found = [];
          for (const node of document.querySelectorAll('.ltr, td.num')) {
            const walker = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
            for (let text; (text = walker.nextNode()); ) {
              const match = /\\[(\\d+\\.\\d), (\\d+\\.\\d)\\]/.exec(text.data);
              if (!match) continue;
              const box = (start, stop) => {
                const range = document.createRange();
                range.setStart(text, start); range.setEnd(text, stop);
                return range.getBoundingClientRect();
              };
              const low = match.index + 1, end = low + match[1].length;
              const high = text.data.indexOf(match[2], end);
              const a = box(low, end), b = box(high, high + match[2].length);
              if (a.width) found.push([a.left, b.left, a.top === b.top]);
            }
          }
          return found;
        }"""
    )
    assert len(places) >= 6
    assert all(low < high for low, high, same_line in places if same_line)
