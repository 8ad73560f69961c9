import dataclasses
import gc
import itertools
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from hebench.errors import CheckpointError, ConfigError, DataError, HebenchError
from hebench.train import device, loop, pretrain
from hebench.train.checkpoints import (
    CheckpointRecord,
    complete_checkpoints,
    pin,
    read_checkpoint,
)
from hebench.train.device import Backend
from hebench.train.mixing import Mixture, Ordered
from hebench.train.packing import PADDING
from hebench.train.pretrain import PretrainConfig
from hebench.train.stage import open_stage
from hebench.train.trainer import open_job
from tests.conftest import DEVICE
from tests.train.made_rows import SHARES, curve, make_corpus, pretraining, training

# Of logits in float32; other shapes are other kernels on a GPU (1.5e-5 seen on an H200).
ROUNDING = 1e-5 if DEVICE == "cpu" else 3e-5


@pytest.fixture(scope="module")
def model(tiny_model_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def unbroken(model: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of six steps."""
    out = tmp_path_factory.mktemp("unbroken") / "pretrain"
    pretrain.run(pretraining(), model=model, corpus=corpus, out=out)
    return out


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two things that take most of a tiny run's time and decide nothing in one process.

    Waiting for the disk only matters where the machine dies; and accelerate collects garbage at
    the start of each run, among all that the libraries made at import.
    """
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    gc.freeze()
    yield
    gc.unfreeze()


class Stopped(Exception):
    """Stands for a kill."""


class At(TrainerCallback):  # type: ignore[misc]
    """Does something at the start of the step after `step`."""

    def __init__(self, step: int, act: Callable[[Any], None]) -> None:
        self.step, self.act = step, act

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            self.act(kwargs["model"])


def stop(_: Any = None) -> None:
    raise Stopped


def test_the_loss_falls_and_the_record_says_what_was_done(unbroken: Path) -> None:
    record = json.loads((unbroken / "stage.json").read_text())
    lines = curve(unbroken)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[-1]["loss_nats"] < lines[0]["loss_nats"] - 0.3
    metrics = record["metrics"]
    assert metrics["steps"] == 6
    assert metrics["tokens"] == lines[-1]["tokens"] <= 6 * 4 * 64
    assert min(metrics["filled_share"].values()) > 0.9
    assert metrics["tied_embeddings"] is True
    assert metrics["passes"] == pytest.approx(24 / sum(metrics["rows"].values()))
    assert lines[0]["learning_rate"] == 1e-3


def test_checkpoints_are_rotated_and_carry_their_record(unbroken: Path) -> None:
    kept = complete_checkpoints(unbroken)
    assert [folder.name for folder in kept] == ["checkpoint-4", "checkpoint-6"]
    record, line = read_checkpoint(kept[0]), curve(unbroken)[3]
    assert record is not None
    assert (record.stage, record.step, record.world_size) == ("pretrain", 4, 1)
    assert (record.tokens, record.loss_nats) == (line["tokens"], line["loss_nats"])
    assert record.config_sha256 and record.data_sha256 and record.parent
    assert not [path for path in unbroken.iterdir() if path.name.endswith(".tmp")]
    assert not (kept[0] / "training_args.bin").exists()


def test_the_exported_model_is_plain_and_generates_with_a_cache(unbroken: Path) -> None:
    exported = AutoModelForCausalLM.from_pretrained(unbroken / "model")
    stored = load_file(unbroken / "model" / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.bfloat16}
    assert exported.config.use_cache is True
    last = AutoModelForCausalLM.from_pretrained(unbroken / "checkpoint-6")
    assert last.config.use_cache is True
    for name, value in last.state_dict().items():
        assert torch.equal(value.to(torch.bfloat16), exported.state_dict()[name])
    assert len(AutoTokenizer.from_pretrained(unbroken / "model")) == 400
    record = read_checkpoint(unbroken / "model")
    assert record is not None and record.step == 6
    assert "optimizer.pt" not in [path.name for path in (unbroken / "model").iterdir()]


def test_a_finished_stage_is_not_done_again(unbroken: Path, model: Path, corpus: Path) -> None:
    before = (unbroken / "stage.json").read_bytes()
    record = pretrain.run(
        pretraining(), model=model, corpus=corpus, out=unbroken, callbacks=[At(0, stop)]
    )
    assert record.finished
    assert (unbroken / "stage.json").read_bytes() == before


@pytest.mark.parametrize("step", [1, 3])
def test_a_resumed_run_equals_the_unbroken_one(
    tmp_path: Path, unbroken: Path, model: Path, corpus: Path, step: int
) -> None:
    with pytest.raises(Stopped):
        pretrain.run(
            pretraining(), model=model, corpus=corpus, out=tmp_path, callbacks=[At(step, stop)]
        )
    assert len(curve(tmp_path)) == step
    (tmp_path / "rows" / ".he.abc.tmp").mkdir()  # a packing that was killed
    pretrain.run(pretraining(), model=model, corpus=corpus, out=tmp_path)
    assert sorted(path.name for path in (tmp_path / "rows").iterdir()) == ["en", "he"]
    assert curve(tmp_path) == curve(unbroken)
    ours, theirs = (
        AutoModelForCausalLM.from_pretrained(folder / "checkpoint-6").state_dict()
        for folder in (tmp_path, unbroken)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_cut_off_in_a_save_goes_on_from_the_save_before(
    tmp_path: Path, unbroken: Path, model: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle = loop.settle

    def cut(work: Path, folder: Path, record: Any) -> None:
        if record.step == 4:
            (folder.parent / "checkpoint-4").mkdir()  # as if it had been half copied
            stop()
        settle(work, folder, record)

    monkeypatch.setattr(loop, "settle", cut)
    with pytest.raises(Stopped):
        pretrain.run(pretraining(), model=model, corpus=corpus, out=tmp_path)
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["checkpoint-2"]
    monkeypatch.undo()
    with (tmp_path / "log.jsonl").open("a") as stream:
        stream.write('{"step": 5, "loss')  # the line was being written
    pretrain.run(pretraining(), model=model, corpus=corpus, out=tmp_path)
    assert curve(tmp_path) == curve(unbroken)


def test_a_loss_that_is_no_number_stops_before_the_weights_and_names_its_rows(
    tmp_path: Path, unbroken: Path, model: Path, corpus: Path
) -> None:
    def poison(network: Any) -> None:
        torch.nn.init.constant_(network.model.norm.weight, float("nan"))

    with pytest.raises(DataError) as caught:
        pretrain.run(
            pretraining(), model=model, corpus=corpus, out=tmp_path, callbacks=[At(4, poison)]
        )
    message = str(caught.value)
    assert "step 5: expected a finite loss" in message
    assert "the last good checkpoint is checkpoint-4" in message
    assert "with start_step=4) in another folder with a lower learning_rate" in message
    rows = loop_rows(tmp_path, step=5)
    assert f"the loss of rows {sorted(rows[:2])} is nan" in message
    assert [line["step"] for line in curve(tmp_path)] == [1, 2, 3, 4]
    pretrain.run(pretraining(), model=model, corpus=corpus, out=tmp_path)
    assert curve(tmp_path) == curve(unbroken)


def loop_rows(out: Path, step: int) -> list[int]:
    """Return the numbers of the rows that a step of `pretraining()` sees."""
    ordered = Ordered(Mixture(out / "rows", SHARES), first=0, last=24, seed=0)
    return [int(ordered[index]["row"]) for index in range(4 * (step - 1), 4 * step)]


def test_a_gradient_that_is_no_number_is_never_saved(
    tmp_path: Path, model: Path, corpus: Path
) -> None:
    def overflow(network: Any) -> None:
        network.model.norm.weight.register_hook(lambda slope: slope * float("inf"))

    with pytest.raises(DataError, match="the norm of the gradient at step 4 is") as caught:
        pretrain.run(
            pretraining(), model=model, corpus=corpus, out=tmp_path, callbacks=[At(3, overflow)]
        )
    assert "the last good checkpoint is checkpoint-2" in str(caught.value)
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["checkpoint-2"]


@pytest.mark.parametrize("limit", [100_000, 500_000])
def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_room(
    tmp_path: Path, unbroken: Path, model: Path, corpus: Path, limit: int
) -> None:
    """A limit on file sizes stands for the disk: it cuts the weights, or the optimiser's state."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(_: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))

    try:
        with pytest.raises(CheckpointError) as caught:
            pretrain.run(
                pretraining(), model=model, corpus=corpus, out=tmp_path, callbacks=[At(3, fill)]
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    message = str(caught.value)
    assert "checkpoint-4: expected to write it, found" in message
    assert "run again, which goes on from checkpoint-2" in message
    assert "\n" not in message
    assert [path.name for path in tmp_path.glob("*checkpoint*")] == ["checkpoint-2"]
    assert not (tmp_path / ".saving.tmp").exists()
    pretrain.run(pretraining(), model=model, corpus=corpus, out=tmp_path)
    assert curve(tmp_path) == curve(unbroken)


def test_another_number_of_processes_is_refused_with_the_way_out(
    tmp_path: Path, model: Path, corpus: Path
) -> None:
    with pytest.raises(Stopped):
        pretrain.run(
            pretraining(), model=model, corpus=corpus, out=tmp_path, callbacks=[At(3, stop)]
        )
    with pytest.raises(CheckpointError) as caught:
        pretrain.run(pretraining(world_size=2), model=model, corpus=corpus, out=tmp_path)
    message = str(caught.value)
    assert "checkpoint-2: expected a checkpoint of 2 processes, found one of 1" in message
    assert "start_step=2" in message


def test_from_the_weights_alone_schedule_and_rows_go_on_where_they_were(
    tmp_path: Path, unbroken: Path, corpus: Path
) -> None:
    config = pretraining(start_step=4)
    pretrain.run(config, model=unbroken / "checkpoint-4", corpus=corpus, out=tmp_path)
    lines, theirs = curve(tmp_path), curve(unbroken)[4:]
    assert [line["step"] for line in lines] == [5, 6]
    assert [line["learning_rate"] for line in lines] == [line["learning_rate"] for line in theirs]
    # the same rows before the first update; Adam's memory is gone after it
    assert lines[0]["loss_nats"] == theirs[0]["loss_nats"]
    assert lines[1]["loss_nats"] != theirs[1]["loss_nats"]
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["checkpoint-6"]


@pytest.mark.parametrize(
    "changes",
    [
        {"micro_rows": 1},
        {"attention": "eager", "activation_checkpointing": True},
    ],
)
def test_how_a_step_is_computed_leaves_its_loss(
    tmp_path: Path, unbroken: Path, model: Path, corpus: Path, changes: dict[str, Any]
) -> None:
    pretrain.run(pretraining(**changes), model=model, corpus=corpus, out=tmp_path)
    for ours, theirs in zip(curve(tmp_path), curve(unbroken), strict=True):
        assert ours["loss_nats"] == pytest.approx(theirs["loss_nats"], abs=2e-5)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)


def test_bf16_arithmetic_trains_fp32_weights(
    tmp_path: Path, unbroken: Path, model: Path, corpus: Path
) -> None:
    pretrain.run(pretraining(precision="bf16"), model=model, corpus=corpus, out=tmp_path)
    for ours, theirs in zip(curve(tmp_path), curve(unbroken), strict=True):
        assert ours["loss_nats"] == pytest.approx(theirs["loss_nats"], rel=0.02)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint-6")
    assert saved.dtype == torch.float32


@pytest.mark.skipif(DEVICE != "cpu", reason="of processors")
def test_a_run_goes_on_in_the_precision_that_a_trial_chose_at_its_start(
    tmp_path: Path, unbroken: Path, model: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = pretraining(precision="auto")
    for name, later in (("whole", True), ("broken", False)):
        monkeypatch.setattr(device, "_multiplies_faster_in_bf16", lambda: True)
        with monkeypatch.context() as patch, pytest.raises(Stopped):
            patch.setattr(pretrain, "_finished", lambda *_: stop())
            pretrain.run(config, model=model, corpus=corpus, out=tmp_path / name)
        for folder in complete_checkpoints(tmp_path / name)[1:] if name == "broken" else []:
            shutil.rmtree(folder)
        monkeypatch.setattr(device, "_multiplies_faster_in_bf16", lambda later=later: later)
        record = pretrain.run(config, model=model, corpus=corpus, out=tmp_path / name)
        assert (
            record.metrics["precision"] == "bf16"
            and record.config["training"]["precision"] == "auto"
        )
    assert curve(tmp_path / "broken") == curve(tmp_path / "whole") != curve(unbroken)


def test_the_recipe_s_precision_counts_not_the_launcher_s(
    tmp_path: Path, unbroken: Path, model: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    pretrain.run(pretraining(), model=model, corpus=corpus, out=tmp_path)
    assert [line["loss_nats"] for line in curve(tmp_path)] == [
        line["loss_nats"] for line in curve(unbroken)
    ]


def test_a_line_is_the_mean_over_its_steps_and_a_save_has_its_own(
    tmp_path: Path, unbroken: Path, model: Path, corpus: Path
) -> None:
    pretrain.run(pretraining(log_every=100, save_every=4), model=model, corpus=corpus, out=tmp_path)
    every, rare = curve(unbroken), curve(tmp_path)
    assert [line["step"] for line in rare] == [4, 6]
    tokens = [line["tokens"] for line in every]
    shares = [now - before for now, before in zip(tokens, [0, *tokens], strict=False)]
    mean = sum(n * line["loss_nats"] for n, line in zip(shares[:4], every[:4], strict=True))
    assert rare[0]["loss_nats"] == pytest.approx(mean / sum(shares[:4]), rel=0.01)


def test_when_its_time_is_over_it_saves_and_ends(
    tmp_path: Path, model: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = pretraining(seconds=1e-6, save_every=100)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(pretrain, "_finished", lambda *_: stop())
        pretrain.run(config, model=model, corpus=corpus, out=tmp_path)
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["checkpoint-1"]
    record = pretrain.run(config, model=model, corpus=corpus, out=tmp_path)
    assert record.metrics["steps"] == 1
    assert len(curve(tmp_path)) == 1


def test_a_pinned_checkpoint_outlives_rotation_and_callbacks_find_saves_complete(
    tmp_path: Path, model: Path, corpus: Path
) -> None:
    seen = []

    class Pins(TrainerCallback):  # type: ignore[misc]
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            newest = complete_checkpoints(tmp_path)[-1]
            seen.append(newest.name)
            if state.global_step == 2:
                pin(newest, "best so far")

    config = pretraining(save_every=1, keep=1)
    pretrain.run(config, model=model, corpus=corpus, out=tmp_path, callbacks=[Pins()])
    assert seen == [f"checkpoint-{step}" for step in range(1, 7)]
    kept = [path.name for path in complete_checkpoints(tmp_path)]
    assert kept == ["checkpoint-2", "checkpoint-6"]


def test_the_trainers_own_batch_gives_the_logits_of_its_documents_alone(
    tmp_path: Path, model: Path, corpus: Path
) -> None:
    pretrain_rows = tmp_path / "rows"
    with open_job(tmp_path, "pretrain", pretraining(), training(micro_rows=4)) as job:
        network, tokenizer = job.load(model)
        pretrain.write_mixture(
            pretrain_rows,
            corpus / "train",
            tokenizer,
            shares=SHARES,
            row_tokens=64,
            rows=24,
        )
        seen: list[tuple[dict[str, torch.Tensor], torch.Tensor]] = []

        def watch(network: Any, args: Any, inputs: dict[str, Any], output: Any) -> None:
            if inputs.get("input_ids") is not None:
                seen.append((inputs, output.logits.detach().clone()))

        handle = network.register_forward_hook(watch, with_kwargs=True)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        job.fit(
            model=network,
            tokenizer=tokenizer,
            dataset=Mixture(pretrain_rows, SHARES),
            record=CheckpointRecord(stage="pretrain"),
        )
        handle.remove()
    inputs, packed = seen[0]  # before the first update
    assert inputs["use_cache"] is False and inputs["attention_mask"].dim() == 4
    network.load_state_dict(before)
    compared = 0
    for row in range(4):
        starts = [*(inputs["position_ids"][row] == 0).nonzero().flatten().tolist(), 64]
        for start, end in itertools.pairwise(starts):
            ids = inputs["input_ids"][row, start:end][None]
            with torch.no_grad():
                expected = network(input_ids=ids, use_cache=False).logits[0]
            torch.testing.assert_close(packed[row, start:end], expected, atol=ROUNDING, rtol=0)
            compared += 1
    assert compared >= 4


def test_a_window_shorter_than_a_row_is_left_to_the_model(
    tmp_path: Path, tiny_model_folder: Callable[..., Path], corpus: Path
) -> None:
    folder = tiny_model_folder(tmp_path / "model", kind="mistral")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "sliding_window": 8}))
    with open_job(tmp_path / "job", "pretrain", pretraining(), training()) as job:
        job.load(folder)
        assert job.backend.convention == "positions"
    with open_job(tmp_path / "job2", "pretrain", pretraining(row_tokens=8), training(row_tokens=8)):
        pass
    pretrain.run(pretraining(), model=folder, corpus=corpus, out=tmp_path / "run")
    gaudi = dataclasses.replace(job.backend, name="gaudi", convention="zero_one")
    with pytest.raises(ConfigError, match="sliding window of 8 on backend gaudi, found 64"):
        gaudi.for_window(8, 64)


def test_a_leaking_setting_trains_nothing(
    tmp_path: Path, model: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def naive(_: Backend, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        documents = batch["document_ids"]
        positions = torch.arange(documents.shape[1], device=documents.device)
        return {**batch, "position_ids": positions.expand_as(documents)}

    monkeypatch.setattr(Backend, "with_mask", naive)
    with pytest.raises(ConfigError, match="packed documents see each other"):
        pretrain.run(pretraining(), model=model, corpus=corpus, out=tmp_path)
    assert complete_checkpoints(tmp_path) == []
    assert not (tmp_path / "log.jsonl").exists()


def test_two_jobs_do_not_share_a_folder(tmp_path: Path, model: Path, corpus: Path) -> None:
    with (
        open_stage(tmp_path, "pretrain", pretraining()),
        pytest.raises(ConfigError, match="another job is at work in this folder"),
    ):
        pretrain.run(pretraining(), model=model, corpus=corpus, out=tmp_path)


def test_deepspeed_that_did_not_start_is_noticed(
    tmp_path: Path, model: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "deepspeed_config", lambda config: None)
    monkeypatch.setattr(device, "_prepare_deepspeed", lambda: None)
    with pytest.raises(ConfigError, match="expected DeepSpeed to be on, found the opposite"):
        pretrain.run(pretraining(zero_stage=2), model=model, corpus=corpus, out=tmp_path)


def test_a_document_longer_than_a_row_is_trained_on_in_pieces(tmp_path: Path, model: Path) -> None:
    make_corpus(tmp_path / "corpus", documents=2)
    long = tmp_path / "corpus" / "train" / "he" / "ferry.jsonl"
    long.write_text(json.dumps({"text": "The ferry left the harbour at seven. " * 200}))
    config = pretraining(steps=1, row_tokens=32)
    record = pretrain.run(config, model=model, corpus=tmp_path / "corpus", out=tmp_path / "out")
    rows = Mixture(tmp_path / "out" / "rows", SHARES).parts["he"]
    assert all(int(rows[i]["position_ids"].max()) < 32 for i in range(len(rows)))
    assert (rows[0]["document_ids"] != PADDING).all()
    assert record.metrics["tokens"] > 0


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"he": 0.5, "en": 0.4}, "shares: expected a sum of 1, found 0.9"),
        ({"he": 1.5, "en": -0.5}, "shares: expected more than 0 for each"),
        ({}, "shares: expected more than 0"),
    ],
)
def test_shares_that_are_none_are_refused(shares: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PretrainConfig(shares=shares, training=training())


def test_an_exponent_that_would_turn_the_sizes_round_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"source_exponent: expected 0 to 1, found -1"):
        PretrainConfig(shares={"he": 1.0}, source_exponent=-1, training=training())


def test_an_exponent_that_a_whole_pass_would_not_heed_is_refused() -> None:
    whole = dataclasses.replace(training(), steps=None, passes=1)
    with pytest.raises(ConfigError, match="0 needs training.steps"):
        PretrainConfig(shares={"he": 1.0}, source_exponent=0, training=whole)


def test_input_that_is_not_there_is_one_line(tmp_path: Path, model: Path, corpus: Path) -> None:
    config = PretrainConfig(shares={"he": 0.5, "el": 0.5}, training=training())
    for folder, text, message in (
        (model, corpus, "expected a folder 'el' of training text"),
        (tmp_path, corpus, r"expected a Hugging Face model folder with config\.json"),
    ):
        with pytest.raises(HebenchError, match=message):
            pretrain.run(config, model=folder, corpus=text, out=tmp_path / "out")


def test_a_tokenizer_larger_than_the_embedding_is_refused(
    tmp_path: Path, tiny_model_folder: Callable[..., Path], corpus: Path
) -> None:
    folder = tiny_model_folder(tmp_path / "model", rows=380)
    with pytest.raises(CheckpointError, match="expected at most 380 pieces.*tokenizer of 400"):
        pretrain.run(pretraining(), model=folder, corpus=corpus, out=tmp_path / "out")
