"""Edits of one document: markup, control characters, private data, other languages, repetition.

Each rule is a function from text to text that tells an `Edits` what it changed. Text that a rule
is not about comes through untouched: points, geresh, gershayim and maqaf, a lone "<", prices,
dates and numbers.

    >>> edit("טל׳ 03-1234567,&nbsp;<b>צה״ל</b> ב־12.3.2021", Rules(), language("he"), "he")[0]
    'טל׳ <phone>, צה״ל ב־12.3.2021'

The placeholders are those of the DictaLM 2.0 report; a model learns them as text, and a later
step may give each one a token.
"""

import functools
import html
import re
from collections import Counter
from collections.abc import Callable

from hebench.train.corpus.config import Rules
from hebench.train.languages import Language

EMAIL, PHONE, URL = "<email>", "<phone>", "<url>"
_CONTEXT = 40  # characters on each side of an example

# ---------------------------------------------------------------------------------- markup
_OPENING = re.compile(r"<!--|<(script|style)\b[^<>]{0,500}>", re.I)
_CLOSING = {
    "": re.compile("-->"),
    "script": re.compile(r"</script\s*>", re.I),
    "style": re.compile(r"</style\s*>", re.I),
}
_DECLARATION = re.compile(r"<!DOCTYPE[^<>]{0,500}>|<\?[a-z][^<>]{0,500}\?>", re.I)
_CDATA = re.compile(r"<!\[CDATA\[|\]\]>")
_BARE = "disabled|checked|selected|hidden|async|defer|controls|required|readonly|multiple|nowrap"
_TAG = re.compile(
    r"<(?=[^<>]{1,2000}>)(?P<end>/?)(?P<name>[a-z][\w:.-]*)"
    rf"""(?P<attributes>(?:\s++(?:[a-z_:][\w:.-]*+\s*+=\s*+(?:"[^"]*"|'[^']*'|[^\s"'<>=]+)|{_BARE}))*+)"""
    r"\s*+(?P<closed>/?)>",
    re.I | re.A,
)
# Tags that need no end tag; any other opening tag counts as one only if its end tag follows.
_ALONE = re.compile(r"br|hr|p|li|tr|t[dh]|d[dt]|img|input|meta|link")
_BREAKS = re.compile(
    r"br|hr|p|div|[uo]l|li|d[dlt]|tr|table|h[1-6]|section|article|header|footer|blockquote|pre"
    r"|title|body"
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[\da-f]{1,6}|[a-z][a-z\d]{1,31});", re.I)

# -------------------------------------------------------------------------------- controls
# Steering of direction and other characters without a shape. The joiners U+200C and U+200D stay:
# Persian and emoji are spelt with them. Lone surrogates cannot be written as UTF-8.
_CONTROLS = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_SPACES = re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")

# --------------------------------------------------------------------------------- privacy
_EMAIL = re.compile(
    r"(?<![\w.%+-])[a-z\d][\w.%+-]{0,63}@(?:[a-z\d-]{1,63}\.){1,8}[a-z]{2,24}(?![a-z\d])",
    re.I | re.A,
)
_PATH = r"""[/?#][^\s<>"“”„״«»]*"""
# In Latin letters, since a Hebrew word may be written against it; but what goes on to a dot and a
# letter is of the name itself (café-paris.fr), which then is in any letters.
_HOST = r"(?>[a-z\d](?:[a-z\d._-]*[a-z\d])?)(?![\w-]*\.[^\W\d_])|[^\W_](?:[\w.-]*[^\W_])?"
_URL = re.compile(
    rf"(?<![a-z\d])(?:(?:(?:https?|ftp)://(?:www\.)?|www\.)(?:{_HOST})(?::\d+)?(?:{_PATH})?"
    # Without a scheme only with a path: a site's bare name is a word of the sentence.
    r"|(?<![\w@./-])(?:[a-z\d-]{1,63}\.){1,4}(?:com|net|org|info|edu|gov|io|me|tv|il|uk|gr|eu)"
    rf"/[^\s<>\"“”„״«»]*)",
    re.I,
)
_AFTER_URL = ".,;:!?)]}'׳’*|"
_DASH = "[-\u2010-\u2013\u05be]"
# By country of the language: how its people write a phone number. Ten digits of a mobile phone
# may stand bare; shorter bare numbers are left, since ids and sums look like them.
_PHONES = {
    "he": (
        rf"\(0[23489]\) ?\d{{3}}[- ]?\d{{4}}|0[23489]{_DASH}\d{{3}}[- ]?\d{{4}}"
        rf"|0(?:5\d|7[2-9])(?:{_DASH}| )?\d{{3}}[- ]?\d{{4}}|05\d[.]\d{{3}}[.]\d{{4}}"
        r"|1-(?:700|800|801|599)-\d{3}-?\d{3}"
    ),
    "el": r"2\d{2,3}[- ]\d{6,7}|2\d{9}|69\d{2}[- ]?\d{6}",
}
# Digits are never given back (`+`): the ways to cut a long number in groups are thousands.
_ABROAD = r"\+\d{1,3}+\)?(?:[- ]?\(?\d{1,7}+\)?){1,5}"
_FEWEST_DIGITS_ABROAD = 10


