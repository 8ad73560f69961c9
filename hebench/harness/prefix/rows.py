"""Answers in the making, side by side: what several share is kept once, the rest in a row each.

A new token attends to the blocks of its prompt that other rows see too, each read once for all of
them, and to the row's own slots. What the parts say is put together by their weights in the common
softmax (Juravsky et al. 2024, https://arxiv.org/abs/2402.05099). So a row costs its own tokens and
not those of strangers, and a hundred questions hold their few shots once.

Letters of shapes: N tokens of a pass, R rows of a group, T the most tokens that one of them has in
the pass, L slots of the longest of them, S slots of a block, K heads of keys, G heads of queries to
each, D their width.
"""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from hebench.harness.prefix.branches import Branches, added, begin, disagreement, weighed
from hebench.harness.prefix.tree import Ints

_PROBE, _PROBED = 12, 3  # tokens of a block and of each of two rows to try a model; read as rows
# Where attention of our own, a dozen calls, costs more than it computes: one call where it can be.
_FUSED = ("cuda",)
# And where a call says what a part weighs at no other price.
_WEIGHED = ("cpu",)
# What a call of attention takes beside its multiplications, in these: a tenth of a millisecond. No
# other device attends to rows in groups.
_GROUP_COST = {"cpu": 3e6}
Part = tuple[int, int]  # first and last place in a prompt, the latter exclusive


@dataclass(kw_only=True)
class _Block:
    """What several prompts have in common, while a row reads it."""

    states: list[tuple[Any, Any]]  # of each layer, keys and values (K, S, D)
    start: int  # place of its first token
    users: int = 0  # rows

    def __len__(self) -> int:
        return int(self.states[0][0].shape[1])


@dataclass(frozen=True, kw_only=True)
class _Row:
    blocks: tuple[int, ...]  # their last nodes, first to last
    start: int  # place of the first token that is in a slot of its own


