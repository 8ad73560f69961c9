"""Comparing models and searching items in real Chromium, against the numbers of Python."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from hebench.board.build import load_site
from hebench.board.columns import Column
from hebench.board.documents import documents, search_text
from hebench.board.page import Site
from hebench.board.show import percent
from hebench.hebrew import normalise
from hebench.stats.multiplicity import holm
from hebench.stats.paired import Comparison, compare, macro_difference

pytestmark = pytest.mark.slow

TEXTS = (
    "בְּרֵאשִׁ֖ית בָּרָ֣א אֱלֹהִ֑ים",
    "בית־ספר, צה״ל וצה\"ל; ג׳ירפה וג'ירפה",
    "שלום עליכם – מלאכים, סוף סוף!",
    "\u202eHello\u202c, WORLD… ½ ﬁne № 3½%",
    "א\u00adב\u200dג ״ציטוט״ ‚‘’“”„ 1,250 ₪ + 50%",
    "  רווחים \n\t בתוך   הטקסט  ",
)


@pytest.fixture(scope="module")
def made(leaderboard: Path) -> Site:
    return load_site(leaderboard)


def opened(site: Path, tab: Page, place: str) -> Page:
    path, _, view = place.partition("#")
    tab.goto(f"{(site / path).as_uri()}#{view}" if view else (site / path).as_uri())
    return tab


def rows(tab: Page, table: int = 0) -> list[list[str]]:
    """The cells of a table of pairs, as a reader sees them."""
    found: list[list[str]] = (
        tab.locator("table.pair")
        .nth(table)
        .evaluate(
            "(table) => [...table.tBodies[0].rows].map(row => [...row.cells].map(c => c.innerText))"
        )
    )
    return found


def numbers(cell: str) -> list[float]:
    return [float(x.replace("−", "-")) for x in re.findall(r"[+−-]?\d+(?:\.\d+)?", cell)]


def paired(columns: list[Column], a: str, b: str) -> list[Comparison]:
    return [
        compare(column.scores[a], column.scores[b], column.codes, draws=10) for column in columns
    ]


def base(made: Site) -> list[Column]:
    return made.board.columns_of("base")


def test_the_tests_shown_are_those_of_python(site: Path, tab: Page, made: Site) -> None:
    opened(site, tab, "he/compare.html#models=model-a,model-c")
    shown = rows(tab)
    found = paired(base(made), "model-a", "model-c")
    mean = macro_difference(found)
    adjusted = holm(np.array([*(one.p for one in found), mean.p]))
    assert len(shown) == len(found) + 1
    for row, one, p in zip(shown, found, adjusted, strict=False):
        assert numbers(row[1]) == [one.n, one.clusters]
        assert numbers(row[2] + " " + row[3]) == pytest.approx(
            [100 * one.mean_a, 100 * one.mean_b], abs=0.051
        )
        assert numbers(row[4]) == pytest.approx(
            [100 * one.difference, 100 * one.low, 100 * one.high], abs=0.051
        )
        assert numbers(row[6]) == pytest.approx([max(one.p, 0.001), max(p, 0.001)], abs=0.00051)
        assert numbers(row[7]) == [one.better, one.worse, one.equal]
        assert numbers(row[8]) == pytest.approx([100 * one.detectable], abs=0.051)
    last = shown[-1]
    assert numbers(last[4]) == pytest.approx(
        [100 * mean.difference, 100 * mean.low, 100 * mean.high], abs=0.051
    )


def test_the_packed_scores_give_the_test_of_python_to_six_decimals(
    site: Path, tab: Page, made: Site
) -> None:
    opened(site, tab, "en/compare.html#models=model-b,model-d")
    for column in base(made):
        found: dict[str, Any] = tab.evaluate(
            """async (key) => {
              const columns = await hebenchLoad("columns");
              const {n, codes} = columns.find((column) => column.key === key);
              const [a, b] = await Promise.all(["b", "d"].map(async (name) =>
                hebenchScores((await hebenchLoad(`scores/model-${name}`))[key], n)));
              return hebenchStats.pairedDifference(
                a, b, codes && hebenchNumbers(codes.slice(1), Uint16Array));
            }""",
            column.key,
        )
        (one,) = paired([column], "model-b", "model-d")
        for name in ("difference", "low", "high", "p", "detectable"):
            assert found[name] == pytest.approx(getattr(one, name), abs=1e-6), (column.key, name)
        assert found["n"] == one.n and found["test"] == one.test


def test_a_search_computes_the_tests_on_the_items_it_leaves(
    site: Path, tab: Page, made: Site
) -> None:
    opened(site, tab, "he/compare.html#models=model-a,model-b&columns=hebench_mini_qa")
    column = made.board.columns["hebench_mini_qa"]
    docs = documents(column)
    kept = np.array(["כמה" in search_text(docs[item]) for item in column.items])
    assert 5 < kept.sum() < len(kept)
    tab.locator("#q").fill("כַּמָּה")
    expect(tab.locator("table.pair tbody tr td").first).to_contain_text(str(kept.sum()))
    a, b = (column.scores[f"model-{name}"][kept] for name in "ab")
    one = compare(a, b, column.codes[kept], draws=10)
    (row,) = rows(tab)
    assert numbers(row[1]) == [one.n, one.clusters]
    assert numbers(row[4])[0] == pytest.approx(100 * one.difference, abs=0.051)
    expect(tab).to_have_url(re.compile("q="))


def test_only_differing_items_leave_none_equal(site: Path, tab: Page) -> None:
    opened(site, tab, "en/compare.html#models=model-a,model-b&columns=hebench_mini_nli&differ=1")
    ((_, items, *_, split, _, _),) = rows(tab)
    better, worse, equal = numbers(split)
    assert equal == 0 and numbers(items)[0] == better + worse


def test_the_view_is_in_the_address_and_survives_the_language_switch(site: Path, tab: Page) -> None:
    opened(site, tab, "he/compare.html#models=model-c,model-a,model-b&columns=hebench_mini_nli")
    before = [[numbers(cell) for cell in row[1:-1]] for row in rows(tab, 1)]
    tab.locator("a.language").click()
    expect(tab).to_have_url(re.compile("/en/"))
    expect(tab.locator("table.pair"), "each against the reference").to_have_count(2)
    assert [[numbers(cell) for cell in row[1:-1]] for row in rows(tab, 1)] == before
    assert tab.locator("#chosen input:checked").get_attribute("value") == "model-c"
    assert "Means on the same items" in tab.locator("#result").inner_text()


def test_models_are_chosen_swapped_and_dropped(site: Path, tab: Page) -> None:
    opened(site, tab, "en/compare.html#models=model-a,model-b")
    tab.locator("[data-track=base] [name=add]").fill("baseline-random")
    tab.keyboard.press("Enter")
    expect(tab.locator("table.pair")).to_have_count(2)
    tab.locator("#chosen input[value=model-b]").check()
    expect(tab.locator("#result h2").first).to_contain_text("Model B")
    assert tab.evaluate("document.activeElement.value") == "model-b", "focus stays"
    tab.locator("#chosen button[value=model-a]").click()
    expect(tab.locator("table.pair")).to_have_count(1)
    expect(tab).to_have_url(re.compile("models=model-b%2Cbaseline-random"))


def test_tracks_do_not_mix(site: Path, tab: Page) -> None:
    opened(site, tab, "en/compare.html#models=chat-a,model-a,chat-b")
    assert tab.locator("#chosen input").evaluate_all("list => list.map(x => x.value)") == [
        "chat-a",
        "chat-b",
    ]
    tab.get_by_role("link", name="Base models").click()
    expect(tab.locator("#result h2").first).to_contain_text("Model")
    expect(tab.locator("[data-track=chat]")).to_be_hidden()


def test_an_address_with_nonsense_shows_a_comparison(site: Path, tab: Page) -> None:
    opened(
        site,
        tab,
        "en/compare.html#models=../../x,<b>,toString,model-a&columns=zzz&cluster=-4&q=%F0",
    )
    expect(tab.locator("#chosen li")).to_have_count(2)


def test_items_that_one_got_and_the_other_missed_are_found(
    site: Path, tab: Page, made: Site
) -> None:
    opened(site, tab, "he/compare.html#models=model-a,model-b&columns=hebench_mini_nli")
    tab.locator("table.pair tbody a").first.click()
    column = made.board.columns["hebench_mini_nli"]
    better = column.scores["model-a"] > column.scores["model-b"]
    expect(tab.locator("#found li")).to_have_count(int(better.sum()))
    ids = tab.locator("#found a").evaluate_all("list => list.map(link => link.textContent)")
    assert ids == [item for item, hit in zip(column.items, better, strict=True) if hit]
    with tab.expect_navigation():
        tab.locator("#found a").last.click()
    anchor = tab.url.partition("#")[2]
    assert tab.locator(f"#{anchor} h2").inner_text() == ids[-1]


@pytest.mark.parametrize("view", ["model-a,model-b&cluster=3", "model-a,model-b,model-d"])
def test_counts_of_items_that_no_page_lists_alone_are_no_links(
    site: Path, tab: Page, view: str
) -> None:
    opened(site, tab, f"en/compare.html#columns=hebench_mini_qa&models={view}")
    table = tab.locator("table.pair").first
    expect(table.locator("tbody tr").first).to_be_attached()
    assert table.locator("tbody a[href]").count() == 0
    opened(site, tab, "en/compare.html#columns=hebench_mini_qa&models=model-a,model-b")
    expect(table.locator("tbody a[href]")).to_have_count(2)


@pytest.mark.parametrize(
    "view", ["a=gone&b=model-a&only=better", "a=../../assets/core", "a=toString&only=no&sort=no"]
)
def test_an_address_that_names_no_model_of_the_page_shows_all_items(
    site: Path, tab: Page, made: Site, view: str
) -> None:
    opened(site, tab, f"en/items/hebench_mini_qa/1.html#{view}")
    items = made.board.columns["hebench_mini_qa"].items
    expect(tab.locator("#found li")).to_have_count(len(items))
    for field in ("#a", "#only", "#sort"):
        assert tab.locator(f"{field} option:checked").count() == 1, "none is blank"
    assert tab.locator("#a").input_value() == ""


def test_scores_that_come_late_do_not_replace_a_newer_view(site: Path, tab: Page) -> None:
    opened(site, tab, "en/items/hebench_mini_qa/1.html")
    tab.evaluate(
        """() => {
          const load = hebenchLoad;
          window.hebenchLoad = (name) => (name !== "scores/model-a" ? load(name)
            : new Promise((go) => { window.late = () => load(name).then(go); }));
        }"""
    )
    tab.locator("#a").select_option("model-a")
    tab.locator("#a").select_option("model-b")
    expect(tab.locator("#found small").first).to_contain_text("A: ")
    newer = tab.locator("#found").inner_text()
    tab.evaluate("window.late().then(() => new Promise(requestAnimationFrame))")
    assert tab.locator("#found").inner_text() == newer


def test_items_are_sorted_by_difficulty(site: Path, tab: Page, made: Site) -> None:
    opened(site, tab, "en/items/hebench_mini_qa/1.html#sort=hard")
    expect(tab.locator("#found li").first).to_be_visible()
    column = made.board.columns["hebench_mini_qa"]
    mean = np.nanmean([column.scores[s] for s in made.board.ranked(column.key)], axis=0)
    assert tab.locator("#found a").first.inner_text() == column.items[int(mean.argmin())]
    tab.locator("#sort").select_option("easy")
    expect(tab.locator("#found a").first).to_have_text(column.items[int(mean.argmax())])
    expect(tab).to_have_url(re.compile("sort=easy"))


def test_a_search_in_hebrew_minds_neither_points_nor_marks(site: Path, tab: Page) -> None:
    opened(site, tab, "he/items/hebench_mini_qa/1.html")
    counts = []
    for query in ("בית ספר", "בֵּית־סֵפֶר", "«בית-ספר»"):
        tab.locator("#q").fill(query)
        expect(tab.locator("#found li").first).to_be_visible()
        counts.append(tab.locator("#count").inner_text())
    assert len(set(counts)) == 1


@pytest.mark.parametrize("text", TEXTS)
def test_the_browser_normalises_as_python_does(site: Path, tab: Page, text: str) -> None:
    opened(site, tab, "en/compare.html")
    assert tab.evaluate("hebenchNormalise", text) == normalise(text, "hebrew")


def test_the_browser_rounds_shares_as_python_does(site: Path, tab: Page) -> None:
    opened(site, tab, "en/compare.html")
    shares = [0.0625, 0.1875, 0.3125, 0.9375, 0.0005, 0.6245, 0.0, 1.0]
    found = tab.evaluate("(shares) => shares.map(hebenchPercent)", shares)
    assert found == [percent(share) for share in shares]
