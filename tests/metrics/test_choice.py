import math

import pytest

from hebench.metrics.choice import (
    accuracy,
    length_normalised_accuracy,
    macro_f1,
    process_labels,
    process_results,
)


@pytest.mark.parametrize(
    ("values", "gold", "expected"),
    [
        ([-3.0, -1.0, -2.0], 1, 1.0),
        ([-3.0, -1.0, -2.0], 0, 0.0),
        ([-1.0, -1.0], 0, 1.0),  # a tie goes to the earlier choice, as in lm-eval
        ([-1.0, -1.0], 1, 0.0),
        ([-math.inf, -9.0], 1, 1.0),
    ],
)
def test_accuracy(values: list[float], gold: int, expected: float) -> None:
    assert accuracy(values, gold) == expected


def test_a_model_without_a_number_is_not_judged() -> None:
    assert math.isnan(accuracy([math.nan, -1.0], 1))


def test_length_normalisation_frees_the_long_choice() -> None:
    values, choices = [-6.0, -8.0], ["כן", "בהחלט כן"]
    assert accuracy(values, 1) == 0.0
    assert length_normalised_accuracy(values, choices, 1) == 1.0


@pytest.mark.parametrize("choices", [["א"], ["א", ""]])
def test_a_choice_for_each_value(choices: list[str]) -> None:
    with pytest.raises(ValueError, match="non-empty choice"):
        length_normalised_accuracy([-1.0, -2.0], choices, 0)


def test_gold_outside_the_choices_is_misuse() -> None:
    with pytest.raises(ValueError, match="gold index"):
        accuracy([-1.0, -2.0], 2)


def test_adapter_for_the_harness() -> None:
    doc = {"label": 2, "choices": ["חיובי", "שלילי", "ניטרלי"]}
    found = process_results(doc, [(-4.0, False), (-5.0, False), (-3.0, True)])
    assert found == {"score": 1.0, "acc": 1.0, "acc_norm": 1.0}


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(0, 0), (1, 1), (2, 2)], 1.0),
        ([(0, 0), (1, 0)], (2 / 3 + 0) / 2),
        ([(0, 1), (1, 0)], 0.0),
        ([(0, 0), (0, 0), (0, 1), (1, 1)], (4 / 5 + 2 / 3) / 2),
        # An answer that named no label is a miss of its gold one, and no third label.
        ([(0, 0), (0, 0), (0, -1), (1, 1)], (4 / 5 + 1) / 2),
        ([(0, -1), (1, -1)], 0.0),
    ],
)
def test_macro_f1(pairs: list[tuple[int, int]], expected: float) -> None:
    assert macro_f1(pairs) == pytest.approx(expected)


def test_macro_f1_equals_scikit_learns() -> None:
    from random import Random

    from sklearn.metrics import f1_score

    generator = Random(3)
    pairs = [(generator.randrange(4), generator.randrange(4)) for _ in range(200)]
    golds, predictions = zip(*pairs, strict=True)
    assert macro_f1(pairs) == pytest.approx(f1_score(golds, predictions, average="macro"))


def test_an_unjudged_item_is_no_label() -> None:
    doc = {"label": 1, "choices": ["כן", "לא"]}
    assert process_labels(doc, [(-1.0, True), (-2.0, False)])["macro_f1"] == (1, 0)
    assert process_labels(doc, [(math.nan, False), (-2.0, False)])["macro_f1"] == (1, -1)
