"""What the model is worth at one point of an adaptation: bits per byte and task scores.

Each point is a folder of its own under `scores/`, `base`, `distil`, `calibrate` ..., with a stage
record (bits per byte and tokens per word by language), `bits_<language>.npz` (passage by passage,
for paired differences) and `tasks/`, a run folder like any other: `hebench compare` and
`hebench board add` take it.
"""

import io
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hebench.adapt.recipe import MeasureConfig
from hebench.errors import CheckpointError, ConfigError, HebenchError, one_line
from hebench.files import write_bytes_atomically
from hebench.harness.run import EvalConfig, evaluate
from hebench.train.checkpoints import model_sha256
from hebench.train.device import loaded_as
from hebench.train.measure import Bits, bits_of, summary
from hebench.train.passages import held_out
from hebench.train.stage import StageRecord, open_stage
from hebench.train.texts import corpus_sha256

T = TypeVar("T")
_LAUNCHER = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What a point's stage record says it was asked."""

    passage_words: int
    source_words: int
    dtype: str
    tasks: tuple[str, ...]
    limit: int | None


def measure(  # noqa: PLR0913 (each is named at the call)
    config: MeasureConfig, *, model: Path, name: str, heldout: Path, limit: int | None, out: Path
) -> StageRecord:
    """Measure `model` into the folder `out`; return its record, at once if it is there already.

    heldout: one folder of documents for each language, named by its code. name: of the model in
    tables. limit: items of a task. The record's metrics are bits per byte and tokens per word by
    language.
    """
    asked = _Asked(
        passage_words=config.passage_words,
        source_words=config.source_words,
        dtype=config.dtype,
        tasks=config.tasks,
        limit=limit,
    )
    inputs = {"model": model_sha256(model), "heldout": corpus_sha256(heldout)}
    with open_stage(out, "measure", asked, inputs) as stage:
        if stage.record.finished:
            return stage.record
        if config.threads:
            torch.set_num_threads(config.threads)
        bits = _bits(config, model, heldout, out)
        if config.tasks:
            asked_of_tasks = EvalConfig(
                model=str(model),
                name=name,
                tasks=config.tasks,
                out=out / "tasks",
                limit=limit,
                dtype=config.dtype,
                device=config.device,
                batch_size=config.batch_size,
            )
            if launched():
                apart(evaluate, asked_of_tasks)
            else:
                evaluate(asked_of_tasks)
        return stage.finish({code: summary(found) for code, found in bits.items()})


def apart(work: Callable[..., T], *arguments: Any) -> T:
    """Return what `work` returns in a process of its own, which knows nothing of the launcher.

    Here, an evaluation would wait for the other processes to share its work, and would leave
    accelerate's state behind, which training sets up otherwise. Raises what `work` raises.
    """
    alone = ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), initializer=_leave_launcher
    )
    with alone as processes:
        try:
            return processes.submit(work, *arguments).result()
        except BrokenProcessPool as error:
            raise HebenchError(
                "the process that evaluates ended without a word: its memory may have been too "
                "little; take a smaller batch_size, or more memory"
            ) from error


def _leave_launcher() -> None:
    for key in list(os.environ):
        if key in _LAUNCHER or key.startswith(("TORCHELASTIC_", "ACCELERATE_", "GROUP_", "ROLE_")):
            del os.environ[key]


def launched() -> bool:
    """Return whether a launcher such as torchrun started this process."""
    return "RANK" in os.environ


def read_bits(folder: Path, code: str) -> Bits:
    """Return the bits that a point's folder holds for one language."""
    with np.load(folder / f"bits_{code}.npz") as saved:
        return Bits(
            bits=saved["bits"],
            size=saved["size"],
            sources=tuple(saved["sources"].tolist()),
            documents=tuple(saved["documents"].tolist()),
            tokens=int(saved["tokens"]),
            words=int(saved["words"]),
        )


def _bits(config: MeasureConfig, model: Path, heldout: Path, out: Path) -> dict[str, Bits]:
    _require_device(config.device)
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
        kind = loaded_as(getattr(torch, config.dtype))
        network = AutoModelForCausalLM.from_pretrained(model, **kind)
    # transformers and safetensors raise many kinds for a damaged file; each is the user's to mend.
    except Exception as error:
        raise CheckpointError(
            f"{model}: expected a causal language model with its tokenizer, found "
            f"{one_line(error)}; give a Hugging Face folder"
        ) from error
    network = network.to(config.device).eval()
    found = {}
    for folder in sorted(path for path in heldout.iterdir() if path.is_dir()):
        passages = held_out(
            folder, words=config.passage_words, per_source_words=config.source_words
        )
        bits = found[folder.name] = bits_of(network, tokenizer, passages)
        packed = io.BytesIO()
        np.savez_compressed(
            packed,
            bits=bits.bits,
            size=bits.size,
            sources=np.array(bits.sources),
            documents=np.array(bits.documents),
            tokens=bits.tokens,
            words=bits.words,
        )
        write_bytes_atomically(out / f"bits_{folder.name}.npz", packed.getvalue())
    return found


def _require_device(name: str) -> None:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, ImportError) as error:  # as the device's library words it
        raise ConfigError(
            f"measure.device: expected a device of this machine, found {name!r} "
            f"({one_line(error, 100)}); set another"
        ) from error
