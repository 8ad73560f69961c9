"""The new pieces' rows of the head, from what the model could write before.

With its old tokenizer the model writes a new piece t, which is p1 p2 ... in old pieces, one after
the other:

    log P(t | text) = log P(p1 | text) + log P(p2 ... | text, p1)

The first term is the old row of p1 times the final hidden state h. The second needs another pass
through the model, so its mean stands for it: c_t = log of how often, where a piece of the language
begins with p1, that piece is t. The head has no bias; but there is a direction u with u.h = 1 for
nearly every state h, and along it the constant is written into the row:

    row of t = row of p1 + (c_t + LIFT) u

Where another language is written p1 is improbable, so the new pieces are too: English bits per
byte stay what they were, while a bias alone costs half a bit there.

That is the start (`teacher_rows`). What h says of p2 is then learned from states that are computed
once and the piece that follows each (`fitted_rows`), with no step through the body and with the
old rows as they are. What all pieces have in common, a linear map M of the mean of their old rows,
is learned from every state; what is a piece's own, r_t, from those that it follows:

    row of t = row of p1 + (c_t + LIFT + b_t) u + M (mean of rows of p1, p2 ...) + r_t

    >>> rows = teacher_rows(head, pieces, counts, direction)  # 2.79 -> 2.32 bits per byte, Hebrew
    >>> rows = fitted_rows(head, pieces, counts, examples, seed=0)          # -> 2.10

After calibration has moved the input table, whole heads are fitted the same way (`refitted_rows`),
each row beginning as it is: a body that does not change makes of it a convex problem, and states
without a gradient cost a third, so that several times the text is heard in the same time.

Letters: V old rows (of a whole head: all), N new rows, D hidden size, S states, F rows of a head
that are fitted.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from hebench.train.allocator import FreedMemory
from hebench.train.embeddings import initial_rows
from hebench.train.frozen import final_states
from hebench.train.passages import batches, drawn, prefix_id
from hebench.train.student import Aligned, Followed

# The row of p1 stays, and would take a share of its own where a new piece follows nine times in
# ten; e squared leaves it an eighth. From 1 to 3 it makes little difference (0.04 bits per byte).
LIFT = 2.0
# States to which the head's new rows are fitted, about: the teacher's, the student's own in the
# language's text, and in text in other languages.
TEACHER_STATES, _STUDENT_STATES, _OTHER_STATES = 16384, 8192, 1024
_SMOOTHING = 0.5  # added to each count
_RIDGE = 1e-3  # of the mean squared state of a dimension
_EPOCHS, _BATCH = 3, 256  # states
_BETAS = (0.9, 0.98)
# Peak rates, as how far one step of Adam could move a logit, in nats: models' scales differ.
_CONSTANT_STEP, _MAP_STEP, _OWN_STEP = 0.02, 6.5, 0.5
_REFIT_EPOCHS, _REFIT_STEP = 4, 1.0  # of whole heads, whose states are many times as many
_LAST_RATE = 0.02  # of the peak; a half cosine leads there
_CHUNK = 512  # states of which all V old logits are there at a time


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What the head's new rows are fitted to."""

    texts: Sequence[Aligned]  # training text; all of it is counted, some is read
    others: list[list[int]]  # new token ids of passages in other languages
    teacher: Followed  # the teacher's states, which may be none
    seed: int


def teacher_rows(
    table: Tensor, pieces: Sequence[Sequence[int]], counts: Tensor, direction: Tensor
) -> Tensor:
    """Return first values (N, D) for new rows of a head's table (V, D), in float32.

    pieces: the old pieces of each new one. counts: (V + N,), how often each piece occurs in the
    language's text. direction: u (D,), from `constant_direction`.
    """
    table = table.detach().to(torch.float32)
    first = torch.tensor([old[0] for old in pieces], device=table.device)
    constants = log_shares(first, counts.to(table.device)) + LIFT
    return table[first] + constants[:, None] * direction.to(table)


def fitted_rows(
    table: Tensor,
    pieces: Sequence[Sequence[int]],
    counts: Tensor,
    examples: Followed,
    seed: int,
) -> Tensor:
    """Return new rows (N, D) of a head's table (V, D), learned from states, in float32.

    pieces, counts: as in `teacher_rows`. examples: of the language's text, and a few of other
    text, by which the new pieces stay improbable there. Equal arguments give equal rows.
    """
    table = table.detach().to(torch.float32)
    states = examples.states.detach().to(table)
    # All old pieces are one class, the first: which of them it is the old rows alone decide.
    classes = (examples.following.to(table.device) - len(table) + 1).clamp(min=0)
    old = _together(table, states, None)
    direction, means = constant_direction(states), initial_rows(table, pieces)
    start = teacher_rows(table, pieces, counts, direction)
    constants, shared, own = (
        torch.zeros(shape, device=table.device, requires_grad=True)
        for shape in ((len(pieces), 1), (len(direction), len(direction)), start.shape)
    )

    def rows() -> Tensor:
        return start + constants * direction + means @ shared + own

    def loss(part: Tensor) -> Tensor:
        logits = torch.cat([old[part, None], states[part] @ rows().T], 1)
        return functional.cross_entropy(logits, classes[part])

    size, width = (float(each.abs().sum(1).mean()) for each in (states, means))
    rates = (_CONSTANT_STEP, _MAP_STEP / (size * width), _OWN_STEP / size)
    optimiser = _adam(zip((constants, shared, own), rates, strict=True))
    _descend(optimiser, loss, len(states), seed, _EPOCHS)
    return rows().detach()


