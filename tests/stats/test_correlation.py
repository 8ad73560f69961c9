"""Rank correlation: scipy's coefficient, with an interval that covers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hebench.stats.correlation import rank_correlation


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=30))
def test_the_coefficient_is_scipys_and_lies_in_its_interval(
    pairs: list[tuple[float, float]],
) -> None:
    a, b = ([pair[side] for pair in pairs] for side in (0, 1))
    found = rank_correlation(a, b)
    assert -1 <= found.low <= found.high <= 1 and found.n == len(pairs)
    if found.value is None:
        assert len(set(a)) == 1 or len(set(b)) == 1
    else:
        assert found.value == pytest.approx(float(stats.spearmanr(a, b).statistic))
        assert found.low <= found.value <= found.high


def test_three_pairs_say_nothing_and_agreement_throughout_is_no_certainty() -> None:
    three = rank_correlation([1, 2, 3], [1, 2, 3])
    assert (three.low, three.high) == (-1, 1)
    found = rank_correlation(range(8), range(8))
    assert found.value == pytest.approx(1) and found.high == pytest.approx(1) and found.low < 0.95
    opposite = rank_correlation(range(8), range(8, 0, -1))
    assert opposite.low == pytest.approx(-found.high) and opposite.high == pytest.approx(-found.low)


def test_the_interval_of_bonett_and_wright_is_theirs() -> None:
    a, b = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [2, 1, 4, 3, 7, 5, 6, 10, 9, 8]
    rho = float(stats.spearmanr(a, b).statistic)
    half = 1.959964 * np.sqrt((1 + rho**2 / 2) / 7)
    found = rank_correlation(a, b)
    assert found.low == pytest.approx(np.tanh(np.arctanh(rho) - half), abs=1e-6)
    assert found.high == pytest.approx(np.tanh(np.arctanh(rho) + half), abs=1e-6)


def test_the_interval_covers_the_true_correlation_in_simulation() -> None:
    made, hits, studies = np.random.default_rng(5), 0, 400
    true = 6 / np.pi * np.arcsin(0.6 / 2)  # Spearman's of a normal pair with correlation 0.6
    for _ in range(studies):
        x = made.standard_normal(20)
        y = 0.6 * x + 0.8 * made.standard_normal(20)
        found = rank_correlation(x.tolist(), y.tolist())
        hits += found.low <= true <= found.high
    assert 0.92 <= hits / studies <= 0.98


@pytest.mark.parametrize(("a", "b"), [([1, 2], [1, 2]), ([1, 2, 3], [1, 2])])
def test_too_few_or_unequal_lists_are_misuse(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="expected 3 or more pairs"):
        rank_correlation(a, b)
