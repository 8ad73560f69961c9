"""Documents on their way: read from the inputs, written for the next phase, written for training.

A task's documents stand in one file between two phases, in the same order for every reader, since
MinHash names a document by its place. In a block, a document's metadata are `input`, `source`,
`language` and, once edited, `key`.
"""

import json
import sys
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from gzip import GzipFile
from itertools import groupby
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.readers.base import BaseReader
from datatrove.pipeline.readers.huggingface import HuggingFaceDatasetReader
from tqdm import tqdm

from hebench.data.corpora import chunk_texts, read_chunks
from hebench.errors import DataError, one_line
from hebench.files import encodable
from hebench.train.corpus.config import Input
from hebench.train.corpus.inputs import Part
from hebench.train.corpus.tally import Tally

Documents = Generator[Document, None, None]


class ReadInputs(BaseReader):  # type: ignore[misc]
    """Yield the documents of a task's files, and its share of each dataset."""

    name = "inputs"

    def __init__(self, inputs: dict[str, Input], parts: Sequence[Part], tally: Tally) -> None:
        """parts: of all tasks, dealt out in turn."""
        super().__init__()
        self.inputs, self.parts, self.tally = inputs, parts, tally

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Documents:
        """Yield documents with input, source and language."""
        files = [part for part in self.parts if part.path]
        for part in files[rank::world_size]:
            assert part.path, "only files are dealt out"
            with tqdm(
                total=part.path.stat().st_size,
                desc=part.source,
                unit="B",
                unit_scale=True,
                disable=None,
                leave=False,
                file=sys.__stderr__,  # stderr itself goes to the log while a task runs
            ) as bar:
                yield from self._documents(part, self._texts_of_file(part, bar))
        for part in self.parts:
            if not part.path:
                texts = self._texts_of_dataset(part, rank, world_size)
                yield from self._documents(part, texts)

    def _documents(self, part: Part, texts: Iterator[tuple[str, str]]) -> Documents:
        language = self.inputs[part.input].language
        for document_id, text in texts:
            if not text.strip():
                continue
            self.tally.count(f"{language}/{part.source}", "read", text)
            metadata = {"input": part.input, "source": part.source, "language": language}
            yield Document(text=text, id=document_id, metadata=metadata)

    def _texts_of_file(self, part: Part, bar: Any) -> Iterator[tuple[str, str]]:
        assert part.path and part.corpus, "a file has a place"
        field = self.inputs[part.input].text_field
        for chunk in read_chunks(part.corpus, part.path, field, rows=False):
            for number, text in zip(chunk.numbers, chunk_texts(chunk, field), strict=True):
                yield f"{encodable(chunk.name)}:{number}", text
            bar.update(chunk.disk_bytes)

    def _texts_of_dataset(
        self, part: Part, rank: int, world_size: int
    ) -> Iterator[tuple[str, str]]:
        given = self.inputs[part.input]
        assert given.dataset, "an input without files is a dataset"
        options = {"name": given.subset, "split": given.split, "revision": given.revision}
        reader = HuggingFaceDatasetReader(
            given.dataset,
            dataset_options={key: value for key, value in options.items() if value},
            streaming=True,
            adapter=_Row(given.text_field, f"{given.dataset}@{given.revision}"),
            text_key=given.text_field,
        )
        try:
            for document in reader.run(None, rank, world_size):
                yield document.id, document.text
        except (OSError, ValueError, RuntimeError) as error:
            raise DataError(
                f"dataset {given.dataset}: expected revision {given.revision}, split "
                f"{given.split}, found {one_line(error)}; check the names and the connection"
            ) from error


@dataclass(frozen=True)
class _Row:
    """Make a row of a dataset into what a reader of datatrove wants, or refuse it."""

    field: str
    dataset: str

    def __call__(self, _: Any, row: dict[str, Any], path: str, place: str) -> dict[str, Any]:
        if not isinstance(row.get(self.field), str):
            raise DataError(
                f"dataset {self.dataset} row {place}: expected text in {self.field!r}, found only "
                f"{', '.join(map(repr, row))[:200]}; name another field"
            )
        return {"text": row[self.field], "id": f"{path}:{place}"}


class ReadTask(BaseReader):  # type: ignore[misc]
    """Yield the documents that the same task wrote in an earlier phase."""

    name = "task"

    def __init__(self, folder: Path) -> None:
        """folder: of `WriteTask`."""
        super().__init__()
        self.folder = folder

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Documents:
        """Yield the documents in their order."""
        yield from read_lines(task_file(self.folder, rank))


class WriteTask(PipelineStep):  # type: ignore[misc]
    """Write a task's documents to one file, pass them on, and save the task's counts at the end."""

    type, name = "writer", "task"

    def __init__(self, folder: Path, tally: Tally, stage: str) -> None:
        """stage: name under which the documents are counted."""
        super().__init__()
        self.folder, self.tally, self.stage = folder, tally, stage

    def run(self, data: Documents, rank: int = 0, world_size: int = 1) -> Documents:
        """Write and yield."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with task_file(self.folder, rank).open("wb") as stream:
            for document in data:
                stream.write(line_of(document))
                self.tally.count(group_of(document), self.stage, document.text)
                yield document
        self.tally.save(self.folder / f"{rank:05d}.tally.json")


class WriteTraining(PipelineStep):  # type: ignore[misc]
    """Write `train/<language>/<source>.jsonl.gz`; with several tasks, one file of each."""

    type, name = "writer", "training text"

    def __init__(self, folder: Path, tally: Tally, tallies: Path) -> None:
        """tallies: folder for the task's counts."""
        super().__init__()
        self.folder, self.tally, self.tallies = folder, tally, tallies

    def run(self, data: Documents, rank: int = 0, world_size: int = 1) -> Documents:
        """Write the documents; yield nothing."""
        begun = set()
        # One file after the other: there may be more sources than files can be open.
        for group, documents in groupby(data, group_of):
            path = self.folder / f"{group}.{rank:05d}.jsonl.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            # No name and no time in the archive: the same text gives the same bytes.
            with (
                path.open("ab" if group in begun else "wb") as stream,
                GzipFile("", "wb", 6, stream, mtime=0) as file,
            ):
                for document in documents:
                    file.write(training_line(document.id, group, document.text))
                    self.tally.count(group, "train", document.text)
            begun.add(group)
        self.tally.save(self.tallies / f"{rank:05d}.tally.json")
        yield from ()


def training_line(document_id: str, group: str, text: str) -> bytes:
    """Return a document as one line of the stage's output; group: `language/source`."""
    language, _, source = group.partition("/")
    record = {"id": document_id, "source": source, "language": language, "text": text}
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def task_file(folder: Path, rank: int) -> Path:
    """Return the file of a task's documents."""
    return folder / f"{rank:05d}.jsonl"


def group_of(document: Document) -> str:
    """Return `language/source` of a document."""
    return f"{document.metadata['language']}/{document.metadata['source']}"


def line_of(document: Document) -> bytes:
    """Return a document as a line of a task's file."""
    record = {"id": document.id, "text": document.text, **document.metadata}
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def document_of(line: bytes) -> Document:
    """Return the document that a line holds."""
    record = json.loads(line)
    return Document(text=record.pop("text"), id=record.pop("id"), metadata=record)


def read_lines(path: Path) -> Documents:
    """Yield the documents of a task's file."""
    with path.open("rb") as stream:
        for line in stream:
            yield document_of(line)
