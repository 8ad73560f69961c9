"""Exclusions: by rule and by hand, counted, reversible, on both engines."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hebench.errors import DataError
from hebench.human.access import forget
from hebench.human.collected import collected
from hebench.human.database import Database
from hebench.human.quality import (
    alike,
    apply_rules,
    exclude,
    exclusions,
    grounds,
    lift,
    minimum_seconds,
    rater_checks,
)
from hebench.human.raters import rater_rows
from hebench.human.results import study_results
from hebench.human.store import claim, history, vote
from hebench.human.study import Quality
from tests.human.made_study import ballot, joined, made_collected, published, vote_all

STUDY = "summaries-1"
PAIR = ("aleph", "bet")


def page(rater: str, number: int, outcome: str = "first", **more: Any) -> dict[str, Any]:
    row = {"item": f"i-{number}", "rater": rater, "models": PAIR, "answer": {"outcome": outcome}}
    return row | more


def known(kind: str, rater: str, number: int, outcome: str) -> dict[str, Any]:
    expected = {"outcome": ["first"]}
    return page(rater, number, outcome, kind=kind, expected=expected, models=(), texts=("א", "ב"))


def reasons(votes: list[dict[str, Any]], **rules: Any) -> list[tuple[str, str, str]]:
    found = made_collected(votes, quality=Quality(**rules))
    return [(rater, reason, detail) for rater, _, reason, detail in grounds(found)]


def test_an_owners_words_are_stored_as_signs_and_not_without_end(database: Database) -> None:
    published(database)
    rater = joined(database)
    vote_all(database, rater)
    name = collected(database, STUDY).votes[0].rater
    exclude(database, STUDY, rater=name, reason="owner", by="o", detail="לא\0קרא\ud800" * 500)
    (row,) = exclusions(database, STUDY)
    assert row.detail.startswith("לא␀קרא\ufffd") and len(row.detail) == 2000


def test_gold_counts_with_the_sides_of_the_check() -> None:
    votes = [known("gold", "r", n, outcome) for n, outcome in enumerate(["first", "second"])]
    check = rater_checks(made_collected(votes))[0]
    assert (check.gold, check.gold_right) == (2, 1)
    assert reasons(votes) == [("r", "gold", "1 of 2 right")]
    assert reasons(votes, gold_share=0.5) == []


def test_one_gold_question_alone_convicts_nobody() -> None:
    assert reasons([known("gold", "r", 0, "second")]) == []


def test_a_missed_attention_check_does() -> None:
    votes = [known("attention", "r", 0, "second"), known("attention", "s", 0, "first")]
    assert reasons(votes) == [("r", "attention", "1 of 1 missed")]
    assert reasons(votes, attention_misses=2) == []


def test_repeats_are_compared_with_the_first_answer_whatever_the_sides() -> None:
    votes = [page("r", n) for n in range(3)]
    votes += [page("r", n, kind="repeat", swapped=True) for n in range(2)]
    votes.append(page("r", 2, "second", kind="repeat", swapped=True))
    check = rater_checks(made_collected(votes))[0]
    assert (check.repeats, check.repeats_alike) == (3, 2)
    assert reasons(votes, repeat_share=0.7) == [("r", "repeats", "2 of 3 alike")]
    assert reasons(votes) == []


def test_reading_time_depends_on_length_and_on_whether_the_source_is_new() -> None:
    texts = ("א" * 300, "ב" * 300)
    votes = [page("r", 0, texts=texts, seconds=9.9), page("r", 1, texts=texts, seconds=10.2)]
    assert reasons(votes) == [("r", "too_fast", "9.9 s")]  # 604 characters at 60 a second
    again = [page("r", 0, texts=texts), page("r", 0, texts=texts, kind="repeat", seconds=10.0)]
    assert reasons(again) == []  # 600: the source was read before


def test_a_source_was_read_before_although_the_first_vote_on_it_was_corrected_since() -> None:
    texts = ("א" * 300, "ב" * 300)
    first, second = made_collected(
        [page("r", 0, texts=texts), page("r", 0, texts=texts, kind="repeat", seconds=10.0)]
    ).votes
    corrected = replace(first, at=second.at + 60, revision=2)
    found = replace(made_collected([]), votes=(corrected, second))
    assert grounds(found) == ()


def test_a_rater_who_is_mostly_too_fast_is_excluded_as_such() -> None:
    votes = [page("r", n, seconds=0.5 if n < 4 else 9.0) for n in range(6)]
    assert ("r", "fast_rater", "4 of 6 votes") in reasons(votes)
    assert len(reasons(votes)) == 5
    assert all(reason != "fast_rater" for _, reason, _ in reasons(votes[:4]))


def test_votes_that_came_too_late_exclude_nobody() -> None:
    votes = [page("r", n) for n in range(2)]
    votes += [page("r", 9 + n, seconds=0.1, excluded=("after_close",)) for n in range(9)]
    votes.append(known("attention", "r", 99, "second") | {"excluded": ("slot_taken",)})
    assert reasons(votes) == []
    check = rater_checks(made_collected(votes))[0]
    assert (check.votes, check.attention, check.fast) == (2, 0, ())
    (row,) = rater_rows(made_collected([page("late", 0, excluded=("after_close",))]))
    assert (row.votes, row.check.votes) == (1, 0)


@given(st.integers(0, 100_000), st.floats(1, 1000), st.floats(0, 60))
def test_minimum_seconds_never_falls_with_length(length: int, speed: float, floor: float) -> None:
    rules = Quality(characters_per_second=speed, floor_seconds=floor)
    assert floor <= minimum_seconds(rules, length) <= minimum_seconds(rules, length + 1)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({"outcome": "tie"}, {"outcome": "tie"}, True),
        ({"outcome": "tie"}, {"outcome": "both_bad"}, False),
        ({"scores": {"a": 3, "b": None}}, {"scores": {"a": 4, "b": None}}, True),
        ({"scores": {"a": 3}}, {"scores": {"a": 5}}, False),
        ({"scores": {"a": None}}, {"scores": {"a": 1}}, False),
        ({"spans": []}, {"spans": []}, True),
        ({"spans": []}, {"spans": [{"start": 0, "end": 1}]}, False),
        ({"spans": []}, {"cannot_judge": True}, False),
        ({"verdict": "fix", "text": "א"}, {"verdict": "fix", "text": "ב"}, True),
    ],
)
def test_alike_is_what_a_rater_would_call_the_same(
    first: dict[str, Any], second: dict[str, Any], same: bool
) -> None:
    assert alike(first, second) is same
    assert alike(second, first) is same


def test_rules_make_rows_that_can_be_lifted_and_stay_lifted(database: Database) -> None:
    published(database)
    slow, fast = joined(database), joined(database)
    vote_all(database, slow)
    for _ in range(5):
        vote(database, fast, ballot(claim(database, fast).assignments[0], seconds=0.1))
    made = apply_rules(database, STUDY)
    assert {row.reason for row in made} == {"fast_rater", "too_fast"}
    assert apply_rules(database, STUDY) == made
    found = collected(database, STUDY)
    assert len(found.counted()) == 4 and len(found.every()) == 8
    for row in made:
        lift(database, STUDY, row.id, by="owner")
    assert apply_rules(database, STUDY) == ()
    assert len(collected(database, STUDY).counted()) == 8
    assert len(exclusions(database, STUDY)) == len(made)
    with pytest.raises(DataError, match="no exclusion"):
        lift(database, STUDY, made[0].id, by="owner")


def test_a_ground_that_is_gone_is_lifted_by_the_rule(database: Database) -> None:
    published(database)
    rater = joined(database)
    page = claim(database, rater).assignments[0]
    vote(database, rater, ballot(page, seconds=0.1))
    assert [row.reason for row in apply_rules(database, STUDY)] == ["too_fast"]
    vote(database, rater, ballot(page, "tie", seconds=0.1))  # corrected: the page was read by now
    assert apply_rules(database, STUDY) == ()
    assert exclusions(database, STUDY)[0].lifted is not None
    assert len(collected(database, STUDY).counted()) == 1


def test_results_are_shown_with_and_without_an_excluded_rater(database: Database) -> None:
    published(database)
    raters = [joined(database) for _ in range(2)]
    for rater, outcome in zip(raters, ("first", "second"), strict=True):
        vote_all(database, rater, outcome)
    name = collected(database, STUDY).votes[-1].rater
    number = exclude(database, STUDY, rater=name, reason="conflict-of-interest", by="owner")
    results = study_results(collected(database, STUDY))
    assert (results.counts.votes, results.counts.excluded) == (4, 4)
    assert results.counts.exclusions == (("conflict-of-interest", 4),)
    assert results.ranking is not None and results.ranking.votes == 4
    assert results.ranking_all is not None and results.ranking_all.votes == 8
    lift(database, STUDY, number, by="owner")
    assert study_results(collected(database, STUDY)).ranking_all is None


def test_only_a_rater_or_vote_of_this_study_can_be_excluded(database: Database) -> None:
    published(database)
    raters = [joined(database) for _ in range(2)]
    for rater in raters:
        vote(database, rater, ballot(claim(database, rater).assignments[0]))
    assert history(database, raters[0])
    first, second = collected(database, STUDY).votes
    for wrong in (
        {"rater": "r-none"},
        {"rater": first.rater, "vote": second.id},
        {"rater": first.rater, "vote": "\ud800"},
        {"rater": first.rater, "reason": "Two Words"},
    ):
        with pytest.raises(DataError):
            exclude(database, STUDY, **{"reason": "label", "by": "owner"} | wrong)
    assert exclusions(database, STUDY) == ()


def test_rules_pass_over_a_rater_who_was_forgotten(database: Database) -> None:
    published(database)
    rater = joined(database)
    vote(database, rater, ballot(claim(database, rater).assignments[0], seconds=0.1))
    apply_rules(database, STUDY)
    forget(database, rater)
    assert apply_rules(database, STUDY) == exclusions(database, STUDY) == ()
