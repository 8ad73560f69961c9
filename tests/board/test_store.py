"""The leaderboard's files: what joins, what is refused, what is withdrawn."""

import dataclasses
import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from hebench.board.models_file import read_models, slugify
from hebench.board.record_file import read_record, write_record
from hebench.board.store import add_run, live, read_store, withdraw
from hebench.errors import DataError
from tests.board.made import made_record, made_task, store
from tests.board.test_read import TASK, write_run

KEY = "hebench_mini_grammar"


def board(folder: Path, **models: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "models.yaml").write_text(yaml.safe_dump(models), encoding="utf-8")
    return folder


def entry(**more: Any) -> dict[str, Any]:
    return {"name": "A model", "kind": "model", "track": "base"} | more


def test_a_run_joins_and_its_model_gets_an_entry(tmp_path: Path) -> None:
    folder = board(tmp_path / "board", other=entry())
    before = (folder / "models.yaml").read_text(encoding="utf-8")
    path, is_new = add_run(
        folder, write_run(tmp_path / "run", name="Org/Some Model 7B"), added="2026-11-25"
    )
    assert is_new and path.parent.name == "org-some-model-7b"
    assert (folder / "models.yaml").read_text(encoding="utf-8").startswith(before)
    models, stored = read_store(folder)
    assert models["org-some-model-7b"].licence is None
    assert [item.name for item in stored] == [f"org-some-model-7b/{path.name[:-8]}"]


