"""A causal model that reads the nodes of a token tree in one row, with a mask for the branches.

What was read stays as keys and values in one row of slots, as long as somebody needs it. Each
slot has a label and an end, each new token a label, and one rule says who sees whom: a token
with label `x` sees the slots with `label <= x < end`. With the preorder of a tree for labels
these are the token's ancestors, so that any number of branches share one row without padding
and without a copy of what they share.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AttentionInterface, DynamicCache, cache_utils
from transformers.cache_utils import DynamicLayer

from hebench.errors import one_line
from hebench.harness.prefix.budget import is_lack_of_memory
from hebench.harness.prefix.tree import Ints

_ATTENTION = "hebench_branches"
_NEEDED = ("attention_mask", "position_ids", "past_key_values", "logits_to_keep")
_PROBE = 12  # tokens of each of the two branches that are read to try a model
# Tokens whose attention is one call: slots that none of them sees are not masked but left out. On
# an accelerator all are, unless fewer save more than their calls take.
_CALL_TOKENS = {"cpu": (64,), "cuda": (256, 512, 1024, 2048, 4096)}
# What a call takes there, in multiplications, by bytes of a number: a tenth of a millisecond.
_CALL_COST = {2: 6e9, 4: 1e9}
# Slots that all tokens of a pass see, a few shots say, have a call of their own, without a mask and
# for all tokens together, from this many on.
_COMMON_SLOTS = 128
# What it takes for that, since it says how much a call's slots weigh among all. It is not public:
# where a version of PyTorch has none, nothing is common.
_WEIGHING: dict[str, Any] = {
    "cpu": getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None),
    "cuda": getattr(torch.ops.aten, "_scaled_dot_product_efficient_attention", None),
}
_ALIGNED = 16  # numbers of a mask's row by which the latter takes its beginnings
# Since transformers 4.56, with which a cache says what each layer keeps; Gaudi's has 4.55.
_SLIDING = getattr(cache_utils, "DynamicSlidingWindowLayer", None)


@dataclass(frozen=True, kw_only=True)
class _Calls:
    """How the attention of a pass is shared out among calls."""

    common: int  # first slots, which all tokens see
    parts: list[tuple[slice, slice]]  # queries, heads folded in, and which of the slots behind


class Branches:
    """The slots of one model, and the reading of further tokens into them."""

    def __init__(
        self, model: Any, window: dict[str, int | None], windows: list[int | None]
    ) -> None:
        """Take a model and the attention windows, by kind and of each layer; see `branched`."""
        self._model = model
        self._window = window
        self.windows = windows
        self.folded = model.config._attn_implementation == "sdpa"
        config = model.config.get_text_config()
        heads = config.num_attention_heads
        shared = getattr(config, "num_key_value_heads", None) or heads
        self.groups = heads // shared if self.folded else 1
        self.tokens_needed = 0  # read since the model was loaded, without wrong guesses
        self.empty: list[tuple[Any, Any]] = []  # keys and values of no token, of each layer
        self.vocabulary = int(config.vocab_size)
        self.clear()

    def __len__(self) -> int:
        """Return how many slots are in use."""
        return len(self._labels)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        found: torch.device = self._model.device
        return found

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        found: torch.dtype = self._model.dtype
        return found

    def clear(self) -> None:
        """Forget everything that was read."""
        self._cache = DynamicCache()
        self._cache.layer_class_to_replicate = _Slots
        self._labels = self._ends = self._places = np.zeros(0, dtype=np.int64)

    def read(self, tokens: Ints, places: Ints, labels: Ints, ends: Ints, scored: Ints) -> Any:
        """Return the logits behind some of the new tokens, (scored, vocabulary).

        tokens, places (in their own sequences), labels and ends are (new,); a token's ancestors
        are in slots already or stand before it. scored: places in `tokens` whose logits are read.
        Labels rise from call to call, unless a pass is tried again, for want of memory during it
        or behind it: what it left is forgotten first.
        """
        self._rewind(int(labels[0]))
        self._labels = np.concatenate([self._labels, labels])
        self._ends = np.concatenate([self._ends, ends])
        self._places = np.concatenate([self._places, places])
        self.tokens_needed += len(tokens)
        masks = self._masks(labels, places)
        attention = None
        if self.folded:
            calls = {window: self._calls(labels, places, window) for window in masks}
            attention = partial(_folded_attention, [calls[window] for window in self.windows])
        return self.forward(tokens, places, masks, self._cache, scored, attention)

    def forward(  # noqa: PLR0913, PLR0917
        self,
        tokens: Ints,
        places: Ints,
        masks: dict[int | None, Any],
        cache: Any,
        scored: Ints,
        attention: Callable[..., Any] | None,
    ) -> Any:
        """Return the logits behind some of the tokens of one row, (scored, vocabulary).

        masks: what attention gets, by window. attention: None for the model's own.
        """
        device = self._model.device
        by_kind = {kind: masks[window] for kind, window in self._window.items()}
        with torch.inference_mode(), self._attention(attention):
            found = self._model(
                torch.from_numpy(tokens)[None].to(device),
                attention_mask=by_kind if len(by_kind) > 1 else next(iter(by_kind.values())),
                position_ids=torch.from_numpy(places)[None].to(device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=torch.from_numpy(scored).to(device),
            )
        return found.logits[0]

    def states(self, labels: Ints) -> list[tuple[Any, Any]]:
        """Return copies of the keys and values of tokens that are held, (heads, labels, width).

        Of each layer; labels: in rising order, as those of all that was read.
        """
        slots = torch.from_numpy(np.searchsorted(self._labels, labels)).to(self.device)
        with torch.inference_mode():
            return [(x.keys[0, :, slots], x.values[0, :, slots]) for x in self._cache.layers]

    def keep(self, labels: Ints) -> None:
        """Drop the slots that tokens with these labels do not see."""
        seen = (self._labels <= labels[:, None]) & (labels[:, None] < self._ends)
        kept = np.flatnonzero(seen.any(axis=0))
        if len(kept) < len(self._labels):
            self._select(kept)

    def alike(self, ours: Any, theirs: Any) -> bool:
        """Return whether logits that were computed in two ways are the same but for rounding.

        Reduced precision moves them by a few per cent of their spread, a wrong mask by most of it.
        """
        allowed = 1e-3 if self._model.dtype == torch.float32 else 0.1
        return bool((ours - theirs).float().abs().mean() < allowed * theirs.float().std())

    def _rewind(self, label: int) -> None:
        """Forget the tokens from `label` on, of which some layers may lack some."""
        kept = np.flatnonzero(self._labels < label)
        if len(kept) < len(self._labels):
            self.tokens_needed -= len(self._labels) - len(kept)
            self._select(kept)

    def _select(self, kept: Ints) -> None:
        self._labels, self._ends = self._labels[kept], self._ends[kept]
        self._places = self._places[kept]
        with torch.inference_mode():
            for layer in self._cache.layers:
                layer.select(kept)

    def _masks(self, labels: Ints, places: Ints) -> dict[int | None, Any]:
        """Return who sees whom, by window, (1, 1, new * groups, slots).

        In the form that is added, since attention would turn a truth value into it at every layer.
        """
        device, dtype = self._model.device, self._model.dtype
        of, to = torch.from_numpy(labels).to(device)[:, None], torch.from_numpy(self._labels)
        seen = (to.to(device) <= of) & (of < torch.from_numpy(self._ends).to(device))
        masks: dict[int | None, Any] = {}
        for window in set(self._window.values()):
            near = seen
            if window is not None:
                own = torch.from_numpy(places).to(device)[:, None]
                near = seen & (own - torch.from_numpy(self._places).to(device) < window)
            mask = added(torch.nn.functional.pad(near, (0, -len(self) % _ALIGNED)), dtype)
            masks[window] = mask.repeat_interleave(self.groups, dim=0)[None, None, :, : len(self)]
        return masks

    def _calls(self, labels: Ints, places: Ints, window: int | None) -> _Calls:
        """Return the calls of attention in which the new tokens see what they see."""
        kind, new = self.device.type, len(labels)
        whole = _Calls(common=0, parts=[(slice(None), slice(None))])
        if kind not in _CALL_TOKENS or not self.empty:
            return whole
        # The new tokens' own slots stay out: something is left behind for each of them.
        seen = self._ends[:-new] > labels.max()
        if window is not None:
            seen &= places.max() - self._places[:-new] < window
        common = int(np.logical_and.accumulate(seen).sum())
        if kind == "cuda":
            common -= common % _ALIGNED
        if common < _COMMON_SLOTS or not self.weighs:
            common = 0
        found = [
            _Calls(common=common, parts=list(self._parts(labels, places, window, common, size)))
            for size in sorted({min(size, new) for size in _CALL_TOKENS[kind]})
        ]
        if kind == "cpu":
            return found[0]
        return min([whole, *found], key=lambda calls: self._cost(calls, new * self.groups))

    def _parts(
        self, labels: Ints, places: Ints, window: int | None, common: int, size: int
    ) -> Iterator[tuple[slice, slice]]:
        """Yield the queries of `size` tokens each, and the slots behind `common` that they see."""
        for start in range(0, len(labels), size):
            part = slice(start, start + size)
            low, high = labels[part].min(), labels[part].max()
            seen = (self._labels[common:] <= high) & (self._ends[common:] > low)
            if window is not None:
                seen &= places[part].min() - self._places[common:] < window
            slots = np.flatnonzero(seen) + common
            first = int(slots[0])
            if self.device.type == "cuda":
                first -= first % _ALIGNED
            stop = min(start + size, len(labels))
            yield slice(start * self.groups, stop * self.groups), slice(first, int(slots[-1]) + 1)

    def _cost(self, calls: _Calls, rows: int) -> float:
        """Return what a layer's calls take, in multiplications; rows: of queries."""
        slots = len(self)
        pairs = rows * calls.common + sum(
            len(range(rows)[queries]) * len(range(slots)[seen]) for queries, seen in calls.parts
        )
        keys, values = self.empty[0]
        each = len(keys) * (keys.shape[-1] + values.shape[-1])
        count = len(calls.parts) + bool(calls.common)
        call = _CALL_COST.get(keys.element_size(), _CALL_COST[4])
        return float(pairs * each + count * call)

    @functools.cached_property
    def weighs(self) -> bool:
        """Whether a call of attention can say how much its slots weigh among all."""
        widths = {states.shape[-1] for pair in self.empty for states in pair}
        if len(widths) > 1:
            return False
        some = self.empty[0][0].new_zeros((1, len(self.empty[0][0]), _ALIGNED, *widths))
        try:
            weighed(some, some, some, None, None)
        except (RuntimeError, TypeError, AttributeError):  # not on this card, or in this version
            return False
        return True

    @contextlib.contextmanager
    def _attention(self, attention: Callable[..., Any] | None) -> Iterator[None]:
        config = self._model.config
        before = config._attn_implementation
        if attention is not None:
            AttentionInterface.register(_ATTENTION, attention)
            config._attn_implementation = _ATTENTION
        try:
            yield
        finally:
            config._attn_implementation = before


