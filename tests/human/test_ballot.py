"""Answers by type: what is taken, and what no browser of ours sends."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hebench.human.ballot import Ballot, BallotError, check_answer, is_right, unswapped
from hebench.human.study import OUTCOMES
from tests.human.made_study import made_study, new_id

TYPES = ("pairwise", "pairwise_dimensions", "likert", "spans", "review")


@pytest.mark.parametrize(
    ("kind", "answer", "canonical"),
    [
        ("pairwise", {"outcome": "both_bad"}, None),
        (
            "pairwise_dimensions",
            {"outcome": "tie", "dimensions": {"faithful": "first", "fluent": "cannot_judge"}},
            None,
        ),
        ("likert", {"scores": {"fluent": 5, "faithful": None}}, None),
        ("spans", {"spans": []}, None),
        ("spans", {"cannot_judge": True}, None),
        (
            "spans",
            {"spans": [{"start": 4, "end": 5}, {"start": 0, "end": 2}, {"start": 1, "end": 3}]},
            {"spans": [{"start": 0, "end": 3}, {"start": 4, "end": 5}]},
        ),
        ("review", {"verdict": "accept"}, None),
        ("review", {"verdict": "fix", "text": "מתוקן"}, None),
        ("review", {"verdict": "reject", "reason": "שגיאה בעובדה"}, None),
    ],
)
def test_an_answer_is_taken_in_its_canonical_form(
    kind: str, answer: dict[str, Any], canonical: dict[str, Any] | None
) -> None:
    study = made_study(type=kind)
    found = check_answer(study, answer, ("תשובה", "תשובה אחרת") if study.paired else ("תשובה",))
    assert found == (canonical or answer)


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("pairwise", {"outcome": "third"}),
        ("pairwise", {"outcome": ["first"]}),
        ("pairwise", {"outcome": "first", "model": "aleph"}),
        ("pairwise", "first"),
        ("pairwise_dimensions", {"outcome": "first"}),
        ("pairwise_dimensions", {"outcome": "first", "dimensions": {"fluent": "first"}}),
        ("pairwise_dimensions", {"outcome": "first", "dimensions": None}),
        ("likert", {"scores": {"fluent": 6, "faithful": 1}}),
        ("likert", {"scores": {"fluent": True, "faithful": 1}}),
        ("likert", {"scores": {"fluent": 1.5, "faithful": 1}}),
        ("spans", {"spans": [{"start": 0, "end": 99}]}),
        ("spans", {"spans": [{"start": 2, "end": 2}]}),
        ("spans", {"spans": [{"start": -1, "end": 2}]}),
        ("spans", {"spans": [{"start": 0, "end": 1}] * 501}),
        ("spans", {"cannot_judge": False}),
        ("review", {"verdict": "fix"}),
        ("review", {"verdict": "reject", "reason": "  "}),
        ("review", {"verdict": "accept", "text": "x"}),
        ("review", {}),
    ],
)
def test_another_answer_is_refused_in_one_line(kind: str, answer: Any) -> None:
    with pytest.raises(BallotError) as caught:
        check_answer(made_study(type=kind), answer, ("תשובה", "אחרת"))
    assert "\n" not in str(caught.value)


@given(
    st.sampled_from(TYPES),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["outcome", "scores", "spans", "verdict", "start", "fluent"]), inner
            )
        ),
        max_leaves=8,
    ),
)
def test_no_json_breaks_the_check(kind: str, answer: Any) -> None:
    with contextlib.suppress(BallotError):
        check_answer(made_study(type=kind), answer, ("תשובה", "אחרת"))


@given(st.sampled_from(OUTCOMES), st.sampled_from(("first", "second", "tie")), st.booleans())
def test_turning_the_sides_twice_changes_nothing(outcome: str, word: str, swapped: bool) -> None:
    answer = {"outcome": outcome, "dimensions": {"fluent": word}}
    assert unswapped(unswapped(answer, swapped), swapped) == answer
    if outcome == "first":
        assert unswapped(answer, True)["outcome"] == "second"


@pytest.mark.parametrize(
    "change",
    [
        {"id": "1"},
        {"id": "6F9619FF-8B86-D011-B42D-00C04FC964FF"},
        {"id": None},
        {"seconds": float("nan")},
        {"seconds": -1},
        {"seconds": True},
        {"seconds": "9"},
        {"note": "x" * 1001},
        {"note": None},
    ],
)
def test_a_ballot_of_another_form_is_refused(change: dict[str, Any]) -> None:
    good = {"id": new_id(), "slot": "s", "answer": {}, "seconds": 1.0}
    Ballot(**good)
    with pytest.raises(BallotError):
        Ballot(**good | change)


@pytest.mark.parametrize(
    ("expected", "answer", "right"),
    [
        ({"outcome": ["first", "tie"]}, {"outcome": "tie"}, True),
        ({"outcome": ["first"]}, {"outcome": "second"}, False),
        ({"fluent": [4, 5]}, {"scores": {"fluent": 5, "faithful": 1}}, True),
        ({"fluent": [4, 5]}, {"scores": {"fluent": None, "faithful": 1}}, False),
        ({"marked": [True]}, {"spans": [{"start": 0, "end": 1}]}, True),
        ({"marked": [False]}, {"spans": []}, True),
        ({"marked": [False]}, {"cannot_judge": True}, False),
        ({"verdict": ["reject"]}, {"verdict": "reject", "reason": "x"}, True),
    ],
)
def test_a_known_answer_is_recognised(
    expected: dict[str, Any], answer: dict[str, Any], right: bool
) -> None:
    assert is_right(expected, answer) is right