def test_the_same_run_is_not_added_twice(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    add_run(tmp_path / "board", run, added="2026-11-25")
    with pytest.raises(DataError, match="is on the board already, as plain/2026-11-25-"):
        add_run(tmp_path / "board", run, added="2026-11-26")


def test_a_rerun_waits_until_the_first_is_withdrawn(tmp_path: Path) -> None:
    folder = tmp_path / "board"
    first, _ = add_run(folder, write_run(tmp_path / "a"), added="2026-11-01")
    again = write_run(tmp_path / "b", scores=(0.0, 0.0, 1.0))
    with pytest.raises(DataError, match="holds scores of plain on hebench_mini_sentiment already"):
        add_run(folder, again, added="2026-11-02")
    stone = withdraw(folder, f"plain/{first.name[:-8]}", "wrong dtype", on="2026-11-02")
    assert json.loads(stone.read_text("utf-8"))["reason"] == "wrong dtype"
    add_run(folder, again, added="2026-11-02")
    stored = read_store(folder)[1]
    assert len(stored) == 2 and len(live(stored)) == 1
    with pytest.raises(DataError, match="is withdrawn already"):
        withdraw(folder, f"plain/{first.name[:-8]}", "again")


@pytest.mark.parametrize(
    ("name", "reason", "message"),
    [("plain/none", "why", "found no plain/none"), ("plain/none", "  ", "expected a reason")],
)
def test_a_withdrawal_names_a_record_and_a_reason(
    tmp_path: Path, name: str, reason: str, message: str
) -> None:
    add_run(tmp_path / "board", write_run(tmp_path / "run"))
    with pytest.raises(DataError, match=message):
        withdraw(tmp_path / "board", name, reason)


def test_versions_are_not_mixed(tmp_path: Path) -> None:
    folder = tmp_path / "board"
    add_run(folder, write_run(tmp_path / "a", name="a"))
    with pytest.raises(DataError, match=r"version 2\.0 of hebench_mini_sentiment, but a/"):
        add_run(folder, write_run(tmp_path / "b", name="b", version=2.0))
    assert list(read_models(folder)) == ["a"], "a refused run leaves nothing behind"


def test_shots_are_not_mixed(tmp_path: Path) -> None:
    folder = tmp_path / "board"
    first, _ = add_run(folder, write_run(tmp_path / "a", name="a", shots=0))
    fewer = r"b/.*: 5 shots of hebench_mini_sentiment, but a/.* has 0 shots; .* or withdraw"
    with pytest.raises(DataError, match=fewer):
        add_run(folder, write_run(tmp_path / "b", name="b", shots=5))
    assert list(read_models(folder)) == ["a"], "a refused run leaves nothing behind"
    withdraw(folder, f"a/{first.name[:-8]}", "0 shots")
    add_run(folder, tmp_path / "b")


def test_base_models_of_a_column_saw_the_same_prompts(tmp_path: Path) -> None:
    task = made_task(KEY, 0.5, 1)
    other = dataclasses.replace(task, prompt_sha256="0" * 64)
    short = made_task(KEY, 0.5, 1, limit=10)
    for track, second in (("chat", other), ("base", short)):  # a template; fewer prompts
        folder = board(tmp_path / track, a=entry(track=track), b=entry(track=track))
        store(folder, made_record("a", {KEY: task}, track=track))
        store(folder, made_record("b", {KEY: second}, track=track))
        assert len(read_store(folder)[1]) == 2
    folder = board(tmp_path / "other", a=entry(), b=entry())
    store(folder, made_record("a", {KEY: task}))
    store(folder, made_record("b", {KEY: other}))
    with pytest.raises(DataError, match=r"b/.*: prompts 0{12} of hebench_mini_grammar, but a/"):
        read_store(folder)


def test_tracks_are_not_mixed(tmp_path: Path) -> None:
    folder = board(tmp_path / "board", plain=entry(track="chat"))
    with pytest.raises(DataError, match="tracks are never mixed"):
        add_run(folder, write_run(tmp_path / "run"))


def test_changed_documents_are_not_mixed(tmp_path: Path) -> None:
    folder = board(tmp_path / "board", a=entry(), b=entry())
    task = made_task(KEY, 0.5, 1)
    store(folder, made_record("a", {KEY: task}))
    store(folder, made_record("b", {KEY: dataclasses.replace(task, data_sha256="0" * 64)}))
    with pytest.raises(DataError, match=r"b/.*: documents 0{12} of hebench_mini_grammar, but a/"):
        read_store(folder)


def test_a_record_needs_its_model_and_its_folder(tmp_path: Path) -> None:
    folder = board(tmp_path / "board", a=entry())
    path = store(folder, made_record("b", {KEY: made_task(KEY, 0.5, 1)}))
    with pytest.raises(DataError, match=r"models\.yaml has no entry b"):
        read_store(folder)
    (folder / "results" / "a").mkdir()
    path.rename(folder / "results" / "a" / path.name)
    with pytest.raises(DataError, match="is of model b; move it"):
        read_store(folder)


def test_a_record_keeps_the_name_it_was_given(tmp_path: Path) -> None:
    folder = board(tmp_path / "board", a=entry())
    path = store(folder, made_record("a", {KEY: made_task(KEY, 0.5, 1)}))
    path.rename(path.with_name("best-run.json.gz"))
    with pytest.raises(DataError, match="expected a name like 2026-11-01-"):
        read_store(folder)


# --------------------------------------------------------------------------- untrusted records

TASK_CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"items": []}, "expected items, found none"),
    ({"items": ["x"]}, "expected 1 values in"),
    ({"total": 3}, "at least as many items in all"),
    ({"metrics": {"acc": [1.0] * 505}}, "expected the metric score"),
    ({"metrics": {"score": [2.0] * 505}}, r"scores in \[0, 1\]"),
    ({"metrics": {"score": ["1"] * 505}}, "expected finite numbers"),
    ({"metrics": {"score": [None] * 505}}, "no item was judged"),
    ({"answers": ["a" * 30_000] * 505}, "answers of at most"),
    ({"answers": [[float("1e999")]] * 505}, "Infinity|finite|answers"),
    ({"answers": [[10**400]] * 505}, "finite"),
    ({"unknown": 1}, r"unknown: \['unknown'\]"),
    ({"chance": 10**400}, "chance level"),
    ({"total": 10**400}, "at least as many items in all"),
    ({"metrics": {"score": [10**400] * 505}}, "expected finite numbers"),
    ({"clusters": [2**70] * 505}, "expected codes from 0 to 504"),
    ({"version": "1\ud800"}, "in version"),
    ({"prompt_sha256": "\u202e"}, "in prompt_sha256"),
    ({"split": "validation"}, "its split is another"),
]


@pytest.mark.parametrize(("change", "message"), TASK_CHANGES)
def test_a_task_that_is_not_what_it_says_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "a.json.gz"
    write_record(path, made_record("a", {KEY: made_task(KEY, 0.5, 1)}))
    content = json.loads(gzip.decompress(path.read_bytes()))
    content["tasks"][KEY] |= change
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    with pytest.raises(DataError, match=message):
        read_record(path)


