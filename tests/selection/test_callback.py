import logging
import math
import types
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from hebench.board.extract import extract
from hebench.board.read import read_run
from hebench.board.store import live, read_store
from hebench.errors import ConfigError, TaskError
from hebench.files import packaged_folder
from hebench.harness.live import Asked, Described
from hebench.records import RunManifest
from hebench.selection.callback import HebenchCallback
from hebench.selection.evaluate import EVALS, EvaluateConfig, evaluate_folder, run_folder, units
from hebench.selection.found import complete, is_done
from hebench.selection.items import read_items
from hebench.selection.leaderboard import put_on_board
from hebench.selection.log import read_log
from hebench.selection.watch import WatchConfig, known, watch
from hebench.train.mixing import Ordered
from tests.selection.made_run import TASK, made_entry

TASKS = (TASK, "hebench_mini_qa")


class Seen(TrainerCallback):  # type: ignore[misc]
    """What a logger of the Trainer's is told."""

    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.logs.append(dict(logs))


def make_trainer(model: Path, out: Path, **more: Any) -> tuple[Trainer, Seen]:
    """Return a user's plain Trainer, with dropout, shuffling and a cosine schedule."""
    torch.manual_seed(0)
    rows = [
        {"input_ids": torch.randint(2, 900, (24,)), "labels": torch.randint(2, 900, (24,))}
        for _ in range(24)
    ]
    arguments: dict[str, Any] = {
        "output_dir": str(out),
        "per_device_train_batch_size": 2,
        "max_steps": 6,
        "save_steps": 2,
        "logging_steps": 1,
        "learning_rate": 1e-3,
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 3,
        "lr_scheduler_type": "cosine",
    }
    seen = Seen()
    trainer = Trainer(
        model=AutoModelForCausalLM.from_pretrained(model, attention_dropout=0.1),
        args=TrainingArguments(**(arguments | more)),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(model),
        callbacks=[seen],
    )
    return trainer, seen


def losses(seen: Seen) -> list[tuple[float, float]]:
    return [(line["loss"], line["grad_norm"]) for line in seen.logs if "loss" in line]


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Seen]:
    """A training run with the one-line callback, at every save."""
    out = tmp_path_factory.mktemp("with") / "run"
    trainer, seen = make_trainer(tiny_model, out)
    trainer.add_callback(HebenchCallback(trainer, tasks=TASKS, limit=2, max_overhead=math.inf))
    trainer.train()
    return out, seen


def test_training_with_it_is_training_without_it_to_the_bit(
    trained: tuple[Path, Seen], tiny_model: Path, tmp_path: Path
) -> None:
    trainer, seen = make_trainer(tiny_model, tmp_path / "without")
    trainer.train()
    assert losses(seen) == losses(trained[1]) and len(losses(seen)) == 6
    from safetensors.torch import load_file

    files = [
        folder / "checkpoint-6" / "model.safetensors"
        for folder in (tmp_path / "without", trained[0])
    ]
    one, other = (load_file(file) for file in files)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_every_save_is_evaluated_and_the_loggers_are_told(trained: tuple[Path, Seen]) -> None:
    out, seen = trained
    log = read_log(out / "selection.jsonl")
    assert [entry.checkpoint for entry in log] == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    assert all(list(entry.tasks) == list(TASKS) and entry.loss_nats for entry in log)
    told = [line for line in seen.logs if "hebench/score" in line]
    assert [line["hebench/score"] for line in told] == [entry.score for entry in log]
    assert all(line["hebench/overhead"] > 0 and f"hebench/{TASK}" in line for line in told)


