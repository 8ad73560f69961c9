"""Every string that pages say, in Hebrew and English, and how values stand in it.

    >>> Texts("hebench.board", "en").text("model.columns_n", n=3)
    Markup('<span class="ltr">3</span> tasks')

A package of pages keeps its strings in `strings/*.toml`, one table a key with `he` and `en`; a
string that counts has `one`, `two` and `other` in place of a text (English needs no `two`).
Values are isolated, so that no number, interval or name is torn apart or moves its neighbours in
right-to-left text: numbers in left-to-right runs, other text in `<bdi>`.
"""

import functools
import tomllib
from importlib import resources
from typing import Any

from markupsafe import Markup, escape

LANGUAGES = ("he", "en")
DIRECTIONS = {"he": "rtl", "en": "ltr"}
_LRI, _FSI, _PDI = "\u2066", "\u2068", "\u2069"


@functools.cache
def catalogue(package: str) -> dict[str, dict[str, Any]]:
    """Return every string of a package by key: {"he": text or plural forms, "en": ...}.

    Raises ValueError for a key that two files define.
    """
    found: dict[str, dict[str, Any]] = {}
    folder = resources.files(package) / "strings"
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        for key, value in _flat(tomllib.loads(path.read_text(encoding="utf-8"))):
            if key in found:
                raise ValueError(f"{path.name}: {key} is defined twice")
            found[key] = value
    return found


def _flat(table: dict[str, Any], prefix: str = "") -> list[tuple[str, dict[str, Any]]]:
    found = []
    for key, value in table.items():
        if set(value) <= set(LANGUAGES):
            found.append((f"{prefix}{key}", value))
        else:
            found += _flat(value, f"{prefix}{key}.")
    return found


class Texts:
    """A package's strings in one language."""

    def __init__(self, package: str, language: str) -> None:
        """Choose `he` or `en`."""
        self.language = language
        self._strings = catalogue(package)

    def __contains__(self, key: str) -> bool:
        """Return whether there is such a string."""
        return key in self._strings

    def text(self, key: str, **values: Any) -> Markup:
        """Return a string as HTML, its values escaped and isolated.

        Raises KeyError for a key or a value that is missing.
        """
        return Markup(self._form(key, values)).format(
            **{name: isolated(value) for name, value in values.items()}
        )

    def plain(self, key: str, **values: Any) -> str:
        """Return a string as plain text, for attributes; values stand in Unicode isolates."""
        return self._form(key, values).format(
            **{name: _plainly(value) for name, value in values.items()}
        )

    def subset(self, prefix: str) -> dict[str, Any]:
        """Return the strings below a prefix for the browser: key without prefix -> text."""
        return {
            key.removeprefix(prefix): value[self.language]
            for key, value in self._strings.items()
            if key.startswith(prefix)
        }

    def _form(self, key: str, values: dict[str, Any]) -> str:
        form = self._strings[key][self.language]
        if isinstance(form, str):
            return form
        count = values["n"]
        name = {1: "one", 2: "two"}.get(count, "other")
        return str(form.get(name, form["other"]))


def isolated(value: Any) -> Markup:
    """Return a value as an isolated run of HTML: a number left to right, a text as its own."""
    if hasattr(value, "__html__"):
        return Markup(value)
    if isinstance(value, int | float):
        return ltr(_number(value))
    return Markup("<bdi>{}</bdi>").format(value)


def ltr(text: str) -> Markup:
    """Return text as an isolated left-to-right run: numbers, intervals, formulas."""
    return Markup('<span class="ltr">{}</span>').format(text)


def _plainly(value: Any) -> str:
    if isinstance(value, int | float):
        return f"{_LRI}{_number(value)}{_PDI}"
    return f"{_FSI}{value}{_PDI}"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def code(text: str) -> Markup:
    """Return an identifier as a code span of its own direction."""
    return Markup('<code class="ltr">{}</code>').format(escape(text))
