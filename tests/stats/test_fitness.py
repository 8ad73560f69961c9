import math
from math import nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from hebench.stats.fitness import decision_accuracy, detrended_noise, fitness

STEPS = [1000.0 * step for step in range(1, 11)]


def curves(
    ends: list[float], *, noise: float, seeds: int = 1, seed: int = 0
) -> NDArray[np.float64]:
    """Return runs that rise from 0.25 to `ends`, `seeds` of each."""
    rise = 0.25 + np.outer(np.repeat(ends, seeds) - 0.25, np.sqrt(np.linspace(0.1, 1, 10)))
    return rise + np.random.default_rng(seed).normal(0, noise, rise.shape)


def test_a_task_that_rises_out_of_its_noise_in_order_is_green() -> None:
    scores = curves([0.5, 0.6, 0.7], noise=0.004, seeds=3)
    found = fitness(scores, STEPS, 0.25, models=[name for name in "abc" for _ in range(3)])
    assert (found.light, found.reasons, found.undefined) == ("green", (), {})
    assert found.monotonicity > 0.9
    assert found.seed_noise == pytest.approx(0.004, rel=0.2)
    assert found.detrended_noise == pytest.approx(0.004, rel=0.3)
    assert found.level_to_noise == pytest.approx(scores.mean() / found.seed_noise)
    assert found.above_chance > 50
    assert found.decision_accuracy == 1
    assert (found.runs, found.models, found.steps) == (9, 3, 10)


def test_scores_that_stay_at_chance_are_red() -> None:
    scores = np.random.default_rng(1).normal(0.25, 0.02, (3, 10))
    found = fitness(scores, STEPS, 0.25, models=["a"] * 3)
    assert found.light == "red"
    assert {"near_chance", "not_monotone"} <= set(found.reasons)


def test_one_failing_criterion_is_amber_and_generative_tasks_are_spared_the_noise() -> None:
    scores = curves([0.8], noise=0.06, seeds=4)
    found = fitness(scores, STEPS, 0.1, models=["a"] * 4)
    assert (found.light, found.reasons) == ("amber", ("noisy",))
    assert fitness(scores, STEPS, 0.1, models=["a"] * 4, generative=True).light == "green"


def test_monotonicity_is_the_mean_of_spearmans_correlations() -> None:
    scores = np.random.default_rng(2).random((3, 10))
    each = [stats.spearmanr(STEPS, row).statistic for row in scores]
    assert fitness(scores, STEPS, None).monotonicity == pytest.approx(np.mean(each))


def test_what_cannot_be_known_is_none_with_a_code() -> None:
    found = fitness([[0.3, 0.4]], [1, 2], None)
    assert found.light == "amber"
    assert found.undefined == {
        "monotonicity": "few_steps",
        "seed_noise": "one_seed",
        "detrended_noise": "few_steps",
        "level_to_noise": "one_seed",
        "above_chance": "no_chance_level",
        "ordering_consistency": "one_model",
        "ai2_signal": "one_model",
        "ai2_snr": "one_model",
        "decision_accuracy": "one_model",
    }
    for measure in found.undefined:
        assert getattr(found, measure) is None
    flat = fitness([[0.5] * 10], STEPS, 0.25).undefined
    assert (flat["monotonicity"], flat["above_chance"]) == ("constant_scores", "no_noise")


def test_a_standard_error_larger_than_the_noise_counts_for_distance_from_chance() -> None:
    scores = curves([0.5], noise=0.001)
    plain = fitness(scores, STEPS, 0.25)
    wide = fitness(scores, STEPS, 0.25, errors=np.full((1, 10), 0.1))
    assert plain.above_chance > 50
    assert wide.above_chance == pytest.approx((scores[0, -3:].max() - 0.25) / 0.1)
    assert wide.reasons == ("near_chance",)


def test_signal_and_noise_are_those_of_ai2() -> None:
    """Their definitions worked by hand: signal (0.6 - 0.4) / 0.5, noise of two runs averaged."""
    scores = [[0.1, 0.38, 0.42, 0.38, 0.42, 0.4], [0.2, 0.6, 0.6, 0.6, 0.6, 0.6]]
    found = fitness(scores, range(6), 0.25)
    assert found.ai2_signal == pytest.approx(0.4)
    assert found.ai2_noise == pytest.approx(math.sqrt(4 * 0.02**2 / 5) / 0.4 / 2)
    assert found.ai2_snr == pytest.approx(found.ai2_signal / found.ai2_noise)


def test_order_that_turns_at_each_step_is_unstable() -> None:
    scores = [[0.30, 0.41, 0.50, 0.61], [0.31, 0.40, 0.51, 0.60]]
    found = fitness(scores, range(1, 5), 0.1)
    assert found.ordering_consistency == -1
    assert "unstable_order" in found.reasons


def test_decision_accuracy_counts_pairs_and_half_a_tie() -> None:
    assert decision_accuracy([1, 2, 3], [1, 3, 2]) == (pytest.approx(2 / 3), None)
    assert decision_accuracy([1, 1], [1, 2]) == (0.5, None)
    assert decision_accuracy([1, nan], [1, 2]) == (None, "one_model")
    scores = curves([0.4, 0.5, 0.6], noise=0.0)
    assert fitness(scores, STEPS, 0.25, target=[0.9, 0.8, 0.7]).decision_accuracy == 0
    assert fitness(scores, STEPS, 0.25, target=[0.7, 0.8, 0.9]).decision_accuracy == 1


def test_missing_checkpoints_are_left_out() -> None:
    scores = curves([0.5, 0.6], noise=0.004)
    scores[0, 3], scores[1, 9] = nan, nan
    found = fitness(scores, STEPS, 0.25)
    assert found.monotonicity > 0.9
    assert found.light == "green"


@given(
    start=st.floats(-1, 1),
    slope=st.floats(-1, 1),
    gaps=st.lists(st.floats(0.1, 5), min_size=4, max_size=12),
)
def test_a_straight_line_has_no_noise(start: float, slope: float, gaps: list[float]) -> None:
    steps = np.cumsum(gaps)
    assert detrended_noise(steps, start + slope * steps) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("even", [True, False])
def test_noise_around_a_curve_is_recovered_at_even_and_uneven_steps(even: bool) -> None:
    generator = np.random.default_rng(3)
    steps = np.arange(1, 401) if even else np.cumsum(generator.integers(1, 9, 400))
    scores = 0.25 + 0.5 * (1 - np.exp(-steps / steps[-1] * 3)) + generator.normal(0, 0.01, 400)
    assert detrended_noise(steps, scores) == pytest.approx(0.01, rel=0.1)
    assert detrended_noise(steps[:3], scores[:3]) is None


@pytest.mark.parametrize(
    ("scores", "steps", "more", "message"),
    [
        ([[0.1, 0.2]], [2, 1], {}, "rising steps"),
        ([0.1, 0.2], [1, 2], {}, "rising steps"),
        ([[nan, nan]], [1, 2], {}, "at least one score"),
        ([[0.1, 0.2]], [1, 2], {"models": ["a", "b"]}, "1 models"),
        ([[0.1, 0.2]], [1, 2], {"target": [0.1, 0.2]}, "as many scores"),
    ],
)
def test_misuse(scores: list, steps: list[float], more: dict[str, list], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fitness(scores, steps, 0.25, **more)
