"""What of an item is shown and searched: the fields of the sets that the package carries.

>>> [field.name for field in fields_of({"id": "x", "label": 1, "choices": ["א", "ב"]})]
['choices']

Public sets stay where their makers published them: the site shows no text of theirs.
"""

import functools
import re
from dataclasses import dataclass

from hebench.board.columns import Column
from hebench.board.suite import Doc, packaged_docs, task_info
from hebench.hebrew import normalise

LEAD = 90  # characters of an item in a list of results
# The order in which a reader meets the fields; others follow by name.
_ORDER = (
    "title",
    "passage",
    "article",
    "premise",
    "hypothesis",
    "sentence",
    "source",
    "text",
    "instruction",
    "question",
    "choices",
    "golds",
    "answer",
    "references",
    "target",
    "facts",
    "topic",
    "genre",
    "phenomenon",
    "checks",
)
_ANSWERS = ("golds", "references", "answer", "choices", "target")  # never code, even "3"
_SILENT = {"id", "cluster", "label", "null_answer"}
_LEADS = ("question", "hypothesis", "instruction", "text", "source", "title", "choices")
_CODE = re.compile(r"[a-z0-9_.-]+|\[\{.*", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of an item."""

    name: str
    texts: tuple[str, ...]  # one, or each choice, reference or fact
    right: int | None  # index of the right choice
    code: bool  # a label for programs, which is left to right in any language


def documents(column: Column) -> dict[str, Doc]:
    """Return the documents of a column by item, none where their texts cannot be shown.

    Only of the version that was run: the items of another one may read differently.
    """
    info = task_info(column.record_key)
    if not info.packaged or column.split or info.version != column.version:
        return {}
    return packaged_docs(column.task)


def fields_of(doc: Doc) -> list[Field]:
    """Return the fields of a document that are shown, in order."""
    found = []
    for name in sorted(set(doc) - _SILENT, key=_place):
        texts = _texts(doc[name])
        if not texts or (name == "target" and texts[0] in _answers(doc)):
            continue
        found.append(
            Field(
                name=name,
                texts=texts,
                right=doc.get("label") if name == "choices" else None,
                code=all(_CODE.fullmatch(text) for text in texts) and name not in _ANSWERS,
            )
        )
    return found


def search_text(doc: Doc) -> str:
    """Return what a search goes through: all texts, as a Hebrew reader calls them the same."""
    return _normalised("\n".join(text for field in fields_of(doc) for text in field.texts))


def lead(doc: Doc) -> str:
    """Return the beginning of an item, by which a list of results tells it from others."""
    name = next((name for name in _LEADS if doc.get(name)), None)
    text = " ".join(_texts(doc[name])[0].split()) if name else ""
    return text if len(text) <= LEAD else text[: LEAD - 1] + "…"


def _answers(doc: Doc) -> tuple[str, ...]:
    return tuple(text for name in ("golds", "references") for text in _texts(doc.get(name, ())))


def _texts(value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(str(part) for part in values if part not in (None, ""))


def _place(name: str) -> tuple[int, str]:
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)


@functools.cache
def _normalised(text: str) -> str:
    return normalise(text, "hebrew")
