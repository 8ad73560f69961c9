"""Votes as arrays: checked, counted, seen as a graph, and as the design of a fit.

A vote names the model shown first, the one shown second, and an outcome. Collectors offer six
answers; `tally` counts each of them and codes them for the fit. "Both bad" is an answer of its
own, since a pair of failures and a pair of good answers say different things about a model;
in the main fit it is a tie, and a second fit without such votes shows whether that mattered.
"Cannot judge" never enters a fit.

    >>> counted = tally([0, 1], [1, 0], ["first", "both_bad"], models=2)
    >>> counted.codes.tolist()
    [0, 2]
    >>> counted.shares["both_bad"].tolist()
    [0.5, 0.5]
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.sparse import csgraph

from hebench.stats.davidson import LOSS, TIE, WIN

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Groups = tuple[tuple[int, ...], ...]

UNJUDGED = -1
OUTCOMES = {
    "first": WIN,
    "second": LOSS,
    "tie": TIE,
    "both_good": TIE,
    "both_bad": TIE,
    "cannot_judge": UNJUDGED,
}
DECIDED = ("first", "second")


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What was answered.

    votes: shape (M,), the times each model was shown. shares: "win", "loss" and the undecided
    words of `OUTCOMES`, each of shape (M,): the share of a model's votes, in [0, 1], NaN for a
    model never shown. totals: votes by word. codes: shape (n,), outcomes as
    `votes.fit` takes them.
    """

    votes: Ints
    shares: dict[str, Floats]
    totals: dict[str, int]
    codes: Ints


def tally(first: ArrayLike, second: ArrayLike, outcomes: Sequence[str], *, models: int) -> Tally:
    """Return what was answered about each of `models` models, and the outcomes coded.

    first, second: shape (n,), indices of the models shown. outcomes: n keys of `OUTCOMES`.
    Raises ValueError for another word and for what `pairs_shown` refuses.
    """
    unknown = sorted(set(outcomes) - set(OUTCOMES))
    if unknown:
        raise ValueError(f"expected outcomes among {', '.join(OUTCOMES)}, found {unknown}")
    shown = pairs_shown(first, second, len(outcomes), models)
    codes = np.array([OUTCOMES[word] for word in outcomes], dtype=np.int64)
    words = np.array(outcomes, dtype=str)
    votes = np.bincount(shown.ravel(), minlength=models)

    def share(chosen: Ints) -> Floats:
        count = np.bincount(chosen.ravel(), minlength=models)
        return np.where(votes > 0, count / np.maximum(votes, 1), np.nan)

    winners, losers = (
        np.concatenate([shown[codes == WIN, side], shown[codes == LOSS, 1 - side]])
        for side in (0, 1)
    )
    same = {word: share(shown[words == word]) for word in OUTCOMES if word not in DECIDED}
    return Tally(
        votes=votes,
        shares={"win": share(winners), "loss": share(losers), **same},
        totals={word: int((words == word).sum()) for word in OUTCOMES},
        codes=codes,
    )


def pairs_shown(first: ArrayLike, second: ArrayLike, votes: int, models: int) -> Ints:
    """Return the models of each vote, shape (n, 2).

    Raises ValueError for unequal lengths, unknown models and a model against itself.
    """
    columns = [np.asarray(values, dtype=np.int64) for values in (first, second)]
    if any(column.shape != (votes,) for column in columns):
        raise ValueError(
            f"expected {votes} models a side, one a vote, found {[len(c) for c in columns]}"
        )
    shown = np.stack(columns, axis=1)
    if votes and (shown.min() < 0 or shown.max() >= models):
        raise ValueError(f"expected models 0 to {models - 1}, found {shown.min()} to {shown.max()}")
    if np.any(shown[:, 0] == shown[:, 1]):
        raise ValueError("expected two different models in each vote, found one against itself")
    return shown


def codes_of(outcome: ArrayLike, votes: int) -> Ints:
    """Return checked outcome codes, shape (n,); at least one vote must have been judged."""
    codes = np.asarray(outcome, dtype=np.int64)
    if codes.shape != (votes,) or not np.all(np.isin(codes, (UNJUDGED, WIN, LOSS, TIE))):
        raise ValueError(f"expected {votes} outcomes, each 0, 1, 2 or -1")
    if np.all(codes == UNJUDGED):
        raise ValueError("expected at least one vote that was judged, found none")
    return codes


