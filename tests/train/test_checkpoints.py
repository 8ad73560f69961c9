import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hebench.errors import CheckpointError
from hebench.train import checkpoints
from hebench.train.checkpoints import (
    CheckpointRecord,
    can_be_a_model,
    complete_checkpoints,
    discard,
    model_sha256,
    pin,
    publish,
    read_checkpoint,
    rotate,
    settle,
    sweep,
    unpin,
)


def saved(run: Path, step: int, text: str = "weights") -> Path:
    """Publish a checkpoint of one file; return its folder."""
    record = CheckpointRecord(stage="pretrain", step=step)
    folder = run / f"checkpoint-{step}"
    return publish(folder, lambda work: _write(work, text), record)


def _write(work: Path, text: str) -> None:
    (work / "model.safetensors").write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_reads_back_as_it_was_marked(tmp_path: Path) -> None:
    record = CheckpointRecord(stage="sft", step=7, tokens=99, loss_nats=2.5, world_size=48)
    folder = publish(tmp_path / "checkpoint-7", lambda work: _write(work, "w"), record)
    assert read_checkpoint(folder) == record
    assert read_checkpoint(tmp_path) is None
    assert names(tmp_path) == ["checkpoint-7"]
    assert (folder / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_a_save_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    saved(tmp_path, 1, "old")

    def full(work: Path) -> None:
        _write(work, "half")
        raise OSError(28, "No space left on device")

    with pytest.raises(
        CheckpointError, match="checkpoint-1: expected to write it, .*No space left"
    ):
        publish(tmp_path / "checkpoint-1", full, CheckpointRecord(stage="pretrain", step=1))
    assert names(tmp_path) == ["checkpoint-1"]
    assert (tmp_path / "checkpoint-1" / "model.safetensors").read_text() == "old"


@pytest.mark.parametrize("step", [None, 4])
def test_a_full_disk_is_one_line_whoever_writes(
    tmp_path: Path, tiny_model_folder: Callable[..., Path], step: int | None
) -> None:
    """A limit on file sizes stands for the disk."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    given = tiny_model_folder(tmp_path / "given")
    parts = [kind.from_pretrained(given) for kind in (AutoModelForCausalLM, AutoTokenizer)]
    run = tmp_path / "run"
    if step is not None:
        saved(run, step)
    record = CheckpointRecord(stage="distil")
    message = limited(lambda: checkpoints.save_model(run / "model", *parts, record))
    assert message.startswith(f"{run / 'model'}: expected to write it, found ")
    assert message.endswith("run again" + (f", which goes on from checkpoint-{step}" * bool(step)))
    assert names(run) == [f"checkpoint-{step}"] * bool(step)


def limited(write: Callable[[], Any]) -> str:
    """Return what is said where no file can be longer than 100,000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(CheckpointError) as caught:
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    return str(caught.value)


@pytest.mark.parametrize(
    ("stage", "file", "expected"),
    [
        ("pretrain", "config.json", True),
        ("sft", "config.json", True),
        ("sft", "adapter_config.json", False),
        ("dpo", "config.json", False),  # its reference would move
    ],
)
def test_a_stage_can_begin_anew_with_a_whole_model(
    tmp_path: Path, stage: str, file: str, expected: bool
) -> None:
    (tmp_path / file).write_text("{}")
    assert can_be_a_model(tmp_path, CheckpointRecord(stage=stage)) == expected


def test_another_failure_than_a_write_s_is_not_taken_for_one(tmp_path: Path) -> None:
    def broken(work: Path) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        publish(tmp_path / "model", broken, CheckpointRecord(stage="distil"))


@pytest.mark.parametrize("moment", ["mark_complete", "discard", "_sync"])
def test_a_save_cut_off_at_any_moment_leaves_nothing_half_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    saved(tmp_path, 2, "old")
    work = tmp_path / ".saving.tmp"
    work.mkdir()
    _write(work, "new")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, moment, killed)
    with pytest.raises(KeyboardInterrupt):
        settle(work, tmp_path / "checkpoint-2", CheckpointRecord(stage="pretrain", step=2))
    (found,) = complete_checkpoints(tmp_path)
    expected = "new" if moment == "_sync" else "old"
    assert (found / "model.safetensors").read_text() == expected


def test_the_newest_is_the_one_of_the_highest_step_that_is_complete(tmp_path: Path) -> None:
    for step in (100, 20, 3):
        saved(tmp_path, step)
    (tmp_path / "checkpoint-200").mkdir()
    (tmp_path / "checkpoint-200" / "model.safetensors").write_text("cut off")
    (tmp_path / "checkpoint-old").mkdir()
    found = [path.name for path in complete_checkpoints(tmp_path)]
    assert found == ["checkpoint-3", "checkpoint-20", "checkpoint-100"]


def test_rotation_keeps_the_newest_and_the_pinned(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4, 5):
        saved(tmp_path, step)
    pin(tmp_path / "checkpoint-2", "best on hebench_select")
    assert [path.name for path in rotate(tmp_path, 2)] == ["checkpoint-1", "checkpoint-3"]
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-4", "checkpoint-5"]
    unpin(tmp_path / "checkpoint-2")
    unpin(tmp_path / "checkpoint-2")
    rotate(tmp_path, 1)
    assert names(tmp_path) == ["checkpoint-5"]


def test_a_removal_that_is_cut_off_leaves_nothing_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tmp_path, 1)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            discard(folder)
    assert complete_checkpoints(tmp_path) == []
    (tmp_path / ".log.jsonl.x.tmp").write_text("cut off")
    sweep(tmp_path)
    assert names(tmp_path) == []


def test_a_damaged_marker_is_named(tmp_path: Path) -> None:
    folder = saved(tmp_path, 1)
    (folder / checkpoints.MARKER).write_text('{"stage": ')
    with pytest.raises(CheckpointError, match=r"hebench.json: expected a checkpoint's record"):
        complete_checkpoints(tmp_path)


def test_a_model_is_known_by_its_record_or_by_its_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"with config.json, found none"):
        model_sha256(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    _write(tmp_path, "one")
    bare = model_sha256(tmp_path)
    _write(tmp_path, "two")
    assert model_sha256(tmp_path) != bare
    (tmp_path / checkpoints.MARKER).write_text(json.dumps({"stage": "distil"}))
    marked = model_sha256(tmp_path)
    _write(tmp_path, "one")
    assert model_sha256(tmp_path) == marked