class _Slots(DynamicLayer):  # type: ignore[misc]
    """The keys and values of one layer, (1, heads, slots, width), in room that is taken ahead."""

    keys: Any
    values: Any

    def __init__(self) -> None:
        super().__init__()
        self.used = 0

    def update(self, keys: Any, values: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Append keys and values and return all."""
        stop = self.used + keys.shape[-2]
        if not self.is_initialized:
            begin(self, keys[:, :, :0], values[:, :, :0])
        if stop > self.keys.shape[-2]:
            room = stop + stop // 4 + 64
            # Both or, for want of memory, neither.
            self.keys, self.values = (
                _roomier(states, self.used, room) for states in (self.keys, self.values)
            )
        self.keys[:, :, self.used : stop] = keys
        self.values[:, :, self.used : stop] = values
        self.used = stop
        return self.keys[:, :, :stop], self.values[:, :, :stop]

    def select(self, kept: Ints) -> None:
        """Move the slots `kept`, in rising order, to the front, and free the others."""
        self.used = len(kept)
        moved = np.flatnonzero(kept != np.arange(len(kept)))
        if self.is_initialized and len(moved):
            first = int(moved[0])
            source = torch.from_numpy(kept[first:]).to(self.keys.device)
            self.keys[:, :, first : self.used] = self.keys[:, :, source]
            self.values[:, :, first : self.used] = self.values[:, :, source]

    def get_seq_length(self) -> int:
        """Return how many slots are in use."""
        return self.used


def begin(layer: Any, keys: Any, values: Any) -> None:
    """Give a layer keys and values of no token; transformers' own way differs by version."""
    layer.dtype, layer.device, layer.is_initialized = keys.dtype, keys.device, True
    layer.keys, layer.values = keys, values


def _roomier(states: Any, used: int, room: int) -> Any:
    found = states.new_empty((*states.shape[:2], room, states.shape[-1]))
    found[:, :, :used] = states[:, :, :used]
    return found


def _folded_attention(  # noqa: PLR0913, PLR0917 (transformers' own order)
    calls: list[_Calls],
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Any, None]:
    """Return attention as transformers' sdpa does, without a copy of the keys for each group.

    The heads that share keys stand below each other as further queries; so does the mask.
    calls: of each layer.
    """
    new = query.shape[2]
    groups = query.shape[1] // key.shape[1]
    folded = query.unflatten(1, (-1, groups)).transpose(2, 3).flatten(2, 3)
    now = calls[module.layer_idx]
    parts = [
        (folded[:, :, part], key[:, :, seen], value[:, :, seen], attention_mask[:, :, part, seen])
        for part, seen in now.parts
    ]
    if now.common:
        answer = _in_two(folded, key[:, :, : now.common], value[:, :, : now.common], parts, scaling)
    else:
        attention = torch.nn.functional.scaled_dot_product_attention
        found = [attention(q, k, v, attn_mask=mask, scale=scaling) for q, k, v, mask in parts]
        answer = torch.cat(found, dim=2)
    answer = answer.unflatten(2, (new, groups))
    return answer.permute(0, 2, 1, 3, 4).flatten(2, 3).contiguous(), None


def _in_two(
    query: Any, keys: Any, values: Any, parts: list[tuple[Any, ...]], scaling: float | None
) -> Any:
    """Return the attention of all queries to common slots and, in parts, to those behind them.

    Each side is weighed by its share in the common softmax, as `rows.py` does with its blocks.
    """
    common, above = weighed(query, keys, values, None, scaling)
    found = [weighed(q, k, v, mask, scaling) for q, k, v, mask in parts]
    own, below = (torch.cat(side, dim=2) for side in zip(*found, strict=True))
    share = (above - below).sigmoid()[..., None]  # in float32 or more: so are the two
    return torch.lerp(own.to(share.dtype), common.to(share.dtype), share).to(query.dtype)


def weighed(query: Any, keys: Any, values: Any, mask: Any, scaling: float | None) -> Any:
    """Return attention and the logarithm of its scores' sum, which is what its slots weigh."""
    if query.device.type == "cpu":
        return _WEIGHING["cpu"](query, keys, values, attn_mask=mask, scale=scaling)
    if mask is not None:
        mask = mask.expand(*query.shape[:-1], keys.shape[-2])
    found = _WEIGHING["cuda"](query, keys, values, mask, True, 0.0, False, scale=scaling)
    return found[0], found[1][..., : query.shape[-2]]  # there are some more than queries


def added(seen: Any, dtype: torch.dtype) -> Any:
    """Return a mask to add to scores: 0 where `seen` is true, the least number elsewhere."""
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)


