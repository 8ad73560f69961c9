"""Scores for running text: chrF++ and BLEU by sacrebleu, ROUGE by rouge-score.

    >>> round(chrf("הילד אכל תפוח", ["הילד אכל תפוח ירוק"]), 3)
    0.729

All values are in [0, 1] (sacrebleu's own are in percent). Two warnings that cost others
their numbers: rouge-score's own tokenizer drops every Hebrew letter, so identical Hebrew
texts get 0; and BLEU with its default tokenizer cannot cut Hebrew morphology, so chrF++ is
the headline of translation here and BLEU stands beside it, with its signature.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from hebench.hebrew import words

RougeTokenizer = Literal["hebrew", "whitespace"]
ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def chrf(prediction: str, references: Sequence[str]) -> float:
    """Return sentence chrF++ (characters to 6, words to 2), the best over `references`."""
    return _unit(_chrf().sentence_score(prediction, _checked(references)).score)


def bleu(prediction: str, references: Sequence[str]) -> float:
    """Return sentence BLEU-4 with effective order and exponential smoothing (13a tokens)."""
    return _unit(_sentence_bleu().sentence_score(prediction, _checked(references)).score)


def corpus_chrf(pairs: Sequence[tuple[str, Sequence[str]]]) -> float:
    """Return corpus chrF++ over (prediction, references) pairs; numbers of references may vary."""
    predictions, streams = _streams(pairs)
    return _unit(_chrf().corpus_score(predictions, streams).score)


def corpus_bleu(pairs: Sequence[tuple[str, Sequence[str]]]) -> float:
    """Return corpus BLEU-4 over (prediction, references) pairs (13a tokens)."""
    predictions, streams = _streams(pairs)
    return _unit(_corpus_bleu().corpus_score(predictions, streams).score)


def bleu_statistics(pairs: Sequence[tuple[str, Sequence[str]]]) -> NDArray[np.int64]:
    """Return what corpus BLEU adds up, one row a pair: (n, 10).

    Lengths of hypothesis and closest reference, n-grams found by order, n-grams by order.
    `hebench.stats.resample.bleu_from_statistics` turns the sum of rows into `corpus_bleu`.
    """
    return _statistics(_corpus_bleu(), pairs)


def chrf_statistics(pairs: Sequence[tuple[str, Sequence[str]]]) -> NDArray[np.int64]:
    """Return what corpus chrF++ adds up, one row a pair: (n, 24), against its best reference.

    For each order (characters 1 to 6, words 1 and 2): n-grams of hypothesis, reference, both.
    `hebench.stats.resample.chrf_from_statistics` turns the sum of rows into `corpus_chrf`.
    """
    return _statistics(_chrf(), pairs)


def signatures() -> dict[str, str]:
    """Return how the scores of this module are computed, in sacrebleu's notation.

    The number of references is left open (`var`): it differs between items.
    """
    found = {}
    for name, metric in (("chrf", CHRF(word_order=2)), ("bleu", BLEU())):
        metric.corpus_score(["א"], [["א"]])  # sacrebleu knows its signature only after a use
        signature = metric.get_signature()
        signature.info["nrefs"] = "var"
        found[name] = signature.format()
    found["rouge"] = f"rouge-score|f1|tok:hebrew|types:{','.join(ROUGE_TYPES)}"
    return found


def rouge(
    prediction: str, reference: str, *, tokenizer: RougeTokenizer = "hebrew"
) -> dict[str, float]:
    """Return F1 of ROUGE-1, -2, -L and -Lsum, keyed as in `ROUGE_TYPES`.

    `hebrew` counts the words of `hebench.hebrew.words`; `whitespace` splits at whitespace
    only, as google-research/mrl_eval does. Lsum takes each line as a sentence.
    """
    scores = _rouge(tokenizer).score(reference, prediction)
    return {name: float(scores[name].fmeasure) for name in ROUGE_TYPES}


def process_translation(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """Return the metrics of one translation, for lm-eval; `score` is sentence chrF++.

    `doc` holds `references`. The corpus metrics carry their inputs to the aggregation.
    """
    prediction, references = results[0].strip(), list(doc["references"])
    sentence_chrf = chrf(prediction, references)
    return {
        "score": sentence_chrf,
        "chrf": sentence_chrf,
        "bleu_sentence": bleu(prediction, references),
        "chrf_corpus": (prediction, references),
        "bleu_corpus": (prediction, references),
    }


def process_summary(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Return the metrics of one summary, for lm-eval; `score` is ROUGE-L on Hebrew words.

    `doc` holds `target`, the reference summary.
    """
    prediction = results[0].strip()
    scores = rouge(prediction, doc["target"])
    return {"score": scores["rougeL"], **scores, "chrf": chrf(prediction, [doc["target"]])}


class _HebrewTokenizer:
    """The tokenizer interface of rouge-score over `hebench.hebrew.words`."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


class _WhitespaceTokenizer:
    """The tokenizer interface of rouge-score over plain whitespace."""

    def tokenize(self, text: str) -> list[str]:
        return text.split()


@cache
def _chrf() -> CHRF:
    return CHRF(word_order=2)


@cache
def _sentence_bleu() -> BLEU:
    return BLEU(effective_order=True)


@cache
def _corpus_bleu() -> BLEU:
    return BLEU()


@cache
def _rouge(tokenizer: RougeTokenizer) -> Any:
    # Its import brings nltk, a second that only summaries need.
    from rouge_score import rouge_scorer

    chosen = {"hebrew": _HebrewTokenizer, "whitespace": _WhitespaceTokenizer}[tokenizer]()
    return rouge_scorer.RougeScorer(list(ROUGE_TYPES), tokenizer=chosen)


def _unit(percent: float) -> float:
    """Return percent as a share; sacrebleu's geometric mean can exceed 100 by a rounding."""
    return min(1.0, float(percent) / 100)


def _checked(references: Sequence[str]) -> list[str]:
    if isinstance(references, str) or not references:
        raise ValueError(f"expected a list of at least one reference, found {references!r}")
    return list(references)


def _statistics(
    metric: BLEU | CHRF, pairs: Sequence[tuple[str, Sequence[str]]]
) -> NDArray[np.int64]:
    # Not public in sacrebleu, but what its own significance tests are made of.
    return np.array(metric._extract_corpus_statistics(*_streams(pairs)), dtype=np.int64)


def _streams(
    pairs: Sequence[tuple[str, Sequence[str]]],
) -> tuple[list[str], list[list[str]]]:
    """Return predictions, and references as sacrebleu's streams.

    Items with fewer references repeat their last one: neither metric counts a reference twice.
    """
    if not pairs:
        raise ValueError("expected at least one (prediction, references) pair, found none")
    references = [_checked(item[1]) for item in pairs]
    width = max(map(len, references))
    streams = [[item[min(place, len(item) - 1)] for item in references] for place in range(width)]
    return [item[0] for item in pairs], streams
