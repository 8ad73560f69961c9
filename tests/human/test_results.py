"""Numbers of a study: worked examples, properties, agreement with the board's own reading."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hebench.human.collected import Collected
from hebench.human.ranking import rank
from hebench.human.results import study_results
from hebench.human.study import OUTCOMES, Source, Stop
from hebench.stats.agreement import NO_PAIRS, NO_RATINGS, NO_VARIATION
from tests.human.made_study import made_collected, simulated

STRENGTHS = {"aleph": 0.8, "bet": 0.0, "gimel": -0.8}


def row(item: str, rater: str, answer: dict[str, Any], *models: str, **more: Any) -> dict[str, Any]:
    return {"item": item, "rater": rater, "models": models, "answer": answer} | more


def pair(item: str, rater: str, outcome: str, **more: Any) -> dict[str, Any]:
    return row(item, rater, {"outcome": outcome}, "aleph", "bet", **more)


def test_a_study_without_votes_says_so_and_breaks_nothing() -> None:
    results = study_results(made_collected([]))
    assert results.ranking is None and results.ranking_all is None
    assert results.agreement["outcome"].reason == NO_RATINGS
    assert results.counts.votes == 0 and results.raters == ()


def test_the_ranking_finds_the_strengths_that_made_the_votes() -> None:
    results = study_results(made_collected(simulated(STRENGTHS, raters=30)))
    ranking = results.ranking
    assert ranking is not None
    assert [found.model for found in ranking.rows] == ["aleph", "bet", "gimel"]
    for found in ranking.rows:
        assert found.strength == pytest.approx(STRENGTHS[found.model], abs=0.25)
        assert found.low < found.win_rate < found.high
    assert ranking.groups == (("aleph", "bet", "gimel"),)
    assert [(gap.better, gap.worse) for gap in ranking.gaps] == [
        ("aleph", "bet"),
        ("bet", "gimel"),
    ]
    assert all(gap.separated for gap in ranking.gaps)
    assert sum(ranking.rates.values()) == pytest.approx(1)
    assert ranking.side is not None and abs(ranking.side.rate - 0.5) < 0.06


def test_neighbours_that_are_close_need_more_votes() -> None:
    found = rank(made_collected(simulated({"aleph": 0.15, "bet": 0.0, "gimel": -2.0})).votes)
    assert found is not None
    near, far = found.gaps
    assert far.separated and far.needed.votes == 0
    assert not near.separated and (near.needed.votes or 1) > 0


def test_independent_votes_promise_more_than_raters_do() -> None:
    votes = []
    for rater in range(10):  # strong tastes: each rater always prefers one of the two
        taste = "first" if rater % 3 else "second"
        votes += [pair(f"i-{rater}-{n}", f"r-{rater}", taste) for n in range(20)]
    results = study_results(made_collected(votes))
    assert results.ranking is not None and results.ranking_unclustered is not None
    clustered, independent = results.ranking.rows[0], results.ranking_unclustered.rows[0]
    assert clustered.win_rate == pytest.approx(independent.win_rate)
    assert clustered.high - clustered.low > 2 * (independent.high - independent.low)


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(OUTCOMES), st.booleans()), min_size=1))
@settings(max_examples=25)
def test_sides_are_undone_and_the_order_of_votes_is_irrelevant(drawn: list[Any]) -> None:
    votes = [
        pair(f"i-{number}", f"r-{rater}", outcome, swapped=swapped)
        for number, (rater, outcome, swapped) in enumerate(drawn)
    ]
    found, turned = rank(made_collected(votes).votes), rank(made_collected(votes[::-1]).votes)
    if found is None or turned is None:
        assert {outcome for _, outcome, _ in drawn} == {"cannot_judge"}
        return
    assert found.rates == turned.rates
    for one in found.rows:
        same = next(other for other in turned.rows if other.model == one.model)
        assert one.win_rate == pytest.approx(same.win_rate, abs=1e-6)
    wins = sum(outcome == "first" for _, outcome, _ in drawn)
    aleph = next(one for one in found.rows if one.model == "aleph")
    assert aleph.win == pytest.approx(wins / len(drawn))  # whichever side aleph was on


def test_models_that_are_level_stand_in_the_order_that_is_asked_for() -> None:
    order = {"aleph": 2, "bet": 1}.__getitem__
    models, raters = ("aleph", "bet"), ("r", "s")
    paired = study_results(made_collected([pair("i", r, "tie") for r in raters]), order=order)
    assert paired.coverage.pairs[0].models == ("bet", "aleph")
    assert paired.ranking and [one.model for one in paired.ranking.rows] == ["bet", "aleph"]
    answers: dict[str, dict[str, Any]] = {
        "likert": {"scores": {"fluent": 3, "faithful": 3}},
        "spans": {"spans": []},
        "review": {"verdict": "accept"},
    }
    for kind, answer in answers.items():
        votes = [row("i", rater, answer, model) for rater in raters for model in models]
        found = study_results(made_collected(votes, type=kind), order=order)
        assert [one.models for one in found.coverage.pairs] == [("bet",), ("aleph",)]
        rows = found.axes[0].rows if kind == "likert" else found.marked + found.accepted
        assert [one.model for one in rows] == ["bet", "aleph"]


def test_raters_who_each_balance_out_rank_nobody() -> None:
    votes = [pair("i", "r", "first"), pair("j", "r", "second"), pair("k", "s", "tie")]
    found = rank(made_collected(votes).votes)
    assert found is not None
    assert [(one.rank_low, one.rank_high) for one in found.rows] == [(1, 2)] * 2
    assert all(one.low < 0.3 and one.high > 0.7 for one in found.rows)
    assert "raters_alike" in found.notes


def test_a_habit_of_the_first_side_is_a_side_effect_and_no_strength() -> None:
    votes = [
        pair(f"i-{r}-{n}", f"r-{r}", "first" if n % 2 == 0 else "second", swapped=n % 2 == 1)
        for r in range(6)
        for n in range(10)
    ]
    results = study_results(made_collected(votes))
    assert results.ranking is not None and results.ranking.side is not None
    assert results.ranking.side.rate > 0.9
    assert results.ranking.rows[0].win_rate == pytest.approx(0.5, abs=0.01)
    assert all(rater.first_share == 1.0 for rater in results.raters)


def test_chance_agreement_is_of_the_answers_that_were_offered() -> None:
    coins = np.random.default_rng(0).integers(0, 2, (400, 2))
    votes = [
        pair(f"i-{n}", rater, ("first", "second")[coin])
        for n, both in enumerate(coins)
        for rater, coin in zip("rs", both, strict=True)
    ]
    forced = study_results(made_collected(votes, outcomes=("first", "second")))
    assert forced.agreement_ac1["outcome"].value == pytest.approx(0, abs=0.1)
    assert (study_results(made_collected(votes)).agreement_ac1["outcome"].value or 0) > 0.25


@pytest.mark.parametrize(
    ("outcomes", "reason"),
    [
        ([("a", "first"), ("b", "first")], NO_VARIATION),
        ([("a", "cannot_judge"), ("b", "cannot_judge")], NO_RATINGS),
    ],
)
def test_undefined_agreement_is_said_in_words(outcomes: list[Any], reason: str) -> None:
    votes = [pair("i", rater, outcome) for rater, outcome in outcomes]
    found = study_results(made_collected(votes)).agreement["outcome"]
    assert (found.value, found.reason) == (None, reason)


def test_agreement_needs_a_question_that_two_raters_answered() -> None:
    votes = [pair("i", "a", "first"), pair("j", "b", "second")]
    assert study_results(made_collected(votes)).agreement["outcome"].reason == NO_PAIRS


def test_models_never_compared_are_ranked_apart() -> None:
    votes = [
        row(f"i-{n}", f"r-{n % 3}", {"outcome": o}, *models)
        for models in (("a", "b"), ("c", "d"))
        for n, o in enumerate(["first", "second", "first", "tie", "first", "second"])
    ]
    found = rank(made_collected(votes).votes)
    assert found is not None and "disconnected" in found.notes
    assert sorted(map(sorted, found.groups)) == [["a", "b"], ["c", "d"]]
    assert len(found.gaps) == 2


def test_likert_means_severity_and_unjudged_scores() -> None:
    def scored(item: str, rater: str, model: str, fluent: int | None) -> dict[str, Any]:
        return row(item, rater, {"scores": {"fluent": fluent, "faithful": 3}}, model)

    votes = [scored(f"i-{n}", "mild", m, s) for n in range(4) for m, s in (("a", 5), ("b", 4))]
    votes += [scored(f"i-{n}", "hard", m, s) for n in range(4) for m, s in (("a", 3), ("b", 2))]
    votes.append(scored("i-9", "hard", "a", None))
    results = study_results(made_collected(votes, type="likert"))
    fluent = results.axes[0]
    assert [(found.model, found.mean) for found in fluent.rows] == [("a", 4.0), ("b", 3.0)]
    assert fluent.rows[0].counts == (0, 0, 4, 0, 4)
    assert fluent.rows[0].cannot_judge == 1
    assert 1 <= fluent.rows[0].low <= 4.0 <= fluent.rows[0].high <= 5
    severity = {rater.rater: rater.severity for rater in results.raters}
    assert severity["mild"] == pytest.approx(1.0) and severity["hard"] == pytest.approx(-16 / 17)
    assert results.agreement["faithful"].reason == NO_VARIATION
    assert results.ranking is None and results.axes_all == ()


def test_dimensions_have_rankings_of_their_own() -> None:
    votes = [
        row(
            f"i-{n}",
            f"r-{n % 4}",
            {"outcome": "first", "dimensions": {"fluent": "second", "faithful": "first"}},
            "aleph",
            "bet",
            swapped=bool(n % 2),
        )
        for n in range(8)
    ]
    results = study_results(made_collected(votes, type="pairwise_dimensions"))
    fluent, faithful = results.dimensions["fluent"], results.dimensions["faithful"]
    assert fluent is not None and fluent.rows[0].model == "bet"
    assert faithful is not None and faithful.rows[0].model == "aleph"
    assert set(results.agreement) == {"outcome", "fluent", "faithful"}


def test_marked_spans_and_verdicts_are_shares_with_intervals() -> None:
    spans: list[dict[str, Any]] = [{"spans": []}, {"spans": [{"start": 0, "end": 2}]}]
    votes = [row(f"i-{n}", f"r-{n % 3}", spans[n % 2], "a") for n in range(12)]
    votes.append(row("i-x", "r-0", {"cannot_judge": True}, "a"))
    marked = study_results(made_collected(votes, type="spans")).marked[0]
    assert marked.share.mean == 0.5 and marked.share.unscored == 1
    assert marked.counts == {"cannot_judge": 1, "clean": 6, "marked": 6}

    verdicts: list[dict[str, Any]] = [{"verdict": "accept"}, {"verdict": "reject", "reason": "x"}]
    votes = [row(f"i-{n // 2}", f"r-{n % 2}", verdicts[n % 4 == 3], "set") for n in range(12)]
    results = study_results(made_collected(votes, type="review"))
    assert results.accepted[0].share.mean == pytest.approx(0.75)
    assert results.agreement["verdict"].value is not None
    assert {r.rater: r.severity for r in results.raters} == {"r-0": 0.0, "r-1": 0.5}


def test_coverage_counts_questions_and_pairs() -> None:
    votes = [pair("i", "r", "first"), pair("j", "r", "tie"), pair("k", "s", "tie", excluded=("x",))]
    coverage = study_results(made_collected(votes)).coverage
    assert (coverage.questions, coverage.begun, coverage.complete) == (3, 2, 2)
    assert [(p.models, p.planned, p.votes) for p in coverage.pairs] == [(("aleph", "bet"), 3, 2)]


@pytest.mark.parametrize(
    ("stop", "reached"),
    [
        (Stop(rule="votes", votes=2), True),
        (Stop(rule="votes", votes=9), True),  # the whole plan is there
        (Stop(), True),
        (Stop(rule="precision", half_width=0.001), False),
        (Stop(rule="precision", half_width=0.6), True),
    ],
)
def test_the_declared_rule_says_when_to_stop(stop: Stop, reached: bool) -> None:
    votes = [pair(f"i-{n}", f"r-{n % 4}", ("first", "second")[n % 2]) for n in range(8)]
    found = made_collected(votes, stop=stop)
    models = {name: Source(answers=Path("x")) for name in ("aleph", "bet")}
    found = replace(found, study=replace(found.study, models=models))
    assert study_results(found).stop.reached is reached


def test_precision_counts_models_without_a_vote_and_shares() -> None:
    votes = [pair(f"i-{n}", f"r-{n % 4}", ("first", "second")[n % 2]) for n in range(8)]
    stop = Stop(rule="precision", half_width=0.6)
    found = study_results(made_collected(votes, stop=stop))  # of three models
    assert (found.stop.reached, found.stop.words.split(",")[0]) == (
        False,
        "widest half interval inf",
    )
    spans = [
        {"item": f"i-{n}", "rater": f"r-{n % 4}", "models": (model,), "answer": {"spans": []}}
        for n in range(8)
        for model in ("aleph", "bet", "gimel")
    ]
    judged = made_collected(spans, type="spans", stop=stop)
    assert study_results(judged).stop.reached


def test_precision_is_not_reached_while_a_model_was_not_judged() -> None:
    votes = [pair(f"i-{n}", f"r-{n % 4}", ("first", "second")[n % 2]) for n in range(8)]
    votes.append(pair("j", "r-0", "cannot_judge") | {"models": ("aleph", "gimel")})
    stop = Stop(rule="precision", half_width=0.6)
    found = study_results(made_collected(votes, stop=stop))
    assert (found.stop.reached, found.stop.words.split(",")[0]) == (
        False,
        "widest half interval inf",
    )
    assert found.ranking and [row.ranks for row in found.ranking.rows][-1] == "-"


def test_late_votes_are_not_among_those_that_a_rule_waits_for() -> None:
    votes = [pair("i", "r", "first"), pair("j", "s", "second", excluded=("after_stop",))]
    found = study_results(made_collected(votes, stop=Stop(rule="votes", votes=2)))
    assert (found.stop.reached, found.counts.votes, found.counts.excluded) == (False, 1, 1)


def test_a_second_vote_on_a_taken_slot_never_counts() -> None:
    votes = [pair("i", "r", "first"), pair("i", "s", "second", excluded=("slot_taken",))]
    found: Collected = made_collected(votes)
    results = study_results(found)
    assert (results.counts.votes, results.counts.excluded) == (1, 0)
    assert results.ranking_all is None


def test_raters_are_compared_with_the_others() -> None:
    votes = [pair(f"i-{n}", rater, "first") for n in range(4) for rater in ("a", "b", "c")]
    votes += [pair(f"i-{n}", "d", "both_bad", seconds=4.0) for n in range(4)]
    rows = {found.rater: found for found in study_results(made_collected(votes)).raters}
    assert rows["d"].with_others == 0.0 and rows["a"].with_others == pytest.approx(2 / 3)
    assert rows["d"].severity == 1.0 and rows["d"].tie_share == 1.0
    assert rows["d"].first_share is None and rows["d"].seconds == 4.0
    assert not math.isnan(rows["a"].first_share or math.nan)
