"""The statistics of the page in real Chromium against those of Python, on the same inputs."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser
from scipy import stats

from hebench.stats.intervals import mean_interval
from hebench.stats.macro import macro_mean
from hebench.stats.multiplicity import holm
from hebench.stats.paired import compare, macro_difference, mcnemar
from hebench.stats.ranks import difference_variances, rank_sets

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "hebench/board/static/stats.js"
NAMES = {"mean_a": "meanA", "mean_b": "meanB", "standard_error": "se"}
FIELDS = ["mean_a", "mean_b", "difference", "low", "high", "p", "test", "n", "clusters"]
FIELDS += ["better", "worse", "equal", "unscored", "standard_error", "detectable"]

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def call(browser: Browser) -> Iterator[Call]:
    """Return a function that calls one function of the script with JSON arguments."""
    page = browser.new_page()
    page.set_content("<!doctype html><title>statistics</title>")
    page.add_script_tag(content=SCRIPT.read_text(encoding="utf-8"))

    def run(name: str, *arguments: object) -> Any:
        return page.evaluate(
            "([name, list]) => hebenchStats[name](...list)", [name, list(arguments)]
        )

    yield run
    page.close()


def cases() -> list[tuple[str, list[float], list[float], list[int] | None]]:
    """Return pairs of score vectors of every kind that has a rule of its own."""
    generator = np.random.default_rng(0)
    found: list[tuple[str, list[float], list[float], list[int] | None]] = []
    for n in (2, 9, 60, 1500):
        difficulty = generator.normal(0.5, 0.2, n)
        graded = np.clip(difficulty + generator.normal(0, 0.1, (2, n)), 0, 1)
        binary = (graded > generator.random(n)).astype(float)
        codes = (np.arange(n) // 3).tolist()
        missing = np.where(generator.random((2, n)) < 0.1, np.nan, graded)
        for kind, (a, b) in (("graded", graded), ("binary", binary), ("missing", missing)):
            for grouped in (None, codes):
                found.append((f"{kind}{n}", a.tolist(), b.tolist(), grouped))
    same = [0.0, 1.0] * 10
    found += [
        ("copies", same, same, None),
        ("always right", [1.0] * 20, [0.0] * 20, None),
        ("one unit", same, [0.0] * 20, [7] * 20),
        ("nothing", [math.nan, 1.0], [1.0, math.nan], None),
        ("constant clusters", same, [0.0] * 20, [i // 2 for i in range(20)]),
    ]
    return found


@pytest.mark.parametrize(("name", "a", "b", "codes"), cases())
def test_pairs_agree(
    call: Call, name: str, a: list[float], b: list[float], codes: list[int] | None
) -> None:
    expected = asdict(compare(a, b, codes, draws=2))
    found = call("pairedDifference", a, b, codes)
    for field in FIELDS:
        value = found[NAMES.get(field, field)]
        if isinstance(expected[field], float):
            assert value == pytest.approx(expected[field], abs=1e-9, nan_ok=True), field
        else:
            assert value == expected[field], field


def test_averages_over_tasks_agree(call: Call) -> None:
    tasks = [case for case in cases() if case[0] != "nothing"]
    pairs = [compare(a, b, codes, draws=2) for _, a, b, codes in tasks]
    expected = macro_difference(pairs)
    found = call("macroDifference", [call("pairedDifference", *case[1:]) for case in tasks])
    for field in ("difference", "low", "high", "p", "dof", "detectable", "tasks"):
        assert found[field] == pytest.approx(getattr(expected, field), abs=1e-9)
    intervals = [mean_interval(a, codes) for _, a, _, codes in tasks]
    mean = macro_mean(
        [task.mean for task in intervals],
        [task.standard_error for task in intervals],
        [task.clusters for task in intervals],
    )
    found = call(
        "macroMean",
        [
            {"mean": task.mean, "standardError": task.standard_error, "clusters": task.clusters}
            for task in intervals
        ],
    )
    assert found["standardError"] == pytest.approx(mean.standard_error)
    for field in ("mean", "low", "high", "dof", "tasks"):
        assert found[field] == pytest.approx(getattr(mean, field), abs=1e-9)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
def test_distributions_agree(call: Call, level: float) -> None:
    assert call("normalQuantile", level) == pytest.approx(stats.norm.ppf(level), rel=1e-9)
    assert call("normalQuantile", 1 - level) == pytest.approx(stats.norm.ppf(1 - level), rel=1e-9)
    for dof in (1, 2, 3.7, 29, 400, 19_999):
        assert call("tQuantile", level, dof) == pytest.approx(stats.t.ppf(level, dof), rel=1e-8)


@pytest.mark.parametrize(
    ("better", "worse"), [(0, 0), (1, 0), (4, 4), (0, 60), (30, 55), (9_800, 10_200), (20_000, 0)]
)
def test_mcnemar_agrees(call: Call, better: int, worse: int) -> None:
    assert call("mcnemar", better, worse) == pytest.approx(mcnemar(better, worse), abs=1e-10)


def test_holm_agrees(call: Call) -> None:
    p = [0.04, math.nan, 0.001, 0.2, 0.04, 0.9]
    assert call("holm", p) == pytest.approx(holm(np.array(p)), nan_ok=True)


@pytest.mark.parametrize(
    ("models", "items", "cluster"), [(1, 9, 1), (2, 9, 3), (7, 80, 4), (25, 400, 1), (40, 15, 1)]
)
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_rank_sets_are_the_same(
    call: Call, models: int, items: int, cluster: int, level: float
) -> None:
    """Copies of a model among them, whose order is decided by rounding alone."""
    generator = np.random.default_rng(models)
    chance = np.linspace(0.2, 0.8, models)[:, None] + generator.normal(0, 0.2, items)
    scores = (generator.random((models, items)) < chance).astype(float)
    scores[-1] = scores[models // 2]
    codes = np.arange(items) // cluster
    variances = difference_variances(scores, codes).astype(np.float32).astype(np.float64)
    means, dof = scores.mean(axis=1), int(codes.max())
    expected = rank_sets(means, variances, dof=dof, level=level, draws=500)
    found = call("rankSets", means.tolist(), variances.ravel().tolist(), dof, level, 500)
    assert found["low"] == expected.low.tolist()
    assert found["high"] == expected.high.tolist()
    assert found["bestSet"] == expected.best_set.tolist()
    assert found["pBest"] == pytest.approx(expected.p_best, abs=1e-9)
    assert found["critical"] == pytest.approx(expected.critical, rel=1e-8, abs=1e-9)


def test_without_a_degree_of_freedom_every_rank_is_possible(call: Call) -> None:
    found = call("rankSets", [0.1, 0.9], [0, 1e-6, 1e-6, 0], 0)
    assert (found["low"], found["high"]) == ([1, 1], [2, 2])
