"""Greedy answers to many prompts, what the prompts share computed once.

Rows are written side by side in one forward pass and leave it when they are done; when a quarter
has left, further prompts take their places. Words that the answer repeats from its prompt or from
itself are guessed ahead and checked in the same pass: only what the model itself would have written
is kept, so guesses change the time and not the answer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from hebench.harness.prefix.branches import Branches
from hebench.harness.prefix.budget import Budget, is_lack_of_memory
from hebench.harness.prefix.guesses import Guesses, worth_reading
from hebench.harness.prefix.rows import Part, Rows
from hebench.harness.prefix.tree import Ints, Tree, build

# Slots that a common part must save its rows to be worth a product of its own at every step.
_WORTH_A_BLOCK = 256
# And which part of the room for all: a GPU waits for the product's calls (an H200 some 13 ms), so
# that there only what would leave room for fewer rows is worth it.
_ROOM_WORTH_A_BLOCK = {"cuda": 0.25}
_ENOUGH_ANSWERS = 8  # from which on it is reckoned how long answers are; before, the most allowed
_SPARE = 32  # tokens that an answer may be longer than reckoned, beside twice the mean


class NotANumber(ArithmeticError):
    """The model's logits are NaN: through the row of slots they would reach other prompts."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When an answer ends, and how much is done at a time."""

    tokens: int  # of an answer, at most
    is_end: Callable[[list[int]], bool]  # of the tokens so far, of which the last is new
    rows: int  # answers that are written at a time
    slots: int  # tokens held for them at a time, where they are more than one


@dataclass(kw_only=True)
class _Row:
    """An answer in the making."""

    place: int  # of its prompt
    path: Ints  # nodes of the prompt
    parts: list[Part]  # of the path, which other rows read, too
    own: list[int]  # the last one is not read yet
    guesses: Guesses
    ahead: list[int] = field(default_factory=list)  # what may come next
    done: bool = False

    @property
    def label(self) -> int:
        return int(self.path[-1])

    @property
    def slots(self) -> int:
        """How many slots of its own the prompt needs."""
        return len(self.path) - (self.parts[-1][1] if self.parts else 0)


def answers(
    branches: Branches, prompts: Sequence[list[int]], limits: Limits, budget: Budget
) -> Iterator[tuple[int, list[int]]]:
    """Yield (place, tokens of the answer) of every prompt; equal prompts are answered once."""
    places: dict[tuple[int, ...], list[int]] = {}
    for place, tokens in enumerate(prompts):
        places.setdefault(tuple(tokens), []).append(place)
    begun: dict[tuple[int, ...], list[int]] = {prompt: [] for prompt in places}
    while begun:
        decoder = _Decoder(branches, begun, limits, budget)
        for prompt, tokens in decoder.run():
            for place in places[prompt]:
                yield place, tokens
        begun = decoder.postponed


