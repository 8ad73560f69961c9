"""How hard each item is, whether it tells strong models from weak ones, and which look wrong.

    >>> facts = item_facts(scores)  # (models, items)
    >>> facts.mean[3], facts.discrimination[3]
    (0.25, 0.61)

An item that strong models miss and weak ones hit is more often an error of its label than a
trick of the language. With few models that happens by chance too, so an item is suspected only
if its correlation is below zero at one in a hundred, and never with fewer than five models.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

MIN_MODELS = 5  # with four, the order of two halves is one of six
CHANCE = 0.01  # of suspecting an item that has nothing to do with strength
_CHUNK = 2_000_000  # scores at once, 16 MB


@dataclass(frozen=True, kw_only=True)
class ItemFacts:
    """What the ranked models' scores say of each item; arrays are (items,)."""

    models: int
    mean: Floats  # in [0, 1], NaN where no model could be judged
    discrimination: Floats  # in [-1, 1], NaN where it is not defined
    suspect: NDArray[np.bool_]


def item_facts(scores: Floats) -> ItemFacts:
    """Return the facts of the items from the scores of M ranked models.

    scores: (M, items), NaN where not judged. Discrimination is the correlation, over models, of
    an item's score with the mean of the model's other items (item-rest correlation; Lord, Novick
    1968); it needs MIN_MODELS models judged on the item whose scores differ.
    """
    models, items = scores.shape
    judged = ~np.isnan(scores)
    values = np.where(judged, scores, 0.0)
    counts = judged.sum(axis=0)
    mean = np.full(items, np.nan)
    np.divide(values.sum(axis=0), counts, out=mean, where=counts > 0)
    correlation = np.full(items, np.nan)
    totals, own = values.sum(axis=1), judged.sum(axis=1)
    width = max(1, _CHUNK // max(1, models))
    for start in range(0, items if models >= MIN_MODELS else 0, width):
        part = slice(start, start + width)
        correlation[part] = _item_rest(values[:, part], judged[:, part], totals, own)
    dof = np.maximum(counts - 2, 1)
    room = np.sqrt(np.maximum(1 - correlation**2, 1e-12) / dof)
    limit = stats.t.isf(CHANCE, dof)
    return ItemFacts(
        models=models,
        mean=mean,
        discrimination=correlation,
        suspect=np.asarray(correlation / room < -limit),
    )


def _item_rest(
    values: Floats, judged: NDArray[np.bool_], totals: Floats, own: NDArray[np.int64]
) -> Floats:
    """Return the item-rest correlations of some items, NaN where they are not defined."""
    rest = (totals[:, None] - values) / np.maximum(own[:, None] - judged, 1)
    counts = judged.sum(axis=0)
    safe = np.maximum(counts, 1)
    x = np.where(judged, values - values.sum(axis=0) / safe, 0.0)
    y = np.where(judged, rest - np.where(judged, rest, 0.0).sum(axis=0) / safe, 0.0)
    spread = np.sqrt((x * x).sum(axis=0) * (y * y).sum(axis=0))
    defined = (counts >= MIN_MODELS) & (spread > 1e-9)
    found = np.full(values.shape[1], np.nan)
    np.divide((x * y).sum(axis=0), spread, out=found, where=defined)
    return np.asarray(np.clip(found, -1.0, 1.0))
