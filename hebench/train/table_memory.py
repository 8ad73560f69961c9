"""Memory of distillation and calibration, worked out from `config.json` before they start.

    >>> network = without_weights(Path("mistral-7b"))
    >>> calibration_bytes(network, "bf16", tokens=4000)["tables"] / GIB
    1.1

Both train rows of two tables around a frozen body. Of the body's layers a pass keeps what their
inputs' gradients need, counted as `activations.py` does: weights that stay have no use for theirs.
A stage takes most in the midst of a pass or, where passes are small, when a model is opened beside
what else is there: `opening`. What measuring takes, a thousand tokens without a gradient, is not
in it. The network that is given has gradients for its input table alone afterwards.
"""

from typing import Any

from hebench.train.activations import count_kept
from hebench.train.memory import LOSS, parameters
from hebench.train.settings import Precision

_ADAM = 8  # bytes a number: two moments in fp32


def distillation_bytes(
    network: Any, precision: Precision, tokens: int, *, new_rows: int, on_gpu: bool
) -> dict[str, float]:
    """Return the bytes on the device by part while the new rows of the input table train.

    network: the base model, of `without_weights`. tokens: of a batch, padding included. on_gpu:
    weights are rounded on their way there, and not where they stay.
    """
    width, rows = _width(precision), network.get_input_embeddings().weight
    new = new_rows * rows.shape[1]
    parts = {
        "weights": float(width * parameters(network)),
        "tables": 4.0 * new,
        "optimiser": float(_ADAM * new),
        "activations": tokens * _kept(network, precision),
    }
    # At the end, both tables with and without their new rows, while these are put behind the old.
    opened = 4 * (parameters(network) + 2 * (rows.numel() + new))
    if precision == "bf16" and not on_gpu:
        opened = max(opened, (4 + 2) * parameters(network))
    return parts | {"opening": max(0.0, opened - sum(parts.values()))}


def calibration_bytes(network: Any, precision: Precision, tokens: int) -> dict[str, float]:
    """Return the bytes on the device by part while both tables and their maps train.

    network: the extended model, of `without_weights`. tokens: of a batch, padding included.
    """
    width, rows = _width(precision), network.get_input_embeddings().weight
    table, size = rows.numel(), rows.shape[1]
    tied = network.get_output_embeddings().weight is rows
    whole = parameters(network) + table * tied
    trained = 2 * table + 2 * size**2
    gradients = 4 * (trained - table)  # sparse in the input table; gone before the next pass
    logits = tokens * len(rows)
    parts = {
        "weights": float(width * whole),
        "tables": 4.0 * trained,
        "optimiser": float(_ADAM * trained),
        "activations": tokens * (_kept(network, precision) + (4 + 2 * width) * size),
        "logits": float(max(LOSS * logits, 4 * logits + gradients)),
    }
    if precision == "bf16":
        parts["logits"] += 2 * table  # the head in bf16
    # At the end, beside what has trained: rows with their map, and where they changed.
    opened = 4 * whole + parts["tables"] + gradients + parts["optimiser"] + 2 * 4 * table
    if precision == "bf16":
        opened = max(opened, (4 + 2) * whole + parts["tables"])
    return parts | {"opening": max(0.0, opened - sum(parts.values()))}


def _kept(network: Any, precision: Precision) -> float:
    """Return the bytes a token that the frozen body keeps, given inputs that have gradients."""
    for weight in network.parameters():
        weight.requires_grad_(requires_grad=False)
    network.get_input_embeddings().weight.requires_grad_()
    found = count_kept(network, short=precision == "bf16", autocast=False, repeated=False)
    if found is not None:
        return sum(found.layers) + found.rest
    sizes = network.config.get_text_config()
    return float(17 * sizes.hidden_size * _width(precision) * sizes.num_hidden_layers)


def _width(precision: Precision) -> int:
    return 2 if precision == "bf16" else 4
