"""The report of the corpus stage: what was read, what each rule took, and examples of it.

Texts of strangers are shown bounded and escaped: an example cannot break a table, run as HTML, or
turn the direction of what follows it.
"""

import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hebench.files import write_atomically
from hebench.train.corpus.config import CorpusConfig
from hebench.train.corpus.selection import Candidate
from hebench.train.corpus.tally import RuleCount, Tally, totals_of

_STAGES = ("read", "clean", "kept", "train")
_CHOICES = ("held out", "mix")  # choices by a hash, which examples do not explain
_EXAMPLES_SHOWN = 3  # of each rule and source; report.json has all
_SHOWN = 160  # characters of an example


def write_report(  # noqa: PLR0913 (each is named at the call)
    out: Path,
    config: CorpusConfig,
    tally: Tally,
    heldout: Mapping[str, list[Candidate]],
    *,
    absent: list[str],
    unread: Mapping[str, list[str]],
) -> dict[str, Any]:
    """Write report.json and report.md; return the stage's metrics.

    absent: evaluation sets that were not at hand and so were not looked for. unread: by input,
    files beside it in no format that is read, and linked folders.
    """
    words = {
        group: sum(len(each.passage.split()) for each in candidates)
        for group, candidates in heldout.items()
    }
    report = {
        "language": config.language,
        "sources": {
            group: {**totals, "heldout_words": words.get(group, 0)}
            for group, totals in sorted(tally.totals.items())
        },
        "rules": {
            group: {rule: _as_json(count) for rule, count in sorted(rules.items())}
            for group, rules in sorted(tally.rules.items())
        },
        "deduplication": {
            "bands": config.bands,
            "rows": config.rows,
            "chance_found": {
                f"{jaccard:.1f}": round(chance_found(jaccard, config.bands, config.rows), 3)
                for jaccard in (0.5, 0.6, 0.7, 0.8, 0.9)
            },
        },
        "benchmark_sets_absent": absent,
        "files_not_read": dict(unread),
    }
    text = json.dumps(report, ensure_ascii=False, indent=1)
    write_atomically(out / "report.json", text + "\n")
    write_atomically(out / "report.md", _markdown(report, tally))
    return _metrics(tally, words)


def chance_found(jaccard: float, bands: int, rows: int) -> float:
    """Return the chance that MinHash finds a pair of documents of that similarity."""
    return 1 - (1 - jaccard**rows) ** bands


def _metrics(tally: Tally, heldout_words: Mapping[str, int]) -> dict[str, Any]:
    languages = sorted({group.split("/")[0] for group in tally.totals})
    metrics: dict[str, Any] = {}
    for code in languages:
        totals = totals_of(tally, code)
        for stage in _STAGES:
            for unit in ("documents", "words"):
                metrics[f"{code}_{stage}_{unit}"] = totals.get(f"{stage}_{unit}", 0)
        metrics[f"{code}_heldout_words"] = sum(
            count for group, count in heldout_words.items() if group.split("/")[0] == code
        )
    return metrics


def _as_json(count: RuleCount) -> dict[str, Any]:
    examples = [
        {"id": document_id, "before": before, "after": after}
        for _, document_id, before, after in count.examples
    ]
    return {**vars(count), "examples": examples}


def _markdown(report: Mapping[str, Any], tally: Tally) -> str:
    lines = [
        "# What the corpus stage did",
        "",
        "| source | documents read | words read | clean | without duplicates and held out "
        "| in training | held out |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for group, totals in report["sources"].items():
        cells = [totals.get("read_documents", 0)]
        cells += [totals.get(f"{stage}_words", 0) for stage in _STAGES]
        cells.append(totals["heldout_words"])
        lines.append(f"| {_plain(group)} | " + " | ".join(f"{cell:,}" for cell in cells) + " |")
    lines += ["", "All but the first number of a row are words.", ""]
    if report["benchmark_sets_absent"]:
        names = ", ".join(map(_plain, report["benchmark_sets_absent"]))
        lines += [f"Evaluation sets that were not at hand, so not looked for: {names}.", ""]
    for name, files in report["files_not_read"].items():
        shown = ", ".join(map(_plain, files))
        lines += [f"Files of another format and linked folders in {name}, not read: {shown}.", ""]
    for rule in sorted({rule for rules in tally.rules.values() for rule in rules}):
        lines += _rule_section(rule, tally)
    return "\n".join(lines) + "\n"


def _rule_section(rule: str, tally: Tally) -> list[str]:
    lines = [
        f"## {rule}",
        "",
        "| source | places | documents | words removed |",
        "|---|--:|--:|--:|",
    ]
    examples = []
    for group, rules in sorted(tally.rules.items()):
        if rule in rules:
            count = rules[rule]
            lines.append(
                f"| {_plain(group)} | {count.changes:,} | {count.documents:,} | {count.words:,} |"
            )
            shown = 0 if rule in _CHOICES else _EXAMPLES_SHOWN
            for _, document_id, before, after in count.examples[:shown]:
                arrow = f" → {_plain(after)}" if after else ""
                examples.append(f"- {_plain(document_id)}: {_plain(before)}{arrow}")
    return [*lines, "", *examples, ""]


def _plain(text: str) -> str:
    """Return a text as one short line that Markdown and HTML leave as it is.

    Each piece is isolated (U+2068, U+2069), so that Hebrew beside English reads in its order.
    """
    short = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    shown = "".join(map(_visible, short.replace("\n", " ⏎ ")))
    return f"\u2068{shown}\u2069"


def _visible(char: str) -> str:
    if char in "\\`*_[]|<>&":
        return f"&#{ord(char)};"
    hidden = unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    return f"U+{ord(char):04X}" if hidden else char
