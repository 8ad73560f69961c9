"""How a model is trained on rows: the numbers that pre-training, SFT and DPO have in common.

A stage's own configuration holds one of these under the key `training`:

    training:
      row_tokens: 4096
      micro_rows: 1
      global_rows: 384       # DictaLM 2.0: 48 processes x 8 accumulated rows
      world_size: 48
      learning_rate: 5e-6
      warmup_steps: 1000
"""

import math
from dataclasses import dataclass
from typing import Literal

from hebench.errors import ConfigError

# Of arithmetic. auto: bf16 where the device is faster in it, fp32 elsewhere.
Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Sizes, optimiser, schedule, precision and saves of one training loop."""

    backend: Literal["auto", "cpu", "cuda", "hpu", "gaudi"] = "auto"
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    world_size: int = 1  # processes that the launcher must have started
    threads: int | None = None  # of the CPU for each process; None leaves PyTorch's choice

    row_tokens: int  # length of a packed row, tokens
    micro_rows: int = 1  # rows of one forward pass of one process
    global_rows: int  # rows of one optimiser step, over all processes
    steps: int | None = None  # optimiser steps; None: `passes` over the rows
    passes: float = 1.0  # over the rows, where `steps` is None
    start_step: int = 0  # steps taken before a weights-only restart: schedule and rows go on there
    seconds: float | None = None  # of training, after which it saves and ends early

    learning_rate: float  # peak
    schedule: Literal["cosine", "linear", "constant"] = "cosine"  # to 0 at the last step
    warmup_steps: int = 0  # linear, from 0 to the peak
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.95
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0  # gradients are scaled down to this L2 norm; 0 leaves them

    precision: Precision = "fp32"  # master weights are fp32
    zero_stage: Literal[0, 1, 2, 3] = 0  # of DeepSpeed; 0: without DeepSpeed
    activation_checkpointing: bool = False  # recompute in the backward pass, to save memory

    save_every: int  # steps
    keep: int = 2  # newest checkpoints kept; pinned ones stay besides
    log_every: int = 1  # steps
    seed: int = 0  # of the order of rows and of dropout
    export_dtype: Literal["bf16", "fp32"] = "bf16"  # of the plain model at the end

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit each other."""
        for name in ("world_size", "micro_rows", "global_rows", "save_every", "keep", "log_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, found {getattr(self, name)}")
        if self.row_tokens < 8:
            raise ConfigError(f"row_tokens: expected at least 8, found {self.row_tokens}")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"seed: expected 0 to {2**32 - 1}, found {self.seed}")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads: expected at least 1, found {self.threads}")
        self._check_schedule()
        rows = self.micro_rows * self.world_size
        if self.global_rows % rows:
            raise ConfigError(
                f"global_rows: expected a multiple of micro_rows x world_size = {rows}, "
                f"found {self.global_rows}"
            )
        if self.backend == "gaudi" and self.attention not in ("auto", "eager"):
            raise ConfigError(
                "attention: backend gaudi keeps packed documents apart with eager attention "
                f"only, found {self.attention}"
            )
        if self.attention == "flash_attention_2" and self.precision == "fp32":
            raise ConfigError(
                "attention: flash_attention_2 computes in bf16, found precision "
                f"{self.precision}; set precision=bf16, or another attention"
            )

    def _check_schedule(self) -> None:
        if self.steps is not None and self.steps <= self.start_step:
            raise ConfigError(f"steps: expected more than {self.start_step}, found {self.steps}")
        if self.steps is not None and self.warmup_steps > self.steps:
            raise ConfigError(
                f"warmup_steps: expected at most steps = {self.steps}, found {self.warmup_steps}"
            )
        for name in ("start_step", "warmup_steps", "weight_decay", "max_grad_norm"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name}: expected 0 or more, found {getattr(self, name)}")
        for name in ("learning_rate", "passes", "adam_epsilon", "seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name}: expected more than 0, found {value}")
        for name in ("adam_beta1", "adam_beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected from 0 to 1, found {getattr(self, name)}")

    @property
    def accumulated(self) -> int:
        """Return the forward passes of one process in one optimiser step."""
        return self.global_rows // (self.micro_rows * self.world_size)

    def total_steps(self, rows: int) -> int:
        """Return the last step's number where the data set has `rows` rows.

        Raises ConfigError if the warm-up is longer.
        """
        if self.steps is not None:
            return self.steps
        total = max(self.start_step + 1, math.ceil(self.passes * rows / self.global_rows))
        if self.warmup_steps > total:
            raise ConfigError(
                f"warmup_steps: expected at most the {total} steps that {rows} rows give "
                f"(passes={self.passes:g}, global_rows={self.global_rows}), found "
                f"{self.warmup_steps}; set fewer, or give more text"
            )
        return total

    def rate_factor(self, step: int, total: int) -> float:
        """Return the share of the peak learning rate, in [0, 1], for the step after `step`."""
        if step < self.warmup_steps:
            return step / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, total - self.warmup_steps)
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "linear":
            return max(0.0, 1.0 - done)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