@dataclass(frozen=True, kw_only=True)
class _Shared:
    """What tokens of a pass see of a block."""

    level: int  # how many blocks stand before it
    block: _Block
    tokens: Any  # (tokens,) which they are
    masks: dict[int | None, Any]  # by window, (G * tokens, S) to be added, or None: they see all


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Rows next to each other whose own slots are attended to in one call."""

    rows: slice  # of those of the pass
    slots: int  # L
    padded: Any  # (R, T) tokens of each row; where it has fewer, its last one again
    masks: dict[int | None, Any]  # by window, (R, 1, G * T, L) to be added


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """Where the tokens of a pass stand."""

    groups: list[_Group]
    back: Any  # (N,) of each token, its place in the groups' padded forms, one behind the other
    shared: list[_Shared]
    fused: bool  # one call of attention does for all that the tokens see


class Rows:
    """The slots of answers that are being written, and the reading of further tokens into them."""

    def __init__(self, branches: Branches, most: int = 0) -> None:
        """Take the reader of the prompts, whose model reads the answers, too.

        most: slots of all rows together that will hardly be exceeded. On a processor they are
        taken at once, since memory costs nothing there before it is written to.
        """
        self._branches = branches
        self._most = most
        self._rows: list[_Row] = []
        self._blocks: dict[int, _Block] = {}
        self._cache = DynamicCache()
        self._cache.layers = [_Own(*states) for states in branches.empty]
        self._now: _Pass | None = None
        self._room = 0, 0  # rows and slots of each
        self.lengths = np.zeros(0, dtype=np.int64)  # slots of its own that each row uses

    def reserve(self, rows: int, slots: int) -> None:
        """Take room for so many rows of so many slots, or for more where more are in use."""
        used = len(self._rows), int(self.lengths.max(initial=0))
        room = max(rows, used[0]), max(slots, used[1])
        # For want of memory some layers may keep the room that they had.
        self._room = min(room[0], self._room[0]), min(room[1], self._room[1])
        for layer in self._cache.layers:
            layer.reserve(*room, used, self._most)
        self._room = room

    def add(self, path: Ints, parts: Sequence[Part]) -> None:
        """Keep as a further row what the reader of prompts has read of the nodes `path`.

        parts: the places of the path that make a block each; what follows is the row's own. Where
        memory lacks, nothing of it is kept.
        """
        nodes = tuple(int(path[stop - 1]) for _, stop in parts)
        blocks = {
            node: _Block(states=self._branches.states(path[start:stop]), start=start)
            for node, (start, stop) in zip(nodes, parts, strict=True)
            if node not in self._blocks
        }
        start = parts[-1][1] if parts else 0
        row, used = len(self._rows), len(path) - start
        if row >= self._room[0] or used >= self._room[1]:
            self.reserve(row + 1, max(used + 1, self._room[1]))
        states = self._branches.states(path[start:])
        for layer, (keys, values) in zip(self._cache.layers, states, strict=True):
            layer.keys[row, :, :used], layer.values[row, :, :used] = keys, values
        self._blocks |= blocks
        for node in nodes:
            self._blocks[node].users += 1
        self._rows.append(_Row(blocks=nodes, start=start))
        self.lengths = np.append(self.lengths, used)

    def drop(self, row: int) -> None:
        """Forget a row; the last one takes its place."""
        for node in self._rows[row].blocks:
            self._blocks[node].users -= 1
            if not self._blocks[node].users:
                del self._blocks[node]
        last = self._rows.pop()
        used = int(self.lengths[-1])
        if row < len(self._rows):
            self._rows[row], self.lengths[row] = last, used
            for layer in self._cache.layers:
                layer.move(len(self._rows), row, used)
        self.lengths = self.lengths[:-1]

    def keep(self, first: int, counts: Sequence[int]) -> None:
        """Keep the first tokens of the pass before, `counts` of the rows from `first` on."""
        self.lengths[first : first + len(counts)] += counts
        self._branches.tokens_needed += sum(counts)

    def read(self, first: int, pieces: Sequence[Sequence[int]]) -> Any:
        """Return the logits behind further tokens of the rows from `first` on, (N, vocabulary).

        The next pass writes over the tokens, except for those that `keep` is told to keep.
        """
        rows = self._rows[first : first + len(pieces)]
        used = self.lengths[first : first + len(pieces)]
        counts = np.array([len(piece) for piece in pieces])
        own = np.repeat(np.arange(len(rows)), counts)  # row of each token
        steps = np.arange(len(own)) - np.repeat(np.cumsum(counts) - counts, counts)
        slots = used[own] + steps
        places = np.array([row.start for row in rows])[own] + slots
        longest = int((used + counts).max())
        shared = self._shared(rows, own, places)
        fused = not shared and self._branches.device.type in _FUSED
        groups = self._groups(used, counts, fused=fused)
        widths = np.repeat(
            [group.padded.shape[1] for group in groups], [len(group.padded) for group in groups]
        )
        self._now = _Pass(
            groups=groups,
            back=self._put((np.cumsum(widths) - widths)[own] + steps),
            shared=shared,
            fused=fused,
        )
        written = self._put(own + first), self._put(slots)
        if longest > self._room[1]:
            # Of rows that have left only the room that the others need is kept.
            room, fits = longest + longest // 8, self._most // len(self._rows)
            self.reserve(len(self._rows), min(room, fits) if longest <= fits else room)
        for layer in self._cache.layers:
            layer.written, layer.seen = written, (slice(first, first + len(rows)), longest)
        return self._branches.forward(
            np.concatenate([np.asarray(piece, dtype=np.int64) for piece in pieces]),
            places,
            groups[0].masks,  # for one that it is given the model makes none; attention takes each
            self._cache,
            np.arange(len(own)),
            self._attention,
        )

    def _put(self, values: NDArray[Any]) -> Any:
        return torch.from_numpy(values).to(self._branches.device)

    def _groups(self, used: Ints, counts: Ints, *, fused: bool) -> list[_Group]:
        """Return the rows of a pass in groups; they have `used` slots and read `counts` tokens."""
        keys, values = self._branches.empty[0]
        pair = len(keys) * self._branches.groups * (keys.shape[-1] + values.shape[-1])
        call = math.inf if fused else _GROUP_COST.get(self._branches.device.type, math.inf) / pair
        firsts = np.cumsum(counts) - counts
        found = []
        for start, stop in grouped(counts.tolist(), (used + counts).tolist(), call):
            rows = slice(start, stop)
            columns = np.arange(counts[rows].max())
            columns = np.minimum(columns, counts[rows, None] - 1)
            longest = int((used + counts)[rows].max())
            masks = self._masks(used[rows, None] + columns, longest, fused=fused)
            padded = self._put(firsts[rows, None] + columns)
            found.append(_Group(rows=rows, slots=longest, padded=padded, masks=masks))
        return found

    def _masks(self, slots: Ints, longest: int, *, fused: bool) -> dict[int | None, Any]:
        """Return what tokens in `slots` (R, T) see of their rows, by window, (R, 1, G * T, L).

        fused: in the type that the model computes in.
        """
        slots = np.tile(slots, (1, self._branches.groups))
        behind = self._put(slots)[..., None] - self._put(np.arange(longest))
        dtype = self._branches.dtype if fused else torch.float32
        masks: dict[int | None, Any] = {}
        for window in set(self._branches.windows):
            near = behind >= 0 if window is None else (behind >= 0) & (behind < window)
            masks[window] = added(near, dtype)[:, None]
        return masks

    def _shared(self, rows: Sequence[_Row], own: Ints, places: Ints) -> list[_Shared]:
        """Return what the tokens of a pass, `own` their rows, see of the blocks."""
        users: dict[tuple[int, int], list[int]] = {}
        for number, row in enumerate(rows):
            for level, node in enumerate(row.blocks):
                users.setdefault((level, node), []).append(number)
        found = []
        for (level, node), numbers in users.items():
            block = self._blocks[node]
            tokens = np.flatnonzero(np.isin(own, numbers))
            masks: dict[int | None, Any] = {}
            for window in set(self._branches.windows):
                masks[window] = None
                if window is not None and places[tokens].max() - block.start >= window:
                    held = np.arange(block.start, block.start + len(block))
                    seen = self._put(places[tokens, None] - held < window)
                    masks[window] = added(seen, torch.float32).repeat(self._branches.groups, 1)
            found.append(_Shared(level=level, block=block, tokens=self._put(tokens), masks=masks))
        return found

    def _attention(  # noqa: PLR0913, PLR0917 (transformers' own order)
        self,
        module: Any,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any,
        dropout: float = 0.0,
        scaling: float | None = None,
        **_: Any,
    ) -> tuple[Any, None]:
        """Return the attention of the tokens `query` (1, K * G, N, D) to blocks and own slots."""
        now = self._now
        assert now is not None, "attention outside of a pass"
        if now.fused:
            return self._fused(now, query[0], key, value, attention_mask, scaling), None
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        weighs = query.device.type in _WEIGHED and self._branches.weighs
        asked = query[0].float().unflatten(0, (key.shape[1], -1))
        window = self._branches.windows[module.layer_idx]
        own = [
            _part(
                asked[:, :, group.padded].permute(2, 0, 1, 3, 4),
                key[group.rows, :, : group.slots],
                value[group.rows, :, : group.slots],
                *(group.masks[window], scale, weighs),
            )
            for group in now.groups
        ]
        found, weight = (
            torch.cat([side.permute(1, 2, 0, 3, 4).flatten(2, 3) for side in sides], dim=2)
            for sides in zip(*own, strict=True)
        )
        found = found[:, :, now.back]
        if now.shared:
            weight = weight[:, :, now.back]
            levels = 2 + max(one.level for one in now.shared)
            parts = found.new_zeros((levels, *found.shape))
            weights = weight.new_full((levels, *weight.shape), torch.finfo(weight.dtype).min)
            parts[-1], weights[-1] = found, weight
            for one in now.shared:
                keys, values = one.block.states[module.layer_idx]
                part = _part(
                    asked[None, :, :, one.tokens],
                    *(keys[None], values[None], one.masks[window], scale, weighs),
                )
                for whole, its in zip((parts, weights), part, strict=True):
                    whole[one.level][:, :, one.tokens] = its[0]
            found = (parts * weights.softmax(dim=0)).sum(dim=0)
        return found.flatten(0, 1).transpose(0, 1)[None].to(query.dtype).contiguous(), None

    @staticmethod
    def _fused(  # noqa: PLR0913, PLR0917
        now: _Pass, query: Any, keys: Any, values: Any, mask: Any, scaling: float | None
    ) -> Any:
        """Return the attention of the tokens `query` (K * G, N, D) to the slots of their rows."""
        own = query.unflatten(0, (keys.shape[1], -1))[:, :, now.groups[0].padded]  # K, G, R, T, D
        groups, steps = own.shape[1], own.shape[3]
        found = torch.nn.functional.scaled_dot_product_attention(
            own.permute(2, 0, 1, 3, 4).flatten(2, 3), keys, values, attn_mask=mask, scale=scaling
        )
        found = found.unflatten(2, (groups, steps)).permute(1, 2, 0, 3, 4).flatten(2, 3)
        return found[:, :, now.back].flatten(0, 1).transpose(0, 1)[None].contiguous()


def grouped(counts: Sequence[int], slots: Sequence[int], call: float) -> list[tuple[int, int]]:
    """Return the groups of rows next to each other, (first, behind the last), that take least.

    counts: tokens of each row; slots: that it attends to. In a group all are padded to the most of
    both; call: what a group takes beside that, in tokens times slots.
    """
    if call == math.inf:
        return [(0, len(counts))]
    least, begins = [0.0], [0]
    for stop in range(1, len(counts) + 1):
        tokens = longest = 0
        best = math.inf
        for start in reversed(range(stop)):
            tokens, longest = max(tokens, counts[start]), max(longest, slots[start])
            taken = (stop - start) * tokens * longest + call
            if taken >= best:  # further rows only add to it
                break
            if least[start] + taken < best:
                best, begin = least[start] + taken, start
        least.append(best)
        begins.append(begin)
    found: list[tuple[int, int]] = []
    stop = len(counts)
    while stop:
        found.append((begins[stop], stop))
        stop = begins[stop]
    return found[::-1]


def can_write(branches: Branches) -> bool:
    """Return whether two rows that share a block are read as the reader of prompts reads them."""
    if not branches.folded:  # attention of its own kind cannot be put together from parts
        return False
    needed = branches.tokens_needed
    failed = disagreement(lambda: _agree(branches))
    branches.clear()
    branches.tokens_needed = needed
    return failed is None


def _agree(branches: Branches) -> bool:
    tokens = np.arange(3 * _PROBE) * 7919 % branches.vocabulary
    nodes, ends = np.arange(3 * _PROBE), np.full(3 * _PROBE, 3 * _PROBE)
    ends[_PROBE : 2 * _PROBE] = 2 * _PROBE
    places = np.concatenate([np.arange(2 * _PROBE), np.arange(_PROBE, 2 * _PROBE)])
    paths = nodes[: 2 * _PROBE], np.concatenate([nodes[:_PROBE], nodes[2 * _PROBE :]])
    late = np.concatenate([path[-_PROBED:] for path in paths])
    branches.clear()
    expected = branches.read(tokens, places, nodes, ends, late)
    pieces = [tokens[path[-_PROBED:]].tolist() for path in paths]
    for parts in ([(0, _PROBE)], []):
        rows = Rows(branches)
        for path in paths:
            rows.add(path[:-_PROBED], parts)
        if not branches.alike(rows.read(0, pieces), expected):
            return False
    return True


class _Own(DynamicLayer):  # type: ignore[misc]
    """The keys and values of one layer, (rows, K, slots, D), in room that is taken ahead."""

    keys: Any
    values: Any

    def __init__(self, keys: Any, values: Any) -> None:
        """Take what is held of no token, (K, 0, D)."""
        super().__init__()
        begin(self, keys[None][:0], values[None][:0])
        self.written: tuple[Any, Any]  # row and slot of each new token
        self.seen: tuple[slice, int]  # the rows of the pass, and L

    def reserve(self, rows: int, slots: int, used: tuple[int, int], most: int) -> None:
        """Take room for so many rows of so many slots; `used` are the first ones of both.

        most: see `Rows`.
        """
        self.keys = _moved(self.keys, rows, slots, used, most)
        self.values = _moved(self.values, rows, slots, used, most)

    def move(self, source: int, target: int, used: int) -> None:
        """Copy a row to the place of another."""
        for states in (self.keys, self.values):
            states[target, :, :used] = states[source, :, :used]

    def update(self, keys: Any, values: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Write the new tokens, (1, K, N, D), into their rows; return those of the pass."""
        rows, slots = self.written
        self.keys[rows, :, slots] = keys[0].transpose(0, 1)
        self.values[rows, :, slots] = values[0].transpose(0, 1)
        own, longest = self.seen
        return self.keys[own, :, :longest], self.values[own, :, :longest]

    def get_seq_length(self) -> int:
        """Return how many slots the pass has."""
        return self.seen[1]


