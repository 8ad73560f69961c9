"""Is a task fit for choosing checkpoints: does it rise, stand out of its noise, and keep order.

A task may be fine for a finished model and useless early in training, when its scores sit at
chance or jump between steps. `fitness` takes the scores of one task over checkpoints and
measures what others have proposed, under names that keep apart two things both called SNR:

* FineTasks (Penedo et al. 2025, arXiv 2506.20920): `monotonicity`, `level_to_noise` (the score
  over its spread between seeds), and distance from chance;
* AI2 (Heineman et al. 2025, arXiv 2508.13144): `ai2_signal`, the largest difference between
  models over their mean; `ai2_noise`, the spread over the last checkpoints of a run over its
  mean; `ai2_snr`, their quotient; and `decision_accuracy`.

A measure that cannot be known is None, and `undefined` holds a code saying why. `light` sums up:
red if scores are near chance or two criteria fail, amber if one fails or rise or distance from
chance is unknown, green otherwise; `reasons` lists the criteria that fail. Codes are stable: pages
translate them. The criteria are rules of thumb, `CRITERIA`; the last two are ours.

Letters of shapes: R runs (models, or seeds of them), T steps, M models.

    >>> found = fitness([[0.26, 0.31, 0.35, 0.42, 0.46]], [1000, 2000, 3000, 4000, 5000], 0.25)
    >>> found.light, round(found.monotonicity, 3), found.undefined["level_to_noise"]
    ('green', 1.0, 'one_seed')
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]
Found = tuple[float | None, str | None]  # a value, or the code of the reason there is none

LAST = 5  # checkpoints at the end of a run, as in AI2's analysis of small models
CRITERIA = {  # measure: (at least, code if below)
    "monotonicity": (0.5, "not_monotone"),
    "level_to_noise": (20.0, "noisy"),
    "above_chance": (3.0, "near_chance"),
    "ordering_consistency": (0.5, "unstable_order"),
    "decision_accuracy": (0.7, "unsafe_decisions"),
}


@dataclass(frozen=True, kw_only=True)
class Fitness:
    """Measures of one task, each None where `undefined` names it.

    monotonicity: in [-1, 1]. seed_noise, detrended_noise: standard deviations in units of the
    score. level_to_noise, above_chance, ai2_snr: ratios. ordering_consistency: Kendall's tau, in
    [-1, 1]. decision_accuracy: in [0, 1].
    """

    monotonicity: float | None
    seed_noise: float | None
    detrended_noise: float | None
    level_to_noise: float | None
    above_chance: float | None
    ordering_consistency: float | None
    ai2_signal: float | None
    ai2_noise: float | None
    ai2_snr: float | None
    decision_accuracy: float | None
    light: str
    reasons: tuple[str, ...]
    undefined: dict[str, str]
    runs: int
    models: int
    steps: int


def fitness(  # noqa: PLR0913 (what is known of a task)
    scores: ArrayLike,
    steps: Sequence[float],
    chance: float | None,
    *,
    models: Sequence[Hashable] | None = None,
    errors: ArrayLike | None = None,
    target: Sequence[float] | None = None,
    generative: bool = False,
) -> Fitness:
    """Return how fit a task is for choosing checkpoints, from its scores during training.

    scores: shape (R, T), higher is better, NaN for a checkpoint not evaluated. steps: T rising
    numbers (steps or tokens). chance: score of guessing; None if there is no such thing. models:
    R labels, runs with the same one being seeds of one model; None takes all as different
    models. errors: standard errors of the scores, shape (R, T). target: scores of the models (in
    order of first appearance) at the scale that decides; decision accuracy then compares it with
    their last scores, else scores a third of the way with the last. generative: spares the
    task the noise criterion, as FineTasks does.
    Raises ValueError for unequal lengths, steps that do not rise and no score at all.
    """
    table, times = np.asarray(scores, dtype=np.float64), np.asarray(steps, dtype=np.float64)
    if table.ndim != 2 or times.shape != table.shape[1:] or not np.all(np.diff(times) > 0):
        raise ValueError(f"expected rising steps, one a column of scores of shape {table.shape}")
    if np.isnan(table).all():
        raise ValueError("expected at least one score, found none")
    names = list(range(len(table))) if models is None else list(models)
    if len(names) != len(table):
        raise ValueError(f"expected {len(table)} models, one a run, found {len(names)}")
    groups = [
        [row for row, name in enumerate(names) if name == own] for own in dict.fromkeys(names)
    ]
    curves = np.array([_mean(table[rows]) for rows in groups])
    spread = _seed_noise(table, groups)
    trend = _detrended(times, table)
    signal, noise = _ai2_signal(curves), _ai2_noise(table)
    early, late = _ends(curves, times) if target is None else (_last(curves), np.array(target))
    found: dict[str, Found] = {
        "monotonicity": _monotonicity(times, table),
        "seed_noise": spread,
        "detrended_noise": trend,
        "level_to_noise": _ratio(float(np.nanmean(table)), spread),
        "above_chance": _above_chance(table, chance, spread, trend, errors),
        "ordering_consistency": _ordering(curves),
        "ai2_signal": signal,
        "ai2_noise": noise,
        "ai2_snr": _ratio(signal[0], noise) if signal[0] is not None else signal,
        "decision_accuracy": decision_accuracy(early, late),
    }
    light, reasons = _light({name: value for name, (value, _) in found.items()}, generative)
    return Fitness(
        **{name: value for name, (value, _) in found.items()},
        light=light,
        reasons=reasons,
        undefined={name: code for name, (_, code) in found.items() if code is not None},
        runs=len(table),
        models=len(groups),
        steps=len(times),
    )


def detrended_noise(steps: ArrayLike, scores: ArrayLike) -> float | None:
    """Return the standard deviation of one run's scores around their local trend, or None.

    steps, scores: shape (T,), NaN skipped; at least four scores are needed. Each inner score is
    compared with the line through its two neighbours; with weights a and b = 1 - a of these the
    residual has variance (1 + a^2 + b^2) sigma^2 (Gasser, Sroka, Jennen-Steinmetz 1986,
    Biometrika 73, 625-633). No bandwidth to choose, and any straight rise costs nothing.
    """
    values = np.asarray(scores, dtype=np.float64)
    times = np.asarray(steps, dtype=np.float64)[~np.isnan(values)]
    values = values[~np.isnan(values)]
    if len(values) < 4:
        return None
    before = (times[2:] - times[1:-1]) / (times[2:] - times[:-2])
    residual = values[1:-1] - before * values[:-2] - (1 - before) * values[2:]
    return math.sqrt(float((residual**2 / (1 + before**2 + (1 - before) ** 2)).mean()))


def decision_accuracy(small: ArrayLike, target: ArrayLike) -> Found:
    """Return the share of pairs of models that `small` orders as `target` does, or None and why.

    small, target: shape (M,), scores of the same models, NaN pairs left out. A pair tied in one
    of them only counts one half. (AI2 and DataDecide, arXiv 2504.11393.)
    """
    first, second = (np.asarray(given, dtype=np.float64) for given in (small, target))
    if first.shape != second.shape:
        raise ValueError(f"expected as many scores twice, found {first.shape} and {second.shape}")
    known = ~np.isnan(first) & ~np.isnan(second)
    upper = np.triu_indices(int(known.sum()), 1)
    if not len(upper[0]):
        return None, "one_model"
    signs = [np.sign(given[known][upper[0]] - given[known][upper[1]]) for given in (first, second)]
    return float(1 - (np.abs(signs[0] - signs[1]) / 2).mean()), None


def _mean(rows: Floats) -> Floats:
    """Return the mean of each column over its known values; NaN where there is none."""
    known = ~np.isnan(rows)
    total = np.where(known, rows, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), math.nan)


def _last(curves: Floats) -> Floats:
    """Return the last known score of each row, NaN where there is none."""
    return np.array(
        [row[~np.isnan(row)][-1] if (~np.isnan(row)).any() else np.nan for row in curves]
    )


def _ends(curves: Floats, times: Floats) -> tuple[Floats, Floats]:
    """Return scores a third of the way and at the last step; the same scores if it is one."""
    early = int(np.searchsorted(times, times[-1] / 3))
    nowhere = np.full(len(curves), math.nan)
    return (curves[:, early], curves[:, -1]) if early < len(times) - 1 else (nowhere, nowhere)


def _ratio(value: float, by: Found, otherwise: str = "no_noise") -> Found:
    if by[0] is None:
        return by
    return (value / by[0], None) if by[0] > 0 else (None, otherwise)


def _average(values: list[float], otherwise: str) -> Found:
    return (float(np.mean(values)), None) if values else (None, otherwise)


def _monotonicity(times: Floats, table: Floats) -> Found:
    found, flat = [], False
    for row in table:
        known = ~np.isnan(row)
        if known.sum() < 3:
            continue
        if np.ptp(row[known]) == 0:
            flat = True
        else:
            found.append(float(stats.spearmanr(times[known], row[known]).statistic))
    return _average(found, "constant_scores" if flat else "few_steps")


def _seed_noise(table: Floats, groups: list[list[int]]) -> Found:
    """Return the standard deviation over seeds of a model at a step, averaged."""
    found = []
    for rows in groups:
        for column in table[rows].T:
            known = column[~np.isnan(column)]
            if len(known) > 1:
                found.append(float(known.std(ddof=1)))
    return _average(found, "one_seed")


def _detrended(times: Floats, table: Floats) -> Found:
    found = [noise for row in table if (noise := detrended_noise(times, row)) is not None]
    return _average(found, "few_steps")


def _above_chance(
    table: Floats, chance: float | None, spread: Found, trend: Found, errors: ArrayLike | None
) -> Found:
    """Return how many standard deviations the best late score is above chance.

    Late is the last third of the steps. The deviation is that over seeds, else around the trend,
    but not less than the standard error of that score, which seeds on the same items share.
    """
    if chance is None:
        return None, "no_chance_level"
    late = np.array(table)
    late[:, : -max(1, table.shape[1] // 3)] = math.nan
    if np.isnan(late).all():
        return None, "no_late_score"
    best = np.unravel_index(int(np.nanargmax(late)), late.shape)
    noise = [
        given for given, _ in ((spread if spread[0] is not None else trend),) if given is not None
    ]
    if errors is not None:
        noise.append(float(np.asarray(errors, dtype=np.float64)[best]))
    if not noise:
        return None, "few_steps"
    return _ratio(float(late[best]) - chance, (max(noise), None))


def _ordering(curves: Floats) -> Found:
    """Return Kendall's tau between the orders of models at successive steps, averaged."""
    if len(curves) < 2:
        return None, "one_model"
    found = []
    for before, after in zip(curves.T[:-1], curves.T[1:], strict=True):
        known = ~np.isnan(before) & ~np.isnan(after)
        if known.sum() > 1 and np.ptp(before[known]) > 0 and np.ptp(after[known]) > 0:
            found.append(float(stats.kendalltau(before[known], after[known]).statistic))
    return _average(found, "few_steps")


