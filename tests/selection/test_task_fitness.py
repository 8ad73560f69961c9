from pathlib import Path

import numpy as np
import pytest

from hebench.errors import DataError
from hebench.selection.log import append
from hebench.selection.task_fitness import fitness_of_runs
from tests.selection.made_run import made_curve, made_entry, made_items

RISING = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8]


def write_run(folder: Path, seed: int, *, flat: bool = False) -> Path:
    """Write a log of two tasks, one that rises and one at chance whose margins rise."""
    generator = np.random.default_rng(seed)
    rising = made_curve([0.5] * 6 if flat else RISING, items=300, seed=seed, chance=0.25)
    chance = made_curve([0.25] * 6, items=300, seed=seed + 50, chance=0.25)
    for place, (one, other) in enumerate(zip(rising, chance, strict=True)):
        margins = np.clip(0.25 + 0.05 * place + generator.normal(0, 0.05, 300), 0, 1)
        low = made_items(
            other.tasks["task"].scores,
            margins=margins.astype(np.float32),
            answers=(margins / 2).astype(np.float32),
            chance=0.25,
        )
        append(
            folder / "selection.jsonl",
            made_entry(one.step, [0], tasks={"good": one.tasks["task"], "low": low}),
        )
    return folder


def test_a_task_that_rises_is_fit_and_one_at_chance_is_not(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(seed), seed) for seed in (1, 2)]
    found = {(each.task, each.measure): each for each in fitness_of_runs(runs, seeds=True)}
    by = ("score", "margin", "answer")
    assert list(found) == [("good", "score"), *(("low", measure) for measure in by)]
    good, low, margin, answer = found.values()
    assert good.fitness.light != "red" and good.fitness.monotonicity == pytest.approx(1, abs=0.1)
    assert low.fitness.light == "red" and "near_chance" in low.fitness.reasons
    assert margin.fitness.monotonicity == pytest.approx(1) and margin.fitness.light == "green"
    assert answer.fitness.monotonicity == pytest.approx(1)
    assert answer.last == pytest.approx(margin.last / 2) and answer.chance is None
    assert answer.fitness.undefined["above_chance"] == "no_chance_level"
    assert answer.fitness.light == "amber"  # nobody knows how far from chance it is
    assert (good.items, good.chance, good.fitness.runs, good.fitness.models) == (300, 0.25, 2, 1)
    assert good.first == pytest.approx(0.3, abs=0.06) and good.last == pytest.approx(0.8, abs=0.06)


def test_runs_of_several_models_tell_how_often_a_task_decides_rightly(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(n), n, flat=n == 1) for n in (1, 2)]
    good = fitness_of_runs(runs, seeds=False)[0].fitness
    assert good.models == 2 and good.decision_accuracy is not None


def test_checkpoints_of_one_run_alone_and_averages_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path, 3)
    added = made_entry(600, [0], checkpoint="average-x", averaged=("a", "b"))
    append(run / "selection.jsonl", added)
    found = fitness_of_runs([run], seeds=True)
    assert {each.task for each in found} == {"good", "low"}
    assert found[0].fitness.undefined["seed_noise"] == "one_seed"


def test_logs_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", 1)
    append(tmp_path / "b" / "selection.jsonl", made_entry(1, [1.0]))
    with pytest.raises(DataError, match="share no task"):
        fitness_of_runs([run, tmp_path / "b"], seeds=True)
    other = made_items(np.ones(300), version="2.0")
    append(tmp_path / "c" / "selection.jsonl", made_entry(1, [0], tasks={"good": other}))
    with pytest.raises(DataError, match="good at step 1 is not the task"):
        fitness_of_runs([run, tmp_path / "c"], seeds=True)
    judged = made_entry(1, [0], tasks={"t": made_items([np.nan])})
    append(tmp_path / "d" / "selection.jsonl", judged)
    with pytest.raises(DataError, match="no item could be judged"):
        fitness_of_runs([tmp_path / "d"], seeds=True)
