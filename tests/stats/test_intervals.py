import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hebench.stats.intervals import cluster_standard_error, mean_interval, wilson


def test_wilson_gives_the_published_example() -> None:
    """Newcombe 1998 (Statistics in Medicine 17, 857-872), table I: 81 of 263 and 0 of 20."""
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_binary_scores_take_wilson() -> None:
    found = mean_interval([1, 0, 1, 1])
    assert found.method == "wilson"
    assert (found.low, found.high) == wilson(0.75, 4)


def test_other_scores_take_student() -> None:
    scores = [0.1, 0.5, 0.9, 0.3]
    found = mean_interval(scores)
    half = 3.182446 * np.std(scores, ddof=1) / 2  # t(3) at 97.5 %
    assert found.method == "t"
    assert found.high == pytest.approx(0.45 + half, abs=1e-6)


def test_clusters_of_one_are_the_ordinary_standard_error() -> None:
    scores = np.array([0.2, 0.4, 0.9, 0.1])
    assert cluster_standard_error(scores, np.arange(4)) == pytest.approx(np.std(scores, ddof=1) / 2)


def test_repeated_items_in_a_cluster_add_nothing() -> None:
    """Each passage's score written three times must not narrow the interval."""
    once = mean_interval([0.1, 0.5, 0.9, 0.3], list("abcd"))
    thrice = mean_interval([0.1, 0.5, 0.9, 0.3] * 3, list("abcd") * 3)
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))
    assert thrice.clusters == 4
    assert "4 clusters" in thrice.method


@pytest.mark.parametrize(
    ("scores", "clusters"),
    [
        ([1.0, 0.0, 1.0, 0.0], ["a", "a", "b", "b"]),  # one of two right in every pair
        ([0.0, 0.0, 0.0, 0.0], ["a", "a", "b", "b"]),
        ([0.25, 0.25, 0.25], None),
    ],
)
def test_no_variation_is_not_certainty(scores: list[float], clusters: list[str] | None) -> None:
    found = mean_interval(scores, clusters)
    assert found.high - found.low > 0.3


def test_one_independent_unit_tells_nothing() -> None:
    assert (mean_interval([0.4]).low, mean_interval([0.4]).high) == (0.0, 1.0)
    found = mean_interval([1, 0, 1], ["a", "a", "a"])
    assert (found.low, found.high) == (0.0, 1.0)


def test_unscored_items_are_counted_and_left_out() -> None:
    found = mean_interval([1.0, math.nan, 0.0, 1.0])
    assert (found.n, found.unscored) == (3, 1)
    assert found.mean == pytest.approx(2 / 3)
    nothing = mean_interval([math.nan, math.nan])
    assert (nothing.n, nothing.unscored, nothing.text()) == (0, 2, "unscored")


@pytest.mark.parametrize(
    ("scores", "clusters", "message"),
    [
        ([], None, "at least one score"),
        ([1.2], None, r"scores in \[0, 1\]"),
        ([0.5, 0.5], ["a"], "2 cluster labels"),
    ],
)
def test_misuse(scores: list[float], clusters: list[str] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean_interval(scores, clusters)


@given(
    scores=st.lists(st.floats(0, 1), min_size=1, max_size=30),
    labels=st.lists(st.integers(0, 5), min_size=30, max_size=30),
)
def test_the_interval_holds_the_mean_and_ignores_order(
    scores: list[float], labels: list[int]
) -> None:
    clusters = labels[: len(scores)]
    found = mean_interval(scores, clusters)
    assert 0 <= found.low <= found.mean + 1e-12 and found.mean <= found.high + 1e-12 <= 1 + 1e-9
    back = mean_interval(scores[::-1], clusters[::-1])
    assert (back.low, back.high) == pytest.approx((found.low, found.high), abs=1e-9)


@pytest.mark.parametrize(("share", "n"), [(0.5, 20), (0.9, 40), (0.97, 100)])
def test_wilson_covers_as_promised(share: float, n: int) -> None:
    """The exact coverage, summed over the binomial distribution, is near 95 %."""
    from scipy.stats import binom

    covered = 0.0
    for count in range(n + 1):
        low, high = wilson(count / n, n)
        if low <= share <= high:
            covered += float(binom.pmf(count, n, share))
    assert 0.92 < covered < 0.99


def test_clustered_interval_covers_as_promised() -> None:
    """2,000 simulated tests of 30 passages with 4 dependent questions each."""
    generator = np.random.default_rng(7)
    labels = np.repeat(np.arange(30), 4)
    covered = {"clustered": 0, "independent": 0}
    for _ in range(2000):
        ability = generator.normal(0.5, 0.2, 30)[labels]
        scores = np.clip(ability + generator.normal(0, 0.05, 120), 0, 1)
        for kind, clusters in (("clustered", list(labels)), ("independent", None)):
            found = mean_interval(scores.tolist(), clusters)
            covered[kind] += found.low <= 0.5 <= found.high
    assert 0.93 < covered["clustered"] / 2000 < 0.97
    assert covered["independent"] / 2000 < 0.75  # what ignoring the passages would promise


def test_the_standard_error_is_the_one_behind_the_interval_and_never_zero() -> None:
    scores, labels = [0.1, 0.5, 0.9, 0.3, 0.2, 0.8], list("aabbcc")
    codes = np.arange(6) // 2
    found = mean_interval(scores, labels)
    assert found.standard_error == cluster_standard_error(np.array(scores), codes)
    assert mean_interval(np.array(scores), codes) == found  # codes are labels too
    binary = mean_interval([1, 0, 1, 1])
    assert binary.standard_error == pytest.approx(math.sqrt(0.75 * 0.25 / 3))
    for constant in (mean_interval([0.0] * 12), mean_interval([1, 0] * 6, list("aabbccddeeff"))):
        half = (constant.high - constant.low) / 2
        assert constant.standard_error == pytest.approx(half / 1.959964, rel=1e-6)
    assert math.isnan(mean_interval([math.nan]).standard_error)
