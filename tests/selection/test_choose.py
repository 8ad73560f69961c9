import json
import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hebench.board.models_file import read_models
from hebench.board.store import live, read_store
from hebench.errors import ConfigError, DataError, TaskError
from hebench.selection import choose as choosing
from hebench.selection.choose import Choice, ChooseConfig, choose, export, link
from hebench.selection.evaluate import EvaluateConfig, evaluate_unit, run_folder
from hebench.selection.found import complete
from hebench.selection.leaderboard import put_on_board
from hebench.selection.log import append, read_log
from hebench.selection.rules import SelectConfig, decide
from hebench.selection.watch import WatchConfig, watch
from hebench.train.checkpoints import MARKER, PIN, pin
from tests.selection.made_run import (
    TASK,
    add_checkpoint,
    add_trainers_checkpoint,
    made_curve,
    made_entry,
)

ASKED = EvaluateConfig(tasks=(TASK,), limit=6, dtype="float32")
CONFIG = ChooseConfig(dtype="float32")


@pytest.fixture(scope="module")
def watched(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three checkpoints that a watcher has evaluated; not to be changed."""
    run = tmp_path_factory.mktemp("watched") / "run"
    for step in (100, 200, 300):
        add_checkpoint(run, tiny_model, step)
    watch(run, WatchConfig(evaluate=ASKED, once=True))
    return run


@pytest.fixture
def run(watched: Path, tmp_path: Path) -> Path:
    """A copy of that run."""
    return Path(shutil.copytree(watched, tmp_path / "run"))


def made_run(run: Path, model: Path, levels: list[float]) -> Path:
    """Return a run whose log is made up: its checkpoints differ clearly."""
    for entry in made_curve(levels, items=400):
        add_checkpoint(run, model, entry.step)
        append(run / "selection.jsonl", entry)
    return run


def test_the_choice_is_written_with_its_reasons_and_pinned(run: Path) -> None:
    choice = choose(run, CONFIG)
    written = json.loads((run / "selection.json").read_text("utf-8"))
    assert written["decision"]["chosen"] == choice.decision.chosen == written["folder"]
    assert written["decision"]["reasons"] and written["schema"] == 1
    assert len(written["decision"]["candidates"]) == 3
    assert "NaN" not in (run / "selection.json").read_text("utf-8")
    assert (run / "selection.png").read_bytes().startswith(b"\x89PNG")
    assert (choice.folder / PIN).is_file()


def test_another_choice_lets_go_of_its_own_pin_alone(tiny_model: Path, tmp_path: Path) -> None:
    run = made_run(tmp_path, tiny_model, [0.2, 0.5, 0.8])
    pin(run / "checkpoint-100", "the user's own")
    choose(run, CONFIG)
    assert (run / "checkpoint-300" / PIN).is_file()
    choose(run, replace(CONFIG, select=SelectConfig(rule="paper", window_steps=1000, lowest=1)))
    shutil.rmtree(run / "checkpoint-300")
    choose(run, CONFIG)
    assert (run / "checkpoint-200" / PIN).is_file()
    assert (run / "checkpoint-100" / PIN).read_text("utf-8") == "the user's own\n"


def test_a_checkpoint_that_is_gone_is_not_chosen(tiny_model: Path, tmp_path: Path) -> None:
    run = made_run(tmp_path, tiny_model, [0.2, 0.5, 0.8])
    shutil.rmtree(run / "checkpoint-300")
    choice = choose(run, CONFIG)
    assert choice.decision.chosen == "checkpoint-200"
    assert "1 checkpoints are gone from the disk and cannot be chosen" in choice.decision.reasons


@pytest.mark.slow
def test_report_items_that_selection_never_saw(run: Path) -> None:
    choice = choose(run, replace(CONFIG, report=("hebench_mini_sentiment",), report_limit=5))
    found = choice.reestimate
    assert found is not None and found.last == "checkpoint-300"
    assert found.chosen["hebench_mini_sentiment"].n == 5
    if choice.decision.chosen == "checkpoint-300":
        assert found.against_last is None
    else:
        assert found.against_last is not None
        assert list(found.against_last.tasks) == ["hebench_mini_sentiment"]


def test_the_chosen_is_compared_with_the_last_on_report_items(
    tiny_model: Path, tmp_path: Path
) -> None:
    run = made_run(tmp_path, tiny_model, [0.2, 0.9, 0.3])
    choice = choose(run, replace(CONFIG, report=("hebench_mini_sentiment",), report_limit=4))
    assert choice.decision.chosen == "checkpoint-200"
    assert choice.reestimate is not None and choice.reestimate.against_last is not None
    written = json.loads((run / "selection.json").read_text("utf-8"))
    overall = written["reestimate"]["against_last"]["overall"]
    assert overall["tasks"] == 1 and overall["detectable"] > 0


def test_the_chosen_is_compared_with_the_last_that_did_not_diverge(
    tiny_model: Path, tmp_path: Path
) -> None:
    run = made_run(tmp_path, tiny_model, [0.2, 0.9, 0.3])
    add_checkpoint(run, tiny_model, 400, noise=math.nan)
    append(run / "selection.jsonl", made_entry(400, np.full(400, np.nan)))
    choice = choose(run, replace(CONFIG, report=("hebench_mini_sentiment",), report_limit=4))
    assert choice.decision.chosen == "checkpoint-200"
    assert choice.reestimate is not None and choice.reestimate.last == "checkpoint-300"


def test_a_report_that_fails_takes_no_decision_with_it(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise DataError("no item could be judged")

    monkeypatch.setattr(choosing, "_reestimate", fail)
    run = made_run(tmp_path, tiny_model, [0.2, 0.9, 0.3])
    message = r"^--report: no item could be judged; .*selection.json holds the choice without it$"
    with pytest.raises(DataError, match=message):
        choose(run, replace(CONFIG, report=("hebench_mini_sentiment",)))
    written = json.loads((run / "selection.json").read_text("utf-8"))
    assert written["decision"]["chosen"] == "checkpoint-200" and written["reestimate"] is None
    assert (run / "checkpoint-200" / PIN).is_file()


@pytest.mark.parametrize("report", [TASK, "hebench_select_bpb", "hebench_mini_chat_nli"])
def test_report_items_must_not_have_chosen(run: Path, report: str) -> None:
    """The premises of the one are the running texts of the other."""
    found = f"whose items did not choose, found {report} .items of {TASK}."
    with pytest.raises(ConfigError, match=found):
        choose(run, replace(CONFIG, report=(report, "hebench_mini_qa")))


def test_scores_of_an_earlier_training_choose_nothing(tiny_model: Path, tmp_path: Path) -> None:
    log = made_curve([0.2, 0.9, 0.4], items=400)
    for entry in log:
        add_trainers_checkpoint(tmp_path, tiny_model, entry.step)
    for entry, found in zip(log, complete(tmp_path), strict=True):
        append(tmp_path / "selection.jsonl", replace(entry, settings={"mark": found.mark}))
    assert choose(tmp_path, CONFIG).decision.chosen == "checkpoint-200"
    anew = tmp_path / "checkpoint-200" / "trainer_state.json"
    anew.write_text(anew.read_text("utf-8").replace("3.5", "3.4"), "utf-8")
    decision = choose(tmp_path, CONFIG).decision
    assert decision.chosen == "checkpoint-300" and len(decision.candidates) == 2
    assert not (tmp_path / "checkpoint-200" / PIN).exists()
    for step in (100, 300):
        anew = tmp_path / f"checkpoint-{step}" / "trainer_state.json"
        anew.write_text(anew.read_text("utf-8").replace("3.5", "3.4"), "utf-8")
    with pytest.raises(DataError, match="an earlier training alone; evaluate with"):
        choose(tmp_path, CONFIG)


def test_tasks_may_be_named_by_their_group(run: Path, tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text(
        f"group: of_one\ntask: [{TASK}]\nmetadata: {{version: 1.0}}\n", encoding="utf-8"
    )
    config = replace(CONFIG, include=(tmp_path,))
    choice = choose(run, replace(config, select=SelectConfig(tasks=("of_one",))))
    assert choice.decision.tasks == (TASK,)
    with pytest.raises(TaskError, match="unknown task hebench_none"):
        choose(run, replace(config, select=SelectConfig(tasks=("hebench_none",))))


def test_a_guard_that_was_evaluated_later_hides_no_scores(run: Path) -> None:
    """A watcher of one more task adds a line to each checkpoint; an average has all tasks."""
    guarded = replace(ASKED, tasks=("hebench_mini_qa",), limit=2)
    watch(run, WatchConfig(evaluate=guarded, once=True))
    select = SelectConfig(rule="constraint", guard=("hebench_mini_qa",), max_fall=1.0)
    choice = choose(run, replace(CONFIG, select=select, average=True))
    assert choice.decision.tasks == (TASK,) and choice.decision.left_out == {}
    assert len(choice.averaged) > 1 and len(choice.decision.candidates) == 4


def test_the_average_of_the_equals_is_one_more_candidate(run: Path) -> None:
    before = choose(run, CONFIG).decision
    assert len(before.equals) > 1
    choice = choose(run, replace(CONFIG, average=True))
    (added,) = [each for each in choice.decision.candidates if each.averaged]
    assert choice.averaged == before.equals
    log = {entry.checkpoint: entry for entry in read_log(run / "selection.jsonl")}
    assert log[added.checkpoint].settings["asked"] == log["checkpoint-100"].settings["asked"]
    lines = (run / "selection.jsonl").read_bytes()
    choose(run, replace(CONFIG, average=True))
    assert (run / "selection.jsonl").read_bytes() == lines  # asked once


def test_one_clear_winner_has_nothing_to_average(tiny_model: Path, tmp_path: Path) -> None:
    run = made_run(tmp_path, tiny_model, [0.1, 0.9, 0.2])
    said: list[str] = []
    choice = choose(run, replace(CONFIG, average=True), said.append)
    assert choice.averaged == () and said[0].startswith("no average")


@pytest.mark.parametrize(
    ("select", "found"),
    [
        ({"rule": "paper"}, "rule paper"),
        ({"rule": "votes", "evidence": Path("evidence.json")}, "rule votes"),
        ({"prefer": "lowest_loss"}, "prefer lowest_loss"),
    ],
)
def test_an_average_that_could_not_be_chosen_is_refused(select: dict[str, Any], found: str) -> None:
    with pytest.raises(ConfigError, match=f"average: expected a choice by scores, found {found};"):
        ChooseConfig(select=SelectConfig(**select), average=True)
    ChooseConfig(select=SelectConfig(**select))


def test_a_log_that_does_not_say_how_it_was_made_cannot_take_an_average(
    tiny_model: Path, tmp_path: Path
) -> None:
    run = made_run(tmp_path, tiny_model, [0.5, 0.5, 0.5])
    with pytest.raises(ConfigError, match="does not say how it was evaluated"):
        choose(run, replace(CONFIG, average=True))


def test_the_chosen_model_is_exported_without_the_training(
    tiny_model: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    for entry in made_curve([0.2, 0.8], items=100):
        folder = add_trainers_checkpoint(run, tiny_model, entry.step)
        for name in ("optimizer.pt", "scheduler.pt", "rng_state_0.pth", "training_args.bin"):
            (folder / name).write_bytes(b"x")
        append(run / "selection.jsonl", entry)
    choice = choose(run, CONFIG)
    target = export(choice, tmp_path / "out" / "model")
    assert {path.name for path in target.iterdir()} == {path.name for path in tiny_model.iterdir()}
    with pytest.raises(ConfigError, match="expected nothing there"):
        export(choice, target)
    place = link(choice, tmp_path / "chosen")
    assert place.resolve() == choice.folder.resolve()
    assert link(choice, place).resolve() == choice.folder.resolve()
    with pytest.raises(ConfigError, match="expected nothing there"):
        link(choice, target)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model"]


def test_a_link_leads_to_the_chosen_though_its_place_is_reached_through_another(
    tmp_path: Path,
) -> None:
    folder, there = tmp_path / "run" / "checkpoint-200", tmp_path / "disk" / "of" / "models"
    folder.mkdir(parents=True)
    there.mkdir(parents=True)
    (tmp_path / "models").symlink_to(there)
    decision = decide(made_curve([0.2, 0.8]), SelectConfig())
    choice = Choice(decision=decision, averaged=(), reestimate=None, folder=folder)
    assert link(choice, tmp_path / "models" / "chosen").samefile(folder)


def test_a_run_without_a_log_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="evaluate checkpoints first"):
        choose(tmp_path, CONFIG)


# ------------------------------------------------------------------ the leaderboard


def test_checkpoints_come_to_the_board_with_their_place_in_the_run(
    run: Path, tmp_path: Path
) -> None:
    board = tmp_path / "board"
    added = put_on_board(run, board, run="he-run", chosen="checkpoint-200")
    assert added == [f"he-run-checkpoint-{step}" for step in (100, 200, 300)]
    models, stored = read_store(board)
    place = models["he-run-checkpoint-200"].checkpoint
    assert place is not None
    assert (place.run, place.step, place.tokens, place.seed, place.loss, place.chosen) == (
        *("he-run", 200, 20_000, 7, 0.02),
        True,
    )
    assert len(live(stored)) == 3
    assert put_on_board(run, board, run="he-run", chosen="checkpoint-200") == added
    assert len(read_store(board)[1]) == 3  # nothing twice


def test_runs_that_come_to_the_board_at_one_moment_all_come(run: Path, tmp_path: Path) -> None:
    board = tmp_path / "board"
    with ThreadPoolExecutor() as pool:
        work = [
            pool.submit(put_on_board, run, board, run=name, chosen="checkpoint-200")
            for name in ("one", "two", "three")
        ]
        assert sum(len(each.result()) for each in work) == 9
    models, stored = read_store(board)
    assert len(live(stored)) == 9
    places = [entry.checkpoint for entry in models.values()]
    assert sorted(place.run for place in places if place) == sorted([*("one", "two", "three")] * 3)


def test_a_name_too_long_for_its_checkpoints_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too long a name to tell its checkpoints apart"):
        put_on_board(run, tmp_path / "board", run="r" * 71, chosen="checkpoint-200")
    assert not (tmp_path / "board").exists()


def test_a_new_choice_on_an_old_board_is_told(run: Path, tmp_path: Path) -> None:
    board = tmp_path / "board"
    put_on_board(run, board, run="he-run", chosen="checkpoint-200")
    with pytest.raises(DataError, match="chosen: true, as selection says now"):
        put_on_board(run, board, run="he-run", chosen="checkpoint-100")
    assert len(read_models(board)) == 3


def test_a_new_choice_is_told_where_the_old_one_is_of_an_earlier_training(
    run: Path, tmp_path: Path
) -> None:
    log, board = run / "selection.jsonl", tmp_path / "board"
    lines = {json.loads(line)["checkpoint"]: line for line in log.read_text("utf-8").splitlines()}
    for names, chosen in ((("100", "200"), "200"), (("100", "300"), "300")):
        log.write_text("".join(lines[f"checkpoint-{name}"] + "\n" for name in names), "utf-8")
        if chosen == "200":
            put_on_board(run, board, run="he-run", chosen="checkpoint-200")
    before = {path: path.read_bytes() for path in board.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match="he-run-checkpoint-200: expected chosen: false"):
        put_on_board(run, board, run="he-run", chosen="checkpoint-300")
    assert before == {path: path.read_bytes() for path in board.rglob("*") if path.is_file()}


def test_a_checkpoint_that_training_removed_is_still_shown(run: Path, tmp_path: Path) -> None:
    shutil.rmtree(run / "checkpoint-100")
    added = put_on_board(run, tmp_path / "board", run="he", chosen="checkpoint-200")
    assert added[0] == "he-checkpoint-100" and len(added) == 3
    place = read_models(tmp_path / "board")["he-checkpoint-100"].checkpoint
    assert place is not None and (place.seed, place.tokens, place.loss) == (7, 10_000, 0.04)


def test_scores_of_other_weights_do_not_stay_in_silence(
    run: Path, tiny_model: Path, tmp_path: Path
) -> None:
    board = tmp_path / "board"
    put_on_board(run, board, run="he", chosen="checkpoint-200")
    shutil.rmtree(run / "checkpoint-300")
    add_checkpoint(run, tiny_model, 300, noise=0.1)
    marker = run / "checkpoint-300" / MARKER
    marker.write_text(marker.read_text("utf-8").replace('"seed": 7', '"seed": 8'), "utf-8")
    watch(run, WatchConfig(evaluate=ASKED, once=True))
    with pytest.raises(DataError, match=r"he-checkpoint-300/.*an earlier training; withdraw it"):
        put_on_board(run, board, run="he", chosen="checkpoint-200")


def test_run_folders_that_share_tasks_are_told_before_anything_is_added(
    run: Path, tmp_path: Path
) -> None:
    """A folder with all tasks of another one takes its place; one with a part of them cannot."""
    board = tmp_path / "board"
    both = replace(ASKED, tasks=(TASK, "hebench_mini_qa"), limit=2)
    found = complete(run)[-1]
    for tasks in ((TASK, "hebench_mini_qa"), ("hebench_mini_qa", "hebench_mini_winograd")):
        evaluate_unit(found, replace(both, tasks=tasks))
    with pytest.raises(DataError, match=r"found hebench_mini_qa in .*remove one of the two"):
        put_on_board(run, board, run="he", chosen="checkpoint-200")
    assert not board.exists()
    shutil.rmtree(
        run_folder(found, replace(both, tasks=("hebench_mini_qa", "hebench_mini_winograd")))
    )
    put_on_board(run, board, run="he", chosen="checkpoint-200")
    (record,) = [i.record for i in live(read_store(board)[1]) if i.record.model.endswith("300")]
    assert list(record.tasks) == [TASK, "hebench_mini_qa"]


def test_run_folders_of_an_earlier_training_are_not_shown(run: Path, tmp_path: Path) -> None:
    last = read_log(run / "selection.jsonl")[-1]
    append(run / "selection.jsonl", replace(last, weights_sha256="of other weights"))
    added = put_on_board(run, tmp_path / "board", run="he", chosen="checkpoint-200")
    assert added == ["he-checkpoint-100", "he-checkpoint-200"]


def test_a_run_without_run_folders_has_nothing_for_the_board(
    tiny_model: Path, tmp_path: Path
) -> None:
    run = made_run(tmp_path / "run", tiny_model, [0.5, 0.6])
    with pytest.raises(DataError, match="hebench watch --once"):
        put_on_board(run, tmp_path / "board", run="x", chosen="checkpoint-100")
    with pytest.raises(DataError, match="slug"):
        put_on_board(run, tmp_path / "board", run="Not A Slug", chosen="checkpoint-100")
