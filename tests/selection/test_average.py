import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from hebench.errors import CheckpointError, ConfigError
from hebench.selection.average import average, averages
from hebench.selection.found import complete
from hebench.train.checkpoints import read_checkpoint
from tests.selection.made_run import add_checkpoint, add_trainers_checkpoint


def folders(run: Path, model: Path, *steps: int) -> list[Path]:
    return [add_checkpoint(run, model, step) for step in steps]


def test_the_average_is_the_mean_of_the_weights(tiny_model: Path, tmp_path: Path) -> None:
    members = folders(tmp_path, tiny_model, 300, 100, 200)
    found = average(members, tmp_path)
    weights = [load_file(folder / "model.safetensors") for folder in members]
    mean = load_file(found.folder / "model.safetensors")
    for name in weights[0]:
        stacked = torch.stack([each[name] for each in weights])
        assert torch.allclose(mean[name], stacked.mean(dim=0), atol=1e-7)
    assert found.averaged == ("checkpoint-100", "checkpoint-200", "checkpoint-300")
    assert (found.step, found.loss_nats) == (300, None)
    assert found.name.startswith("average-100-300-")
    AutoModelForCausalLM.from_pretrained(found.folder)
    assert len(complete(tmp_path)) == 3 and averages(tmp_path) == [found]


def test_it_is_made_once_whatever_the_order(tiny_model: Path, tmp_path: Path) -> None:
    members = folders(tmp_path, tiny_model, 100, 200)
    first = average(members, tmp_path)
    written = (first.folder / "model.safetensors").stat().st_mtime_ns
    assert average(members[::-1], tmp_path) == first
    assert (first.folder / "model.safetensors").stat().st_mtime_ns == written


def test_shards_may_be_cut_differently(tiny_model: Path, tmp_path: Path) -> None:
    members = folders(tmp_path, tiny_model, 100, 200)
    weights = load_file(members[0] / "model.safetensors")
    names = sorted(weights)
    parts = {"model-1.safetensors": names[:5], "model-2.safetensors": names[5:]}
    for part, own in parts.items():
        save_file({name: weights[name] for name in own}, members[0] / part)
    (members[0] / "model.safetensors").unlink()
    index = {"weight_map": {name: part for part, own in parts.items() for name in own}}
    (members[0] / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    found = average(members, tmp_path)
    other = load_file(members[1] / "model.safetensors")
    for part, own in parts.items():
        mean = load_file(found.folder / part)
        assert sorted(mean) == own
        assert all(torch.allclose(mean[n], (weights[n] + other[n]) / 2) for n in own)


def test_reduced_precision_is_summed_in_full(tiny_model: Path, tmp_path: Path) -> None:
    members = folders(tmp_path, tiny_model, *range(100, 900, 100))
    tensors = []
    for folder in members:
        weights = load_file(folder / "model.safetensors")
        half = {name: value.to(torch.bfloat16) for name, value in weights.items()}
        save_file(half, folder / "model.safetensors")
        tensors.append(half)
    mean = load_file(average(members, tmp_path).folder / "model.safetensors")
    for name, value in mean.items():
        exact = torch.stack([half[name].float() for half in tensors]).mean(dim=0)
        assert value.dtype == torch.bfloat16
        assert (value.float() - exact).abs().max() <= 2**-8 * exact.abs().max()


def test_a_plain_trainers_checkpoints_can_be_averaged(tiny_model: Path, tmp_path: Path) -> None:
    members = [add_trainers_checkpoint(tmp_path, tiny_model, step) for step in (1, 2)]
    (members[0] / "optimizer.pt").write_bytes(b"x")
    found = average(members, tmp_path)
    assert not (found.folder / "trainer_state.json").exists()
    assert not (found.folder / "optimizer.pt").exists()
    record = read_checkpoint(found.folder)
    assert record is not None and record.tokens == 128


def test_what_does_not_go_together_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    members = folders(tmp_path, tiny_model, 100, 200, 300, 400, 500)
    with pytest.raises(ConfigError, match="at least two"):
        average(members[:1], tmp_path)
    config = members[1] / "config.json"
    config.write_text(
        config.read_text("utf-8").replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'), "utf-8"
    )
    with pytest.raises(ConfigError, match="one architecture.*checkpoint-100 and checkpoint-200"):
        average(members[:2], tmp_path)
    tokenizer = members[2] / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text("utf-8") + " ", encoding="utf-8")
    with pytest.raises(ConfigError, match="one tokenizer"):
        average([members[0], members[2]], tmp_path)
    weights = load_file(members[3] / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, members[3] / "model.safetensors")
    with pytest.raises(CheckpointError, match="expected a tensor model.norm.weight"):
        average([members[0], members[3]], tmp_path)
    (members[4] / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="expected weights"):
        average([members[0], members[4]], tmp_path)
    shutil.rmtree(members[4])
    with pytest.raises(CheckpointError, match="expected a complete checkpoint"):
        average([members[0], members[4]], tmp_path)
    assert averages(tmp_path) == [] and not list(tmp_path.glob(".average*"))