RECORD_CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"schema": 99}, "expected schema 1, found 99"),
    ({"model": "../../etc"}, "is not a slug"),
    ({"track": "best"}, "expected a track"),
    ({"added": "yesterday"}, "expected an ISO date"),
    ({"tasks": {}}, "at least one task"),
    ({"tasks": {"../x": {}}}, "not the name of a column"),
    ({"tasks": {f"{KEY}--chat": {}}}, "not the name of a column"),
    ({"tasks": {"x\n::error::": {}}}, r"\\n::error::' is not the name of a column"),
    ({"settings": {"home": "/home/noa"}}, "settings missing or unknown"),
    ({"more": 1}, r"unknown: \['more'\]"),
]


@pytest.mark.parametrize(("change", "message"), RECORD_CHANGES)
def test_a_record_that_is_not_what_it_says_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "a.json.gz"
    write_record(path, made_record("a", {KEY: made_task(KEY, 0.5, 1)}))
    content = json.loads(gzip.decompress(path.read_bytes())) | change
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    with pytest.raises(DataError, match=message):
        read_record(path)


@pytest.mark.parametrize(
    "raw",
    [b"", b"not gzip", gzip.compress(b"not json", mtime=0), gzip.compress(b"[" * 100_000, mtime=0),
     gzip.compress(b'{"schema": NaN}', mtime=0), gzip.compress(b"[]", mtime=0),
     gzip.compress(b"0123456789" * 9, mtime=0)[:-20] + b"\xff" * 20],
)  # fmt: skip
def test_a_damaged_record_is_refused_in_one_line(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "a.json.gz"
    path.write_bytes(raw)
    with pytest.raises(DataError) as caught:
        read_record(path)
    assert "\n" not in str(caught.value) and "a.json.gz" in str(caught.value)


def test_a_link_and_a_folder_are_no_record(tmp_path: Path) -> None:
    (tmp_path / "b.json.gz").symlink_to("/dev/zero")
    (tmp_path / "c.json.gz").mkdir()
    for name in ("b.json.gz", "c.json.gz"):
        with pytest.raises(DataError, match="expected a plain file"):
            read_record(tmp_path / name)


def test_half_a_surrogate_pair_in_an_answer_comes_back(tmp_path: Path) -> None:
    task = made_task("hebench_mini_translation_en_he", 0.5, 1)
    task = dataclasses.replace(task, answers=("\ud800", *(task.answers or ())[1:]))
    record = made_record("a", {"hebench_mini_translation_en_he": task})
    path = store(tmp_path, record)
    assert read_record(path) == record


@pytest.mark.parametrize(
    "stone",
    [b"", b"[]", b"[" * 100_000, b"\xff", b'{"schema": 1, "date": "2026-11-02", "reason": 5}',
     b'{"schema": 1, "date": "soon", "reason": "x"}'],
)  # fmt: skip
def test_a_tombstone_that_is_none_is_refused(tmp_path: Path, stone: bytes) -> None:
    folder = board(tmp_path / "board", a=entry())
    path = store(folder, made_record("a", {KEY: made_task(KEY, 0.5, 1)}))
    path.with_name(f"{path.name[:-8]}.withdrawn.json").write_bytes(stone)
    with pytest.raises(DataError, match="withdrawn.json: expected"):
        read_store(folder)


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hebench.board.record_file.MAX_BYTES", 1_000_000)
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(b" " * 2_000_000))
    with pytest.raises(DataError, match="at most 1,000,000 bytes"):
        read_record(path)


