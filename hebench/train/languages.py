"""The language that a model learns: its letters, its words, how its text is normalised.

The recipe does not know Hebrew; it knows a `Language`. Another language is another entry here
and a recipe that names it.

    >>> LANGUAGES["he"].share("שלום world")
    0.4444444444444444
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from hebench import hebrew
from hebench.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Language:
    """What the training stages must know about a language.

    letters: of its script, as the inside of a regular expression's class. marks: characters that
    belong to its words without being letters (points, geresh), in the same form. strip: takes
    from a text what its normal spelling leaves out, for the comparison of words with a list.
    """

    code: str  # ISO 639-1
    name: str  # in English
    letters: str
    marks: str = ""
    strip: Callable[[str], str] = field(default=str)
    placeholder: str = "<foreign>"  # stands for a span in a language that is not wanted

    @cached_property
    def letter(self) -> re.Pattern[str]:
        """Match one letter of the script."""
        return re.compile(f"[{self.letters}]")

    @cached_property
    def own(self) -> re.Pattern[str]:
        """Match text made of the script's letters and marks alone."""
        return re.compile(f"[{self.letters}{self.marks}]+")

    def share(self, text: str) -> float:
        """Return the share of the text's letters that are of this script, in [0, 1].

        Digits, punctuation and spaces do not count; a text without letters has share 0.
        """
        letters = sum(unicodedata.category(char)[0] == "L" for char in text)
        return len(self.letter.findall(text)) / letters if letters else 0.0


LANGUAGES = {
    "he": Language(
        code="he",
        name="Hebrew",
        letters="\u05d0-\u05ea\u05ef-\u05f2\ufb1d\ufb1f-\ufb28\ufb2a-\ufb4f",
        # Points, cantillation, maqaf, geresh, gershayim: the marks inside Hebrew words.
        marks="\u0591-\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u05f3\u05f4",
        strip=hebrew.strip_marks,
    ),
    "el": Language(
        code="el",
        name="Greek",
        letters="\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03ce\u1f00-\u1fbc\u1fc2-\u1ffc",
        marks="\u0300\u0301\u0308\u0342\u0345",
    ),
}


def language(code: str) -> Language:
    """Return a language by its code. Raises ConfigError for one that is not described here."""
    if code not in LANGUAGES:
        known = ", ".join(LANGUAGES)
        raise ConfigError(
            f"language {code!r} is not described; known are {known}; "
            "add it to hebench/train/languages.py"
        )
    return LANGUAGES[code]
