import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from hebench.stats.paired import compare
from hebench.stats.ranks import (
    difference_variances,
    may_be_best,
    mean_covariance,
    normal_draws,
    rank_sets,
    simultaneous_critical,
    standard_normals,
)

Floats = NDArray[np.float64]


def board(models: int, items: int, spread: float = 0.3, seed: int = 0) -> Floats:
    """Return 0/1 scores of models that share the items' difficulty, best model first."""
    generator = np.random.default_rng(seed)
    ability = spread * np.linspace(1, -1, models)[:, None]
    logit = ability + generator.normal(0, 1.5, items)
    return (generator.random((models, items)) < 1 / (1 + np.exp(-logit))).astype(float)


@pytest.mark.parametrize("cluster", [1, 5])
@pytest.mark.parametrize("graded", [False, True])
def test_each_variance_is_the_square_of_the_pairs_own_error(cluster: int, graded: bool) -> None:
    scores = board(4, 60)
    if graded:
        scores = np.clip(scores * 0.7 + np.random.default_rng(1).uniform(0, 0.3, (4, 60)), 0, 1)
    scores[3] = scores[2]  # a copy: no variation, so one unit's worth
    codes = np.arange(60) // cluster
    found = difference_variances(scores, codes)
    for i in range(4):
        for j in range(i):
            pair = compare(scores[i], scores[j], codes, draws=2)
            assert math.sqrt(found[i, j]) == pytest.approx(pair.standard_error, rel=1e-9)
    assert np.array_equal(found, found.T) and not np.diag(found).any()
    assert found[2, 3] == (cluster / 60) ** 2


def test_items_without_a_judgement_are_left_out_of_that_models_mean() -> None:
    """Two models judged on different halves: independent means, so their variances add."""
    scores = board(2, 100)
    scores[0, 50:], scores[1, :50] = np.nan, np.nan
    found = difference_variances(scores, np.arange(100))
    expected = scores[0, :50].var(ddof=1) / 50 + scores[1, 50:].var(ddof=1) / 50
    assert found[0, 1] == pytest.approx(expected)


def test_a_model_with_one_unit_is_not_distinguished_from_any() -> None:
    scores = board(3, 40)
    scores[0, 1:] = np.nan
    found = difference_variances(scores, np.arange(40))
    assert found[0, 1] == found[0, 2] == 1.0
    assert found[1, 2] < 0.1


