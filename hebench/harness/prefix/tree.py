"""Token sequences as a tree: what several begin with stands in it once.

The nodes are numbered in preorder, so that a subtree is an interval: node `n` and everything
below it are `n .. ends[n] - 1`, and `a` is on the way to `n` exactly if `a <= n < ends[a]`.

>>> tree = build([[7, 8, 9], [7, 8, 4]], [1, 2])
>>> tree.tokens.tolist(), tree.depths.tolist(), tree.ends.tolist()
([7, 8, 4, 9], [0, 1, 2, 2], [4, 4, 3, 4])
>>> [tail.tolist() for tail in tree.tails], tree.order
([[3], [1, 2]], [1, 0])
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Sequences of tokens with their common beginnings merged; `N` nodes in preorder."""

    tokens: Ints  # (N,) token ids
    depths: Ints  # (N,) place in the sequence, from 0
    ends: Ints  # (N,) first node behind the subtree
    tails: list[Ints]  # of each sequence, the nodes of its last tokens, as many as asked for
    order: list[int]  # the sequences as the tree meets them: their last nodes never go back

    def __len__(self) -> int:
        """Return how many nodes there are, which is how many tokens must be computed."""
        return len(self.tokens)


def build(sequences: Sequence[list[int]], tails: Sequence[int]) -> Tree:
    """Return the tree of `sequences`, none empty; `tails` says how many last nodes to return.

    In sorted order each sequence adds a branch to the one before, which makes the preorder.
    """
    order = sorted(range(len(sequences)), key=lambda place: sequences[place])
    longest = max(map(len, sequences), default=0)
    path = np.zeros(longest, dtype=np.int64)  # the nodes of the sequence before
    before = np.zeros(0, dtype=np.int64)
    tokens: list[Ints] = []
    depths: list[Ints] = []
    ends = np.zeros(sum(map(len, sequences)), dtype=np.int64)
    found: list[Ints] = [path] * len(sequences)
    count = 0
    for place in order:
        own = np.asarray(sequences[place], dtype=np.int64)
        shared = common(before, own)
        ends[path[shared : len(before)]] = count
        added = len(own) - shared
        path[shared : len(own)] = np.arange(count, count + added)
        tokens.append(own[shared:])
        depths.append(np.arange(shared, len(own)))
        found[place] = path[len(own) - tails[place] : len(own)].copy()
        count += added
        before = own
    ends[path[: len(before)]] = count
    return Tree(
        tokens=np.concatenate(tokens) if tokens else path,
        depths=np.concatenate(depths) if depths else path,
        ends=ends[:count],
        tails=found,
        order=order,
    )


def common(a: Ints, b: Ints) -> int:
    """Return how many first tokens two sequences share."""
    shortest = min(len(a), len(b))
    different = np.flatnonzero(a[:shortest] != b[:shortest])
    return int(different[0]) if len(different) else shortest
