"""What an answer may go on with: the words that followed its last two before (prompt lookup)."""

import math
from collections.abc import Sequence
from heapq import heapify, heappop, heapreplace

# A pass takes as long as so many tokens plus those that it reads, since the weights must be fetched
# anyway: measured as 25 to 30 on a CPU; an accelerator waits for its calls, however many are read.
_FIXED_TOKENS = {"cpu": 28, "cuda": 2048}
_LONGEST = 16  # tokens
# Attention pads the rows of a pass to the longest, to so many times its tokens at most; on a
# processor it comes in groups of rows.
_PADDED = {"cuda": 2}
_MEMORY = 0.9  # of how well earlier guesses did, after each further one


class Guesses:
    """A text, what is likely to come next in it, and how likely."""

    def __init__(self, text: Sequence[int]) -> None:
        """Begin with the tokens of a prompt."""
        self._text = list(text)
        self._following: dict[tuple[int, int], int] = {}  # place behind each pair of tokens
        self._known = 0  # tokens whose pairs `_following` holds
        self._right, self._tried = 0.5, 1.0

    def append(self, token: int) -> None:
        """Add what was written."""
        self._text.append(token)

    @property
    def chance(self) -> float:
        """How likely a guess is right, if those before it are."""
        return self._right / self._tried

    def next(self) -> list[int]:
        """Return what may come next: none or `_LONGEST` tokens."""
        text = self._text
        for place in range(max(self._known, 2), len(text)):
            self._following[text[place - 2], text[place - 1]] = place
        self._known = len(text)
        if len(text) < 2 or (text[-2], text[-1]) not in self._following:
            return []
        place = self._following[text[-2], text[-1]]
        found = text[place : place + _LONGEST]
        while len(found) < _LONGEST:  # a guess that goes on behind the text repeats itself
            found.append(found[place - len(text)])
        return found

    def learn(self, guessed: Sequence[int], written: Sequence[int]) -> None:
        """Compare what was guessed, read or not, with what the model wrote."""
        for guess, token in zip(guessed, written, strict=False):
            self._tried = _MEMORY * self._tried + 1
            self._right = _MEMORY * self._right + (guess == token)
            if guess != token:
                break


def worth_reading(
    chances: Sequence[float], rooms: Sequence[int], most: int, device: str
) -> list[int]:
    """Return how many guesses of each row to read in one pass, the likeliest first.

    chances: of a row's first guess; the second is right with the square of it, and so on. rooms:
    guesses that a row has. A further one is read while what it adds to the tokens written is more
    than its share of the time, and while no more than `most` tokens are read.
    """
    fixed = _FIXED_TOKENS.get(device, 0)
    found = [0] * len(chances)
    written = read = float(len(chances))
    heap = [(-chance, row) for row, chance in enumerate(chances) if rooms[row]]
    heapify(heap)
    while heap and read < most:
        chance, row = -heap[0][0], heap[0][1]
        if chance * (fixed + read) <= written:
            break
        found[row] += 1
        written, read = written + chance, read + 1
        if found[row] < rooms[row]:
            heapreplace(heap, (-chance * chances[row], row))
        else:
            heappop(heap)
    longest, padded = max(found, default=0), _PADDED.get(device, math.inf)
    while (longest + 1) * len(found) > padded * read:
        longest -= 1
        read -= sum(count > longest for count in found)
    return [min(count, longest) for count in found]
