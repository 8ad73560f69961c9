"""The likelihood of paired comparisons with ties, and its maximum by Newton's method.

With eta = z'b for a row z of the design, P(win) : P(loss) : P(tie) = exp(eta / 2) : exp(-eta / 2)
: exp(t). This is an exponential family in (b, t), so the likelihood is concave and Newton's
steps, halved when they overshoot, reach the one maximum. What the rows of the design mean (who
was shown first, which styles differ) is the business of `hebench.stats.votes`.

Letters of shapes: n votes (or kinds of votes, with weights), P columns of the design, and
Q = P + 1 if t is fitted, else P.

    >>> theta = maximum(sparse.csr_matrix([[1.0], [1.0]]), np.array([0, 1]),
    ...                 np.array([3.0, 1.0]), tied=False, ridge=1e-9)
    >>> round(float(theta[0]), 4)  # log(3 / 1)
    1.0986
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WIN, LOSS, TIE = 0, 1, 2
SIGN = np.array([1.0, -1.0, 0.0])


def probabilities(eta: Floats, tie: float) -> tuple[Floats, Floats, Floats]:
    """Return the probabilities of a win, a loss and a tie, each of eta's shape.

    tie: the parameter exp(t) >= 0; 0 gives Bradley and Terry's model.
    """
    # Divided by the larger of exp(+-eta / 2), so that nothing overflows.
    weaker = np.exp(-np.abs(eta))
    middle = tie * np.exp(-np.abs(eta) / 2)
    total = 1 + weaker + middle
    stronger, weaker = 1 / total, weaker / total
    ahead = eta >= 0
    return np.where(ahead, stronger, weaker), np.where(ahead, weaker, stronger), middle / total


def derivatives(
    design: Any, outcome: Ints, weight: Floats, theta: Floats, tied: bool
) -> tuple[Any, Floats]:
    """Return the score of each vote (n, Q), sparse, and Fisher's information (Q, Q).

    design: sparse, shape (n, P). outcome: shape (n,), WIN, LOSS or TIE. theta: shape (Q,).
    """
    columns = design.shape[1]
    win, loss, tie = probabilities(
        design @ theta[:columns], float(np.exp(theta[-1])) if tied else 0.0
    )
    lead = win - loss
    score = sparse.diags(weight * (SIGN[outcome] - lead) / 2) @ design
    information = (design.T @ sparse.diags(weight * (win + loss - lead**2) / 4) @ design).toarray()
    if not tied:
        return score.tocsr(), information
    of_tie = weight * ((outcome == TIE) - tie)
    across = -(design.T @ (weight * tie * lead)) / 2
    corner = float((weight * tie * (1 - tie)).sum())
    information = np.block([[information, across[:, None]], [across[None, :], corner]])
    return sparse.hstack([score, of_tie[:, None]]).tocsr(), information


def maximum(  # noqa: PLR0913 (the likelihood, its penalty, and where to begin)
    design: Any,
    outcome: Ints,
    weight: Floats,
    *,
    tied: bool,
    ridge: float,
    start: Floats | None = None,
) -> Floats:
    """Return theta, shape (Q,), where log-likelihood - ridge / 2 * |theta|^2 is largest.

    ridge > 0 makes the maximum unique: strengths come out with mean 0 in each connected group of
    models, and finite where the likelihood alone has no maximum. start: a theta near by, which
    saves steps.
    """
    columns = design.shape[1]
    theta = np.zeros(columns + tied) if start is None else start

    def value(point: Floats) -> float:
        tie = float(np.exp(point[-1])) if tied else 0.0
        chosen = np.choose(outcome, probabilities(design @ point[:columns], tie))
        # 1e-300: a trial step may be so long that a seen outcome gets probability 0.
        return float(weight @ np.log(np.maximum(chosen, 1e-300)) - ridge / 2 * point @ point)

    now = value(theta)
    for _ in range(200):
        score, information = derivatives(design, outcome, weight, theta, tied)
        gradient = np.asarray(score.sum(axis=0)).ravel() - ridge * theta
        step = np.linalg.solve(information + ridge * np.eye(len(theta)), gradient)
        if gradient @ step < 1e-13 * weight.sum():  # what is left to gain, twice
            return np.asarray(theta + step, dtype=np.float64)
        step *= min(1.0, 5 / np.abs(step).max())
        while (then := value(theta + step)) < now - 1e-12 * abs(now):
            step /= 2
        theta, now = theta + step, then
    raise AssertionError("Newton's method did not converge on a concave function")


def expected_share(difference: Floats, tie: float) -> tuple[Floats, Floats, Floats]:
    """Return P(win) + P(tie) / 2 and its slopes by the difference and by t = log(tie)."""
    win, loss, draw = probabilities(difference, tie)
    lead = win - loss
    return win + draw / 2, (win + loss - lead**2) / 4, -draw * lead / 2
