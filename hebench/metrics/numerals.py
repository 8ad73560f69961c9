"""Whole numbers in running text: in digits, and in Hebrew words of both genders.

    >>> [found.value for found in in_digits("1,250 ש״ח ועוד 42.0")]
    [1250, 42]
    >>> [found.value for found in in_words("שלוש מאות אלף ועשרים")]
    [300020]

Only recognition: which of a text's numbers is its answer is for `extract.number` to say. A
fraction, a time or a date is a number that cannot be read as a whole one, and yields None
rather than a part of itself.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

_UNITS = {
    1: "אחת אחד",
    2: "שתיים שתים שתי שניים שני",
    3: "שלוש שלושה שלושת",
    4: "ארבע ארבעה ארבעת",
    5: "חמש חמישה חמשה חמשת חמישת",
    6: "שש שישה ששה ששת שישת",
    7: "שבע שבעה שבעת",
    8: "שמונה שמונת",
    9: "תשע תשעה תשעת",
}
_TENS = {
    20: "עשרים",
    30: "שלושים",
    40: "ארבעים",
    50: "חמישים חמשים",
    60: "שישים ששים",
    70: "שבעים",
    80: "שמונים",
    90: "תשעים",
}
# The kind of a word, one letter in the grammar below, and its value.
_WORDS = {
    **{word: ("u", value) for value, row in _UNITS.items() for word in row.split()},
    **{word: ("T", value) for value, row in _TENS.items() for word in row.split()},
    "שנים": ("y", 2),  # in שנים עשר; elsewhere it is "years"
    **dict.fromkeys(("עשר", "עשרה", "עשרת"), ("t", 10)),
    "מאה": ("h", 100),
    "מאתיים": ("h", 200),
    "מאות": ("H", 100),
    "אלף": ("k", 1_000),
    "אלפים": ("K", 1_000),
    "אלפיים": ("D", 2_000),
    "מיליון": ("M", 1_000_000),
    "מיליארד": ("M", 1_000_000_000),
    "אפס": ("z", 0),
    "מינוס": ("-", 0),
    **dict.fromkeys(("חצי", "רבע", "שליש", "רבעי", "רבעים", "שלישים"), ("f", 0)),
}
_WORD_PREFIX = re.compile("[וש]?[בכלהמ]|ו?ש")
# Not numbers: the second, each one, no one, Beersheba, Monday.
_NO_NUMBER = re.compile("השני|(?:ש?[בלמ]?כל|ש?אף|שום) (?:אחד|אחת)|[בלמ]?באר שבע|[בלמ]?יום שני")
# Each word is two characters: how it is joined (+ by ו, ^ by another prefix, or a blank) and its
# kind. Groups are atomic: a word that begins the next number is not taken into this one.
_BELOW_100 = "(?>[uy] t|T(?:[ +]u(?! [Ht]))?|[ut])"
_BELOW_1000 = f"(?>(?:u H|h)(?:[ +]{_BELOW_100}(?! H))?|{_BELOW_100})"
_THOUSANDS = f"(?>{_BELOW_1000} [kK]|k|D)"
_REST = f"(?:[ +]{_BELOW_1000}(?! [kKM]))?"
_NUMBER = re.compile(
    f"(?P<minus> -)?[ +^](?P<words>(?>(?:{_BELOW_1000} )?M(?:[ +]{_BELOW_1000} M)?"
    f"(?:[ +]{_THOUSANDS}(?! M))?{_REST}|{_THOUSANDS}{_REST}|{_BELOW_1000}|z))(?P<part>[ +]f)?"
    "|[ +^]f(?: [kKM])?"
)
_TOKEN = re.compile(r"[א-ת]+|[^\sא-ת־-]+")

_SCALES = {
    "אלף": 10**3,
    "אלפים": 10**3,
    "thousand": 10**3,
    "מיליון": 10**6,
    "מיליוני": 10**6,
    "million": 10**6,
    "מיליארד": 10**9,
    "billion": 10**9,
}
_DIGITS = re.compile(
    r"(?<![A-Za-z0-9_^])(?P<minus>(?<![\w)%])[-−]|(?<![א-ת])מינוס )?"
    r"(?P<body>[0-9]{1,3}(?: [0-9]{3})+(?![0-9])[0-9.,:/^]*"
    r"|(?:(?<!\S)\.)?[√½¼¾⅓⅔]?[0-9][0-9.,:/^²³½¼¾⅓⅔⁄]*|[½¼¾⅓⅔])"
    rf"(?:(?<=[0-9]) ?(?P<scale>{'|'.join(sorted(_SCALES, reverse=True))})(?![א-תa-z]))?"
    r"(?P<part> ו(?:חצי|רבע|שליש|שלושה רבעים|שלושת רבעי)(?![א-ת])|[kKM](?![A-Za-z]))?"
)
_PLAIN_NUMBER = re.compile(r"(?:[0-9]{1,15}|[0-9]{1,3}(?:,[0-9]{3}){1,4})(?:\.[0-9]{1,2})?")


@dataclass(frozen=True)
class Number:
    """A number in a text; `value` is None where it is not whole, or cannot be read for certain."""

    value: int | None
    begin: int
    end: int


def in_digits(text: str) -> Iterator[Number]:
    """Yield the numbers that `text` writes in digits, in order."""
    for found in _DIGITS.finditer(text):
        body = found["body"].rstrip(".,:/").replace(" ", "")
        value = None
        if _PLAIN_NUMBER.fullmatch(body) and not found["part"]:
            exact = Decimal(body.replace(",", "")) * _SCALES.get(found["scale"] or "", 1)
            value = int(exact) if exact == int(exact) else None
        if value is not None and found["minus"]:
            value = -value
        yield Number(value, found.start(), found.end())


def in_words(text: str) -> Iterator[Number]:
    """Yield the numbers that `text` writes in Hebrew words, in order."""
    tokens = list(_TOKEN.finditer(text))
    words = [token.group() for token in tokens]
    read = [
        _read_word(word, words[place - 1] if place else "", words[place + 1 : place + 2])
        for place, word in enumerate(words)
    ]
    for found in _NUMBER.finditer("".join(joined + kind for joined, kind, _ in read)):
        begin, end = found.start() // 2, found.end() // 2
        value = None
        if found["words"] and not found["part"]:
            value = _sum(read[found.start("words") // 2 : end])
            value = -value if found["minus"] else value
        yield Number(value, tokens[begin].start(), tokens[end - 1].end())


def _read_word(word: str, before: str, after: Sequence[str]) -> tuple[str, str, int]:
    """Return how a word is joined, its kind ("." for any that is no number) and its value."""
    no_number = (" ", ".", 0)
    of_them = word in ("אחד", "אחת") and after and after[0][0] == "מ" and after[0] not in _WORDS
    if of_them or _NO_NUMBER.fullmatch(word) or _NO_NUMBER.fullmatch(f"{before} {word}"):
        return no_number
    if word in _WORDS:
        return (" ", *_WORDS[word])
    if word[0] == "ו" and word[1:] in _WORDS:
        return ("+", *_WORDS[word[1:]])
    for cut in (1, 2):
        if _WORD_PREFIX.fullmatch(word[:cut]) and word[cut:] in _WORDS:
            return ("^", *_WORDS[word[cut:]])
    return no_number


def _sum(words: Sequence[tuple[str, str, int]]) -> int:
    """Return the value of the words of one number: שלוש מאות אלף ועשרים is 300,020."""
    total = below_1000 = 0
    for _, kind, value in words:
        if kind in "kKM":
            total, below_1000 = total + max(below_1000, 1) * value, 0
        elif kind == "D":
            total += value
        else:
            below_1000 = below_1000 * value if kind == "H" else below_1000 + value
    return total + below_1000