def branched(model: Any) -> Branches | str:
    """Return the model as one that reads trees, or the reason why it cannot.

    The reason is in its form where that says enough. Otherwise a tree of two branches is read
    both ways, since a model that lost the mask would answer everything, and all of it wrongly.
    """
    if reason := _unfit(model):
        return reason
    window: dict[str, int | None] = {}
    windows: list[int | None] = []
    for layer in DynamicCache(config=model.config).layers:
        windows.append(getattr(layer, "sliding_window", None))
        if type(layer) is DynamicLayer:
            window["full_attention"] = None
        elif type(layer) is _SLIDING:
            if window.setdefault("sliding_attention", layer.sliding_window) != layer.sliding_window:
                return "its layers have several attention windows"
        else:
            return f"the cache of a {type(layer).__name__} cannot be branched"
    found = Branches(model, window, windows)
    return disagreement(lambda: _agrees(found, model)) or found


def _unfit(model: Any) -> str | None:
    """Return why a model's form rules trees out, or None."""
    missing = [
        name for name in _NEEDED if name not in inspect.signature(type(model).forward).parameters
    ]
    if missing:
        return f"{type(model).__name__} takes no {', '.join(missing)}"
    if model.config._attn_implementation not in ("sdpa", "eager"):
        return f"{model.config._attn_implementation} attention takes no mask for branches"
    if _turns_by_length(model):
        return "its rotary frequencies depend on the length of a pass"
    if _SLIDING is None:
        return f"transformers {transformers.__version__} does not tell its layers' caches apart"
    return None


