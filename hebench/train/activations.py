"""Activations: the bytes that a model keeps for its backward pass, counted without weights.

One short row passes through the model with PyTorch's fake tensors, which have shapes and types
and no numbers, and every tensor that autograd saves is counted once, by the layer that saved it.
So it holds for any widths, precision and adapters; a formula for a layer of the usual widths
(Korthikanti et al. 2022, equation 2) has 0.6 to 0.8 of what Llama's keeps.

    >>> kept = count_kept(network, short=True, autocast=True, repeated=False)
    >>> kept.layers[1]                    # bytes a token of Mistral-7B's second layer
    241800.0
"""

import copy
import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

_TOKENS = 127  # of the row: no width of a model, so that weights are told from activations
_NAME = "hebench_shapes"  # of the attention that only has shapes


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Bytes a token that stay until the backward pass, but for the logits and the loss."""

    layers: tuple[float, ...]  # of each decoder layer
    inputs: tuple[float, ...]  # of each layer's input, which it keeps in any case
    rest: float  # of what is not in a layer


class _Attend(torch.autograd.Function):  # type: ignore[misc]
    """Keeps what fused attention keeps: queries, keys, values, the result, a number a row."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any) -> torch.Tensor:
        found = torch.empty_like(query)
        sums = torch.empty(query.shape[:-1], dtype=torch.float32, device=query.device)
        ctx.save_for_backward(query, key, value, found, sums)
        return found


def count_kept(network: Any, *, short: bool, autocast: bool, repeated: bool) -> Kept | None:
    """Return what a causal model on the meta device keeps; None if it cannot be run so.

    short: it computes in bf16, with autocast on fp32 weights or else on weights in bf16. repeated:
    keys and values are repeated for all query heads, as SDPA does beside a mask. Experts' grouped
    products do not take fake tensors, so mixtures of experts are None, as are some architectures
    with an attention of their own (Falcon).
    """
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers import AttentionInterface

    AttentionInterface.register(_NAME, _attention(short, repeated))
    network = copy.deepcopy(network)
    if short and not autocast:
        network.bfloat16()
    for config in (network.config, network.config.get_text_config()):
        config._attn_implementation = _NAME
    counter = _Counter()
    row = torch.zeros(1, _TOKENS, dtype=torch.long)
    try:
        with _quiet(), FakeTensorMode(allow_non_fake_inputs=True):
            network.to_empty(device="cpu").train()
            with (
                counter.watching(network),
                torch.autocast("cpu", torch.bfloat16, enabled=short and autocast),
            ):
                network(input_ids=row, position_ids=row, use_cache=False)
    # What an architecture's own code raises where it is given no numbers, or no mask.
    except (RuntimeError, TypeError, AttributeError, ValueError, LookupError):
        return None
    return counter.kept()


class _Counter:
    """Counts saved tensors by the layer in which they are saved first."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._layers: list[float] = []
        self._inputs: list[float] = []
        self._rest = 0.0
        self._inside = False
        self._seen: dict[int, Any] = {}  # storages by address, held so that none is used again
        self._shapes: set[tuple[int, ...]] = set()

    @contextmanager
    def watching(self, network: Any) -> Iterator[None]:
        """Count what `network` saves while the body runs."""
        from transformers.modeling_layers import GradientCheckpointingLayer

        for weight in itertools.chain(network.parameters(), network.buffers()):
            # A weight is saved as it is, or as the copy in bf16 that autocast makes of it.
            self._shapes |= {tuple(weight.shape), tuple(weight.shape[::-1])}
        for module in network.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module.register_forward_pre_hook(self._enter, with_kwargs=True)
                module.register_forward_hook(self._leave)
        with torch.autograd.graph.saved_tensors_hooks(self._save, lambda tensor: tensor):
            yield

    def kept(self) -> Kept | None:
        """Return the counts; None if no layer was seen."""
        if not self._layers:
            return None
        layers, inputs = (
            tuple(size / _TOKENS for size in sizes) for sizes in (self._layers, self._inputs)
        )
        return Kept(layers=layers, inputs=inputs, rest=self._rest / _TOKENS)

    def _enter(self, _: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        states = given[0] if given else named["hidden_states"]
        self._inputs.append(states.numel() * states.element_size())
        self._layers.append(0.0)
        self._inside = True

    def _leave(self, *_: Any) -> None:
        self._inside = False

    def _save(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen and tuple(tensor.shape) not in self._shapes:
            self._seen[storage._cdata] = storage
            if self._inside:
                self._layers[-1] += storage.nbytes()
            else:
                self._rest += storage.nbytes()
        return tensor


def _attention(short: bool, repeated: bool) -> Any:
    def attend(_: Any, query: Any, key: Any, value: Any, *rest: Any, **more: Any) -> Any:
        groups = query.shape[1] // key.shape[1]
        if repeated and groups > 1:
            key, value = (part.repeat_interleave(groups, 1) for part in (key, value))
        if short:
            query, key, value = (part.bfloat16() for part in (query, key, value))
        return _Attend.apply(query, key, value).transpose(1, 2).contiguous(), None

    return attend


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep PyTorch from logging the error that is answered here."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