def test_every_evaluation_is_a_run_folder_that_comes_to_the_board(
    trained: tuple[Path, Seen], tmp_path: Path
) -> None:
    out, _ = trained
    log = read_log(out / "selection.jsonl")
    for entry in log:
        (folder,) = (out / EVALS / entry.checkpoint).iterdir()
        run = read_run(folder)
        assert {name: task.scores for name, task in run.tasks.items()} == {
            name: pytest.approx(task.scores.tolist()) for name, task in entry.tasks.items()
        }
        assert read_items(folder)[TASK].signature == entry.tasks[TASK].signature
        assert run.manifest is not None and run.manifest.backend == "prefix"
        assert run.manifest.model.name == f"run {entry.checkpoint}"
        assert run.manifest.model.weights_sha256 == entry.weights_sha256 is not None
    added = put_on_board(out, tmp_path / "board", run="run", chosen="checkpoint-4")
    assert added == [f"run-{entry.checkpoint}" for entry in log]
    records = {item.record.model: item.record for item in live(read_store(tmp_path / "board")[1])}
    for slug, entry in zip(added, log, strict=True):
        for name, task in entry.tasks.items():
            assert list(records[slug].tasks[name].metrics["score"]) == pytest.approx(
                task.scores.tolist()
            )


@pytest.mark.slow
def test_its_run_folder_says_of_itself_what_a_watchers_does(
    trained: tuple[Path, Seen],
) -> None:
    out, _ = trained
    found = complete(out)[0]
    asked = EvaluateConfig(tasks=TASKS, limit=2, dtype="float32")
    evaluate_folder(found, asked)
    live_folder = out / EVALS / found.name / f"live-{asked.asked}"
    own = RunManifest.read(live_folder)
    assert own is not None
    requests = 0
    for unit in units(asked):
        theirs = RunManifest.read(run_folder(found, unit))
        assert theirs is not None
        for field in fields(RunManifest):
            mine, other = getattr(own, field.name), getattr(theirs, field.name)
            if isinstance(other, dict) and set(other) == set(unit.tasks):
                assert {name: mine[name] for name in unit.tasks} == other, field.name
            elif field.name not in ("tasks", "started", "seconds", "requests"):
                assert mine == other, field.name
        (name,) = unit.tasks
        one, other = (
            extract(folder, model="m", added="2026-01-01").tasks[name]
            for folder in (live_folder, run_folder(found, unit))
        )
        # Likelihoods differ in the last digits with what is asked beside them.
        assert replace(one, answers=None) == replace(other, answers=None)
        assert one.answers is not None and other.answers is not None
        assert len(one.answers) == len(other.answers) == 2
        requests += theirs.requests
    assert own.requests == requests


@pytest.mark.slow
def test_the_folder_asked_later_gives_the_same_scores_and_is_not_asked_again(
    trained: tuple[Path, Seen],
) -> None:
    out, _ = trained
    asked = EvaluateConfig(tasks=TASKS, limit=2, dtype="float32")
    log = known(out)
    for found in complete(out):
        assert is_done(found, log, asked.asked)
        own = evaluate_folder(found, asked)
        for name, items in log[found.name].tasks.items():
            assert items.scores.tolist() == own.tasks[name].scores.tolist()
            assert items.signature == own.tasks[name].signature
    assert watch(out, WatchConfig(evaluate=asked, once=True)) == 0


def test_steps_can_be_chosen_apart_from_saves(tiny_model: Path, tmp_path: Path) -> None:
    trainer, _ = make_trainer(tiny_model, tmp_path, save_strategy="no", max_steps=3)
    callback = HebenchCallback(
        None, tasks=(TASK,), limit=1, every=1, max_overhead=math.inf, start_step=10
    )
    trainer.add_callback(callback)
    trainer.train()
    log = read_log(tmp_path / "selection.jsonl")
    assert [entry.step for entry in log] == [1, 2, 3] and callback.left_out == []
    # Weights that were never saved have no hash, and come to the board all the same.
    assert {entry.weights_sha256 for entry in log} == {None}
    added = put_on_board(tmp_path, tmp_path / "board", run="run", chosen="checkpoint-3")
    assert added == [f"run-checkpoint-{step}" for step in (1, 2, 3)]


