import math
from math import nan

import evalica
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from statsmodels.stats.inter_rater import aggregate_raters, cohens_kappa, fleiss_kappa

from hebench.stats.agreement import (
    NO_PAIRS,
    NO_RATINGS,
    NO_VARIATION,
    ONE_RATER,
    Metric,
    cohen_kappa,
    gwet_ac1,
    krippendorff,
    raters_against_rest,
    raw_agreement,
    self_agreement,
)

# Krippendorff's example, here one row a coder: 12 units, missing ones NaN.
CODERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
    [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
]
UNITS = np.array(CODERS).T


def random_ratings(seed: int, *, units: int = 40, raters: int = 5) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    truth = generator.integers(1, 6, units)[:, None]
    table = np.clip(truth + generator.integers(-1, 2, (units, raters)), 1, 5).astype(float)
    table[generator.random(table.shape) < 0.4] = nan
    return table


@pytest.mark.parametrize(
    ("metric", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_krippendorffs_example(metric: Metric, published: float) -> None:
    found = krippendorff(UNITS, metric)
    assert found.value == pytest.approx(published, abs=5e-4)
    assert (found.units, found.raters, found.ratings) == (11, 4, 41)
    assert found.low is not None and found.high is not None
    assert found.low < published < found.high <= 1


@pytest.mark.parametrize("metric", ["nominal", "ordinal", "interval"])
@pytest.mark.parametrize("seed", range(3))
def test_alpha_is_that_of_evalica(metric: Metric, seed: int) -> None:
    table = random_ratings(seed)
    theirs = evalica.alpha(pd.DataFrame(table.T), distance=metric).alpha
    assert krippendorff(table, metric, resamples=10).value == pytest.approx(theirs, abs=1e-9)


def test_nominal_alpha_is_fleiss_kappa_but_for_the_sample_size() -> None:
    """With n ratings in all, 1 - alpha = (1 - kappa) (n - 1) / n."""
    table = np.random.default_rng(3).integers(0, 3, (30, 4))
    kappa = fleiss_kappa(aggregate_raters(table)[0])
    found = krippendorff(table, "nominal", resamples=10).value
    assert found == pytest.approx(1 - (1 - kappa) * 119 / 120)


def test_gwets_coefficient_of_krippendorffs_example() -> None:
    """Gwet, Handbook of Inter-Rater Reliability (4th edition), table 5.10: AC1 0.77544."""
    assert gwet_ac1(UNITS, 5).value == pytest.approx(0.77544, abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_kappa_of_two_raters_is_that_of_statsmodels(seed: int) -> None:
    table = random_ratings(seed, raters=2)
    both = table[~np.isnan(table).any(axis=1)].astype(int) - 1
    counts = np.zeros((5, 5))
    np.add.at(counts, (both[:, 0], both[:, 1]), 1)
    assert cohen_kappa(*table.T).value == pytest.approx(cohens_kappa(counts).kappa)
    squared = cohens_kappa(counts, wt="fc").kappa
    assert cohen_kappa(*table.T, "interval").value == pytest.approx(squared)


@pytest.mark.parametrize(
    ("ratings", "reason"),
    [
        ([[2, 2], [2, 2], [nan, 2]], NO_VARIATION),
        ([[1, nan], [nan, 2]], NO_PAIRS),
        ([[1, nan], [2, nan]], ONE_RATER),
        ([[1], [2]], ONE_RATER),
        ([[nan, nan]], NO_RATINGS),
    ],
)
def test_the_undefined_is_said_in_words(ratings: list[list[float]], reason: str) -> None:
    for metric in ("nominal", "ordinal", "interval"):
        found = krippendorff(ratings, metric)
        assert (found.value, found.low, found.high, found.reason) == (None, None, None, reason)


def test_everyone_alike_is_full_raw_agreement_but_no_alpha_or_kappa() -> None:
    ratings = [[1, 1, 1], [1, 1, 1]]
    assert raw_agreement(ratings).value == 1
    assert gwet_ac1(ratings, 2).value == 1
    assert cohen_kappa([1, 1], [1, 1]).reason == NO_VARIATION


def test_too_few_units_that_vary_have_no_interval() -> None:
    found = krippendorff([[1, 1]] * 20 + [[1, 2]], "nominal")
    assert found.value is not None
    assert found.low is None


@given(seed=st.integers(0, 500))
@settings(max_examples=20)
def test_neither_order_nor_units_rated_once_nor_names_of_answers_matter(seed: int) -> None:
    table = random_ratings(seed, units=15)
    generator = np.random.default_rng(seed)
    value = krippendorff(table, "nominal", resamples=2).value
    mixed = table[generator.permutation(15)][:, generator.permutation(5)]
    renamed = np.append(nan, generator.permutation(5))[np.nan_to_num(mixed).astype(int)]
    more = np.vstack([renamed, [9, nan, nan, nan, nan]])
    found = krippendorff(more, "nominal", resamples=2)
    assert (found.value is None) == (value is None)
    assert found.value == pytest.approx(value)


@given(seed=st.integers(0, 500))
@settings(max_examples=20)
def test_coefficients_are_at_most_one_and_alpha_lies_in_its_interval(seed: int) -> None:
    table = random_ratings(seed)
    for metric in ("nominal", "ordinal", "interval"):
        found = krippendorff(table, metric, resamples=100)
        assert found.low <= found.value <= found.high <= 1
    assert 0 <= raw_agreement(table).value <= 1
    assert gwet_ac1(table, 5).value <= 1


def test_random_answers_have_alpha_near_zero() -> None:
    table = np.random.default_rng(5).integers(0, 3, (3000, 3))
    assert krippendorff(table, "ordinal", resamples=2).value == pytest.approx(0, abs=0.03)


def test_a_rater_who_turns_the_scale_stands_out_from_the_rest() -> None:
    table = np.random.default_rng(6).integers(1, 6, (50, 1)) * np.ones((1, 4))
    table[:, 3] = 6 - table[:, 3]
    table[0] = [nan, nan, nan, 3]
    found = raters_against_rest(np.column_stack([table, np.full(50, nan)]))
    assert found[0].value == found[1].value > 0.6 > found[3].value
    assert (found[0].units, found[3].units) == (49, 49)
    assert (found[4].value, found[4].reason) == (None, NO_PAIRS)


def test_self_agreement_counts_repeats_and_clusters_raters() -> None:
    answers, repeats = [0, 1, 2, 2, 0, nan], [0, 1, 1, 2, 1, 0]
    found = self_agreement(answers, repeats, ["a", "a", "b", "b", "c", "c"])
    assert (found.mean, found.n, found.unscored, found.clusters) == (0.6, 5, 1, 3)
    assert not math.isnan(found.low)


def test_misuse() -> None:
    with pytest.raises(ValueError, match="units, raters"):
        krippendorff([1, 2], "nominal")
    with pytest.raises(ValueError, match="at least 3 categories"):
        gwet_ac1([[1, 2], [3, 3]], 2)
