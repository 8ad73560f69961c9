"""LoRA: train small low-rank matrices beside a model's linear layers, and merge them at the end.

DictaLM 2.0 was aligned so: rank 64, alpha 16, on all linear layers except the embeddings. SFT and
DPO train the whole model where their configuration holds no `lora`.

    lora:
      rank: 64
      alpha: 16
      dropout: 0.0

The adapters are in the stage's checkpoint-N; `model/` beside them holds them merged, a model like
any other: "תל אביב" in, text out, without peft.
"""

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hebench.errors import ConfigError
from hebench.train.trainer import Fit, Job


@dataclass(frozen=True, kw_only=True)
class Lora:
    """The size of the adapters (Hu et al. 2021)."""

    rank: int
    alpha: int  # the product of the matrices is scaled by alpha / rank
    dropout: float  # of the adapters' inputs in training, in [0, 1)

    def __post_init__(self) -> None:
        """Refuse sizes that are none."""
        if self.rank < 1 or self.alpha < 1 or not 0 <= self.dropout < 1:
            raise ConfigError(
                "lora: expected a rank from 1, an alpha from 1 and a dropout in [0, 1), "
                f"found {self.rank}, {self.alpha} and {self.dropout}"
            )


def adapted(model: Any, lora: Lora | None, seed: int) -> Any:
    """Return what is to be trained: the model, or adapters around it, which change nothing yet."""
    if lora is None:
        return model
    import peft

    torch.manual_seed(seed)  # every process must draw the same first matrices
    settings = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",  # peft leaves the output layer out
        task_type="CAUSAL_LM",
    )
    with _quiet():
        return peft.get_peft_model(model, settings)


def final_model(job: Job, fit: Fit, start: Path, lora: Lora | None) -> Any:
    """Return the trained model, on the CPU in fp32; adapters are merged into that of `start`."""
    if lora is None:
        return job.load(fit.checkpoint)[0]
    return with_adapters(job.load(start)[0], fit.checkpoint).merge_and_unload()


def with_adapters(model: Any, checkpoint: Path) -> Any:
    """Return the model with a checkpoint's adapters beside its layers."""
    import peft

    with _quiet():
        return peft.PeftModel.from_pretrained(model, checkpoint)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back a warning of transformers 5 about a name that peft asks for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        yield


def trained_parameters(model: Any) -> int:
    """Return how many numbers of a model are trained."""
    # Where ZeRO 3 has divided a weight, what is here is empty, and it says how long the whole is.
    return sum(
        getattr(weight, "ds_numel", weight.numel())
        for weight in model.parameters()
        if weight.requires_grad
    )
