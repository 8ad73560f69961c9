"""Dry runs: what would be done is what is done, and what would be refused is refused."""

import dataclasses
import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import GPT2Config, GPT2LMHeadModel

from hebench import cli
from hebench.adapt.recipe import recipes_folder, stage_config
from hebench.errors import CheckpointError, ConfigError, DataError
from hebench.train import pretrain
from hebench.train.adapters import Lora
from hebench.train.chat_data import data_sha256, encode, ensure_template, read_conversations
from hebench.train.checkpoints import CheckpointRecord, publish
from hebench.train.dpo import DpoConfig
from hebench.train.mixing import Mixture, write_mixture
from hebench.train.packing import write_rows
from hebench.train.pairs import PairRows
from hebench.train.plan import plan_stage
from hebench.train.preferences import read_preferences
from hebench.train.pretrain import PretrainConfig
from hebench.train.sft import SftConfig
from hebench.train.stage import open_stage
from hebench.train.texts import read_documents
from tests.train.made_rows import SHARES, make_corpus, pretraining, training

CHAT = recipes_folder() / "text" / "chat_he.jsonl"
PAIRS = recipes_folder() / "text" / "chat_pairs_he.jsonl"


@pytest.fixture
def model(tmp_path: Path, tiny_model_folder: Callable[..., Path]) -> Path:
    return tiny_model_folder(tmp_path / "model")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return make_corpus(tmp_path / "corpus")


def a_pass(**changes: Any) -> Any:
    return training(steps=None, **changes)


def plan(config: PretrainConfig, model: Path, corpus: Path, out: Path) -> dict[str, Any]:
    return plan_stage("pretrain", config, inputs={"model": model, "corpus": corpus}, out=out)


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_the_steps_that_a_recipe_names_are_told_with_their_tokens(
    tmp_path: Path, model: Path, corpus: Path
) -> None:
    before = files(tmp_path)
    found = plan(pretraining(start_step=2), model, corpus, tmp_path / "out")
    assert files(tmp_path) == before, "a dry run wrote something"
    assert found["steps"]["tokens_a_step"] == 4 * 64
    assert (found["steps"]["steps"], found["trainer"]["arguments"]["max_steps"]) == (6, 4)
    assert found["config"]["training"]["start_step"] == 2
    assert found["state"] == "not begun"
    parts = dict(found["gib_a_device"])
    assert parts.pop("together") == pytest.approx(sum(parts.values()), rel=0.02)
    yaml.safe_dump(found)


def test_packed_rows_give_the_steps_of_the_run_itself(
    tmp_path: Path, model: Path, corpus: Path, tiny_tokenizer: Any
) -> None:
    config = dataclasses.replace(pretraining(), training=a_pass())
    rows = tmp_path / "out" / "rows"
    write_mixture(rows, corpus / "train", tiny_tokenizer, shares=SHARES, row_tokens=64, rows=None)
    steps = plan(config, model, corpus, tmp_path / "out")["steps"]
    assert steps["rows"] == len(Mixture(rows, SHARES))
    assert steps["steps"] == config.training.total_steps(steps["rows"])


def test_rows_of_a_finished_corpus_are_estimated_from_its_words(
    tmp_path: Path, model: Path, corpus: Path, tiny_tokenizer: Any
) -> None:
    config = dataclasses.replace(pretraining(), training=a_pass())
    unknown = plan(config, model, corpus, tmp_path / "out")["steps"]
    assert unknown["steps"] is None
    assert "passes x rows / global_rows" in unknown["rows_known_from"]
    with open_stage(corpus, "corpus", config) as stage:
        texts = {code: read_documents(corpus / "train" / code) for code in SHARES}
        stage.finish(
            {
                f"{code}_train_words": sum(len(each.text.split()) for each in found)
                for code, found in texts.items()
            }
        )
    known = plan(config, model, corpus, tmp_path / "out")["steps"]
    rows = tmp_path / "rows"
    write_mixture(rows, corpus / "train", tiny_tokenizer, shares=SHARES, row_tokens=64, rows=None)
    assert known["rows"] == pytest.approx(len(Mixture(rows, SHARES)), rel=0.1)
    assert known["rows_known_from"].startswith("estimated")


