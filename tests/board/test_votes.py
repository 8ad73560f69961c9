"""Votes: the file is believed in nothing, the numbers are the statistics', the page says all."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hebench.board.build import _render, load_site
from hebench.board.page import Site
from hebench.board.pages import votes as votes_page
from hebench.board.study import preference, ratings, study_result
from hebench.board.votes import Study, Vote, read_votes
from hebench.catalogue import LANGUAGES
from hebench.errors import DataError
from hebench.records import ModelEntry
from hebench.stats.agreement import NO_VARIATION, ONE_RATER
from hebench.stats.votes import NOTES, fit
from tests.board.made import EVIL, made_board
from tests.board.made_votes import MODELS, header, made_votes, vote, write_votes

ENTRIES = {
    slug: ModelEntry(slug=slug, name=slug, kind="model", track="base") for slug in MODELS
} | {"chat-a": ModelEntry(slug="chat-a", name="chat-a", kind="model", track="chat")}


def study_of(lines: list[dict[str, Any]]) -> Study:
    head = header()
    return Study(
        name=head["study"],
        title=head["title"],
        question=head["question"],
        closed=head["closed"],
        votes=tuple(Vote(**line) for line in lines),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_board(tmp_path_factory.mktemp("board"))


@pytest.fixture(scope="module")
def site(folder: Path) -> Site:
    lines = made_votes()
    lines[3]["excluded"] = lines[4]["excluded"] = "failed attention check"
    lines[5]["excluded"] = EVIL
    write_votes(folder, lines)
    return load_site(folder)


# ------------------------------------------------------------------------------- the file


def test_a_folder_without_votes_has_no_study_and_no_page(tmp_path: Path) -> None:
    assert read_votes(tmp_path, ENTRIES) == ()
    site = load_site(made_board(tmp_path))
    assert list(votes_page.pages(site)) == []


def test_a_study_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_votes(tmp_path, [vote(), vote("tie", rater="r1", excluded="too fast")])
    (study,) = read_votes(tmp_path, ENTRIES)
    assert (study.name, study.closed, study.title["he"]) == (
        "summaries-1",
        "2026-12-01",
        "תקצירים",
    )
    assert [found.excluded for found in study.votes] == [None, "too fast"]
    assert study.counted == study.votes[:1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "line 1: expected schema 1, found 2"),
        ({"study": "other"}, "line 1: expected the study to be named as its file"),
        ({"title": {"he": "א"}}, "line 1: expected title in"),
        ({"title": "x"}, "line 1: expected title in"),
        ({"question": {"he": "א", "en": "x" * 501}}, "line 1: expected question"),
        ({"title": {"he": "\ud800", "en": "x"}}, "line 1: expected title"),
        ({"closed": "yesterday"}, "line 1: expected an ISO date"),
        ({"closed": "20261201"}, "line 1: expected an ISO date"),
        ({"unblinded": []}, "line 1: expected counts of times and votes"),
        ({"unblinded": {"times": 1}}, "line 1: expected counts of times and votes"),
        ({"unblinded": {"times": True, "votes": 1}}, "line 1: expected counts of times and votes"),
        ({"unblinded": {"times": 1, "votes": -1}}, "line 1: expected counts of times and votes"),
        ({"more": 1}, r"line 1: .* unknown: \['more'\]"),
    ],
)
def test_a_header_that_is_not_one_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = write_votes(tmp_path, [vote()])
    lines = path.read_text(encoding="utf-8").split("\n")
    lines[0] = json.dumps(header() | change)
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_votes(tmp_path, ENTRIES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": "nobody"}, "line 3: expected first to be a model of models.yaml"),
        ({"second": ["x"]}, "line 3: expected second to be a model"),
        ({"second": "model-a"}, "line 3: a model against itself"),
        ({"outcome": "third"}, "line 3: expected an outcome of"),
        ({"outcome": None}, "line 3: expected an outcome of"),
        ({"item": ""}, "line 3: expected item of 1 to 200"),
        ({"rater": "x" * 201}, "line 3: expected rater of 1 to 200"),
        ({"excluded": ""}, "line 3: expected null or a reason"),
        ({"excluded": True}, "line 3: expected null or a reason"),
        ({"second": "chat-a"}, "tracks are never mixed"),
        ({"rater": "r0"}, "line 3: rater 'r0' judged this pair of item 'i0' already"),
        ({"email": "a@b"}, r"line 3: .* unknown: \['email'\]"),
    ],
)
def test_a_vote_that_is_not_one_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    write_votes(tmp_path, [vote(), vote(rater="r1") | change])
    with pytest.raises(DataError, match=message) as found:
        read_votes(tmp_path, ENTRIES)
    assert "\n" not in str(found.value)


def test_what_is_no_json_and_what_judged_nothing_is_refused(tmp_path: Path) -> None:
    path = write_votes(tmp_path, [vote("cannot_judge"), vote(excluded="x", rater="r1")])
    with pytest.raises(DataError, match="at least one vote that counts and was judged"):
        read_votes(tmp_path, ENTRIES)
    for text in ("", "[]\n", json.dumps(header()) + "\n{", "\ufeff{}", "x" * 20_000):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=r"line \d"):
            read_votes(tmp_path, ENTRIES)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="expected UTF-8"):
        read_votes(tmp_path, ENTRIES)


def test_a_repeat_is_no_duplicate_once_it_is_excluded(tmp_path: Path) -> None:
    write_votes(tmp_path, [vote(), vote("second", excluded="hidden repeat")])
    (study,) = read_votes(tmp_path, ENTRIES)
    assert len(study.votes) == 2


# ----------------------------------------------------------------------------- the numbers


def test_a_study_is_fitted_as_the_statistics_fit_it(site: Site) -> None:
    study = site.votes[0]
    result = study_result(study, site.board)
    counted = study.counted
    codes = {"first": 0, "second": 1, "cannot_judge": -1}
    direct = fit(
        [MODELS.index(v.first) for v in counted],
        [MODELS.index(v.second) for v in counted],
        [codes.get(v.outcome, 2) for v in counted],
        [v.rater for v in counted],
        models=len(MODELS),
    )
    for place, slug in enumerate(MODELS):
        rated = result.main.of(slug)
        assert rated is not None
        assert rated.win_rate == pytest.approx(direct.win_rates[place])
        assert rated.low < rated.win_rate < rated.high
        assert rated.rank_low <= place + 1 <= rated.rank_high
    (group,) = result.main.groups
    assert [model.win_rate for model in group] == sorted(
        (model.win_rate for model in group), reverse=True
    )
    assert sum(model.p_best or 0 for model in group) == pytest.approx(1)
    assert result.side is not None and result.side.rate > 0.5


def test_exclusions_are_counted_and_the_ranking_is_shown_with_and_without_them(site: Site) -> None:
    result = study_result(site.votes[0], site.board)
    assert result.exclusions[0] == ("failed attention check", 2)
    assert sum(count for _, count in result.exclusions) == 3
    assert result.with_excluded is not None
    assert result.with_excluded.tally.votes.sum() == result.main.tally.votes.sum() + 6
    assert sum(result.raters) == len(site.votes[0].counted)


def test_leaving_out_both_bad_is_a_fit_of_its_own(site: Site) -> None:
    result = study_result(site.votes[0], site.board)
    assert result.without_bad is not None
    assert result.without_bad.tally.totals["both_bad"] == 0
    assert result.without_bad.found.votes + result.main.tally.totals["both_bad"] == (
        result.main.found.votes
    )


def test_the_benchmark_is_the_default_ranking_and_correlates_from_three_models_on(
    site: Site,
) -> None:
    result = study_result(site.votes[0], site.board)
    assert [slug for slug, _ in result.benchmark] == [
        slug
        for slug in site.board.rankings["base", next(iter(site.board.presets["base"]))].standings
        if slug in MODELS
    ]
    assert result.correlation is not None and result.correlation.n == 3  # model-d ran in part
    pair = study_of([v for v in made_votes(60) if {v["first"], v["second"]} == set(MODELS[:2])])
    assert study_result(pair, site.board).correlation is None


def test_models_without_a_chain_of_votes_are_ranked_apart(site: Site) -> None:
    lines = made_votes(80, models=MODELS[:2]) + made_votes(80, models=MODELS[2:])
    result = study_result(study_of(lines), site.board)
    assert [{m.slug for m in group} for group in result.main.groups] == [
        {"model-a", "model-b"},
        {"model-c", "model-d"},
    ]
    assert result.fragility is None and result.needed.reason == "no interval to narrow"
    for group in result.main.groups:
        assert {model.rank_high for model in group} <= {1, 2}


def test_a_single_rater_leaves_every_rank_open_and_says_why(site: Site) -> None:
    result = study_result(study_of(made_votes(40, raters=1)), site.board)
    assert {(m.rank_low, m.rank_high, m.p_best) for m in result.main.groups[0]} == {(1, 4, None)}
    assert result.agreement.reason == ONE_RATER
    assert result.side is not None and result.side.low is None


def test_unanimous_votes_have_no_alpha_and_no_certainty(site: Site) -> None:
    lines = [vote(item=f"i{i}", rater=f"r{r}") for i in range(4) for r in range(3)]
    result = study_result(study_of(lines), site.board)
    assert result.agreement.value is None and result.agreement.reason == NO_VARIATION
    first = result.main.groups[0][0]
    assert first.slug == "model-a" and first.low < 1


def test_ratings_do_not_depend_on_the_side_shown() -> None:
    one = Vote(item="i", rater="a", first="x", second="y", outcome="first", excluded=None)
    other = Vote(item="i", rater="b", first="y", second="x", outcome="second", excluded=None)
    third = Vote(item="i", rater="c", first="y", second="x", outcome="first", excluded=None)
    tie = Vote(item="j", rater="a", first="y", second="x", outcome="both_bad", excluded=None)
    skipped = Vote(
        item="j", rater="b", first="y", second="x", outcome="cannot_judge", excluded=None
    )
    found = np.array(ratings([one, other, third, tie, skipped]))
    assert found[0].tolist() == [0.0, 0.0, 2.0]
    assert found[1][0] == 1.0 and np.isnan(found[1][1:]).all()


@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(1, 5))
def test_any_votes_give_ranks_that_hold_together(seed: int, count: int, raters: int) -> None:
    lines = made_votes(count, raters=raters, models=MODELS[:3], seed=seed)
    assume(any(line["outcome"] != "cannot_judge" for line in lines))
    found = preference([Vote(**line) for line in lines])
    for group in found.groups:
        for model in group:
            assert 1 <= model.rank_low <= model.rank_high <= len(group)
            if len(group) > 1:
                assert 0 <= model.low <= model.win_rate <= model.high <= 1
            else:
                assert math.isnan(model.win_rate)


# -------------------------------------------------------------------------------- the page


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_shows_every_model_with_its_interval_and_ranks(site: Site, language: str) -> None:
    (page,) = votes_page.pages(site)
    text = _render(page, site, language).decode("utf-8")
    table = text[text.index('<table class="forest">') : text.index("</table>")]
    rows = re.findall(r"<tr>\n<td.*?</tr>", table, flags=re.DOTALL)
    assert len(rows) == len(MODELS)
    for row in rows:
        assert re.search(r'<td class="num"><span class="ltr">\d(–\d)?</span></td>', row)
        assert re.search(r'<b>\d+\.\d</b> <span class="ci">\[\d+\.\d, \d+\.\d\]</span>', row)
        assert "<svg" in row
    assert text.count("<h1>") == 1 and "style=" not in text and "<script>" not in text
    assert 'href="method.html#votes"' in text


@pytest.mark.parametrize(
    ("language", "sentence"), [("he", "מספר הפעמים:"), ("en", "names before it closed")]
)
def test_the_page_says_that_names_were_seen_before_the_end(
    tmp_path: Path, language: str, sentence: str
) -> None:
    made_board(tmp_path)
    write_votes(tmp_path, made_votes(60), first=header("blind-1"))
    seen = header("seen-1") | {"unblinded": {"times": 2, "votes": 57}}
    write_votes(tmp_path, made_votes(60), first=seen)
    site = load_site(tmp_path)
    (page,) = votes_page.pages(site)
    text = _render(page, site, language).decode("utf-8")
    assert text.count(sentence) == 1
    assert text.index('id="seen-1"') < text.index(sentence) and "57" in text


def test_hostile_titles_and_reasons_stay_text(tmp_path: Path) -> None:
    made_board(tmp_path)
    lines = made_votes(60)
    lines[0]["excluded"] = EVIL
    evil = header() | {"title": {"he": EVIL, "en": EVIL}, "question": {"he": EVIL, "en": EVIL}}
    write_votes(tmp_path, lines, first=evil)
    site = load_site(tmp_path)
    (page,) = votes_page.pages(site)
    text = _render(page, site, "he").decode("utf-8")
    assert "<script" not in text and "&lt;script&gt;" in text and "\u202e" not in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_says_what_cannot_be_known(tmp_path: Path, language: str) -> None:
    made_board(tmp_path)
    cases = {
        "one-rater": made_votes(30, raters=1),
        "unanimous": [vote(item=f"i{i}", rater=f"r{r}") for i in range(4) for r in range(3)],
        "ties": [vote("tie", item=f"i{i}", rater=f"r{i % 3}") for i in range(9)],
        "apart": made_votes(40, models=MODELS[:2]) + made_votes(40, models=MODELS[2:]),
        "level": [
            vote(first=MODELS[i % 2], second=MODELS[1 - i % 2], item=f"i{i}", rater=f"r{i % 3}")
            for i in range(12)
        ],
    }
    for name, lines in cases.items():
        write_votes(tmp_path, lines, first=header(name))
    site = load_site(tmp_path)
    (page,) = votes_page.pages(site)
    text = _render(page, site, language).decode("utf-8")
    assert text.count("<section id=") == len(cases)
    assert not re.search(r"\bnan\b|\binf\b|\bNone\b", text)


def test_every_reason_of_the_statistics_has_words(site: Site) -> None:
    source = Path(votes_page.__file__).parents[2] / "stats" / "vote_plan.py"
    text = source.read_text(encoding="utf-8")
    text = text[text.index("def votes_needed") : text.index("def needed_votes")]
    reasons = set(re.findall(r'reason="([^"]+)"', text))
    assert reasons == set(votes_page.NEEDED_REASONS)
    assert set(NOTES) >= {"disconnected", "side_unknown"}