class Edits:
    """What the rules changed in one document."""

    def __init__(self) -> None:
        """Start with nothing changed."""
        self.counts: Counter[str] = Counter()  # by rule
        self.script_share = 1.0  # of the letters before other languages were masked, in [0, 1]
        self.first: dict[str, tuple[str, str]] = {}  # by rule: the first place, before and after

    def add(self, rule: str, before: str, after: str) -> None:
        """Note one change; before and after: the place with a little of what stands around it."""
        self.counts[rule] += 1
        self.first.setdefault(rule, (before, after))


def edit(text: str, rules: Rules, target: Language | None, country: str) -> tuple[str, Edits]:
    """Return the text after all rules, and what they changed.

    target: the language whose script the text should be in, or None if its script is not judged.
    country: code of the language whose speakers' phone numbers are looked for.
    """
    edits = Edits()
    text = strip_markup(text, edits)
    text = strip_controls(text, edits)
    text = mask_private(text, country, edits)
    if target:
        edits.script_share = script_share(text, target)
        text = mask_foreign(text, target, rules.foreign_words, edits)
    return collapse_repeats(tidy(text), rules.max_repeats, edits), edits


def script_share(text: str, target: Language) -> float:
    """Return the share of the text's letters that are of the script, in [0, 1].

    As `target.share` on text without placeholders, but by runs of letters, for speed; numbers
    that are no digits (², Ⅷ) count as letters.
    """
    kept, letters, own = _letters(target)
    plain = kept.sub("", text)
    count = sum(map(len, letters.findall(plain)))
    return sum(map(len, own.findall(plain))) / count if count else 0.0


@functools.cache
def _letters(target: Language) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    kept = "|".join((EMAIL, PHONE, URL, target.placeholder))
    return re.compile(kept), re.compile(r"[^\W\d_]+"), re.compile(f"[{target.letters}]+")


def strip_markup(text: str, edits: Edits) -> str:
    """Return `text` without XML and HTML tags, and with entities as the characters they name.

    A tag is one by its grammar, and by being closed, void, or followed by its end tag: so
    `a < b`, `List<int>` and `<class 'int'>` stay.
    """
    if "<" in text:
        text = _without_code(text, edits)
        text = _replace(_DECLARATION, lambda _: "", text, "markup", edits)
        if "<![CDATA[" in text:
            text = _replace(_CDATA, lambda _: "", text, "markup", edits)
        ended = {name.lower() for name in re.findall(r"</([A-Za-z][\w:.-]*)", text, re.A)}
        text = _replace(_TAG, lambda match: _without_tag(match, ended), text, "markup", edits)
    for _ in range(3):  # crawled text is often escaped more than once
        if "&" not in text:
            break
        text = _replace(_ENTITY, lambda match: html.unescape(match[0]), text, "entities", edits)
    return text


def _without_code(text: str, edits: Edits) -> str:
    """Return `text` without comments, scripts and styles; what is never closed stays.

    One pass, where a pattern from opening to closing would look for each closing anew.
    """
    kept, done = [], 0
    unclosed: set[str] = set()
    for opening in _OPENING.finditer(text):
        name = (opening[1] or "").lower()
        if opening.start() < done or name in unclosed:
            continue
        closing = _CLOSING[name].search(text, opening.end())
        if closing is None:
            unclosed.add(name)
            continue
        kept.append(text[done : opening.start()])
        done = closing.end()
        edits.add("markup", text[opening.start() : done][: 4 * _CONTEXT], "")
    return "".join([*kept, text[done:]])


def _without_tag(match: re.Match[str], ended: set[str]) -> str:
    name = match["name"].lower()
    marked = match["end"] or match["closed"] or match["attributes"]
    if not (marked or _ALONE.fullmatch(name) or name in ended):
        return match[0]
    return "\n" if _BREAKS.fullmatch(name) else " " if name in {"td", "th"} else ""


def strip_controls(text: str, edits: Edits) -> str:
    """Return `text` without control characters, with plain spaces and line ends."""
    text = _replace(_LINE_ENDS, lambda _: "\n", text, "line ends", edits)
    text = _replace(_SPACES, lambda _: " ", text, "spaces", edits)
    return _replace(_CONTROLS, lambda _: "", text, "controls", edits)


def mask_private(text: str, country: str, edits: Edits) -> str:
    """Return `text` with placeholders for addresses of mail and web, and for phone numbers."""
    if "@" in text:
        text = _replace(_EMAIL, lambda _: EMAIL, text, "email", edits)
    if "/" in text or "www." in text:
        text = _replace(_URL, _without_url, text, "url", edits)
    return _replace(_phones(country), _without_phone, text, "phone", edits)