@pytest.mark.parametrize(
    ("scores", "codes", "message"),
    [
        (np.ones(3), np.arange(3), "expected .M, N."),
        (np.ones((2, 3)), np.arange(4), "expected .M, N."),
        (np.array([[1.0, 0.0], [np.nan, np.nan]]), np.arange(2), "no judged item"),
    ],
)
def test_misuse_of_variances(scores: Floats, codes: NDArray[np.int64], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        difference_variances(scores, codes)


def test_misuse_of_rank_sets() -> None:
    with pytest.raises(ValueError, match="variances above 0"):
        rank_sets(np.array([0.1, 0.2]), np.zeros((2, 2)), dof=5)
    with pytest.raises(ValueError, match="finite"):
        rank_sets(np.array([np.nan, 0.2]), np.ones((2, 2)), dof=5)
    with pytest.raises(ValueError, match="expected"):
        rank_sets(np.array([0.1, 0.2]), np.ones((3, 3)), dof=5)


def test_the_draws_are_standard_normal_and_always_the_same() -> None:
    found = standard_normals(2000, 20)
    assert stats.kstest(found.ravel(), "norm").pvalue > 0.01
    assert np.abs(np.corrcoef(found.T) - np.eye(20)).max() < 0.1
    assert np.abs(np.corrcoef(found[:-1, 0], found[1:, 0])[0, 1]) < 0.07
    # The formula for counters 2 and 3, in plain Python.
    assert found[0, 1] == pytest.approx(reference_normal(2, 3), abs=1e-14)


def reference_normal(first: int, second: int) -> float:
    def uniform(x: int) -> float:
        x ^= x >> 16
        x = x * 0x7FEB352D % 2**32
        x ^= x >> 15
        x = x * 0x846CA68B % 2**32
        x ^= x >> 16
        return (x + 0.5) / 2**32

    return math.sqrt(-2 * math.log(uniform(first))) * math.cos(2 * math.pi * uniform(second))


def test_two_models_with_known_variance_give_the_normal_quantile() -> None:
    ranks = rank_sets(np.array([0.6, 0.5]), 0.01 * (1 - np.eye(2)), dof=math.inf, draws=100_000)
    assert ranks.critical == pytest.approx(1.96, abs=0.02)
    assert ranks.p_best[0] == pytest.approx(stats.norm.cdf(1.0), abs=0.005)


def test_independent_models_give_tukeys_range() -> None:
    """Equal independent errors: the largest pair difference is a studentised range over sqrt 2."""
    ranks = rank_sets(np.zeros(6), 0.02 * (1 - np.eye(6)), dof=math.inf, draws=50_000)
    expected = stats.studentized_range.ppf(0.95, 6, 1e6) / math.sqrt(2)
    assert ranks.critical == pytest.approx(expected, rel=0.01)
    assert ranks.p_best == pytest.approx(np.full(6, 1 / 6), abs=0.01)


def test_few_units_widen_the_sets() -> None:
    scores, variances = np.array([0.9, 0.5, 0.1]), 0.01 * (1 - np.eye(3))
    known, few, none = (rank_sets(scores, variances, dof=dof) for dof in (math.inf, 4, 0))
    assert known.critical < few.critical < none.critical == math.inf
    assert (known.low.tolist(), known.high.tolist()) == ([1, 2, 3], [1, 2, 3])
    assert (none.low.tolist(), none.high.tolist()) == ([1, 1, 1], [3, 3, 3])


def test_one_model_is_first() -> None:
    ranks = rank_sets(np.array([0.4]), np.zeros((1, 1)), dof=9)
    assert (ranks.low.tolist(), ranks.high.tolist(), ranks.p_best.tolist()) == ([1], [1], [1.0])


def test_models_that_cannot_be_told_apart_share_every_rank() -> None:
    scores = np.repeat(board(1, 50), 3, axis=0)
    ranks = rank_sets(scores.mean(axis=1), difference_variances(scores, np.arange(50)), dof=49)
    assert ranks.low.tolist() == [1, 1, 1] and ranks.high.tolist() == [3, 3, 3]
    assert ranks.p_best == pytest.approx(np.full(3, 1 / 3), abs=0.04)


def test_more_models_than_items_do_no_harm() -> None:
    scores = board(40, 15, spread=2)
    ranks = rank_sets(scores.mean(axis=1), difference_variances(scores, np.arange(15)), dof=14)
    assert np.isfinite(ranks.critical) and ranks.p_best.sum() == pytest.approx(1)


def test_the_sets_agree_with_honestboards() -> None:
    """Its rank intervals are one model's each and its best set one question: ours hold both."""
    from honestboard import Board

    scores = board(8, 500, spread=0.8)
    other = Board(names=[str(k) for k in range(8)], Y=scores)
    ours = rank_sets(scores.mean(axis=1), difference_variances(scores, np.arange(500)), dof=499)
    for row in other.rank_summary(seed=1):
        place = int(row["name"])
        assert ours.p_best[place] == pytest.approx(row["p_best"], abs=0.03)
        assert ours.low[place] <= row["rank_lo"] and row["rank_hi"] <= ours.high[place]
    assert 1 < ours.best_set.sum() < 8 and ours.best_set[0]


def test_the_rounding_of_a_mean_changes_nothing() -> None:
    """A mean of means summed in another order, as a browser may, is off by 1e-17."""
    scores = board(6, 200)
    variances = difference_variances(scores, np.arange(200))
    means = np.repeat([0.7, 0.5, 0.3], 2)
    one, other = (
        rank_sets(means + off, variances, dof=199)
        for off in (np.zeros(6), np.array([0, 1, 1, 0, 0, 1]) * 1e-16)
    )
    assert one.critical == other.critical
    assert np.array_equal(one.low, other.low) and np.array_equal(one.high, other.high)


@given(
    seed=st.integers(0, 1000),
    models=st.integers(2, 9),
    order=st.randoms(use_true_random=False),
)
def test_sets_hold_the_observed_rank_and_ignore_the_order_of_models(
    seed: int, models: int, order: object
) -> None:
    scores = board(models, 60, spread=2, seed=seed)
    generator = np.random.default_rng(seed)
    scores += generator.uniform(-1e-4, 1e-4, scores.shape)  # no ties, to nine digits
    means, variances = scores.mean(axis=1), difference_variances(scores, np.arange(60))
    ranks = rank_sets(means, variances, dof=59, draws=200)
    observed = stats.rankdata(-means, method="ordinal")
    assert np.all((ranks.low <= observed) & (observed <= ranks.high))
    assert np.array_equal(ranks.best_set, ranks.low == 1)
    assert ranks.p_best.sum() == pytest.approx(1)
    moved = generator.permutation(models)
    again = rank_sets(means[moved], variances[np.ix_(moved, moved)], dof=59, draws=200)
    assert np.array_equal(again.low, ranks.low[moved])
    assert np.array_equal(again.high, ranks.high[moved])
    assert again.p_best == pytest.approx(ranks.p_best[moved], abs=1e-9)


@pytest.mark.parametrize(("models", "items"), [(5, 100), (12, 400)])
def test_all_true_ranks_lie_inside_as_often_as_promised(models: int, items: int) -> None:
    """Equally good models have every rank; so all sets must be whole, in 95 % of boards."""
    whole = 0
    for seed in range(200):
        scores = board(models, items, spread=0, seed=seed)
        variances = difference_variances(scores, np.arange(items))
        ranks = rank_sets(scores.mean(axis=1), variances, dof=items - 1, draws=500)
        whole += bool((ranks.low == 1).all())
    assert whole / 200 > 0.9


# ------------------------------------------------------------------ the best alone, means, draws


def test_draws_have_the_covariance_asked_for_and_are_always_the_same() -> None:
    generator = np.random.default_rng(2)
    root = generator.normal(size=(6, 6))
    covariance = root @ root.T
    found = normal_draws(covariance, 50_000)
    assert np.cov(found.T) == pytest.approx(covariance, abs=0.05 * covariance.max())
    assert found.mean(axis=0) == pytest.approx(np.zeros(6), abs=0.05)
    assert np.array_equal(found, normal_draws(covariance, 50_000))


def test_draws_of_a_singular_covariance_are_tied_together() -> None:
    found = normal_draws(np.full((3, 3), 0.04), 500)
    assert found[:, 1] == pytest.approx(found[:, 0]) and found[:, 2] == pytest.approx(found[:, 0])
    assert found[:, 0].std() == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize("cluster", [1, 4])
def test_the_covariance_of_means_belongs_to_the_variances_of_differences(cluster: int) -> None:
    scores, codes = board(5, 80), np.arange(80) // cluster
    found = mean_covariance(scores, codes)
    own = np.diag(found)
    pairs = own[:, None] + own[None, :] - 2 * found
    expected = difference_variances(scores, codes)
    assert pairs == pytest.approx(expected, rel=1e-9)
    # Of one model: the squared standard error of a mean over clusters, written out.
    sums = (scores[0] - scores[0].mean()).reshape(-1, cluster).sum(axis=1) / 80
    units = 80 // cluster
    assert own[0] == pytest.approx(units / (units - 1) * (sums**2).sum())


def test_the_mean_of_a_model_that_never_varies_is_not_certain() -> None:
    scores = np.stack([np.ones(50), board(1, 50)[0]])
    assert mean_covariance(scores, np.arange(50))[0, 0] == pytest.approx(1 / 50**2)


def brute_force_may_be_best(
    scores: Floats, variances: Floats, *, dof: float, level: float, draws: int
) -> list[bool]:
    """Hsu's comparison with the best, model by model and pair by pair."""
    models, top = len(scores), int(np.argmax(scores))
    base = [[(variances[i, top] + variances[j, top] - variances[i, j]) / 2 for j in range(models)]
            for i in range(models)]  # fmt: skip
    x = normal_draws(np.array(base), draws)
    stays = []
    for j in range(models):
        others = [k for k in range(models) if k != j and variances[j, k] > 0]
        largest = sorted(
            max((row[k] - row[j]) / math.sqrt(variances[j, k]) for k in others) for row in x
        )
        critical = largest[math.ceil(level * draws) - 1]
        wide = float(stats.t.isf(stats.norm.sf(critical), dof))
        behind = max((scores[k] - scores[j]) / math.sqrt(variances[j, k]) for k in others)
        stays.append(j == top or behind <= wide)
    return stays


@pytest.mark.parametrize("seed", range(6))
def test_who_may_be_best_agrees_with_brute_force(seed: int) -> None:
    scores = board(7, 60, spread=0.7, seed=seed)
    variances = difference_variances(scores, np.arange(60))
    means = scores.mean(axis=1)
    found = may_be_best(means, variances, dof=59, draws=300)
    expected = brute_force_may_be_best(means, variances, dof=59, level=0.95, draws=300)
    assert found.tolist() == expected


def test_who_may_be_best_holds_the_best_as_often_as_promised() -> None:
    """Equally good models: each is the best; a given one is in the set in 95 % of boards."""
    held = 0
    for seed in range(300):
        scores = board(8, 120, spread=0, seed=seed)
        variances = difference_variances(scores, np.arange(120))
        found = may_be_best(scores.mean(axis=1), variances, dof=119, draws=500)
        held += int(found[3])
    assert 0.92 < held / 300 < 0.99


def test_who_may_be_best_keeps_no_more_than_the_rank_sets() -> None:
    for seed in range(20):
        scores = board(9, 150, spread=0.6, seed=seed)
        variances = difference_variances(scores, np.arange(150))
        alone = may_be_best(scores.mean(axis=1), variances, dof=149)
        assert (alone <= rank_sets(scores.mean(axis=1), variances, dof=149).best_set).all()
        assert alone[np.argmax(scores.mean(axis=1))]


def test_one_model_may_be_best_and_one_unit_says_nothing() -> None:
    assert may_be_best(np.array([0.3]), np.zeros((1, 1)), dof=4).tolist() == [True]
    none = may_be_best(np.array([0.9, 0.1]), 1 - np.eye(2), dof=0)
    assert none.tolist() == [True, True]
    with pytest.raises(ValueError, match="expected"):
        may_be_best(np.ones(2), np.ones((3, 3)), dof=4)


def test_one_mean_has_the_usual_critical_value_and_many_have_a_larger_one() -> None:
    one = simultaneous_critical(np.array([[0.04]]), dof=math.inf, draws=100_000)
    assert one == pytest.approx(1.96, abs=0.02)
    ten = simultaneous_critical(0.04 * np.eye(10), dof=math.inf, draws=50_000)
    sidak = stats.norm.isf((1 - 0.95**0.1) / 2)
    assert ten == pytest.approx(sidak, rel=0.01)
    tied = simultaneous_critical(np.full((10, 10), 0.04), dof=math.inf, draws=50_000)
    assert tied == pytest.approx(1.96, abs=0.03)
    assert simultaneous_critical(0.04 * np.eye(10), dof=5) > ten


def test_all_means_are_covered_at_once_as_often_as_promised() -> None:
    covered = 0
    for seed in range(300):
        scores = board(6, 100, spread=0, seed=seed)
        covariance = mean_covariance(scores, np.arange(100))
        critical = simultaneous_critical(covariance, dof=99, draws=500)
        truth = 0.5  # by symmetry of difficulty and ability
        errors = np.abs(scores.mean(axis=1) - truth) / np.sqrt(np.diag(covariance))
        covered += bool((errors <= critical).all())
    assert 0.91 < covered / 300 < 0.985
