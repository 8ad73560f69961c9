"""Which texts must not stand in a training corpus."""

from pathlib import Path

import pytest

from hebench.data.evaluated import evaluation_items
from hebench.data.fetch import fetch, lookup
from hebench.errors import DataError


@pytest.mark.parametrize(
    ("sets", "splits"),
    [
        (("idioms",), ["idioms/validation", "idioms/test", "idioms/unseen_idiom_test"]),
        (
            ("sentiment", "sentiment-validation"),
            ["sentiment/test", "sentiment-validation/validation"],
        ),
    ],
)
def test_every_split_that_is_scored_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sets: tuple[str, ...], splits: list[str]
) -> None:
    """None of them is in an empty cache, and each is named."""
    monkeypatch.setenv("HEBENCH_CACHE", str(tmp_path))
    assert evaluation_items(sets) == ([], splits)


def test_development_rows_out_of_the_training_file_need_no_test_file(mirror: Path) -> None:
    fetch("hebrew-sentiment", "train")
    items, absent = evaluation_items(("sentiment", "sentiment-validation"))
    assert absent == ["sentiment/test"]
    assert [item.set for item in items] == ["sentiment-validation/validation"] * 1000


def test_a_damaged_text_is_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEBENCH_CACHE", str(tmp_path))
    cached = lookup("nakdimon-test", "books/1").cached
    cached.parent.mkdir(parents=True)
    cached.write_text("שָׁלוֹם", encoding="utf-8")
    with pytest.raises(DataError, match="set aside"):
        evaluation_items(("nikud",))


def test_a_set_that_is_named_twice_counts_once() -> None:
    assert evaluation_items(("mini-nli", "mini-nli")) == evaluation_items(("mini-nli",))


def test_a_text_that_documents_share_counts_once() -> None:
    items, absent = evaluation_items(("mini-nli",))
    assert absent == []
    assert sum(":premise" in item.id for item in items) == 42
    assert sum(":hypothesis" in item.id for item in items) == 126


def test_an_unknown_set_names_the_known_ones() -> None:
    with pytest.raises(DataError, match="unknown set mini-chess; expected one of mini-qa"):
        evaluation_items(("mini-chess",))