def _moved(states: Any, rows: int, slots: int, used: tuple[int, int], most: int) -> Any:
    """Return room for rows of slots that holds the first ones of `states`: the same if it can.

    New blocks of ever another size would leave gaps of their sizes in a processor's memory.
    """
    shape = rows, states.shape[1], slots, states.shape[3]
    strides = math.prod(shape[1:]), slots * shape[3], shape[3], 1
    if math.prod(shape) * states.element_size() > states.untyped_storage().nbytes():
        found = _zeros(states, math.prod(shape), most * shape[1] * shape[3]).as_strided(
            shape, strides
        )
        found[: used[0], :, : used[1]] = states[: used[0], :, : used[1]]
        return found
    found = states.as_strided(shape, strides)
    if states.stride() != strides:
        # None is written over that is still to be moved: the last ones first where rows get longer.
        order = range(used[0])
        for row in reversed(order) if slots > states.shape[2] else order:
            found[row, :, : used[1]] = states[row, :, : used[1]].clone()
    return found


def _zeros(like: Any, size: int, most: int) -> Any:
    """Return at least `size` zeros: a mask hides what a row does not use, but hides no NaN."""
    if like.device.type == "cpu" and most > size:
        # Unlike PyTorch's, which are written, NumPy's take up no memory before they are written to.
        with contextlib.suppress(MemoryError):  # unless the system promises no more than it has
            room = np.zeros(most * like.element_size(), dtype=np.uint8)
            return torch.from_numpy(room).view(like.dtype)
    return like.new_zeros(size)


def _part(  # noqa: PLR0913, PLR0917 (those of attention)
    query: Any, keys: Any, values: Any, mask: Any, scale: float, weighs: bool
) -> tuple[Any, Any]:
    """Return attention to a part of the slots, and the logarithm of its weight in the whole.

    query (B, K, G, T, D) in float32, keys and values (B, K, L, D), mask (B or none, none or 1,
    G * T, L) to be added or None. weighs: one call that holds no scores does it. All is summed in
    float32, as fused attention does where the states are in half precision.
    """
    asked = query.flatten(2, 3)
    if weighs:
        found, weight = weighed(asked, keys.float(), values.float(), mask, scale)
        weight = weight[..., None]
    else:
        scores = (asked * scale) @ keys.transpose(-1, -2).float()
        if mask is not None:
            scores += mask
        most = scores.amax(dim=-1, keepdim=True)
        # What is hidden weighs e**-64, no part of a float32 sum: exp is slow where it underflows.
        scores = scores.sub_(most).clamp_(min=-64).exp_()
        total = scores.sum(dim=-1, keepdim=True)
        found = scores @ values.float() / total
        weight = most + total.log()
    return found.unflatten(2, query.shape[2:4]), weight.unflatten(2, query.shape[2:4])
