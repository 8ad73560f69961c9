"""Log-likelihoods of many continuations, each token of their tree computed once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from hebench.harness.prefix.branches import Branches
from hebench.harness.prefix.budget import Budget
from hebench.harness.prefix.tree import Ints, Tree, build

Scored = tuple[float, bool]  # log-likelihood (nats), and whether it is the greedy answer


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is read, and the continuation that its last positions are to predict."""

    tokens: list[int]  # context and continuation without the last token
    continuation: list[int]


def score(
    branches: Branches, questions: Sequence[Question], budget: Budget, softmax_dtype: Any
) -> Iterator[tuple[int, Scored]]:
    """Yield (place, its score) of every question, as soon as its last token is read."""
    tree = build(
        [question.tokens for question in questions],
        [len(question.continuation) for question in questions],
    )
    answers = _Answers(tree, questions)
    branches.clear()
    start = 0
    while start < len(tree):
        stop = budget.attempt(partial(_read, branches, tree, answers, softmax_dtype, start))
        yield from answers.finished(stop)
        branches.keep(np.array([stop]))
        start = stop
    branches.clear()


def _read(  # noqa: PLR0913, PLR0917
    branches: Branches, tree: Tree, answers: "_Answers", dtype: Any, start: int, tokens: int
) -> int:
    """Read the next nodes, note what they say about the answers, and return where they end."""
    stop = min(start + tokens, len(tree))
    part = slice(start, stop)
    asked = answers.between(start, stop)
    nodes, rows = np.unique(answers.nodes[asked], return_inverse=True)
    logits = branches.read(
        tree.tokens[part],
        tree.depths[part],
        np.arange(start, stop),
        tree.ends[part],
        nodes - start,
    )
    if len(nodes):
        answers.note(asked, logits, rows, dtype)
    return stop


class _Answers:
    """The tokens to predict, in the order of the nodes that predict them."""

    def __init__(self, tree: Tree, questions: Sequence[Question]) -> None:
        counts = [len(question.continuation) for question in questions]
        nodes = np.concatenate(tree.tails)
        gold = np.concatenate([question.continuation for question in questions])
        self._by_node = np.argsort(nodes, kind="stable")
        self.nodes = nodes[self._by_node]
        self._gold = gold[self._by_node].astype(np.int64)
        self._firsts = np.concatenate([[0], np.cumsum(counts)])
        self._values: Any = None  # (answers,) log-probabilities, in the type they were computed in
        self._greedy = np.zeros(len(gold), dtype=bool)
        self._waiting = iter([(int(tree.tails[place][-1]), place) for place in tree.order])
        self._next = next(self._waiting, None)

    def between(self, start: int, stop: int) -> slice:
        """Return which answers the nodes from start to stop predict."""
        first, last = np.searchsorted(self.nodes, [start, stop])
        return slice(int(first), int(last))

    def note(self, asked: slice, logits: Any, rows: Ints, dtype: Any) -> None:
        """Keep the log-probabilities of the answers `asked`; rows: the row of logits of each."""
        gold = torch.from_numpy(self._gold[asked]).to(logits.device)
        row = torch.from_numpy(rows).to(logits.device)
        likelihoods = logits.log_softmax(dim=-1, dtype=dtype)
        values = likelihoods[row, gold]
        # Of the rounded log-probabilities, not of the logits: so does the stock model.
        greedy = likelihoods.argmax(dim=-1)[row] == gold
        if self._values is None:
            self._values = torch.zeros(len(self._gold), dtype=values.dtype)
        places = self._by_node[asked]
        self._values[torch.from_numpy(places)] = values.cpu()
        self._greedy[places] = greedy.cpu().numpy()

    def finished(self, stop: int) -> Iterator[tuple[int, Scored]]:
        """Yield the scores of the questions whose last node stands before `stop`."""
        while self._next is not None and self._next[0] < stop:
            place = self._next[1]
            own = slice(int(self._firsts[place]), int(self._firsts[place + 1]))
            yield place, (float(self._values[own].sum()), bool(self._greedy[own].all()))
            self._next = next(self._waiting, None)