def _ai2_signal(curves: Floats) -> Found:
    """Return the largest difference between models' mean last scores, over their mean."""
    ends = np.array(
        [row[~np.isnan(row)][-LAST:].mean() for row in curves if (~np.isnan(row)).any()]
    )
    if len(ends) < 2:
        return None, "one_model"
    return _ratio(float(np.ptp(ends)), (float(ends.mean()), None), "not_positive")


def _ai2_noise(table: Floats) -> Found:
    """Return the deviation of a run's last scores over their mean, averaged over runs.

    The population's deviation (n, not n - 1), as in allenai/signal-and-noise at bd31615.
    """
    ends = [row[~np.isnan(row)][-LAST:] for row in table]
    long = [last for last in ends if len(last) > 1]
    found = [float(last.std() / last.mean()) for last in long if last.mean() > 0]
    return _average(found, "not_positive" if long else "few_steps")


def _light(values: dict[str, float | None], generative: bool) -> tuple[str, tuple[str, ...]]:
    reasons = tuple(
        code
        for name, (least, code) in CRITERIA.items()
        if (value := values[name]) is not None
        and value < least
        and not (generative and name == "level_to_noise")
    )
    if "near_chance" in reasons or len(reasons) > 1:
        return "red", reasons
    unknown = values["monotonicity"] is None or values["above_chance"] is None
    return ("amber" if reasons or unknown else "green"), reasons