def _without_url(match: re.Match[str]) -> str:
    url = match[0]
    end = len(url)
    unopened = url.count(")") - url.count("(")
    while (last := url[end - 1]) in _AFTER_URL and (last != ")" or unopened > 0):
        unopened -= last == ")"
        end -= 1
    return URL + url[end:]


@functools.cache
def _phones(country: str) -> re.Pattern[str]:
    national = _PHONES.get(country)
    numbers = f"{_ABROAD}|{national}" if national else _ABROAD
    # A short number after a slash is one more line of the same phone.
    return re.compile(rf"(?<![\d+])(?<!\d[-./,:])(?:{numbers})(?:/\d{{1,3}})?(?!\d)(?![-./,:]\d)")


def _without_phone(match: re.Match[str]) -> str:
    number = match[0]
    if number[0] == "+" and sum(map(str.isdigit, number)) < _FEWEST_DIGITS_ABROAD:
        return number
    return PHONE


def mask_foreign(text: str, target: Language, words: int, edits: Edits) -> str:
    """Return `text` with the language's placeholder for spans of `words` or more foreign words.

    Words of one letter do not count (they are mostly symbols), nor do the placeholders. Names,
    titles and terms of a few words stay: they belong to the sentence.
    """
    span, word = _foreign(target, words)

    def placeholder(match: re.Match[str]) -> str:
        if match["span"] is None or len(word.findall(match["span"])) < words:
            return match[0]
        return target.placeholder + _unopened(match["span"], match["close"])

    return _replace(span, placeholder, text, "foreign", edits)


@functools.cache
def _foreign(target: Language, words: int) -> tuple[re.Pattern[str], re.Pattern[str]]:
    letter = rf"[^\W\d_{target.letters}]"
    word, gap = rf"{letter}++(?:['’]{letter}++)*+", r"(?:[^\w<>]|[\d_]){1,20}"
    kept = "|".join((EMAIL, PHONE, URL, target.placeholder))
    # Never from inside a word: what fails at its beginning fails there, too, letter by letter.
    begin = rf"(?<!{letter})(?<!{letter}['’])"
    span = rf"""(?P<span>{word}(?:{gap}{word}){{{words - 1},}})(?P<close>[)\]"]{{0,4}})"""
    return re.compile(f"{kept}|{begin}{span}"), re.compile(letter + "{2,}")


def _unopened(span: str, close: str) -> str:
    """Return `close` without the brackets and quotes at its start that were opened in `span`."""
    opened = {")": span.count("(") - span.count(")"), "]": span.count("[") - span.count("]")}
    opened['"'] = span.count('"') % 2
    for place, char in enumerate(close):
        if opened[char] <= 0:
            return close[place:]
        opened[char] -= 1
    return ""


def tidy(text: str) -> str:
    """Return `text` with single spaces, none at the ends of lines, and one empty line at most."""
    if "\t" in text:
        text = text.replace("\t", " ")
    if "  " in text:
        text = re.sub("  +", " ", text)
    if " \n" in text or "\n " in text:
        text = re.sub(" \n ?|\n ", "\n", text)
    if "\n\n\n" in text:
        text = re.sub("\n{3,}", "\n\n", text)
    return text.strip()


def collapse_repeats(text: str, most: int, edits: Edits) -> str:
    """Return `text` with the first of paragraphs that stand more than `most` times in a row.

    A paragraph is a line; empty lines between equal ones do not part them.
    """
    lines = text.split("\n")
    kept: list[str] = []
    run: list[int] = []  # where in `kept` the equal paragraphs stand
    for line in [*lines, None]:
        if line == "":
            kept.append(line)
            continue
        if run and line == kept[run[0]]:
            run.append(len(kept))
        else:
            if len(run) > most:
                edits.add("repeats", "\n".join(kept[run[0] :])[: 4 * _CONTEXT], kept[run[0]])
                kept[run[0] + 1 :] = [""] if kept[-1] == "" else []
            run = [len(kept)]
        if line is not None:
            kept.append(line)
    return "\n".join(kept).strip() if len(kept) < len(lines) else text


def _replace(
    pattern: re.Pattern[str],
    new: Callable[[re.Match[str]], str],
    text: str,
    rule: str,
    edits: Edits,
) -> str:
    """Return `text` with every match replaced, and the changes noted."""

    def replacement(match: re.Match[str]) -> str:
        put = new(match)
        if put != match[0]:
            left = text[max(match.start() - _CONTEXT, 0) : match.start()]
            right = text[match.end() : match.end() + _CONTEXT]
            shown = match[0] if len(match[0]) <= 4 * _CONTEXT else match[0][: 4 * _CONTEXT] + "…"
            edits.add(rule, left + shown + right, left + put + right)
        return put

    return pattern.sub(replacement, text)
