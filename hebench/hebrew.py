"""Hebrew text as data: points, marks, punctuation, normalisation profiles and words.

Two profiles of normalisation are offered and named wherever a score is printed:

- ``reference``: what the published HeQ scorers do (SQuAD's rules: lower case, ASCII
  punctuation and English articles out). Hebrew marks stay, so צה״ל and צה"ל differ.
- ``hebrew``: what a Hebrew reader would call the same answer: points, cantillation, geresh,
  gershayim and quotation marks out, maqaf and dashes to spaces, final letters folded.

    >>> normalise('בֵּית־סֵפֶר', "hebrew")
    'בית ספר'
    >>> words('ד״ר לוי גר בתל־אביב, ליד צה"ל.')
    ['ד״ר', 'לוי', 'גר', 'בתל', 'אביב', 'ליד', 'צה״ל']
"""

import functools
import re
import string
import unicodedata
from itertools import groupby, islice
from typing import Literal

Profile = Literal["reference", "hebrew"]

MAQAF = "\u05be"
GERESH = "\u05f3"
GERSHAYIM = "\u05f4"

# Marks on letters: cantillation U+0591-05AF; points U+05B0-05BD, 05BF, 05C1-05C2, 05C4-05C5,
# 05C7. The block also holds three characters that are punctuation and not marks (maqaf 05BE,
# paseq 05C0, sof pasuq 05C3) and nun hafukha 05C6: a plain range would join words at a maqaf.
_MARKS = re.compile("[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7]")
_BIDI_CONTROLS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200d\u2060\ufeff]")
_DASHES = re.compile(f"[{MAQAF}\u2010-\u2015\u2212-]")
_SINGLE_QUOTES = f"{GERESH}'`\u00b4\u2018\u2019\u201b\u2032"
_DOUBLE_QUOTES = f'{GERSHAYIM}"\u201c\u201d\u201e\u201f\u2033'
_QUOTES = re.compile(f"[{_SINGLE_QUOTES}{_DOUBLE_QUOTES}]")
_LETTER = "[^\\W\\d_]"
# Single quotes around words; a geresh stands between letters, or ends a word that none opens.
_SINGLE_QUOTED = re.compile(
    rf"(?<!\w)[{_SINGLE_QUOTES}](?=\S)"
    rf"((?:[^{_SINGLE_QUOTES}\n]|(?<={_LETTER})[{_SINGLE_QUOTES}](?={_LETTER}))+)"
    rf"(?<=\S)[{_SINGLE_QUOTES}](?!\w)"
)
_FINAL_LETTERS = str.maketrans("ךםןףץ", "כמנפצ")
_MOST_MARKS = 30  # in a row: the limit of Unicode's Stream-Safe Text Format (UAX #15)
_ENGLISH_ARTICLES = re.compile(r"\b(a|an|the)\b")
_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)

# A word keeps one mark between letters (צה״ל, ג׳ירפה, it's) and a geresh at its end (וכו׳);
# a number keeps its separators (1,250; 7.5; 12.3.2021) and a percent sign.
_WORD = re.compile(
    rf"\d+(?:[.,:/]\d+)*%?"
    rf"|{_LETTER}+(?:[{GERESH}{GERSHAYIM}]{_LETTER}+)*{GERESH}?"
)


def strip_marks(text: str) -> str:
    """Return `text` without points and cantillation; maqaf, paseq and sof pasuq stay.

    Time is linear in the text, whatever it holds: see `limit_marks`.
    """
    return _MARKS.sub("", unicodedata.normalize("NFC", limit_marks(text)))


def limit_marks(text: str) -> str:
    """Return `text` with 30 combining characters in a row at most; the rest of a row goes.

    Normalisation sorts a row in quadratic time, and no language has one as long: call this
    before a stranger's whole document is normalised.
    """
    return _long_rows().sub(_shortened, text)


@functools.cache
def _long_rows() -> re.Pattern[str]:
    """Match rows that may be too long; `_shortened` looks at their characters."""
    marks = "".join(filter(_is_mark, map(chr, range(0x300, 0x10000))))
    # Above U+FFFF a class is tried character by character: one range, wider than marks, is faster.
    one = f"[{marks}\U00010000-\U0001efff]"
    return re.compile(f"{one}{one}{{{_MOST_MARKS},}}")


def _is_mark(char: str) -> bool:
    """Return whether normalisation may move a character, or the first that it is made of."""
    return unicodedata.combining(unicodedata.normalize("NFKD", char)[0]) > 0


def _shortened(row: re.Match[str]) -> str:
    return "".join(
        "".join(islice(chars, _MOST_MARKS) if marks else chars)
        for marks, chars in groupby(row[0], _is_mark)
    )


def strip_bidi_controls(text: str) -> str:
    """Return `text` without the characters that only steer the direction of display."""
    return _BIDI_CONTROLS.sub("", text)


def fold_final_letters(text: str) -> str:
    """Return `text` with final letters in their usual form (ם as מ)."""
    return text.translate(_FINAL_LETTERS)


def normalise(text: str, profile: Profile) -> str:
    """Return `text` under a named profile, words separated by single spaces.

    Normalising twice changes nothing. The order of the ``hebrew`` steps matters: the maqaf
    becomes a space before marks go, or compound words would merge; quotation marks go before
    other punctuation, which becomes a space, so that צה״ל stays one word.

    Raises ValueError for an unknown profile. ``reference`` is the normalisation of SQuAD 1.1's
    evaluation script, which google-research/mrl_eval applies to HeQ.
    """
    if profile == "reference":
        text = text.lower().translate(_ASCII_PUNCTUATION)
        return " ".join(_ENGLISH_ARTICLES.sub(" ", text).split())
    if profile == "hebrew":
        text = unicodedata.normalize("NFKC", limit_marks(text))
        text = _INVISIBLE.sub("", strip_bidi_controls(text))
        text = _DASHES.sub(" ", text)
        text = _MARKS.sub("", text)
        text = _QUOTES.sub("", text).translate(_FINAL_LETTERS).casefold()
        kept = (" " if unicodedata.category(char)[0] in "PS" else char for char in text)
        return " ".join("".join(kept).split())
    raise ValueError(f"expected profile 'reference' or 'hebrew', found {profile!r}")


def words(text: str) -> list[str]:
    """Return the words and numbers of `text`, for metrics that count words.

    Marks go, ASCII and curly quotes inside a word become gershayim or geresh (so the two
    spellings of an acronym are one word), maqaf separates, punctuation and quotes around words
    are dropped.
    """
    text = strip_marks(_INVISIBLE.sub("", strip_bidi_controls(text)))
    text = re.sub(rf"(?<={_LETTER})[{_DOUBLE_QUOTES}](?={_LETTER})", GERSHAYIM, text)
    text = _SINGLE_QUOTED.sub(r"\1", text)
    text = re.sub(rf"(?<={_LETTER})[{_SINGLE_QUOTES}]", GERESH, text)
    return [word.lower() for word in _WORD.findall(text)]
