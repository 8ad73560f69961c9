"""Memory: what a training needs on each device, worked out from `config.json` before it starts.

    >>> network = without_weights(Path("mistral-7b"))
    >>> memory_bytes(training, backend, network, lora=None)["optimiser"] / GIB
    1.69

Weights, gradients and optimiser are those of Rajbhandari et al. 2020 (ZeRO, section 3): AdamW
keeps fp32 weights and two fp32 moments, 12 bytes a trained parameter under DeepSpeed, and the
stages divide, in this order, the optimiser, the gradients and the weights over the processes.
Beside them a pass has a bucket for gradients on their way there, and the step, when activations
are gone, a flat copy of the process's share of the gradients, and one in fp32. Activations are
counted in a pass without weights (`activations.py`); of a model that cannot be run so they are
those of Korthikanti et al. 2022 (equation 2), a layer of the usual widths. What the allocator
leaves unused, the libraries' own buffers and the gathered weights of stage 3 are not in it: take
an estimate near a device's size for too much.
"""

from pathlib import Path
from typing import Any

import torch

from hebench.errors import CheckpointError, one_line
from hebench.train.activations import Kept, count_kept
from hebench.train.adapters import Lora, adapted, trained_parameters
from hebench.train.device import BUCKET, Backend
from hebench.train.settings import TrainingConfig

GIB = 2**30
# Bytes a token and piece at the start of the backward pass: log-probabilities, the gradients of
# the loss with respect to them and to the logits, all in fp32.
LOSS = 12
_SUB_GROUP = 1e9  # parameters that ZeRO-3 steps at a time, DeepSpeed's sub_group_size


def without_weights(folder: Path, *, new_pieces: int = 0) -> Any:
    """Return the causal model that a folder's `config.json` describes, on torch's meta device.

    new_pieces: rows by which both of its tables are to grow, untied. Raises CheckpointError.
    """
    import transformers

    if not (folder / "config.json").is_file():  # transformers would ask the Hub
        raise CheckpointError(
            f"{folder}: expected a model folder, found no config.json; give a Hugging Face folder"
        )
    try:
        config = transformers.AutoConfig.from_pretrained(folder)
        if new_pieces:
            config.get_text_config().vocab_size += new_pieces
            config.tie_word_embeddings = False
        with torch.device("meta"):
            return transformers.AutoModelForCausalLM.from_config(config)
    except Exception as error:  # a strict configuration's derive from nothing narrower
        raise CheckpointError(
            f"{folder}: expected a causal language model, found {one_line(error)}; "
            "give a Hugging Face folder"
        ) from error


def parameters(network: Any) -> int:
    """Return how many numbers a model has, tied tables counted once."""
    return sum(weight.numel() for weight in network.parameters())


def memory_bytes(
    config: TrainingConfig, backend: Backend, network: Any, lora: Lora | None
) -> dict[str, float]:
    """Return the bytes on each device by part, at the moment when they are most.

    network: of `without_weights`; where there are adapters it has them afterwards.
    """
    whole = parameters(network)
    with torch.device("meta"):
        trained = trained_parameters(adapted(network, lora, config.seed))
    adapters = 0 if lora is None else trained
    tokens = config.micro_rows * config.row_tokens
    logits = LOSS * tokens * network.config.get_text_config().vocab_size
    passing = {
        "activations": _activation_bytes(config, backend, network, logits),
        "logits": logits,
        "bucket": (2 if config.precision == "bf16" else 4) * BUCKET * (config.zero_stage > 0),
    }
    # What is gone when the optimiser steps; ZeRO-3 keeps its bucket.
    gone = sum(passing.values()) - (passing["bucket"] if config.zero_stage == 3 else 0)
    return {
        **_state_bytes(config, whole + adapters, trained),
        **passing,
        "step": max(0.0, _step_bytes(config, trained) - gone),
    }


def _step_bytes(config: TrainingConfig, trained: int) -> float:
    """Return what the optimiser's step needs beside states: DeepSpeed's copies of gradients."""
    if not config.zero_stage:
        return 0.0
    share = trained / config.world_size
    if config.zero_stage == 3:
        share = min(share, _SUB_GROUP)
    return share * (2 + 4 if config.precision == "bf16" else 4)  # one flat, one in fp32


def _state_bytes(config: TrainingConfig, whole: int, trained: int) -> dict[str, float]:
    """Return weights, gradients, optimiser and copies of `whole` and `trained` parameters."""
    short = config.precision == "bf16"
    if not config.zero_stage:  # weights in fp32, and arithmetic in bf16 on copies of them
        bucketed = 4 * trained if config.world_size > 1 else 0  # DDP sends gradients from a copy
        return {
            "weights": 4 * whole,
            "gradients": 4 * trained,
            "optimiser": 8 * trained,  # the weights are the fp32 ones already
            "copies": (2 * whole if short else 0) + bucketed,
        }
    width = 2 if short else 4
    shares = [config.world_size if config.zero_stage >= stage else 1 for stage in (1, 2, 3)]
    return {
        "weights": width * whole / shares[2],
        "gradients": width * trained / shares[1],
        "optimiser": 12 * trained / shares[0],
    }


def _activation_bytes(
    config: TrainingConfig, backend: Backend, network: Any, logits: float
) -> float:
    """Return what is kept for the backward pass of one batch beside `logits`, at its highest.

    That is at its start. Only with checkpointing may it be later, when a layer is computed anew:
    the logits are gone by then, so of that layer counts what is more than they were.
    """
    kept = _kept(config, backend, network)
    tokens = config.micro_rows * config.row_tokens
    weights = 0.0
    if backend.attention == "eager":  # which alone keeps those of every token for every other
        heads = network.config.get_text_config().num_attention_heads
        weights = heads * config.row_tokens * (6 if config.precision == "bf16" else 4)
    layers = [size + weights for size in kept.layers]
    if not config.activation_checkpointing:
        return tokens * (sum(layers) + kept.rest)
    return tokens * (sum(kept.inputs) + kept.rest) + max(0.0, tokens * max(layers) - logits)


def _kept(config: TrainingConfig, backend: Backend, network: Any) -> Kept:
    """Return what a pass keeps a token: counted, or of a layer of the usual widths."""
    short = config.precision == "bf16"
    found = count_kept(
        network,
        short=short,
        autocast=not config.zero_stage,
        repeated=backend.attention != "flash_attention_2",
    )
    if found is not None:
        return found
    sizes = network.config.get_text_config()
    state = sizes.hidden_size * (2 if short else 4)
    layers = sizes.num_hidden_layers
    return Kept(layers=(17.0 * state,) * layers, inputs=(float(state),) * layers, rest=0.0)
