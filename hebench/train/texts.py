"""Running text on disk: JSON Lines of documents, the form that every stage reads and writes.

{"id": "law-17", "source": "law", "language": "he", "text": "חוק יסוד: ..."}

>>> [document.source for document in read_documents(Path("corpus/heldout"))][:2]
['law', 'wikipedia']
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hebench.data.corpora import chunk_texts, corpus_files, read_chunks
from hebench.errors import DataError
from hebench.files import encodable, sha256_of


@dataclass(frozen=True, kw_only=True)
class Document:
    """One text of a corpus; `source` is the name of the file that it came from."""

    id: str
    source: str
    text: str


def read_documents(corpus: Path, field: str = "text") -> Iterator[Document]:
    """Yield the documents of a file or folder in sorted order of files, in bounded memory.

    Which formats are read is in `hebench.data.corpora`. Raises DataError if there are none.
    """
    found = False
    files, _ = corpus_files(corpus)
    for path in files:
        source = source_of(path)
        for chunk in read_chunks(corpus, path, field, rows=False):
            for number, text in zip(chunk.numbers, chunk_texts(chunk, field), strict=True):
                if text.strip():
                    found = True
                    # By its file's name: shards of one source have the same lines.
                    name = encodable(path.name)
                    yield Document(id=f"{name}:{number}", source=source, text=text)
    if not found:
        raise DataError(f"{corpus}: expected documents with text, found none; give another corpus")


def source_files(corpus: Path) -> dict[str, list[Path]]:
    """Return the files of each source of a file or folder: one, or several shards.

    Raises DataError if there are none.
    """
    found: dict[str, list[Path]] = {}
    for path in corpus_files(corpus)[0]:
        found.setdefault(source_of(path), []).append(path)
    return found


def source_of(path: Path) -> str:
    """Return the name of the source that a file belongs to: `law` of `law.00001.jsonl.gz`."""
    return encodable(path.name.split(".")[0])


def corpus_sha256(corpus: Path) -> str:
    """Return one SHA-256 over names and contents of a corpus's files."""
    digest = hashlib.sha256()
    files, _ = corpus_files(corpus)
    for path in files:
        name = path.name if path == corpus else path.relative_to(corpus).as_posix()
        digest.update(os.fsencode(name) + f"\0{sha256_of(path)}\n".encode())
    return digest.hexdigest()
