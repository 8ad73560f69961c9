"""Scores for adding points (nikud) to Hebrew text.

    >>> found = compare("שָׁלוֹם", "שַׁלוֹם")
    >>> found.letters, found.letters_right, found.words_right
    (4, 3, 0)

The letters must survive: a word whose letters or punctuation changed is wrong throughout, and a
text with another number of words is wrong altogether. What is compared is, for each Hebrew letter,
three decisions: its vowel, its dagesh (or mappiq, or the dot of shuruk), its shin or sin dot.
Styles of pointing differ where readers do not care: a shva may be written or not, a dagesh in a
letter whose sound it does not change, too. Accuracy is given with and without these. Any shva
counts as such: a silent one and a sounded one are the same mark.

The decisions follow Gershuni and Pinter 2022 (Nakdimon, NAACL Findings): DEC, CHA, WOR.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from hebench.hebrew import limit_marks, strip_marks

DAGESH = "\u05bc"
SHVA = "\u05b0"
_SHIN_DOTS = "\u05c1\u05c2"
_VOWELS = "\u05b0\u05b1\u05b2\u05b3\u05b4\u05b5\u05b6\u05b7\u05b8\u05b9\u05ba\u05bb\u05c7"
# Gutturals, resh and most final letters take no dagesh; he may hold a mappiq.
_TAKES_DAGESH = frozenset("בגדהוזטיכךלמנספףצקשת")
# In these letters the dot is heard: b/v, k/kh, p/f, and u (or a consonant) in vav.
_DAGESH_HEARD = frozenset("בכךפףו")
_LETTER = re.compile("[א-ת]")
# Meteg and rafe decide nothing here, and would stand between a shin and its dot.
_SPELLINGS = str.maketrans({"\u05ba": "\u05b9", "\u05c7": "\u05b8", "\u05bd": None, "\u05bf": None})


@dataclass(frozen=True, kw_only=True)
class Pointing:
    """Counts of one text: how much there was to decide, and how much of it was right."""

    words: int
    words_right: int
    letters: int
    letters_right: int
    decisions: int
    decisions_right: int
    plain_decisions: int  # without any shva and unheard dagesh
    plain_decisions_right: int
    letters_kept: bool


def compare(reference: str, prediction: str) -> Pointing:
    """Return how far `prediction` points the letters of `reference` as `reference` does.

    Words are separated by white space. Qamats qatan counts as qamats, and holam haser for vav
    as holam: few texts write them apart. Meteg and rafe count for nothing.
    """
    wanted = _normal(reference).split()
    found = _normal(prediction).split()
    kept = [strip_marks(word) for word in wanted] == [strip_marks(word) for word in found]
    counts = [0] * 8
    for place, word in enumerate(wanted):
        other = found[place] if len(found) == len(wanted) else ""
        for index, value in enumerate(_compare_word(word, other)):
            counts[index] += value
    return Pointing(
        words=counts[0],
        words_right=counts[1],
        letters=counts[2],
        letters_right=counts[3],
        decisions=counts[4],
        decisions_right=counts[5],
        plain_decisions=counts[6],
        plain_decisions_right=counts[7],
        letters_kept=kept,
    )


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Return the metrics of one pointed text, for lm-eval; `score` is accuracy by word.

    `doc` holds `target`, the pointed text.
    """
    found = compare(doc["target"], results[0].strip())
    by_word = found.words_right / found.words
    return {
        "score": by_word,
        "word_accuracy": by_word,
        "letter_accuracy": found.letters_right / found.letters,
        "decision_accuracy": found.decisions_right / found.decisions,
        "plain_decision_accuracy": found.plain_decisions_right / found.plain_decisions,
        "letters_kept": float(found.letters_kept),
    }


def _normal(text: str) -> str:
    """Return `text` with one order and one spelling of marks."""
    return unicodedata.normalize("NFC", limit_marks(text)).translate(_SPELLINGS)


def _letters(word: str) -> list[tuple[str, str]]:
    """Return (Hebrew letter, its marks) in order."""
    return re.findall(f"([א-ת])([{_VOWELS}{DAGESH}{_SHIN_DOTS}]*)", word)


def _compare_word(word: str, other: str) -> tuple[int, int, int, int, int, int, int, int]:
    """Return words, right, letters, right, decisions, right, plain decisions, right."""
    if not _LETTER.search(word):
        return (0,) * 8
    same_letters = strip_marks(word) == strip_marks(other)
    letters = letters_right = decisions = decisions_right = plain = plain_right = 0
    found = _letters(other) if same_letters else []
    for place, (letter, marks) in enumerate(_letters(word)):
        wanted = _decide(letter, marks)
        given = _decide(*found[place]) if same_letters else {}
        letters += 1
        letters_right += wanted == given
        decisions += len(wanted)
        decisions_right += sum(given.get(kind) == value for kind, value in wanted.items())
        wanted_plain, given_plain = _plain(letter, wanted), _plain(letter, given)
        plain += len(wanted_plain)
        plain_right += sum(
            kind in given_plain and given_plain[kind] == value
            for kind, value in wanted_plain.items()
        )
    right = letters == letters_right
    return (
        1,
        int(right),
        letters,
        letters_right,
        decisions,
        decisions_right,
        plain,
        plain_right,
    )


def _decide(letter: str, marks: str) -> dict[str, str]:
    """Return the decisions that a letter asks for, by kind."""
    found = {"vowel": "".join(sorted(mark for mark in marks if mark in _VOWELS))}
    if letter in _TAKES_DAGESH:
        found["dagesh"] = DAGESH if DAGESH in marks else ""
    if letter == "ש":
        found["shin"] = "".join(mark for mark in marks if mark in _SHIN_DOTS)
    return found


def _plain(letter: str, decided: dict[str, str]) -> dict[str, str]:
    """Return the decisions that every style of pointing shares."""
    kept = {
        kind: value
        for kind, value in decided.items()
        if kind != "dagesh" or letter in _DAGESH_HEARD
    }
    if kept.get("vowel") == SHVA:
        kept["vowel"] = ""
    return kept
