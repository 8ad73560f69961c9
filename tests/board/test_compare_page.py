"""The comparison page without scripts, and its numbers against the paired test."""

import re
from pathlib import Path

import numpy as np
import pytest

from hebench.board.build import _render, load_site
from hebench.board.page import Site
from hebench.board.pages.compare import LEADING, Pair, leading_pairs, pages
from hebench.stats.multiplicity import holm
from hebench.stats.paired import compare, macro_difference
from tests.board.made import made_board, made_record, made_task, store


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return load_site(made_board(tmp_path_factory.mktemp("compare"), hostile=True))


@pytest.fixture(scope="module")
def pairs(site: Site) -> tuple[Pair, ...]:
    return leading_pairs(site.board, "base", next(iter(site.board.presets["base"])))


def html(site: Site, language: str) -> str:
    (page,) = pages(site)
    return _render(page, site, language).decode("utf-8")


def test_leading_pairs_are_those_of_the_paired_test(site: Site, pairs: tuple[Pair, ...]) -> None:
    board = site.board
    ranking = board.rankings["base", next(iter(board.presets["base"]))]
    raw = []
    for pair in pairs:
        found = macro_difference(
            [
                compare(
                    board.columns[key].scores[pair.first],
                    board.columns[key].scores[pair.second],
                    board.columns[key].codes,
                    draws=10,
                )
                for key in ranking.keys
            ]
        )
        raw.append(found.p)
        for name in ("difference", "low", "high", "detectable"):
            assert getattr(pair, name) == pytest.approx(getattr(found, name), abs=1e-6)
    np.testing.assert_allclose([pair.p for pair in pairs], holm(np.array(raw)), atol=1e-6)


def test_every_pair_of_ranked_models_is_there_once_better_first(
    site: Site, pairs: tuple[Pair, ...]
) -> None:
    ranking = site.board.rankings["base", next(iter(site.board.presets["base"]))]
    count = min(LEADING, len(ranking.standings))
    assert len(pairs) == count * (count - 1) // 2
    assert len({frozenset((pair.first, pair.second)) for pair in pairs}) == len(pairs)
    assert all(pair.difference >= 0 for pair in pairs)


@pytest.mark.parametrize("language", ["he", "en"])
def test_without_scripts_the_page_says_so_and_has_the_pairs(
    site: Site, pairs: tuple[Pair, ...], language: str
) -> None:
    text = html(site, language)
    assert re.search(r"<noscript><p[^>]*>.*JavaScript.*</noscript>", text)
    leading = re.findall(r'<table class="leading">.*?</table>', text, re.DOTALL)
    assert len(leading) == 2, "one a track"
    assert leading[0].count("<tr>") == 1 + len(pairs)


def test_a_pair_that_is_not_told_apart_says_what_would_have_been_missed(site: Site) -> None:
    text = html(site, "en")
    assert re.search(r"No significant difference\. One below .*\d\.\d.* points could well", text)


def test_models_are_offered_within_their_track(site: Site) -> None:
    parts = re.split(r'data-track="(\w+)"', html(site, "en"))
    offered = {
        track: re.findall(r'<option value="([^"]+)">', part)
        for track, part in zip(parts[1::2], parts[2::2], strict=True)
    }
    for track, slugs in offered.items():
        assert slugs == [entry.slug for entry in site.board.rows(track)]
    assert {"model-d", "run-x-s1-200", "baseline-random"} <= set(offered["base"])
    assert offered["chat"] == ["chat-a", "chat-b"]


def test_the_hostile_name_stays_text(site: Site) -> None:
    text = html(site, "he")
    assert "<script>window" not in text and "\u202e" not in text
    assert len(text) < 100_000


def test_the_page_has_no_inline_style_or_script(site: Site) -> None:
    text = html(site, "he")
    assert not re.search(r"\sstyle=|\son\w+=|<style", text)
    assert re.findall(r"<script(?![^>]*src=)[^>]*>", text) == [
        '<script type="application/json" id="strings">'
    ]


def test_a_board_with_one_model_has_a_page_and_no_pairs(tmp_path: Path) -> None:
    store(tmp_path, made_record("only", {"hebench_mini_qa": made_task("hebench_mini_qa", 0.5, 1)}))
    (tmp_path / "models.yaml").write_text("only: {name: Only, kind: model, track: base}\n")
    text = html(load_site(tmp_path), "en")
    assert "no two ranked models" in text
