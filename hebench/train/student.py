"""Teacher and student: one frozen body that reads the same text in old pieces and in new ones.

    >>> texts = [aligned("בית הספר", old, new, "word")]
    >>> student = Student(model, first_rows)
    >>> student.states(texts) - student.teacher_states(texts)      # (2, D): a row for each word

Letters: N new rows, D hidden size, W matched places.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from hebench.errors import DataError
from hebench.train.embeddings import Reading
from hebench.train.frozen import final_states
from hebench.train.measure import Nearness, nearness
from hebench.train.passages import batches, prefix_id

Mode = Literal["piece", "word", "sentence"]
_WORD = re.compile(r"\S+")
_TEACHER_TOKENS = 2048  # of one forward pass without gradients
_BLOCK = 2**20  # bytes written at a time


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """A text in both tokenizers, each behind the prefix, and where their states must agree."""

    old: list[int]  # token ids
    new: list[int]
    old_places: list[int]  # (W,), indices into `old`
    new_places: list[int]  # (W,), into `new`


@dataclass(frozen=True, kw_only=True)
class Followed:
    """Final hidden states in text that the new tokenizer has cut."""

    states: Tensor  # (S, D)
    following: Tensor  # (S,), the new tokenizer's token after each


class Student:
    """The frozen body with an input table whose new rows train; with old ids it is the teacher."""

    def __init__(self, model: Any, initial: Tensor) -> None:
        """Take the base model and the new rows' first values (N, D)."""
        self.model, self.reading = model, Reading(model.get_input_embeddings(), initial)
        model.set_input_embeddings(self.reading)

    def states(self, texts: Sequence[Aligned]) -> Tensor:
        """Return the student's states (W, D) at the matched places of some texts."""
        return final_states(
            self.model, [text.new for text in texts], [text.new_places for text in texts]
        )

    def teacher_states(self, texts: Sequence[Aligned]) -> Tensor:
        """Return the teacher's states (W, D) at the same places, without a gradient."""
        with torch.no_grad():
            return final_states(
                self.model, [text.old for text in texts], [text.old_places for text in texts]
            )

    def nearness(self, texts: Sequence[Aligned]) -> Nearness:
        """Return how near the student is to the teacher at the matched places of some texts."""
        ours, theirs = [], []
        for indices in tqdm(
            batches([len(text.old) for text in texts], _TEACHER_TOKENS),
            desc="nearness",
            disable=None,
        ):
            some = [texts[i] for i in indices]
            with torch.no_grad():
                ours.append(self.states(some).cpu())
            theirs.append(self.teacher_states(some).cpu())
        return nearness(torch.cat(ours), torch.cat(theirs))


class TeacherStates:
    """The teacher's states at the matched places of all texts, computed once, kept on disk.

    Half precision, memory-mapped: 2 D bytes a place, of which only those that were asked for
    are ever written. A process that is cut off finds what it had computed.
    """

    def __init__(self, folder: Path, texts: Sequence[Aligned], student: Student) -> None:
        """Take the texts whose states will be asked for, and who computes them."""
        self._texts, self._student = texts, student
        ends = list(accumulate(len(text.old_places) for text in texts))
        self._span = [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        folder.mkdir(parents=True, exist_ok=True)
        width = student.reading.new.shape[1]
        self._states = _mapped(folder / "states.f16", np.float16, (ends[-1], width))
        self._known = _mapped(folder / "known.u8", np.uint8, (len(texts),))

    def of(self, indices: Sequence[int]) -> Tensor:
        """Return the states (W, D) of some texts, in fp32; those not yet known are computed.

        Raises DataError if a state does not fit half precision.
        """
        missing = [i for i in indices if not self._known[i]]
        if missing:
            found = self._student.teacher_states([self._texts[i] for i in missing])
            half = found.to(torch.float16).cpu().numpy()
            if not np.isfinite(half).all():
                raise DataError(
                    "distil: a state of the teacher is no number or too large for half precision; "
                    "the base model is broken, or does not fit this stage"
                )
            start = 0
            for i in missing:
                count = len(self._texts[i].old_places)
                self._states[self._span[i]] = half[start : start + count]
                self._known[i] = 1  # after its states: it may be cut off in between
                start += count
        rows = np.concatenate([self._states[self._span[i]] for i in indices])
        return torch.from_numpy(rows.astype(np.float32)).to(self._student.model.device)

    def followed(self, count: int) -> Followed:
        """Return known states with the new token after each, fp32, on the CPU.

        Of the first texts that are known, until there are `count` of them; there may be none.
        """
        states: list[Any] = [np.zeros((0, self._states.shape[1]), np.float32)]
        tokens: list[int] = []
        for i in np.flatnonzero(self._known).tolist():
            if len(tokens) >= count:
                break
            text = self._texts[i]
            inside = [k for k, place in enumerate(text.new_places) if place + 1 < len(text.new)]
            states.append(self._states[self._span[i]][inside].astype(np.float32))
            tokens += [text.new[text.new_places[k] + 1] for k in inside]
        return Followed(
            states=torch.from_numpy(np.concatenate(states)),
            following=torch.tensor(tokens, dtype=torch.long),
        )


def _mapped(path: Path, dtype: Any, shape: tuple[int, ...]) -> Any:
    """Return an array on disk, all zero where it is new or was of another shape."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    fresh = not path.is_file() or path.stat().st_size != size
    if fresh:  # all of it now: a disk that is full later would end the process without a word
        with path.open("wb") as file:
            for start in range(0, size, _BLOCK):
                file.write(bytes(min(_BLOCK, size - start)))
    return np.memmap(path, dtype=dtype, mode="r+", shape=shape)


def aligned(text: str, old: Any, new: Any, mode: Mode) -> Aligned:
    """Return a text in both tokenizers with the places where their states must agree.

    A place is where a word (`word`), the text (`sentence`) or a new piece (`piece`) ends; both
    tokenizers have a token that ends there, since new pieces are made of old ones.
    """
    sides = []
    for tokenizer in (old, new):
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        # Several byte tokens may end at one character; the last of them has read it whole.
        place_of = {end: place for place, (_, end) in enumerate(found["offset_mapping"], start=1)}
        sides.append(([prefix_id(old), *found["input_ids"]], place_of))
    (old_ids, old_place), (new_ids, new_place) = sides
    ends = sorted(old_place.keys() & new_place.keys())
    if mode != "piece":
        words = [match.end() for match in _WORD.finditer(text)]
        wanted = words if mode == "word" else words[-1:]
        ends = [end for end in wanted if end in old_place and end in new_place]
    return Aligned(
        old=old_ids,
        new=new_ids,
        old_places=[old_place[end] for end in ends],
        new_places=[new_place[end] for end in ends],
    )
