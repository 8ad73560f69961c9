"""What the rules did, counted while the documents pass, with a few examples of each.

A task counts alone and writes its numbers; the numbers of all tasks add up in any order to the
same report, since the examples kept are those with the smallest hash and not the first ones met.
"""

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hebench.errors import DataError
from hebench.files import write_atomically
from hebench.train.corpus.edits import Edits

EXAMPLES = 5  # kept for each rule and source
_LONGEST = 400  # characters of an example


@dataclass(kw_only=True)
class RuleCount:
    """One rule in one source."""

    changes: int = 0  # places edited
    documents: int = 0  # edited or removed
    words: int = 0  # of the documents that it removed
    examples: list[list[Any]] = field(default_factory=list)  # [hash, id, before, after]

    def show(self, document_id: str, before: str, after: str) -> None:
        """Keep an example if its hash is among the smallest."""
        order = zlib.crc32(document_id.encode())
        if len(self.examples) < EXAMPLES or order < self.examples[-1][0]:
            self.examples.append([order, document_id, before[:_LONGEST], after[:_LONGEST]])
            self.examples = sorted(self.examples)[:EXAMPLES]


class Tally:
    """Counts by source, and by source and rule."""

    def __init__(self) -> None:
        """Start at nought."""
        self.totals: dict[str, dict[str, int]] = {}  # language/source -> name -> count
        self.rules: dict[str, dict[str, RuleCount]] = {}  # language/source -> rule -> count

    def count(self, source: str, name: str, text: str) -> int:
        """Add a document to a total; return its words."""
        words = len(text.split())
        total = self.totals.setdefault(source, {})
        for unit, amount in (("documents", 1), ("words", words), ("characters", len(text))):
            total[f"{name}_{unit}"] = total.get(f"{name}_{unit}", 0) + amount
        return words

    def edited(self, source: str, document_id: str, edits: Edits) -> None:
        """Add what the edits of one document changed."""
        for rule, count in edits.counts.items():
            entry = self._entry(source, rule)
            entry.changes += count
            entry.documents += 1
            entry.show(document_id, *edits.first[rule])

    def removed(self, source: str, rule: str, document_id: str, text: str, found: str = "") -> None:
        """Add a document that a rule removed."""
        entry = self._entry(source, rule)
        entry.documents += 1
        entry.words += len(text.split())
        entry.show(document_id, text, found)

    def _entry(self, source: str, rule: str) -> RuleCount:
        return self.rules.setdefault(source, {}).setdefault(rule, RuleCount())

    def save(self, path: Path) -> None:
        """Write the counts of one task."""
        rules = {
            source: {rule: vars(entry) for rule, entry in entries.items()}
            for source, entries in self.rules.items()
        }
        content = {"totals": self.totals, "rules": rules}
        write_atomically(path, json.dumps(content, ensure_ascii=True))


def read_tallies(paths: Iterable[Path]) -> Tally:
    """Return the sum of the counts that tasks wrote."""
    whole = Tally()
    for path in sorted(paths):
        content = json.loads(path.read_text(encoding="utf-8"))
        for source, totals in content["totals"].items():
            total = whole.totals.setdefault(source, {})
            for name, count in totals.items():
                total[name] = total.get(name, 0) + count
        for source, entries in content["rules"].items():
            for rule, entry in entries.items():
                _add(whole._entry(source, rule), entry)
    return whole


def totals_of(tally: Tally, language: str) -> dict[str, int]:
    """Return the totals of all sources of a language."""
    whole: dict[str, int] = {}
    for group, totals in tally.totals.items():
        if group.split("/")[0] == language:
            for name, count in totals.items():
                whole[name] = whole.get(name, 0) + count
    return whole


def require_text(tally: Tally, languages: Iterable[str], stage: str) -> None:
    """Return if each language has documents left after a phase.

    Raises DataError naming the rule that removed most.
    """
    for language in languages:
        totals = totals_of(tally, language)
        read = totals.get("read_documents", 0)
        if not read:
            raise DataError(
                f"corpus: expected documents with text of language {language!r}, found none; "
                "check the inputs and the name of the field"
            )
        if not totals.get(f"{stage}_documents", 0):
            taken: Counter[str] = Counter()
            for group, rules in tally.rules.items():
                if group.split("/")[0] == language:
                    removing = {
                        rule: count.documents for rule, count in rules.items() if count.words
                    }
                    taken.update(removing)
            rule, documents = taken.most_common(1)[0] if taken else ("empty", read)
            raise DataError(
                f"corpus: expected text of language {language!r} to be left, found none of "
                f"{read:,} documents: rule {rule!r} removed {documents:,}; check that the inputs "
                "are in that language, or lower its threshold"
            )


def _add(entry: RuleCount, other: Mapping[str, Any]) -> None:
    entry.changes += other["changes"]
    entry.documents += other["documents"]
    entry.words += other["words"]
    entry.examples = sorted([*entry.examples, *other["examples"]])[:EXAMPLES]