def test_of_the_steps_that_are_saved_too_the_log_says_whose_scores_they_are(
    tiny_model: Path, tmp_path: Path
) -> None:
    trainer, seen = make_trainer(tiny_model, tmp_path, max_steps=3)  # saves 2, and 3 at its end
    callback = HebenchCallback(trainer, tasks=(TASK,), limit=1, every=1, max_overhead=math.inf)
    trainer.add_callback(callback)
    trainer.train()
    log, there = read_log(tmp_path / "selection.jsonl"), complete(tmp_path)
    marks = {found.name: found.mark for found in there}
    assert list(marks) == ["checkpoint-2", "checkpoint-3"]
    assert [entry.settings["mark"] for entry in log] == [None, *marks.values()]
    assert [entry.weights_sha256 is None for entry in log] == [True, False, False]
    assert len([line for line in seen.logs if "hebench/score" in line]) == 3  # asked once each
    asked = EvaluateConfig(tasks=(TASK,), limit=1).asked
    assert all(is_done(found, known(tmp_path), asked) for found in there)
    added = put_on_board(tmp_path, tmp_path / "board", run="run", chosen="checkpoint-2")
    assert added == [f"run-{entry.checkpoint}" for entry in log]


def test_scores_of_a_run_that_goes_on_are_filed_under_the_trainers_own_folders(
    tiny_model: Path, tmp_path: Path
) -> None:
    trainer, _ = make_trainer(tiny_model, tmp_path, max_steps=4)  # saves 2 and 4
    trainer.add_callback(
        HebenchCallback(None, tasks=(TASK,), limit=1, max_overhead=math.inf, start_step=2)
    )
    trainer.train()
    log = read_log(tmp_path / "selection.jsonl")
    assert [(e.checkpoint, e.step) for e in log] == [("checkpoint-2", 2), ("checkpoint-4", 4)]
    assert [e.settings["mark"] for e in log] == [found.mark for found in complete(tmp_path)]
    assert sorted(path.name for path in (tmp_path / EVALS).iterdir()) == [
        "checkpoint-2",
        "checkpoint-4",
    ]


