"""SFT: only answers teach, a run can be cut and resumed, LoRA merges to a plain model."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from hebench.config import build
from hebench.errors import ConfigError, DataError
from hebench.train import sft
from hebench.train.adapters import Lora, adapted, trained_parameters, with_adapters
from hebench.train.checkpoints import read_checkpoint
from hebench.train.device import Backend, collate, logits_of
from hebench.train.packing import Rows
from hebench.train.sft import SftConfig
from hebench.train.stage import read_stage
from hebench.train.trainer import Job
from tests.conftest import DEVICE

TRAINING = {
    "backend": DEVICE,
    "row_tokens": 96,
    "micro_rows": 2,
    "global_rows": 4,
    "steps": 4,
    "learning_rate": 3e-3,
    "schedule": "constant",
    "save_every": 2,
    "threads": 1,
    "export_dtype": "fp32",
}
LORA = {"rank": 4, "alpha": 8, "dropout": 0.1}
PLACES = ("harbour", "island", "pier", "market", "deck", "coast", "strait", "window", "radio")
ROWS = [
    {"prompt": f"Where is the captain on day {day}?", "response": f"At the {place}, as always."}
    for day, place in enumerate(PLACES * 2)
]


class Cut(TrainerCallback):  # type: ignore[misc]
    """Ends the process's work after a step, as a kill would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


def config(**changes: Any) -> SftConfig:
    content: dict[str, Any] = {"training": TRAINING | changes.pop("training", {})} | changes
    return build(SftConfig, content, "test")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "chat.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Callable[..., Path]) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("model") / "tiny", tied=False)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, model: Path, data: Path) -> Path:
    out = tmp_path_factory.mktemp("run") / "sft"
    sft.run(config(), model=model, data=data, out=out)
    return out


def log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]


def test_the_loss_falls_and_the_record_says_what_was_done(done: Path) -> None:
    losses = [line["loss_nats"] for line in log(done)]
    assert len(losses) == 4 and losses[-1] < 0.7 * losses[0]
    record = read_stage(done)
    assert record and record.finished
    metrics = record.metrics
    assert metrics["conversations"] == len(ROWS) and metrics["dropped_longer_than_a_row"] == 0
    assert metrics["chat_template"] == "own" and metrics["steps"] == 4
    rows = Rows(done / "rows")
    assert metrics["rows"] == len(rows) and metrics["filled_share"] > 0.6


