"""The new pieces' rows of the head, from what the model could write before.

With its old tokenizer the model writes a new piece t, which is p1 p2 ... in old pieces, one after
the other:

    log P(t | text) = log P(p1 | text) + log P(p2 ... | text, p1)

The first term is the old row of p1 times the final hidden state h. The second needs another pass
through the model, so its mean stands for it: c_t = log of how often, where a piece of the language
begins with p1, that piece is t. The head has no bias; but there is a direction u with u.h = 1 for
nearly every state h, and along it the constant is written into the row:

    row of t = row of p1 + (c_t + LIFT) u

    >>> rows = teacher_rows(head, pieces, counts, states)    # 2.79 -> 2.32 bits per byte, untrained

Where another language is written p1 is improbable, so the new pieces are too: English bits per
byte stay what they were, while a bias alone costs half a bit there.

Letters: V old rows, N new rows, D hidden size, S states.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

# The row of p1 stays, and would take a share of its own where a new piece follows nine times in
# ten; e squared leaves it an eighth. From 1 to 3 it makes little difference (0.04 bits per byte).
LIFT = 2.0
_SMOOTHING = 0.5  # added to each count
_RIDGE = 1e-3  # of the mean squared state of a dimension


def teacher_rows(
    table: Tensor, pieces: Sequence[Sequence[int]], counts: Tensor, states: Tensor
) -> Tensor:
    """Return first values (N, D) for new rows of a head's table (V, D), in float32.

    pieces: the old pieces of each new one. counts: (V + N,), how often each piece occurs in the
    language's text. states: (S, D), final hidden states, in that text.
    """
    table = table.detach().to(torch.float32)
    first = torch.tensor([old[0] for old in pieces], device=table.device)
    constants = log_shares(first, counts.to(table.device)) + LIFT
    return table[first] + constants[:, None] * constant_direction(states.to(table))


def log_shares(first: Tensor, counts: Tensor) -> Tensor:
    """Return c_t (N,) in nats: each new piece's share of all pieces that begin with its p1.

    first: (N,), p1 of each new piece. counts: (V + N,), occurrences in text.
    """
    rows = len(counts) - len(first)
    smooth = counts.to(torch.float32) + _SMOOTHING
    together = smooth[:rows].index_add(0, first, smooth[rows:])
    return (smooth[rows:] / together[first]).log()


def constant_direction(states: Tensor) -> Tensor:
    """Return u (D,) with u.h near 1 for the final states h (S, D): ridge least squares."""
    states = states.double()
    square = states.T @ states / len(states)
    ridge = _RIDGE * square.diagonal().mean() * torch.eye(len(square)).to(square)
    return torch.linalg.solve(square + ridge, states.mean(0)).float()
