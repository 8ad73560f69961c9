"""Models whose body does not train: how distillation, calibration and measuring open and ask them.

    model = open_model(folder, "fp32")
    states = final_states(model, [[1, 17, 4], [1, 9]], [[1, 2], [1]])     # (3, D)

The body's precision is a matter of speed alone, since nothing in it is updated and what a stage
saves was opened anew in fp32: bf16 halves the memory, and is faster where the processor multiplies
it natively (which on CPUs must be tried, as `auto` does: of two machines with AVX512-BF16 it was
twice as fast on one and half as fast on the other).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hebench.errors import CheckpointError, one_line
from hebench.train.descent import precision_begun
from hebench.train.device import load_model, settled_precision
from hebench.train.measure import padded
from hebench.train.settings import Precision

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_PROBE_TOKENS = 16
_PROBE_ERROR = 0.01  # of the logits' norm: bf16 is twenty times nearer


def open_model(folder: Path, precision: Precision, threads: int | None = None) -> Any:
    """Return a causal model with all weights frozen, on the GPU where there is one.

    threads: of the CPU; None leaves PyTorch's choice. Raises CheckpointError if there is none.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    model = load_model(folder, "sdpa").requires_grad_(requires_grad=False).eval()
    place = _place()
    return model.to(device=place, dtype=DTYPES[settled_precision(precision, None, backend=place)])


def body_precision(asked: Precision, progress: Path) -> Precision:
    """Return the precision of a stage's body; one that goes on keeps what it was begun in.

    progress: its saved state, if there is one. Raises CheckpointError if that is damaged.
    """
    return settled_precision(asked, precision_begun(progress), backend=_place())


def _place() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def open_tokenizer(folder: Path) -> Any:
    """Return the fast tokenizer of a folder. Raises CheckpointError if there is none."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # tokenizers raises nothing narrower for a file that it cannot use
        raise CheckpointError(
            f"{folder}: expected a tokenizer, found {one_line(error)}; give a folder that holds one"
        ) from error
    if not tokenizer.is_fast:
        raise CheckpointError(
            f"{folder}: expected a fast tokenizer, which says where its pieces end, found "
            f"{type(tokenizer).__name__}; save it as tokenizer.json"
        )
    return tokenizer


def final_states(
    model: Any, rows: Sequence[Sequence[int]], places: Sequence[Sequence[int]]
) -> Tensor:
    """Return the final hidden states (W, D), in fp32, at given places of each row of token ids.

    places: indices into each row; W is how many there are in all, row after row.
    """
    ids, _ = padded(rows, rows[0][0])
    # Neither mask nor cache: padding stands behind, where a causal model does not look.
    states = model.base_model(input_ids=ids.to(model.device), use_cache=False).last_hidden_state
    row = [number for number, found in enumerate(places) for _ in found]
    return states[row, list(chain.from_iterable(places))].float()


def require_logits(model: Any, logits_of: Callable[[Tensor], Tensor], stage: str) -> None:
    """Raise CheckpointError unless logits that a stage works out itself are the model's own.

    logits_of: returns them, (time, V), for ids (1, time). Some models scale theirs (Granite,
    Cohere) or add a bias: a stage that did not know it would train the head for another model.
    """
    rows = len(model.get_output_embeddings().weight)
    ids = torch.arange(_PROBE_TOKENS, device=model.device)[None] % rows
    with torch.no_grad():
        own = model(input_ids=ids, use_cache=False).logits[0].float()
        error = float((logits_of(ids) - own).norm() / own.norm())
    if not error <= _PROBE_ERROR:
        raise CheckpointError(
            f"{model.config.name_or_path}: expected logits that are final states times the head's "
            f"rows, found a {type(model).__name__} whose own are {error:.0%} away from them; "
            f"{stage} cannot train its head"
        )


@contextmanager
def first_layers(model: Any, count: int) -> Iterator[None]:
    """Have the model consist of its first `count` layers, without the final norm, for a while.

    Raises CheckpointError if its layers are not where Llama and its kin have them.
    """
    body = model.base_model
    layers, norm = getattr(body, "layers", None), getattr(body, "norm", None)
    if not isinstance(layers, nn.ModuleList) or norm is None:
        raise CheckpointError(
            f"{model.config.name_or_path}: expected a body with `layers` and `norm`, found "
            f"{type(body).__name__}; set shallow_share to 0"
        )
    body.layers, body.norm = layers[:count], nn.Identity()
    try:
        yield
    finally:
        body.layers, body.norm = layers, norm
