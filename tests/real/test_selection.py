"""Selection in real processes: a Ray cluster, data-parallel training, ZeRO-2."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hebench.selection.evaluate import EVALS, EvaluateConfig, evaluate_folder
from hebench.selection.found import complete
from hebench.selection.leases import holder
from hebench.selection.log import Evaluated, read_log
from hebench.selection.sweep import SweepConfig, sweep
from hebench.selection.watch import LEASES, WatchConfig, watch
from tests.conftest import REPOSITORY
from tests.selection.made_run import TASK, add_checkpoint

pytestmark = pytest.mark.slow

ASKED = EvaluateConfig(tasks=(TASK, "hebench_mini_sentiment"), limit=12, dtype="float32")

# A user's plain Trainer script, run without the callback and with it; argv: model, out, settings.
SCRIPT = """
import json, math, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
from hebench.selection.callback import HebenchCallback

model, out, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])

def train(name, evaluated):
    torch.manual_seed(0)
    rows = [
        {"input_ids": torch.randint(2, 900, (16,)), "labels": torch.randint(2, 900, (16,))}
        for _ in range(32)
    ]
    trainer = Trainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=TrainingArguments(
            output_dir=f"{out}/{name}", per_device_train_batch_size=1, max_steps=4, save_steps=2,
            logging_steps=1, learning_rate=1e-3, report_to=[], disable_tqdm=True, use_cpu=True,
            seed=3, **settings,
        ),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    if evaluated:
        tasks = ("hebench_mini_nli", "hebench_mini_qa")
        trainer.add_callback(
            HebenchCallback(trainer, tasks=tasks, limit=3, max_overhead=math.inf)
        )
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss" in line]
    return [[line["loss"], line["grad_norm"]] for line in lines], trainer.is_world_process_zero()

curves = {name: train(name, name == "own") for name in ("bare", "own")}
if curves["own"][1]:
    with open(out + "/curves.json", "w") as stream:
        json.dump({name: curve for name, (curve, _) in curves.items()}, stream)
"""
ZERO_2 = {
    "zero_optimization": {"stage": 2},
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "zero_allow_untested_optimizer": True,  # the Trainer's own: DeepSpeed's would be compiled
    "zero_force_ds_cpu_optimizer": False,
}


def same(first: Evaluated, second: Evaluated) -> bool:
    """Return whether two lines of logs hold the same scores, to the bit."""
    assert list(first.tasks) == list(second.tasks) and not first.failed and not second.failed
    for name, one in first.tasks.items():
        other = second.tasks[name]
        assert one.margins is not None and other.margins is not None
        if one.signature != other.signature or not np.array_equal(one.scores, other.scores):
            return False
        if not np.array_equal(one.margins, other.margins):
            return False
    return (first.checkpoint, first.step, first.tokens, first.weights_sha256) == (
        second.checkpoint,
        second.step,
        second.tokens,
        second.weights_sha256,
    )


def kill_one(run: Path, killed: list[int]) -> None:
    """Kill the first worker that is seen to hold a unit of the sweep."""
    leases = run / EVALS / LEASES
    deadline = time.monotonic() + 120
    while not killed and time.monotonic() < deadline:
        for path in leases.glob("checkpoint-*.0"):
            pid = holder(leases, path.stem)
            if pid is not None and pid != os.getpid():
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                return
        time.sleep(0.005)


def test_a_sweep_on_ray_equals_a_watcher_though_a_worker_is_killed(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    for run in (tmp_path / "ray", tmp_path / "one"):
        for step in (100, 200):
            add_checkpoint(run, tiny_model, step)
    watch(tmp_path / "one", WatchConfig(evaluate=ASKED, once=True))
    killed: list[int] = []
    killer = threading.Thread(target=kill_one, args=(tmp_path / "ray", killed))
    killer.start()
    said: list[str] = []
    assert sweep(tmp_path / "ray", SweepConfig(evaluate=ASKED), said.append) == 2
    killer.join()
    assert len(killed) == 1 and len(said) == 2
    swept, watched = (read_log(tmp_path / name / "selection.jsonl") for name in ("ray", "one"))
    assert len(swept) == 2 and all(map(same, swept, watched))
    assert list((tmp_path / "ray" / EVALS / LEASES).iterdir()) == []
    assert sweep(tmp_path / "ray", SweepConfig(evaluate=ASKED)) == 0  # all is there


def train(model: Path, out: Path, processes: int, **settings: Any) -> dict[str, Any]:
    """Run the script under torchrun; return losses and gradient norms by run."""
    script = out / "train.py"
    script.write_text(SCRIPT, encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes)]
    found = subprocess.run(
        [
            *(*launcher, "--standalone", "--local_addr", "127.0.0.1", str(script)),
            *(str(model), str(out), json.dumps(settings)),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-3000:]
    curves: dict[str, Any] = json.loads((out / "curves.json").read_text("utf-8"))
    return curves


@pytest.mark.parametrize("settings", [{}, {"deepspeed": ZERO_2}], ids=["ddp", "zero_2"])
def test_two_processes_share_the_items_and_train_as_without(
    tiny_model: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    curves = train(tiny_model, tmp_path, 2, **settings)
    assert curves["own"] == curves["bare"] and len(curves["own"]) == 4
    own = tmp_path / "own"
    log = read_log(own / "selection.jsonl")
    assert [entry.checkpoint for entry in log] == ["checkpoint-2", "checkpoint-4"]
    # One process that asks all items of the folder finds the same items and scores.
    asked = EvaluateConfig(tasks=("hebench_mini_nli", "hebench_mini_qa"), limit=3, dtype="float32")
    for entry, found in zip(log, complete(own), strict=True):
        whole = evaluate_folder(found, asked)
        assert list(entry.tasks) == list(whole.tasks)
        for name, task in entry.tasks.items():
            assert len(task.scores) == 3 and task.signature == whole.tasks[name].signature
            assert task.scores.tolist() == whole.tasks[name].scores.tolist()
