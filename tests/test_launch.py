"""The launch examples: each says what it would do first, then starts the same thing."""

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from hebench import cli
from hebench.adapt.recipe import recipes_folder
from hebench.models import tiny
from tests.conftest import REPOSITORY
from tests.train.made_rows import make_corpus

EXAMPLES = REPOSITORY / "examples" / "launch"
TEXT = recipes_folder() / "text"
# They say what they were called with and do no more; srun passes on what it was to start.
FAKES = {
    "hebench": 'exit "${HEBENCH_ENDS:-0}"',
    "torchrun": "",
    "deepspeed": "",
    "srun": 'exec "$@"',
    "scontrol": "printf 'node-7\\nnode-8\\n'",
}
ADAPT = ["pretrain.training.world_size=2", "pretrain.training.micro_rows=2", "sft=null", "dpo=null"]
Calls = list[list[str]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The examples' variables for the tiny recipe, on a machine whose launchers only take notes."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, rest in FAKES.items():
        note = f"printf '%s\\0' {name} \"$@\" >> '{tmp_path}/calls'; echo >> '{tmp_path}/calls'"
        (tools / name).write_text(f"#!/usr/bin/env bash\n{note}\n{rest}\n", encoding="utf-8")
        (tools / name).chmod(0o755)
    texts = ["The old ferry left the harbour at seven in the morning."]
    return {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "RECIPE": "tiny",
        "PROCESSES": "2",
        "MODEL": str(tiny.make(tmp_path / "model", texts)),
        "TEXT": str(TEXT),
        "CHAT": str(TEXT / "chat_he.jsonl"),
        "PREFERENCES": str(TEXT / "chat_pairs_he.jsonl"),
        "CORPUS": str(make_corpus(tmp_path / "corpus")),
        "OUT": str(tmp_path / "run"),
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_JOB_NODELIST": "node-[7-8]",
        "SLURM_JOB_ID": "12",
    }


def launched(
    name: str, environment: dict[str, str], tmp_path: Path, *more: str, ends: int = 0
) -> Calls:
    """Run an example and return what it called, in order."""
    command = ["bash", str(EXAMPLES / name), *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == ends, done.stderr
    lines = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
    (tmp_path / "calls").unlink()
    return [line.split("\0")[:-1] for line in lines]


def dry(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> dict[str, Any]:
    """Return what the command prints that an example would run, dry."""
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert not ended.value.code, said.err
    return yaml.safe_load(said.out)  # type: ignore[no-any-return]


def torchrun(arguments: list[str]) -> Any:
    """Return torchrun's own reading of its arguments, which ends where it does not know one."""
    from torch.distributed.run import get_args_parser

    return get_args_parser().parse_args(arguments)


@pytest.mark.parametrize(
    ("name", "more", "starts"),
    [
        ("single_node.sh", ADAPT, "torchrun"),
        ("deepspeed.sh", [*ADAPT, "chat=null", "preferences=null"], "deepspeed"),
        ("slurm.sbatch", ["pretrain.training.micro_rows=2"], "torchrun"),
    ],
)
def test_an_example_starts_what_its_dry_run_said(  # noqa: PLR0913, PLR0917
    name: str,
    more: list[str],
    starts: str,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, *_, last = launched(name, environment, tmp_path, *more)
    assert first[-1] == "--dry-run"
    asked = first[:-1]
    assert last[0] == starts and last[-len(asked) :] == asked
    options = last[1 : -len(asked)]
    if starts == "torchrun":
        found = torchrun([*options, *asked])
        assert found.module and found.nproc_per_node == "2"
    else:
        assert options == ["--hostfile", str(EXAMPLES / "hostfile"), "--no_local_rank", "--module"]
    plan = dry(first, monkeypatch, capsys)
    stages = {stage["stage"]: stage for stage in plan.get("stages", [plan])}
    assert stages["pretrain"]["steps"]["world_size"] == 2
    assert not (tmp_path / "run").exists()
    assert launched(name, {**environment, "DRY": "1"}, tmp_path, *more) == [first]
    refused = {**environment, "HEBENCH_ENDS": "2"}
    assert launched(name, refused, tmp_path, *more, ends=2) == [first], "it started all the same"


def test_slurm_meets_on_the_first_machine_of_as_many_as_it_has(
    environment: dict[str, str], tmp_path: Path
) -> None:
    environment["SLURM_JOB_NUM_NODES"] = "2"
    calls = launched("slurm.sbatch", environment, tmp_path)
    assert "pretrain.training.world_size=4" in calls[0]
    found = torchrun(calls[-1][1:])
    assert (found.nnodes, found.rdzv_endpoint) == ("2", "node-7:29500")


def test_the_hostfile_has_the_processes_of_the_papers_recipe() -> None:
    from hebench.adapt.recipe import load_recipe

    lines = (EXAMPLES / "hostfile").read_text(encoding="utf-8").splitlines()
    slots = sum(int(line.rpartition("slots=")[2]) for line in lines)
    assert load_recipe("dictalm2", ["text=x"]).pretrain.training.world_size == slots


@pytest.mark.parametrize("recipe", ["dictalm2", "dictalm2_cuda"])
def test_the_defaults_of_the_examples_fit_their_recipes(
    recipe: str,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for code in ("he", "en"):
        (tmp_path / "texts" / code).mkdir(parents=True)
        (tmp_path / "texts" / code / "a.txt").write_text("text", encoding="utf-8")
    environment |= {"RECIPE": recipe, "TEXT": str(tmp_path / "texts")}
    del environment["SLURM_JOB_NUM_NODES"]
    name = {"dictalm2": "deepspeed.sh", "dictalm2_cuda": "single_node.sh"}[recipe]
    (first,) = launched(name, {**environment, "DRY": "1"}, tmp_path)
    plan = dry(first, monkeypatch, capsys)
    assert plan["name"] == recipe
    if recipe == "dictalm2_cuda":
        del environment["PROCESSES"]
        (first,) = launched("slurm.sbatch", {**environment, "DRY": "1"}, tmp_path)
        assert dry(first, monkeypatch, capsys)["steps"]["world_size"] == 48


@pytest.fixture
def ray_job(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Return a function that reads the Ray example under these variables: its names."""
    pytest.importorskip("ray", reason="needs the extra hebench[ray]")

    def read(**variables: str) -> dict[str, Any]:
        for key, value in {**environment, "NODES": "1", **variables}.items():
            monkeypatch.setenv(key, value)
        monkeypatch.setattr(sys, "argv", ["ray_job.py", "pretrain.training.micro_rows=2"])
        return runpy.run_path(str(EXAMPLES / "ray_job.py"))

    return read


def test_the_ray_job_starts_what_its_dry_run_said(
    ray_job: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls: Calls = []
    found = ray_job(DRY="1")

    def asked_for(command: list[str], check: bool) -> Any:
        calls.append(command)
        return SimpleNamespace(returncode=2 * refused)

    monkeypatch.setattr(subprocess, "run", asked_for)
    refused = True
    with pytest.raises(SystemExit) as ended:
        found["main"]()
    assert ended.value.code == 2 and len(calls) == 1
    refused = False
    calls.clear()
    found["main"]()
    host, port = found["address"]()
    found["start"](0, host, port)
    first, second = calls
    asked = first[2:-1]
    assert first[:2] == [sys.executable, "-m"] and first[-1] == "--dry-run"
    assert second[:3] == [sys.executable, "-m", "torch.distributed.run"]
    options = torchrun(second[3:])
    assert (options.nproc_per_node, options.master_addr) == ("2", host)
    assert [options.training_script, *options.training_script_args] == asked
    plan = dry(first[2:], monkeypatch, capsys)
    assert plan["steps"]["world_size"] == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["single_node.sh", "deepspeed.sh"])
def test_a_launcher_starts_two_processes_of_which_one_prints_the_plan(
    name: str, environment: dict[str, str], tmp_path: Path
) -> None:
    """The real launchers, on this machine: `--dry-run` is passed on to what they start."""
    hosts = tmp_path / "hosts"
    hosts.write_text("localhost slots=2\n", encoding="utf-8")
    tools = tmp_path / "own"
    tools.mkdir()
    # DeepSpeed asks every machine for its name, this one too; the first dry run is not what is
    # tried here.
    for tool, says in (("ssh", "echo 127.0.0.1"), ("hebench", "true")):
        (tools / tool).write_text(f"#!/bin/sh\n{says}\n", encoding="utf-8")
        (tools / tool).chmod(0o755)
    path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment |= {"PATH": path, "HOSTFILE": str(hosts)}
    more = [*ADAPT, "chat=null", "preferences=null", "--dry-run"]
    command = ["bash", str(EXAMPLES / name), *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\nstages:\n") == 1, "the first process alone prints"


@pytest.mark.slow
def test_ray_pretrains_on_a_local_cluster(environment: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra hebench[ray]")
    changes = ["micro_rows=2", "steps=2", "save_every=2", "warmup_steps=0"]
    command = [sys.executable, str(EXAMPLES / "ray_job.py")]
    command += [f"pretrain.training.{change}" for change in changes]
    tools = Path(sys.executable).parent
    environment |= {"PATH": f"{tools}:{os.environ['PATH']}", "NODES": "1", "GPUS": "0", "CPUS": "1"}
    environment |= {"RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "run" / "model" / "config.json").is_file()
