"""Corpora on disk: their documents, read in chunks and written back without some of them.

Whoever searches a corpus needs its documents one after the other, in bounded memory, each with
the line or row where it stands; whoever cleans one needs the rest in the format it came in.
So a chunk keeps its documents as they were read, and decoding them can be left to a worker.

    >>> corpus, out = Path("corpus/"), Path("corpus-clean/")
    >>> files, skipped = corpus_files(corpus)
    >>> chunk = next(read_chunks(corpus, files[0], "text", rows=True))
    >>> chunk.name, chunk.numbers, list(chunk_texts(chunk, "text"))
    ('wiki.jsonl', [1, 2], ['חיפה היא עיר נמל', 'שלום'])
    >>> with published(out) as target, cleaned_writer(files[0], target / chunk.name) as write:
    ...     write(chunk, [True, False])  # corpus-clean/wiki.jsonl has the first line only

A corpus is a file or a folder, read in sorted order, of `.jsonl`, `.jsonl.gz`, `.json.gz` (one
object a line), `.parquet`, and `.txt`, `.txt.gz` (documents between blank lines). Other files
of a folder are reported, not read; hidden ones are left alone.

    hebench data overlap corpus/ --clean corpus-clean/     # from the command line
"""

import gzip
import io
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from hebench.errors import ConfigError, DataError, one_line
from hebench.files import encodable

CHUNK_BYTES = 2**20  # how much of the corpus one worker gets at a time
CHUNK_ROWS = 256
ROW_GROUP_BYTES = 2**26  # of a cleaned Parquet file, before compression
LARGEST_DOCUMENT_BYTES = 2**26  # beyond this a file is not what we think it is

Kind = Literal["lines", "paragraphs", "rows"]

_KINDS: dict[str, Kind] = {
    ".jsonl": "lines",
    ".jsonl.gz": "lines",
    ".json.gz": "lines",
    ".txt": "paragraphs",
    ".txt.gz": "paragraphs",
    ".parquet": "rows",
}


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Consecutive documents of one file, as read: decoding them is left to the workers."""

    path: Path
    name: str  # relative to the corpus
    kind: Kind
    numbers: Sequence[int]  # of each document: its first line, or its row, from 1
    raw: list[Any]  # bytes, or the values of a Parquet column
    batch: Any  # the Arrow record batch of a Parquet file that is being cleaned
    disk_bytes: int  # read from the file since the chunk before, for the progress bar


def corpus_files(corpus: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Return the files to read, and the names of what lies beside them and is not read.

    Raises DataError if there is nothing to read.
    """
    expected = f"expected {', '.join(_KINDS)}"
    if corpus.is_file():
        if not _suffix(corpus):
            raise DataError(f"{corpus}: {expected}, found another suffix; convert the file")
        return [corpus], ()
    if not corpus.is_dir():
        raise DataError(f"{corpus}: expected a file or a folder, found nothing; check the path")
    files, skipped = [], []
    for path in sorted(corpus.rglob("*")):
        name = path.relative_to(corpus)
        if any(part.startswith(".") for part in name.parts):
            continue
        if path.is_file() and _suffix(path):
            files.append(path)
        elif not path.is_dir() or path.is_symlink():
            skipped.append(encodable(name.as_posix()))
    if not files:
        raise DataError(f"{corpus}: {expected}, found no such file; check the path")
    return files, tuple(skipped)


def read_chunks(corpus: Path, path: Path, field: str, *, rows: bool) -> Iterator[Chunk]:
    """Yield the documents of a file in chunks, at least one.

    path: one of `corpus_files(corpus)`. field: the column of a Parquet file; other formats need
    it only to decode. rows: whether the chunks of a Parquet file carry all columns, for a writer.

    Raises DataError (file and line) if the file is damaged or a document is too large.
    """
    name = path.name if path == corpus else path.relative_to(corpus).as_posix()
    kind = _KINDS[_suffix(path) or ""]
    if kind == "rows":
        yield from _row_chunks(path, name, field, rows=rows)
        return
    with path.open("rb") as file:
        before = 0
        lines = _numbered_lines(path, file)
        for numbers, raw in _packed(lines if kind == "lines" else _paragraphs(lines, path)):
            here = file.tell()
            yield Chunk(
                path=path,
                name=name,
                kind=kind,
                numbers=numbers,
                raw=raw,
                batch=None,
                disk_bytes=here - before,
            )
            before = here