def numbered(labels: Sequence[Hashable], keep: NDArray[np.bool_]) -> Ints:
    """Return the kept labels as numbers 0..G-1 in order of appearance."""
    if len(labels) != len(keep):
        raise ValueError(f"expected {len(keep)} labels, found {len(labels)}")
    seen: dict[Hashable, int] = {}
    kept = (label for label, wanted in zip(labels, keep, strict=True) if wanted)
    return np.array([seen.setdefault(label, len(seen)) for label in kept], dtype=np.int64)


def scaled_weights(weights: ArrayLike | None, keep: NDArray[np.bool_]) -> Floats:
    """Return the kept weights scaled to mean 1, so that a ridge means the same for all."""
    found = np.ones(len(keep)) if weights is None else np.asarray(weights, dtype=np.float64)
    if found.shape != keep.shape or not np.all(np.isfinite(found) & (found > 0)):
        raise ValueError(f"expected {len(keep)} positive weights")
    return np.asarray(found[keep] / found[keep].mean(), dtype=np.float64)


def scaled_styles(style: ArrayLike | None, keep: NDArray[np.bool_]) -> Floats:
    """Return the kept style differences, shape (n, K), each column with mean square 1.

    Not centred: a mean difference belongs to the side effect, and sides may be swapped.
    """
    if style is None:
        return np.zeros((int(keep.sum()), 0))
    found = np.asarray(style, dtype=np.float64)
    if found.ndim != 2 or len(found) != len(keep) or not np.all(np.isfinite(found)):
        raise ValueError(f"expected finite style differences of shape ({len(keep)}, columns)")
    scale = np.sqrt((found[keep] ** 2).mean(axis=0))
    if np.any(scale == 0):
        raise ValueError(f"style column {int(np.argmin(scale))} never differs: leave it out")
    return np.asarray(found[keep] / scale, dtype=np.float64)


def counts(shown: Ints, codes: Ints, models: int) -> tuple[Ints, Ints]:
    """Return wins[i, j] of i over j, and ties[i, j], symmetric, each of shape (M, M)."""
    wins, ties = np.zeros((2, models, models), dtype=np.int64)
    for code in (WIN, LOSS):
        chosen = shown[codes == code]
        np.add.at(wins, (chosen[:, code], chosen[:, 1 - code]), 1)
    draws = shown[codes == TIE]
    np.add.at(ties, (draws[:, 0], draws[:, 1]), 1)
    return wins, ties + ties.T


def connected(wins: Ints, ties: Ints) -> tuple[Groups, bool]:
    """Return the groups of models that comparisons connect, and whether a finite fit exists.

    It does if, within each group, a chain of wins or ties leads from every model to every other
    (Ford 1957, American Mathematical Monthly 64, 28-33; a tie leads both ways).
    """
    edges = sparse.csr_matrix(wins + ties)
    count, weak = csgraph.connected_components(edges, directed=True, connection="weak")
    strong, _ = csgraph.connected_components(edges, directed=True, connection="strong")
    groups = tuple(tuple(np.flatnonzero(weak == group).tolist()) for group in range(count))
    return groups, strong == count


def design(shown: Ints, styles: Floats, models: int, groups: int) -> tuple[Any, bool]:
    """Return the sparse design, columns models, side, styles, and whether it has a side.

    It has none where models were not shown on both sides, so that strengths explain all of it.
    Raises ValueError for a style difference that the models, and the side, determine.
    """
    rows = np.repeat(np.arange(len(shown)), 2)
    signs = np.tile([1.0, -1.0], len(shown))
    compared = sparse.csr_matrix((signs, (rows, shown.ravel())), shape=(len(shown), models))
    side = sparse.csr_matrix(np.ones((len(shown), 1)))
    rest = sparse.csr_matrix(styles)
    for sided, columns in ((True, [compared, side, rest]), (False, [compared, rest])):
        found = sparse.csr_matrix(sparse.hstack(columns))
        rank = np.linalg.matrix_rank((found.T @ found).toarray(), hermitian=True)
        if rank == found.shape[1] - groups:
            return found, sided
    raise ValueError("which models are compared determines a style difference: leave it out")