def test_the_first_loss_is_the_mean_over_the_answers_alone(done: Path, model: Path) -> None:
    """Each conversation by itself, without packing, through the plain model."""
    network = AutoModelForCausalLM.from_pretrained(model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = Rows(done / "rows")
    batch = [rows[number] for number in first_rows(done)]
    total, targets = 0.0, 0
    for row in batch:
        for document in range(row["document_ids"].max() + 1):
            inside = row["document_ids"] == document
            ids = torch.tensor(row["input_ids"][inside])[None]
            text = tokenizer.decode(ids[0])
            answer = text[text.index("assistant\n") + len("assistant\n") :].rstrip("\n")
            wanted = tokenizer(answer, add_special_tokens=False)["input_ids"]
            labels = torch.tensor(row["labels"][inside])[None]
            assert labels[labels >= 0].tolist() == wanted and answer.endswith("</s>")
            loss = network(ids, labels=labels, use_cache=False).loss
            total += loss.item() * len(wanted)
            targets += len(wanted)
    assert log(done)[0]["loss_nats"] == pytest.approx(total / targets, abs=1e-5)


def first_rows(done: Path) -> list[int]:
    """Return the rows of the first step, as the trainer draws them."""
    from hebench.train.mixing import Ordered

    rows = Rows(done / "rows")
    drawn = Ordered(rows, first=0, last=TRAINING["global_rows"], seed=0)
    return [int(drawn[place]["row"]) for place in range(len(drawn))]


def test_the_exported_model_is_plain_and_stops_where_answers_end(done: Path) -> None:
    network = AutoModelForCausalLM.from_pretrained(done / "model")
    tokenizer = AutoTokenizer.from_pretrained(done / "model")
    stops = network.generation_config.eos_token_id
    assert tokenizer.eos_token_id in ([stops] if isinstance(stops, int) else stops)
    assert tokenizer.chat_template and network.config.use_cache
    record = read_checkpoint(done / "model")
    assert record and record.stage == "sft" and record.step == 4 and record.parent


def test_checkpoints_on_the_way_stop_where_answers_end(
    model: Path, data: Path, tmp_path: Path
) -> None:
    # As a base model has it, whose own end of text is not the template's end of a turn.
    base = tmp_path / "base"
    shutil.copytree(model, base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    end = tokenizer.eos_token_id
    assert "</s>" in tokenizer.chat_template
    tokenizer.eos_token = tokenizer.bos_token
    tokenizer.save_pretrained(base)
    for name in ("config.json", "generation_config.json"):
        content = json.loads((base / name).read_text())
        (base / name).write_text(json.dumps(content | {"eos_token_id": tokenizer.eos_token_id}))
    record = sft.run(
        config(training={"steps": 2, "save_every": 1}), model=base, data=data, out=tmp_path / "out"
    )
    for name in ("checkpoint-1", record.metrics["checkpoint"], "model"):
        content = json.loads((tmp_path / "out" / name / "generation_config.json").read_text())
        assert end in content["eos_token_id"]


def test_a_finished_stage_is_not_done_again(done: Path, model: Path, data: Path) -> None:
    before = (done / "log.jsonl").stat().st_mtime_ns
    record = sft.run(config(), model=model, data=data, out=done)
    assert record.finished and (done / "log.jsonl").stat().st_mtime_ns == before


@pytest.fixture(scope="module")
def lora_done(tmp_path_factory: pytest.TempPathFactory, model: Path, data: Path) -> Path:
    out = tmp_path_factory.mktemp("run") / "lora"
    sft.run(config(lora=LORA), model=model, data=data, out=out)
    return out


@pytest.mark.parametrize("lora", [None, LORA])
def test_a_run_cut_off_goes_on_to_the_same_losses(
    lora: Any, model: Path, data: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    whole = request.getfixturevalue("lora_done" if lora else "done")
    cut, wanted = tmp_path / "cut", config(lora=lora)
    with pytest.raises(KeyboardInterrupt):
        sft.run(wanted, model=model, data=data, out=cut, callbacks=[Cut(3)])
    sft.run(wanted, model=model, data=data, out=cut)
    assert [line["loss_nats"] for line in log(cut)] == [line["loss_nats"] for line in log(whole)]
    same = [AutoModelForCausalLM.from_pretrained(out / "model") for out in (whole, cut)]
    for one, other in zip(*(network.parameters() for network in same), strict=True):
        assert torch.equal(one, other)


def test_lora_trains_every_linear_layer_but_the_output_and_merges_exactly(
    model: Path, lora_done: Path
) -> None:
    out, record = lora_done, read_stage(lora_done)
    assert record
    names = {path.name for path in (out / record.metrics["checkpoint"]).iterdir()}
    assert "adapter_model.safetensors" in names and "model.safetensors" not in names
    before, after = (
        dict(AutoModelForCausalLM.from_pretrained(folder).named_parameters())
        for folder in (model, out / "model")
    )
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if "_proj" in name}
    assert record.metrics["trained_parameters"] < 0.2 * sum(p.numel() for p in before.values())

    batch = collate([Rows(out / "rows")[0]])
    network = AutoModelForCausalLM.from_pretrained(model)
    apart = with_adapters(network, out / record.metrics["checkpoint"])
    merged = AutoModelForCausalLM.from_pretrained(out / "model")
    backend = Backend(name="cpu", attention="sdpa", convention="bool")
    first, second = (logits_of(each.eval(), batch, backend) for each in (apart, merged))
    assert torch.allclose(first, second, atol=1e-4)  # of logits up to 6; fp32


def test_adapters_change_nothing_before_training(model: Path) -> None:
    ids = torch.arange(20)[None]
    network = AutoModelForCausalLM.from_pretrained(model)
    expected = network(ids).logits
    trained = adapted(network, Lora(rank=4, alpha=8, dropout=0.0), seed=0)
    assert torch.equal(trained(ids).logits, expected)
    assert 0 < trained_parameters(trained) < sum(p.numel() for p in network.parameters()) / 5


def test_parameters_that_are_divided_among_processes_are_counted_whole() -> None:
    weight = torch.nn.Parameter(torch.empty(0))
    weight.ds_numel = 12  # as DeepSpeed's stage 3 leaves one
    model = torch.nn.Linear(2, 3)
    model.weight = weight
    assert trained_parameters(model) == 12 + 3


def test_conversations_longer_than_a_row_are_left_out_and_counted(
    model: Path, tmp_path: Path
) -> None:
    long = {"prompt": "Tell me everything.", "response": "The ferry left. " * 60}
    path = tmp_path / "chat.jsonl"
    path.write_text("\n".join(map(json.dumps, [*ROWS, long])), encoding="utf-8")
    record = sft.run(
        config(training={"steps": 1, "save_every": 1}), model=model, data=path, out=tmp_path / "out"
    )
    assert record.metrics["conversations"] == len(ROWS) + 1
    assert record.metrics["dropped_longer_than_a_row"] == 1
    path.write_text(json.dumps(long), encoding="utf-8")
    with pytest.raises(DataError, match="at most row_tokens = 96 tokens, found 1 that are longer"):
        sft.run(config(), model=model, data=path, out=tmp_path / "none")
    assert not (tmp_path / "none" / "rows").exists()


@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_first_process_loads_the_model_that_is_exported(
    rank: int, model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    fit, load = Job.fit, Job.load

    def fit_then_be_of_rank(job: Job, **parts: Any) -> Any:
        found = fit(job, **parts)
        monkeypatch.setenv("RANK", str(rank))
        return found

    def seen(job: Job, folder: Path) -> Any:
        loaded.append(folder.name)
        return load(job, folder)

    monkeypatch.setattr(Job, "fit", fit_then_be_of_rank)
    monkeypatch.setattr(Job, "load", seen)
    monkeypatch.setattr(Job, "finish", lambda job, metrics: job.record)
    sft.run(config(training={"steps": 1}), model=model, data=data, out=tmp_path)
    assert loaded == ["tiny", "checkpoint-1"][: 2 - rank]
    assert (tmp_path / "model").exists() == (rank == 0)


def test_other_data_in_the_same_folder_is_refused(done: Path, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps(ROWS[0]), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"inputs\.data was"):
        sft.run(config(), model=model, data=path, out=done)
    with pytest.raises(DataError, match="expected a JSON Lines file, found No such file"):
        sft.run(config(), model=model, data=tmp_path / "absent", out=tmp_path / "out")


@pytest.mark.parametrize("changes", [{"rank": 0}, {"alpha": 0}, {"dropout": 1.0}])
def test_sizes_of_adapters_that_are_none_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected a rank from 1"):
        config(lora={"rank": 4, "alpha": 8, "dropout": 0.0} | changes)
