from hebench.models.baselines import (
    BASELINES,
    TITLES,
    copy_source,
    first_sentence,
    most_frequent,
    random_answer,
)

CHOICES = [{"id": str(i), "choices": ["א", "ב", "ג"], "label": i % 3} for i in range(300)]
QUESTIONS = [
    {"id": "a", "passage": "הגשם ירד. הילדה רצה.", "golds": ["הגשם"], "target": "הגשם"},
    {"id": "b", "passage": "השמש זרחה!", "golds": ["אין תשובה"], "target": "אין תשובה"},
    {"id": "c", "passage": "ירח", "golds": ["אין תשובה"], "target": "אין תשובה"},
]


def test_random_is_uniform_and_depends_on_item_and_seed_only() -> None:
    answers = random_answer(CHOICES, 1)
    assert answers is not None
    assert all(70 < answers.count(choice) < 130 for choice in range(3))  # type: ignore[arg-type]
    assert random_answer(CHOICES[::-1], 1) == answers[::-1]
    assert random_answer(CHOICES, 2) != answers


def test_random_text_is_the_answer_to_another_item() -> None:
    answers = random_answer(QUESTIONS, 1)
    assert answers is not None and answers[0] == "אין תשובה"
    assert random_answer(QUESTIONS[:1], 1) == [""]


def test_most_frequent() -> None:
    assert most_frequent(QUESTIONS, 0) == ["אין תשובה"] * 3
    assert most_frequent([{"choices": ["א", "ב"], "label": 1}], 0) == [1]
    assert most_frequent([{"source": "hello", "target": "שלום"}], 0) is None


def test_copy_and_first_sentence() -> None:
    assert copy_source(QUESTIONS, 0) == ["הגשם ירד. הילדה רצה.", "השמש זרחה!", "ירח"]
    assert first_sentence(QUESTIONS, 0) == ["הגשם ירד.", "השמש זרחה!", "ירח"]
    assert copy_source([{"source": "hello", "target": "שלום"}], 0) == ["hello"]
    assert copy_source(CHOICES, 0) is None and first_sentence(CHOICES, 0) is None


def test_every_baseline_has_a_title() -> None:
    assert BASELINES.keys() == TITLES.keys()
