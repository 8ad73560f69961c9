"""Scores for questions with a closed set of answers, from the model's log-likelihoods.

    >>> accuracy([-12.3, -9.8, -15.0], gold=1)
    1.0

A choice with more letters has a lower likelihood for no other reason than its length;
length-normalised accuracy divides by the number of characters. Characters are those of the
text, so that models with different tokenizers are treated alike.
"""

import math
from collections.abc import Sequence
from typing import Any


def accuracy(loglikelihoods: Sequence[float], gold: int) -> float:
    """Return 1.0 if the gold choice has the highest log-likelihood (nats), else 0.0.

    A tie goes to the earlier choice, as in lm-eval. NaN where any value is NaN: a model that
    yields no number cannot be judged, and the caller counts it as unscored.
    Raises ValueError if `gold` is not an index of `loglikelihoods`.
    """
    if not 0 <= gold < len(loglikelihoods):
        raise ValueError(f"expected a gold index below {len(loglikelihoods)}, found {gold}")
    if any(math.isnan(value) for value in loglikelihoods):
        return math.nan
    best = max(range(len(loglikelihoods)), key=lambda index: loglikelihoods[index])
    return float(best == gold)


def length_normalised_accuracy(
    loglikelihoods: Sequence[float], choices: Sequence[str], gold: int
) -> float:
    """Return accuracy after each log-likelihood is divided by its choice's characters.

    The `acc_norm` of lm-eval. Raises ValueError for an empty choice or unequal lengths.
    """
    if len(loglikelihoods) != len(choices) or not all(choices):
        raise ValueError(
            f"expected one non-empty choice for each of {len(loglikelihoods)} values, "
            f"found {list(choices)!r}"
        )
    per_character = [
        value / len(choice) for value, choice in zip(loglikelihoods, choices, strict=True)
    ]
    return accuracy(per_character, gold)


def macro_f1(pairs: Sequence[tuple[int, int]]) -> float:
    """Return the unweighted mean over labels of F1, from (gold, predicted) label indices.

    A label counts if it occurs as gold or prediction; one that is never right has F1 0. A
    prediction of no label (-1) is a miss of its gold label and no label of its own. For the
    rest scikit-learn's `f1_score(average="macro")`. Raises ValueError without pairs.
    """
    if not pairs:
        raise ValueError("expected at least one (gold, predicted) pair, found none")
    labels = {label for pair in pairs for label in pair if label >= 0}
    scores = []
    for label in labels:
        right = sum(gold == predicted == label for gold, predicted in pairs)
        named = sum((gold == label) + (predicted == label) for gold, predicted in pairs)
        scores.append(2 * right / named)
    return sum(scores) / len(scores)


def process_results(doc: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, float]:
    """Return the metrics of one closed question, for lm-eval; `score` is accuracy.

    `doc` holds `choices` (the answers' text) and `label` (the index of the right one).
    """
    loglikelihoods = [value for value, _ in results]
    headline = accuracy(loglikelihoods, doc["label"])
    return {
        "score": headline,
        "acc": headline,
        "acc_norm": length_normalised_accuracy(loglikelihoods, doc["choices"], doc["label"]),
    }


def process_labels(doc: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, Any]:
    """Return the metrics of one classified item, for lm-eval: those of a choice, and macro-F1.

    An item whose likelihoods are NaN enters macro-F1 as a prediction of no label (-1).
    """
    values = [value for value, _ in results]
    judged = not any(math.isnan(value) for value in values)
    predicted = max(range(len(values)), key=lambda index: values[index]) if judged else -1
    return process_results(doc, results) | {"macro_f1": (doc["label"], predicted)}
