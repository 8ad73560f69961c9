"""A submission that does not hold what it says is found."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from hebench.board.check import _lost, check_board, data_sha256
from hebench.board.extract import MAX_ANSWER
from hebench.board.models_file import read_models
from hebench.board.record_file import read_record, write_record
from hebench.board.store import add_run, read_store, withdraw
from hebench.board.suite import Doc, TaskInfo, task_info
from hebench.errors import DataError
from hebench.harness.run import EvalConfig, evaluate
from hebench.harness.tasks import prompt_sha256
from hebench.records import TaskRecord
from tests.board.made import made_record, made_task, store

TASKS = (
    "hebench_mini_qa",
    "hebench_mini_sentiment",
    "hebench_mini_translation_he_en",
    "hebench_mini_summarization",
    "hebench_mini_math",
)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board of two baselines that were really run."""
    folder = tmp_path_factory.mktemp("honest")
    for kind in ("random", "copy_source"):
        config = EvalConfig(model=f"baseline:{kind}", tasks=TASKS, out=folder / kind, limit=20)
        evaluate(config)
        add_run(folder / "board", folder / kind, added="2026-11-25")
    return folder / "board"


def changed(honest: Path, folder: Path, key: str, **change: Any) -> Path:
    """A copy of the board in which one task of one record is another."""
    for item in read_store(honest)[1]:
        record = item.record
        if record.model == "baseline-random":
            task = dataclasses.replace(record.tasks[key], **change)
            record = dataclasses.replace(record, tasks=record.tasks | {key: task})
        write_record(folder / item.path.relative_to(honest), record)
    (folder / "models.yaml").write_bytes((honest / "models.yaml").read_bytes())
    return folder


def task_of(honest: Path, key: str) -> TaskRecord:
    return next(
        i for i in read_store(honest)[1] if i.record.model == "baseline-random"
    ).record.tasks[key]


def test_what_was_really_run_passes(honest: Path) -> None:
    report = check_board(honest, prompt_hash=prompt_sha256, against=honest)
    assert report.problems == [] and report.unchecked == []
    assert report.records == 2 and report.recomputed == 20 * 5 + 20 * 3


def test_each_task_is_read_and_prompted_once_however_many_records_have_it(
    honest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    read = TaskInfo.docs

    def docs(info: TaskInfo, split: str | None = None) -> list[Doc]:
        asked.append(info.name)
        return read(info, split)

    def prompts(task: str, split: str | None, count: int) -> str:
        asked.append((task, split, count))
        return prompt_sha256(task, split, count)

    monkeypatch.setattr(TaskInfo, "docs", docs)
    assert check_board(honest, prompt_hash=prompts).problems == []
    assert sorted(map(str, asked)) == sorted([*TASKS, *(str((task, None, 20)) for task in TASKS)])


def test_votes_that_cannot_be_read_are_found(honest: Path, tmp_path: Path) -> None:
    folder = changed(honest, tmp_path, "hebench_mini_qa")
    votes = folder / "votes" / "study.jsonl"
    votes.parent.mkdir()
    votes.write_text('{"schema": 1}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"study\.jsonl line 1: keys missing"):
        check_board(folder)


def test_a_better_score_than_the_answer_earns_is_found(honest: Path, tmp_path: Path) -> None:
    for key in TASKS:
        metrics = task_of(honest, key).metrics
        better = metrics | {"score": (1.0, *metrics["score"][1:])}
        if better == metrics:
            better = metrics | {"score": (0.0, *metrics["score"][1:])}
        report = check_board(changed(honest, tmp_path / key, key, metrics=better))
        assert len(report.problems) == 1 and "does not follow from its answer" in report.problems[0]


def test_sums_of_a_corpus_metric_that_the_answers_do_not_give_are_found(
    honest: Path, tmp_path: Path
) -> None:
    for key, name in (
        ("hebench_mini_sentiment", "macro_f1"),
        ("hebench_mini_translation_he_en", "bleu_corpus"),
        ("hebench_mini_translation_he_en", "chrf_corpus"),
    ):
        parts = task_of(honest, key).parts
        rows = list(parts[name])
        rows[3] = tuple(value + 1 for value in rows[3])
        folder = changed(honest, tmp_path / name, key, parts=parts | {name: tuple(rows)})
        (problem,) = check_board(folder).problems
        assert problem.endswith(f"its part of {name} does not follow from its answer")
        assert task_of(honest, key).items[3] in problem


def test_metrics_that_the_task_does_not_have_are_found(honest: Path, tmp_path: Path) -> None:
    key = "hebench_mini_qa"
    task = task_of(honest, key)
    changes = (
        {"metrics": task.metrics | {"rouge1": (0.9,) * 20}},
        {"parts": {"bits_per_byte": ((-1.0, 50.0),) * 20}},
    )
    for change, name in zip(changes, ("rouge1", "bits_per_byte"), strict=True):
        (problem,) = check_board(changed(honest, tmp_path / name, key, **change)).problems
        assert problem.endswith(f"{name}: no metric of the task")


def test_another_answer_than_the_score_says_is_found(honest: Path, tmp_path: Path) -> None:
    key = "hebench_mini_translation_he_en"
    answers = ("an answer that nobody gave", *(task_of(honest, key).answers or ())[1:])
    report = check_board(changed(honest, tmp_path, key, answers=answers))
    assert "does not follow from its answer" in report.problems[0]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("hebench_mini_sentiment", "its answer cannot be scored"),
        ("hebench_mini_math", "20 of 20 answers are longer than what is kept of them, so that"),
    ],
)
def test_answers_made_too_long_to_be_kept_whole_are_no_way_around_the_scorer(
    honest: Path, tmp_path: Path, key: str, message: str
) -> None:
    metrics = task_of(honest, key).metrics | {"score": (1.0,) * 20}
    answers = ("א" * MAX_ANSWER,) * 20
    report = check_board(changed(honest, tmp_path, key, metrics=metrics, answers=answers))
    assert any(message in problem for problem in report.problems)
    assert report.recomputed == 20 * 4 + 20 * 3, "none of these"


