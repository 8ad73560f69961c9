"""What packing gains over padding, and what the training loop costs over a bare one.

    python benchmarks/packing.py [rounds] [--device cuda [--attention flash_attention_2]]

A random Llama of 20 M parameters trains in fp32 (in bf16 where attention is flash), on one thread
or a GPU, on documents as long as encyclopaedia paragraphs (log-normal, median 150 tokens). Three
ways take turns, round after round, so that a busy machine slows all of them:

- packed: hebench's trainer on packed rows of 1,024 tokens, mask included;
- bare: a plain PyTorch loop over the same rows in the same order, with the same mask;
- padded: a plain PyTorch loop over the same documents, each batch padded to its longest.

Speeds are real tokens (no padding) a second, the first step left out. Targets: packed at least
1.3 times padded, and at least 95 % of bare.
"""

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hebench.train.checkpoints import CheckpointRecord
from hebench.train.device import Batch, attention_mask, collate
from hebench.train.mixing import Ordered
from hebench.train.packing import IGNORED, Piece, Rows, write_rows
from hebench.train.settings import TrainingConfig
from hebench.train.trainer import open_job

ROW_TOKENS = 1024
SIZES = {"cpu": (2, 4), "cuda": (16, 24)}  # rows of a step, and steps
VOCABULARY = 8192
FLASH = "flash_attention_2"


def settings(device: str, attention: str) -> TrainingConfig:
    """Return the training that all three ways carry out."""
    rows, steps = SIZES[device]
    return TrainingConfig(
        backend=device,
        attention=attention,
        precision="bf16" if attention == FLASH else "fp32",
        threads=1,
        row_tokens=ROW_TOKENS,
        micro_rows=rows,
        global_rows=rows,
        steps=steps,
        learning_rate=1e-4,
        schedule="constant",
        save_every=steps,
    )


def make_model(folder: Path) -> None:
    """Save a random Llama of 20 M parameters and a tokenizer that only names its tokens."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=10,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=ROW_TOKENS,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    words = {f"w{number}": number for number in range(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="w1").save_pretrained(folder)


def documents(device: str) -> list[Piece]:
    """Return documents for all steps and some more."""
    random = np.random.default_rng(0)
    rows, steps = SIZES[device]
    lengths = (
        random.lognormal(np.log(150), 0.9, size=25 * rows * steps).astype(int).clip(16, ROW_TOKENS)
    )
    return [Piece.whole(random.integers(2, VOCABULARY, size=length)) for length in lengths]


def packed_speed(folder: Path, rows: Rows, device: str, attention: str) -> float:
    """Return the tokens a second of hebench's trainer."""
    asked = settings(device, attention)
    with (
        tempfile.TemporaryDirectory() as out,
        open_job(Path(out), "pretrain", asked, asked) as job,
    ):
        model, tokenizer = job.load(folder)
        record = CheckpointRecord(stage="pretrain")
        job.fit(model=model, tokenizer=tokenizer, dataset=rows, record=record)
        lines = [json.loads(line) for line in (Path(out) / "log.jsonl").read_text().splitlines()]
    seconds = lines[-1]["seconds"] - lines[0]["seconds"]
    return float((lines[-1]["tokens"] - lines[0]["tokens"]) / seconds)