def _turns_by_length(model: Any) -> bool:
    """Return whether the longest sequence of a pass decides how all of it is rotated."""
    # A text, or one for each type of layers.
    kinds = [str(getattr(module, "rope_type", "")) for module in model.modules()]
    return any("dynamic" in kind or "longrope" in kind for kind in kinds)


def disagreement(agrees: Callable[[], bool]) -> str | None:
    """Return how a model fails to read a small tree as it should, or None if it does not fail."""
    try:
        alike = agrees()
    # Models miss many things in many ways, a mask of their own kind say; each is a reason.
    except Exception as error:
        if isinstance(error, RuntimeError) and is_lack_of_memory(error):
            raise
        return f"it does not read a small tree: {type(error).__name__}: {one_line(error)}"
    return None if alike else "its answers to a small tree are not its own"


def _agrees(branches: Branches, model: Any) -> bool:
    """Return whether two branches are read as the model reads two rows."""
    size = branches.vocabulary
    shared, own = np.arange(_PROBE) * 7919 % size, np.arange(2 * _PROBE) * 104729 % size
    tokens = np.concatenate([shared, own])
    places = np.concatenate([np.arange(2 * _PROBE), np.arange(_PROBE, 2 * _PROBE)])
    labels = np.arange(3 * _PROBE)
    ends = np.full(3 * _PROBE, 3 * _PROBE)
    ends[_PROBE : 2 * _PROBE] = 2 * _PROBE
    branches.read(tokens[:5], places[:5], labels[:5], ends[:5], np.zeros(0, dtype=np.int64))
    ours = branches.read(
        tokens[5:], places[5:], labels[5:], ends[5:], np.arange(_PROBE - 5, 3 * _PROBE - 5)
    )
    branches.empty = branches.states(np.zeros(0, dtype=np.int64))
    branches.clear()
    branches.tokens_needed = 0
    rows = torch.from_numpy(np.stack([tokens[: 2 * _PROBE], np.delete(tokens, labels[12:24])]))
    with torch.inference_mode():
        theirs = model(rows.to(model.device), use_cache=False).logits[:, _PROBE:].flatten(0, 1)
    return branches.alike(ours, theirs)
