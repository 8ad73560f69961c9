"""The plan: balance and quotas as properties, power by a worked example."""

from collections import Counter
from dataclasses import replace
from itertools import combinations
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hebench.human.plan import Planned, plan_seats
from hebench.human.power import power
from hebench.human.study import Plan, Stop
from hebench.stats.vote_plan import needed_votes
from tests.human.made_study import made_material, made_study


@st.composite
def sizes(draw: Any, paired: bool | None = None) -> dict[str, Any]:
    raters = draw(st.integers(1, 9))
    votes = draw(st.integers(1, 20))
    plan = Plan(
        raters=raters,
        votes_each=votes,
        overlap=draw(st.integers(1, raters)),
        overlap_share=draw(st.sampled_from([0.0, 0.25, 0.3, 1.0])),
        repeats=draw(st.integers(0, min(3, votes))),
        gold=draw(st.integers(0, min(2, votes))),
        attention=draw(st.integers(0, min(1, votes))),
    )
    return {
        "plan": plan,
        "items": draw(st.integers(1, 40)),
        "models": draw(st.integers(2, 6)),
        "paired": draw(st.booleans()) if paired is None else paired,
        "checks": (2, 1),
        "seed": draw(st.integers(0, 2**32)),
    }


def main(seat: tuple[Planned, ...]) -> list[Planned]:
    return [page for page in seat if page.kind == "main"]


@given(sizes())
def test_a_plan_keeps_its_quotas(given_sizes: dict[str, Any]) -> None:
    plan = given_sizes["plan"]
    seats = plan_seats(**given_sizes)
    assert len(seats) == plan.raters
    uses = Counter(page.question for seat in seats for page in main(seat))
    assert set(uses.values()) <= {1, plan.overlap}
    shared = sum(count > 1 for count in uses.values())
    if plan.overlap > 1:
        assert shared == int(len(uses) * plan.overlap_share + 1e-9)
    for seat in seats:
        questions = [page.question for page in main(seat)]
        assert len(questions) == len(set(questions)) <= plan.votes_each
        kinds = Counter(page.kind for page in seat)
        assert kinds["repeat"] <= plan.repeats
        assert (kinds["gold"], kinds["attention"]) == (min(plan.gold, 2), min(plan.attention, 1))
    assert max(len(main(s)) for s in seats) - min(len(main(s)) for s in seats) <= 1


@given(sizes())
def test_questions_use_items_and_pairs_evenly_and_none_twice(given_sizes: dict[str, Any]) -> None:
    seats = plan_seats(**given_sizes)
    models, items = given_sizes["models"], given_sizes["items"]
    questions = {page.question for seat in seats for page in main(seat)}
    if given_sizes["paired"]:
        units = list(combinations(range(models), 2))
    else:
        units = [(model, -1) for model in range(models)]
    by_unit = Counter(question[1:] for question in questions if question)
    by_item = Counter(question[0] for question in questions if question)
    assert set(by_unit) <= set(units)
    assert max(by_unit[u] for u in units) - min(by_unit[u] for u in units) <= 1
    assert max(by_item[i] for i in range(items)) - min(by_item[i] for i in range(items)) <= 1


@given(sizes(paired=True))
def test_a_seat_shows_each_model_first_as_often_as_second(given_sizes: dict[str, Any]) -> None:
    for seat in plan_seats(**given_sizes):
        lead: Counter[int] = Counter()
        for page in main(seat):
            assert page.question is not None
            sides = page.question[1:][:: -1 if page.swapped else 1]
            lead[sides[0]] += 1
            lead[sides[1]] -= 1
        assert all(abs(surplus) <= 1 for surplus in lead.values())


def test_over_all_seats_each_pair_is_shown_both_ways_alike() -> None:
    plan = Plan(raters=30, votes_each=40)
    seats = plan_seats(plan, items=300, models=5, paired=True, checks=(0, 0), seed=3)
    surplus: Counter[Any] = Counter()
    for seat in seats:
        for page in main(seat):
            assert page.question is not None
            surplus[page.question[1:]] += -1 if page.swapped else 1
    assert max(abs(value) for value in surplus.values()) <= 3  # of 120 votes a pair


@given(sizes(paired=True))
def test_a_repeat_comes_half_a_seat_later_with_sides_swapped(given_sizes: dict[str, Any]) -> None:
    for seat in plan_seats(**given_sizes):
        place = {page.question: number for number, page in enumerate(main(seat))}
        swapped = {page.question: page.swapped for page in main(seat)}
        seen = 0
        for page in seat:
            seen += page.kind == "main"
            if page.kind == "repeat":
                assert page.swapped is not swapped[page.question]
                assert seen - place[page.question] >= len(place) // 2


def test_each_seat_has_its_share_of_every_pair() -> None:
    plan = Plan(raters=15, votes_each=40)
    for seat in plan_seats(plan, items=500, models=4, paired=True, checks=(0, 0), seed=1):
        pairs = Counter(page.question[1:] for page in main(seat) if page.question)
        assert max(pairs.values()) - min(pairs.values()) <= 2


def test_the_same_seed_gives_the_same_plan_and_another_one_another() -> None:
    plan = Plan(raters=4, votes_each=10)
    first, again, other = (
        plan_seats(plan, items=30, models=3, paired=True, checks=(0, 0), seed=seed)
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_the_power_plan_counts_what_is_planned_and_what_it_finds() -> None:
    study = made_study(plan={"raters": 30, "votes_each": 40, "overlap": 3, "overlap_share": 0.25})
    found = power(study, made_material(500))
    assert (found.seats, found.short_by) == (30, 0)
    assert found.votes == 1200 and found.questions == 800 and found.shared == 200
    assert found.votes_a_pair == 400
    needed = needed_votes(0.6, tie_share=0.2, raters=30)
    assert found.needed[0.6] == needed
    assert found.detectable is not None
    within = needed_votes(found.detectable, tie_share=0.2, raters=30).votes
    beyond = needed_votes(found.detectable - 0.001, tie_share=0.2, raters=30).votes
    assert within is not None and within <= 400
    assert beyond is None or beyond > 400
    stopped = power(replace(study, stop=Stop(rule="votes", votes=300)), made_material(500))
    assert (stopped.votes, stopped.votes_a_pair, stopped.short_by) == (1200, 100, 0)
    assert stopped.detectable is None or stopped.detectable > found.detectable


def test_a_plan_larger_than_its_items_says_how_short_it_is() -> None:
    study = made_study(plan={"raters": 30, "votes_each": 40, "overlap": 3})
    found = power(study, made_material(20))
    assert found.questions == 60  # 20 items, 3 pairs
    assert found.short_by == 1200 - found.votes > 0


def test_likert_power_is_in_points_and_shrinks_with_votes() -> None:
    few, many = (
        power(made_study(type="likert", plan={"raters": r, "votes_each": 20}), made_material(400))
        for r in (5, 40)
    )
    assert few.detectable is None and few.needed == {}
    assert few.detectable_points is not None and many.detectable_points is not None
    assert many.detectable_points < few.detectable_points / 2