def chunk_texts(chunk: Chunk, field: str) -> Iterator[str]:
    """Yield the texts of a chunk's documents; those of `.txt` keep their line ends.

    Raises DataError (file and line) for what is not UTF-8, or has no text in `field`.
    """
    for number, raw in zip(chunk.numbers, chunk.raw, strict=True):
        value = raw
        if chunk.kind != "rows":
            try:
                value = raw.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                line = number + raw[: error.start].count(b"\n")
                raise DataError(
                    f"{chunk.path} line {line}: expected UTF-8, found {error.reason}; "
                    "restore or convert the file"
                ) from error
        if chunk.kind == "lines":
            value = _value_of(value, field, f"{chunk.path} line {number}")
        if not isinstance(value, str):
            raise DataError(
                f"{chunk.path} row {number}: expected text in column {field!r}, found "
                f"{type(value).__name__}; mend the row or name another field"
            )
        yield value


def require_new(out: Path, corpus: Path) -> None:
    """Return if a cleaned `corpus` can be written to `out`.

    Raises ConfigError if `out` exists, lies in the corpus or has another suffix than a corpus
    that is a file.
    """
    if out.exists():
        raise ConfigError(f"{out}: expected a new path, found something there; choose another")
    if out.resolve().is_relative_to(corpus.resolve()):
        raise ConfigError(f"{out}: expected a path outside the corpus {corpus}; choose another")
    if corpus.is_file() and _suffix(out) != _suffix(corpus):
        raise ConfigError(
            f"{out}: expected the suffix {_suffix(corpus)} of the corpus, found another; rename it"
        )


@contextmanager
def published(out: Path) -> Iterator[Path]:
    """Give a path to write to, beside `out`; it becomes `out` if all goes well, else nothing."""
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".tmp"))
    try:
        yield work / out.name
        (work / out.name).replace(out)
    finally:
        shutil.rmtree(work)


@contextmanager
def cleaned_writer(source: Path, target: Path) -> Iterator[Callable[[Chunk, list[bool]], None]]:
    """Give a function that writes the documents to keep of a chunk, in the format of `source`.

    It takes the chunks of `source` in order, read with `rows=True`, each with one bool a
    document. Bytes of lines are unchanged; `target` is on disk when the context closes.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    opened = _row_writer if _suffix(source) == ".parquet" else _byte_writer
    with opened(source, target) as write:
        yield write
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def _suffix(path: Path) -> str | None:
    return next((suffix for suffix in _KINDS if path.name.lower().endswith(suffix)), None)


def _value_of(line: str, field: str, where: str) -> str:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where}: expected a JSON object, found {one_line(error)}; mend the line"
        ) from error
    value = record.get(field) if isinstance(record, dict) else None
    if isinstance(value, str):
        return value
    found = type(record).__name__
    if isinstance(record, dict):
        keys = ", ".join(map(repr, record))[:200]
        found = f"{type(value).__name__} there" if field in record else f"only {keys or 'no field'}"
    raise DataError(
        f"{where}: expected an object with text in field {field!r}, found {found}; mend the line "
        "or name another field"
    )


def _packed(documents: Iterable[tuple[int, bytes]]) -> Iterator[tuple[list[int], list[bytes]]]:
    """Yield the numbers and the bytes of some documents at a time, blank ones left out."""
    numbers: list[int] = []
    raw: list[bytes] = []
    size = 0
    for number, document in documents:
        if not document.strip():
            continue
        numbers.append(number)
        raw.append(document)
        size += len(document)
        if size >= CHUNK_BYTES:
            yield numbers, raw
            numbers, raw, size = [], [], 0
    yield numbers, raw


def _numbered_lines(path: Path, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, line) of a plain or compressed file, blank lines among them."""
    number = 0
    try:
        with _decompressed(path, file) as stream:
            for line in iter(lambda: stream.readline(LARGEST_DOCUMENT_BYTES + 1), b""):
                number += 1
                _require_bounded(len(line), path, number)
                yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} line {number + 1} on: expected a readable file, found {one_line(error)}; "
            "restore the file"
        ) from error


