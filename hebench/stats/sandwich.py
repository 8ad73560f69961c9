"""The covariance of estimates whose observations come in clusters: a sandwich, and its limits.

The score of each observation is summed within its cluster (a rater, an item), so that whatever
dependence there is inside a cluster is counted; the factor G / (G - 1) and Student's t with
G - 1 degrees of freedom make it hold for few clusters (`benchmarks/coverage_votes.py`). Two
cases in which a sandwich would promise certainty are caught: clusters that do not vary, and
directions that the data leave open.

Letters of shapes: n observations, Q parameters, G clusters.

    >>> score = sparse.csr_matrix([[0.5], [-0.5], [0.5], [-0.5]])
    >>> clustered_covariance(score, np.eye(1), [np.array([0, 0, 1, 1])])[1].tolist()
    [True]
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Groups = tuple[tuple[int, ...], ...]


def centred_inverse(matrix: Floats, groups: Groups) -> Floats:
    """Return the inverse of an information matrix for parameters that sum to 0 in each group.

    groups: indices of the parameters that only matter by their differences.
    """
    centre = np.eye(len(matrix))
    for group in groups:
        centre[np.ix_(group, group)] -= 1 / len(group)
    return np.asarray(centre @ np.linalg.inv(matrix) @ centre, dtype=np.float64)


def clustered_covariance(
    score: Any, bread: Floats, labels: list[Ints]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the covariance, shape (Q, Q), and in which estimates all clusters are alike, (Q,).

    score: shape (n, Q), sparse. bread: inverse information, shape (Q, Q). labels: one or two
    arrays of shape (n,), numbers 0..G-1; two are combined as by Cameron, Gelbach and Miller 2011
    (JBES 29, 238-249), negative eigenvalues set to 0. NaN with fewer than two clusters.
    """
    units = min(int(label.max()) + 1 for label in labels)
    if units < 2:
        return np.full_like(bread, math.nan), np.zeros(len(bread), dtype=bool)
    meat = sum(_meat(score, label) for label in labels)
    if len(labels) == 2:
        both = labels[0] * (int(labels[1].max()) + 1) + labels[1]
        meat = meat - _meat(score, np.unique(both, return_inverse=True)[1])
        values, vectors = np.linalg.eigh(meat)
        meat = (vectors * np.maximum(values, 0)) @ vectors.T
    covariance = bread @ meat @ bread
    # No variation between clusters would be read as certainty, also where it lacks in one estimate
    # alone: in these each cluster counts as one observation.
    alike = np.diag(covariance) < 1e-6 * np.diag(bread)
    return covariance + bread * np.outer(alike, alike) * score.shape[0] / units, alike


def _meat(score: Any, label: Ints) -> Floats:
    count = int(label.max()) + 1
    pick = sparse.csr_matrix((np.ones(len(label)), (label, np.arange(len(label)))))
    sums = (pick @ score).toarray()
    return np.asarray(count / (count - 1) * sums.T @ sums, dtype=np.float64)


def open_ends(bread: Floats, ridge: float) -> Floats:
    """Return the variance along directions that the penalty, not the votes, holds in place.

    Where no finite maximum exists the residuals vanish, and a sandwich would promise certainty;
    but the curvature vanishes with them, to a few times the ridge, and its inverse says how flat
    the likelihood is. With a ridge of 0.001 the limit is a tenth of what one vote can tell.
    """
    values, vectors = np.linalg.eigh((bread + bread.T) / 2)
    wide = np.where(values > 1 / (50 * ridge), values, 0.0)
    return np.asarray((vectors * wide) @ vectors.T, dtype=np.float64)
