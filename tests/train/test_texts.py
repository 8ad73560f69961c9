import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hebench.errors import ConfigError, DataError
from hebench.train.languages import LANGUAGES, language
from hebench.train.texts import Document, corpus_sha256, read_documents


def write_lines(path: Path, texts: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8") as stream:
        stream.write(content)


def test_documents_of_every_format_come_in_the_order_of_their_files(tmp_path: Path) -> None:
    write_lines(tmp_path / "b.jsonl", ["שלום", "עולם"])
    write_lines(tmp_path / "he" / "a.00001.jsonl.gz", ["ירושלים"])
    (tmp_path / "c.txt").write_text("פסקה ראשונה\n\nפסקה שנייה\n", encoding="utf-8")
    pq.write_table(pa.table({"text": ["חיפה", "יפו"]}), tmp_path / "d.parquet")
    found = [(document.source, document.text.strip()) for document in read_documents(tmp_path)]
    assert sorted(found) == sorted(
        [
            ("b", "שלום"),
            ("b", "עולם"),
            ("a", "ירושלים"),
            ("c", "פסקה ראשונה"),
            ("c", "פסקה שנייה"),
            ("d", "חיפה"),
            ("d", "יפו"),
        ]
    )
    assert found == [(d.source, d.text.strip()) for d in read_documents(tmp_path)]


def test_a_document_carries_its_source_and_its_place(tmp_path: Path) -> None:
    write_lines(tmp_path / "law.00000.jsonl", ["חוק יסוד", " \n ", "תקנות"])
    write_lines(tmp_path / "law.00001.jsonl", ["פסק דין"])
    assert list(read_documents(tmp_path)) == [
        Document(id="law.00000.jsonl:1", source="law", text="חוק יסוד"),
        Document(id="law.00000.jsonl:3", source="law", text="תקנות"),
        Document(id="law.00001.jsonl:1", source="law", text="פסק דין"),
    ]


def test_text_may_stand_under_another_name(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"content": "שלום"}\n', encoding="utf-8")
    assert [d.text for d in read_documents(tmp_path, field="content")] == ["שלום"]
    with pytest.raises(DataError, match="text"):
        list(read_documents(tmp_path))


@pytest.mark.parametrize("texts", [[], ["", "  \n"]])
def test_a_corpus_without_text_is_refused(texts: list[str], tmp_path: Path) -> None:
    write_lines(tmp_path / "x.jsonl", texts)
    with pytest.raises(DataError, match="found"):
        list(read_documents(tmp_path))


def test_an_absent_or_empty_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match="expected"):
            list(read_documents(path))


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n{"text": \n', encoding="utf-8")
    with pytest.raises(DataError, match=r"x\.jsonl line 2"):
        list(read_documents(tmp_path))


def test_the_checksum_is_of_names_and_contents_wherever_the_folder_stands(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_lines(tmp_path / folder / "he" / "a.jsonl", ["שלום"])
    first = corpus_sha256(tmp_path / "one")
    assert corpus_sha256(tmp_path / "two") == first
    assert len(first) == 64
    write_lines(tmp_path / "two" / "he" / "a.jsonl", ["שלום!"])
    write_lines(tmp_path / "three" / "he" / "b.jsonl", ["שלום"])
    assert len({first, corpus_sha256(tmp_path / "two"), corpus_sha256(tmp_path / "three")}) == 3
    assert corpus_sha256(tmp_path / "one" / "he" / "a.jsonl") == corpus_sha256(
        tmp_path / "one" / "he"
    )


@pytest.mark.parametrize(
    ("code", "text", "share"),
    [
        ("he", "שלום", 1.0),
        ("he", "שלום world", 4 / 9),
        ("he", "בְּרֵאשִׁית", 1.0),
        ("he", "12:30, 5%!", 0.0),
        ("he", "", 0.0),
        ("he", "Καλημέρα", 0.0),
        ("el", "Καλημέρα", 1.0),
        ("el", "ἄνθρωπος", 1.0),
        ("el", "Καλημέρα μου hi", 11 / 13),
        ("el", "שלום", 0.0),
    ],
)
def test_the_share_of_a_languages_letters(code: str, text: str, share: float) -> None:
    assert language(code).share(text) == pytest.approx(share)


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        ("he", "בְּרֵאשִׁית", True),
        ("he", "צה״ל", True),
        ("he", "דו־לשוני", True),
        ("he", "ג׳ירפה", True),
        ("he", "שלום!", False),
        ("he", "של ום", False),
        ("el", "Καλημέρα", True),
        ("el", "ή", True),
        ("el", "Καλη-", False),
    ],
)
def test_a_word_of_the_languages_own_characters(code: str, text: str, expected: bool) -> None:
    assert bool(language(code).own.fullmatch(text)) is expected


def test_hebrew_is_compared_without_its_points() -> None:
    assert language("he").strip("בְּרֵאשִׁית") == "בראשית"


def test_a_language_that_is_not_described_is_refused_with_those_that_are() -> None:
    with pytest.raises(
        ConfigError, match=f"'xx' is not described; known are {', '.join(LANGUAGES)}"
    ):
        language("xx")


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_can_read_its_own_sample(code: str) -> None:
    folder = Path(__file__).parents[2] / "hebench" / "train" / "recipes" / "text"
    text = (folder / f"{code}.txt").read_text(encoding="utf-8")
    assert language(code).share(text) == 1.0
    documents = list(read_documents(folder / f"{code}.txt"))
    assert len(documents) >= 100
    assert len({document.text for document in documents}) == len(documents)
