"""The command line: exit codes, one line for a mistake, interruption."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from hebench import cli
from hebench.cli.scores import _demo_board, _demo_dtype, _print_runs
from hebench.harness.answers import ANSWERS_NAME, AnswerLog
from hebench.records import MANIFEST_NAME
from hebench.train import device


def hebench(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["hebench", *arguments])
    with pytest.raises(SystemExit) as info:
        cli.main()
    return int(info.value.code or 0)


def test_eval_prints_a_table_with_n_and_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["eval", "baseline:random", "--tasks", "hebench_mini_winograd", "--limit", "10"]
    assert hebench(*arguments, "--out", str(tmp_path), monkeypatch=monkeypatch) == 0
    printed = capsys.readouterr().out
    assert "hebench_mini_winograd" in printed and "n=10" in printed and "[" in printed
    assert hebench(*arguments, "--out", str(tmp_path), "--json", monkeypatch=monkeypatch) == 0
    (row,) = json.loads(capsys.readouterr().out)
    found = row["tasks"]["hebench_mini_winograd"]
    assert 0 <= found["low"] <= found["mean"] <= found["high"] <= 1 and found["n"] == 10
    for path in tmp_path.glob("samples_*"):
        judged = path.read_text("utf-8")
        path.write_text(re.sub(r'"(score|acc)": [0-9.]+', r'"\1": NaN', judged), "utf-8")
    _print_runs([tmp_path], as_json=True)
    (row,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert row["tasks"]["hebench_mini_winograd"]["mean"] is None


def test_the_demo_leaves_a_leaderboard_that_stands_where_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models = tmp_path / "leaderboard" / "models.yaml"
    models.parent.mkdir()
    models.write_text("{}", encoding="utf-8")
    run = tmp_path / "random"
    arguments = ["eval", "baseline:random", "--tasks", "hebench_mini_winograd", "--limit", "2"]
    assert hebench(*arguments, "--out", str(run), monkeypatch=monkeypatch) == 0
    _demo_board([run], tmp_path)
    assert models.read_text("utf-8") == "{}"
    assert Path(capsys.readouterr().out.splitlines()[-1].removeprefix("page: ")).is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["eval", "baseline:random", "--tasks", "hebench_mimi", "--out", "{}"], "did you mean"),
        (["eval", "/no/model", "--tasks", "hebench_mini_qa", "--out", "{}"], "found nothing"),
        (["eval", "{}", "--tasks", "hebench_mini_qa", "--out", "{}/run"], "is not a model folder"),
        (
            ["eval", "~no-such-user/m", "--tasks", "hebench_mini_qa", "--out", "{}"],
            "~no-such-user/m: expected a user's home folder",
        ),
        (["eval", "baseline:random", "--tasks", ",", "--out", "{}"], "at least one task"),
        (
            ["eval", "baseline:random", "--tasks", "hebench_mini_qa", "--out", "/proc/x"],
            "cannot write",
        ),
        (["board", "add", "{}", "--board", "{}"], "expected a results"),
        (["board", "build", "--board", "{}"], "hebench board add"),
        (["board", "verify", "--board", "{}"], "run hebench board build"),
        (["board", "withdraw", "a/b", "--reason", "x", "--board", "{}"], "found no a/b"),
        (["compare", "{}", "{}"], "expected a results"),
        (["tasks", "check", "{}/nothing"], "expected a folder"),
        (["tasks", "show", "hebench_mini"], "name one of its tasks"),
        (
            ["tasks", "show", "hebench_mini_qa", "--n", "0"],
            "--n: expected at least 1 item, found 0",
        ),
        (["data", "overlap", "{}", "--min-share", "0.5"], "--min-share says what --clean leaves"),
        (["train", "corpus", "--recipe", "tiny", "out="], "hebench train corpus needs out=PATH"),
        (["train", "corpus", "--recipe", "tiny", "out=~no-such-user/c"], "found none for ~no-such"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    filled = [part.format(tmp_path) for part in arguments]
    assert hebench(*filled, monkeypatch=monkeypatch) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1 and message in errors[0], errors


def test_sets_that_are_not_in_the_cache_are_named_with_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEBENCH_CACHE", str(tmp_path / "cache"))
    sets = "nli,topic-test,nli,nikud"
    arguments = ["data", "overlap", str(tmp_path), "--sets", sets]
    assert hebench(*arguments, monkeypatch=monkeypatch) == 2
    (error,) = capsys.readouterr().err.strip().splitlines()
    assert "found none of nli/validation, nli/test, topic-test/test, nikud (" in error
    assert error.endswith("run `hebench data get hebnli sib200 nakdimon-test`")


@pytest.mark.parametrize(("package", "told"), [("sqlalchemy", True), ("no_such", False)])
def test_a_package_of_an_extra_that_is_not_there_is_named_with_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], package: str, told: bool
) -> None:
    error = ModuleNotFoundError(f"No module named '{package}.orm'", name=f"{package}.orm")

    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    if told:
        assert hebench(monkeypatch=monkeypatch) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line == (
            "hebench: expected the package sqlalchemy.orm, found none; install hebench[human]"
        )
    else:
        with pytest.raises(ModuleNotFoundError):
            hebench(monkeypatch=monkeypatch)


def test_a_file_that_cannot_take_its_place_is_called_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text("A text.", encoding="utf-8")
    arguments = ["data", "overlap", str(tmp_path / "text.txt"), "--sets", "mini-nikud"]
    assert hebench(*arguments, "--report", str(tmp_path), monkeypatch=monkeypatch) == 2
    assert capsys.readouterr().err.strip() == f"hebench: Is a directory: {tmp_path}"


def test_a_home_folder_is_found_after_an_equals_sign_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """bash writes it out, zsh does not: there, a folder called ~ would come to be."""
    monkeypatch.setenv("HOME", str(tmp_path))
    stage = ["train", "tokenizer", "--recipe", "tiny", "corpus=~/c", "out=~/o"]
    for command, message in (
        (["adapt", "tiny", "model=~/m", "out=~/o"], f"{tmp_path}/m: expected a model folder"),
        ([*stage, "model=~/m"], f"{tmp_path}/c/train/he: expected a file or a folder"),
    ):
        assert hebench(*command, "--dry-run", monkeypatch=monkeypatch) == 2
        assert message in capsys.readouterr().err


def test_the_tokenizer_stage_prints_its_gain_curve(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = json.dumps({"text": "הילדים הולכים לבית הספר בבוקר וחוזרים הביתה בצהריים. " * 40})
    for part in ("train", "heldout"):
        (tmp_path / "corpus" / part / "he").mkdir(parents=True)
        (tmp_path / "corpus" / part / "he" / "news.jsonl").write_text(line, encoding="utf-8")
    stage = [
        "train",
        "tokenizer",
        "--recipe",
        "tiny",
        f"model={tiny_model}",
        f"out={tmp_path / 'out'}",
    ]
    sizes = ["tokenizer.tokens=4", "tokenizer.curve_tokens=8"]
    asked = [*stage, f"corpus={tmp_path / 'corpus'}", *sizes]
    assert hebench(*asked, monkeypatch=monkeypatch) == 0
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.split("alike\n")[1].splitlines() if line[:1] == " "]
    assert [row[0] for row in rows] == [str(size) for size in range(9)]
    rates = [float(row[1]) for row in rows]
    assert rates == sorted(rates, reverse=True) and rates[0] > rates[-1]
    assert f"picture: {tmp_path / 'out' / 'curve.png'}" in printed


def test_tasks_check_finds_a_planted_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.yaml").write_text("task: [hebench_toy\n", encoding="utf-8")
    assert hebench("tasks", "check", str(tmp_path), monkeypatch=monkeypatch) == 2
    assert "broken.yaml: cannot be loaded" in capsys.readouterr().err
    assert hebench("tasks", "check", monkeypatch=monkeypatch) == 0


def test_tasks_path_ls_and_show(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hebench("tasks", "path", monkeypatch=monkeypatch) == 0
    assert (Path(capsys.readouterr().out.strip()) / "hebench_mini.yaml").is_file()
    assert hebench("tasks", "ls", "--json", monkeypatch=monkeypatch) == 0
    assert json.loads(capsys.readouterr().out)["hebench_heq"] == "task"
    assert hebench("tasks", "show", "hebench_mini_winograd", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out.rstrip().endswith("תשובה:")


def test_ctrl_c_is_130_and_the_same_command_goes_on(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "hebench", "eval", str(tiny_model)]
    command += ["--tasks", "hebench_mini_summarization", "--out", str(out), "--limit", "32"]
    command += ["--batch-size", "1", "--dtype", "float32", "--max-tokens", "48"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    answers = out / ANSWERS_NAME
    deadline = time.monotonic() + 120
    while not (answers.exists() and answers.read_text("utf-8").count("\n") >= 2):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
    assert errors.strip().splitlines()[-1] == (
        "hebench: interrupted; the same command goes on from here"
    )
    assert "Traceback" not in errors
    assert not (out / MANIFEST_NAME).exists()
    subprocess.run(command, check=True, capture_output=True)
    manifest = json.loads((out / MANIFEST_NAME).read_text(encoding="utf-8"))
    assert 1 <= manifest["requests_reused"] < 32


DROPS = """
import time
from hebench import cli

