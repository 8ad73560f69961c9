"""Activations counted without weights: those that autograd really saves, of the real model."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from hebench.train.activations import count_kept
from hebench.train.adapters import Lora, adapted
from hebench.train.device import load_model
from hebench.train.memory import without_weights

TOKENS = 96
LORA = Lora(rank=4, alpha=8, dropout=0.0)


def really_saved(network: Any) -> int:
    """Return the bytes of all tensors, but for weights, that a pass of `TOKENS` tokens saves."""
    own = {weight.data_ptr() for weight in (*network.parameters(), *network.buffers())}
    saved: dict[int, torch.Tensor] = {}

    def save(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    row = torch.arange(TOKENS)[None]
    mask = torch.ones(1, 1, TOKENS, TOKENS, dtype=torch.bool).tril()
    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        network(input_ids=row, position_ids=row, attention_mask=mask, use_cache=False)
    # The mask is the backend's, and of no layer.
    masks = {mask.data_ptr()}
    return sum(
        tensor.untyped_storage().nbytes()
        for place, tensor in saved.items()
        if place not in masks and tensor.shape[-2:] != mask.shape[-2:]
    )


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "adapters"])
@pytest.mark.parametrize("short", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_what_is_counted_is_what_the_real_model_saves(
    tiny_model_folder: Callable[..., Path], tmp_path: Path, kind: str, short: bool, lora: Any
) -> None:
    folder = tiny_model_folder(tmp_path, kind=kind)
    real = adapted(load_model(folder, "sdpa"), lora, 0).train()
    if short:
        real.bfloat16()
    with torch.device("meta"):
        network = adapted(without_weights(folder), lora, 0)
    found = count_kept(network, short=short, autocast=False, repeated=True)
    assert found is not None and len(found.layers) == len(found.inputs) == 2
    counted = TOKENS * (sum(found.layers) + found.rest)
    assert counted == pytest.approx(really_saved(real), rel=0.03)
    assert found.inputs[0] == 64 * (2 if short else 4)
    assert all(weight.device.type == "meta" for weight in network.parameters())


def test_with_autocast_more_is_kept_than_on_short_weights_and_less_than_in_full(
    tiny_model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    network = without_weights(tiny_model_folder(tmp_path))
    full, mixed, short = (
        count_kept(network, short=short, autocast=autocast, repeated=False)
        for short, autocast in ((False, True), (True, True), (True, False))
    )
    assert full and mixed and short
    assert short.layers[0] < mixed.layers[0] < full.layers[0]
    # The residual stream stays in fp32 where the weights are.
    assert short.inputs[0] < mixed.inputs[0] == full.inputs[0]


def test_keys_that_are_repeated_take_more(
    tiny_model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    network = without_weights(tiny_model_folder(tmp_path))
    once, repeated = (
        count_kept(network, short=False, autocast=True, repeated=repeated)
        for repeated in (False, True)
    )
    assert once and repeated
    # Two heads of 16 numbers more, of keys and of values.
    assert repeated.layers[1] - once.layers[1] == 2 * 2 * 16 * 4


@pytest.mark.skipif(
    transformers.__version__.startswith("4."), reason="transformers 4 loops over experts"
)
@pytest.mark.parametrize("kind", ["mixtral", "falcon"])
def test_what_cannot_be_run_without_numbers_is_not_counted_and_nothing_is_said(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    config = transformers.AutoConfig.for_model(
        kind, vocab_size=100, hidden_size=64, num_attention_heads=4, num_hidden_layers=1
    )
    with torch.device("meta"):
        network = transformers.AutoModelForCausalLM.from_config(config)
    with caplog.at_level(logging.ERROR):
        assert count_kept(network, short=True, autocast=True, repeated=True) is None
    assert not caplog.records and not capfd.readouterr().err
