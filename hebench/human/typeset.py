"""Texts that raters read, as HTML: everything shown, nothing obeyed.

A model's answer is never HTML or Markdown here. Each paragraph finds its own direction; code,
numbers and Latin words inside Hebrew are isolated, so that `C++` does not turn into `++C`, nor
`9,000` into `000,9`; characters that would reorder or hide text stand as their code point; points
and cantillation are wrapped so that a style sheet can hide them; a masked name has a name for
screen readers.

    >>> typeset("קוד ב־C++.", masked="שם מוסתר")
    Markup('<p dir="auto" data-at="0">קוד ב־<bdi dir="ltr">C++</bdi>.</p>')

The page's text is the original's, code point for code point, but that a control character (class
`control`) reads U+202E: `data-at` says where in the original a block begins, and static/spans.js
counts from there.
"""

import re
from collections.abc import Iterator

from markupsafe import Markup, escape

from hebench.human.masking import MASK

_FENCE = "```"
_HEBREW = re.compile("[\u05d0-\u05ea]")
# All that is not printed but the tab, and the joiners of emoji.
_CONTROL = (
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ue000-\uf8ff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_LATIN_WORD = r"[#$€£₪]?[A-Za-z0-9](?:[A-Za-z0-9_.,+#%/:@&'’-]*[A-Za-z0-9+#%])?"
# Words join over a comma only in a phrase that begins with a letter: numbers that a Hebrew sentence
# lists run with the sentence, and what comes after "בשנת 2020," is another clause.
_LATIN = (
    rf"(?=[#$€£₪]?[A-Za-z]){_LATIN_WORD}(?:,? {_LATIN_WORD})*"
    rf"|{_LATIN_WORD}(?: {_LATIN_WORD})*"
)
_PLAIN = (
    rf"(?P<mask>{MASK})"
    "|(?P<nikud>[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7]+)"
    f"|(?P<control>{_CONTROL})"
)
_IN_CODE = re.compile(_PLAIN)
_IN_PROSE = re.compile(rf"{_PLAIN}|(?P<code>`[^`\n]+`)|(?P<latin>{_LATIN})")
_STOP = "[.!?…]"
_SENTENCE = re.compile(  # a run of stops is tried once, from its beginning: long ones take no time
    rf"(?:{_STOP}(?={_STOP})|[^\n]+?(?<!{_STOP})){_STOP}+[\"'”’״׳)\]]*(?=\s)|[^\n]+"
)


def typeset(text: str, *, masked: str) -> Markup:
    """Return a text as HTML blocks. masked: what a screen reader says for a masked name."""
    return Markup("").join(_block(*block, masked=masked) for block in _blocks(text))


def typeset_line(text: str, *, masked: str) -> Markup:
    """Return a piece of a text as HTML that may stand in a line."""
    return _inline(text, masked, _IN_PROSE)


def sentences(text: str) -> tuple[tuple[int, int], ...]:
    """Return where the sentences of a text stand: [start, end) in code points, none empty."""
    found = []
    for match in _SENTENCE.finditer(text):
        piece = match.group()
        start = match.start() + len(piece) - len(piece.lstrip())
        end = match.end() - len(piece) + len(piece.rstrip())
        if start < end:
            found.append((start, end))
    return tuple(found)


def _blocks(text: str) -> Iterator[tuple[int, str, bool]]:
    """Yield (place, text, whether it is code) for each paragraph and each fenced block."""
    place, fenced, begun = 0, False, 0
    code: list[str] = []
    for line in text.split("\n"):
        if line.lstrip().startswith(_FENCE):
            if not fenced:
                code, begun = [], place
            code.append(line)
            if fenced:
                yield begun, "\n".join(code), True
            fenced = not fenced
        elif fenced:
            code.append(line)
        elif line.strip():
            yield place, line.removesuffix("\r"), False
        place += len(line) + 1
    if fenced:
        yield begun, "\n".join(code), True


def _block(place: int, text: str, code: bool, *, masked: str) -> Markup:
    if code:
        inside = _inline(text, masked, _IN_CODE)
        return Markup('<pre dir="ltr" data-at="{}">{}</pre>').format(place, inside)
    inside = typeset_line(text, masked=masked)
    return Markup('<p dir="auto" data-at="{}">{}</p>').format(place, inside)


def _inline(text: str, masked: str, tokens: re.Pattern[str]) -> Markup:
    """Return a text without its line structure, each token as `_token` writes it."""
    mixed = bool(_HEBREW.search(text))
    parts, place = [], 0
    for match in tokens.finditer(text):
        parts.append(escape(text[place : match.start()]))
        parts.append(_token(str(match.lastgroup), match.group(), masked, mixed=mixed))
        place = match.end()
    return Markup("").join([*parts, escape(text[place:])])


def _token(kind: str, text: str, masked: str, *, mixed: bool) -> Markup:
    """Return one token. mixed: it stands among Hebrew, so that Latin words are isolated."""
    if kind == "mask":
        return Markup('<span class="masked" role="img" aria-label="{}">{}</span>').format(
            masked, text
        )
    if kind == "nikud":
        return Markup('<span class="nikud">{}</span>').format(text)
    if kind == "control":
        return Markup('<span class="control">U+{:04X}</span>').format(ord(text))
    if kind == "code":
        return Markup('<code dir="ltr">{}</code>').format(_inline(text, masked, _IN_CODE))
    return Markup('<bdi dir="ltr">{}</bdi>').format(text) if mixed else escape(text)