class Freed:
    def __del__(self):
        raise KeyboardInterrupt

def command():
    Freed()  # Ctrl-C comes while this is freed
    time.sleep(20)

cli.app = command
cli.main()
"""


def test_ctrl_c_that_python_drops_comes_again() -> None:
    command = [sys.executable, "-c", DROPS]
    done = subprocess.run(command, check=False, capture_output=True, timeout=60, text=True)
    assert done.returncode == -signal.SIGINT and "ignored" not in done.stderr


def test_a_full_disk_is_one_line_and_nothing_counts_as_complete(tmp_path: Path) -> None:
    """The shell's limit on file size makes the kernel refuse the write for real."""
    out = tmp_path / "run"
    command = f"ulimit -f 40; exec {sys.executable} -m hebench eval baseline:random "
    command += f"--tasks hebench_mini_summarization --out {out}"
    finished = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert finished.returncode == 2, finished.stderr
    (line,) = finished.stderr.strip().splitlines()
    assert line.startswith("hebench: ")
    assert not (out / MANIFEST_NAME).exists()
    assert not list(out.glob("results_*"))


def test_help_does_not_import_the_heavy_libraries() -> None:
    code = (
        "import sys; from hebench import cli; "
        "heavy = {'torch', 'transformers', 'lm_eval', 'datasets', 'scipy', 'sacrebleu'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    environment = dict(os.environ)
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert printed.strip() == "[]"


def test_the_demo_goes_on_in_the_precision_that_it_was_begun_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "begun").mkdir()
    begun = AnswerLog(tmp_path / "begun" / ANSWERS_NAME, {"dtype": "bfloat16"}, {})
    begun.close()
    for speed, best in ((2.0, "bfloat16"), (0.5, "float32")):
        monkeypatch.setattr(device, "bf16_speed", lambda speed=speed: speed)
        assert _demo_dtype(tmp_path / "new") == best
        assert _demo_dtype(tmp_path / "begun") == "bfloat16"


def test_a_device_without_the_memory_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 874.00 MiB.")

    monkeypatch.setattr(cli, "app", fails)
    assert hebench("eval", monkeypatch=monkeypatch) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "out of memory. Tried to allocate 874.00 MiB." in line and "--batch-size" in line
