import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hebench.errors import DataError
from hebench.metrics.likelihood import process_rolling
from hebench.selection.items import items_of, read_items


def sample(score: float, **more: Any) -> dict[str, Any]:
    doc = {"id": "x", "choices": ["כן", "לא"], "label": 1} | more.pop("doc", {})
    return {"doc_id": 0, "score": score, "doc": doc, "doc_hash": "d", "prompt_hash": "p"} | more


def test_the_margin_is_the_probability_of_the_right_choice() -> None:
    answers = [(math.log(0.02), False), (math.log(0.06), True)]
    found = items_of([sample(1.0, filtered_resps=answers)], "1.0")
    assert found.margins is not None and found.margins[0] == pytest.approx(0.75)
    assert found.chance == 0.5 and found.scores.tolist() == [1.0]


ASKED = [("הקשר:", " כן"), ("הקשר:", " לא")]  # a choice of two letters and a space: 5 bytes
WRITTEN = {
    f"gen_args_{n}": {"arg_0": prompt, "arg_1": answer} for n, (prompt, answer) in enumerate(ASKED)
}


@pytest.mark.parametrize("arguments", [ASKED, WRITTEN], ids=["in memory", "as lm-eval writes it"])
@pytest.mark.parametrize(
    ("nats", "expected"), [(0.0, 1.0), (-5 * math.log(2), 0.5), (-10.0, math.exp(-2))]
)
def test_the_answer_is_the_mean_probability_of_a_byte_of_the_right_choice(
    arguments: Any, nats: float, expected: float
) -> None:
    row = sample(0.0, filtered_resps=[(-0.1, True), (nats, False)], arguments=arguments)
    found = items_of([row], "1.0").answers
    assert found is not None and found[0] == pytest.approx(expected)
    as_text = process_rolling({"text": " לא"}, [nats])["score"]
    assert found[0] == pytest.approx(as_text)  # as tasks of running text are scored


def test_a_sure_answer_that_rounds_to_just_above_is_sure() -> None:
    row = sample(1.0, filtered_resps=[(-9.0, False), (1e-5, True)], arguments=ASKED)
    assert items_of([row], "1.0").answers == pytest.approx([1.0], abs=0)


@pytest.mark.parametrize("more", [{}, {"arguments": ASKED[:1]}, {"arguments": None}])
def test_samples_that_do_not_say_what_was_asked_have_no_answer(more: Any) -> None:
    found = items_of([sample(1.0, filtered_resps=[(-1.0, True), (-2.0, True)], **more)], "1.0")
    assert found.answers is None and found.margins is not None


@pytest.mark.parametrize(
    "answers", [["טקסט חופשי"], [(-1.0, True)], [], [(-1.0,), (-2.0,)], [-1.0, -2.0]]
)
def test_answers_that_are_not_likelihoods_of_the_choices_have_no_margin(answers: Any) -> None:
    found = items_of([sample(1.0, filtered_resps=answers, arguments=ASKED)], "1.0")
    assert found.margins is None and found.answers is None


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_that_is_no_choices_place_gives_no_margin(label: int) -> None:
    answers = [(-1.0, True), (-2.0, False)]
    row = sample(1.0, doc={"label": label}, filtered_resps=answers, arguments=ASKED)
    found = items_of([row], "1.0")
    assert found.margins is None and found.answers is None and found.scores.tolist() == [1.0]


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_likelihood_that_is_no_number_gives_a_margin_that_is_none(value: float) -> None:
    answers = [(value, False), (value, False)]
    found = items_of([sample(math.nan, filtered_resps=answers, arguments=ASKED)], "1.0")
    assert found.margins is not None and np.isnan(found.margins[0]) and np.isnan(found.scores[0])
    assert found.answers is not None and np.isnan(found.answers[0])


def test_very_small_likelihoods_do_not_underflow() -> None:
    answers = [(-2000.0, False), (-2001.0, True)]
    found = items_of([sample(0.0, filtered_resps=answers)], "1.0")
    assert found.margins is not None and found.margins[0] == pytest.approx(1 / (1 + math.e))


def test_items_of_one_cluster_share_a_code() -> None:
    rows = [sample(1.0, doc={"id": n, "cluster": n // 2}) for n in range(4)]
    assert items_of(rows, "1.0").clusters == (0, 0, 1, 1)
    alone = [sample(1.0, doc={"id": n}) for n in range(4)]
    assert items_of(alone, "1.0").clusters is None


def test_other_documents_or_prompts_are_another_signature() -> None:
    own = items_of([sample(1.0)], "1.0").signature
    assert items_of([sample(0.0)], "1.0").signature == own
    for other in ({"doc_hash": "e"}, {"prompt_hash": "q"}):
        assert items_of([sample(1.0, **other)], "1.0").signature != own
    assert items_of([sample(1.0)], "1.1").signature != own


@pytest.mark.parametrize(("score", "message"), [("x", "a number"), (True, "number"), (1.5, "0, 1")])
def test_what_is_no_score_is_refused(score: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        items_of([sample(score)], "1.0")


def test_a_folder_without_an_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a results_"):
        read_items(tmp_path)
