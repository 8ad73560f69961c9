"""Averages over tasks, what chance and repetition do to scores, and the luck of a winner.

    >>> found = macro_mean([0.6, 0.8], [0.02, 0.03], [500, 300])
    >>> f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"
    '0.700 [0.665, 0.735]'

An average over tasks has two errors. With *these tasks* as they are, only the items could have
been others: `low`, `high`. Who speaks about Hebrew in general takes the tasks as a sample of the
tasks there could be: `sample_low`, `sample_high`, much wider. The latter is Student's t on the
tasks' means, whose spread holds the items' noise already; not a bootstrap of tasks, which with
the usual ten tasks is too narrow by its factor (T - 1) / T and by its lack of t's tails.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, stats

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MacroMean:
    """The mean of task means in [0, 1], each task counted once."""

    mean: float
    standard_error: float
    dof: float
    low: float  # these tasks, other items
    high: float
    sample_low: float  # other tasks too; [0, 1] for a single task
    sample_high: float
    tasks: int


@dataclass(frozen=True, kw_only=True)
class NoiseParts:
    """Standard errors of the mean of `items` scores, each the mean of `repeats` generations."""

    mean: float
    prediction: float  # other generations on these items; falls with repeats
    data: float  # other items, each score known exactly; does not
    total: float  # both; total^2 = prediction^2 + data^2 unless data is cut off at 0
    items: int
    repeats: int


def macro_mean(
    means: Sequence[float] | Floats,
    standard_errors: Sequence[float] | Floats,
    units: Sequence[int] | NDArray[np.int64],
    *,
    level: float = 0.95,
) -> MacroMean:
    """Return the mean over tasks with both its intervals.

    means, standard_errors, units: (T,), as `intervals.mean_interval` gives them; units are
    clusters. Raises ValueError for no task, unequal shapes, and means that are not in [0, 1].
    """
    tasks, values = len(means), np.asarray(means, dtype=np.float64)
    if not tasks or not len(standard_errors) == len(units) == tasks:
        raise ValueError(f"expected T > 0 of each, found {tasks}, {len(standard_errors)} errors")
    if not np.all((values >= 0) & (values <= 1)):
        raise ValueError(f"expected means in [0, 1], found {means}")
    mean = float(values.mean())
    error, dof = pooled_error(standard_errors, units)
    low, high, _ = student(mean, error, dof, level, lowest=0.0)
    spread = float(values.std(ddof=1)) / math.sqrt(tasks) if tasks > 1 else 1.0
    # Tasks that happen to agree do not make the items certain.
    sample_low, sample_high, _ = student(mean, max(spread, error), tasks - 1, level, lowest=0.0)
    return MacroMean(
        mean=mean,
        standard_error=error,
        dof=dof,
        low=low,
        high=high,
        sample_low=sample_low,
        sample_high=sample_high,
        tasks=tasks,
    )


def pooled_error(
    standard_errors: Sequence[float] | Floats, units: Sequence[int] | NDArray[np.int64]
) -> tuple[float, float]:
    """Return the standard error of a mean of T independent estimates, and its degrees of freedom.

    By Satterthwaite 1946 (Biometrics Bulletin 2, 110-114) from units - 1 a task; a task of one
    unit brings a stand-in error and counts with one. Raises ValueError for errors not above 0.
    """
    errors = np.asarray(standard_errors, dtype=np.float64)
    if not np.all(errors > 0):
        raise ValueError(f"expected standard errors above 0, found {standard_errors}")
    variances = errors**2
    total = float(variances.sum())
    dof = total**2 / float((variances**2 / np.maximum(1, np.asarray(units) - 1)).sum())
    return math.sqrt(total) / len(variances), dof


def student(
    centre: float, standard_error: float, dof: float, level: float, *, lowest: float
) -> tuple[float, float, float]:
    """Return low, high (cut to [lowest, 1]) and the two-sided p-value against 0.

    With no degree of freedom all is possible: (lowest, 1, 1).
    """
    if dof <= 0:
        return lowest, 1.0, 1.0
    half = float(stats.t.ppf(0.5 + level / 2, dof)) * standard_error
    p = min(1.0, 2 * float(stats.t.sf(abs(centre) / standard_error, dof)))
    return max(lowest, centre - half), min(1.0, centre + half), p


def chance_normalised(score: Floats, chance: Floats | float) -> Floats:
    """Return scores rescaled so that chance is 0 and right throughout is 1.

    Below chance is below 0: cutting it off would reward it. Raises ValueError unless
    0 <= chance < 1.
    """
    level = np.asarray(chance, dtype=np.float64)
    if not np.all((level >= 0) & (level < 1)):
        raise ValueError(f"expected chance in [0, 1), found {chance}")
    return np.asarray((score - level) / (1 - level))


def noise_parts(scores: Floats) -> NoiseParts:
    """Return how much of a mean's error comes from generation, and how much from the items.

    scores: (items, repeats). By the law of total variance (Wang 2025, arXiv 2512.21326):
    prediction^2 = mean within-item variance / (n K), total^2 = variance of item means / n, and
    data^2 is what is left, at least 0. Greedy decoding only removes `prediction`.
    Raises ValueError for fewer than two items or repeats, and for NaN.
    """
    items, repeats = scores.shape
    if items < 2 or repeats < 2 or np.isnan(scores).any():
        raise ValueError(f"expected 2 or more items and repeats, no NaN, found {scores.shape}")
    within = float(scores.var(axis=1, ddof=1).mean()) / repeats
    between = float(scores.mean(axis=1).var(ddof=1))
    return NoiseParts(
        mean=float(scores.mean()),
        prediction=math.sqrt(within / items),
        data=math.sqrt(max(0.0, between - within) / items),
        total=math.sqrt(between / items),
        items=items,
        repeats=repeats,
    )


def winner_bias(candidates: int, standard_error: float, *, correlation: float = 0.0) -> float:
    """Return by how much the best of equally good candidates looks better than it is.

    standard_error: of one candidate's mean; correlation: between two candidates' means (high
    for neighbouring checkpoints on the same items, which lowers the bias). The expected largest
    of k equicorrelated normal numbers: SE sqrt(1 - r) k int x phi(x) Phi(x)^(k-1) dx.
    Raises ValueError for no candidate or a correlation outside [0, 1].
    """
    if candidates < 1 or not 0 <= correlation <= 1:
        raise ValueError(f"expected k >= 1 and r in [0, 1], found {candidates}, {correlation}")

    def density(x: float) -> float:
        below = float(stats.norm.logcdf(x)) * (candidates - 1)
        return candidates * x * math.exp(float(stats.norm.logpdf(x)) + below)

    largest = integrate.quad(density, -10, 10, limit=200)[0] if candidates > 1 else 0.0
    return standard_error * math.sqrt(1 - correlation) * float(largest)