@contextmanager
def _decompressed(path: Path, file: BinaryIO) -> Iterator[BinaryIO]:
    if path.suffix.lower() != ".gz":
        yield file
        return
    with gzip.GzipFile(fileobj=file) as archive, io.BufferedReader(archive) as stream:
        yield stream


def _paragraphs(lines: Iterable[tuple[int, bytes]], path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (number of the first line, document with the blank lines after it)."""
    first, size = 1, 0
    document: list[bytes] = []
    for number, line in lines:
        if document and document[-1].isspace() and not line.isspace():
            yield first, b"".join(document)
            first, size, document = number, 0, []
        size += len(line)
        _require_bounded(size, path, first)
        document.append(line)
    yield first, b"".join(document)


def _require_bounded(size: int, path: Path, number: int) -> None:
    if size > LARGEST_DOCUMENT_BYTES:
        raise DataError(
            f"{path} line {number}: expected documents of at most {LARGEST_DOCUMENT_BYTES} bytes, "
            "found a larger one; put one JSON object on a line, or blank lines between texts"
        )


def _row_chunks(path: Path, name: str, field: str, *, rows: bool) -> Iterator[Chunk]:
    import pyarrow
    import pyarrow.parquet

    done = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if names.count(field) != 1:
                raise DataError(
                    f"{path} row 1: expected a column {field!r}, found "
                    f"{', '.join(map(repr, names))[:200]}; "
                    "name another field"
                )
            size = path.stat().st_size
            columns = None if rows else [field]
            for batch in file.iter_batches(CHUNK_ROWS, columns=columns):
                yield Chunk(
                    path=path,
                    name=name,
                    kind="rows",
                    numbers=range(done + 1, done + len(batch) + 1),
                    raw=batch.column(field).to_pylist(),
                    batch=batch if rows else None,
                    disk_bytes=size * len(batch) // max(file.metadata.num_rows, 1),
                )
                done += len(batch)
        if not done:  # no rows are a chunk, too: the cleaned copy must exist
            yield Chunk(
                path=path, name=name, kind="rows", numbers=(), raw=[], batch=None, disk_bytes=size
            )
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} after row {done}: expected a readable Parquet file, found "
            f"{one_line(error)}; restore the file"
        ) from error


@contextmanager
def _byte_writer(source: Path, target: Path) -> Iterator[Callable[[Chunk, list[bool]], None]]:
    with target.open("wb") as file:
        if source.suffix.lower() != ".gz":
            yield lambda chunk, keep: file.writelines(compress(chunk.raw, keep))
            return
        # No name and no time in the archive: the same documents give the same bytes.
        with gzip.GzipFile("", "wb", 6, file, mtime=0) as archive:
            yield lambda chunk, keep: archive.writelines(compress(chunk.raw, keep))


@contextmanager
def _row_writer(source: Path, target: Path) -> Iterator[Callable[[Chunk, list[bool]], None]]:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.parquet.read_schema(source)
    with pyarrow.parquet.ParquetWriter(target, schema) as file:
        waiting: list[Any] = []
        size = 0

        def write(chunk: Chunk, keep: list[bool]) -> None:
            nonlocal size
            # Slices, since Arrow cannot filter some types (string_view, for one).
            kept = np.flatnonzero(keep)
            for run in np.split(kept, np.flatnonzero(np.diff(kept) > 1) + 1):
                if len(run):
                    waiting.append(chunk.batch.slice(int(run[0]), len(run)))
                    size += waiting[-1].nbytes
            if size > ROW_GROUP_BYTES:
                flush()
                size = 0

        def flush() -> None:
            file.write_table(pyarrow.Table.from_batches(waiting, schema))
            waiting.clear()

        yield write
        flush()