def test_long_thoughts_are_said_and_no_problem(honest: Path, tmp_path: Path) -> None:
    key = "hebench_mini_math"
    folder = changed(honest, tmp_path, key, answers=("א" * MAX_ANSWER,) * 20)
    models = folder / "models.yaml"
    models.write_text(models.read_text("utf-8").replace("track: base", "track: thinking"), "utf-8")
    for item in read_store(honest)[1]:
        path = folder / item.path.relative_to(honest)
        write_record(path, dataclasses.replace(read_record(path), track="thinking"))
    report = check_board(folder)
    assert report.problems == []
    assert any("20 of 20 answers are longer than what" in line for line in report.unchecked)


def test_a_single_answer_that_was_cut_is_said_and_not_counted(honest: Path, tmp_path: Path) -> None:
    key = "hebench_mini_math"
    answers = ("א" * MAX_ANSWER, *(task_of(honest, key).answers or ())[1:])
    report = check_board(changed(honest, tmp_path, key, answers=answers))
    (line,) = report.unchecked
    assert f"{key}: 1 of 20 answers are longer than what is kept of them; their scores" in line
    assert report.problems == [] and report.recomputed == 20 * 5 + 20 * 3 - 1


def test_an_answer_beyond_all_numbers_is_a_problem_in_one_line(tmp_path: Path) -> None:
    key = "hebench_select_bpb"
    task = dataclasses.replace(
        made_task(key, 0.5, 1, limit=2),
        data_sha256=data_sha256(task_info(key).docs()[:2]),
        answers=((1e9,),) * 2,
    )
    store(tmp_path, made_record("m", {key: task}))
    (tmp_path / "models.yaml").write_text("m: {name: M, kind: model, track: base}\n", "utf-8")
    problems = check_board(tmp_path).problems
    assert len(problems) == 2 and all("cannot be scored (OverflowError" in x for x in problems)


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("sentiment", {"chance": 0.0}, r"chance level 0\.0, the documents give 0\.33"),
        ("sentiment", {"chance": None}, r"chance level None, the documents give 0\.33"),
        ("math", {"chance": 0.5}, r"chance level 0\.5, the documents give None"),
        ("sentiment", {"shots": 0}, "0 shots, hebench has 9"),
        ("math", {"data_sha256": "0" * 64}, "its documents are not those of hebench's task"),
    ],
)
def test_another_chance_level_other_shots_and_other_texts_are_found(
    honest: Path, tmp_path: Path, key: str, change: dict[str, Any], message: str
) -> None:
    (problem,) = check_board(changed(honest, tmp_path, f"hebench_mini_{key}", **change)).problems
    assert re.search(message, problem)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt_sha256": "0" * 64}, "prompts 0{12} of hebench_mini_qa, but baseline-copy"),
        ({"total": 9_999}, "9999 items in the split"),
        ({"items": tuple(f"x{n}" for n in range(20))}, "not the first ones of the split"),
        ({"clusters": (0,) * 20}, "its clusters are not those of the documents"),
        ({"version": "7.0"}, "version 7.0"),
    ],
)
def test_other_items_or_prompts_are_found(
    honest: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = changed(honest, tmp_path, "hebench_mini_qa", **change)
    try:
        problems = check_board(folder, prompt_hash=prompt_sha256).problems
    except DataError as error:  # what does not go together cannot even be read
        problems = [str(error)]
    assert any(re.search(message, problem) for problem in problems), problems


def test_prompts_that_nobody_else_was_given_are_found(honest: Path, tmp_path: Path) -> None:
    folder = changed(honest, tmp_path, "hebench_mini_qa", prompt_sha256="0" * 64)
    (other,) = folder.glob("results/baseline-copy-the-source/*.json.gz")
    other.unlink()
    (problem,) = check_board(folder, prompt_hash=prompt_sha256).problems
    assert problem.endswith("hebench_mini_qa: its prompts are not those of hebench's task")


def test_a_deleted_or_changed_record_is_found(honest: Path, tmp_path: Path) -> None:
    folder = changed(honest, tmp_path, "hebench_mini_qa", shots=7)
    (gone,) = folder.glob("results/baseline-copy-the-source/*.json.gz")
    gone.unlink()
    problems = check_board(folder, against=honest).problems
    assert any("is gone; withdraw a record, never delete it" in problem for problem in problems)
    assert any("has changed; add a new record instead" in problem for problem in problems)


def test_votes_that_are_gone_or_changed_are_found(tmp_path: Path) -> None:
    before, now = tmp_path / "before", tmp_path / "now"
    (before / "votes").mkdir(parents=True)
    now.mkdir()
    (before / "votes" / "study.jsonl").write_text("{}\n", encoding="utf-8")
    assert [problem.split("; ")[1] for problem in _lost(now, before)] == ["votes stay"]
    (now / "votes").mkdir()
    (now / "votes" / "study.jsonl").write_text("{ }\n", encoding="utf-8")
    (problem,) = _lost(now, before)
    assert problem.endswith(
        "study.jsonl: was on the board and has changed; only a maintainer replaces votes"
    )


def test_a_tombstone_is_no_loss(honest: Path, tmp_path: Path) -> None:
    folder = changed(honest, tmp_path, "hebench_mini_qa")
    withdraw(folder, read_store(folder)[1][0].name, "not ours to publish")
    report = check_board(folder, against=honest)
    assert report.problems == [] and report.recomputed == 20 * 5
    assert read_models(folder) == read_models(honest)


def test_what_cannot_be_recomputed_is_said(honest: Path, tmp_path: Path) -> None:
    report = check_board(changed(honest, tmp_path, "hebench_mini_qa", answers=None))
    assert report.problems == []
    assert (
        report.unchecked
        == [line for line in report.unchecked if "no answers are kept" in line]
        != []
    )


def test_answers_that_the_scorer_cannot_read_are_a_problem(honest: Path, tmp_path: Path) -> None:
    key = "hebench_mini_translation_he_en"
    numbers = changed(honest, tmp_path / "numbers", key, answers=((1.0,),) * 20)
    metrics = task_of(honest, key).metrics | {"chrf_corpus": (0.5,) * 20}
    sums = changed(honest, tmp_path / "sums", key, metrics=metrics)
    for folder in (numbers, sums):
        assert any("cannot be scored" in line for line in check_board(folder).problems)


def test_a_folder_that_is_not_there_is_no_board(honest: Path, tmp_path: Path) -> None:
    for folder, against in ((tmp_path / "x", None), (honest, tmp_path / "x")):
        with pytest.raises(DataError, match="expected a leaderboard's folder"):
            check_board(folder, against=against)


def test_a_public_set_that_is_not_in_the_cache_is_said(
    honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEBENCH_OFFLINE", "1")
    folder = changed(honest, tmp_path, "hebench_mini_qa")
    (path,) = folder.glob("results/baseline-copy-the-source/*.json.gz")
    item = next(i for i in read_store(folder)[1] if i.path == path)
    task = item.record.tasks["hebench_mini_qa"]
    heq = dataclasses.replace(task, version="1.0")
    write_record(path, dataclasses.replace(item.record, tasks={"hebench_heq": heq}))
    report = check_board(folder, prompt_hash=prompt_sha256)
    assert any("hebench_heq" in line for line in report.unchecked) and report.problems == []


def test_a_split_that_the_task_does_not_have_is_a_problem_without_its_data_too(
    honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEBENCH_OFFLINE", "1")
    task = dataclasses.replace(
        task_of(honest, "hebench_mini_qa"), version=task_info("hebench_heq").version, split="secret"
    )
    store(tmp_path, made_record("m", {"hebench_heq.secret": task}))
    (tmp_path / "models.yaml").write_text("m: {name: M, kind: model, track: base}\n", "utf-8")
    report = check_board(tmp_path, prompt_hash=prompt_sha256)
    (problem,) = report.problems
    assert "expected split test, validation, found 'secret'" in problem
    assert report.unchecked == []