def bare_speed(
    folder: Path, batches: Iterator[tuple[Batch, int]], device: str, attention: str
) -> float:
    """Return the tokens a second of a plain loop over (inputs and labels, real tokens)."""
    model = LlamaForCausalLM.from_pretrained(folder, attn_implementation=attention)
    model = model.train().to(device)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.0, fused=True
    )
    counted, begun = 0, 0.0
    for step, (laid, tokens) in enumerate(batches):
        if step == 1:
            begun = time.perf_counter()
        batch = {name: tensor.to(device) for name, tensor in laid.items()}
        inputs = {name: batch[name] for name in batch if name != "labels"}
        with torch.autocast(device, torch.bfloat16, enabled=attention == FLASH):
            logits = model(**inputs, use_cache=False).logits[:, :-1]
        loss = functional.cross_entropy(
            logits.float().flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=IGNORED
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        loss.item()
        counted += tokens if step else 0
    return counted / (time.perf_counter() - begun)


def packed_batches(rows: Rows, device: str, attention: str) -> Iterator[tuple[Batch, int]]:
    """Yield the batches that the trainer sees, with its mask; for flash attention as one row."""
    micro_rows, steps = SIZES[device]
    ordered = Ordered(rows, first=0, last=steps * micro_rows, seed=0)
    for step in range(steps):
        laid = collate([ordered[step * micro_rows + place] for place in range(micro_rows)])
        batch = {name: tensor.to(device) for name, tensor in laid.items()}
        seen = {name: batch[name] for name in ("input_ids", "position_ids", "labels")}
        if attention == FLASH:
            seen = {name: tensor.flatten()[None] for name, tensor in seen.items()}
        else:
            mask = attention_mask(batch["document_ids"], "bool")
            assert mask is not None
            seen["attention_mask"] = mask
        yield seen, int((batch["document_ids"] >= 0).sum())


def padded_batches(pieces: list[Piece], device: str) -> Iterator[tuple[Batch, int]]:
    """Yield documents in random order, about as many real tokens a step as packed rows hold."""
    order = iter(np.random.default_rng(0).permutation(len(pieces)))
    mean = sum(len(piece.tokens) for piece in pieces) / len(pieces)
    rows, steps = SIZES[device]
    for _ in range(steps):
        chosen = [pieces[next(order)] for _ in range(round(rows * ROW_TOKENS / mean))]
        longest = max(len(piece.tokens) for piece in chosen)
        ids = torch.zeros(len(chosen), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, piece in enumerate(chosen):
            ids[row, : len(piece.tokens)] = torch.as_tensor(piece.tokens)
            mask[row, : len(piece.tokens)] = 1
        labels = torch.where(mask.bool(), ids, IGNORED)
        yield {"input_ids": ids, "labels": labels, "attention_mask": mask}, int(mask.sum())


def main() -> None:
    """Print each round's speeds, and the medians of their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rounds", type=int, nargs="?", default=3)
    parser.add_argument("--device", choices=sorted(SIZES), default="cpu")
    parser.add_argument("--attention", choices=("sdpa", FLASH), default="sdpa")
    chosen = parser.parse_args()
    rounds, device, attention = chosen.rounds, chosen.device, chosen.attention
    torch.set_num_threads(1)
    ratios: dict[str, list[float]] = {"packed / padded": [], "packed / bare": []}
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        make_model(base / "model")
        pieces = documents(device)
        record = write_rows(base / "rows", pieces, row_tokens=ROW_TOKENS, padding_id=1)
        rows: Any = Rows(base / "rows")
        print(f"{record.pieces} documents in {record.rows} rows, {record.filled:.1%} filled")
        print("| round | packed | bare | padded | (tokens/s)")
        for number in range(1, rounds + 1):
            ways = {
                "packed": lambda: packed_speed(base / "model", rows, device, attention),
                "bare": lambda: bare_speed(
                    base / "model", packed_batches(rows, device, attention), device, attention
                ),
                "padded": lambda: bare_speed(
                    base / "model", padded_batches(pieces, device), device, attention
                ),
            }
            names = [*ways][number % 3 :] + [*ways][: number % 3]  # none is always the first
            speeds = {}
            for name in names:
                gc.collect()  # the model before, which a trainer keeps in a cycle
                speeds[name] = ways[name]()
            packed, bare, padded = (speeds[name] for name in ways)
            print(f"| {number} | {packed:.0f} | {bare:.0f} | {padded:.0f} |", flush=True)
            ratios["packed / padded"].append(packed / padded)
            ratios["packed / bare"].append(packed / bare)
    for (name, values), target in zip(ratios.items(), (1.3, 0.95), strict=True):
        middle = statistics.median(values)
        spread = f"{min(values):.2f} to {max(values):.2f}"
        verdict = "reached" if middle >= target else "NOT reached"
        print(f"{name}: {middle:.2f} ({spread}); target {target}: {verdict}")


if __name__ == "__main__":
    main()
