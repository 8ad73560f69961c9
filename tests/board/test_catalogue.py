"""The catalogue is whole: what the site says, it says in both languages, and nothing idles in it.

A key is used if it stands somewhere in full, or if a pattern of `PATTERNS` makes it. A pattern is
a key that a template, a script or Python puts together: `"task." ~ name ~ ".title"` is
`task.*.title`. Each must be listed here with the values that it meets.
"""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import Any

import pytest

from hebench import board
from hebench.board.documents import fields_of
from hebench.board.extract import SETTINGS
from hebench.board.history import history
from hebench.board.models_file import TRACKS, slugify
from hebench.board.numbers import method_words
from hebench.board.pages import changes, method, votes
from hebench.board.pages.table import KINDS
from hebench.board.suite import groups, packaged_docs, suite
from hebench.catalogue import LANGUAGES, Texts, catalogue
from hebench.files import packaged_folder
from hebench.models.baselines import TITLES
from hebench.stats import fitness
from hebench.stats.votes import NOTES

BOARD = Path(board.__file__).parent
TEMPLATES = sorted(BOARD.glob("templates/*.html"))
SCRIPTS = sorted(BOARD.glob("static/*.js"))
PYTHON = sorted(BOARD.rglob("*.py"))
KEYS = catalogue("hebench.board")
HEBREW, QUOTES = re.compile("[א-ת]"), re.compile("[\"']")
BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def read(path: Path) -> str:
    """A source without its comments."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".html":
        return re.sub(r"\{#.*?#\}", "", text, flags=re.DOTALL)
    return re.sub(r"^ *//.*$", "", text, flags=re.MULTILINE) if path.suffix == ".js" else text


def looped(name: str, variable: str) -> set[str]:
    """The words that a template's loop over literals gives to a variable."""
    text = read(BOARD / "templates" / name)
    loops = re.findall(rf"for {variable}(?:, \w+)? in \((.*?)\) (?:if|%)", text)
    return {word for loop in loops for word in re.findall(r'"(\w+)"', loop)}


def codes_of_fitness() -> set[str]:
    """The reasons of task fitness: the words in its source that name no measure and no light."""
    text = Path(fitness.__file__).read_text(encoding="utf-8")
    fields = {field.name for field in dataclasses.fields(fitness.Fitness)}
    return set(re.findall(r'"([a-z]+(?:_[a-z]+)*)"', text)) - fields - {"green", "amber", "red"}


def metrics() -> set[str]:
    """The metrics that the tasks name."""
    paths = [path for path in packaged_folder("tasks").rglob("*") if path.is_file()]
    return {
        found
        for path in paths
        for found in re.findall(r"metric: *(\w+)", path.read_text(encoding="utf-8"))
    } - {"score"}


def fields() -> set[str]:
    """The fields of the packaged sets that are shown."""
    docs = (doc for task in suite() for doc in packaged_docs(task).values())
    return {field.name for doc in docs for field in fields_of(doc)}


# Pattern -> the values in the place of its stars; with `?` before it, those may lack a string.
INTERVALS = ("t", "wilson", "cluster-robust t, 3 clusters", "none", "undefined: one unit")
BOOTSTRAPS = ("bootstrap, 3 items", "bootstrap, 3 clusters")
PATTERNS: dict[str, set[str]] = {
    "task.*.title": set(suite()),
    "task.*.what": set(suite()),
    "group.*.title": set(groups()) | {"all", "other"},
    "group.*.what": set(groups()) | {"all", "other"},
    "?headline.*": {info.headline for info in suite().values()},
    "?tasks.about_*": {info.family for info in suite().values()},
    "?baseline.*": {slugify(name) for name in TITLES.values()},
    "nav.*": {"table", "tasks", "compare", "runs", "votes", "changes", "method"},
    "track.*": set(TRACKS),
    "table.about_*": set(TRACKS),
    "table.kind_*": set(KINDS),
    "table.label_*": set(KINDS) - {"model"},
    "table.reading_*": looped("table.html", "part"),
    "table.reading_*_text": looped("table.html", "part"),
    "compare.how_*": looped("compare.html", "name"),
    "items.only_*": looped("items.html", "value") - {"hard", "easy"} | {"all"},
    "items.sort_*": looped("items.html", "value") & {"hard", "easy"} | {"place"},
    "items.field.*": fields(),
    "interval.*": {method_words(name)[0] for name in (*INTERVALS, *BOOTSTRAPS)},
    "metric.*": metrics(),
    "setting.*": set(SETTINGS) - {"name"},
    "fitness.*": codes_of_fitness(),
    "fitness.light_*": {"green", "amber", "red"},
    "fitness.unknown_*": looped("run.html", "name"),
    "changes.why.*": {"new", "back", "rerun", "withdrawn", "partial", "columns"}
    | {"above", "more", "left", "others"},
    "votes.note.*": set(NOTES),
    "votes.alpha.*": set(votes.ALPHA_REASONS.values()),
    "votes.needed.*": set(votes.NEEDED_REASONS.values()),
    "method.*.title": set(method.SECTIONS),
    "method.metric.*": set(method.METRICS),
    "method.criterion.*": set(fitness.CRITERIA),
    "method.*.*": {
        f"{name}.{part}"
        for name, parts in method.SECTIONS.items()
        for part in parts
        if part[0] not in "=@"
    },
    "js.table.hides_*": {"kind", "q", "size", "licence", "open"},
    "js.compare.*": {"McNemar", "cluster", "paired", "macro", "one"},
}


