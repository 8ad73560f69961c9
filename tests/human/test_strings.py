"""The catalogue of the rating pages is whole, and every string of it is used."""

import re
from itertools import chain
from pathlib import Path
from string import Formatter
from typing import Any, get_args

import pytest

from hebench import human
from hebench.catalogue import LANGUAGES, Texts, catalogue
from hebench.human import access, study
from hebench.human.access import ROLES
from hebench.human.ballot import DIMENSION_OUTCOMES
from hebench.human.blinding import What
from hebench.human.claims import Status
from hebench.human.dashboard import ALPHA_REASONS, NEEDED_REASONS, REASONS
from hebench.human.owner import EXPORTS
from hebench.human.pages import SWITCHES
from hebench.human.store import LATE
from hebench.human.values import VERDICTS
from hebench.stats.votes import NOTES

FOLDER = Path(human.__file__).parent
KEYS = catalogue("hebench.human")
SOURCES = sorted(chain(FOLDER.glob("templates/*.html"), FOLDER.glob("*.py")))
SCRIPT = (FOLDER / "static" / "rate.js").read_text(encoding="utf-8")
HEBREW = re.compile("[א-ת]")

# Keys that are put together: before the star, and what may stand in its place.
MADE: dict[str, set[str]] = {
    "nav.": {"work", "history", "data", "results", "invites"},
    "view.": set(SWITCHES),
    "rating.answer.": {"first", "second", "only"},
    "outcome.": set(study.OUTCOMES),
    "dimension.": set(DIMENSION_OUTCOMES),
    "verdict.": set(VERDICTS),
    "denied.": set(get_args(access.Denied)),
    "error.": {"400", "403", "404", "429"},
    "owner.state.": {"open", "closed"},
    "owner.stop.": {"reached", "not_reached"},
    "owner.count.": {
        *("votes", "answered", "slots", "raters", "joined", "leased"),
        *("corrections", "excluded", "forgotten"),
    },
    "owner.word.": {"marked", "clean", "cannot_judge", *VERDICTS},
    "owner.alpha.": set(ALPHA_REASONS.values()),
    "owner.gap.": set(NEEDED_REASONS.values()),
    "owner.note.": set(NOTES),
    "owner.agreement_on.": {"outcome", "marked", "verdict"},
    "owner.rater.": {
        *("rater", "votes", "excluded", "seconds", "first", "ties", "severity", "agrees"),
        *("gold", "attention", "repeats", "fast", "act"),
    },
    "owner.why.": set(REASONS),
    "owner.export.": {name.split(".")[0] for name in EXPORTS},
    "owner.seen.": set(get_args(What)),
    "role.": set(ROLES),
    "js.not_counted_": set(LATE),
    **{f"status.{word}.": {"title", "text"} for word in (*get_args(Status), "offline")},
}
WANTED = {before + word for before, words in MADE.items() for word in words}


def forms(key: str, language: str) -> dict[str, str]:
    value: Any = KEYS[key][language]
    return value if isinstance(value, dict) else {"": value}


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def used() -> set[str]:
    """Keys that stand in full in a source; the script's without their prefix."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    full = set(re.findall(r"""["']([a-z_]+\.[a-z0-9_.]+)["']""", text))
    return full | {f"js.{word}" for word in re.findall(r"""[("'. ?:]([a-z_]+)["',);.]""", SCRIPT)}


def test_every_key_that_is_asked_for_is_there() -> None:
    missing = WANTED - set(KEYS)
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        asked = re.findall(
            r"""(?<!\w)[tp]\(["']([\w.]+)["'][,)]|(?:text|plain)\("([\w.]+)"\)""", text
        )
        missing |= {key for pair in asked for key in pair if key} - set(KEYS)
    asked_by_script = re.findall(r'\bsay\("(\w+)"|strings\.(\w+)', SCRIPT)
    missing |= {f"js.{key}" for pair in asked_by_script for key in pair if key} - set(KEYS)
    assert missing == set()


def test_no_key_is_unused() -> None:
    assert set(KEYS) - WANTED - used() == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_string_is_there_in_all_its_forms(language: str) -> None:
    needed = {"he": {"one", "two", "other"}, "en": {"one", "other"}}[language]
    for key, value in KEYS.items():
        assert set(value) == set(LANGUAGES), key
        assert set(forms(key, language)) in ({""}, needed), key
        texts = Texts("hebench.human", language)
        for text in forms(key, language).values():
            assert (text and text.strip() == text) or text.startswith(","), key
        values = {name: "x" for text in forms(key, language).values() for name in places(text)}
        for n in (1, 2, 5):
            assert "{" not in texts.text(key, **(values | {"n": n})), key


def test_both_languages_name_the_same_values() -> None:
    for key in KEYS:
        wanted = places(forms(key, "en").get("other", forms(key, "en").get("", "")))
        for language in LANGUAGES:
            for form, text in forms(key, language).items():
                few = form in {"one", "two"}
                assert places(text) <= wanted if few else places(text) == wanted, key


def test_hebrew_is_hebrew_and_english_is_english() -> None:
    for key in KEYS:
        for text in forms(key, "he").values():
            words = re.sub(r"\{\w+\}", "0", text)
            assert HEBREW.search(words) or not re.search("[A-Za-z]", words), key
            assert not re.search(r"[\"'“”’]|[א-ת]-[א-ת]|  ", words), (key, text)
        for text in forms(key, "en").values():
            assert key == "language.name" or not HEBREW.search(text), key
            assert not re.search(r"[\"']|  ", text), (key, text)


@pytest.mark.parametrize(
    "path", sorted(FOLDER.glob("templates/*.html")), ids=lambda path: path.name
)
def test_templates_say_nothing_outside_the_catalogue(path: Path) -> None:
    text = re.sub(r"\{#.*?#\}", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"\{%.*?%\}|\{\{.*?\}\}", " ", text, flags=re.DOTALL)
    words = set(re.findall(r"[^\W\d_]{2,}", re.sub(r"<[^>]*>", " ", text)))
    assert words <= {"doctype", "html"}, words