# ------------------------------------------------------------------------------- models.yaml


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "wizard"}, "expected a kind"),
        ({"track": "fast"}, "expected a track"),
        ({"link": "javascript:alert(1)"}, "starts with https"),
        ({"link": 'https://x/"><script>'}, "starts with https"),
        ({"released": "soon"}, "ISO date"),
        ({"parameters": -1}, "whole number"),
        ({"parameters": 10**400}, "whole number"),
        ({"link": "https://x.org/\u202e"}, "starts with https"),
        ({"note": "\ud800"}, "a text in note"),
        ({"checkpoint": {"run": "x", "step": 10**400}}, "whole number in step"),
        ({"checkpoint": {"run": "x", "step": 1, "loss": float("nan")}}, "number in loss"),
        ({"checkpoint": {"run": "x", "step": 1}, "kind": "baseline"}, "has no checkpoint"),
        ({1: 2, "size": 7}, r"unknown keys \['1', 'size'\]"),
        ({"open_weights": "yes"}, "true, false or null"),
        ({"size": 7}, r"unknown keys \['size'\]"),
        ({"checkpoint": {"run": "x"}}, "run and step"),
        ({"name": None}, "expected a text in name"),
    ],
)
def test_an_entry_that_is_not_right_is_named(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = board(tmp_path, **{"a-model": entry() | change})
    with pytest.raises(DataError, match=f"a-model.*{message}"):
        read_models(folder)


@pytest.mark.parametrize(
    "text",
    ["a: [", "- a", "a: {released: 2024-02-30}", "a: " + "9" * 5_000, "[" * 10_000, "\ta: b",
     "a: {name: A, kind: model, track: base}\n" * 2],
)  # fmt: skip
def test_a_damaged_list_of_models_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "models.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="models.yaml: expected") as caught:
        read_models(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_checkpoints_of_a_run_are_of_one_track(tmp_path: Path) -> None:
    point = {"run": "x", "step": 1}
    models = {
        "a": entry(checkpoint=point),
        "b": entry(checkpoint=point | {"step": 2}, track="chat"),
    }
    with pytest.raises(DataError, match="other checkpoints of x are of another track"):
        read_models(board(tmp_path, **models))


def test_a_training_run_has_one_chosen_checkpoint_at_most(tmp_path: Path) -> None:
    points = [{"run": "x", "step": step, "seed": step, "chosen": step < 3} for step in (1, 2, 3)]
    models = {f"m{n}": entry(checkpoint=point) for n, point in enumerate(points)}
    models["other"] = entry(checkpoint={"run": "y", "step": 1, "chosen": True})
    with pytest.raises(DataError, match=r"m1: m0 is the chosen checkpoint of x already"):
        read_models(board(tmp_path, **models))
    del models["m0"]
    assert len(read_models(board(tmp_path, **models))) == 3


def test_dates_of_yaml_and_texts_are_the_same(tmp_path: Path) -> None:
    text = "a: {name: A, kind: model, track: base, released: 2024-07-01}\n"
    (tmp_path / "models.yaml").write_text(text, encoding="utf-8")
    assert read_models(tmp_path)["a"].released == "2024-07-01"


def test_a_run_that_could_not_be_read_again_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a short text or a number in name"):
        add_run(tmp_path / "board", write_run(tmp_path / "run", name="x" * 500))
    folder = tmp_path / "flow"
    folder.mkdir()
    (folder / "models.yaml").write_text("{}\n", encoding="utf-8")
    with pytest.raises(DataError, match="cannot append plain"):
        add_run(folder, write_run(tmp_path / "other"))
    assert read_store(folder) == ({}, []) and not (tmp_path / "board").exists()


def test_an_interrupted_addition_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    run, folder = write_run(tmp_path / "run"), tmp_path / "board"
    with monkeypatch.context() as patch:
        patch.setattr("hebench.board.store.write_record", interrupted)
        with pytest.raises(KeyboardInterrupt):
            add_run(folder, run)
    assert list(read_store(folder)[0]) == ["plain"] and read_store(folder)[1] == []
    add_run(folder, run)
    assert len(read_store(folder)[1]) == 1


def test_two_additions_at_a_time_lose_nothing(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, name=name) for name in ("a", "b", "c", "d")]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda run: add_run(tmp_path / "board", run), runs))
    models, stored = read_store(tmp_path / "board")
    assert set(models) == {"a", "b", "c", "d"} and len(stored) == 4


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Org/Model 7B", "org-model-7b"),
        ("DictaLM-2.0", "dictalm-2.0"),
        ("../../etc/passwd", "etc-passwd"),
        ("דגם", ""),
        ("x" * 300, "x" * 80),
    ],
)
def test_a_slug_is_safe_as_a_file_name(name: str, slug: str) -> None:
    assert slugify(name) == slug


def test_a_name_without_a_slug_asks_for_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name one with --model"):
        add_run(tmp_path / "board", write_run(tmp_path / "run", name="דגם"))
    path, _ = add_run(tmp_path / "board", write_run(tmp_path / "x", name="דגם"), model="degem")
    assert path.parent.name == "degem" and TASK in read_record(path).tasks