def test_chat_data_give_as_many_rows_as_sft_packs(
    tmp_path: Path, model: Path, tiny_tokenizer: Any
) -> None:
    config = SftConfig(training=a_pass(row_tokens=256))
    inputs = {"model": model, "data": CHAT}
    found = plan_stage("sft", config, inputs=inputs, out=tmp_path / "out")["steps"]
    ensure_template(tiny_tokenizer)
    pieces = [encode(tiny_tokenizer, talk) for talk in read_conversations(CHAT)]
    fitting = [piece for piece in pieces if len(piece.tokens) <= 256]
    assert fitting
    packed = write_rows(tmp_path / "out" / "rows", fitting, row_tokens=256, padding_id=0)
    assert found["rows"] == packed.rows
    again = plan_stage("sft", config, inputs=inputs, out=tmp_path / "out")["steps"]
    assert (again["rows"], again["rows_known_from"]) == (packed.rows, "the folder's packed rows")
    short = SftConfig(training=a_pass(row_tokens=8))
    with pytest.raises(DataError, match="expected a conversation of at most row_tokens = 8"):
        plan_stage("sft", short, inputs=inputs, out=tmp_path / "other")


def test_preferences_give_as_many_rows_as_dpo_packs(
    tmp_path: Path, model: Path, tiny_tokenizer: Any
) -> None:
    config = DpoConfig(beta=0.1, training=a_pass(row_tokens=1024))
    inputs = {"model": model, "data": PAIRS}
    found = plan_stage("dpo", config, inputs=inputs, out=tmp_path / "out")["steps"]
    ensure_template(tiny_tokenizer)
    pairs = [
        tuple(encode(tiny_tokenizer, talk, last_only=True) for talk in item.talks)
        for item in read_preferences(PAIRS)
    ]
    fitting = [(a, b) for a, b in pairs if len(a.tokens) + len(b.tokens) <= 1024]
    assert found["rows"] == len(PairRows(fitting, row_tokens=1024, padding_id=0))


def test_gaudi_is_planned_with_its_exact_arguments_on_a_machine_without_it(
    tmp_path: Path, model: Path, corpus: Path
) -> None:
    config = pretraining(
        backend="gaudi", world_size=2, zero_stage=2, precision="bf16", global_rows=8
    )
    trainer = plan(config, model, corpus, tmp_path / "out")["trainer"]
    assert trainer["class"] == "optimum.habana.GaudiTrainer"
    deepspeed = [] if importlib.util.find_spec("deepspeed") else ["deepspeed"]
    assert trainer["this_machine_lacks"] == ["Habana's PyTorch (habana_frameworks)", *deepspeed]
    assert (trainer["attention"], trainer["mask"]) == ("eager", "zero_one")
    assert trainer["gaudi_config"] == {"use_fused_adam": True, "use_fused_clip_norm": True}
    arguments = trainer["arguments"]
    assert arguments["use_habana"] is True and arguments["use_lazy_mode"] is True
    assert arguments["gradient_accumulation_steps"] == 2
    assert arguments["deepspeed"]["zero_optimization"]["stage"] == 2
    assert arguments["deepspeed"]["train_batch_size"] == 8


def test_stages_without_a_trainer_tell_their_inputs(
    tmp_path: Path, model: Path, corpus: Path
) -> None:
    with pytest.raises(DataError, match="heldout: expected a file or a folder, found nothing"):
        inputs = {"model": model, "corpus": corpus}
        plan_stage("calibrate", stage_config("tiny", "calibrate"), inputs=inputs, out=tmp_path)
    shutil.copytree(corpus / "train", corpus / "heldout")
    for name in ("tokenizer", "calibrate", "distil"):
        inputs = {"model": model, "corpus": corpus} | (
            {"tokenizer": model} if name == "distil" else {}
        )
        found = plan_stage(name, stage_config("tiny", name), inputs=inputs, out=tmp_path / name)
        assert found["inputs"]["corpus"]["he"].endswith("train/he: 1 file, 0.00867 MB")
        assert found["parameters"] > 0 and "trainer" not in found
        if name != "tokenizer":
            config = stage_config("tiny", name)
            longest = found["steps"]["tokens_of_the_longest_passage"]
            assert found["steps"]["steps"] == config.steps
            assert found["steps"]["tokens_a_batch"] == config.batch_passages * longest
            sizes = found["gib_a_device"]
            assert sizes["activations"] > 0 < found["gib_with_one_passage"] <= sizes["together"]
            assert longest > 1 + config.passage_words  # tokens of a tokenizer that knows no Hebrew
    texts = plan_stage("corpus", stage_config("tiny", "corpus"), inputs={}, out=tmp_path / "c")
    assert "en.txt: 1 file" in texts["inputs"]["english"]
    other = stage_config("tiny", "corpus", ["corpus.inputs.english.rules_by_source={song: {}}"])
    with pytest.raises(ConfigError, match="no source 'song'; known are en"):
        plan_stage("corpus", other, inputs={}, out=tmp_path / "c")