class _Decoder:
    """The rows being written, and the prompts that wait in the order of their tree."""

    def __init__(
        self,
        branches: Branches,
        begun: dict[tuple[int, ...], list[int]],
        limits: Limits,
        budget: Budget,
    ) -> None:
        """Take prompts, none empty, and what is written of their answers already."""
        self._branches, self._limits, self._budget = branches, limits, budget
        self._prompts, self._begun = list(begun), list(begun.values())
        texts = [[*prompt, *own] for prompt, own in begun.items()]
        self._tree: Tree = build(texts, [len(text) for text in texts])
        labels = np.sort([path[-1] for path in self._tree.tails])
        ends = np.searchsorted(labels, self._tree.ends)
        self._below = ends - np.searchsorted(labels, np.arange(len(self._tree)))  # prompts
        self._waiting = list(reversed(self._tree.order))
        # Rows that grow take an eighth more than they need at the time.
        self._states = Rows(branches, limits.slots + limits.slots // 8)
        self._rows: list[_Row] = []  # in the order of their states
        room = _ROOM_WORTH_A_BLOCK.get(branches.device.type, 0) * limits.slots
        self._worth_a_block = max(_WORTH_A_BLOCK, room)
        self._full = 0  # rows after the last prompts were admitted
        self._read = 0  # nodes of the tree
        self._lengths: list[int] = []  # of finished answers
        self.postponed: dict[tuple[int, ...], list[int]] = {}

    def run(self) -> Iterator[tuple[tuple[int, ...], list[int]]]:
        """Yield (prompt, tokens) as rows are done, but those of `postponed`."""
        self._branches.clear()
        while self._waiting or self._rows:
            if self._waiting and 4 * len(self._rows) <= 3 * self._full:
                yield from self._admit()
            self._postpone()
            first = 0
            while first < len(self._rows):
                first = self._budget.attempt(partial(self._write, first))
            for number in reversed(range(len(self._rows))):
                if self._rows[number].done:
                    yield self._finished(self._drop(number))
        self._branches.clear()

    def _drop(self, number: int) -> _Row:
        self._states.drop(number)
        row, self._rows[number] = self._rows[number], self._rows[-1]
        self._rows.pop()
        return row

    def _finished(self, row: _Row) -> tuple[tuple[int, ...], list[int]]:
        self._lengths.append(len(row.own))
        return self._prompts[row.place], row.own

    def _append(self, row: _Row, token: int) -> None:
        row.own.append(token)
        row.guesses.append(token)
        row.done = len(row.own) >= self._limits.tokens or self._limits.is_end(row.own)

    # ---------------------------------------------------------------------------- which rows

    def _row(self, place: int) -> _Row:
        """Return the row of a prompt: what it shares with enough others is in parts."""
        path = self._tree.tails[place]
        below = self._below[path]
        parts: list[Part] = []
        start = 0
        for stop in (*(np.flatnonzero(np.diff(below)) + 1).tolist(), len(path)):
            users = min(int(below[stop - 1]), self._limits.rows)
            if (users - 1) * (stop - start) >= self._worth_a_block:
                parts.append((start, stop))
                start = stop
        own = self._begun[place]
        guesses = Guesses([*self._prompts[place], *own])
        return _Row(place=place, path=path, parts=parts, own=list(own), guesses=guesses)

    def _reckoned(self) -> int:
        """Return how many tokens an answer is reckoned to have."""
        if len(self._lengths) < _ENOUGH_ANSWERS:
            return self._limits.tokens
        mean = sum(self._lengths) / len(self._lengths)
        return min(self._limits.tokens, _SPARE + int(2 * mean))

    def _held(self, rows: Sequence[_Row], answer: int) -> tuple[int, int]:
        """Return the slots of the longest row and of all, with answers of so many tokens."""
        longest = max(
            row.slots + max(answer, len(row.own)) - len(self._begun[row.place]) for row in rows
        )
        blocks = {
            int(row.path[stop - 1]): stop - start for row in rows for start, stop in row.parts
        }
        return longest, longest * len(rows) + sum(blocks.values())

    def _admit(self) -> Iterator[tuple[tuple[int, ...], list[int]]]:
        """Read the prompts of new rows; yield answers that end with the first token."""
        answer = self._reckoned()
        new: list[_Row] = []
        while self._waiting and len(self._rows) + len(new) < self._limits.rows:
            row = self._row(self._waiting[-1])
            held = self._held([*self._rows, *new, row], answer)[1]
            if (new or self._rows) and held > self._limits.slots:
                break
            self._waiting.pop()
            new.append(row)
        new = self._with_room(new, answer)
        stop = new[-1].label + 1 if new else self._read
        while self._read < stop:
            self._read, best = self._budget.attempt(partial(self._prefill, new, stop))
            for row, token in best:
                self._append(row, token)
                if not row.done:
                    self._add(row)
            self._branches.keep(np.array([self._read]))
        self._full = len(self._rows)
        yield from (self._finished(row) for row in new if row.done)

    def _with_room(self, new: list[_Row], answer: int) -> list[_Row]:
        """Return the new rows that room was taken for: half of them after each lack of memory."""
        while new:
            rows = [*self._rows, *new]
            try:
                self._states.reserve(len(rows), self._held(rows, answer)[0])
            except RuntimeError as error:
                if len(rows) == 1 or not is_lack_of_memory(error):
                    raise
            else:
                break
            kept = len(new) // 2
            self._waiting += [row.place for row in reversed(new[kept:])]
            new = new[:kept]
        return new

    def _add(self, row: _Row) -> None:
        """Write on in a row, too, or put it off where memory has room for the others only."""
        try:
            self._states.add(row.path, row.parts)
        except RuntimeError as error:
            if not self._rows or not is_lack_of_memory(error):
                raise
            self.postponed[self._prompts[row.place]] = row.own
        else:
            self._rows.append(row)

    def _postpone(self) -> None:
        """Put off the rows with the shortest answers where all together grew out of their room."""
        while len(self._rows) > 1 and self._held(self._rows, 0)[1] > self._limits.slots:
            number = min(range(len(self._rows)), key=lambda n: len(self._rows[n].own))
            row = self._drop(number)
            self.postponed[self._prompts[row.place]] = row.own

    # --------------------------------------------------------------------------------- passes

    def _prefill(
        self, new: Sequence[_Row], stop: int, tokens: int
    ) -> tuple[int, list[tuple[_Row, int]]]:
        """Read the next nodes of the tree, at most `tokens`.

        Return where they end, and the first token of each answer whose prompt does, too.
        """
        start, stop = self._read, min(self._read + tokens, stop)
        tree, part = self._tree, slice(start, stop)
        ready = [row for row in new if start <= row.label < stop]
        logits = self._branches.read(
            tree.tokens[part],
            tree.depths[part],
            np.arange(start, stop),
            tree.ends[part],
            np.array([row.label - start for row in ready], dtype=np.int64),
        )
        return stop, list(zip(ready, _best(logits), strict=True))

    def _write(self, first: int, tokens: int) -> int:
        """Write on in the rows from `first`, at most `tokens` read; return where they end."""
        rows = self._rows[first : first + tokens]
        for row in rows:
            row.ahead = row.guesses.next()
        counts = worth_reading(
            [row.guesses.chance for row in rows],
            [min(len(row.ahead), self._limits.tokens - len(row.own) - 1) for row in rows],
            tokens,
            self._branches.device.type,
        )
        pieces = [
            [row.own[-1], *row.ahead[:count]] for row, count in zip(rows, counts, strict=True)
        ]
        written = _best(self._states.read(first, pieces))
        kept, start = [], 0
        for row, piece in zip(rows, pieces, strict=True):
            kept.append(self._accept(row, piece[1:], written[start : start + len(piece)]))
            start += len(piece)
        self._states.keep(first, kept)
        return first + len(rows)

    def _accept(self, row: _Row, guessed: list[int], written: list[int]) -> int:
        """Add to a row what the model wrote; return how many tokens of the pass are part of it."""
        right = 0
        self._append(row, written[0])
        while not row.done and right < len(guessed) and guessed[right] == written[right]:
            right += 1
            self._append(row, written[right])
        row.guesses.learn(row.ahead, written[: right + 1])
        return 1 + right


def _best(logits: Any) -> list[int]:
    """Return the likeliest token of each row of logits. Raises NotANumber where one is NaN."""
    best = logits.argmax(dim=-1, keepdim=True)  # NaN counts as the largest
    if bool(logits.gather(-1, best).isnan().any()):
        raise NotANumber
    return [int(token) for token in best[:, 0].tolist()]
