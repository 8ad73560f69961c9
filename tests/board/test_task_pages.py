"""Task pages: numbers as the statistics give them, cards without HTML, titles for every task."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from hebench.board.build import _render, load_site
from hebench.board.packed import facts_of
from hebench.board.page import Page, Site
from hebench.board.pages import tasks
from hebench.board.pages.tasks import card_html, detectable, difficulty, reference
from hebench.board.suite import groups, suite
from hebench.catalogue import LANGUAGES, catalogue
from hebench.stats.paired import compare
from hebench.stats.ranks import rank_sets
from tests.board.made import made_record, made_task, store

KEY = "hebench_mini_qa"


@pytest.fixture(scope="module")
def site(leaderboard: Path) -> Site:
    return load_site(leaderboard)


@pytest.fixture(scope="module")
def found(site: Site) -> dict[str, Page]:
    return {page.path: page for page in tasks.pages(site)}


def html(site: Site, page: Page, language: str) -> str:
    return _render(page, site, language).decode("utf-8")


def test_there_is_a_page_for_every_column_and_one_that_lists_them(
    site: Site, found: dict[str, Page]
) -> None:
    assert set(found) == {"tasks/index.html"} | {f"tasks/{key}.html" for key in site.board.columns}
    index = html(site, found["tasks/index.html"], "he")
    for key in site.board.columns:
        assert f'href="../tasks/{key}.html"' in index


def test_every_task_and_group_has_its_own_title_in_both_languages() -> None:
    for language in LANGUAGES:
        titles = [catalogue("hebench.board")[f"task.{name}.title"][language] for name in suite()]
        assert len(set(titles)) == len(titles)
        assert all(catalogue("hebench.board")[f"task.{name}.what"][language] for name in suite())
        assert all(catalogue("hebench.board")[f"group.{name}.title"][language] for name in groups())


def test_models_stand_in_order_of_score_with_their_simultaneous_rank_sets(
    site: Site, found: dict[str, Page]
) -> None:
    board = site.board
    rows = found[f"tasks/{KEY}.html"].context["ranked"]
    slugs = board.ranked(KEY)
    means = np.array([board.cells[KEY, slug].interval.mean for slug in slugs])
    ranks = rank_sets(means, board.variances[KEY], dof=board.columns[KEY].units - 1)
    expected = {s: (ranks.low[i], ranks.high[i]) for i, s in enumerate(slugs)}
    assert {row.slug: row.ranks for row in rows} == expected
    assert [row.cell.interval.mean for row in rows] == sorted(means, reverse=True)


def test_partial_runs_baselines_and_unchosen_checkpoints_are_shown_without_a_rank(
    site: Site, found: dict[str, Page]
) -> None:
    rows = found[f"tasks/{KEY}.html"].context["others"]
    slugs = {row.slug for row in rows}
    assert {"model-d", "baseline-random", "run-x-s1-400"} <= slugs
    assert all(row.ranks is None for row in rows)
    assert "partial: " in html(site, found[f"tasks/{KEY}.html"], "en")


def test_a_count_of_unjudged_items_runs_in_the_direction_of_the_page(tmp_path: Path) -> None:
    """Its cell is a column of numbers, from left to right in both languages."""
    task = made_task(KEY, 0.5, 1, limit=5)
    task = dataclasses.replace(task, metrics={"score": (None,) * 3 + task.metrics["score"][3:]})
    store(tmp_path, made_record("m", {KEY: task}))
    (tmp_path / "models.yaml").write_text("m: {name: M, kind: model, track: base}\n", "utf-8")
    site = load_site(tmp_path)
    (page,) = [page for page in tasks.pages(site) if page.path == f"tasks/{KEY}.html"]
    count = '<small><bdi><span class="ltr">3</span> {}</bdi></small>'
    for language, words in (("he", "לא נשפטו"), ("en", "not judged")):
        assert count.format(words) in html(site, page, language)


def test_the_smallest_difference_is_that_of_the_median_pair(site: Site) -> None:
    column = site.board.columns[KEY]
    slugs = site.board.ranked(KEY)
    pairs = [(a, b) for place, a in enumerate(slugs) for b in slugs[:place]]
    errors = [
        compare(column.scores[a], column.scores[b], column.codes, draws=2).standard_error
        for a, b in pairs
    ]
    value = detectable(site.board, column)
    # The median of variances lies between the two middle errors.
    assert value is not None
    middle = sorted(errors)[(len(errors) - 1) // 2], sorted(errors)[len(errors) // 2]
    assert 2.8 * middle[0] - 1e-3 <= value <= 2.81 * middle[1] + 1e-3


def test_hardest_and_easiest_items_lead_into_the_explorer(site: Site) -> None:
    column = site.board.columns[KEY]
    shown = difficulty(site.board, column)
    facts = facts_of(site.board, column)
    assert shown is not None
    assert sum(shown.counts) == len(column.items)
    assert [mean for _, _, mean in shown.hardest] == sorted(facts.mean)[:10]
    assert [mean for _, _, mean in shown.easiest] == sorted(facts.mean, reverse=True)[:10]
    assert all(re.fullmatch(rf"items/{KEY}/\d+\.html#item-\d+", p) for p, _, _ in shown.hardest)


def test_chance_and_the_best_baseline_make_the_floor(site: Site) -> None:
    found = reference(site.board, "hebench_mini_grammar")
    assert found.chance == 0.5
    assert found.floor is not None and found.floor[1] == "baseline-random"
    assert found.marks(best=False) == {"floor": max(0.5, found.floor[0])}
    assert found.best is not None
    assert found.marks(best=True)["best"] == found.best[1].mean


def test_a_free_answer_has_no_chance_and_the_page_says_so(
    site: Site, found: dict[str, Page]
) -> None:
    page = html(site, found[f"tasks/{KEY}.html"], "en")
    assert "None: the answer is free" in page
    assert "hebench tasks show hebench_mini_qa" in page


def test_the_data_card_is_open_in_english_and_marked_as_english(
    site: Site, found: dict[str, Page]
) -> None:
    english, hebrew = (html(site, found[f"tasks/{KEY}.html"], name) for name in ("en", "he"))
    assert '<details class="card-text" open>' in english
    assert '<details class="card-text">' in hebrew
    for page in (english, hebrew):
        assert '<div lang="en" dir="ltr"><h3>mini-qa' in page


def test_a_card_holds_no_html_and_no_link_that_leads_nowhere() -> None:
    card = card_html(
        "# Title\n\n## Part\n\n<b>bold</b> [near](README.md) and [far](https://example.org)\n\n"
        "[evil](javascript:alert(1))\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    )
    assert "<h3>Title</h3>" in card and "<h4>Part</h4>" in card
    assert "&lt;b&gt;bold" in card
    assert "near and" in card and card.count("<a ") == 1
    assert '<a href="https://example.org" rel="nofollow noopener">far</a>' in card
    assert "<table>" in card


@pytest.mark.parametrize("name", sorted({info.card for info in suite().values()}))
def test_every_data_card_renders(name: str) -> None:
    text = next(info for info in suite().values() if info.card == name).card_text()
    assert "<h3>" in card_html(text)
