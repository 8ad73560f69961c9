import json
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from hebench.cli import selection
from hebench.errors import HebenchError
from hebench.selection.log import append
from tests.selection.made_run import TASK, add_checkpoint, made_curve

app = typer.Typer(pretty_exceptions_enable=False)
app.command("select")(selection.select)
app.command("watch")(selection.watch)
app.command("sweep")(selection.sweep)


def run_command(*arguments: object) -> str:
    """Return what a command prints; its refusals are raised."""
    found = CliRunner().invoke(app, [str(each) for each in arguments])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.output


@pytest.fixture
def run(tiny_model: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    for step in (100, 200):
        add_checkpoint(folder, tiny_model, step)
    return folder


@pytest.mark.slow
def test_watch_then_select_prints_the_decision(run: Path, tmp_path: Path) -> None:
    arguments = ("--tasks", TASK, "--limit", 3, "--dtype", "float32")
    assert "2 checkpoints evaluated" in run_command("watch", run, "--once", *arguments)
    more = (
        "--export",
        tmp_path / "model",
        "--link",
        tmp_path / "chosen",
        "--board",
        tmp_path / "b",
    )
    shown = run_command(
        "select", run, "--report", "hebench_mini_sentiment", "--report-limit", 2, *more
    )
    for words in ("chosen: checkpoint-", "rule confident", "true score lies in", "cannot be told"):
        assert words in shown
    assert (
        "four times in five" in shown.replace("\n", " ") and "on items that chose nothing" in shown
    )
    assert (tmp_path / "model" / "config.json").is_file() and (tmp_path / "chosen").is_symlink()
    assert json.loads((run / "selection.json").read_text("utf-8"))["reestimate"]
    assert (tmp_path / "b" / "models.yaml").is_file()
    as_json = run_command("select", run, "--json", "--rule", "best")
    assert json.loads(as_json[as_json.index("{") :])["decision"]["rule"] == "best"


def test_fitness_prints_a_row_for_each_task_and_measure(tmp_path: Path) -> None:
    for entry in made_curve([0.3, 0.5, 0.7, 0.8], chance=0.25):
        append(tmp_path / "selection.jsonl", entry)
    shown = run_command("select", "--fitness", tmp_path, "--seeds")
    assert "| task | score | 200 |" in shown and "above chance" in shown
    (content,) = json.loads(run_command("select", "--fitness", tmp_path, "--json"))
    assert content["fitness"]["monotonicity"] > 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rule", "luck"), "rule: expected one of"),
        (("--rule", "constraint"), "guard"),
        (("--measure", "luck"), "measure: expected one of"),
        (("--measure", "answer"), "measure answer needs tasks of choices"),
        (("--max-fall", "0.1"), "--max-fall does nothing without --rule constraint; add that"),
        (("--window", "10000"), "--window does nothing without --rule paper"),
        (("--rule", "best", "--lowest", "3"), "--lowest does nothing without --rule paper"),
        (("--report-limit", "3"), "--report-limit does nothing without --report"),
        (("--dtype", "float32", "--average"), "--dtype does nothing without --report; add that"),
        (("--batch-size", "4"), "--batch-size does nothing without --report; add that"),
        (("--device", "cuda"), "--device does nothing without --report or --average"),
        (("--name", "he"), "--name does nothing without --board"),
        (("--seeds",), "--seeds does nothing without --fitness"),
        (("--average", "--rule", "paper"), "average: .* found rule paper; a mean of weights"),
        (("--level-that-is-not",), None),
    ],
)
def test_what_makes_no_sense_is_told(
    run: Path, arguments: tuple[str, ...], message: str | None
) -> None:
    for entry in made_curve([0.3, 0.5]):
        append(run / "selection.jsonl", entry)
    if message is None:
        assert CliRunner().invoke(app, ["select", str(run), *arguments]).exit_code == 2
    else:
        with pytest.raises(HebenchError, match=message):
            run_command("select", run, *arguments)


def test_fitness_passes_over_no_option_in_silence(run: Path) -> None:
    with pytest.raises(HebenchError, match="chooses nothing; leave out --rule, --tasks, --report"):
        arguments = ("--tasks", TASK, "--rule", "best", "--report", TASK)
        run_command("select", "--fitness", run, *arguments)


def test_json_has_no_number_that_is_none(tmp_path: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    runs = [tmp_path / "one", tmp_path / "other"]
    for run, entry in zip(runs, made_curve([0.3, 0.4], chance=0.25), strict=True):
        append(run / "selection.jsonl", entry)
    shown = run_command("select", "--fitness", *runs, "--json")
    (row,) = json.loads(shown, parse_constant=refuse)
    assert row["last"] is None  # the runs share no step


def test_the_window_of_lowest_losses_and_the_level_can_be_told(run: Path) -> None:
    for step in (300, 400):
        add_checkpoint(run, run / "checkpoint-100", step)
    for entry in made_curve([0.9, 0.2, 0.5, 0.6], items=400):
        append(run / "selection.jsonl", entry)
    arguments = ("--rule", "paper", "--window", 300, "--lowest", 2, "--level", 0.9)
    shown = run_command("select", run, *arguments)
    assert "chosen: checkpoint-400" in shown and "2 of lowest loss within the last 300" in shown
    assert "at 90%" in shown
    shown = run_command("select", run, "--within", 50)
    assert "cannot be told from the best (3)" in shown


def test_several_runs_are_for_fitness(run: Path) -> None:
    with pytest.raises(HebenchError, match="expected one run folder, found 2"):
        run_command("select", run, run)


def test_sweep_without_ray_says_what_to_install(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(HebenchError, match=r"pip install 'hebench\[ray\]'"):
        run_command("sweep", run, "--tasks", TASK)
