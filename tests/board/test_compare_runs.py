"""`hebench compare`: the same items or nothing."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hebench.board.compare_runs import compare_runs
from hebench.board.extract import extract
from hebench.errors import DataError
from hebench.harness.run import EvalConfig, evaluate
from hebench.stats.paired import compare, macro_difference
from tests.board.made import made_record, made_task

TASKS = ("hebench_mini_grammar", "hebench_mini_qa", "hebench_mini_sentiment")
FIRST = made_record("a", {key: made_task(key, 0.8, 1) for key in TASKS})
SECOND = made_record("b", {key: made_task(key, 0.5, 2) for key in TASKS[:2]})


def run_cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hebench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_each_shared_task_gets_its_paired_test() -> None:
    found = compare_runs(FIRST, SECOND)
    assert list(found.tasks) == list(TASKS[:2]) and found.only_first == TASKS[2:]
    for key, item in found.tasks.items():
        a, b = FIRST.tasks[key], SECOND.tasks[key]
        expected = compare(a.metrics["score"], b.metrics["score"], a.clusters)  # type: ignore[arg-type]
        assert item.paired == expected
        assert item.p_holm >= expected.p
    assert found.overall == macro_difference([item.paired for item in found.tasks.values()])


def test_the_other_order_turns_the_sign() -> None:
    one, two = compare_runs(FIRST, SECOND), compare_runs(SECOND, FIRST)
    assert one.overall.difference == -two.overall.difference
    assert one.overall.p == two.overall.p


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "2.0"}, r"version 1\.\d, the second of 2\.0"),
        ({"shots": 5}, "has 0 shots, the second 5; run one of them anew"),
        ({"prompt_sha256": "0" * 64}, "the prompts of the two runs differ"),
        ({"items": tuple(f"x{n}" for n in range(505))}, "505 and 505 with 0 in common"),
        ({"data_sha256": "other"}, "the documents are not"),
    ],
)
def test_other_items_are_refused(change: dict[str, object], message: str) -> None:
    task = dataclasses.replace(SECOND.tasks[TASKS[0]], **change)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        compare_runs(FIRST, made_record("b", {TASKS[0]: task}))


def test_chat_templates_may_differ() -> None:
    task = dataclasses.replace(SECOND.tasks[TASKS[0]], prompt_sha256="0" * 64)
    first = dataclasses.replace(FIRST, track="chat")
    second = made_record("b", {TASKS[0]: task}, track="chat")
    assert list(compare_runs(first, second).tasks) == [TASKS[0]]


def test_no_shared_task_is_said() -> None:
    with pytest.raises(DataError, match="share no task"):
        compare_runs(FIRST, made_record("b", {"hebench_nli": FIRST.tasks[TASKS[0]]}))
    with pytest.raises(DataError, match="expected hebench_mini_sentiment in both"):
        compare_runs(FIRST, SECOND, tasks=("hebench_mini_sentiment",))


def test_runs_that_were_judged_on_different_items_are_refused() -> None:
    task = FIRST.tasks[TASKS[0]]
    places = range(len(task.items))
    runs = [
        made_record(
            slug,
            {
                TASKS[0]: dataclasses.replace(
                    task, metrics={"score": tuple(1.0 if n % 2 == odd else None for n in places)}
                )
            },
        )
        for odd, slug in enumerate("ab")
    ]
    with pytest.raises(DataError, match="hebench_mini_grammar: expected an item that was judged"):
        compare_runs(*runs)


def test_the_command_compares_two_runs(tmp_path: Path) -> None:
    for kind in ("random", "most_frequent"):
        config = EvalConfig(model=f"baseline:{kind}", tasks=TASKS[:2], out=tmp_path / kind)
        evaluate(config)
    folders = (str(tmp_path / "random"), str(tmp_path / "most_frequent"))
    printed = run_cli("compare", *folders)
    assert printed.returncode == 0, printed.stderr
    assert "exact McNemar" in printed.stdout and "detectable" in printed.stdout
    content = json.loads(run_cli("compare", *folders, "--json").stdout)
    records = [extract(Path(folder), model="x", added="2026-01-01") for folder in folders]
    overall = compare_runs(*records).overall
    assert content["overall"]["difference"] == overall.difference
    short = EvalConfig(model="baseline:random", tasks=TASKS[:2], out=tmp_path / "short", limit=5)
    evaluate(short)
    refused = run_cli("compare", folders[0], str(tmp_path / "short"))
    assert refused.returncode == 2 and "expected the same items" in refused.stderr
