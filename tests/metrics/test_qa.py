import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hebench.metrics.qa import exact_match, process_results, tlnls, token_f1

answers = st.text(st.sampled_from("אבגדהירשלם בכ״׳־\"'12 .aA"), max_size=24)


@pytest.mark.parametrize(
    ("prediction", "golds", "expected"),
    [
        ("ירושלים", ["בירושלים"], 0.875),  # one letter of eight
        ("התשובה היא העיר ירושלים", ["ירושלים"], 0.25),  # one gold token in four
        ("תל אביב", ["חיפה", "תל אביב"], 1.0),
        ("", ["חיפה"], 0.0),
        ("1948", ["1984"], 0.0),  # digits: token F1, no partial credit
        ("בשנת 1948", ["בשנת 1948"], 1.0),
        ("בשנת 1948", ["בשנת 1984"], 0.75),  # not half digits: (1 + 1/2) / 2
        ("!?", ["..."], 1.0),  # neither side has tokens
        ("!?", ["חיפה"], 0.0),
    ],
)
def test_tlnls(prediction: str, golds: list[str], expected: float) -> None:
    assert tlnls(prediction, golds) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("prediction", "golds", "expected"),
    [
        ("אין תשובה", ["אין תשובה"], 1.0),
        ("אין תשובה.", ["אין תשובה"], 1.0),
        ("אין תשובות", ["אין תשובה"], 0.0),  # no partial credit for nearly abstaining
        ("אין תשובה", ["אין ברירה"], 0.0),
        ("חיפה", ["אין תשובה"], 0.0),
    ],
)
def test_the_null_answer_is_scored_by_exact_match(
    prediction: str, golds: list[str], expected: float
) -> None:
    assert tlnls(prediction, golds, null_answer="אין תשובה") == expected


@pytest.mark.parametrize("score", [tlnls, token_f1, exact_match])
def test_no_accepted_answer_is_misuse(score: object) -> None:
    with pytest.raises(ValueError, match="at least one accepted answer"):
        score("חיפה", [])  # type: ignore[operator]
    with pytest.raises(ValueError, match="at least one accepted answer"):
        score("חיפה", "חיפה")  # type: ignore[operator]


@given(prediction=answers, golds=st.lists(answers, min_size=1, max_size=4))
def test_scores_stay_in_range_and_ignore_the_order_of_golds(
    prediction: str, golds: list[str]
) -> None:
    for score in (tlnls, token_f1, exact_match):
        for profile in ("reference", "hebrew"):
            value = score(prediction, golds, profile=profile)  # type: ignore[arg-type]
            assert 0.0 <= value <= 1.0
            assert value == score(prediction, golds[::-1], profile=profile)  # type: ignore[arg-type]


@given(gold=answers.filter(str.strip))
def test_the_right_answer_scores_one(gold: str) -> None:
    assert tlnls(gold, [gold]) == token_f1(gold, [gold]) == exact_match(gold, [gold]) == 1.0


def test_profiles_differ_where_a_reader_would_not() -> None:
    assert exact_match('צה"ל', ["צה״ל"]) == 0.0
    assert exact_match('צה"ל', ["צה״ל"], profile="hebrew") == 1.0


def test_adapter_for_the_harness() -> None:
    doc = {"golds": ["אין תשובה"], "null_answer": "אין תשובה"}
    found = process_results(doc, [" אין תשובה"])
    assert found["score"] == found["tlnls"] == found["exact_match"] == 1.0
    assert process_results(doc, ["תל אביב"])["score"] == 0.0


def test_every_reference_vector_agrees(shared: Path) -> None:
    """960 predictions scored by the public HeQ scorer."""
    lines = (shared / "vectors" / "heq_scores.jsonl").read_text(encoding="utf-8").splitlines()
    vectors = [json.loads(line) for line in lines]
    assert len(vectors) == 960
    for vector in vectors:
        case = (vector["prediction"], vector["golds"])
        assert tlnls(*case) == pytest.approx(vector["tlnls"], abs=1e-9), case
        assert token_f1(*case) == pytest.approx(vector["f1"], abs=1e-9), case
        assert exact_match(*case) == pytest.approx(vector["em_normalised"], abs=1e-9), case
