"""Continued pre-training: next-token prediction on packed rows of several languages.

The model goes on from where calibration left it, on whole documents that do not see each other.
The paper's run: 384 rows of 4,096 tokens a step, half Hebrew, learning rate 5e-6.

    config = build(PretrainConfig, recipe["pretrain"], "recipe.yaml: pretrain")
    run(config, model=RUN/"calibrate/model", corpus=RUN/"corpus", out=RUN/"pretrain")

`corpus` has train/<language>/<source>.jsonl.gz; a document is {"text": "בית הספר נמצא בעיר"}.
`out` gets rows/, checkpoint-N/, log.jsonl (a line a step), and model/, a plain folder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hebench.config import plain
from hebench.errors import ConfigError, DataError
from hebench.files import sha256_of_json
from hebench.processes import rank
from hebench.train.checkpoints import (
    CheckpointRecord,
    model_sha256,
    read_checkpoint,
    sweep,
    tokenizer_sha256,
)
from hebench.train.mixing import Mixture, write_mixture
from hebench.train.settings import TrainingConfig
from hebench.train.stage import StageRecord
from hebench.train.texts import corpus_sha256
from hebench.train.trainer import Fit, Job, open_job


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Which languages in which shares, and how the model is trained on them."""

    shares: Mapping[str, float]  # of the rows by language code; they add up to 1
    training: TrainingConfig
    source_exponent: float = 1.0  # of a source's size: 1 takes sources as they are, 0 all alike

    def __post_init__(self) -> None:
        """Refuse shares that are not shares."""
        if any(share <= 0 for share in self.shares.values()) or not self.shares:
            raise ConfigError(f"shares: expected more than 0 for each, found {dict(self.shares)}")
        if abs(sum(self.shares.values()) - 1) > 1e-6:
            raise ConfigError(f"shares: expected a sum of 1, found {sum(self.shares.values()):.6g}")
        if not 0 <= self.source_exponent <= 1:
            raise ConfigError(f"source_exponent: expected 0 to 1, found {self.source_exponent}")
        if self.source_exponent != 1 and self.training.steps is None:
            raise ConfigError(
                f"source_exponent: {self.source_exponent:g} needs training.steps, since a whole "
                "pass reads every source to its end; name the steps or take it out"
            )


def run(
    config: PretrainConfig,
    *,
    model: Path,
    corpus: Path,
    out: Path,
    callbacks: Sequence[Any] = (),
) -> StageRecord:
    """Train and return the stage's record; what is done already is not done again.

    callbacks: transformers' TrainerCallbacks, called in every process. Raises HebenchError.
    """
    training = config.training
    train = corpus / "train"
    inputs = _inputs(config, model, train) if rank() == 0 else {}
    with open_job(out, "pretrain", config, training, inputs) as job:
        if job.record.finished:
            return job.record
        network, tokenizer = job.load(model)
        rows = None if training.steps is None else training.steps * training.global_rows
        job.once(lambda: sweep(out / "rows"))
        job.once(
            lambda: write_mixture(
                out / "rows",
                train,
                tokenizer,
                shares=config.shares,
                row_tokens=training.row_tokens,
                rows=rows,
                source_exponent=config.source_exponent,
            )
        )
        mixture = Mixture(out / "rows", config.shares)
        record = CheckpointRecord(
            stage="pretrain",
            run=out.parent.name,
            parent=inputs.get("model"),
            config_sha256=sha256_of_json(plain(config)),
            tokenizer_sha256=tokenizer_sha256(model),
            data_sha256=sha256_of_json(inputs),
            metrics={"tied_embeddings": bool(network.config.tie_word_embeddings)},
        )
        fit = job.fit(
            model=network,
            tokenizer=tokenizer,
            dataset=mixture,
            record=record,
            callbacks=callbacks,
        )
        return _finished(job, fit, mixture, tokenizer)


def _inputs(config: PretrainConfig, model: Path, train: Path) -> dict[str, str]:
    """Return the SHA-256 of what the stage reads: a long corpus is read once, by one process."""
    found = {"model": model_sha256(model), "tokenizer": tokenizer_sha256(model)}
    for code in sorted(config.shares):
        if not (train / code).is_dir():
            raise DataError(
                f"{train}: expected a folder {code!r} of training text, found none; "
                "run the corpus stage for it or take it out of the shares"
            )
        found[f"corpus.{code}"] = corpus_sha256(train / code)
    return found


def _finished(job: Job, fit: Fit, mixture: Mixture, tokenizer: Any) -> StageRecord:
    """Export the last checkpoint and return the stage's record with its numbers."""
    record = read_checkpoint(fit.checkpoint)
    assert record is not None, "the last step was saved"
    job.export(job.out / "model", lambda: job.load(fit.checkpoint)[0], tokenizer, record)
    packed = {code: part.record for code, part in mixture.parts.items()}
    return job.finish(
        {
            "steps": fit.step,
            "tokens": fit.tokens,
            "passes": fit.step * job.training.global_rows / len(mixture),
            "loss_nats": fit.loss_nats,
            "training_seconds": round(fit.seconds, 3),
            "tokens_per_second": fit.tokens / max(fit.seconds, 1e-9),
            "rows": dict(mixture.counts),
            "filled_share": {code: packed[code].filled for code in packed},
            "documents_and_pieces": {code: packed[code].pieces for code in packed},
            "tied_embeddings": record.metrics["tied_embeddings"],
        }
    )
