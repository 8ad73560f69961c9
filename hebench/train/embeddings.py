"""Embedding tables that grow: new rows for new pieces, beside old rows that cannot move.

A model that learns a language's pieces needs a row for each in two tables: the input table, by
which it reads, and the head, by which it writes. `grown` makes both as tables of their own (tied
ones are untied first: what helps reading says nothing about writing), `initial_rows` says what
the new rows are at first, and `Reading` is an input table whose old rows are no parameter.

    >>> pieces = new_pieces(old_tokenizer, new_tokenizer, rows=49152)
    >>> model = grown(model, initial_rows(input_table(model), pieces), initial_rows(head, pieces))
    >>> model.get_input_embeddings().weight.shape
    torch.Size([50152, 576])

Letters: V rows of the old table, N new rows, D hidden size.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from hebench.errors import CheckpointError, DataError

Initial = Literal["mean", "random"]


class Reading(nn.Module):  # type: ignore[misc]
    """An input table of V old rows that stay and N new rows that train."""

    def __init__(self, table: nn.Embedding, new: Tensor) -> None:
        """Take the old table (V, D), kept as it is, and first values (N, D) of the new rows."""
        super().__init__()
        self.register_buffer("old", table.weight.detach(), persistent=False)
        self.new = nn.Parameter(new.detach().to(self.old.device, torch.float32).clone())
        # Gemma's table multiplies what it gives; the factor is no part of the rows.
        self._scale = getattr(table, "embed_scale", None)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the rows of `ids` (batch, time) as (batch, time, D), in the old rows' type."""
        fresh = ids >= len(self.old)
        rows = functional.embedding(ids.masked_fill(fresh, 0), self.old)
        rows = rows.index_put((fresh,), self.new[ids[fresh] - len(self.old)].to(rows.dtype))
        return rows if self._scale is None else rows * self._scale.to(rows.dtype)


def new_pieces(old: Any, new: Any, rows: int) -> list[list[int]]:
    """Return, for each new piece in order of its id, the ids that the old tokenizer gives it.

    rows: V of the old model; new pieces have the ids V, V + 1, ... What fills rows that had no
    piece is not among them. Raises DataError if they have other ids, if there are none, or if a
    piece that was there before has another id now.
    """
    before, after = old.get_vocab(), new.get_vocab()
    moved = [piece for piece, number in before.items() if after.get(piece) != number]
    if moved:
        raise DataError(
            f"{new.name_or_path}: expected the old tokenizer's pieces under their old ids, found "
            f"{len(moved)} that moved or are gone; make it with `hebench train tokenizer`"
        )
    added = sorted(
        (number, piece)
        for piece, number in after.items()
        if piece not in before and not (number < rows and piece == f"<|unused_{number}|>")
    )
    if not added or [number for number, _ in added] != list(range(rows, rows + len(added))):
        found = f"ids {added[0][0]} to {added[-1][0]}" if added else "no new piece"
        raise DataError(
            f"{new.name_or_path}: expected new pieces with the ids from {rows} on (the model's "
            f"table has {rows} rows), found {found}; make it with `hebench train tokenizer`"
        )
    split = old.backend_tokenizer.model.tokenize
    return [[token.id for token in split(piece)] for _, piece in added]


def initial_rows(
    table: Tensor, pieces: Sequence[Sequence[int]], kind: Initial = "mean", seed: int = 0
) -> Tensor:
    """Return first values (N, D) for new rows of a table (V, D), in float32.

    mean: of the rows of the piece's old pieces. random: normal, with mean and standard deviation
    of the table's rows in each dimension.
    """
    table = table.detach().to(torch.float32)
    if kind == "mean":
        return torch.stack([table[list(old)].mean(0) for old in pieces])
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(pieces), table.shape[1], generator=generator)
    return table.mean(0) + table.std(0) * noise.to(table.device)


def grown(model: Any, reading: Tensor, writing: Tensor) -> Any:
    """Return `model` with its tables untied and lengthened by new rows; old rows keep their bits.

    reading, writing: (N, D), new rows of the input table and of the head. The model is changed
    in place. Raises CheckpointError if the model has no head or one with a bias.
    """
    source, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None or getattr(head, "bias", None) is not None:
        raise CheckpointError(
            f"{model.config.name_or_path}: expected a language model with a head without bias, "
            f"found {type(model).__name__}; give a decoder-only model"
        )
    tables = [
        torch.cat([part.weight.detach(), rows.to(part.weight)])
        for part, rows in ((source, reading), (head, writing))
    ]
    untie(model)
    for part, table in zip((source, model.get_output_embeddings()), tables, strict=True):
        part.weight = nn.Parameter(table, requires_grad=part.weight.requires_grad)
    source.num_embeddings = model.get_output_embeddings().out_features = len(tables[0])
    model.config.get_text_config().vocab_size = model.vocab_size = len(tables[0])
    return model


def untie(model: Any) -> None:
    """Give the head a table of its own, with the values that it shared; in place."""
    head = model.get_output_embeddings()
    if head.weight is model.get_input_embeddings().weight:
        head.weight = nn.Parameter(head.weight.detach().clone())
    model.config.tie_word_embeddings = False
    # transformers 5 keeps the names of tied weights from when the model was built and would
    # save one table for two; transformers 4.55 asks the configuration alone.
    if hasattr(model, "all_tied_weights_keys"):
        model.all_tied_weights_keys = {}
