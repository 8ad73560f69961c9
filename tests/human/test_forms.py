"""Forms as ballots: what a browser sends, and what no browser of ours sends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hebench.human.ballot import MAX_NOTE, Ballot, BallotError
from hebench.human.forms import answer_of, ballot_of
from tests.human.made_study import made_study, new_id

KINDS = ("pairwise", "pairwise_dimensions", "likert", "spans", "review")
NAMES = st.one_of(
    st.sampled_from(["id", "slot", "seconds", "shown", "note", "outcome", "verdict", "text"]),
    st.sampled_from(["reason", "dimension.fluent", "score.fluent", "span", "cannot_judge", "x"]),
)
VALUES = st.one_of(
    st.sampled_from(["first", "none", "3", "3-9", "9-3", "1e9", "nan", "fix", "", "\0", "٣"]),
    st.text(max_size=12),
)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([("seconds", "12.5"), ("shown", "0")], 12.5),
        ([("shown", "1000")], 60.0),
        ([("shown", "2000")], 0.0),
        ([("shown", "-1e9")], 86_400.0),
        ([("seconds", "90000")], 86_400.0),
        ([("seconds", "-0.5")], 0.0),
    ],
)
def test_time_is_the_scripts_or_that_since_the_page_was_made(
    seconds: list[tuple[str, str]], expected: float
) -> None:
    form = [("id", new_id()), ("slot", "s"), ("outcome", "tie"), *seconds]
    assert ballot_of(made_study(), form, now=1060.0).seconds == expected


@pytest.mark.parametrize("name", ["seconds", "shown"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", "", "x"])
def test_a_time_that_is_none_is_refused(name: str, value: str) -> None:
    form = [("id", new_id()), ("slot", "s"), ("outcome", "tie"), (name, value)]
    with pytest.raises(BallotError, match="seconds on the page"):
        ballot_of(made_study(), form, now=1060.0)


def test_a_note_as_long_as_a_browser_allows_may_have_line_breaks() -> None:
    note = "שורה\n" * 199 + "סוף!!"
    form = [("id", new_id()), ("slot", "s"), ("outcome", "tie"), ("seconds", "9")]
    form.append(("note", note.replace("\n", "\r\n")))
    assert len(note) == MAX_NOTE
    assert ballot_of(made_study(), form, now=0.0).note == note


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("likert", [("score.fluent", "4.5")]),
        ("likert", [("score.fluent", "٣")]),
        ("spans", [("span", "3")]),
        ("spans", [("span", "3-9-1")]),
        ("spans", [("span", "-3-9")]),
    ],
)
def test_numbers_that_are_none_are_refused(kind: str, form: list[tuple[str, str]]) -> None:
    with pytest.raises(BallotError):
        answer_of(made_study(type=kind), form)


@given(st.sampled_from(KINDS), st.lists(st.tuples(NAMES, VALUES), max_size=8))
def test_any_form_is_a_ballot_or_a_ballot_error(kind: str, form: list[tuple[str, str]]) -> None:
    try:
        found = ballot_of(made_study(type=kind), form, now=1000.0)
    except BallotError:
        return
    assert isinstance(found, Ballot) and isinstance(found.answer, dict)