def test_a_stage_that_was_begun_says_where_it_goes_on_or_why_it_cannot(
    tmp_path: Path, model: Path, corpus: Path
) -> None:
    out, config = tmp_path / "out", pretraining()
    with open_stage(out, "pretrain", config) as stage:
        record = CheckpointRecord(stage="pretrain", step=2, world_size=1)
        publish(out / "checkpoint-2", lambda folder: None, record)
        assert plan(config, model, corpus, out)["state"] == "cut off: goes on from checkpoint-2"
        with pytest.raises(ConfigError, match="holds a stage that was asked for otherwise"):
            plan(pretraining(seed=5), model, corpus, out)
        publish(
            out / "checkpoint-4",
            lambda folder: None,
            dataclasses.replace(record, step=4, world_size=3),
        )
        with pytest.raises(CheckpointError, match="expected a checkpoint of 1 processes, found"):
            plan(config, model, corpus, out)
        stage.finish({})
    assert plan(config, model, corpus, out)["state"].startswith("finished")


def test_data_that_cannot_be_read_or_changed_since_are_refused(tmp_path: Path, model: Path) -> None:
    data, out = tmp_path / "chat.jsonl", tmp_path / "out"
    config = SftConfig(training=training())
    inputs = {"model": model, "data": data}
    data.write_text('{"prompt": "שלום", "response": 5}\n', encoding="utf-8")
    with pytest.raises(DataError, match="line 1: response: expected a text or a list of messages"):
        plan_stage("sft", config, inputs=inputs, out=out)
    shutil.copy(CHAT, data)
    with open_stage(out, "sft", config, {"data": data_sha256(data)}) as stage:
        stage.finish({})
    assert plan_stage("sft", config, inputs=inputs, out=out)["state"].startswith("finished")
    data.write_bytes(b"".join(data.read_bytes().splitlines(keepends=True)[:5]))
    with pytest.raises(ConfigError, match=r"inputs\.data was \w{12}, is \w{12}; choose another"):
        plan_stage("sft", config, inputs=inputs, out=out)


def test_rows_longer_than_the_positions_that_a_model_learned_are_refused(
    tmp_path: Path, model: Path, corpus: Path
) -> None:
    config = GPT2Config(n_positions=64, n_embd=16, n_layer=1, n_head=2, vocab_size=2000)
    GPT2LMHeadModel(config).save_pretrained(model)
    long = PretrainConfig(training=training(row_tokens=128), shares=SHARES)
    for work in (
        lambda: plan(long, model, corpus, tmp_path / "out"),
        lambda: pretrain.run(long, model=model, corpus=corpus, out=tmp_path / "out"),
    ):
        with pytest.raises(ConfigError, match="row_tokens: expected at most 64, the positions"):
            work()


def test_a_stage_that_failed_before_its_first_work_may_be_asked_for_otherwise(
    tmp_path: Path, model: Path, corpus: Path
) -> None:
    out = tmp_path / "out"
    with open_stage(out, "pretrain", pretraining()):
        pass  # as where a device is not there: the command is mended, and begins
    assert plan(pretraining(seed=5), model, corpus, out)["state"] == "not begun"
    (out / "rows").mkdir()
    with pytest.raises(ConfigError, match="holds a stage that was asked for otherwise"):
        plan(pretraining(seed=5), model, corpus, out)


