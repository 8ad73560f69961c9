"""Greedy answers to many prompts, what the prompts share computed once.

Rows are read side by side in one forward pass and leave it when they are done; when a quarter
has left, further prompts take their places. Words that the answer copies from its prompt are
guessed ahead and checked in the same pass (prompt lookup): only what the model itself would have
written is kept, so guesses change the time and not the answer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from hebench.harness.prefix.branches import Branches
from hebench.harness.prefix.budget import Budget
from hebench.harness.prefix.tree import Tree, build

_ROOM = 1 << 20  # labels between two nodes of the tree: more than anybody generates
_LONGEST_GUESS = 16  # tokens
# Tokens that a pass reads in the time of one, since the weights must be fetched anyway: what rows
# leave of them is free for guesses. More guesses would cost what they win.
_FREE_TOKENS = {"cpu": 8, "cuda": 64}
_EXPECTED = 64  # tokens of an answer, where room for it is reckoned: most are shorter than allowed


class NotANumber(ArithmeticError):
    """The model's logits are NaN: through the row of slots they would reach other prompts."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When an answer ends, and how much is done at a time."""

    tokens: int  # of an answer, at most
    is_end: Callable[[list[int]], bool]  # of the tokens so far, of which the last is new
    rows: int  # answers that are written at a time
    slots: int  # tokens held at a time, where more than one row is active


