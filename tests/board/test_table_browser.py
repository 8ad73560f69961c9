"""The main table in Chromium: what it computes is what Python computes, and the URL holds it."""

import csv
import io
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from hebench.board.build import load_site
from hebench.board.show import bounds, chance, percent
from hebench.board.standings import Board, ranking

pytestmark = pytest.mark.slow

CHOICES = (
    ("hebench_mini_qa",),
    ("hebench_mini_nli", "hebench_mini_grammar"),
    ("hebench_mini_qa", "hebench_mini_sentiment", "hebench_mini_winograd", "hebench_mini_nli"),
)
ROWS = "#base tr[data-slug]:not([hidden])"


@pytest.fixture(scope="module")
def board(leaderboard: Path) -> Board:
    return load_site(leaderboard).board


@pytest.fixture
def table(site: Path, tab: Page) -> Page:
    tab.goto((site / "en" / "index.html").as_uri())
    return tab


def cells(tab: Page, slug: str) -> list[str]:
    """A row's cells as they read."""
    texts = tab.locator(f'#base tr[data-slug="{slug}"] > *').all_text_contents()
    return [" ".join(text.split()) for text in texts]


def names(tab: Page) -> list[str | None]:
    return [row.get_attribute("data-slug") for row in tab.locator(ROWS).all()]


def settled(tab: Page, state: str) -> None:
    """Ask for a state and wait until the mean says over which columns it is taken."""
    tab.evaluate(f"location.hash = {state!r}")
    expect(tab.locator("#base td.mean[data-v]").first).to_be_attached()


@pytest.mark.parametrize("keys", CHOICES)
def test_other_columns_get_the_means_and_ranks_of_python(
    table: Page, board: Board, keys: tuple[str, ...]
) -> None:
    settled(table, f"base&cols={','.join(keys)}")
    wanted = ranking("base", keys, board.columns, board.models, board.variances)
    assert len(wanted.standings) >= 4
    for slug, found in wanted.standings.items():
        low, high = found.low, found.high
        assert cells(table, slug)[:4:2] + cells(table, slug)[3:4] == [
            str(low) if low == high else f"{low}–{high}",
            f"{percent(found.mean.mean)} {bounds(found.mean.low, found.mean.high)}",
            chance(found.p_best),
        ]
    shown = table.locator("#base thead th:visible").count()
    assert shown == 8 + len(keys), "only these columns are shown"
    status = table.locator("#base [role=status]").text_content() or ""
    assert f"{6 - len(keys)} task columns are not shown." in status


def test_the_first_set_of_columns_brings_back_the_built_numbers(table: Page) -> None:
    slugs = names(table)
    before = [cells(table, slug or "") for slug in slugs]
    settled(table, "base&cols=hebench_mini_nli")
    assert [cells(table, slug or "") for slug in slugs] != before
    table.locator("#base [name=cols]").select_option(index=0)
    expect(table.locator("#base td.mean[data-v]")).to_have_count(0)
    assert names(table) == slugs and [cells(table, slug or "") for slug in slugs] == before


def test_rows_are_sorted_by_numbers_with_the_missing_last(table: Page) -> None:
    size = table.locator('#base th[data-key="size"]')
    for direction in ("descending", "ascending"):
        size.locator("button").click()
        assert size.get_attribute("aria-sort") == direction
        found = names(table)
        sized = ["model-d", "model-c", "model-b", "run-x-s0-300", "model-a"]
        assert found[:5] == (sized if direction == "descending" else sized[::-1])
        assert found[5:] == ["hostile", "baseline-random"]
    expect(table).to_have_url(re.compile("#base&sort=size&dir=a$"))


def test_each_filter_says_how_many_rows_it_hides(table: Page) -> None:
    status = table.locator("#base [role=status]")
    assert status.text_content() == "7 rows of 14 are shown. Hidden by kind of row: 7."
    table.locator("#base [name=checkpoint]").check()
    table.locator("#base [name=q]").fill("מוֹדֶל")
    assert names(table) == []
    table.locator("#base [name=q]").fill("דגמ")
    assert status.text_content() == "4 rows of 14 are shown. Hidden by the search: 10."
    table.locator("#base details").nth(1).locator("summary").click()
    table.locator("#base [name=max]").fill("0.5")
    assert names(table) == ["model-b", "model-a"]
    assert "Hidden by size: 4." in (status.text_content() or "")
    table.get_by_role("button", name="Reset").click()
    assert status.text_content() == "7 rows of 14 are shown. Hidden by kind of row: 7."


def test_a_link_shows_exactly_this_view_in_both_languages(table: Page, site: Path) -> None:
    state = "#base&cols=hebench_mini_nli%2Chebench_mini_grammar&q=model&sort=name&dir=a"
    table.goto((site / "en" / "index.html").as_uri() + state)
    table.reload()
    expect(table.locator("#base td.mean[data-v]").first).to_be_attached()
    before = names(table)
    assert before == ["model-a", "model-b", "model-c", "model-d"]
    table.locator("a.language").click()
    expect(table).to_have_url((site / "he" / "index.html").as_uri() + state)
    expect(table.locator("#base td.mean[data-v]").first).to_be_attached()
    assert names(table) == before
    assert table.locator("#base [name=q]").input_value() == "model"


def test_one_track_is_shown_at_a_time(table: Page) -> None:
    assert table.locator(".track:visible").count() == 1
    table.get_by_role("link", name="Chat models").click()
    expect(table.locator("#chat")).to_be_visible()
    expect(table.locator("#base")).to_be_hidden()
    expect(table.locator(".tabs [aria-current]")).to_have_attribute("href", "#chat")
    table.go_back()
    expect(table.locator("#base")).to_be_visible()


def test_going_back_brings_the_columns_boxes_back(table: Page) -> None:
    settled(table, "base&cols=hebench_mini_qa,hebench_mini_nli")
    table.get_by_role("link", name="Chat models").click()
    expect(table.locator("#chat")).to_be_visible()
    table.go_back()
    expect(table.locator("#base")).to_be_visible()
    checked = table.locator("#base .picker input:checked")
    expect(checked).to_have_count(2)


@pytest.mark.parametrize(
    "state", ["base&cols=nothing", "base&sort=%00&dir=x", "none&q=1", "base&=1"]
)
def test_a_wrong_link_shows_the_plain_table(table: Page, site: Path, state: str) -> None:
    table.goto((site / "en" / "index.html").as_uri() + "#" + state)
    table.reload()
    assert len(names(table)) == 7
    assert table.locator("#base thead th:visible").count() == 14


def test_the_view_is_downloaded_as_it_is_shown(table: Page) -> None:
    settled(table, "base&cols=hebench_mini_qa&sort=size")
    with table.expect_download() as started:
        table.get_by_role("button", name="Download").click()
    content = Path(started.value.path()).read_bytes().decode("utf-8")
    assert content.startswith("\ufeff")
    head, *rows = list(csv.reader(io.StringIO(content[1:])))
    assert head[:5] == ["Rank", "Model", "Mean", "Mean, low", "Mean, high"]
    assert len(head) == 8 + 2 + 3 and {len(row) for row in rows} == {len(head)}
    assert [row[1] for row in rows][:2] == ["Model D דגם", "Model C דגם"]
    assert all(float(row[3]) < float(row[2]) < float(row[4]) for row in rows if row[2])
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)
