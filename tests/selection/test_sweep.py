"""The sweep with a cluster of one process; on a real one in tests/real/test_selection.py."""

import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hebench.errors import CheckpointError, ConfigError
from hebench.selection import sweep as sweeping
from hebench.selection.evaluate import EvaluateConfig
from hebench.selection.found import Found
from hebench.selection.log import Evaluated, read_log
from hebench.selection.sweep import SweepConfig, sweep
from tests.selection.made_run import TASK, add_checkpoint, made_entry, made_items

ASKED = EvaluateConfig(tasks=(TASK, "hebench_mini_qa"), limit=2)


class RayError(Exception):
    """What Ray raises for a worker that raised, with its cause, or that died."""

    def __init__(self, cause: Exception | None) -> None:
        super().__init__("the worker died" if cause is None else str(cause))
        self.cause = cause


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, Exception | None]], None]:
    """Make a cluster whose workers raise, or die of (None), these at the steps named."""

    def make(raised: dict[int, Exception | None]) -> None:
        def evaluate(found: Found, unit: EvaluateConfig) -> Evaluated:
            if found.step in raised:
                raise RayError(raised[found.step])
            tasks = {name: made_items([1.0, 0.0]) for name in unit.tasks}
            return made_entry(found.step, [0], tasks=tasks)

        def wait(left: Sequence[Any], num_returns: int) -> tuple[Sequence[Any], Sequence[Any]]:
            return left[:num_returns], left[num_returns:]

        ray = types.SimpleNamespace(
            init=lambda **_: None,
            shutdown=lambda: None,
            wait=wait,
            get=lambda work: evaluate(*work),
            remote=lambda **_: lambda _: types.SimpleNamespace(remote=lambda *unit: unit),
            exceptions=types.SimpleNamespace(RayError=RayError),
        )
        monkeypatch.setattr(sweeping, "_ray", lambda: ray)

    return make


@pytest.fixture
def run(tiny_model: Path, tmp_path: Path) -> Path:
    for step in (100, 200):
        add_checkpoint(tmp_path, tiny_model, step)
    return tmp_path


def test_a_checkpoint_that_cannot_be_loaded_gets_no_line_and_says_why(
    run: Path, cluster: Callable[[dict[int, Exception | None]], None]
) -> None:
    cluster({200: CheckpointError("it has gone")})
    said: list[str] = []
    assert sweep(run, SweepConfig(evaluate=ASKED), said.append) == 1
    assert [entry.step for entry in read_log(run / "selection.jsonl")] == [100]
    assert "checkpoint-200: not evaluated, it has gone" in said
    cluster({})
    assert sweep(run, SweepConfig(evaluate=ASKED)) == 1  # the one that has none


def test_a_setting_that_is_wrong_ends_the_sweep(
    run: Path, cluster: Callable[[dict[int, Exception | None]], None]
) -> None:
    cluster({100: ConfigError("no such device")})
    with pytest.raises(ConfigError, match="no such device"):
        sweep(run, SweepConfig(evaluate=ASKED))


def test_a_worker_that_dies_is_a_failed_task_and_said(
    run: Path, cluster: Callable[[dict[int, Exception | None]], None]
) -> None:
    cluster({100: None})
    said: list[str] = []
    assert sweep(run, SweepConfig(evaluate=ASKED), said.append) == 2
    failed = dict.fromkeys(ASKED.tasks, "the worker died")
    assert read_log(run / "selection.jsonl")[0].failed == failed
    assert f"checkpoint-100: {TASK} failed: the worker died" in said


def test_gpus_that_ray_would_hide_are_refused() -> None:
    with pytest.raises(ConfigError, match="--device cuda needs --gpus above 0"):
        SweepConfig(evaluate=EvaluateConfig(device="cuda"))
    SweepConfig(evaluate=EvaluateConfig(device="cuda"), gpus=0.5)
