"""The rules as blocks: edit a document, refuse it, or drop it for what it holds.

The blocks of a task share one `Tally`, which the block that writes saves.
"""

import json
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.formatters.base import BaseFormatter

from hebench.data.overlap import Item, clean_corpus
from hebench.train.corpus.blocks.documents import (
    Documents,
    document_of,
    group_of,
    line_of,
    read_lines,
)
from hebench.train.corpus.config import CorpusConfig, Rules
from hebench.train.corpus.edits import edit
from hebench.train.corpus.refusals import read_word_list, refusal
from hebench.train.corpus.selection import bin_of, key_of
from hebench.train.corpus.tally import Tally
from hebench.train.languages import LANGUAGES


class Edit(BaseFormatter):  # type: ignore[misc]
    """The rules of `edits`, with the thresholds of each document's source."""

    name = "edits"

    def __init__(self, config: CorpusConfig, tally: Tally) -> None:
        """tally: shared by the steps of a task."""
        super().__init__()
        self.config, self.tally = config, tally

    def format(self, text: str) -> str:
        """Return a text of the target language after the rules, as any pipeline may call it."""
        language = self.config.language
        return edit(text, Rules(), LANGUAGES[language], language)[0]

    def run(self, data: Documents, rank: int = 0, world_size: int = 1) -> Documents:
        """Yield the edited documents, each with its key; what is empty then goes."""
        for document in data:
            given = self.config.inputs[document.metadata["input"]]
            rules = given.rules_of(document.metadata["source"])
            target = LANGUAGES[given.language] if given.language == self.config.language else None
            before = document.text
            document.text, edits = edit(before, rules, target, given.language)
            self.tally.edited(group_of(document), document.id, edits)
            if document.text:
                document.metadata["key"] = key_of(document.text, self.config.seed)
                document.metadata["script_share"] = edits.script_share
                yield document
            else:
                self.tally.removed(group_of(document), "empty", document.id, before)


class Removals:
    """A place for the documents that a filter drops: they are counted, not kept."""

    def __init__(self, rule: str | None, tally: Tally) -> None:
        """rule: name of the filter, or None if each document says why it was dropped."""
        self.rule, self.tally = rule, tally

    def __enter__(self) -> "Removals":
        """Return itself, as datatrove's writers do."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: the task saves the counts."""

    def write(self, document: Document, _: int) -> None:
        """Count a document."""
        rule, _, found = document.metadata.get("filter_reason", "").partition(": ")
        self.tally.removed(group_of(document), self.rule or rule, document.id, document.text, found)


class Refuse(BaseFilter):  # type: ignore[misc]
    """The rules of `refusals`, for documents of the target language."""

    name = "refusals"

    def __init__(self, config: CorpusConfig, words: Path, tally: Tally) -> None:
        """words: the list of frequent words."""
        super().__init__(exclusion_writer=Removals(None, tally))
        self.config, self.words = config, words
        self.frequent: frozenset[str] | None = None

    def filter(self, document: Document) -> bool | tuple[bool, str]:
        """Return whether to keep a document, and why not."""
        share = document.metadata.pop("script_share")
        given = self.config.inputs[document.metadata["input"]]
        if given.language != self.config.language:
            return True
        if self.frequent is None:
            # Of a corpus without a word in two documents the list is empty.
            full = self.words.stat().st_size > 0
            self.frequent = frozenset(
                read_word_list(self.words, self.config.frequent_words) if full else ()
            )
        rules = given.rules_of(document.metadata["source"])
        refused = refusal(document.text, share, rules, LANGUAGES[given.language], self.frequent)
        return (False, ": ".join(refused)) if refused else True


class WithoutItems(PipelineStep):  # type: ignore[misc]
    """Remove the documents that hold given texts: evaluation items, or what is held out.

    `hebench.data.overlap` works on files, so a task's documents go through one; their number
    is not bounded by memory.
    """

    type, name = "filter", "without items"

    def __init__(
        self, items: Path, min_share: float, rule: str, folder: Path, tally: Tally
    ) -> None:
        """items: JSON list of [set, id, text]. min_share: of an item, that makes a document go."""
        super().__init__()
        self.items, self.min_share, self.rule = items, min_share, rule
        self.folder, self.tally = folder, tally

    def run(self, data: Documents, rank: int = 0, world_size: int = 1) -> Documents:
        """Yield the documents without an item."""
        self.folder.mkdir(parents=True, exist_ok=True)
        given, clean = self.folder / f"{rank:05d}.in.jsonl", self.folder / f"{rank:05d}.jsonl"
        clean.unlink(missing_ok=True)  # of a task that was cut off
        with given.open("wb") as stream:
            stream.writelines(map(line_of, data))
        items = [Item(*entry) for entry in json.loads(self.items.read_text(encoding="utf-8"))]
        if not items or not given.stat().st_size:
            yield from read_lines(given)
            return
        cleaning = clean_corpus(given, items, clean, min_share=self.min_share)
        found = {
            place.rpartition(":")[2]: f"{item.set} {item.id}"
            for item in cleaning.overlap.items
            for place in item.examples
        }
        with given.open("rb") as before, clean.open("rb") as after:
            kept = after.readline()
            for number, line in enumerate(before, start=1):
                document = document_of(line)
                if line == kept:
                    kept = after.readline()
                    yield document
                else:
                    self.tally.removed(
                        group_of(document),
                        self.rule,
                        document.id,
                        document.text,
                        found.get(str(number), ""),
                    )
        given.unlink()
        clean.unlink()


class WithoutKeys(BaseFilter):  # type: ignore[misc]
    """Remove the documents that are held out themselves."""

    name = "held out"

    def __init__(self, keys: frozenset[int], tally: Tally) -> None:
        """keys: of the documents that are held out."""
        super().__init__(exclusion_writer=Removals("held out", tally))
        self.keys = keys

    def filter(self, document: Document) -> bool:
        """Return whether to keep a document."""
        return document.metadata["key"] not in self.keys


class BelowLimit(BaseFilter):  # type: ignore[misc]
    """Keep the documents whose key is below the limit of their source."""

    name = "mix"

    def __init__(self, limits: dict[str, int], tally: Tally) -> None:
        """limits: bin by `language/source`."""
        super().__init__(exclusion_writer=Removals("mix", tally))
        self.limits = limits

    def filter(self, document: Document) -> bool:
        """Return whether to keep a document."""
        return bin_of(document.metadata["key"]) < self.limits[group_of(document)]
