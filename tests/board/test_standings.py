"""Columns and standings: what is compared with what, and what is not."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from hebench.board.columns import column_id, read_columns
from hebench.board.standings import Board, standings, track_presets
from hebench.board.store import live, read_store
from hebench.errors import DataError
from hebench.stats.intervals import mean_interval
from hebench.stats.paired import compare
from tests.board.made import MINI, made_board, made_record, made_task, store

KEY = "hebench_mini_grammar"


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    folder = made_board(tmp_path_factory.mktemp("standings"))
    return standings(*read_store(folder))


def test_every_cell_is_the_interval_of_its_items(board: Board) -> None:
    for (key, slug), cell in board.cells.items():
        column = board.columns[key]
        scores = column.part(slug).metrics["score"]
        expected = mean_interval(
            [np.nan if s is None else s for s in scores], column.part(slug).clusters
        )
        assert cell.interval == expected


def test_tracks_have_columns_and_rankings_of_their_own(board: Board) -> None:
    assert board.tracks == ("base", "chat")
    for (track, _), ranking in board.rankings.items():
        assert {board.models[slug].track for slug in ranking.standings} == {track}
        assert {board.columns[key].track for key in ranking.keys} == {track}
    assert column_id("hebench_mini_qa", "thinking") == "hebench_mini_qa--thinking"
    assert column_id("hebench_mini_chat_qa", "chat") == "hebench_mini_chat_qa"


def test_the_same_task_in_two_tracks_is_two_columns(tmp_path: Path) -> None:
    folder = made_board(tmp_path)
    store(folder, made_record("chat-a", {KEY: made_task(KEY, 0.9, 5)}, track="chat"))
    found = standings(*read_store(folder))
    assert "chat-a" not in found.columns[KEY].scores
    assert list(found.columns[f"{KEY}--chat"].scores) == ["chat-a"]


def test_a_partial_run_is_shown_and_enters_no_mean(board: Board) -> None:
    cell = board.cell("hebench_mini_qa", "model-d")
    assert cell is not None and cell.partial and cell.interval.n == 50
    ranking = board.rankings["base", "all"]
    assert ranking.missing["model-d"] == ("hebench_mini_qa",)
    assert "model-d" not in ranking.standings and "model-d" not in board.ranked("hebench_mini_qa")


def test_only_models_and_chosen_checkpoints_are_ranked(board: Board) -> None:
    ranked = set(board.rankings["base", "all"].standings)
    assert ranked == {"model-a", "model-b", "model-c", "run-x-s0-300"}


def test_the_mean_is_the_plain_mean_over_tasks(board: Board) -> None:
    ranking = board.rankings["base", "all"]
    for slug, standing in ranking.standings.items():
        means = [board.cells[key, slug].interval.mean for key in ranking.keys]
        assert standing.mean.mean == pytest.approx(np.mean(means))
        assert standing.low <= standing.high


def test_rank_sets_agree_with_paired_tests_of_clear_pairs(board: Board) -> None:
    """A pair that a simultaneous rule parts is parted by the single test, too."""
    best = {slug for (key, slug), cell in board.cells.items() if key == KEY and cell.best}
    column = board.columns[KEY]
    top = max(column.scores, key=lambda slug: column.scores[slug].mean() if slug in best else 0)
    for slug in board.ranked(KEY):
        if slug not in best:
            assert compare(column.scores[top], column.scores[slug], draws=100).p < 0.05


def test_a_preset_is_a_whole_group_or_all(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"pair": MINI[3:5], "part": (MINI[0], "hebench_nli")}
    for reader in ("standings", "columns"):
        monkeypatch.setattr(f"hebench.board.{reader}.groups", lambda: made)
    found = track_presets(board.columns, board.models)["base"]
    assert found.keys() == {"all", "pair"}
    assert set(found["pair"]) == set(MINI[3:5]) and len(found["all"]) == len(MINI)


def test_rows_are_ranked_then_the_rest_then_baselines(board: Board) -> None:
    slugs = [entry.slug for entry in board.rows("base")]
    assert slugs[:4] == list(board.rankings["base", "all"].standings)
    assert slugs[4] == "model-d" and slugs[-1] == "baseline-random"
    assert len(slugs) == len(set(slugs)) == 4 + 1 + 7 + 1


def test_floor_and_flags(board: Board, tmp_path: Path) -> None:
    floor = board.floor(KEY)
    assert floor is not None and floor[1] == "baseline-random"
    assert not board.saturated(KEY) and not board.at_floor(KEY)
    folder = made_board(tmp_path)
    _, stored = read_store(folder)
    weak = [item for item in stored if item.record.model in {"baseline-random", "model-d"}]
    perfect = dataclasses.replace(
        weak[-1].record.tasks[KEY],
        metrics={"score": (1.0,) * len(weak[-1].record.tasks[KEY].items)},
    )
    models = read_store(folder)[0]
    top = [dataclasses.replace(weak[-1], record=made_record("model-d", {KEY: perfect}))]
    assert standings(models, top).saturated(KEY)
    low = [
        dataclasses.replace(
            item, record=dataclasses.replace(item.record, tasks={KEY: made_task(KEY, 0.1, 3)})
        )
        for item in weak
    ]
    assert standings(models, low).at_floor(KEY)


def test_withdrawn_records_count_no_more(tmp_path: Path) -> None:
    from hebench.board.store import withdraw

    folder = made_board(tmp_path)
    name = next(item.name for item in read_store(folder)[1] if item.record.model == "model-a")
    withdraw(folder, name, "wrong weights")
    found = standings(*read_store(folder))
    assert all(slug != "model-a" for _, slug in found.cells)
    assert any(item.withdrawn for item in found.stored)


def test_runs_of_different_items_are_refused(tmp_path: Path) -> None:
    folder = made_board(tmp_path)
    task = made_task(KEY, 0.5, 1, limit=10)
    odd = dataclasses.replace(task, items=tuple(f"x{place}" for place in range(10)))
    _, stored = read_store(folder)
    bad = dataclasses.replace(stored[0], record=made_record("model-d", {KEY: odd}))
    with pytest.raises(DataError, match="different items"):
        read_columns(read_store(folder)[0], [*live(stored), bad])