def test_a_lone_process_that_would_see_several_gpus_is_told_what_it_lacks_here(
    tmp_path: Path, model: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    one = pretraining(backend="cuda", precision="fp32")
    (lack,) = plan(one, model, corpus, tmp_path / "out")["trainer"]["this_machine_lacks"]
    assert "one device for each process, found 2 for one process" in lack
    two = pretraining(backend="cuda", precision="fp32", world_size=2, global_rows=8)
    assert not plan(two, model, corpus, tmp_path / "out")["trainer"]["this_machine_lacks"]
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not plan(one, model, corpus, tmp_path / "out")["trainer"]["this_machine_lacks"]


def test_a_warm_up_longer_than_the_counted_run_is_refused(tmp_path: Path, model: Path) -> None:
    config = SftConfig(training=a_pass(row_tokens=512, warmup_steps=900))
    with pytest.raises(ConfigError, match=r"warmup_steps: expected at most the \d+ steps that"):
        plan_stage("sft", config, inputs={"model": model, "data": CHAT}, out=tmp_path / "out")


def test_rows_longer_than_the_window_are_refused_on_gaudi(
    tmp_path: Path, model: Path, corpus: Path
) -> None:
    path = model / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | {"model_type": "mistral", "sliding_window": 32}))
    with pytest.raises(ConfigError, match="sliding window of 32 on backend gaudi, found 64"):
        plan(pretraining(backend="gaudi"), model, corpus, tmp_path / "out")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["hebench", "train", *map(str, arguments), "--dry-run"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (["pretrain.training.learning_rat=1"], "did you mean 'learning_rate'"),
        (["pretrain.training.global_rows=3"], "global_rows: expected a multiple of micro_rows"),
        (["pretrain.training.warmup_steps=9"], "warmup_steps: expected at most steps = 8, found 9"),
        (["model=nowhere"], "nowhere: expected a model folder, found no config.json"),
        (["pretrain.shares={he: 0.5, fr: 0.5}"], "fr: expected a file or a folder, found nothing"),
    ],
)
def test_what_could_not_start_is_one_line_and_exit_code_2(  # noqa: PLR0913, PLR0917
    tmp_path: Path,
    model: Path,
    corpus: Path,
    pairs: list[str],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = {"model": model, "corpus": corpus, "out": tmp_path / "out"}
    whole = [f"{key}={value}" for key, value in given.items()] + pairs
    before = files(tmp_path)
    assert run(monkeypatch, "pretrain", "--recipe", "tiny", *whole) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert expected in line
    assert files(tmp_path) == before


def test_a_dry_run_prints_yaml_or_json_once_for_all_processes(
    tmp_path: Path,
    model: Path,
    corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["pretrain", "--recipe", "tiny", f"model={model}", f"corpus={corpus}"]
    arguments.append(f"out={tmp_path / 'out'}")
    assert run(monkeypatch, *arguments) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert run(monkeypatch, *arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out) == printed
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(monkeypatch, *arguments) == 2
    assert "world_size: expected 1 processes, found 2" in capsys.readouterr().err
    changes = ["pretrain.training.world_size=2", "pretrain.training.global_rows=8"]
    assert run(monkeypatch, *arguments, *changes) == 0
    assert not capsys.readouterr().out, "only the first process prints"


def test_what_came_of_a_stage_is_printed_once_for_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_stage(tmp_path / "out", "pretrain", pretraining()) as stage:
        record = stage.finish({"steps": 8})
    monkeypatch.setattr("hebench.cli.train._run_stage", lambda *_: record)
    command = ["hebench", "train", "pretrain", "--recipe", "tiny", "model=m", "corpus=c"]
    monkeypatch.setattr(sys, "argv", [*command, f"out={tmp_path / 'out'}", "--json"])
    for rank in (1, 0):
        monkeypatch.setenv("RANK", str(rank))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
        printed = capsys.readouterr().out
        assert (json.loads(printed)["metrics"] == {"steps": 8}) if rank == 0 else not printed


def test_adapters_are_counted_and_what_they_need_is_named(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SftConfig(training=training(), lora=Lora(rank=2, alpha=4, dropout=0.0))
    inputs = {"model": model, "data": CHAT}
    found = plan_stage("sft", config, inputs=inputs, out=tmp_path / "out")
    whole = plan_stage("sft", SftConfig(training=training()), inputs=inputs, out=tmp_path / "out")
    assert found["gib_a_device"]["optimiser"] < whole["gib_a_device"]["optimiser"]
    assert found["trainer"]["this_machine_lacks"] == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert (
        "peft"
        in plan_stage("sft", config, inputs=inputs, out=tmp_path / "o")["trainer"][
            "this_machine_lacks"
        ]
    )
