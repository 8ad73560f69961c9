import os
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from hebench.errors import CheckpointError
from hebench.selection.found import complete, is_done, look
from hebench.train.checkpoints import MARKER
from tests.selection.made_run import add_checkpoint, add_trainers_checkpoint, made_entry


def test_our_checkpoints_are_complete_with_their_marker(tiny_model: Path, tmp_path: Path) -> None:
    for step in (200, 1000, 30):
        add_checkpoint(tmp_path, tiny_model, step)
    (tmp_path / "checkpoint-30" / MARKER).unlink()
    (tmp_path / "checkpoint-best").mkdir()
    found = complete(tmp_path)
    assert [(each.name, each.tokens, each.seed) for each in found] == [
        ("checkpoint-200", 20_000, 7),
        ("checkpoint-1000", 100_000, 7),
    ]


def test_a_plain_trainers_checkpoint_is_complete_too(tiny_model: Path, tmp_path: Path) -> None:
    add_trainers_checkpoint(tmp_path, tiny_model, 40)
    (found,) = complete(tmp_path)
    assert (found.step, found.tokens, found.loss_nats) == (40, 2560, 3.5)


def test_a_trainers_checkpoint_is_known_by_its_weights_too(
    tiny_model: Path, tmp_path: Path
) -> None:
    (folder,) = [add_trainers_checkpoint(tmp_path / "one", tiny_model, 40)]
    first, copied = look(folder), look(shutil.copytree(folder, tmp_path / "copied/checkpoint-40"))
    os.utime(tmp_path / "copied/checkpoint-40/model.safetensors", (1, 1))
    # The state says the same until the first log, whatever was trained on.
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: value * 1.001 for name, value in weights.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    again, anew = look(tmp_path / "copied/checkpoint-40"), look(folder)
    assert first and copied and again and anew
    assert first.mark == copied.mark == again.mark != anew.mark


@pytest.mark.parametrize("left", [0, 4, 100, -1])
def test_weights_cut_short_are_not_complete(tiny_model: Path, tmp_path: Path, left: int) -> None:
    folder = add_trainers_checkpoint(tmp_path, tiny_model, 40)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:left])
    assert look(folder) is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("trainer_state.json", '{"global_step": 4'),
        ("trainer_state.json", "[]"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "model-2.safetensors"}}'),
        ("model.safetensors.index.json", "{"),
    ],
)
def test_a_half_written_folder_is_not_complete(
    tiny_model: Path, tmp_path: Path, name: str, content: str
) -> None:
    folder = add_trainers_checkpoint(tmp_path, tiny_model, 40)
    (folder / name).write_text(content, encoding="utf-8")
    assert complete(tmp_path) == []


def test_no_weights_are_no_checkpoint(tiny_model: Path, tmp_path: Path) -> None:
    folder = add_trainers_checkpoint(tmp_path, tiny_model, 40)
    (folder / "model.safetensors").unlink()
    assert look(folder) is None
    shutil.rmtree(folder)
    assert look(folder) is None


def test_a_run_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a run folder"):
        complete(tmp_path / "none")


def test_a_checkpoint_is_done_if_its_own_line_has_the_items_asked(
    tiny_model: Path, tmp_path: Path
) -> None:
    found = look(add_checkpoint(tmp_path, tiny_model, 100))
    assert found is not None

    def done(**settings: object) -> bool:
        return is_done(found, {found.name: made_entry(100, [1.0], settings=settings)}, "abc")

    assert done(asked="abc", mark=found.mark)
    assert not done(asked="abc", mark=None)  # asked in training: nobody knows of which weights
    assert not done(asked="abc", mark="of an earlier run")
    assert not done(asked="other items", mark=found.mark)
    assert not done(asked="other items", mark=found.mark, earlier=[{"asked": "abc"}])
    earlier = [{"asked": "abc", "mark": found.mark}]
    assert done(asked="other items", mark=found.mark, earlier=earlier)
    assert not is_done(found, {}, "abc")
