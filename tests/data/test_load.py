import json
from pathlib import Path

import pytest

from hebench.data import load
from hebench.errors import DataError


def test_heq_validation_holds_what_was_counted(mirror: Path) -> None:
    found = load.heq(split="validation")
    docs = found["test"]
    assert len(docs) == 1501
    assert sum(doc["golds"] == [load.NULL_ANSWER] for doc in docs) == 443
    assert len(set(docs["id"])) == 1501
    assert len(set(docs["cluster"])) == 239
    assert len(found["shots"]) == 3
    assert docs[0]["id"] == "b226c4ed-f1ed-4ba5-a0a8-7440f3ad4e7b"
    assert docs[0]["golds"] == ["רבי אלעזר"]


def test_heq_v10_is_refused_for_its_inverted_flag(mirror: Path) -> None:
    (old,) = mirror.rglob("data v1.0/val.json")
    with pytest.raises(DataError, match=r"v1\.0|version"):
        list(load.read_heq(old))


def test_a_v10_layout_under_a_v11_name_is_refused(tmp_path: Path) -> None:
    question = {"id": "q", "question": "מי?", "answers": [], "is_impossible": "FALSE"}
    content = {
        "version": "v1.1",
        "data": [{"paragraphs": [{"context": "קטע", "qas": [question]}]}],
    }
    path = tmp_path / "heq.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match="question q.*v1.0 layout"):
        list(load.read_heq(path))


def test_heq_knows_two_splits() -> None:
    with pytest.raises(DataError, match="test or validation"):
        load.heq(split="train")


def test_an_answerable_question_needs_an_answer(tmp_path: Path) -> None:
    question = {"id": "q", "question": "מי?", "answers": [], "is_impossible": False}
    content = {
        "version": "v1.1",
        "data": [{"paragraphs": [{"context": "קטע", "qas": [question]}]}],
    }
    path = tmp_path / "heq.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match="expected an answer"):
        list(load.read_heq(path))


@pytest.mark.parametrize(
    "loader",
    [
        load.mini_qa,
        load.mini_sentiment,
        load.mini_winograd,
        load.mini_translation_en_he,
        load.mini_translation_he_en,
        load.mini_summarization,
    ],
)
def test_documents_carry_an_id_and_a_cluster(loader: object) -> None:
    for split in loader(version=1.0, pretrained="x").values():  # type: ignore[operator]
        assert len(set(split["id"])) == len(split["id"])
        assert all(split["cluster"])


def test_the_first_items_come_from_different_passages_and_pairs() -> None:
    for loader in (load.mini_qa, load.mini_winograd):
        clusters = loader()["test"]["cluster"][:30]
        assert len(set(clusters)) == 30


def test_an_absent_packaged_set_is_a_clear_error() -> None:
    with pytest.raises(DataError, match="reinstall"):
        load.mini_records("qa", "nothing")
