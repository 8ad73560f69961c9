"""Fixtures of the training stages: a tiny English tokenizer and tiny random models around it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hebench.models.tiny import tokenizer_of

ENGLISH = """
The old ferry left the harbour at seven in the morning, as it had done every day for thirty years.
Its captain knew every rock along the coast, and the children of the island knew the captain.
On market days the deck was full of baskets: apples, onions, fresh bread and sometimes a goose.
Nobody was in a hurry. The teacher read the newspaper, the baker slept, and two students argued
about a football match that neither of them had seen. When the weather was bad the ferry waited,
and everybody waited with it. There was coffee in the small house at the pier, and a radio that
played songs from another time. In winter, when the days were short, the lights of the ferry were
the first thing that people saw from their windows, and the last thing before they went to sleep.
One evening the engine stopped in the middle of the strait. The captain opened the hatch, looked
at the engine, and asked for a hairpin. A woman gave him hers. Ten minutes later they were moving
again, and since then the hairpin has been hanging on the wall of the wheelhouse, in a frame.
"""


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Any:
    """A byte-level BPE fast tokenizer of 400 pieces, trained on a page of English."""
    return tokenizer_of(ENGLISH.splitlines(), pieces=400)


def save_tiny_model(  # noqa: PLR0913 (each is named at the call)
    tokenizer: Any,
    folder: Path,
    *,
    kind: str = "llama",
    tied: bool = True,
    seed: int = 0,
    rows: int | None = None,
) -> Path:
    """Save a random two-layer model and its tokenizer to a folder; return it.

    kind: llama or mistral. rows: of the embedding, by default as many as there are pieces.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        kind,
        vocab_size=rows or len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        # At the default scale a random model's answers are nearly equal.
        initializer_range=0.2,
    )
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model_folder(tiny_tokenizer: Any) -> Callable[..., Path]:
    """Return `save_tiny_model` with the tiny tokenizer."""
    return partial(save_tiny_model, tiny_tokenizer)


@pytest.fixture(scope="module")
def base(
    tiny_model_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A tiny model and a corpus for it."""
    from tests.train.made_rows import make_corpus  # which takes its English from here

    folder = tmp_path_factory.mktemp("base")
    return tiny_model_folder(folder / "model"), make_corpus(folder / "corpus")
