"""What keeps a model from being measured, or trained, is said in one line."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hebench.adapt.measure import measure
from hebench.adapt.recipe import MeasureConfig
from hebench.errors import CheckpointError, ConfigError
from hebench.models import tiny
from hebench.train.device import load_model
from tests.train.made_rows import make_corpus


@pytest.fixture
def model(tmp_path: Path) -> Path:
    texts = ["The old ferry left the harbour at seven in the morning."]
    return tiny.make(tmp_path / "model", texts)


def measured(model: Path, **changes: Any) -> None:
    folder = model.parent
    heldout = make_corpus(folder / "corpus") / "train"
    config = dataclasses.replace(MeasureConfig(threads=1), **changes)
    measure(config, model=model, name="x", heldout=heldout, limit=None, out=folder / "out")


def trained(model: Path) -> None:
    load_model(model, "sdpa")


def pointer(model: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 5\n"
    (model / "model.safetensors").write_text(text, encoding="utf-8")


def nothing(model: Path) -> None:
    (model / "model.safetensors").unlink()


def other_shape(model: Path) -> None:
    path = model / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | {"hidden_size": 2 * content["hidden_size"]}), "utf-8")


@pytest.mark.parametrize("done", [measured, trained])
@pytest.mark.parametrize("damage", [pointer, nothing, other_shape])
def test_weights_that_are_none_are_one_line(
    model: Path, done: Callable[[Path], None], damage: Callable[[Path], None]
) -> None:
    damage(model)
    with pytest.raises(CheckpointError, match="model: expected a causal language model") as caught:
        done(model)
    assert "\n" not in str(caught.value)


def test_a_device_that_is_not_here_is_one_line(model: Path) -> None:
    with pytest.raises(ConfigError, match="measure.device: expected a device of this machine, fou"):
        measured(model, device="gpu")
