"""Model names inside texts: masked for the rater, so that a model cannot introduce itself.

A name that also stands in the source is content (a summary of an article on Claude Monet) and
stays. What was masked is remembered with the answer, never shown.

    >>> mask("אני ChatGPT, מודל של OpenAI", "מי אתה?", names=("smollm2",))
    ('אני ▇▇▇, מודל של ▇▇▇', True)
"""

import re
from collections.abc import Iterable
from functools import lru_cache

MASK = "▇▇▇"

# Names that mean nothing else. A wrong mask spoils an answer, so that names which are also words
# or people (Claude, Gemini, Llama, Mistral) are here only in a longer form: a study that compares
# such a model lists its name.
COMMON = (
    "ChatGPT", "GPT-3", "GPT-3.5", "GPT-4", "GPT-4o", "GPT-5", "OpenAI", "Anthropic", "Claude AI",
    "Claude-3", "Claude-4", "Google Gemini", "Gemini Pro", "Gemini Flash", "DeepMind", "Llama-2",
    "Llama-3", "Llama-4", "Meta AI", "Mistral AI", "Mistral-7B", "Mixtral", "Qwen", "DeepSeek",
    "DictaLM", "SmolLM", "SmolLM2", "SmolLM3", "GitHub Copilot", "Gemma-2", "Gemma-3", "Phi-3",
    "Phi-4", "Hugging Face", "צ׳אט ג׳י פי טי", "צ׳אטג׳יפיטי", "אופן איי איי", "אנתרופיק",
)  # fmt: skip
_UNSTORABLE = re.compile("[\ud800-\udfff]")
_DASHES = "\u2010-\u2013-"  # as a class of a pattern: hyphens, the figure dash, the en dash, -
_SEPARATOR = rf"[\s_.־{_DASHES}]"


def storable(text: str) -> str:
    """Return `text`, same length, without what PostgreSQL and UTF-8 cannot hold.

    A null becomes its visible picture and half of a surrogate pair the replacement character.
    """
    return _UNSTORABLE.sub("\ufffd", text.replace("\0", "␀"))


def is_maskable(name: str) -> bool:
    """Return whether a name is more than a letter or a short word: o1 is, b and go are not."""
    name = name.strip()
    return len(name) > 2 or (len(name) == 2 and any(char.isdigit() for char in name))


def mask(text: str, source: str, *, names: Iterable[str]) -> tuple[str, bool]:
    """Return `text` with the study's names and the common ones masked, and whether any was.

    Names that `is_maskable` refuses are left alone.
    """
    found = {
        match.group("name")
        for match in _pattern(tuple(filter(is_maskable, names))).finditer(text)
        if not _pattern((match.group("name"),), common=False).search(source)
    }
    if not found:
        return text, False
    return _pattern(tuple(sorted(found)), common=False).sub(rf"\g<prefix>{MASK}", text), True


@lru_cache(maxsize=512)
def _pattern(names: tuple[str, ...], *, common: bool = True) -> re.Pattern[str]:
    """Return what finds names as whole words, a Hebrew prefix before them allowed.

    Separators are interchangeable: SmolLM2-135M, smollm2 135m and smollm2_135m are one name.
    """
    wanted = {name.strip() for name in (*names, *(COMMON if common else ()))}
    bodies = []
    for name in sorted(wanted, key=len, reverse=True):
        parts = [re.escape(part) for part in re.split(f"{_SEPARATOR}+", name) if part]
        bodies.append(f"{_SEPARATOR}?".join(parts).replace("׳", "[׳'’]"))
    return re.compile(
        r"(?<![A-Za-z0-9\u05d0-\u05ea])(?P<prefix>[ושהכלבמ]{0,3})"
        rf"(?P<name>{'|'.join(bodies)})"
        # A version after it: GPT-4.1-mini, SmolLM2-135M-Instruct.
        rf"(?:[_.{_DASHES}]?\d(?:[A-Za-z0-9._{_DASHES}]*[A-Za-z0-9])?"
        rf"|[{_DASHES}][A-Za-z][A-Za-z0-9._{_DASHES}]*[A-Za-z0-9])?"
        r"(?![A-Za-z0-9\u05d0-\u05ea])",
        re.IGNORECASE,
    )
