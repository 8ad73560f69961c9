"""The two tables of a model whose body is frozen, as they train.

Letters: V rows of each table, D hidden size, T tokens of a batch that are predicted.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hebench.train.descent import BETAS
from hebench.train.heads import capped


def softcap(model: Any) -> float | None:
    """Return what a model's logits are squashed to by a tanh (Gemma 2), None where they are not."""
    found: float | None = getattr(model.config, "final_logit_softcapping", None)
    return found


class Tables(nn.Module):  # type: ignore[misc]
    """The two tables of a model, which train as float32 master weights around its frozen body."""

    def __init__(self, model: Any) -> None:
        """Take the tables of an untied model in float32, which itself is left as it is."""
        super().__init__()
        reading = model.get_input_embeddings().weight.detach()
        self.reading = nn.Embedding.from_pretrained(reading.clone(), freeze=False, sparse=True)
        head = model.get_output_embeddings().weight.detach()
        self.head = nn.Parameter(head.clone())
        size = head.shape[1], head.shape[1]
        self.reading_map = nn.Parameter(head.new_zeros(size))  # less the identity
        self.head_map = nn.Parameter(head.new_zeros(size))
        self._scale = getattr(model.get_input_embeddings(), "embed_scale", None)

    def loss(self, model: Any, ids: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss in nats of the targets (batch, time - 1) that are not -100."""
        kept = targets != -100
        return functional.cross_entropy(self.logits(model, ids[:, :-1], kept), targets[kept])

    def logits(self, model: Any, ids: Tensor, kept: Tensor) -> Tensor:
        """Return logits (T, V) at the places (batch, time) of `ids` that are kept, in float32.

        model: whose tables these are, in any precision; of it the body alone is used.
        """
        states = self.states(model, ids, kept)
        # The head's map, put on the states: h (W (I + M))' = (h + h M') W', without a copy of W.
        turned = states + states @ self.head_map.T.to(states.dtype)
        logits = functional.linear(turned, self.head.to(states.dtype)).float()
        return capped(logits, softcap(model))

    def states(self, model: Any, ids: Tensor, kept: Tensor) -> Tensor:
        """Return the final states (T, D) at the places (batch, time) of `ids` that are kept."""
        rows = self.reading(ids)
        rows = rows + rows @ self.reading_map
        if self._scale is not None:
            rows = rows * self._scale
        found = model.base_model(inputs_embeds=rows.to(model.dtype), use_cache=False)
        return found.last_hidden_state[kept]

    def optimisers(self, *, head_rate: float, reading_rate: float, map_rate: float) -> list[Any]:
        """Return what trains the tables; of the input table only the rows that occur.

        Peak rates; those of the input table and of the maps become scales of the head's.
        """
        reading = {"params": [self.reading.weight], "scale": reading_rate / head_rate}
        # D entries of the map go into each number of a row.
        maps = {
            "params": [self.reading_map, self.head_map],
            "scale": map_rate / len(self.head_map) / head_rate,
        }
        return [
            torch.optim.SparseAdam([reading], betas=BETAS),
            torch.optim.Adam([{"params": [self.head]}, maps], betas=BETAS, fused=True),
        ]

    def settle(self, model: Any) -> Any:
        """Write the tables, with their maps in them, into the untied float32 model; return it.

        Rows that no text touched stay as they were: those of languages that were not there.
        """
        tables = (self.reading.weight, self.reading_map), (self.head, self.head_map)
        parts = model.get_input_embeddings(), model.get_output_embeddings()
        with torch.no_grad():
            for part, (rows, turn) in zip(parts, tables, strict=True):
                touched = (rows != part.weight).any(dim=1, keepdim=True)
                part.weight.copy_(torch.where(touched, rows + rows @ turn, rows))
        return model
