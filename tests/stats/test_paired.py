import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hebench.stats.intervals import mean_interval
from hebench.stats.paired import (
    Comparison,
    compare,
    macro_difference,
    mcnemar,
    minimum_detectable,
    needed_items,
    sign_flip_p,
)

Scores = list[float]
binary = st.lists(st.sampled_from([0.0, 1.0]), min_size=24, max_size=24)
graded = st.lists(st.floats(0, 1, width=16), min_size=24, max_size=24)
some = st.one_of(binary, graded)
labels = st.lists(st.integers(0, 7), min_size=24, max_size=24)


def drawn(n: int, seed: int = 0) -> tuple[Scores, Scores]:
    generator = np.random.default_rng(seed)
    difficulty = generator.normal(0, 1, n)
    a, b = (np.clip(0.5 + 0.2 * difficulty + generator.normal(0, 0.1, n), 0, 1) for _ in "ab")
    return a.tolist(), b.tolist()


def test_mcnemar_gives_the_published_example() -> None:
    """Fagerland, Lydersen, Laake 2013 (BMC Medical Research Methodology 13:91): 1 against 7."""
    assert mcnemar(1, 7) == pytest.approx(0.0703, abs=5e-5)


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (3, 3), (0, 9), (12, 5), (300, 351)])
def test_mcnemar_equals_statsmodels(better: int, worse: int) -> None:
    from statsmodels.stats.contingency_tables import mcnemar as oracle

    expected = oracle([[10, better], [worse, 10]], exact=True).pvalue
    assert mcnemar(better, worse) == pytest.approx(min(1.0, expected), abs=1e-12)
    assert mcnemar(better, worse) == mcnemar(worse, better)


def test_independent_items_give_the_paired_t_test() -> None:
    a, b = drawn(40)
    found, expected = compare(a, b), stats.ttest_rel(a, b)
    assert found.p == pytest.approx(expected.pvalue, abs=1e-12)
    interval = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert found.test == "paired t"


def test_clustered_error_equals_statsmodels_and_errorbars() -> None:
    """An intercept alone with clustered errors is a mean."""
    import statsmodels.api as sm
    from errorbars.compare import paired_compare

    a, b = drawn(60)
    codes = np.arange(60) // 5
    found = compare(a, b, codes)
    model = sm.OLS(np.subtract(a, b), np.ones(60))
    fitted = model.fit(cov_type="cluster", cov_kwds={"groups": codes}, use_t=True)
    assert found.standard_error == pytest.approx(fitted.bse[0], rel=1e-12)
    assert found.p == pytest.approx(fitted.pvalues[0], rel=1e-9)
    other = paired_compare(a, b, clusters=codes)
    assert (found.low, found.high) == pytest.approx(
        (other.ci_low_clustered, other.ci_high_clustered), abs=1e-9
    )


def test_binary_scores_take_mcnemar_and_count_the_items_that_differ() -> None:
    found = compare([1, 1, 1, 0, 1, 1], [0, 0, 1, 0, 0, 1])
    assert (found.better, found.worse, found.equal) == (3, 0, 3)
    assert (found.test, found.p) == ("exact McNemar", 0.25)
    assert found.sign_flip_p == 0.25  # for binary scores the exact sign flip is the same test


def test_sign_flips_equal_scipys_permutation_test() -> None:
    """Ten units: both enumerate 1,024 patterns."""
    sums = np.array([0.3, -0.1, 0.4, 0.2, -0.3, 0.5, 0.1, 0.05, -0.2, 0.6])
    expected = stats.permutation_test(
        (sums, np.zeros(10)),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    )
    found = sign_flip_p(sums, 10, np.random.default_rng(0))
    assert found == pytest.approx(expected.pvalue, abs=1e-12)


def test_drawn_sign_flips_are_near_the_exact_share() -> None:
    """Sixteen units of size one: the flips are a binomial distribution."""
    sums = np.array([1.0] * 12 + [-1.0] * 4)
    found = sign_flip_p(sums, 20_000, np.random.default_rng(0))
    assert found == pytest.approx(2 * stats.binom.cdf(4, 16, 0.5), abs=0.006)


