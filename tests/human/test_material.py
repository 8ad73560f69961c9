"""Answers of models as read: run folders, JSON Lines, names masked, damage named."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hebench.errors import DataError
from hebench.human.masking import MASK, mask, storable
from hebench.human.material import read_material
from hebench.human.study import Source
from tests.human.made_study import made_study


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def row(item: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"item": item, "source": f"מקור {item}", "answer": answer} | more


def study_of(folder: Path, first: list[dict[str, Any]], second: list[dict[str, Any]], **more: Any):
    models = {
        "model-1": Source(answers=lines(folder / "1.jsonl", first), names=("Model One",)),
        "model-2": Source(answers=lines(folder / "2.jsonl", second)),
    }
    return made_study(**{"models": models, "checks": None} | more)


def test_items_that_all_models_answered_are_taken_and_the_others_are_named(tmp_path: Path) -> None:
    study = study_of(tmp_path, [row("b", "x"), row("a", "y"), row("c", "z")], [row("a", "w")])
    found = read_material(study)
    assert [item.name for item in found.items] == ["a"]
    assert found.items[0].answers["model-2"].text == "w"
    assert found.items[0].prompt == "מקור a"
    assert found.left_out == {"b": ("model-2",), "c": ("model-2",)}


def test_names_are_masked_in_what_is_shown_and_kept_in_what_was_written(tmp_path: Path) -> None:
    study = study_of(tmp_path, [row("a", "אני Model One.")], [row("a", "אני model-2")])
    found = read_material(study)
    first, second = found.items[0].answers.values()
    assert first.shown == f"אני {MASK}." and first.text == "אני Model One."
    assert second.shown == f"אני {MASK}"
    assert found.masked == 2


def test_names_that_are_too_short_to_be_masked_are_told(tmp_path: Path) -> None:
    answers = lines(tmp_path / "a.jsonl", [row("a", "אני ai")])
    models = {"ai": Source(answers=answers), "o1": Source(answers=answers, names=("o1", "b"))}
    assert read_material(made_study(models=models, checks=None)).unmasked == ("ai", "b")


def test_nothing_is_masked_in_a_review_whose_texts_are_its_results(tmp_path: Path) -> None:
    answers = lines(tmp_path / "a.jsonl", [row("a", "ChatGPT ו־b הם שמות ב־set")])
    models = {"set": Source(answers=answers, names=("set", "b"))}
    found = read_material(made_study(type="review", models=models, checks=None))
    answer = found.items[0].answers["set"]
    assert (answer.shown, answer.masked, found.unmasked) == (answer.text, False, ())


def test_a_run_folder_is_read_by_task_from_its_newest_results(tmp_path: Path) -> None:
    for stamp, answer in (("2026-01-01", "ישן"), ("2026-02-02", "חדש")):
        (tmp_path / f"results_{stamp}.json").write_text("{}")
        sample = {
            "doc_id": 0,
            "doc": {"id": "su-1", "article": "כתבה", "cluster": "c1"},
            "target": "תקציר",
            "arguments": {"gen_args_0": {"arg_0": "סכמו: כתבה", "arg_1": {}}},
            "filtered_resps": [f" {answer} "],
        }
        lines(tmp_path / f"samples_sums_{stamp}.jsonl", [sample])
    study = made_study(
        models={name: Source(answers=tmp_path, names=()) for name in ("aa", "bb")},
        task="sums",
        source="article",
        checks=None,
    )
    item = read_material(study).items[0]
    assert (item.name, item.source, item.prompt) == ("su-1", "כתבה", "סכמו: כתבה")
    assert (item.cluster, item.reference) == ("c1", "תקציר")
    assert item.answers["aa"].text == "חדש"


def test_log_likelihoods_are_no_answer_to_show(tmp_path: Path) -> None:
    (tmp_path / "results_x.json").write_text("{}")
    sample = {"doc_id": 0, "doc": {}, "arguments": {"gen_args_0": {"arg_0": "p"}}, "resps": [1.5]}
    lines(tmp_path / "samples_t_x.jsonl", [sample])
    study = made_study(
        models={n: Source(answers=tmp_path) for n in ("aa", "bb")}, task="t", checks=None
    )
    with pytest.raises(DataError, match="line 1: answer: expected a text"):
        read_material(study)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([row("a", "x"), row("a", "y")], [row("a", "z")], "line 2: item 'a' comes twice"),
        ([row("a", "x")], [row("a", "y") | {"source": "אחר"}], "has another source"),
        ([row("a", "x")], [row("b", "y")], "expected items that all of"),
        ([{"item": "a", "source": "s"}], [row("a", "y")], "line 1: answer: expected a text"),
        ([row("a", "x", modle="m")], [row("a", "y")], "unknown keys"),
        ([row("", "x")], [row("a", "y")], "item: expected a text"),
    ],
)
def test_damage_is_named_with_its_line(
    tmp_path: Path, first: list[Any], second: list[Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_material(study_of(tmp_path, first, second))


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ({"kind": "silver"}, "expected kind"),
        ({"answers": ["א"]}, "expected 2 answers"),
        ({"expected": {"outcome": "third"}}, "expected some of"),
        ({"expected": {"verdict": "accept"}}, "expected in `expected` some of outcome"),
        ({"extra": 1}, "expected kind"),
    ],
)
def test_a_check_that_cannot_be_answered_is_refused(
    tmp_path: Path, check: dict[str, Any], message: str
) -> None:
    good = {"kind": "gold", "source": "", "answers": ["א", "ב"], "expected": {"outcome": "first"}}
    path = lines(tmp_path / "checks.jsonl", [good, good | check])
    with pytest.raises(DataError, match=message):
        read_material(study_of(tmp_path, [row("a", "x")], [row("a", "y")], checks=path))


def test_a_file_of_checks_that_is_not_there_is_named(tmp_path: Path) -> None:
    study = study_of(tmp_path, [row("a", "x")], [row("a", "y")], checks=tmp_path / "cheks.jsonl")
    with pytest.raises(DataError, match="checks: expected a JSON Lines file, found none"):
        read_material(study)


def test_too_few_checks_for_the_plan_are_refused(tmp_path: Path) -> None:
    good = {"kind": "gold", "source": "", "answers": ["א", "ב"], "expected": {"outcome": "first"}}
    path = lines(tmp_path / "checks.jsonl", [good])
    study = study_of(tmp_path, [row("a", "x")], [row("a", "y")], checks=path, plan={"gold": 2})
    with pytest.raises(DataError, match="at least 2 of kind gold"):
        read_material(study)


# --------------------------------------------------------------------------------- masking


@pytest.mark.parametrize(
    ("text", "source", "expected"),
    [
        ("אני ChatGPT, מודל של OpenAI", "מי אתה?", f"אני {MASK}, מודל של {MASK}"),
        ("לפי GPT-4.1-mini. סוף", "", f"לפי {MASK}. סוף"),
        ("הלקוח שChatGPT ענה לו", "", f"הלקוח ש{MASK} ענה לו"),
        ("I am dictalm 2-Instruct.", "", f"I am {MASK}."),
        ("אני צ'אט ג'י פי טי", "", f"אני {MASK}"),
        ("a llama; Claude Monet; mistral wind", "", "a llama; Claude Monet; mistral wind"),
        ("OpenAI הודיעה אתמול", "OpenAI announced", "OpenAI הודיעה אתמול"),
        ("ChatGPTs and myChatGPT", "", "ChatGPTs and myChatGPT"),
        ("DictaLM\u20102, GPT\u20114.1\u2013mini", "", f"{MASK}, {MASK}"),
        ("b is a letter, go is a word", "", "b is a letter, go is a word"),
        ("אני o1, או O1\u2011preview.", "", f"אני {MASK}, או {MASK}."),
    ],
)
def test_names_are_masked_and_words_are_not(text: str, source: str, expected: str) -> None:
    names = ("DictaLM-2", "b", "go", "o1")
    assert mask(text, source, names=names) == (expected, expected != text)


def test_a_name_is_masked_without_its_separator_however_short_it_is_then() -> None:
    assert mask("אני xy, או x-y", "", names=("x-y",)) == (f"אני {MASK}, או {MASK}", True)


@given(st.text(alphabet="abגד ", max_size=20), st.sampled_from(["SmolLM2", "Dicta LM 9"]))
def test_a_masked_text_never_holds_the_name(noise: str, name: str) -> None:
    shown, found = mask(f"{noise} {name}, {noise}", "", names=(name,))
    assert found and name.lower() not in shown.lower()
    assert mask(shown, "", names=(name,)) == (shown, False)


@given(st.text(alphabet=st.characters(), max_size=50))
def test_any_text_can_be_stored_at_its_length(text: str) -> None:
    kept = storable(text)
    assert len(kept) == len(text) and "\0" not in kept
    kept.encode("utf-8")
