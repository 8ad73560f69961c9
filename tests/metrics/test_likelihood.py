import math

import pytest

from hebench.metrics.likelihood import bits_per_byte, corpus_bits_per_byte, process_rolling


def test_bits_are_per_byte_of_utf8_not_per_character() -> None:
    assert bits_per_byte(-8 * math.log(2), "אבגד") == pytest.approx(1)
    assert bits_per_byte(-8 * math.log(2), "abcd") == pytest.approx(2)


def test_a_corpus_weighs_texts_by_their_bytes() -> None:
    pairs = [(-math.log(2) * 10, 10), (-math.log(2) * 90, 30)]
    assert corpus_bits_per_byte(pairs) == pytest.approx(100 / 40)


def test_score_is_the_mean_probability_of_a_byte() -> None:
    found = process_rolling({"text": "אב"}, [-4 * math.log(2) * 2])
    assert found["score"] == pytest.approx(0.25)
    assert corpus_bits_per_byte([found["bits_per_byte"]]) == pytest.approx(2)


def test_misuse() -> None:
    with pytest.raises(ValueError, match="empty"):
        bits_per_byte(-1.0, "")
    with pytest.raises(ValueError, match="at least one byte"):
        corpus_bits_per_byte([])
