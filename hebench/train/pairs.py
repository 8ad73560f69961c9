"""Pairs of answers in packed rows, and what a model gives to each answer.

The chosen and the rejected answer of a pair, each with the prompt before it, are two documents of
one row, numbered 2k and 2k+1 for the row's k-th pair. Beside its tokens a row carries what the
reference model gave to them, which is computed once and kept in files.

    >>> rows = PairRows([(chosen, rejected)], row_tokens=1024, padding_id=0)   # "כן." and "Yes."
    >>> rows.reference = read_references(folder, rows)
    >>> rows[0]["reference"]
    array([[-4.75, -1.5 ]], dtype=float32)

Shapes: B rows of L tokens, V pieces in the vocabulary, D documents in a row, R pairs in the
fullest row, P pairs in all. Log-probabilities are in nats, summed over an answer's tokens.
"""

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional
from tqdm import tqdm

from hebench.files import write_bytes_atomically
from hebench.train.device import Backend, Batch, collate, logits_of
from hebench.train.packing import IGNORED, Piece, Row, best_fit, lay
from hebench.train.settings import TrainingConfig

Pair = tuple[Piece, Piece]  # the chosen answer and the rejected, with their prompt
Logs = npt.NDArray[np.float32]
_ROWS_OF_A_FILE = 64  # what an interruption costs at most


class PairRows:
    """A map-style data set of packed rows of pairs; a pair's two answers share a row."""

    def __init__(self, pairs: Sequence[Pair], *, row_tokens: int, padding_id: int) -> None:
        """Pack the pairs. Raises ValueError for one that is longer than a row."""
        self.pairs = pairs
        self.row_tokens = row_tokens
        self.padding_id = padding_id
        lengths = [sum(len(piece.tokens) for piece in pair) for pair in pairs]
        self.rows = best_fit(lengths, row_tokens)
        self.most = max(len(row) for row in self.rows)  # R
        self.filled = sum(lengths) / (len(self.rows) * row_tokens)  # share without padding
        self.reference: Logs = np.zeros((len(pairs), 2), dtype=np.float32)  # (P, 2)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        """Return a row as `lay` makes it, with `reference`, (R, 2); NaN where there is no pair."""
        numbers = self.rows[index]
        pieces = [piece for number in numbers for piece in self.pairs[number]]
        row = lay(pieces, self.row_tokens, self.padding_id)
        row["reference"] = np.full((self.most, 2), np.nan, dtype=np.float32)
        row["reference"][: len(numbers)] = self.reference[numbers]
        return row


def answer_logs(logits: torch.Tensor, batch: Batch, documents: int) -> torch.Tensor:
    """Return the log-probability of each document's targets, (B, D), from logits (B, L, V).

    documents: D; a document without targets, or that is not there, has 0.
    """
    each = -functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2),
        batch["labels"][:, 1:],
        ignore_index=IGNORED,
        reduction="none",
    )
    # Padding is numbered -1 and has no targets: what it adds to document 0 is 0.
    numbers = batch["document_ids"][:, 1:].clamp(min=0)
    return each.new_zeros(len(each), documents).scatter_add(1, numbers, each)


def write_references(
    folder: Path, rows: PairRows, model: Any, backend: Backend, training: TrainingConfig
) -> None:
    """Write what the model gives to the answers, in files of some rows each.

    Each process does its share of the files, those that are not there yet. The model is not
    changed; it must be on the device where it can run.
    """
    place = next(model.parameters()).device
    micro_rows, bf16 = training.micro_rows, training.precision == "bf16"
    was_training = model.training
    model.eval()  # no dropout: a reference is one number, not a sample
    files = [file for file in _own(list(_files(folder, rows))) if not file[0].exists()]
    for path, numbers in tqdm(files, desc="dpo: reference", unit="file", disable=None):
        found = []
        for start in range(0, len(numbers), micro_rows):
            batch = collate([rows[number] for number in numbers[start : start + micro_rows]])
            batch = {name: tensor.to(place) for name, tensor in batch.items()}
            with torch.no_grad(), torch.autocast(place.type, torch.bfloat16, enabled=bf16):
                logits = logits_of(model, batch, backend)
            logs = answer_logs(logits, batch, 2 * rows.most)
            found.append(logs.unflatten(1, (rows.most, 2)).cpu().numpy())
        stream = BytesIO()
        np.save(stream, np.concatenate(found))
        write_bytes_atomically(path, stream.getvalue())
    model.train(was_training)


def read_references(folder: Path, rows: PairRows) -> Logs:
    """Return what the reference model gave to each pair's answers, (P, 2)."""
    found: Logs = np.zeros((len(rows.pairs), 2), dtype=np.float32)
    for path, numbers in _files(folder, rows):
        for number, logs in zip(numbers, np.load(path), strict=True):
            found[rows.rows[number]] = logs[: len(rows.rows[number])]
    return found


def _files(folder: Path, rows: PairRows) -> Iterator[tuple[Path, range]]:
    """Yield each file's path and the numbers of its rows."""
    for start in range(0, len(rows), _ROWS_OF_A_FILE):
        end = min(start + _ROWS_OF_A_FILE, len(rows))
        yield folder / f"rows-{start:08}.npy", range(start, end)


def _own(files: list[tuple[Path, range]]) -> list[tuple[Path, range]]:
    """Return this process's share, which does not depend on what the others have done."""
    if not torch.distributed.is_initialized():
        return files
    return files[torch.distributed.get_rank() :: torch.distributed.get_world_size()]