def refitted_rows(
    table: Tensor, which: Tensor, examples: Followed, *, seed: int, softcap: float | None
) -> Tensor:
    """Return rows `which` (F,) of a whole head's table (V, D), learned from states, in float32.

        row of t = row of t + M (row of t) + r_t

    examples: states in any precision, and what follows each. All other rows stay, and are one
    class. softcap: of the model's logits, if it has one. Equal arguments give equal rows.
    """
    table = table.detach().to(torch.float32)
    following, states = examples.following.to(table.device), examples.states
    which = which.to(table.device)
    start = table[which]
    others = torch.ones(len(table), dtype=torch.bool, device=table.device)
    others[which] = False
    classes = torch.zeros(len(table), dtype=torch.long, device=table.device)
    classes[which] = torch.arange(1, len(which) + 1, device=table.device)
    classes, rest = classes[following], _together(table[others], states, softcap)
    shared, own = (
        torch.zeros(shape, device=table.device, requires_grad=True)
        for shape in ((table.shape[1], table.shape[1]), start.shape)
    )

    def loss(part: Tensor) -> Tensor:
        some = states[part].to(table)
        logits = capped((some + some @ shared.T) @ start.T + some @ own.T, softcap)
        return functional.cross_entropy(torch.cat([rest[part, None], logits], 1), classes[part])

    size = float(states[:_CHUNK].float().abs().sum(1).mean())
    width = float(start.abs().sum(1).mean())
    optimiser = _adam([(shared, _MAP_STEP / (size * width)), (own, _REFIT_STEP / size)])
    _descend(optimiser, loss, len(states), seed, _REFIT_EPOCHS)
    return (start + start @ shared + own).detach()


def _together(table: Tensor, states: Tensor, softcap: float | None) -> Tensor:
    """Return the logit (S,) of all rows together: log of the sum of their exponentials."""
    found = torch.empty(len(states), dtype=table.dtype, device=table.device)
    memory = FreedMemory(kept=not torch.cuda.is_available())
    with memory:
        for start in tqdm(range(0, len(states), _CHUNK), desc="other logits", disable=None):
            part = slice(start, start + _CHUNK)
            found[part] = capped(states[part].to(table) @ table.T, softcap).logsumexp(1)
            memory.step_over()
    return found


def capped(logits: Tensor, softcap: float | None) -> Tensor:
    """Return logits squashed to within `softcap` of 0, or as they are without one."""
    return softcap * torch.tanh(logits / softcap) if softcap else logits


def _adam(rates: Iterable[tuple[Tensor, float]]) -> torch.optim.Optimizer:
    groups = [{"params": [part], "lr": rate} for part, rate in rates]
    return torch.optim.Adam(groups, betas=_BETAS)


def _descend(
    optimiser: torch.optim.Optimizer,
    loss: Callable[[Tensor], Tensor],
    count: int,
    seed: int,
    epochs: int,
) -> None:
    """Lower the loss of batches of `count` examples, given by index, for a few epochs."""
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(count, generator=generator) for _ in range(epochs)]
    parts = [part for order in orders for part in order.split(_BATCH)]

    def share(step: int) -> float:
        return _LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(math.pi * step / len(parts))) / 2

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, share)
    memory = FreedMemory(kept=not torch.cuda.is_available())
    with torch.enable_grad(), memory:
        for part in tqdm(parts, desc="head rows", disable=None):
            optimiser.zero_grad()
            loss(part).backward()
            optimiser.step()
            schedule.step()
            memory.step_over()


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


def plain_logits(network: Any, ids: Tensor) -> Tensor:
    """Return the logits (time, V) of ids (1, time) as this file takes them to be: states x rows."""
    states = final_states(network, ids.tolist(), [range(ids.shape[1])])
    return states @ network.get_output_embeddings().weight.float().T


def followed(network: Any, heard: Heard) -> Followed:
    """Return the states that the head is fitted to: the teacher's, and the student's own."""
    rows = _first([text.new for text in heard.texts], _STUDENT_STATES) + heard.others
    states, following = [heard.teacher.states.to(network.device)], [heard.teacher.following]
    some = batches([len(row) for row in rows], 1024)
    for batch in tqdm(some, desc="states for the head", disable=None):
        read = [rows[i] for i in batch]
        states.append(final_states(network, read, [range(len(row) - 1) for row in read]))
        following.append(torch.tensor([token for row in read for token in row[1:]]))
    return Followed(states=torch.cat(states), following=torch.cat(following))


def _first(rows: Sequence[list[int]], tokens: int) -> list[list[int]]:
    """Return the first rows of token ids, until they have `tokens` in all."""
    ends = accumulate(map(len, rows), initial=0)
    return [row for row, before in zip(rows, ends, strict=False) if before < tokens]


def other_texts(folders: Sequence[Path], new: Any, *, words: int, seed: int) -> list[list[int]]:
    """Return new token ids of a little text of each folder, in passages of so many words."""
    rows: list[list[int]] = []
    for folder in folders:
        share = _OTHER_STATES // len(folders)
        passages = drawn(
            folder,
            words=words,
            count=-(-share // words),  # a word has one token at least
            seed=seed,
        )
        texts = [passage.text for passage in passages]
        ids = new(texts, add_special_tokens=False)["input_ids"]
        rows += _first([[prefix_id(new), *row] for row in ids], share)
    return rows