def made_by(pattern: str) -> set[str]:
    """The keys that a pattern makes."""
    before, *_, after = pattern.removeprefix("?").replace("*.*", "*").split("*")
    return {f"{before}{value}{after}" for value in PATTERNS[pattern]}


def literals(path: Path) -> Iterator[str]:
    """The string literals of a source that can be keys; a script's with its own prefix."""
    text = read(path)
    found = re.findall(r"""["'`]([\w.+^-]+)["'`]""", text)
    if path.suffix != ".js":
        yield from found
        return
    prefixes = ["", *re.findall(r"hebenchText\(`([\w.]+\.)\$\{", text)]
    yield from (f"js.{prefix}{word}" for prefix in prefixes for word in found)


def patterns_of(path: Path) -> Iterator[str]:
    """The patterns that a source puts together of a string that begins like a key."""
    text = read(path)
    if path.suffix == ".html":
        joined = r"""["']([a-z]\w*\.[\w.]*|[a-z]\w*[._])["'] *~ *[^~"'(){}%,]*(?:\(.*?\))?"""
        tail = r"""(?: *~ *["']([._]\w*)["'])?(?: *~ *\w+)?"""
        for before, after in re.findall(joined + tail, text):
            yield f"{before}*{after}" if after != "." else f"{before}*.*"
    elif path.suffix == ".js":
        prefixes = re.findall(r"hebenchText\(`([\w.]+\.)\$\{", text)
        own = prefixes[0] if prefixes else ""
        for before, after in re.findall(r"text\(`(\w+_)\$\{\w+\}(\w*)`", text):
            yield f"js.{own}{before}*{after}"
        for before in re.findall(r'text\("(\w+\.)" \+', text):
            yield f"js.{own}{before}*"
    else:
        for before, after in re.findall(r"""f["']([a-z]+\.)\{\w+\}((?:\.\w+)?)["']""", text):
            yield f"{before}*{after}"


USED_IN_FULL = {key for path in (*TEMPLATES, *SCRIPTS, *PYTHON) for key in literals(path)}


# ------------------------------------------------------------------------------ whole


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_every_key_in_a_template_exists(path: Path) -> None:
    called = re.findall(r"""\b(?:t|p|text)\(\s*["']([\w.+^-]+)["']\s*[,)]""", read(path))
    chosen = re.findall(r"""\b[tp]\(\s*["']([\w.]+)["'] if .*? else ["']([\w.]+)["']""", read(path))
    wanted = {*called, *(key for pair in chosen for key in pair)}
    assert wanted <= set(KEYS), sorted(wanted - set(KEYS))


@pytest.mark.parametrize("path", sorted(BOARD.glob("pages/*.py")), ids=lambda path: path.name)
def test_every_key_in_a_page_exists(path: Path) -> None:
    wanted = set(re.findall(r'\btitle="([\w.]+)"', read(path)))
    assert wanted <= set(KEYS), sorted(wanted - set(KEYS))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_every_key_in_a_script_exists(path: Path) -> None:
    text = read(path)
    own = [*re.findall(r"hebenchText\(`([\w.]+\.)\$\{", text), ""][0]
    called = re.findall(r"""\btext\(\s*["']([\w.]+)["']\s*[,)]""", text)
    chosen = re.findall(r"""\btext\([^"',]*\? ["']([\w.]+)["'] : ["']([\w.]+)["']""", text)
    wanted = {f"js.{own}{key}" for key in (*called, *(key for pair in chosen for key in pair))}
    wanted |= {f"js.{key}" for key in re.findall(r"""\bhebenchText\(["']([\w.]+)["']""", text)}
    assert wanted <= set(KEYS), sorted(wanted - set(KEYS))


def test_every_pattern_of_keys_is_listed_with_its_values() -> None:
    found = {name for path in (*TEMPLATES, *SCRIPTS, *PYTHON) for name in patterns_of(path)}
    listed = {name.removeprefix("?") for name in PATTERNS}
    assert found - listed == set(), "add them to PATTERNS"
    assert listed - found == set(), "no source puts these together any more"


@pytest.mark.parametrize("pattern", [name for name in PATTERNS if name[0] != "?"])
def test_every_key_that_a_pattern_makes_exists(pattern: str) -> None:
    assert PATTERNS[pattern], "no value: the source has changed"
    assert made_by(pattern) <= set(KEYS), sorted(made_by(pattern) - set(KEYS))


def test_no_key_is_unused() -> None:
    made = {key for pattern in PATTERNS for key in made_by(pattern)}
    assert set(KEYS) - USED_IN_FULL - made == set()


