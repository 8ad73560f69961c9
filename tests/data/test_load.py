from pathlib import Path

import pytest

from hebench.data import load
from hebench.errors import DataError


@pytest.mark.parametrize(
    "loader",
    [
        load.mini_qa,
        load.mini_sentiment,
        load.mini_winograd,
        load.mini_translation_en_he,
        load.mini_translation_he_en,
        load.mini_summarization,
        load.mini_nli,
        load.mini_trivia,
        load.mini_grammar,
        load.mini_math,
        load.mini_nikud,
        load.mini_instructions,
        load.bits_per_byte,
    ],
)
def test_documents_carry_an_id_and_a_cluster(loader: object) -> None:
    for split in loader(version=1.0, pretrained="x").values():  # type: ignore[operator]
        assert len(set(split["id"])) == len(split["id"])
        assert all(split["cluster"])


def test_the_first_items_come_from_different_passages_and_pairs() -> None:
    for loader in (load.mini_qa, load.mini_winograd, load.mini_nli):
        clusters = loader()["test"]["cluster"][:30]
        assert len(set(clusters)) == 30


def test_the_first_items_hold_every_phenomenon() -> None:
    phenomena = load.mini_grammar()["test"]["phenomenon"]
    assert len(set(phenomena[:21])) == len(set(phenomena)) == 21


def test_an_absent_packaged_set_is_a_clear_error() -> None:
    with pytest.raises(DataError, match="reinstall"):
        load.mini_records("qa", "nothing")


def test_a_users_own_text_is_read_by_paragraphs(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("פסקה ראשונה\nשורה שנייה\n\n\n\nפסקה אחרונה\n", encoding="utf-8")
    docs = load.bits_per_byte(text=str(path))["test"]
    assert docs["text"] == ["פסקה ראשונה\nשורה שנייה", "פסקה אחרונה"]
    path.write_text("\ufeffראשונה\n \nשנייה\n\t\nשלישית\n", encoding="utf-8")
    docs = load.bits_per_byte(text=str(path))["test"]
    assert docs["text"] == ["ראשונה", "שנייה", "שלישית"]
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match="empty file"):
        load.bits_per_byte(text=str(path))
    with pytest.raises(DataError, match="cannot read"):
        load.bits_per_byte(text=str(tmp_path / "nothing"))
