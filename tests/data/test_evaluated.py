"""Which texts must not stand in a training corpus."""

from pathlib import Path

import pytest

from hebench.data.evaluated import evaluation_items
from hebench.errors import DataError


def test_every_split_of_the_idioms_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of them is in an empty cache, and each is named."""
    monkeypatch.setenv("HEBENCH_CACHE", str(tmp_path))
    items, absent = evaluation_items(("idioms",))
    assert items == []
    assert absent == ["idioms/validation", "idioms/test", "idioms/unseen_idiom_test"]


def test_a_text_that_documents_share_counts_once() -> None:
    items, absent = evaluation_items(("mini-nli",))
    assert absent == []
    assert sum(":premise" in item.id for item in items) == 42
    assert sum(":hypothesis" in item.id for item in items) == 126


def test_an_unknown_set_names_the_known_ones() -> None:
    with pytest.raises(DataError, match="unknown set mini-chess; expected one of mini-qa"):
        evaluation_items(("mini-chess",))
