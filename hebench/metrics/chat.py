"""The chat track: free answers of chat models, parsed before they are scored.

    >>> doc = {"choices": ["הגביע", "התיק"], "label": 1}
    >>> process_choice(doc, ["<think>...</think>התשובה הנכונה היא ב׳."])
    {'score': 1.0, 'acc': 1.0, 'unparseable': 0.0}

Thinking is stripped whether or not it is closed. What cannot be parsed with certainty is not
guessed: it scores 0 and is counted under `unparseable`, so that a model which ignores the
format and one which does not know are told apart.
"""

from typing import Any

from hebench.metrics import instructions, nikud, qa, text
from hebench.metrics.extract import choice, final_answer, number, strip_thinking


def process_choice(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Return the metrics of a choice named by its letter or its text; `score` is accuracy."""
    found = choice(strip_thinking(results[0]), doc["choices"])
    right = float(found == doc["label"])
    return {"score": right, "acc": right, "unparseable": float(found is None)}


def process_labels(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """Return those of `process_choice`, and the pair for macro-F1 (-1 for an unparsed label)."""
    found = choice(strip_thinking(results[0]), doc["choices"])
    pair = (doc["label"], -1 if found is None else found)
    return process_choice(doc, results) | {"macro_f1": pair}


def process_number(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Return the metrics of an integer answer; `score` is exact equality with `doc["answer"]`."""
    found = number(strip_thinking(results[0]))
    right = float(found == doc["answer"])
    return {"score": right, "exact_match": right, "unparseable": float(found is None)}


def process_question(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Return the metrics of a short answer, as `metrics.qa` gives them."""
    answer = final_answer(strip_thinking(results[0]))
    return qa.process_results(doc, [answer]) | _empty(answer)


def process_translation(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """Return the metrics of a translation, as `metrics.text` gives them."""
    answer = strip_thinking(results[0]).strip()
    return text.process_translation(doc, [answer]) | _empty(answer)


def process_summary(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Return the metrics of a summary, as `metrics.text` gives them."""
    answer = strip_thinking(results[0]).strip()
    return text.process_summary(doc, [answer]) | _empty(answer)


def process_nikud(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Return the metrics of a pointed text, as `metrics.nikud` gives them."""
    answer = strip_thinking(results[0]).strip()
    return nikud.process_results(doc, [answer]) | _empty(answer)


def process_instruction(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Return the metrics of a followed instruction, as `metrics.instructions` gives them."""
    answer = strip_thinking(results[0]).strip()
    return instructions.process_results(doc, [answer]) | _empty(answer)


def _empty(answer: str) -> dict[str, float]:
    """Running text cannot fail to parse, but thinking that never ended leaves none."""
    return {"unparseable": float(not answer)}
