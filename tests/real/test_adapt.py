"""`hebench adapt tiny` from end to end: all stages, resumed, in two languages, on two processes."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
POINTS = ["base", "distil", "calibrate", "pretrain", "sft", "dpo"]


def adapt(*arguments: str, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *launcher, "-m", "hebench", "adapt", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def report_of(folder: Path) -> dict:
    return json.loads((folder / "adapt.json").read_text(encoding="utf-8"))


def without_times(folder: Path) -> list[dict]:
    return [
        {key: value for key, value in row.items() if key != "seconds"}
        for row in report_of(folder)["rows"]
    ]


def test_tiny_goes_from_a_base_model_to_a_chat_model_and_says_what_each_stage_did(
    tmp_path: Path,
) -> None:
    done = adapt("tiny", f"out={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    rows = report_of(tmp_path / "run")["rows"]
    assert [row["name"] for row in rows] == POINTS
    assert (
        rows[0]["languages"]["he"]["tokens_per_word"]
        > rows[1]["languages"]["he"]["tokens_per_word"]
    )
    english = {row["languages"]["en"]["tokens_per_word"] for row in rows}
    assert len(english) == 1
    bits = [row["languages"]["he"]["bits_per_byte"] for row in rows]
    assert bits[3] < bits[1]
    assert (tmp_path / "run" / "adapt.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "run" / "dpo" / "model" / "hebench.json").is_file()
    assert "| pretrain |" in done.stdout

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("stage.json")}
    again = adapt("tiny", f"out={tmp_path / 'run'}")
    assert again.returncode == 0, again.stderr
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("stage.json")}

    other = adapt("tiny", f"out={tmp_path / 'run'}", "tokenizer.tokens=90")
    assert other.returncode == 2
    assert "was asked for otherwise" in other.stderr


def test_a_run_killed_again_and_again_ends_with_the_same_numbers(tmp_path: Path) -> None:
    whole = adapt("tiny", f"out={tmp_path / 'run' / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    command = [
        sys.executable,
        "-m",
        "hebench",
        "adapt",
        "tiny",
        f"out={tmp_path / 'cut' / 'whole'}",
    ]
    for stage in ("tokenizer", "calibrate", "pretrain"):
        job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while job.poll() is None and not (tmp_path / "cut/whole" / stage / "stage.json").exists():
            time.sleep(0.05)
        job.send_signal(signal.SIGKILL)
        job.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert without_times(tmp_path / "cut/whole") == without_times(tmp_path / "run/whole")


def test_another_language_is_another_recipe(tmp_path: Path) -> None:
    done = adapt("tiny_el", f"out={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    rows = report_of(tmp_path / "run")["rows"]
    assert [row["name"] for row in rows] == POINTS
    assert (
        rows[0]["languages"]["el"]["tokens_per_word"]
        > rows[1]["languages"]["el"]["tokens_per_word"]
    )


def test_two_processes_share_the_training_and_one_does_the_rest(tmp_path: Path) -> None:
    done = adapt(
        "tiny",
        f"out={tmp_path / 'run'}",
        "pretrain.training.world_size=2",
        "pretrain.training.micro_rows=2",
        "pretrain.training.zero_stage=3",
        "sft.training.world_size=2",
        "sft.training.micro_rows=1",  # and without ZeRO, in the process that had it
        "dpo=null",
        launcher=("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
    )
    assert done.returncode == 0, done.stderr
    rows = report_of(tmp_path / "run")["rows"]
    assert [row["name"] for row in rows] == POINTS[:5]