def test_sign_flips_of_nothing_differ_from_nothing() -> None:
    assert sign_flip_p(np.zeros(30), 100, np.random.default_rng(0)) == 1.0


@pytest.mark.parametrize(
    ("a", "b", "clusters", "error"),
    [
        ([1.0] * 20, [0.0] * 20, None, 1 / 20),  # right wherever the other is wrong
        ([0.7] * 20, [0.7] * 20, None, 1 / 20),  # the same answers
        ([1.0, 0.0] * 10, [0.0, 0.0] * 10, [i // 2 for i in range(20)], 1 / 10),
    ],
)
def test_differences_that_do_not_vary_are_not_certain(
    a: Scores, b: Scores, clusters: list[int] | None, error: float
) -> None:
    found = compare(a, b, clusters)
    assert found.standard_error == pytest.approx(error)
    assert found.low < found.difference
    assert found.high > found.difference or found.high == 1.0
    assert 0 < found.p <= 1


def test_one_item_that_differs_has_the_error_that_stands_in_for_none() -> None:
    found = compare([1.0] + [0.0] * 19, [0.0] * 20)
    assert found.standard_error == pytest.approx(1 / 20)


def test_one_unit_tells_nothing() -> None:
    found = compare([1, 1, 1], [0, 0, 0], ["a", "a", "a"])
    assert (found.low, found.high, found.p) == (-1.0, 1.0, 1.0)
    assert (found.bootstrap_low, found.bootstrap_high) == (-1.0, 1.0)
    assert "one independent unit" in found.test


def test_items_without_a_judgement_are_left_out_of_both() -> None:
    nan = math.nan
    found = compare([1, nan, 0, 1, 1], [0, 1, nan, 1, 0])
    same = compare([1, 1, 1], [0, 1, 0])
    assert (found.n, found.unscored) == (3, 2)
    assert (found.difference, found.p) == (same.difference, same.p)
    nothing = compare([nan, 1.0], [0.5, nan])
    assert (nothing.n, nothing.unscored, nothing.test) == (0, 2, "none")
    assert math.isnan(nothing.p) and (nothing.low, nothing.high) == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("a", "b", "clusters", "message"),
    [
        ([], [], None, "n > 0"),
        ([0.1, 0.2], [0.1], None, "two vectors"),
        ([0.1, 1.2], [0.1, 0.2], None, r"\[0, 1\]"),
        ([0.1, 0.2], [0.1, 0.2], ["x"], "2 cluster labels"),
    ],
)
def test_misuse(a: Scores, b: Scores, clusters: list[str] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(a, b, clusters)


def key_numbers(found: Comparison) -> tuple[float, ...]:
    return found.difference, found.low, found.high, found.p, found.standard_error


@given(a=some, b=some, codes=labels)
def test_swapping_the_models_turns_the_signs(a: Scores, b: Scores, codes: list[int]) -> None:
    one, other = compare(a, b, codes, draws=50), compare(b, a, codes, draws=50)
    assert (one.difference, one.low, one.high) == pytest.approx(
        (-other.difference, -other.high, -other.low), abs=1e-12
    )
    assert one.p == pytest.approx(other.p, abs=1e-12)
    assert one.sign_flip_p == pytest.approx(other.sign_flip_p)
    assert (one.better, one.equal) == (other.worse, other.equal)
    assert 0 <= one.p <= 1 and 0 < one.sign_flip_p <= 1
    assert -1 <= one.low <= one.difference + 1e-12 and one.difference <= one.high + 1e-12


@given(a=some, b=some, codes=labels, order=st.permutations(range(24)))
def test_the_order_of_items_is_irrelevant(
    a: Scores, b: Scores, codes: list[int], order: list[int]
) -> None:
    one = compare(a, b, codes, draws=2)
    shuffled = [[values[i] for i in order] for values in (a, b, codes)]
    other = compare(*shuffled, draws=2)  # type: ignore[arg-type]
    assert key_numbers(one) == pytest.approx(key_numbers(other), abs=1e-9)


@given(a=graded, b=graded)
def test_items_repeated_in_their_cluster_add_nothing(a: Scores, b: Scores) -> None:
    codes = list(range(24))
    once, thrice = compare(a, b, codes, draws=2), compare(a * 3, b * 3, codes * 3, draws=2)
    assert (once.low, once.high) == pytest.approx((thrice.low, thrice.high), abs=1e-9)
    assert once.standard_error == pytest.approx(thrice.standard_error, abs=1e-9)


@pytest.mark.parametrize("kind", ["binary", "graded", "clustered"])
def test_the_bootstrap_agrees_with_the_t_interval(kind: str) -> None:
    """Few kinds of units are drawn as counts, many one by one; both must be near theory."""
    a, b = drawn(400, seed=3)
    if kind == "binary":
        a, b = ([float(x > 0.5) for x in values] for values in (a, b))
    codes = [i // 4 for i in range(400)] if kind == "clustered" else None
    found = compare(a, b, codes)
    width = found.high - found.low
    assert found.bootstrap_low == pytest.approx(found.low, abs=0.06 * width)
    assert found.bootstrap_high == pytest.approx(found.high, abs=0.06 * width)


def test_detectable_difference_is_found_as_often_as_it_says() -> None:
    """A t test on 400 items whose true difference is the detectable one: power 80 %."""
    generator = np.random.default_rng(5)
    shift = minimum_detectable(0.1 / 20)
    hits = [
        stats.ttest_1samp(generator.normal(shift, 0.1, 400), 0).pvalue < 0.05 for _ in range(2000)
    ]
    assert np.mean(hits) == pytest.approx(0.8, abs=0.03)


def test_needed_items_turns_the_detectable_difference_round() -> None:
    n = needed_items(0.5, 0.03)
    assert (
        minimum_detectable(0.5 / math.sqrt(n)) <= 0.03 < minimum_detectable(0.5 / math.sqrt(n - 1))
    )
    once = needed_items(0.3, 0.03, within_a=0.1, within_b=0.2)
    often = needed_items(0.3, 0.03, within_a=0.1, within_b=0.2, repeats=8)
    assert once > often > needed_items(0.3, 0.03)
    with pytest.raises(ValueError, match="difference"):
        needed_items(0.3, 0.0)


def test_needed_items_equals_errorbars() -> None:
    """Two models whose scores have variance 0.24 and correlation 0.4."""
    from errorbars.power import questions_needed

    expected = questions_needed(0.03, variance=0.24, rho=0.4).n_questions
    assert needed_items(math.sqrt(2 * 0.24 * 0.6), 0.03) == expected


def test_macro_difference_of_one_task_is_that_task() -> None:
    a, b = drawn(40)
    found, task = macro_difference([compare(a, b)]), compare(a, b)
    assert (found.difference, found.low, found.high, found.p) == pytest.approx(
        (task.difference, task.low, task.high, task.p)
    )
    assert (found.dof, found.detectable) == pytest.approx((39, task.detectable))


def test_macro_difference_adds_variances() -> None:
    tasks = [compare(*drawn(n, seed=n)) for n in (30, 200, 1000)]
    found = macro_difference(tasks)
    assert found.standard_error == pytest.approx(
        math.sqrt(sum(task.standard_error**2 for task in tasks)) / 3
    )
    assert 29 <= found.dof <= 1227
    with pytest.raises(ValueError, match="empty: \\[1\\]"):
        macro_difference([tasks[0], compare([math.nan], [0.0])])


def test_a_paired_difference_is_sharper_than_two_means() -> None:
    a, b = drawn(200)
    found = compare(a, b)
    apart = math.hypot(mean_interval(a).standard_error, mean_interval(b).standard_error)
    assert found.standard_error < 0.7 * apart
