"""Supervised fine-tuning: a base model learns to answer, from conversations.

The loss is on the assistant's tokens alone, conversations are packed into rows and do not see
each other, and one that is longer than a row is left out and counted, never cut. The paper's run:
LoRA of rank 64, 64 rows of 4,096 tokens a step, three passes.

    config = build(SftConfig, recipe["sft"], "recipe.yaml: sft")
    run(config, model=RUN/"pretrain/model", data=Path("chat_he.jsonl"), out=RUN/"sft")

A line of `data`: {"prompt": "מה בירת קנדה?", "response": "אוטווה."} (`hebench.train.chat_data`).
`out` gets rows/, checkpoint-N/, log.jsonl and model/, a plain folder with its chat template.
The loop is our own, not TRL's, so that it runs on Gaudi, too; a test holds it to TRL's numbers.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hebench.config import plain
from hebench.errors import DataError
from hebench.files import sha256_of_json, write_atomically
from hebench.processes import rank
from hebench.train.adapters import Lora, adapted, final_model, trained_parameters
from hebench.train.chat_data import data_sha256, encode, ensure_template, read_conversations
from hebench.train.checkpoints import (
    CheckpointRecord,
    model_sha256,
    read_checkpoint,
    tokenizer_sha256,
)
from hebench.train.packing import Piece, Rows, write_rows
from hebench.train.settings import TrainingConfig
from hebench.train.stage import StageRecord
from hebench.train.trainer import open_job

_COUNTS_NAME = "conversations.json"  # beside the rows: what went into them


@dataclass(frozen=True, kw_only=True)
class SftConfig:
    """What is trained, the model or adapters, and how."""

    training: TrainingConfig
    lora: Lora | None = None  # None: the whole model


def run(
    config: SftConfig,
    *,
    model: Path,
    data: Path,
    out: Path,
    callbacks: Sequence[Any] = (),
) -> StageRecord:
    """Train and return the stage's record; what is done already is not done again.

    data: JSON Lines of conversations. callbacks: transformers' TrainerCallbacks, called in every
    process. Raises HebenchError.
    """
    inputs = read_inputs(model, data)
    with open_job(out, "sft", config, config.training, inputs) as job:
        if job.record.finished:
            return job.record
        network, tokenizer = job.load(model)
        template = ensure_template(tokenizer)
        job.once(lambda: _write_rows(out, data, tokenizer, config.training))
        rows = Rows(out / "rows")
        end = int(rows[0]["input_ids"][rows[0]["labels"] >= 0][-1])
        # Before training, too: a checkpoint that is asked on the way must not write on and on.
        trained = adapted(stopping_at(end, network), config.lora, config.training.seed)
        parameters = trained_parameters(trained)
        fit = job.fit(
            model=trained,
            tokenizer=tokenizer,
            dataset=rows,
            record=checkpoint_record("sft", out, config, inputs),
            callbacks=callbacks,
        )
        record = read_checkpoint(fit.checkpoint)
        assert record is not None, "the last step was saved"
        job.export(
            out / "model",
            lambda: stopping_at(end, final_model(job, fit, model, config.lora)),
            tokenizer,
            record,
        )
        counts = json.loads((out / _COUNTS_NAME).read_text(encoding="utf-8"))
        return job.finish(
            {
                **counts,
                "chat_template": template,
                "rows": len(rows),
                "filled_share": rows.record.filled,
                "trained_tokens_of_a_pass": rows.record.trained_tokens,
                "trained_parameters": parameters,
                "steps": fit.step,
                "tokens": fit.tokens,
                "loss_nats": fit.loss_nats,
                "training_seconds": round(fit.seconds, 3),
                "checkpoint": fit.checkpoint.name,
            }
        )


def read_inputs(model: Path, data: Path) -> dict[str, str]:
    """Return the SHA-256 of what an alignment stage reads; the first process alone reads it."""
    if rank():
        return {}
    return {
        "model": model_sha256(model),
        "tokenizer": tokenizer_sha256(model),
        "data": data_sha256(data),
    }


def checkpoint_record(
    stage: str, out: Path, config: Any, inputs: dict[str, str]
) -> CheckpointRecord:
    """Return what is known of an alignment stage's checkpoints before it trains."""
    return CheckpointRecord(
        stage=stage,
        run=out.parent.name,
        parent=inputs.get("model"),
        config_sha256=sha256_of_json(plain(config)),
        tokenizer_sha256=inputs.get("tokenizer", ""),
        data_sha256=inputs.get("data", ""),
    )


def stopping_at(token: int, model: Any) -> Any:
    """Return the model, whose generation stops at this token, too, that ends an answer."""
    settings = model.generation_config
    stops = settings.eos_token_id
    stops = [] if stops is None else [stops] if isinstance(stops, int) else list(stops)
    if token not in stops:
        settings.eos_token_id = [*stops, token]
    return model


def _write_rows(out: Path, data: Path, tokenizer: Any, training: TrainingConfig) -> None:
    """Pack the conversations, if that was not done before, and write down how many there were."""
    if (out / "rows").exists():
        return
    counts = {"conversations": 0, "dropped_longer_than_a_row": 0}

    def pieces() -> Iterator[Piece]:
        for talk in tqdm(read_conversations(data), desc="sft: conversations", disable=None):
            piece = encode(tokenizer, talk)
            counts["conversations"] += 1
            if len(piece.tokens) > training.row_tokens:
                counts["dropped_longer_than_a_row"] += 1
            else:
                yield piece
        if counts["conversations"] == counts["dropped_longer_than_a_row"]:
            raise DataError(
                f"{data}: expected a conversation of at most row_tokens = {training.row_tokens} "
                f"tokens, found {counts['conversations']} that are longer; raise row_tokens"
            )
        # Before the rows appear, so that where there are rows there are counts.
        write_atomically(out / _COUNTS_NAME, json.dumps(counts) + "\n")

    write_rows(
        out / "rows",
        pieces(),
        row_tokens=training.row_tokens,
        padding_id=tokenizer.pad_token_id or 0,
    )
