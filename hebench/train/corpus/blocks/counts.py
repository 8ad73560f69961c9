"""Counts that tasks take while documents pass: frequent words, candidates, words by bin.

Each task writes its own; `stage` adds them up between two phases.

Shapes: B bins of keys.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.pipeline.base import PipelineStep

from hebench.files import write_atomically
from hebench.train.corpus.blocks.documents import Documents, group_of
from hebench.train.corpus.config import Input
from hebench.train.corpus.refusals import count_words, write_word_list
from hebench.train.corpus.selection import BINS, Candidates, bin_of
from hebench.train.languages import LANGUAGES


class CountWords(PipelineStep):  # type: ignore[misc]
    """Count the words of a task's documents into a word list."""

    type, name = "statistics", "words"

    def __init__(self, folder: Path, language: str, *, by_document: bool) -> None:
        """language: whose words are counted. by_document: once in each document."""
        super().__init__()
        self.folder, self.language, self.by_document = folder, language, by_document

    def run(self, data: Documents, rank: int = 0, world_size: int = 1) -> Documents:
        """Write the list; yield nothing."""
        texts = (document.text for document in data)
        counts = count_words(texts, LANGUAGES[self.language], by_document=self.by_document)
        write_word_list(self.folder / f"{rank:05d}.tsv", counts, len(counts))
        yield from ()


class FindCandidates(PipelineStep):  # type: ignore[misc]
    """Note the documents of each source that may be held out, and pass all on."""

    type, name = "statistics", "candidates"

    def __init__(self, folder: Path, inputs: dict[str, Input]) -> None:
        """folder: for the notes."""
        super().__init__()
        self.folder, self.inputs = folder, inputs

    def run(self, data: Documents, rank: int = 0, world_size: int = 1) -> Documents:
        """Yield the documents; write the candidates at the end."""
        found: dict[str, Candidates] = {}
        for document in data:
            words = self.inputs[document.metadata["input"]].heldout_words
            if words:
                here = found.setdefault(group_of(document), Candidates(words))
                here.offer(document.metadata["key"], document.id, document.text)
            yield document
        notes = {
            group: [list(vars(candidate).values()) for candidate in candidates.kept()]
            for group, candidates in found.items()
        }
        text = json.dumps(notes, ensure_ascii=False)
        write_atomically(self.folder / f"{rank:05d}.candidates.json", text)


class CountBins(PipelineStep):  # type: ignore[misc]
    """Count the words of each source by the bin of their documents' keys, and pass all on."""

    type, name = "statistics", "bins"

    def __init__(self, folder: Path) -> None:
        """folder: for the counts."""
        super().__init__()
        self.folder = folder

    def run(self, data: Documents, rank: int = 0, world_size: int = 1) -> Documents:
        """Yield the documents; write the counts at the end."""
        found: dict[str, dict[int, int]] = {}
        for document in data:
            bins = found.setdefault(group_of(document), {})
            place = bin_of(document.metadata["key"])
            bins[place] = bins.get(place, 0) + len(document.text.split())
            yield document
        write_atomically(self.folder / f"{rank:05d}.bins.json", json.dumps(found))


def read_bins(folder: Path) -> dict[str, Any]:
    """Return words by bin, (BINS,), for each `language/source`, over all tasks."""
    whole: dict[str, Any] = {}
    for path in sorted(folder.glob("*.bins.json")):
        for group, bins in json.loads(path.read_text(encoding="utf-8")).items():
            counts = whole.setdefault(group, np.zeros(BINS, dtype=np.int64))
            counts[[int(place) for place in bins]] += list(bins.values())
    return whole
