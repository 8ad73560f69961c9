"""Objectives: what a training loop sums over a batch, and by how many items it divides.

The trainer divides by the items of a whole optimiser step (all accumulated batches of all
processes), so that a step's gradient does not depend on how its rows were split.

    >>> NEXT_TOKEN.count(batch)          # targets of this batch
    tensor(1873)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from hebench.train.device import Backend, Batch, logits_of
from hebench.train.packing import IGNORED


@dataclass(frozen=True, kw_only=True)
class Objective:
    """How many items a batch has; their summed loss, and further sums to log as means per item.

    Batches come without a mask, which is the backend's.
    """

    count: Callable[[Batch], torch.Tensor]
    total: Callable[[Any, Batch, Backend], tuple[torch.Tensor, Mapping[str, torch.Tensor]]]


def next_token_loss(logits: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function from labels, (B, L), to the summed loss of logits (B, L, V), in nats."""
    flat = logits[:, :-1].float().flatten(0, 1)

    def loss(labels: torch.Tensor) -> torch.Tensor:
        targets = labels[:, 1:].flatten()
        return functional.cross_entropy(flat, targets, ignore_index=IGNORED, reduction="sum")

    return loss


def _count_targets(batch: Batch) -> torch.Tensor:
    return (batch["labels"][:, 1:] != IGNORED).sum()


def _total_next_token(
    model: Any, batch: Batch, backend: Backend
) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
    return next_token_loss(logits_of(model, batch, backend))(batch["labels"]), {}


NEXT_TOKEN = Objective(count=_count_targets, total=_total_next_token)
