import json

import pytest

from hebench.metrics import chat

TWO = {"choices": ["הגביע", "התיק"], "label": 1}
LABELS = {"choices": ["חיובי", "שלילי", "ניטרלי"], "label": 0}


@pytest.mark.parametrize(
    ("answer", "score", "unparseable"),
    [
        ("ב", 1, 0),
        ("התשובה הנכונה היא ב׳, התיק.", 1, 0),
        ("<think>אולי א? לא, ב.</think>\nא", 0, 0),
        ("התיק", 1, 0),
        ("<think>הגביע או התיק", 0, 1),  # thinking that never ended
        ("אי אפשר לדעת.", 0, 1),
        ("", 0, 1),
    ],
)
def test_a_choice_is_parsed_never_guessed(answer: str, score: int, unparseable: int) -> None:
    found = chat.process_choice(TWO, [answer])
    assert (found["score"], found["unparseable"]) == (score, unparseable)


def test_an_unparsed_label_enters_macro_f1_as_no_label() -> None:
    assert chat.process_labels(LABELS, ["הרגש חיובי."])["macro_f1"] == (0, 0)
    assert chat.process_labels(LABELS, ["לא ברור לי"])["macro_f1"] == (0, -1)


@pytest.mark.parametrize(
    ("answer", "score", "unparseable"),
    [
        ("12 ועוד 30 הם 42. התשובה: 42", 1, 0),
        ("התשובה: ארבעים ושתיים.", 1, 0),
        ("התשובה: 43", 0, 0),
        ("איני יודע", 0, 1),
    ],
)
def test_a_number(answer: str, score: int, unparseable: int) -> None:
    found = chat.process_number({"answer": 42}, [answer])
    assert (found["score"], found["unparseable"]) == (score, unparseable)


def test_running_text_after_thinking() -> None:
    question = {"golds": ["בחיפה", "חיפה"], "null_answer": "אין תשובה"}
    answer = "<think>הקטע אומר: בחיפה.</think>\nהתשובה: חיפה."
    assert chat.process_question(question, [answer])["score"] == 1.0
    pair = {"references": ["תפוח ירוק"], "target": "תפוח ירוק"}
    assert chat.process_translation(pair, ["<think>…</think>תפוח ירוק"])["score"] == pytest.approx(
        1
    )
    assert chat.process_translation(pair, ["<think>תפוח ירוק"])["unparseable"] == 1.0
    assert chat.process_summary(pair, ["תפוח ירוק"])["score"] == pytest.approx(1)
    assert chat.process_nikud({"target": "שָׁלוֹם"}, ["</think>שָׁלוֹם"])["score"] == 1.0
    checks = json.dumps([{"kind": "words", "min": 1, "max": 2}])
    assert (
        chat.process_instruction({"checks": checks}, ["<think>א ב ג</think>שלום לך"])["score"] == 1
    )
