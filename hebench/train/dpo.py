"""Direct preference optimisation: a chat model learns which of two answers is the better one.

The reference is the model as it was at the beginning; what it gives to each answer is computed
once, with the same mask as in training, and kept in the stage's folder, so that one model is in
memory and not two. The paper's run: beta 0.01, LoRA as in SFT, learning rate 5e-7, one pass, a
tenth of the pairs about language alone.

    config = build(DpoConfig, recipe["dpo"], "recipe.yaml: dpo")
    run(config, model=RUN/"sft/model", data=Path("chat_pairs_he.jsonl"), out=RUN/"dpo")

A line of `data`: {"prompt": "מה בירת קנדה?", "chosen": "אוטווה.", "rejected": "Ottawa."}
(`hebench.train.preferences`). `out` gets reference/, checkpoint-N/, log.jsonl (with rewards and
accuracy) and model/. The loss is that of Rafailov et al. 2023, equation 7; a test holds loss,
rewards and the course of a training to TRL's numbers.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from tqdm import tqdm

from hebench.errors import ConfigError, DataError
from hebench.train.adapters import Lora, adapted, final_model, trained_parameters
from hebench.train.chat_data import encode, ensure_template
from hebench.train.checkpoints import read_checkpoint, sweep
from hebench.train.device import Backend, Batch, logits_of
from hebench.train.loop import LOG_NAME
from hebench.train.objective import Objective
from hebench.train.pairs import Pair, PairRows, answer_logs, read_references, write_references
from hebench.train.preferences import Preference, limit_language_pairs, read_preferences
from hebench.train.settings import TrainingConfig
from hebench.train.sft import checkpoint_record, read_inputs
from hebench.train.stage import StageRecord
from hebench.train.trainer import Job, open_job


@dataclass(frozen=True, kw_only=True)
class DpoConfig:
    """How far the model may go from its reference, what is trained, and how."""

    beta: float  # nats of reward per nat of log-probability gained over the reference
    language_share: float | None = None  # of language pairs among all, at most; None: all there are
    training: TrainingConfig
    lora: Lora | None = None  # None: the whole model

    def __post_init__(self) -> None:
        """Refuse what cannot be carried out."""
        if not self.beta > 0:
            raise ConfigError(f"beta: expected more than 0, found {self.beta}")
        if self.language_share is not None and not 0 <= self.language_share < 1:
            raise ConfigError(
                f"language_share: expected a share from 0 to below 1, found {self.language_share}"
            )
        if self.training.zero_stage == 3:
            raise ConfigError(
                "zero_stage: DPO asks the whole model for its reference before training, and "
                "stage 3 divides it; expected 0, 1 or 2"
            )


def run(
    config: DpoConfig,
    *,
    model: Path,
    data: Path,
    out: Path,
    callbacks: Sequence[Any] = (),
) -> StageRecord:
    """Train and return the stage's record; what is done already is not done again.

    data: JSON Lines of preferences. callbacks: transformers' TrainerCallbacks, called in every
    process. Raises HebenchError.
    """
    inputs = read_inputs(model, data)
    with open_job(out, "dpo", config, config.training, inputs) as job:
        if job.record.finished:
            return job.record
        network, tokenizer = job.load(model)
        ensure_template(tokenizer)
        rows, counts = packed_pairs(config, data, tokenizer)
        _refer(job, network, rows)
        trained = adapted(network, config.lora, config.training.seed)
        parameters = trained_parameters(trained)
        fit = job.fit(
            model=trained,
            tokenizer=tokenizer,
            dataset=rows,
            record=checkpoint_record("dpo", out, config, inputs),
            objective=preference_objective(config.beta),
            callbacks=callbacks,
        )
        record = read_checkpoint(fit.checkpoint)
        assert record is not None, "the last step was saved"
        job.export(
            out / "model", lambda: final_model(job, fit, model, config.lora), tokenizer, record
        )
        return job.finish(
            {
                **counts,
                "rows": len(rows),
                "filled_share": rows.filled,
                "trained_parameters": parameters,
                "steps": fit.step,
                "tokens": fit.tokens,
                **_first_and_last(out / LOG_NAME),
                "training_seconds": round(fit.seconds, 3),
                "checkpoint": fit.checkpoint.name,
            }
        )


def preference_objective(beta: float) -> Objective:
    """Return the objective over rows of pairs: -log sigmoid of the difference in reward.

    An answer's reward is beta times what the model gives to it more than the reference did, in
    nats. Logged as means per pair: the rewards, their difference (margin), and in how many pairs
    the chosen answer has the higher one (accuracy).
    """

    def count(batch: Batch) -> torch.Tensor:
        return _present(batch).sum()

    def total(
        model: Any, batch: Batch, backend: Backend
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        reference = batch["reference"]
        logits = logits_of(model, batch, backend)
        logs = answer_logs(logits, batch, reference.shape[1] * 2).view_as(reference)
        present = _present(batch)
        chosen, rejected = (beta * (logs - reference)[present]).unbind(-1)
        margin = chosen - rejected
        return -functional.logsigmoid(margin).sum(), {
            "chosen_reward": chosen.sum(),
            "rejected_reward": rejected.sum(),
            "margin": margin.sum(),
            "accuracy": (margin > 0).float().sum(),
        }

    return Objective(count=count, total=total)


def _present(batch: Batch) -> torch.Tensor:
    """Return, as (B, R), where a row has a pair."""
    return ~batch["reference"][..., 0].isnan()


def packed_pairs(config: DpoConfig, data: Path, tokenizer: Any) -> tuple[PairRows, dict[str, int]]:
    """Return the packed pairs, without reference, and how many there were."""
    preferences = read_preferences(data)
    longest = config.training.row_tokens
    fitting: list[tuple[Pair, bool]] = []
    for item in tqdm(preferences, desc="dpo: pairs", disable=None):
        pair = _encoded(tokenizer, item)
        if sum(len(piece.tokens) for piece in pair) <= longest:
            fitting.append((pair, item.about_language))
    if not fitting:
        raise DataError(
            f"{data}: expected a pair whose answers fit a row of row_tokens = {longest} together "
            f"with their prompts, found none of {len(preferences)}; raise row_tokens"
        )
    kept = fitting
    if config.language_share is not None:
        share, seed = config.language_share, config.training.seed
        kept = [
            fitting[i] for i in limit_language_pairs([about for _, about in fitting], share, seed)
        ]
    if not kept:
        raise DataError(
            f"{data}: expected pairs about more than language, of which language_share = "
            f"{config.language_share:g} may be about it alone, found none among {len(fitting)}; "
            "add such pairs, or leave language_share out"
        )
    rows = PairRows(
        [pair for pair, _ in kept], row_tokens=longest, padding_id=tokenizer.pad_token_id or 0
    )
    return rows, {
        "pairs": len(kept),
        "language_pairs": sum(about for _, about in kept),
        "dropped_longer_than_a_row": len(preferences) - len(fitting),
    }


def _encoded(tokenizer: Any, item: Preference) -> Pair:
    chosen, rejected = (encode(tokenizer, talk, last_only=True) for talk in item.talks)
    return chosen, rejected


def _refer(job: Job, model: Any, rows: PairRows) -> None:
    """Give the rows their reference, computed now or earlier by the model before training."""
    folder = job.out / "reference"
    job.once(lambda: sweep(folder))
    model.to(job.device)
    write_references(folder, rows, model, job.backend, job.training)
    job.once(lambda: None)  # until all processes have written theirs
    rows.reference = read_references(folder, rows)


def _first_and_last(log: Path) -> dict[str, float]:
    """Return loss, margin and accuracy of a log's first line and of its last."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return {
        f"{when}_{name}": line[name]
        for when, line in (("first", lines[0]), ("last", lines[-1]))
        for name in ("loss_nats", "margin", "accuracy")
    }
