"""The leak check: packed documents must not see each other, or their own future.

The wrong mask gives no error and no warning; training only gets a little worse. So every job
asks the model that it will train, with the attention and the mask that it will use: on a tiny
pack, the gradient of one document's loss with respect to the inputs must be exactly zero outside
that document, and from the last predicted token on; and not zero before it.

    >>> check_leaks(model, backend)    # silent, or ConfigError
"""

from typing import Any

import numpy as np
import torch

from hebench.errors import ConfigError
from hebench.train.device import Backend, Batch, collate, logits_of
from hebench.train.objective import next_token_loss
from hebench.train.packing import IGNORED, PADDING, Piece, lay

_ROWS = ((7, 1, 9, 4), (3, 12, 2))  # documents' lengths; the rest of each row is padding
_ROW_TOKENS = 24


def check_leaks(model: Any, backend: Backend) -> None:
    """Raise ConfigError if a packed document sees another one, padding, or its own future.

    model: as trained, on its device, wrapped or not by autocast; it is not changed.
    """
    device = next(model.parameters()).device
    embed = model.get_input_embeddings()
    pack = {name: tensor.to(device) for name, tensor in tiny_pack(model.config.vocab_size).items()}
    inputs = embed(pack.pop("input_ids")).detach().requires_grad_()
    batch = {**pack, "inputs_embeds": inputs}
    documents = pack["document_ids"]
    for row, lengths in enumerate(_ROWS):
        for number, length in enumerate(lengths):
            if length < 2:
                continue  # no target: it can only be seen by others
            own = torch.zeros_like(documents, dtype=torch.bool)
            own[row] = documents[row] == number
            last = int(own[row].nonzero()[length // 2])  # the last target of this probe
            past = own.clone()
            past[row, last:] = False
            targets = own & (torch.arange(_ROW_TOKENS, device=device) <= last)
            labels = torch.where(targets, pack["labels"], IGNORED)
            # Forward anew for each: ZeRO-3 lets go of the weights behind a backward pass.
            loss = next_token_loss(logits_of(model, batch, backend))(labels)
            (slope,) = torch.autograd.grad(loss, inputs)
            _judge(slope.abs().amax(-1), past, own, backend)


def tiny_pack(vocabulary: int) -> Batch:
    """Return a batch of two rows of 24 random tokens: documents of 1 to 12 tokens, and padding."""
    random = np.random.default_rng(0)
    rows = []
    for lengths in _ROWS:
        pieces = [Piece.whole(random.integers(0, vocabulary, size=length)) for length in lengths]
        rows.append(lay(pieces, _ROW_TOKENS, padding_id=0))
    assert all((row["document_ids"] == PADDING).any() for row in rows)
    return collate(rows)


def _judge(slope: torch.Tensor, past: torch.Tensor, own: torch.Tensor, backend: Backend) -> None:
    """Refuse a gradient, (B, L), that is not zero outside `past`, or zero in it."""
    setting = f"backend {backend.name}, attention {backend.attention}, mask {backend.convention}"
    advice = "nothing was trained; choose another attention, and report this setting"
    foreign, future = slope[~own].max().item(), slope[own & ~past].max().item()
    # "not 0 equal" instead of "greater than 0": NaN is no proof of anything
    if foreign != 0:
        raise ConfigError(
            f"packed documents see each other ({setting}): expected a gradient of exactly 0 "
            f"between documents, found {foreign:.3g}; {advice}"
        )
    if future != 0:
        raise ConfigError(
            f"tokens see their own future ({setting}): expected a gradient of exactly 0, "
            f"found {future:.3g}; {advice}"
        )
    if not slope[past].max().item() > 0:
        raise ConfigError(
            f"documents do not see themselves ({setting}): expected a gradient above 0, found "
            f"{slope[past].max().item():.3g}; {advice}"
        )
