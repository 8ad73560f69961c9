"""Preferences: rows, language pairs, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hebench.errors import DataError
from hebench.train.chat_data import Message
from hebench.train.languages import language
from hebench.train.preferences import (
    Preference,
    limit_language_pairs,
    read_preferences,
    write_language_pairs,
)

HE = {"prompt": "כמה ימים יש בשבוע?", "response": "שבעה."}
EN = {"prompt": "How many days are in a week?", "response": "Seven."}


def read(tmp_path: Path, *rows: Any) -> list[Preference]:
    path = tmp_path / "pairs.jsonl"
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text(text, encoding="utf-8")
    return read_preferences(path)


def test_an_aligned_row_gives_a_pair_in_each_direction(tmp_path: Path) -> None:
    hebrew, english = read(tmp_path, {"id": "lp-1", "aligned": {"en": EN, "he": HE}})
    assert (hebrew.prompt[0].content, hebrew.chosen, hebrew.rejected) == (
        "כמה ימים יש בשבוע?",
        "שבעה.",
        "Seven.",
    )
    assert (english.prompt[0].content, english.chosen, english.rejected) == (
        "How many days are in a week?",
        "Seven.",
        "שבעה.",
    )
    assert hebrew.about_language and english.about_language


def test_another_language_is_aligned_in_the_same_way(tmp_path: Path) -> None:
    greek = {"prompt": "Πόσες μέρες έχει η εβδομάδα;", "response": "Επτά."}
    pairs = read(tmp_path, {"aligned": {"el": greek, "en": EN}})
    assert [pair.chosen for pair in pairs] == ["Επτά.", "Seven."]


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        ("Yes.", "No."),
        ([{"role": "assistant", "content": "Yes."}], [{"role": "assistant", "content": "No."}]),
        (
            [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "Yes."}],
            [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "No."}],
        ),
    ],
)
def test_every_public_form_of_an_answer_is_read_alike(
    chosen: Any, rejected: Any, tmp_path: Path
) -> None:
    row = {"prompt": "Q?", "chosen": chosen, "rejected": rejected, "rater": "r7"}
    (pair,) = read(tmp_path, row)
    assert pair.prompt == (Message(role="user", content="Q?"),)
    assert (pair.chosen, pair.rejected, pair.about_language) == ("Yes.", "No.", False)
    assert [talk.answer for talk in pair.talks] == ["Yes.", "No."]
    assert pair.talks[0].prompt == pair.prompt


def he(response: str, prompt: str = HE["prompt"]) -> dict[str, Any]:
    return {"aligned": {"he": {"prompt": prompt, "response": response}, "en": EN}}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a", "chosen": "b"}, "line 1: expected keys prompt, chosen and rejected"),
        ({"prompt": "a", "chosen": "b c", "rejected": " b  c"}, "two different answers, found one"),
        ({"prompt": "a", "chosen": "", "rejected": "b"}, "chosen: expected text in message 1"),
        (
            {"prompt": [{"role": "tool", "content": "a"}], "chosen": "b", "rejected": "c"},
            "prompt: expected a role of system, user, assistant",
        ),
        (
            {"prompt": [{"role": "assistant", "content": "a"}], "chosen": "b", "rejected": "c"},
            "prompt: expected user and assistant in turn, the user last, found assistant",
        ),
        (
            {"prompt": "a", "chosen": [{"role": "user", "content": "a"}], "rejected": "c"},
            "chosen: expected one answer of the assistant, found messages of nobody",
        ),
        ({"aligned": {"en": EN}}, "expected in 'aligned' two languages, one of them of he, el"),
        ({"aligned": [HE, EN]}, "expected in 'aligned' two languages"),
        ({"aligned": {"en": EN, "fr": EN}}, "found en, fr"),
        ({"aligned": {"he": [HE], "en": EN}}, "he: expected an object with messages, found"),
        ({"aligned": {"he": None, "en": EN}}, "he: expected an object with messages, found None"),
        ({"aligned": {"he": HE, "el": HE}}, "found he, el"),
        (he("Seven."), "he: expected the answer in Hebrew, found 0% of its letters"),
        (he("7"), "he: expected the answer in Hebrew, found 0%"),
        (he("שבעה.", "How many?"), "he: expected the prompt in Hebrew, found 0%"),
        ({"aligned": {"he": HE, "en": HE}}, "en: expected the prompt in no Hebrew, found 100%"),
        ({"aligned": {"he": HE, "en": {"prompt": "a"}}}, "en: expected a key 'messages'"),
    ],
)
def test_a_bad_row_is_refused_in_one_line(row: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path, row)
    assert "pairs.jsonl line 1" in str(error.value) and "\n" not in str(error.value)


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected preferences, found none"):
        read(tmp_path)


def plain_pair(number: int, about_language: bool) -> Preference:
    return Preference(
        prompt=(Message(role="user", content=str(number)),),
        chosen="a",
        rejected="b",
        about_language=about_language,
        where="x",
    )


@given(
    kinds=st.lists(st.booleans(), min_size=1, max_size=60),
    share=st.floats(0, 0.95),
    seed=st.integers(0, 5),
)
def test_language_pairs_are_thinned_to_their_share(
    kinds: list[bool], share: float, seed: int
) -> None:
    pairs = [plain_pair(number, kind) for number, kind in enumerate(kinds)]
    places = limit_language_pairs(kinds, share, seed)
    kept = [pairs[place] for place in places]
    language_pairs = sum(pair.about_language for pair in kept)
    others = kinds.count(False)
    assert [pair for pair in pairs if not pair.about_language] == [
        pair for pair in kept if not pair.about_language
    ]
    assert language_pairs <= share * len(kept) + 1e-6
    assert language_pairs == sum(kinds) or language_pairs + 1 > share / (1 - share) * others - 1e-6
    assert kept == sorted(kept, key=lambda pair: int(pair.prompt[0].content))
    assert places == limit_language_pairs(kinds, share, seed)


def conversations(path: Path, *rows: dict[str, str]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_two_parallel_files_become_aligned_rows(tmp_path: Path) -> None:
    native = conversations(tmp_path / "he.jsonl", HE, HE)
    other = conversations(tmp_path / "en.jsonl", EN, EN)
    out = tmp_path / "pairs.jsonl"
    assert write_language_pairs(native, other, out, codes=("he", "en")) == 2
    assert [pair.rejected for pair in read_preferences(out)] == ["Seven.", "שבעה."] * 2


def test_parallel_files_of_other_lengths_or_in_one_language_are_refused(tmp_path: Path) -> None:
    native = conversations(tmp_path / "he.jsonl", HE, HE)
    short = conversations(tmp_path / "en.jsonl", EN)
    out = tmp_path / "pairs.jsonl"
    with pytest.raises(DataError, match="en.jsonl: expected as many .*he.jsonl, found 1"):
        write_language_pairs(native, short, out, codes=("he", "en"))
    with pytest.raises(DataError, match="he.jsonl line 1.*en: expected the prompt in no Hebrew"):
        write_language_pairs(native, native, out, codes=("he", "en"))
    assert not out.exists()


@pytest.mark.parametrize(("code", "least"), [("he", 120), ("el", 16)])
def test_the_packaged_pairs_are_aligned_and_distinct(code: str, least: int) -> None:
    folder = Path(__file__).parents[2] / "hebench/train/recipes/text"
    pairs = read_preferences(folder / f"chat_pairs_{code}.jsonl")
    assert len(pairs) >= least and all(pair.about_language for pair in pairs)
    assert len({pair.prompt for pair in pairs}) == len(pairs)
    own = language(code)
    for pair in pairs:
        asked = own.share(pair.prompt[0].content) > 0.5
        assert (own.share(pair.chosen) > 0.5) == asked != (own.share(pair.rejected) > 0.5)


def test_the_command_makes_pairs_of_two_aligned_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hebench import cli

    for name, prompt, response in (
        ("he", "מה שלומך?", "שלומי טוב."),
        ("en", "How are you?", "Fine."),
    ):
        row = json.dumps({"prompt": prompt, "response": response}, ensure_ascii=False)
        (tmp_path / f"{name}.jsonl").write_text(row + "\n", encoding="utf-8")
    files = [str(tmp_path / "he.jsonl"), str(tmp_path / "en.jsonl")]
    command = ["hebench", "train", "pairs", *files, "--out", str(tmp_path / "pairs.jsonl")]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    assert "1 rows" in capsys.readouterr().out
    assert len(list(read_preferences(tmp_path / "pairs.jsonl"))) == 2
    monkeypatch.setattr("sys.argv", [*command, "--languages", "he"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert "expected two codes" in capsys.readouterr().err