def test_a_plain_training_that_begins_anew_puts_the_log_aside_whatever_start_step(
    tiny_model: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        trainer, _ = make_trainer(tiny_model, tmp_path, save_strategy="no", max_steps=2)
        trainer.add_callback(
            HebenchCallback(
                None, tasks=(TASK,), limit=1, every=1, max_overhead=math.inf, start_step=10
            )
        )
        trainer.train()
    assert [entry.step for entry in read_log(tmp_path / "selection.jsonl")] == [1, 2]
    assert (tmp_path / "selection.1.jsonl").is_file()


def test_hebenchs_own_training_is_known_by_its_rows() -> None:
    from hebench.selection import callback

    rows = [torch.zeros(1), torch.ones(1)]
    own = DataLoader(Ordered(rows, first=0, last=2, seed=0))
    assert callback._is_our_own({"train_dataloader": own})
    assert not callback._is_our_own({"train_dataloader": DataLoader(rows)})
    assert not callback._is_our_own({"train_dataloader": None})


def test_what_would_cost_too_much_is_left_out_and_said(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer, _ = make_trainer(tiny_model, tmp_path, save_strategy="no", max_steps=4)
    callback = HebenchCallback(trainer, tasks=(TASK,), limit=1, every=1, max_overhead=1e-6)
    trainer.add_callback(callback)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert [entry.step for entry in read_log(tmp_path / "selection.jsonl")] == [1]
    assert callback.left_out == [2, 3, 4]
    assert "3 evaluations were left out" in caplog.text and "of training time" in caplog.text
    assert "hebench watch" not in caplog.text  # nothing was saved that it could evaluate


def test_the_command_that_makes_up_for_evaluations_asks_as_the_training_did(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer, _ = make_trainer(tiny_model, tmp_path, max_steps=2, save_steps=1)
    callback = HebenchCallback(trainer, tasks=(TASK,), limit=1, max_overhead=1e-6)
    trainer.add_callback(callback)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert callback.left_out == [2]
    command = f"`hebench watch {tmp_path} --once --tasks {TASK} --limit 1 --dtype float32`"
    assert f"{command} makes up for those that were saved" in caplog.text


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that stands still but for what the test lets pass."""
    from hebench.selection import callback

    now = [0.0]
    monkeypatch.setattr(callback.time, "perf_counter", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def test_evaluations_stay_within_their_share_of_the_time(
    tmp_path: Path, clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten seconds of training between due points, 1.4 s an evaluation: 5 % pays every third."""
    callback = HebenchCallback(None, tasks=(TASK,), max_overhead=0.05)
    callback._begun = 0.0

    def take_a_while(*_: Any) -> Any:
        clock(1.4)
        return made_entry(1, [1.0])

    monkeypatch.setattr(HebenchCallback, "_entry", take_a_while)
    shares = []
    for step in range(1, 100):
        clock(10.0)
        state = types.SimpleNamespace(global_step=step, is_world_process_zero=False)
        callback._evaluate(types.SimpleNamespace(output_dir=tmp_path), state, {})
        shares.append(callback.overhead)
    assert shares[0] > 0.05  # what the first costs, nobody knows before
    assert all(share <= 0.05 for share in shares[3:])
    assert 33 <= 99 - len(callback.left_out) <= 36 and shares[-1] > 0.045


def test_training_goes_on_when_a_task_fails(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("hebench.harness.live._samples", fail)
    trainer, _ = make_trainer(tiny_model, tmp_path, max_steps=2, save_steps=1)
    trainer.add_callback(HebenchCallback(trainer, tasks=(TASK,), limit=1))
    trainer.train()
    assert read_log(tmp_path / "selection.jsonl")[-1].failed == {TASK: "out of memory"}
    assert not (tmp_path / EVALS).exists()  # nothing was answered: there is no run to show


def test_training_goes_on_when_a_task_has_no_score(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tasks"
    folder.mkdir()
    nli = packaged_folder("tasks") / "_families" / "nli"
    (folder / "odd.yaml").write_text(
        f"include: {nli}\ntask: hebench_odd\nmetadata: {{version: 1.0}}\n"
        "custom_dataset: !function hebench.data.load.mini_nli\n"
        "process_results: !function odd_results.of_ten\n",
        encoding="utf-8",
    )
    (folder / "odd_results.py").write_text(
        "def of_ten(doc, results):\n    return {'score': 7.0}\n", encoding="utf-8"
    )
    trainer, _ = make_trainer(tiny_model, tmp_path / "run", max_steps=2, save_steps=2)
    trainer.add_callback(
        HebenchCallback(trainer, tasks=("hebench_odd", TASK), limit=1, include=(folder,))
    )
    trainer.train()
    (entry,) = read_log(tmp_path / "run" / "selection.jsonl")
    assert list(entry.tasks) == [TASK]
    assert "expected a score in [0, 1], found 7.0" in entry.failed["hebench_odd"]
    (live_folder,) = (tmp_path / "run" / EVALS / "checkpoint-2").iterdir()
    assert list(read_run(live_folder).tasks) == [TASK]


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft's own
def test_an_adapter_in_training_is_evaluated_though_its_folder_is_no_model(
    tiny_model: Path, tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model

    trainer, _ = make_trainer(tiny_model, tmp_path, max_steps=1, save_steps=1)
    lora = get_peft_model(trainer.model, LoraConfig(r=2, target_modules=["q_proj"]))
    trainer = Trainer(
        model=lora,
        args=trainer.args,
        train_dataset=trainer.train_dataset,
        processing_class=trainer.processing_class,
    )
    trainer.add_callback(HebenchCallback(None, tasks=(TASK,), limit=1))
    trainer.train()
    assert not (tmp_path / "checkpoint-1" / "config.json").exists()
    (entry,) = read_log(tmp_path / "selection.jsonl")
    assert list(entry.tasks) == [TASK] and entry.weights_sha256 is None and entry.failed == {}


def test_each_training_has_its_own_budget_and_its_own_log(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = tmp_path / "selection.jsonl"
    trainer, _ = make_trainer(tiny_model, tmp_path, max_steps=2, save_steps=1)
    callback = HebenchCallback(None, tasks=(TASK,), limit=1, every=1, max_overhead=1e-6)
    trainer.add_callback(callback)
    trainer.train()
    first = log.read_bytes()
    assert callback.left_out == [2] and len(read_log(log)) == 1
    # One that goes on from a save goes on with its log ...
    trainer.args.max_steps = 3
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert [entry.step for entry in read_log(log)] == [1, 3]
    assert list(tmp_path.glob("selection*.jsonl")) == [log]
    # ... and one that begins anew finds none.
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert [entry.step for entry in read_log(log)] == [1] and callback.left_out == [2, 3]
    assert (tmp_path / "selection.1.jsonl").read_bytes().startswith(first)
    assert "it is kept as selection.1.jsonl" in caplog.text


def _share(*doc_ids: int, failed: dict[str, str] | None = None, truncated: int = 0) -> Asked:
    described = Described(
        config={}, shots=0, total=9, task_sha256="t", data_sha256="d", source_sha256="s"
    )
    names = [name for name in ("a", "b") if name not in (failed or {})]
    return Asked(
        samples={name: [{"doc_id": doc_id} for doc_id in doc_ids] for name in names},
        versions={"a": "1.0", "b": "1.0"},
        failed=failed or {},
        described=dict.fromkeys(names, described),
        truncated=truncated,
        backend="prefix",
        device="cpu",
        batch_size=8,
        seed=1,
        limit=None,
    )


def test_what_processes_found_is_put_together_in_the_order_of_the_items(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from hebench.selection import callback

    own, other = _share(0, 2, truncated=1), _share(1, truncated=2, failed={"b": "broke"})

    def gather(shares: list[Any], mine: Asked) -> None:
        shares[:] = [mine, other]

    monkeypatch.setattr(callback, "_place", lambda: (0, 2))
    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    found = callback._together(own)
    assert [sample["doc_id"] for sample in found.samples["a"]] == [0, 1, 2]
    # A task that failed in one process has not all of its items.
    assert list(found.samples) == list(found.described) == ["a"]
    assert found.failed == {"b": "broke"} and found.truncated == 3


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"deepspeed_plugin": types.SimpleNamespace(zero_stage=3)}, "DeepSpeed ZeRO-3"),
        ({"fsdp": "full_shard"}, "FSDP"),
    ],
)
def test_a_model_in_parts_is_refused_with_the_way_out(arguments: Any, parts: str) -> None:
    callback = HebenchCallback(None, tasks=(TASK,))
    args = types.SimpleNamespace(output_dir="runs/x", **arguments)
    with pytest.raises(ConfigError, match=f"in parts .{parts}.*`hebench watch runs/x` beside"):
        callback.on_train_begin(args, None, None, model=torch.nn.Linear(1, 1))


def test_parameters_that_are_parts_are_seen_without_the_settings() -> None:
    model = torch.nn.Linear(1, 1)
    model.weight.ds_id = 1
    args = types.SimpleNamespace(output_dir="runs/x")
    with pytest.raises(ConfigError, match="ZeRO-3"):
        HebenchCallback(None, tasks=(TASK,)).on_train_begin(args, None, None, model=model)


def test_mistakes_are_told_before_training(tiny_model: Path, tmp_path: Path) -> None:
    trainer, _ = make_trainer(tiny_model, tmp_path)
    trainer.add_callback(HebenchCallback(trainer, tasks=("hebench_none",)))
    with pytest.raises(TaskError, match="unknown task"):
        trainer.train()
    with pytest.raises(ConfigError, match="max_overhead"):
        HebenchCallback(None, max_overhead=0)
    with pytest.raises(ConfigError, match="every"):
        HebenchCallback(None, every=0)


def test_a_trainer_without_a_tokenizer_is_told_so(tiny_model: Path, tmp_path: Path) -> None:
    trainer, _ = make_trainer(tiny_model, tmp_path)
    trainer.processing_class = None
    trainer.callback_handler.processing_class = None
    trainer.add_callback(HebenchCallback(trainer, tasks=(TASK,), every=1))
    with pytest.raises(ConfigError, match="processing_class"):
        trainer.train()
    assert trainer.state.global_step == 0  # before hours are spent