@dataclass
class _Row:
    """An answer in the making."""

    place: int  # of its prompt
    prompt: list[int]
    label: int  # of the prompt's last node
    guess: int = 4  # tokens to guess ahead
    own: list[int] = field(default_factory=list)  # the last one is not read yet
    following: dict[tuple[int, int], int] = field(default_factory=dict)  # place behind each pair
    known: int = 0  # tokens whose pairs `following` holds
    done: bool = False

    def guesses(self, limit: int) -> list[int]:
        """Return tokens that followed the last two before, at most `limit`."""
        text = self.prompt + self.own
        for place in range(max(self.known, 2), len(text)):
            self.following[text[place - 2], text[place - 1]] = place
        self.known = len(text)
        start = self.following.get((text[-2], text[-1])) if len(text) > 1 else None
        if start is None:
            return []
        for place in range(start, start + min(self.guess, limit)):
            text.append(text[place])  # a guess that goes on behind the text repeats itself
        return text[self.known :]

    def learn(self, guessed: int, right: int) -> None:
        """Guess more after a right guess, and less after a wrong one."""
        if guessed and right == guessed:
            self.guess = min(2 * self.guess, _LONGEST_GUESS)
        elif guessed and not right:
            self.guess = max(1, self.guess // 2)


def answers(
    branches: Branches, prompts: Sequence[list[int]], limits: Limits, budget: Budget
) -> Iterator[tuple[int, list[int]]]:
    """Yield (place, tokens of the answer) of every prompt; equal prompts are answered once."""
    places: dict[tuple[int, ...], list[int]] = {}
    for place, prompt in enumerate(prompts):
        places.setdefault(tuple(prompt), []).append(place)
    distinct = [prompts[group[0]] for group in places.values()]
    groups = list(places.values())
    for place, tokens in _Decoder(branches, distinct, limits, budget).run():
        for same in groups[place]:
            yield same, tokens


class _Decoder:
    """The rows being written, and the prompts that wait in the order of their tree."""

    def __init__(
        self, branches: Branches, prompts: Sequence[list[int]], limits: Limits, budget: Budget
    ) -> None:
        self._branches, self._prompts = branches, prompts
        self._limits, self._budget = limits, budget
        self._tree: Tree = build(prompts, [1] * len(prompts))
        self._waiting = list(reversed(self._tree.order))
        self._rows: list[_Row] = []
        self._read = 0  # nodes of the tree
        self._free = _FREE_TOKENS.get(branches.device.type, 1)

    def run(self) -> Iterator[tuple[int, list[int]]]:
        """Yield (place, tokens) as rows are done."""
        self._branches.clear()
        while self._waiting or self._rows:
            if self._waiting and 4 * len(self._rows) <= 3 * self._limits.rows:
                self._admit()
            else:
                self._write()
            done = [row for row in self._rows if row.done]
            if done:
                self._rows = [row for row in self._rows if not row.done]
                yield from ((row.place, row.own) for row in done)
                self._forget()
            elif self._branches.hidden > len(self._branches) // 8:
                self._forget()
        self._branches.clear()

    def _append(self, row: _Row, token: int) -> None:
        row.own.append(token)
        row.done = len(row.own) >= self._limits.tokens or self._limits.is_end(row.own)

    def _admit(self) -> None:
        """Read the prompts of new rows, and the first token of each answer."""
        new: list[_Row] = []
        answer = min(self._limits.tokens, _EXPECTED)
        held = len(self._branches) + answer * len(self._rows)
        while self._waiting and len(self._rows) + len(new) < self._limits.rows:
            place = self._waiting[-1]
            label = int(self._tree.tails[place][0])
            held += label - (new[-1].label if new else self._read) + answer
            if (new or self._rows) and held > self._limits.slots:
                break
            self._waiting.pop()
            new.append(_Row(place, self._prompts[place], label))
        if not new:  # no room beside those that are being written
            self._write()
            return
        self._rows += new
        stop = new[-1].label + 1
        while self._read < stop:
            self._read = self._budget.attempt(partial(self._prefill, new, stop))
            self._forget()

    def _prefill(self, new: Sequence[_Row], stop: int, tokens: int) -> int:
        """Read the next nodes of the tree, at most `tokens`; return where they end."""
        start, stop = self._read, min(self._read + tokens, stop)
        tree, part = self._tree, slice(start, stop)
        ready = [row for row in new if start <= row.label < stop]
        logits = self._branches.read(
            tree.tokens[part],
            tree.depths[part],
            np.arange(start, stop) * _ROOM,
            tree.ends[part] * _ROOM,
            np.array([row.label - start for row in ready], dtype=np.int64),
        )
        for row, token in zip(ready, _best(logits), strict=True):
            self._append(row, token)
        return stop

    def _write(self) -> None:
        """Read the last token of each row and its guesses, and write what comes next."""
        first = 0
        while first < len(self._rows):
            first = self._budget.attempt(partial(self._extend, first))

    def _extend(self, first: int, tokens: int) -> int:
        """Write on in the rows from `first`, at most `tokens` read; return where they end."""
        pieces: list[list[int]] = []
        labels, places, ends = [], [], []
        free = max(0, self._free - len(self._rows))
        for row in self._rows[first:]:
            guesses = row.guesses(min(free, self._limits.tokens - len(row.own) - 1))
            free -= len(guesses)
            piece = [row.own[-1], *guesses]
            if pieces and sum(map(len, pieces)) + len(piece) > tokens:
                break
            steps = np.arange(len(row.own) - 1, len(row.own) - 1 + len(piece))
            pieces.append(piece)
            places.append(len(row.prompt) + steps)
            labels.append(row.label * _ROOM + 1 + steps)
            ends.append(np.full(len(piece), (row.label + 1) * _ROOM))
        base, starts = len(self._branches), np.cumsum([0, *map(len, pieces)])
        logits = self._branches.read(
            np.concatenate(pieces),
            np.concatenate(places),
            np.concatenate(labels),
            np.concatenate(ends),
            np.arange(starts[-1]),
        )
        written = _best(logits)
        for row, piece, start in zip(self._rows[first:], pieces, starts, strict=False):
            right = self._accept(row, piece[1:], written[start : start + len(piece)])
            self._branches.hide(np.arange(base + start + 1 + right, base + start + len(piece)))
        return first + len(pieces)

    def _accept(self, row: _Row, guessed: list[int], written: list[int]) -> int:
        """Add to a row what the model wrote; return how many guesses it agreed with."""
        right = 0
        self._append(row, written[0])
        while not row.done and right < len(guessed) and guessed[right] == written[right]:
            right += 1
            self._append(row, written[right])
        row.learn(len(guessed), right)
        return right

    def _forget(self) -> None:
        """Free what no row and no waiting prompt needs."""
        labels = [row.label * _ROOM + _ROOM - 1 for row in self._rows]
        if self._waiting or self._read < len(self._tree):
            labels.append(self._read * _ROOM)
        self._branches.keep(np.array(labels, dtype=np.int64))


def _best(logits: Any) -> list[int]:
    """Return the likeliest token of each row of logits. Raises NotANumber where one is NaN."""
    if bool(logits.isnan().any()):
        raise NotANumber
    return [int(token) for token in logits.float().argmax(dim=-1).tolist()]
