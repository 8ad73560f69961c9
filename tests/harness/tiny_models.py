"""Random two-layer models of several architectures, and their tokenizer."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests.conftest import DEVICE

SIZES = {
    "vocab_size": 1024,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
    "initializer_range": 0.2,  # at the default scale a random model's answers are nearly equal
}
# A window shorter than a prompt, so that what is cut off matters.
ARCHITECTURES = {
    "llama": (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": False}),
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": 48}),
    "gemma3": (
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        {
            "layer_types": ["sliding_attention", "full_attention"],
            "sliding_window": 40,
            "head_dim": 16,
            "query_pre_attn_scalar": 16,
        },
    ),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {"tie_word_embeddings": True}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 32}),
}


def build(architecture: str, *, context: int = 8192, **more: Any) -> Any:
    """Return a random model of an architecture, in float32."""
    model, config, own = ARCHITECTURES[architecture]
    torch.manual_seed(3)
    options = SIZES | {"max_position_embeddings": context} | own | more
    return model(config(**options)).eval().to(DEVICE)


def tokenizer_of(folder: Path) -> Any:
    """Return the tokenizer of a saved model."""
    return AutoTokenizer.from_pretrained(folder)
