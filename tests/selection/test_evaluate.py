import contextlib
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hebench.board.read import read_run
from hebench.errors import CheckpointError, ConfigError, TaskError
from hebench.harness.live import Share, ask, undisturbed
from hebench.harness.live_folder import write_run_folder
from hebench.records import Model
from hebench.selection import evaluate as evaluating
from hebench.selection.evaluate import (
    EvaluateConfig,
    evaluate_folder,
    evaluated_samples,
    leaf_tasks,
    run_folder,
    units,
)
from hebench.selection.found import Found, look
from hebench.selection.items import read_items
from hebench.selection.log import TaskItems, append, read_log
from tests.selection.made_run import TASK, add_checkpoint

ASKED = EvaluateConfig(tasks=(TASK, "hebench_mini_qa"), limit=3, dtype="float32")
BROKEN = """
include: {nli}
task: hebench_broken
custom_dataset: !function hebench.data.load.mini_nli
process_results: !function broken_results.fail
metadata: {{version: 1.0}}
"""


def found_in(run: Path, model: Path) -> Found:
    found = look(add_checkpoint(run, model, 100))
    assert found is not None
    return found


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A folder with a task, and a group of it and another, that fails on every item."""
    from hebench.files import packaged_folder

    folder = tmp_path / "tasks"
    folder.mkdir()
    nli = packaged_folder("tasks") / "_families" / "nli"
    (folder / "broken.yaml").write_text(BROKEN.format(nli=nli), encoding="utf-8")
    (folder / "broken_results.py").write_text(
        "def fail(doc, results):\n    raise KeyError('no such answer')\n", encoding="utf-8"
    )
    (folder / "half.yaml").write_text(
        f"group: half_broken\ntask: [{TASK}, hebench_broken]\nmetadata: {{version: 1.0}}\n",
        encoding="utf-8",
    )
    return folder


def same(first: TaskItems, second: TaskItems) -> bool:
    assert first.margins is None or second.margins is not None
    return first.signature == second.signature and np.array_equal(first.scores, second.scores)


def test_a_folder_is_evaluated_into_run_folders(tiny_model: Path, tmp_path: Path) -> None:
    found = found_in(tmp_path, tiny_model)
    entry = evaluate_folder(found, ASKED)
    assert list(entry.tasks) == [TASK, "hebench_mini_qa"] and entry.failed == {}
    assert (entry.step, entry.tokens, entry.loss_nats) == (100, 10_000, 0.04)
    nli = entry.tasks[TASK]
    assert nli.chance == pytest.approx(1 / 3) and nli.margins is not None and len(nli.scores) == 3
    assert nli.answers is not None and len(nli.answers) == 3
    qa = entry.tasks["hebench_mini_qa"]
    assert qa.margins is None and qa.answers is None
    folders = [run_folder(found, unit) for unit in units(ASKED)]
    assert [list(read_run(folder).tasks) for folder in folders] == [[TASK], ["hebench_mini_qa"]]
    append(tmp_path / "selection.jsonl", entry)
    assert same(read_log(tmp_path / "selection.jsonl")[0].tasks[TASK], nli)


def test_a_model_in_memory_is_asked_the_same(tiny_model: Path, tmp_path: Path) -> None:
    found = found_in(tmp_path, tiny_model)
    entry = evaluate_folder(found, ASKED)
    model = AutoModelForCausalLM.from_pretrained(found.folder)
    tokenizer = AutoTokenizer.from_pretrained(found.folder)
    with undisturbed(model):
        asked = ask(model, tokenizer, ASKED.tasks, limit=3, batch_size=8, seed=1234)
    items, failed = evaluated_samples(asked.samples, asked.versions)
    assert failed == {}
    assert all(same(items[name], entry.tasks[name]) for name in entry.tasks)
    ours, theirs = items[TASK].margins, entry.tasks[TASK].margins
    assert ours is not None and ours == pytest.approx(theirs, abs=1e-4)
    ours, theirs = items[TASK].answers, entry.tasks[TASK].answers
    assert ours is not None and ours == pytest.approx(theirs, abs=1e-4) and 0 < ours.min() < 1


def test_a_run_folder_of_answers_in_memory_takes_the_place_of_an_earlier_one(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    out = tmp_path / "evals" / "live"
    known = Model(
        name="דגם", source="s", revision=None, weights_sha256=None, parameters=1, dtype="float32"
    )
    for limit in (1, 2):
        asked = ask(model, tokenizer, (TASK,), limit=limit, batch_size=8, seed=1)
        write_run_folder(asked, out, model=known, seconds=1.5)
    assert len(read_run(out).tasks[TASK].scores) == 2 and len(list(out.iterdir())) == 3
    assert list(out.parent.iterdir()) == [out]
    written, (answered, _) = read_items(out)[TASK], evaluated_samples(asked.samples, asked.versions)
    assert written.signature == answered[TASK].signature
    assert written.answers is not None and np.array_equal(written.answers, answered[TASK].answers)


@pytest.mark.slow
def test_processes_share_the_items_and_together_have_all(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    shares = [
        ask(
            model,
            tokenizer,
            (TASK,),
            limit=3,
            batch_size=8,
            seed=1234,
            share=Share(rank=rank, count=4),
        ).samples[TASK]
        for rank in range(4)
    ]
    assert [[sample["doc_id"] for sample in share] for share in shares] == [[0], [1], [2], []]
    whole = ask(model, tokenizer, (TASK,), limit=3, batch_size=8, seed=1234).samples[TASK]
    apart = [sample for share in shares for sample in share]
    assert [s["score"] for s in apart] == [s["score"] for s in whole]
    assert [s["prompt_hash"] for s in apart] == [s["prompt_hash"] for s in whole]


def test_training_finds_everything_as_it_was(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.padding_side = "right"
    model.train()
    model.model.layers[0].eval()
    model.lm_head.weight.requires_grad_(False)
    model.config.use_cache = False
    state = (tokenizer.padding_side, tokenizer.pad_token, str(tokenizer.backend_tokenizer.padding))
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())
    modes = [module.training for module in model.modules()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with undisturbed(model):
            assert not torch.is_autocast_enabled("cpu") and not model.training
            ask(model, tokenizer, ASKED.tasks, limit=2, batch_size=8, seed=5)
            random.random()
        assert torch.is_autocast_enabled("cpu")
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(map(torch.equal, weights, model.parameters())) and model.config.use_cache is False
    after = (tokenizer.padding_side, tokenizer.pad_token, str(tokenizer.backend_tokenizer.padding))
    assert after == state
    # Gradients flow as before: nothing was left behind by inference mode.
    model(torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss.backward()


def test_the_model_comes_back_after_a_failure_too(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model).train()
    with pytest.raises(KeyError), undisturbed(model):
        raise KeyError
    assert model.training


def test_the_precision_that_accelerate_wraps_around_a_model_is_put_aside(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model._original_forward = model.forward
    wrapped: Any = lambda *_, **__: None  # noqa: E731
    model.forward = wrapped
    with undisturbed(model):
        assert model.forward != wrapped
    assert model.forward is wrapped


def test_a_task_that_fails_is_recorded_and_the_others_keep_their_scores(
    tiny_model: Path, tmp_path: Path, broken: Path
) -> None:
    found = found_in(tmp_path / "run", tiny_model)
    config = EvaluateConfig(tasks=("half_broken",), limit=2, dtype="float32", include=(broken,))
    assert leaf_tasks(config) == (TASK, "hebench_broken")
    entry = evaluate_folder(found, config)
    assert list(entry.tasks) == [TASK]
    assert entry.failed == {"hebench_broken": "'no such answer'"}


def test_a_task_that_fails_in_memory_is_recorded_too(tiny_model: Path, broken: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    found = ask(
        model, tokenizer, ("half_broken",), limit=2, batch_size=8, seed=1, include=(broken,)
    )
    assert list(found.samples) == [TASK] and found.failed == {"hebench_broken": "'no such answer'"}


def test_a_gpu_goes_on_where_another_one_was_cut_off(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = found_in(tmp_path, tiny_model)
    folders = [
        run_folder(found, replace(ASKED, device=device))
        for device in ("cuda:0", "cuda:1", "cuda", "cpu")
    ]
    assert folders[0] == folders[1] == folders[2] != folders[3]
    seen: list[object] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device", lambda n: seen.append(n) or contextlib.nullcontext())
    kind, _ = evaluating.device_of("cuda:1")
    assert (kind, seen) == ("cuda", [1])
    with pytest.raises(ConfigError, match="one of 2 GPUs, from cuda:0 on, found cuda:2"):
        evaluate_folder(found, replace(ASKED, device="cuda:2"))


def test_a_task_that_is_named_twice_is_asked_once() -> None:
    assert [unit.tasks for unit in units(EvaluateConfig(tasks=("a", "b", "a")))] == [("a",), ("b",)]


def test_weights_that_do_not_load_are_the_checkpoints_fault(
    tiny_model: Path, tmp_path: Path
) -> None:
    found = found_in(tmp_path, tiny_model)
    (found.folder / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(CheckpointError, match="cannot load the model"):
        evaluate_folder(found, ASKED)


def test_what_makes_no_sense_is_refused(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="at least one task"):
        EvaluateConfig(tasks=())
    with pytest.raises(ConfigError, match="at least 1 item"):
        EvaluateConfig(limit=0)
    with pytest.raises(ConfigError, match="dtype: expected bfloat16.*found 'bflot16'"):
        EvaluateConfig(dtype="bflot16")
    with pytest.raises(TaskError, match="unknown task"):
        leaf_tasks(EvaluateConfig(tasks=("hebench_nli_that_is_not",)))


def test_lines_are_comparable_if_they_asked_the_same_items() -> None:
    own = EvaluateConfig(tasks=("a", "b"), limit=3)
    assert own.asked == EvaluateConfig(tasks=("b", "a"), limit=3, device="cuda").asked
    assert own.asked != EvaluateConfig(tasks=("a",), limit=3).asked
    assert own.asked != EvaluateConfig(tasks=("a", "b")).asked
