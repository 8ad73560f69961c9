import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from hebench.data import corpora
from hebench.data.corpora import (
    chunk_texts,
    cleaned_writer,
    corpus_files,
    published,
    read_chunks,
    require_new,
)
from hebench.errors import ConfigError, DataError

SUFFIXES = [".jsonl", ".jsonl.gz", ".json.gz", ".txt", ".txt.gz", ".parquet"]
TEXTS = ["חיפה היא עיר נמל, ובה טכניון", "שלום", "אמר: «לא»; הלך – ושב"]


def write_corpus(path: Path, texts: Sequence[str], field: str = "text") -> Path:
    """Write documents in the format of the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        columns = {"id": list(range(len(texts))), field: pyarrow.array(texts, pyarrow.string())}
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
        return path
    if ".txt" in path.suffixes:
        content = "\n\n".join(texts) + "\n"
    else:
        lines = [json.dumps({"id": n, field: text}) + "\n" for n, text in enumerate(texts)]
        content = "".join(lines)
    data = content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read_corpus(path: Path) -> list[str]:
    if path.suffix == ".parquet":
        return list(pyarrow.parquet.read_table(path)["text"].to_pylist())
    data = path.read_bytes()
    content = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    if ".txt" in path.suffixes:
        return [text.strip() for text in content.split("\n\n") if text.strip()]
    return [json.loads(line)["text"] for line in content.splitlines()]


def read(corpus: Path, field: str = "text") -> list[tuple[str, str]]:
    """Return the place and the text of every document."""
    return [
        (f"{chunk.name}:{number}", text)
        for path in corpus_files(corpus)[0]
        for chunk in read_chunks(corpus, path, field, rows=False)
        for number, text in zip(chunk.numbers, chunk_texts(chunk, field), strict=True)
    ]


def copy(source: Path, target: Path, dropped: str) -> None:
    """Write the documents whose text is not `dropped`."""
    with cleaned_writer(source, target) as write:
        for chunk in read_chunks(source, source, "text", rows=True):
            write(chunk, [text.strip() != dropped for text in chunk_texts(chunk, "text")])


# Reading


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("size", [1, 10**6], ids=["small-chunks", "one-chunk"])
def test_documents_and_places_do_not_depend_on_the_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, size: int
) -> None:
    monkeypatch.setattr(corpora, "CHUNK_BYTES", size)
    monkeypatch.setattr(corpora, "CHUNK_ROWS", size)
    path = write_corpus(tmp_path / f"a{suffix}", TEXTS)
    numbers = (1, 3, 5) if ".txt" in suffix else (1, 2, 3)
    places = [(place, text.strip()) for place, text in read(path)]
    assert places == [(f"a{suffix}:{n}", text) for n, text in zip(numbers, TEXTS, strict=True)]
    chunks = list(read_chunks(path, path, "text", rows=False))
    assert len([chunk for chunk in chunks if chunk.numbers]) == (3 if size == 1 else 1)
    assert sum(chunk.disk_bytes for chunk in chunks) == pytest.approx(path.stat().st_size, abs=3)


def test_a_folder_is_read_in_sorted_order(tmp_path: Path) -> None:
    write_corpus(tmp_path / "b.jsonl", TEXTS[:2])
    write_corpus(tmp_path / "a" / "z.txt", TEXTS[:1])
    write_corpus(tmp_path / "C.PARQUET.parquet", TEXTS[:1])
    places = [place for place, _ in read(tmp_path)]
    assert places == ["C.PARQUET.parquet:1", "a/z.txt:1", "b.jsonl:1", "b.jsonl:2"]


def test_a_folder_says_what_it_did_not_read(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus" / "a.jsonl", TEXTS)
    write_corpus(tmp_path / "corpus" / ".cache" / "b.jsonl", TEXTS)
    write_corpus(tmp_path / "elsewhere" / "c.jsonl", TEXTS)
    (tmp_path / "corpus" / "d.jsonl.zst").write_bytes(b"")
    (tmp_path / "corpus" / "linked").symlink_to(tmp_path / "elsewhere")
    files, skipped = corpus_files(tmp_path / "corpus")
    assert files == [tmp_path / "corpus" / "a.jsonl"]
    assert skipped == ("d.jsonl.zst", "linked")


def test_blank_lines_and_a_byte_order_mark_are_no_documents(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\ufeff" + json.dumps({"text": "שלום"}) + "\r\n\n \n", encoding="utf-8")
    assert read(path) == [("a.jsonl:1", "שלום")]
    path = tmp_path / "b.txt"
    path.write_bytes("\n\n \nשלום\r\nלכם\r\n\r\n\nולכן".encode())
    assert read(path) == [("b.txt:4", "שלום\r\nלכם\r\n\r\n\n"), ("b.txt:8", "ולכן")]
    (tmp_path / "c.txt").write_bytes(b"")
    assert read(tmp_path / "c.txt") == []


# Writing


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_documents_kept_are_read_back(tmp_path: Path, suffix: str) -> None:
    path = write_corpus(tmp_path / f"a{suffix}", TEXTS * 3)
    copy(path, tmp_path / "new" / f"b{suffix}", TEXTS[1])
    assert read_corpus(tmp_path / "new" / f"b{suffix}") == [TEXTS[0], TEXTS[2]] * 3


def test_lines_and_columns_that_stay_are_not_touched(tmp_path: Path) -> None:
    line = '{"text":  "שלום\\u05d0", "n": 1.50, "text2": null}\r\n'
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": TEXTS[0]}) + "\n" + line, encoding="utf-8", newline="")
    copy(path, tmp_path / "b.jsonl", TEXTS[0])
    assert (tmp_path / "b.jsonl").read_bytes() == line.encode()
    columns = {
        "text": [TEXTS[0], "שלום", TEXTS[0], "כן", "לא"],
        "tags": [["א"], None, [], ["ב"], None],
        "score": [1.5, None, 2.5, 3.5, 4.5],
        "view": pyarrow.array(list("אבגדה"), pyarrow.string_view()),
        "kind": pyarrow.array(list("אאבבא")).dictionary_encode(),
    }
    table = pyarrow.table(columns).replace_schema_metadata({"origin": "כאן"})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    copy(tmp_path / "a.parquet", tmp_path / "b.parquet", TEXTS[0])
    before, after = (pyarrow.parquet.read_table(tmp_path / f"{name}.parquet") for name in "ab")
    expected = pyarrow.concat_tables([before.slice(1, 1), before.slice(3)])
    assert after.equals(expected, check_metadata=True)


def test_what_is_published_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "new" / "a.txt"
    with pytest.raises(KeyError), published(out) as target:
        target.write_bytes(b"half")
        raise KeyError
    assert list(out.parent.iterdir()) == []
    with published(out) as target:
        target.write_bytes(b"whole")
        assert not out.exists()
    assert list(out.parent.iterdir()) == [out]
    assert out.read_bytes() == b"whole"


# What is refused


def parquet_bytes(values: pyarrow.Array) -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table({"text": values}), sink)
    return bytes(sink.getvalue())


GOOD = json.dumps({"text": "שלום"}).encode() + b"\n"
DEEP = b"[" * 100_000
CUT_ARCHIVE = gzip.compress(GOOD * 9, mtime=0)[:-4]
CUT_LONG_ARCHIVE = gzip.compress(GOOD * 9999, mtime=0)[:-99]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", GOOD + b'{"text": ', "a.jsonl line 2: expected a JSON object"),
        ("a.jsonl", GOOD + DEEP, "line 2: expected a JSON object, found .*recursion"),
        ("a.jsonl", GOOD + b'{"n": ' + b"1" * 5000 + b"}", "line 2: expected a JSON object"),
        ("a.jsonl", b'\n{"body": "x"}', "line 2: .*field 'text', found only 'body'"),
        ("a.jsonl", b"{}", "line 1: .*found only no field"),
        ("a.jsonl", b'{"text": null}', "line 1: .*found NoneType there"),
        ("a.jsonl", b'["text"]', "line 1: .*found list"),
        ("a.jsonl", GOOD + b'{"text": "\xd7"}', "line 2: expected UTF-8"),
        ("a.txt", b"x\n\ny\n\xff\n", "a.txt line 4: expected UTF-8"),
        ("a.jsonl.gz", GOOD, "a.jsonl.gz line 1 on: expected a readable file"),
        ("a.txt.gz", CUT_ARCHIVE, "line 1 on: .*found Compressed file ended"),
        ("a.jsonl.gz", CUT_LONG_ARCHIVE, r"gz line [1-9]\d+ on: .*found Compressed file ended"),
        ("a.parquet", b"PAR1", "a.parquet after row 0: expected a readable Parquet file"),
        ("a.parquet", parquet_bytes(pyarrow.array(["x", None])), "row 2: .*found NoneType"),
        ("a.parquet", parquet_bytes(pyarrow.array([7])), "row 1: .*found int"),
        ("a.csv", b"text\nx\n", r"a.csv: expected .jsonl, .*found another suffix"),
    ],
    ids=range(16),
)
def test_a_broken_file_is_one_line_with_its_place(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_missing_column_names_the_ones_there_are(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "a.parquet", ["שלום"], field="body")
    with pytest.raises(DataError, match="a.parquet row 1: .*'text', found 'id', 'body'"):
        read(path)
    assert read(path, "body") == [("a.parquet:1", "שלום")]


def test_an_absent_or_empty_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found nothing"):
        corpus_files(tmp_path / "absent")
    with pytest.raises(DataError, match="found no such file"):
        corpus_files(tmp_path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
def test_an_endless_document_is_refused_before_memory_fills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(corpora, "LARGEST_DOCUMENT_BYTES", 1000)
    (tmp_path / name).write_bytes(b"x\n\n" + (b"y" * 300 + b"\n") * 4 + b"z" * 1001)
    line = 3 if name == "a.txt" else 7
    with pytest.raises(DataError, match=f"line {line}: expected documents of at most 1000 bytes"):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("out", "corpus", "message"),
    [
        ("corpus", "corpus", "expected a new path"),
        ("corpus/clean", "corpus", "outside the corpus"),
        ("corpus/../corpus/clean", "corpus", "outside the corpus"),
        ("b.txt", "corpus/a.jsonl", "expected the suffix .jsonl of the corpus"),
        ("b.jsonl.gz", "corpus/a.jsonl", "expected the suffix .jsonl of the corpus"),
    ],
)
def test_a_place_that_cannot_take_the_corpus_is_refused(
    tmp_path: Path, out: str, corpus: str, message: str
) -> None:
    write_corpus(tmp_path / "corpus" / "a.jsonl", TEXTS)
    with pytest.raises(ConfigError, match=message):
        require_new(tmp_path / out, tmp_path / corpus)
    require_new(tmp_path / "clean.jsonl", tmp_path / "corpus" / "a.jsonl")
    require_new(tmp_path / "corpus-clean", tmp_path / "corpus")