def test_the_reasons_of_moves_are_those_that_the_history_gives() -> None:
    source = Path(history.__code__.co_filename).read_text(encoding="utf-8")
    described = re.search(r"reasons: codes.*?\n    ([^\"]*)\"\"\"", source, flags=re.DOTALL)
    assert described
    words = {word for word in re.findall(r"\b[a-z]+\b", described[1]) if len(word) > 2}
    assert words == PATTERNS["changes.why.*"]
    assert changes.DAYS > 1


# ---------------------------------------------------------------------------- equal


def forms(key: str, language: str) -> dict[str, str]:
    """The forms of a string: one by the name "", or those of its plural."""
    value: Any = KEYS[key][language]
    return value if isinstance(value, dict) else {"": value}


def places(text: str) -> set[str]:
    """The names in braces."""
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_string_is_there_and_plurals_have_their_forms(language: str) -> None:
    needed = {"he": {"one", "two", "other"}, "en": {"one", "other"}}[language]
    for key, value in KEYS.items():
        assert set(value) == set(LANGUAGES), key
        found = forms(key, language)
        assert set(found) in ({""}, needed), key
        assert all(text.strip() == text and text for text in found.values()), key


def test_both_languages_count_and_name_the_same_values() -> None:
    for key in KEYS:
        wanted = places(forms(key, "en").get("other", forms(key, "en").get("", "")))
        for language in LANGUAGES:
            for name, text in forms(key, language).items():
                # "A row" or "two rows" need not say the number, nor what needs more than one.
                few = name in {"one", "two"}
                same = places(text) <= wanted if few else places(text) == wanted
                assert same, (key, language, name)


def test_a_string_that_counts_takes_its_number_as_n() -> None:
    for key in KEYS:
        found = [forms(key, language) for language in LANGUAGES]
        if any("other" in own for own in found):
            for own in found:  # a language may say any number in one form
                assert "n" in places(own.get("other", own.get("", ""))), key


# ------------------------------------------------------------------------------ clean


def test_hebrew_is_hebrew_with_its_own_punctuation() -> None:
    for key in KEYS:
        for text in forms(key, "he").values():
            words = re.sub(r"\{\w+\}", "", text)
            name = KEYS[key]["he"] == KEYS[key]["en"]  # of a metric, say
            assert HEBREW.search(words) or name or not re.search("[A-Za-z]", words), (key, text)
            assert not QUOTES.search(words), (key, text)
            assert not re.search("[א-ת]-[א-ת]", words), (key, text)
            assert not re.search(r"[א-ת]\u2019|\u201c|\u201d", words), (key, text)


def test_no_name_in_hebrew_ends_in_a_sign_that_would_change_sides() -> None:
    """In a line of Hebrew the signs of "chrF++" are Hebrew's, and stand before it."""
    for key in KEYS:
        for text in forms(key, "he").values():
            assert not re.search(r"[A-Za-z][+#%*&]", text), (key, text)


def test_english_has_no_hebrew_letters() -> None:
    for key in KEYS:
        for text in forms(key, "en").values():
            assert not HEBREW.search(text), (key, text)


def test_no_string_holds_controls_of_direction_markup_or_double_spaces() -> None:
    for key in KEYS:
        for language in LANGUAGES:
            for text in forms(key, language).values():
                assert not BIDI.search(text), key
                assert not re.search(r"[<>&]|  |\n", text), (key, text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_string_is_made_with_its_values_isolated(language: str) -> None:
    texts = Texts("hebench.board", language)
    for key in KEYS:
        values = {name: "ערך" for text in forms(key, language).values() for name in places(text)}
        for n in (1, 2, 5):
            made = texts.text(key, **(values | {"n": n}))
            assert "{" not in made and "{" not in texts.plain(key, **(values | {"n": n})), key


# Words that stand in templates outside the catalogue: names and formulas.
NAMES = {"hebench", "JSON", "CSV", "BibTeX", "doctype", "html"}


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_say_nothing_outside_the_catalogue(path: Path) -> None:
    text = re.sub(r"\{%.*?%\}|\{\{.*?\}\}", " ", read(path), flags=re.DOTALL)
    text = re.sub(r"<(pre|style|mtext|m[ion])\b.*?</\1>", " ", text, flags=re.DOTALL)
    spoken = re.findall(
        r"""\b(?:aria-label|title|alt|placeholder)="([^"]*[^\W\d_]{2}[^"]*)\"""", text
    )
    words = set(re.findall(r"[^\W\d_]{2,}", re.sub(r"<[^>]*>", " ", text)))
    assert spoken == [] and words <= NAMES, (spoken, words - NAMES)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_say_nothing_outside_the_catalogue(path: Path) -> None:
    found = re.findall(r"""["'`]([^"'`\n]*)["'`]""", read(path))
    assert not [text for text in found if re.search("[א-ת]{2}", text)]
    tests = {"undefined: one independent unit"}  # a code that Python's tests have, too
    assert not [
        text for text in set(found) - tests if re.search(r"[A-Za-z]{2,} [a-z]{2,} [a-z]{2,}", text)
    ]
