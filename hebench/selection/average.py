"""The mean of several checkpoints' weights, as one more candidate.

    >>> average([run / "checkpoint-800", run / "checkpoint-900"], run).name
    'average-800-900-5d1f02ce'

Checkpoints of one run near each other often lie around one minimum, and their mean is then at
least as good as each (Izmailov et al. 2018, arXiv 1803.05407; Li et al. 2023, arXiv 2306.03241).
Weights are summed in float32 and written in their own type, one shard at a time, so that no more
than one shard of the model and one tensor of each checkpoint are in memory.
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hebench.errors import CheckpointError, ConfigError, one_line
from hebench.files import sha256_of_json
from hebench.selection.found import Found, look
from hebench.train.checkpoints import (
    MARKER,
    PIN,
    CheckpointRecord,
    publish,
    read_checkpoint,
    tokenizer_sha256,
)

PREFIX = "average-"
INDEX = "model.safetensors.index.json"
# What of a checkpoint is of the training and not of the model.
_OF_TRAINING = ("trainer_state.json", "training_args.bin", MARKER, PIN)
_MODEL_FILES = (".json", ".jinja", ".model", ".txt")


def average(folders: Sequence[Path], run: Path) -> Found:
    """Write the mean of checkpoints into the run folder and return it; at once if it is there.

    Raises ConfigError for fewer than two, or two that differ in architecture or tokenizer;
    CheckpointError where weights are missing, not of one shape, or not in safetensors.
    """
    if len(folders) < 2:
        raise ConfigError(f"expected at least two checkpoints to average, found {len(folders)}")
    members = []
    for folder in folders:
        each = look(folder)
        if each is None:
            raise CheckpointError(f"{folder}: expected a complete checkpoint, found none")
        members.append(each)
    members.sort(key=lambda each: each.step)
    _require_alike([each.folder for each in members])
    key = sha256_of_json([each.mark for each in members])[:8]
    target = run / f"{PREFIX}{members[0].step}-{members[-1].step}-{key}"
    if look(target) is None:
        publish(target, _writer([each.folder for each in members]), _record(members))
    found = look(target)
    assert found is not None, "just published"
    return found


def averages(run: Path) -> list[Found]:
    """Return the complete averages of a run folder."""
    found = [look(folder) for folder in sorted(run.glob(f"{PREFIX}*"))]
    return [each for each in found if each is not None]


def _record(members: Sequence[Found]) -> CheckpointRecord:
    own = read_checkpoint(members[-1].folder)
    last = own or CheckpointRecord(stage="pretrain", step=members[-1].step)
    return replace(
        last,
        loss_nats=None,  # a mean of weights has a loss of its own, which nobody measured
        tokens=members[-1].tokens or 0,
        metrics={"averaged": [each.name for each in members]},
    )


def _require_alike(folders: Sequence[Path]) -> None:
    for what, read in (("architecture", _architecture), ("tokenizer", tokenizer_sha256)):
        found: list[Any] = [read(folder) for folder in folders]
        other = next(
            (f for f, value in zip(folders, found, strict=True) if value != found[0]), None
        )
        if other is not None:
            raise ConfigError(
                f"expected checkpoints of one {what}, found {folders[0].name} and {other.name} to "
                "differ; average those of one run"
            )


def _architecture(folder: Path) -> str:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: expected a model's configuration, found {one_line(error)}"
        ) from error
    return sha256_of_json(
        {
            key: value
            for key, value in config.items()
            if key not in ("transformers_version", "_name_or_path", "use_cache")
        }
    )


def _writer(folders: Sequence[Path]) -> Callable[[Path], None]:
    def write(work: Path) -> None:
        for path in sorted(folders[0].iterdir()):
            if path.suffix in _MODEL_FILES and path.name not in _OF_TRAINING:
                shutil.copyfile(path, work / path.name)
        for shard, names in _shards(folders[0]).items():
            _write_shard(folders, names, work / shard)

    return write


def _write_shard(folders: Sequence[Path], names: Sequence[str], target: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from tqdm import tqdm

    with contextlib.ExitStack() as opened:
        read = [_reader(folder, opened) for folder in folders]
        mean = {}
        # disable=None: a bar on a terminal, nothing in a log file.
        for name in tqdm(names, desc=f"average {target.name}", unit="tensor", disable=None):
            first = read[0](name)
            total = first.to(torch.float32, copy=True)
            for other in read[1:]:
                tensor = other(name)
                if tensor.shape != first.shape or tensor.dtype != first.dtype:
                    raise CheckpointError(
                        f"{name}: expected {tuple(first.shape)} of {first.dtype} in every "
                        f"checkpoint, found {tuple(tensor.shape)} of {tensor.dtype}"
                    )
                total += tensor.to(torch.float32)
            mean[name] = (total / len(read)).to(first.dtype) if first.is_floating_point() else first
        save_file(mean, target, metadata={"format": "pt"})


def _reader(folder: Path, opened: contextlib.ExitStack) -> Callable[[str], Any]:
    """Return what reads a tensor of a model folder by name."""
    from safetensors import safe_open

    places = {name: shard for shard, names in _shards(folder).items() for name in names}
    files: dict[str, Any] = {}

    def read(name: str) -> Any:
        if name not in places:
            raise CheckpointError(f"{folder}: expected a tensor {name}, found none")
        shard = places[name]
        if shard not in files:
            files[shard] = opened.enter_context(safe_open(folder / shard, framework="pt"))
        return files[shard].get_tensor(name)

    return read


def _shards(folder: Path) -> dict[str, list[str]]:
    """Return the tensors' names by weight file. Raises CheckpointError if there is none."""
    from safetensors import SafetensorError, safe_open

    found = {}
    for path in sorted(folder.glob("model*.safetensors")):
        try:
            with safe_open(path, framework="pt") as stream:
                found[path.name] = sorted(stream.keys())
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: expected weights, found {one_line(error)}") from error
    if not found:
        raise CheckpointError(
            f"{folder}: expected weights in *.safetensors, found none; save the model anew with "
            "save_pretrained()"
        )
    return found
