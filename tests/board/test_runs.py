"""Training-run pages: differences as the paired test gives them, lights in words."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from hebench.board.build import _render, load_site
from hebench.board.page import Page, Site
from hebench.board.pages import checkpoints
from hebench.board.pages.checkpoints import Run, runs
from hebench.board.standings import standings
from hebench.catalogue import catalogue
from hebench.stats import fitness
from hebench.stats.macro import winner_bias
from hebench.stats.paired import compare, macro_difference


@pytest.fixture(scope="module")
def site(leaderboard: Path) -> Site:
    return load_site(leaderboard)


@pytest.fixture(scope="module")
def run(site: Site) -> Run:
    (found,) = runs(site.board)
    return found


@pytest.fixture(scope="module")
def page(site: Site) -> Page:
    return next(page for page in checkpoints.pages(site) if page.path == "runs/run-x.html")


def html(site: Site, page: Page, language: str = "en") -> str:
    return _render(page, site, language).decode("utf-8")


def test_a_run_has_a_line_for_each_seed_in_the_order_of_its_steps(run: Run) -> None:
    assert list(run.seeds) == [0, 1]
    assert [entry.slug for entry in run.seeds[1]] == [
        f"run-x-s1-{step}" for step in (100, 200, 300, 400)
    ]
    assert [entry.slug for entry in run.chosen] == ["run-x-s0-300"]
    assert run.tokens == {100: "204.8k", 200: "409.6k", 300: "614.4k", 400: "819.2k"}
    for chart in run.charts:
        assert [line.x for line in chart.lines] == [(100, 200, 300, 400)] * 2
        assert [line.chosen for line in chart.lines] == [2, None]


def test_an_average_of_weights_is_a_rival_and_no_point_of_the_curve(site: Site, run: Run) -> None:
    models = dict(site.board.models)
    slug = "run-x-s0-400"
    place = models[slug].checkpoint
    assert place is not None
    models[slug] = dataclasses.replace(
        models[slug], checkpoint=dataclasses.replace(place, averaged=True)
    )
    (found,) = runs(standings(models, site.board.stored))
    assert len(found.entries) == 7 and found.selection and len(found.selection.steps) == 8
    for chart in found.charts:
        assert [line.x for line in chart.lines] == [(100, 200, 300), (100, 200, 300, 400)]
    for entry in run.entries:  # all of them: there is nothing to draw, and a page of it
        assert entry.checkpoint is not None
        models[entry.slug] = dataclasses.replace(
            entry, checkpoint=dataclasses.replace(entry.checkpoint, averaged=True)
        )
    board = standings(models, site.board.stored)
    (found,) = runs(board)
    assert found.charts == () and found.entries == [] and found.steps[-1] == 400
    averaged = dataclasses.replace(site, board=board)
    for page in checkpoints.pages(averaged):
        assert "400" in html(averaged, page)


def test_differences_to_the_best_are_those_of_the_paired_test(site: Site, run: Run) -> None:
    selection = run.selection
    assert selection is not None
    for step in selection.steps:
        if step.difference is None:
            assert step.entry.slug == selection.best
            continue
        columns = [site.board.columns[key] for key in selection.keys]
        expected = macro_difference(
            [
                compare(
                    column.scores[step.entry.slug],
                    column.scores[selection.best],
                    column.codes,
                    draws=2,
                )
                for column in columns
            ]
        )
        # Variances are kept in 32 bits.
        assert step.difference == pytest.approx(
            (expected.difference, expected.low, expected.high), abs=1e-6
        )


def test_the_best_cannot_be_told_from_itself_and_chances_add_up(run: Run) -> None:
    selection = run.selection
    assert selection is not None
    ranks = {step.entry.slug: step.standing for step in selection.steps}
    assert len(ranks) == 8
    assert ranks[selection.best].low == 1
    assert sum(standing.p_best for standing in ranks.values()) == pytest.approx(1)
    means = [standing.mean.mean for standing in ranks.values()]
    assert ranks[selection.best].mean.mean == max(means)


def test_the_optimism_is_that_of_so_many_with_the_median_pair(site: Site, run: Run) -> None:
    selection = run.selection
    assert selection is not None
    slugs = [step.entry.slug for step in selection.steps]
    errors = []
    for place, a in enumerate(slugs):
        for b in slugs[:place]:
            squares = [
                compare(column.scores[a], column.scores[b], column.codes, draws=2).standard_error
                for column in (site.board.columns[key] for key in selection.keys)
            ]
            errors.append(float(np.sum(np.square(squares))) / len(squares) ** 2)
    expected = winner_bias(8, np.sqrt(np.median(errors) / 2))
    assert selection.bias == pytest.approx(expected, rel=1e-4)


def test_the_page_names_the_chosen_checkpoint_and_the_optimism_of_choosing(
    site: Site, page: Page
) -> None:
    shown = html(site, page)
    assert "Chosen to represent the run:" in shown
    assert "was picked on the same items" in shown
    assert "do not differ significantly from the highest" in shown
    assert shown.count('class="lines"') == 1 + len(page.context["run"].charts) + 1  # mean, loss
    assert "לא נבדלות" in html(site, page, "he") or "אינן נבדלות" in html(site, page, "he")


def test_lights_are_words_and_every_code_of_fitness_has_some() -> None:
    codes = {code for _, code in fitness.CRITERIA.values()}
    codes |= {f"light_{name}" for name in ("green", "amber", "red")}
    codes |= {"one_seed", "few_steps", "constant_scores", "no_noise", "no_chance_level"}
    codes |= {"no_late_score", "one_model", "not_positive"}
    assert all(f"fitness.{code}" in catalogue("hebench.board") for code in codes)


def test_a_task_without_chance_is_measured_from_the_best_baseline(site: Site, run: Run) -> None:
    chart = next(chart for chart in run.charts if chart.column.key == "hebench_mini_qa")
    assert chart.column.chance is None
    assert chart.fitness.above_chance is not None
    floor = site.board.floor("hebench_mini_qa")
    assert floor is not None and chart.levels == {"level-floor": floor[0]}


def test_a_board_without_checkpoints_has_no_page_of_runs(site: Site) -> None:
    board = site.board
    entries = {
        slug: dataclasses.replace(entry, checkpoint=None) for slug, entry in board.models.items()
    }
    bare = dataclasses.replace(site, board=standings(entries, board.stored))
    assert list(checkpoints.pages(bare)) == []


def test_checkpoints_that_share_no_column_are_shown_and_not_averaged(site: Site) -> None:
    board = site.board
    moved = board.models["chat-a"]
    point = board.models["run-x-s0-100"].checkpoint
    entries = board.models | {"chat-a": dataclasses.replace(moved, checkpoint=point)}
    other = dataclasses.replace(site, board=standings(entries, board.stored))
    found = next(page for page in checkpoints.pages(other) if page.path == "runs/run-x.html")
    assert found.context["run"].selection is None
    assert "No task was run in full on all checkpoints" in html(other, found)
