"""How well a model predicts running text: bits per byte.

    >>> bits_per_byte(-693.147, "א" * 250)
    2.0...

The log-likelihood of a text is divided by its UTF-8 bytes, which are the same for every model,
and not by its tokens, which are not: loss per token ranks tokenizers. Most Hebrew letters are
two bytes, so that a figure for Hebrew does not compare with one for English.
"""

import math
from collections.abc import Sequence
from typing import Any


def bits_per_byte(loglikelihood: float, text: str) -> float:
    """Return bits per UTF-8 byte of `text`, given its log-likelihood in nats (at most 0).

    Raises ValueError for an empty text.
    """
    if not text:
        raise ValueError("expected a text, found an empty one")
    return -loglikelihood / (math.log(2) * len(text.encode("utf-8")))


def corpus_bits_per_byte(pairs: Sequence[tuple[float, int]]) -> float:
    """Return bits per byte over (log-likelihood in nats, bytes) pairs: all bits by all bytes."""
    total_bytes = sum(size for _, size in pairs)
    if total_bytes <= 0:
        raise ValueError("expected at least one byte of text, found none")
    return -sum(value for value, _ in pairs) / (math.log(2) * total_bytes)


def process_rolling(doc: dict[str, Any], results: list[float]) -> dict[str, Any]:
    """Return the metrics of one text, for lm-eval.

    `score` is the geometric mean probability of a byte, 2 ** -bits_per_byte: in [0, 1], higher
    is better, as for every task; `bits_per_byte` itself is lower for the better model.
    """
    (loglikelihood,) = results
    text = doc["text"]
    bits = bits_per_byte(loglikelihood, text)
    return {"score": 2**-bits, "bits_per_byte": (loglikelihood, len(text.encode("utf-8")))}
