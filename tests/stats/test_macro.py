import math

import numpy as np
import pytest
from scipy import stats

from hebench.stats.intervals import mean_interval
from hebench.stats.macro import chance_normalised, macro_mean, noise_parts, winner_bias


def test_one_task_alone_keeps_its_own_interval() -> None:
    task = mean_interval([0.1, 0.5, 0.9, 0.3])
    found = macro_mean([task.mean], [task.standard_error], [task.clusters])
    assert (found.low, found.high, found.dof) == pytest.approx((task.low, task.high, 3))
    assert (found.sample_low, found.sample_high) == (0.0, 1.0)


def test_errors_and_degrees_of_freedom_are_the_textbooks() -> None:
    """Two tasks: Welch's degrees of freedom, as scipy has them for two means."""
    generator = np.random.default_rng(0)
    x, y = generator.uniform(0, 1, 8), generator.uniform(0.3, 0.6, 30)
    tasks = [mean_interval(x), mean_interval(y)]
    found = macro_mean(
        [t.mean for t in tasks], [t.standard_error for t in tasks], [t.clusters for t in tasks]
    )
    assert found.dof == pytest.approx(stats.ttest_ind(x, y, equal_var=False).df)
    assert found.mean == pytest.approx((x.mean() + y.mean()) / 2)
    assert found.standard_error == pytest.approx(
        math.hypot(x.std(ddof=1) / math.sqrt(8), y.std(ddof=1) / math.sqrt(30)) / 2
    )


def test_tasks_as_a_sample_give_a_t_interval_of_their_means() -> None:
    means = [0.3, 0.45, 0.5, 0.75]
    found = macro_mean(means, [0.001] * 4, [500] * 4)
    expected = stats.t.interval(0.95, 3, 0.5, np.std(means, ddof=1) / 2)
    assert (found.sample_low, found.sample_high) == pytest.approx(expected)
    assert found.sample_high - found.sample_low > 10 * (found.high - found.low)


def test_tasks_that_agree_do_not_make_the_items_certain() -> None:
    found = macro_mean([0.5, 0.5], [0.1, 0.1], [40, 40])
    assert found.sample_high - found.sample_low > found.high - found.low


def test_a_task_that_is_all_right_does_not_enter_as_certain() -> None:
    task = mean_interval([1.0] * 20)
    assert task.standard_error == pytest.approx((task.high - task.low) / (2 * 1.959964), rel=1e-6)
    assert macro_mean([1.0, 1.0], [task.standard_error] * 2, [20, 20]).low < 0.97
    single = mean_interval([1.0])
    found = macro_mean([1.0, 0.5], [single.standard_error, 0.01], [1, 500])
    assert found.dof == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("means", "errors", "units", "message"),
    [
        ([], [], [], "T > 0"),
        ([0.5], [0.1, 0.1], [5], "2 errors"),
        ([1.5], [0.1], [5], r"\[0, 1\]"),
        ([0.5], [0.0], [5], "above 0"),
    ],
)
def test_misuse(means: list[float], errors: list[float], units: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        macro_mean(means, errors, units)


def test_chance_is_zero_and_right_throughout_is_one() -> None:
    found = chance_normalised(np.array([0.25, 1.0, 0.1]), 0.25)
    assert found == pytest.approx([0.0, 1.0, -0.2])
    with pytest.raises(ValueError, match="chance"):
        chance_normalised(np.array([0.5]), 1.0)


def test_noise_parts_find_what_was_put_in() -> None:
    """4,000 items whose chance of being right is uniform: variance 1/12 between, 1/6 within."""
    generator = np.random.default_rng(0)
    chance = generator.uniform(0, 1, (4000, 1))
    found = noise_parts((generator.random((4000, 5)) < chance).astype(float))
    assert found.prediction == pytest.approx(math.sqrt(1 / 6 / 5 / 4000), rel=0.03)
    assert found.data == pytest.approx(math.sqrt(1 / 12 / 4000), rel=0.03)
    assert found.total == pytest.approx(math.hypot(found.prediction, found.data))


def test_noise_parts_of_greedy_decoding_have_no_prediction_noise() -> None:
    found = noise_parts(np.repeat([[0.0], [1.0], [1.0]], 4, axis=1))
    assert (found.prediction, found.data) == (0.0, found.total)
    with pytest.raises(ValueError, match="2 or more"):
        noise_parts(np.ones((3, 1)))


@pytest.mark.parametrize(("candidates", "points"), [(1, 0.0), (5, 1.8), (20, 2.9), (50, 3.5)])
def test_the_best_of_many_looks_better_than_it_is(candidates: int, points: float) -> None:
    """1,000 items at 60 %, as simulated for the notes of this project."""
    error = math.sqrt(0.6 * 0.4 / 1000)
    assert 100 * winner_bias(candidates, error) == pytest.approx(points, abs=0.05)


def test_the_largest_of_three_normal_numbers_is_known_exactly() -> None:
    assert winner_bias(3, 1.0) == pytest.approx(1.5 / math.sqrt(math.pi), rel=1e-9)
    assert winner_bias(3, 1.0, correlation=0.75) == pytest.approx(0.75 / math.sqrt(math.pi))
    with pytest.raises(ValueError, match="k >= 1"):
        winner_bias(0, 1.0)
