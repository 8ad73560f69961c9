"""P-values of many tests at once: whoever looks at a hundred pairs finds five by chance.

Holm: with chance 1 - alpha not one of the reported differences is an accident; for each model
against a chosen baseline. Benjamini-Hochberg: of the reported ones at most a share alpha are,
on average; for a map of tasks by pairs, where one false cell does little harm.

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]

The family (which tests were counted together) belongs beside every adjusted value. NaN is a test
that was not made: it does not count, and stays NaN.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def holm(p: Floats) -> Floats:
    """Return Holm's step-down adjusted p-values, in the order and shape of `p`.

    Holm 1979, Scandinavian Journal of Statistics 6, 65-70. Raises ValueError outside [0, 1].
    """
    sorted_p, back = _sorted(p)
    steps = np.arange(len(sorted_p), 0, -1) * sorted_p
    return back(np.maximum.accumulate(steps))


def benjamini_hochberg(p: Floats) -> Floats:
    """Return Benjamini and Hochberg's step-up adjusted p-values, in the order and shape of `p`.

    Benjamini, Hochberg 1995, JRSS B 57, 289-300. Raises ValueError outside [0, 1].
    """
    sorted_p, back = _sorted(p)
    steps = sorted_p * len(sorted_p) / np.arange(1, len(sorted_p) + 1)
    return back(np.minimum.accumulate(steps[::-1])[::-1])


def _sorted(p: Floats) -> tuple[Floats, Callable[[Floats], Floats]]:
    """Return the p-values of tests that were made, smallest first, and the way back."""
    flat = np.asarray(p, dtype=np.float64).ravel()
    made = np.flatnonzero(~np.isnan(flat))
    if not np.all((flat[made] >= 0) & (flat[made] <= 1)):
        raise ValueError(
            f"expected p-values in [0, 1], found {np.nanmin(flat)} to {np.nanmax(flat)}"
        )
    order = made[np.argsort(flat[made], kind="stable")]

    def back(adjusted: Floats) -> Floats:
        result = np.full(flat.shape, np.nan)
        result[order] = np.minimum(adjusted, 1.0)
        return result.reshape(np.shape(p))

    return flat[order], back
