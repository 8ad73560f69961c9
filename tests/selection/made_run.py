"""Run folders with checkpoints, and logs, that are made up in a moment."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from hebench.selection.log import Evaluated, TaskItems
from hebench.train.checkpoints import CheckpointRecord, mark_complete

TASK = "hebench_mini_nli"


def add_checkpoint(run: Path, model: Path, step: int, *, noise: float = 0.02) -> Path:
    """Copy a model into a run as a complete checkpoint whose weights are a little its own."""
    folder = run / f"checkpoint-{step}"
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(step)
    for name in sorted(weights):
        weights[name] += noise * torch.randn(weights[name].shape, generator=generator)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    mark_complete(
        folder,
        CheckpointRecord(
            stage="pretrain", step=step, tokens=100 * step, seed=7, loss_nats=4 / step
        ),
    )
    return folder


def add_trainers_checkpoint(run: Path, model: Path, step: int) -> Path:
    """Copy a model into a run as the plain Trainer leaves a checkpoint."""
    folder = run / f"checkpoint-{step}"
    shutil.copytree(model, folder)
    state = {
        "global_step": step,
        "log_history": [{"loss": 3.5, "step": step}],
        "num_input_tokens_seen": 64 * step,
    }
    (folder / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    return folder


def made_items(scores: Sequence[float] | np.ndarray, **more: object) -> TaskItems:
    """Return items of a made-up task with these scores."""
    values: dict[str, object] = {"version": "1.0", "prompt_sha256": "p", "data_sha256": "d"}
    return TaskItems(**{**values, "scores": np.asarray(scores, dtype=np.float32), **more})  # type: ignore[arg-type]


def made_entry(step: int, scores: Sequence[float] | np.ndarray, **more: object) -> Evaluated:
    """Return a line of a log with one task, `task`."""
    values: dict[str, object] = {
        "checkpoint": f"checkpoint-{step}",
        "step": step,
        "tasks": {"task": made_items(scores)},
    }
    return Evaluated(**{**values, **more})  # type: ignore[arg-type]


def made_curve(
    true: Sequence[float],
    items: int = 200,
    *,
    seed: int = 0,
    shared: float = 0.7,
    chance: float | None = None,
) -> list[Evaluated]:
    """Return a log of 0/1 scores around a true curve; items keep their difficulty."""
    generator = np.random.default_rng(seed)
    own = generator.normal(0, np.sqrt(shared), items)
    log = []
    for place, level in enumerate(true):
        latent = own + np.sqrt(1 - shared) * generator.normal(0, 1, items)
        threshold = np.quantile(generator.normal(0, 1, 20_000), level)
        task = made_items(latent < threshold, chance=chance)
        log.append(
            made_entry(100 * (place + 1), [0.0], tasks={"task": task}, loss_nats=5 - 0.1 * place)
        )
    return log
