import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hebench.data.load import mini_records
from hebench.metrics.instructions import KINDS, count_word, passes, process_results

SOME = {
    "words": {"min": 1, "max": 3},
    "sentences": {"min": 1, "max": 1},
    "lines": {"min": 1, "max": 1},
    "without_letter": {"letter": "ק"},
    "words_start_with": {"letter": "מ"},
    "acrostic": {"letters": "ש"},
    "includes": {"words": ["שלום"]},
    "excludes": {"words": ["מלחמה"]},
    "word_count": {"word": "שלום", "times": 1},
    "starts_with": {"text": "שלום"},
    "ends_with": {"text": "שלום"},
    "language": {"language": "he"},
    "no_digits": {},
    "no_marks": {"marks": "!"},
    "numbered_list": {"items": 1},
    "bulleted_list": {"items": 1},
    "json_keys": {"keys": ["שם"]},
    "quoted": {},
}


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        ({"kind": "words", "min": 2, "max": 3}, "שלום לכם", "שלום"),
        ({"kind": "words", "min": None, "max": 3}, "א ב ג", "א ב ג ד"),
        ({"kind": "sentences", "min": 2, "max": 2}, "בא. הלך!", "בא. הלך. שב."),
        ({"kind": "sentences", "min": 1, "max": 1}, "הילד אמר: ״בוא!״", "בוא. לך."),
        ({"kind": "sentences", "min": 1, "max": 1}, "המחיר 7.5 שקלים.", "בלי סוף"),
        ({"kind": "lines", "min": 2, "max": 2}, "א\n\nב", "א"),
        ({"kind": "without_letter", "letter": "מ"}, "תפוח ירוק", "ילדים"),
        ({"kind": "words_start_with", "letter": "מ"}, "״מיכל מכרה מים.״", "מיכל קנתה"),
        ({"kind": "acrostic", "letters": "גן"}, "- גשם\n- נחל", "- גשם\n- שמש"),
        ({"kind": "includes", "words": ["דלי"]}, "ובדלי מים", "דליים"),
        ({"kind": "excludes", "words": ["טעים"]}, "ערב לחיך", "והטעים"),
        ({"kind": "word_count", "word": "ים", "times": 2}, "הים, ים", "ים אחד"),
        ({"kind": "starts_with", "text": "יקירתי"}, " יקירתי, שלום", "שלום"),
        ({"kind": "ends_with", "text": "להתראות."}, "טוב. להתראות. ", "להתראות!"),
        ({"kind": "language", "language": "he"}, "שלום לכולם, הכול כאן בסדר גמור OK", "hello שלום"),
        ({"kind": "language", "language": "en"}, "hello", "שלום"),
        ({"kind": "no_digits"}, "שלושה", "3 ילדים"),
        ({"kind": "no_marks", "marks": ",!"}, "שלום.", "שלום, לך"),
        ({"kind": "numbered_list", "items": 2}, "1. אחת\n2. שתיים", "הנה:\n1. אחת\n2. שתיים"),
        ({"kind": "numbered_list", "items": 2}, "1. א\n2. ב", "1. א\n3. ב"),
        ({"kind": "bulleted_list", "items": 2}, "- א\n- ב", "* א\n* ב"),
        ({"kind": "json_keys", "keys": ["שם"]}, '```json\n{"שם": 1}\n```', '{"שם": 1, "גיל": 2}'),
        ({"kind": "json_keys", "keys": ["שם"]}, '{"שם": null}', '["שם"]'),
        ({"kind": "quoted"}, "״שלום״", "״שלום״ לכם"),
    ],
)
def test_each_kind(check: dict[str, Any], good: str, bad: str) -> None:
    assert passes(good, check)
    assert not passes(bad, check)


@pytest.mark.parametrize("kind", list(KINDS))
def test_an_empty_answer_passes_nothing(kind: str) -> None:
    assert not passes(" \n", {"kind": kind, **SOME[kind]})


@pytest.mark.parametrize("kind", list(KINDS))
@given(answer=st.text(max_size=80))
def test_no_text_breaks_a_check(kind: str, answer: str) -> None:
    assert passes(answer, {"kind": kind, **SOME[kind]}) in {True, False}


def test_deep_json_is_no_crash() -> None:
    assert not passes("[" * 100_000, {"kind": "json_keys", "keys": ["שם"]})


def test_an_unknown_kind_is_misuse() -> None:
    with pytest.raises(ValueError, match="expected a kind"):
        passes("שלום", {"kind": "poetic"})


@pytest.mark.parametrize(
    ("text", "word", "count"),
    [
        ("צה״ל וצה״ל", "צה״ל", 2),
        ("ד״ר", "ר", 0),
        ("״דג״", "דג", 1),
        ("וכשהדג", "דג", 1),
        ("דגים", "דג", 0),
        ("API api", "Api", 2),
    ],
)
def test_count_word(text: str, word: str, count: int) -> None:
    assert count_word(text, word) == count


def test_every_example_of_the_set_passes_and_generic_text_does_not() -> None:
    generic = (
        "בשנים האחרונות עברו משפחות רבות אל אזורים כפריים כדי ליהנות מאוויר נקי, משקט "
        "ומקהילה תומכת. עם זאת, הנסיעה הארוכה אל מקום העבודה מעייפת מאוד."
    )
    records = mini_records("instructions")
    for record in records:
        doc = {"checks": json.dumps(record["checks"])}
        assert process_results(doc, [record["example"]])["score"] == 1.0, record["id"]
        for check in record["checks"]:
            for stated in [*check.get("words", []), *check.get("keys", [])]:
                assert stated in record["instruction"], record["id"]
    passed = sum(
        process_results({"checks": json.dumps(record["checks"])}, [generic])["score"]
        for record in records
    )
    assert passed == 0
