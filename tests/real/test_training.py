"""Training in real processes: ZeRO on two, kill -9 at any moment.

The first use of DeepSpeed compiles a small operator, which takes a minute or two once.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from hebench.train import memory, pretrain
from hebench.train.checkpoints import complete_checkpoints, read_checkpoint
from hebench.train.device import Backend
from hebench.train.memory import memory_bytes, without_weights
from tests.conftest import DEVICE, REPOSITORY
from tests.train.conftest import *  # noqa: F403 (the tiny tokenizer and models)
from tests.train.made_rows import curve, pretraining

pytestmark = pytest.mark.slow

# What a process of a job does; argv: its settings as JSON, model, corpus, out, step to die at.
JOB = """
import atexit, json, os, signal, sys
from pathlib import Path

def threads():
    return {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}

# Registered first, so that it is called last.
atexit.register(lambda: threads() & {"pt_gloo_runloop"} and print("gloo runs", file=sys.stderr))

from transformers import TrainerCallback
from hebench.errors import HebenchError
from hebench.train import pretrain
from tests.train.made_rows import pretraining

settings, model, corpus, out, dies_at = sys.argv[1:]

class Dies(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == int(dies_at):
            os.kill(os.getpid(), signal.SIGKILL)

try:
    pretrain.run(
        pretraining(**json.loads(settings)),
        model=Path(model), corpus=Path(corpus), out=Path(out), callbacks=[Dies()],
    )
except HebenchError as error:
    sys.exit(f"error: {error}")
"""

# A job that writes the most bytes of tensors that lived at once, until its last step was over.
COUNTS = """
import json, sys, time
from pathlib import Path
from torch.profiler import ProfilerActivity, profile
from transformers import TrainerCallback
from hebench.train import device, pretrain
from tests.train.made_rows import pretraining

settings, model, corpus, out, _ = sys.argv[1:]
device.BUCKET = 1000
ended = []

class Marks(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        ended.append(time.time_ns())

with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
    pretrain.run(
        pretraining(**json.loads(settings)),
        model=Path(model), corpus=Path(corpus), out=Path(out), callbacks=[Marks()],
    )
changes = [e for e in found.profiler.kineto_results.events() if e.name() == "[memory]"]
live = most = 0
for event in sorted(changes, key=lambda event: event.start_ns()):
    if event.start_ns() <= ended[-1]:
        live += event.nbytes()
        most = max(most, live)
Path(out).with_name("most").write_text(str(most))
"""

# One process that has imported everything makes a fresh one, by fork, for each try.
FORKS = """
import json, os, sys
from pathlib import Path
import torch, transformers.trainer, accelerate
from hebench.train import pretrain, trainer
from tests.train.made_rows import pretraining
settings, model, corpus, out = sys.argv[1:]
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        pretrain.run(
            pretraining(**json.loads(settings)),
            model=Path(model), corpus=Path(corpus), out=Path(out),
        )
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def launch(  # noqa: PLR0913 (each but the first is named by its kind)
    processes: int,
    settings: dict[str, Any],
    base: tuple[Path, Path],
    out: Path,
    dies_at: int = -1,
    *,
    does: str = JOB,
) -> tuple[int, str]:
    """Run a job under torchrun; one that hangs is ended with all its processes."""
    model, corpus = map(str, base)
    script = out.parent / "job.py"
    script.write_text(does)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes)]
    address = ["--standalone", "--local_addr", "127.0.0.1"]
    values = [json.dumps(settings), model, corpus, str(out), str(dies_at)]
    path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
    with subprocess.Popen(
        [*launcher, *address, str(script), *values],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as job:
        try:
            _, errors = job.communicate(timeout=400)
        except subprocess.TimeoutExpired:
            job.terminate()  # torchrun passes it on to its processes
            raise
    return job.returncode, errors[-12000:]  # the launcher alone says 3,000


def losses(out: Path) -> list[float]:
    return [line["loss_nats"] for line in curve(out)]


def test_zero_2_on_two_processes_equals_ddp_on_two_and_one_alone_also_after_kill_9(
    base: tuple[Path, Path], tmp_path: Path
) -> None:
    settings = {"micro_rows": 1, "world_size": 2, "save_every": 2, "steps": 6}
    code, errors = launch(2, settings, base, tmp_path / "ddp")
    assert code == 0 and "gloo runs" not in errors, errors
    zero = {**settings, "zero_stage": 2}
    code, errors = launch(2, zero, base, tmp_path / "zero", dies_at=3)
    assert code != 0
    assert [path.name for path in complete_checkpoints(tmp_path / "zero")] == ["checkpoint-2"]
    code, errors = launch(2, zero, base, tmp_path / "zero")
    assert code == 0 and "gloo runs" not in errors, errors
    pretrain.run(
        pretraining(steps=6), model=base[0], corpus=base[1], out=tmp_path / "one" / "pretrain"
    )
    assert losses(tmp_path / "zero") == pytest.approx(losses(tmp_path / "ddp"), abs=5e-6)
    assert losses(tmp_path / "zero") == pytest.approx(losses(tmp_path / "one/pretrain"), abs=5e-5)
    record = read_checkpoint(tmp_path / "zero" / "model")
    assert record is not None and (record.world_size, record.metrics["zero_stage"]) == (2, 2)


@pytest.mark.parametrize("stage", [1, 3])
def test_the_other_stages_of_zero_train_as_one_process_does_also_after_kill_9(
    base: tuple[Path, Path], tmp_path: Path, stage: int
) -> None:
    processes = 2 if DEVICE == "cpu" else 1  # NCCL wants a GPU for each
    settings = {"micro_rows": 1, "world_size": processes, "zero_stage": stage}
    code, errors = launch(processes, settings, base, tmp_path / "zero", dies_at=3)
    assert code != 0 and complete_checkpoints(tmp_path / "zero"), errors
    code, errors = launch(processes, settings, base, tmp_path / "zero")
    assert code == 0, errors
    pretrain.run(pretraining(), model=base[0], corpus=base[1], out=tmp_path / "one" / "pretrain")
    assert losses(tmp_path / "zero") == pytest.approx(losses(tmp_path / "one/pretrain"), abs=5e-5)
    ours, alone = (
        load_file(tmp_path / name / "model" / "model.safetensors")
        for name in ("zero", "one/pretrain")
    )
    assert ours.keys() == alone.keys()
    for name, weights in alone.items():  # in bfloat16: two steps of it
        torch.testing.assert_close(ours[name], weights, rtol=2**-7, atol=1e-3)


@pytest.mark.skipif(DEVICE != "cpu", reason="test_gpu.py has a GPU's own count")
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_zero_takes_the_memory_that_was_worked_out(
    base: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
) -> None:
    """States, and the copies that the step has of gradients; rows are next to nothing here."""
    folder, sizes = tmp_path / "model", {"hidden_size": 384, "num_hidden_layers": 4}
    config = LlamaConfig(**sizes, intermediate_size=1024, num_attention_heads=4, vocab_size=400)
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(base[0]).save_pretrained(folder)
    settings = {"zero_stage": 2, "precision": precision, "steps": 2, "save_every": 100}
    settings |= {"row_tokens": 8, "micro_rows": 1, "global_rows": 1}
    monkeypatch.setattr(memory, "BUCKET", 1000)
    backend = Backend(name="cpu", attention="sdpa", convention="bool")
    parts = memory_bytes(pretraining(**settings).training, backend, without_weights(folder), None)
    code, errors = launch(1, settings, (folder, base[1]), tmp_path / "run", does=COUNTS)
    assert code == 0, errors
    found = int((tmp_path / "most").read_text())
    assert found / sum(parts.values()) == pytest.approx(1, abs=0.05), (found, parts)


def test_kill_9_at_random_moments_and_during_saves_leaves_the_curve_of_the_unbroken_run(
    base: tuple[Path, Path], tmp_path: Path
) -> None:
    model, corpus = base
    settings: dict[str, Any] = {"steps": 40, "save_every": 2}
    pretrain.run(
        pretraining(**settings), model=model, corpus=corpus, out=tmp_path / "whole/pretrain"
    )
    out = tmp_path / "broken" / "pretrain"
    command = [sys.executable, "-c", FORKS, json.dumps(settings), str(model), str(corpus), str(out)]
    moments = random.Random(int(os.environ.get("HEBENCH_KILL_SEED", "5")))
    kills = in_saves = 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as forks:
        assert forks.stdin and forks.stdout
        while True:
            forks.stdin.write("again\n")
            forks.stdin.flush()
            child = int(forks.stdout.readline())
            if kills < 12:
                in_saves += _kill_later(child, out, in_save=kills % 2 == 0, moments=moments)
                kills += 1
            code = int(forks.stdout.readline())
            if code == 0:
                break
            assert code == -signal.SIGKILL
        forks.stdin.close()
    # A quick machine is through after fewer kills than a slow one.
    assert kills >= 5 and in_saves >= 1, (kills, in_saves)
    assert curve(out) == curve(tmp_path / "whole" / "pretrain")


def _kill_later(child: int, out: Path, *, in_save: bool, moments: random.Random) -> bool:
    """Kill a process, in a save or some time after it began to train; say if it was in a save.

    It is left alone where it ends before.
    """
    saving = out / ".saving.tmp"
    log = out / "log.jsonl"
    deadline = time.monotonic() + 60
    old = log.stat().st_size if log.exists() else 0
    while time.monotonic() < deadline:
        if _ended(child):
            return False
        if in_save and saving.exists():
            time.sleep(moments.uniform(0, 0.03))
            break
        if not in_save and log.exists() and log.stat().st_size > old:
            time.sleep(moments.uniform(0, 0.1))
            break
        time.sleep(0.0005)
    within = saving.exists()
    try:
        os.kill(child, signal.SIGKILL)
    except ProcessLookupError:  # it has ended in this moment
        return False
    return within


def _ended(child: int) -> bool:
    try:
        state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"
