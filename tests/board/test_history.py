"""What changed, day by day: from the records alone, and the same as building each day's board."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from hebench.board.build import _render, load_site
from hebench.board.history import Day, Move, history
from hebench.board.page import Site
from hebench.board.pages import changes
from hebench.board.standings import Board, standings
from hebench.board.store import read_store, withdraw
from hebench.catalogue import LANGUAGES, catalogue
from tests.board.made import EVIL, MINI, made_record, made_task, store

TASKS = MINI[1:4]


def entries(folder: Path, *slugs: str) -> None:
    """Write models.yaml with these models."""
    content = {slug: {"name": slug.upper(), "kind": "model", "track": "base"} for slug in slugs}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "models.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def add(  # noqa: PLR0913 (what a record is made of)
    folder: Path,
    slug: str,
    day: int,
    skill: float,
    *,
    tasks: tuple[str, ...] = TASKS,
    seed: int = 1,
    limit: int | None = None,
) -> str:
    """Add a record; return its name."""
    made = {key: made_task(key, skill, seed, limit=limit) for key in tasks}
    path = store(folder, made_record(slug, made, added=f"2026-11-{day:02}"))
    return f"{slug}/{path.name.removesuffix('.json.gz')}"


def board_of(folder: Path) -> Board:
    return standings(*read_store(folder))


def moves(day: Day) -> dict[str, Move]:
    return {move.slug: move for change in day.tracks for move in change.moves}


def codes(move: Move) -> list[str]:
    return [code for code, _ in move.reasons]


def test_the_first_day_is_all_new(tmp_path: Path) -> None:
    entries(tmp_path, "a", "b")
    add(tmp_path, "a", 1, 0.9)
    add(tmp_path, "b", 1, 0.4)
    (day,) = history(board_of(tmp_path))
    assert (day.date, day.new, day.rerun, day.withdrawn) == ("2026-11-01", ("a", "b"), (), ())
    assert set(day.columns) == set(TASKS)
    assert {slug: codes(move) for slug, move in moves(day).items()} == {"a": ["new"], "b": ["new"]}


def test_a_better_newcomer_moves_those_below_it(tmp_path: Path) -> None:
    entries(tmp_path, "a", "b")
    add(tmp_path, "a", 1, 0.4)
    add(tmp_path, "b", 2, 0.95, seed=2)
    day = history(board_of(tmp_path))[0]
    found = moves(day)["a"]
    assert found.before is not None and found.after is not None
    assert (found.before.low, found.before.high) == (1, 1)
    assert (found.after.low, found.after.high) == (2, 2)
    assert found.reasons == (("above", ("b",)),)


def test_a_newcomer_that_is_nearly_as_good_widens_the_leaders_ranks(tmp_path: Path) -> None:
    entries(tmp_path, "a", "b")
    add(tmp_path, "a", 1, 0.62)
    add(tmp_path, "b", 2, 0.6, seed=2)
    day = history(board_of(tmp_path))[0]
    found = moves(day)["a"]
    assert found.after is not None and (found.after.low, found.after.high) == (1, 2)
    assert found.reasons == (("more", ("b",)),)


def test_a_rerun_is_said_to_be_one_and_others_moves_are_laid_to_it(tmp_path: Path) -> None:
    entries(tmp_path, "a", "b")
    name = add(tmp_path, "a", 1, 0.3)
    add(tmp_path, "b", 1, 0.6, seed=2)
    withdraw(tmp_path, name, "wrong dtype", on="2026-11-05")
    add(tmp_path, "a", 5, 0.95, seed=3)
    day = history(board_of(tmp_path))[0]
    assert (day.date, day.new, day.rerun) == ("2026-11-05", (), ("a",))
    assert [item.name for item in day.withdrawn] == [name]
    assert codes(moves(day)["a"]) == ["rerun"]
    assert moves(day)["b"].reasons == (("others", ("a",)),)


def test_a_withdrawal_takes_a_model_off_and_gives_its_reason(tmp_path: Path) -> None:
    entries(tmp_path, "a", "b")
    name = add(tmp_path, "a", 1, 0.9)
    add(tmp_path, "b", 1, 0.4, seed=2)
    withdraw(tmp_path, name, "trained on the test set", on="2026-11-07")
    day = history(board_of(tmp_path))[0]
    assert moves(day)["a"].after is None and codes(moves(day)["a"]) == ["withdrawn"]
    assert moves(day)["b"].reasons == (("left", ("a",)),)
    assert day.withdrawn[0].withdrawn is not None
    assert day.withdrawn[0].withdrawn.reason == "trained on the test set"


def test_a_model_that_comes_back_is_not_new(tmp_path: Path) -> None:
    entries(tmp_path, "a", "b")
    name = add(tmp_path, "a", 1, 0.9)
    add(tmp_path, "b", 1, 0.4, seed=2)
    withdraw(tmp_path, name, "wrong dtype", on="2026-11-03")
    add(tmp_path, "a", 4, 0.8, seed=5)
    newest, middle, _ = history(board_of(tmp_path))
    assert codes(moves(middle)["a"]) == ["withdrawn"]
    assert (newest.new, newest.rerun) == ((), ("a",)) and codes(moves(newest)["a"]) == ["back"]


def test_other_columns_in_the_mean_are_a_reason_of_their_own(tmp_path: Path) -> None:
    entries(tmp_path, "a", "b")
    for seed, slug in enumerate(("a", "b")):
        add(tmp_path, slug, 1, 0.5 + seed / 4, seed=seed)
    for seed, slug in enumerate(("a", "b")):
        add(tmp_path, slug, 2, 0.9 - seed / 4, tasks=(MINI[4],), seed=seed)
    day = history(board_of(tmp_path))[0]
    (change,) = day.tracks
    assert day.columns == (MINI[4],) and change.added == (MINI[4],) and change.removed == ()
    assert all(codes(move)[0] == "columns" for move in change.moves) and change.moves


def test_a_track_that_loses_every_model_is_said_to(tmp_path: Path) -> None:
    entries(tmp_path, "a")
    name = add(tmp_path, "a", 1, 0.9)
    withdraw(tmp_path, name, "wrong model", on="2026-11-02")
    day = history(board_of(tmp_path))[0]
    assert set(day.gone) == set(TASKS)
    assert day.tracks[0].preset is None and codes(moves(day)["a"]) == ["withdrawn"]


def test_days_of_records_that_do_not_go_together_are_said_to_be_unknown(tmp_path: Path) -> None:
    entries(tmp_path, "a", "b")
    add(tmp_path, "a", 1, 0.9)
    task = made_task(TASKS[0], 0.5, 3)
    task = dataclasses.replace(task, clusters=(0,) * len(task.items))
    path = store(tmp_path, made_record("b", {TASKS[0]: task}, added="2026-11-02"))
    withdraw(tmp_path, f"b/{path.name.removesuffix('.json.gz')}", "clusters", on="2026-11-03")
    days = history(board_of(tmp_path))
    assert [day.unknown for day in days] == [True, True, False]
    assert days[0].tracks == () and days[1].columns == ()


def test_each_day_is_what_building_that_day_gives(tmp_path: Path) -> None:
    entries(tmp_path, *"abcd")
    whole = tmp_path / "whole"
    entries(whole, *"abcd")
    for day, (slug, skill) in enumerate(zip("abcd", (0.5, 0.7, 0.45, 0.65), strict=True), start=1):
        for folder in (tmp_path, whole):
            name = add(folder, slug, day, skill, seed=day, limit=40 if slug == "c" else None)
        part = board_of(tmp_path).rankings["base", "all"].standings
        board = board_of(whole)
        found = history(board)[0]
        for other, move in moves(found).items():
            assert move.after == part.get(other)
    withdraw(whole, name, "x", on="2026-11-20")
    days = history(board_of(whole))
    assert [day.date[-2:] for day in days] == ["20", "04", "03", "02", "01"]
    before, now = moves(days[1])["d"].after, moves(days[0])["d"].before
    assert before == now == part["d"]


def test_who_leaves_since_a_longer_run_came_is_told_so(tmp_path: Path) -> None:
    entries(tmp_path, *"abc")
    for slug in "ab":
        add(tmp_path, slug, 1, 0.5, seed=ord(slug), tasks=TASKS[:1], limit=50)
    add(tmp_path, "c", 2, 0.6, tasks=TASKS[:1])
    found = moves(history(board_of(tmp_path))[0])
    assert [codes(found[slug]) for slug in "ab"] == [["partial"], ["partial"]]


def test_only_the_last_days_are_told_and_the_records_order_does_not_matter(tmp_path: Path) -> None:
    entries(tmp_path, *"abcde")
    for day, slug in enumerate("abcde", start=1):
        add(tmp_path, slug, day, 0.3 + day / 10, seed=day, tasks=TASKS[:1])
    models, stored = read_store(tmp_path)
    found = history(standings(models, stored), days=3)
    assert [day.date[-1] for day in found] == ["5", "4", "3"]
    assert history(standings(models, stored[::-1]), days=3) == found


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_names_who_moved_and_keeps_hostile_reasons_text(
    tmp_path: Path, language: str
) -> None:
    entries(tmp_path, "a", "b")
    name = add(tmp_path, "a", 1, 0.9)
    add(tmp_path, "b", 1, 0.4, seed=2)
    withdraw(tmp_path, name, EVIL, on="2026-11-07")
    site: Site = load_site(tmp_path)
    (page,) = changes.pages(site)
    text = _render(page, site, language).decode("utf-8")
    assert re.findall(r'datetime="([^"]+)"', text) == ["2026-11-07", "2026-11-01"]
    assert "<script" not in text and "&lt;script&gt;" in text and "\u202e" not in text
    assert str(catalogue("hebench.board")["changes.why.withdrawn"][language]) in text
    assert text.count("<h1>") == 1 and "style=" not in text
