"""Scores for short answers to questions: TLNLS, token F1, exact match.

TLNLS (token-level normalised Levenshtein similarity) is the metric of HeQ (Cohen et al.,
Findings of EMNLP 2023, pp. 13693-13705): it forgives what Hebrew morphology glues to a word.

    >>> tlnls("ירושלים", ["בירושלים"])
    0.875
    >>> exact_match("ירושלים", ["בירושלים"])
    0.0

A score is a fact about strings only. "No ability" is not 0 on TLNLS: the answer to another
question of the same set scores about 0.1 (see the data cards for measured baselines).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from rapidfuzz.distance import Levenshtein

from hebench.hebrew import Profile, normalise


def tlnls(
    prediction: str,
    golds: Sequence[str],
    *,
    null_answer: str | None = None,
    profile: Profile = "reference",
) -> float:
    """Return the best TLNLS of `prediction` against any of `golds`.

    For a pair, each gold token takes its best similarity, 1 - Levenshtein / longer length,
    to any predicted token; the sum is divided by the larger token count. Two special rules:
    where at least half of the raw prediction's characters are digits, token F1 is the score
    (numbers earn no partial credit; an empty prediction falls here, too), and where
    `null_answer` is given and the prediction or any gold equals it, exact match is the score.
    Pairs of which a side has no tokens score 1 if neither has any, else 0.

    Follows google-research/mrl_eval, ``evaluation/metrics_utils``. Raises ValueError without golds.
    """
    _require_golds(golds)
    if null_answer is not None:
        null = normalise(null_answer, profile)
        if any(normalise(text, profile) == null for text in (prediction, *golds)):
            return exact_match(prediction, golds, profile=profile)
    if sum(char.isdigit() for char in prediction) >= len(prediction) / 2:
        return token_f1(prediction, golds, profile=profile)
    return _best(_tlnls_of_tokens, prediction, golds, profile)


def token_f1(prediction: str, golds: Sequence[str], *, profile: Profile = "reference") -> float:
    """Return the best harmonic mean of token precision and recall against any of `golds`.

    SQuAD's F1 on bags of tokens. Raises ValueError without golds.
    """
    _require_golds(golds)
    return _best(_f1_of_tokens, prediction, golds, profile)


def exact_match(prediction: str, golds: Sequence[str], *, profile: Profile = "reference") -> float:
    """Return 1.0 if `prediction` equals any of `golds` after normalisation, else 0.0.

    Raises ValueError without golds.
    """
    _require_golds(golds)
    return _best(lambda left, right: float(left == right), prediction, golds, profile)


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Return the metrics of one generated answer, for lm-eval; `score` is TLNLS.

    `doc` holds `golds`, the accepted answers, and `null_answer`, which is the only gold of an
    unanswerable question.
    """
    prediction, golds = results[0].strip(), doc["golds"]
    headline = tlnls(prediction, golds, null_answer=doc["null_answer"])
    return {
        "score": headline,
        "tlnls": headline,
        "f1": token_f1(prediction, golds),
        "exact_match": exact_match(prediction, golds),
        "f1_hebrew": token_f1(prediction, golds, profile="hebrew"),
        "exact_match_hebrew": exact_match(prediction, golds, profile="hebrew"),
    }


def _require_golds(golds: Sequence[str]) -> None:
    if isinstance(golds, str) or not golds:
        raise ValueError(
            f"expected a list of at least one accepted answer, found {golds!r}; "
            "an unanswerable question takes the null answer as its gold"
        )


def _best(
    similarity: Callable[[list[str], list[str]], float],
    prediction: str,
    golds: Sequence[str],
    profile: Profile,
) -> float:
    predicted = normalise(prediction, profile).split()
    return max(similarity(predicted, normalise(gold, profile).split()) for gold in golds)


def _tlnls_of_tokens(predicted: list[str], gold: list[str]) -> float:
    if not predicted or not gold:
        return float(predicted == gold)
    total = sum(
        max(Levenshtein.normalized_similarity(token, other) for other in predicted)
        for token in gold
    )
    return total / max(len(predicted), len(gold))


def _f1_of_tokens(predicted: list[str], gold: list[str]) -> float:
    if not predicted or not gold:
        return float(predicted == gold)
    shared = (Counter(predicted) & Counter(gold)).total()
    return 2 * shared / (len(predicted) + len(gold))
