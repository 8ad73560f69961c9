"""Does an answer follow its instruction? Checks in code, no judge.

    >>> passes("ברז, דלי ושמיים.", {"kind": "includes", "words": ["דלי"]})
    True

An item lists one to three checks; its score is 1 if all hold. An empty answer passes none, not
even those that forbid something. Words are found with up to four prefix letters glued on
(ובדלי holds דלי, וכשהגשם holds גשם), in any case of Latin letters; final letters count as their
usual form.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from hebench.hebrew import fold_final_letters

Check = dict[str, Any]
_SENTENCE_END = re.compile(r"[.!?…]+[\"״”')\]]*(?=\s|$)")
_PREFIXES = "[והבכלמש]{0,4}"


def passes(answer: str, check: Check) -> bool:
    """Return whether `answer` fulfils one check. Raises ValueError for an unknown kind."""
    text = answer.strip()
    if check["kind"] not in KINDS:
        raise ValueError(f"expected a kind of {', '.join(KINDS)}, found {check['kind']!r}")
    return bool(text) and KINDS[check["kind"]](text, check)


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Return the metrics of one answer, for lm-eval.

    `score` is 1 if every check holds; `checks_passed` is the share that hold. `doc` holds
    `checks` as JSON.
    """
    checks = json.loads(doc["checks"])
    held = [passes(results[0], check) for check in checks]
    return {"score": float(all(held)), "checks_passed": sum(held) / len(held)}


def count_word(text: str, word: str) -> int:
    """Return how often `word` occurs in `text` as a word, prefix letters allowed.

    Gershayim and geresh inside a word join it (צה״ל is one word), around it they are quotes.
    """
    pattern = (
        rf"(?<![א-תA-Za-z])(?<![א-ת][״׳]){_PREFIXES}״?{re.escape(word)}"
        r"(?![א-תA-Za-z])(?![״׳][א-ת])"
    )
    return len(re.findall(pattern, text, re.IGNORECASE))


def _within(count: int, check: Check) -> bool:
    low, high = check.get("min"), check.get("max")
    return (low is None or count >= low) and (high is None or count <= high)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _words_start_with(text: str, check: Check) -> bool:
    bare = [re.sub(r"^[\W\d_]+", "", word) for word in text.split()]
    initials = {fold_final_letters(word[0]) for word in bare if word}
    return initials == {fold_final_letters(check["letter"])}


def _acrostic(text: str, check: Check) -> bool:
    initials = [re.search(r"[^\W\d_]", line) for line in _lines(text)]
    spelled = "".join(found.group() if found else "?" for found in initials)
    return fold_final_letters(spelled) == fold_final_letters(check["letters"])


def _language(text: str, check: Check) -> bool:
    letters = [char for char in text if char.isalpha()]
    script = re.compile({"he": "[א-ת]", "en": "[A-Za-z]"}[check["language"]])
    return bool(letters) and sum(bool(script.match(c)) for c in letters) >= 0.9 * len(letters)


def _numbered_list(text: str, check: Check) -> bool:
    lines = _lines(text)
    return len(lines) == check["items"] and all(
        re.match(rf"{number}\.\s*\S", line) for number, line in enumerate(lines, start=1)
    )


def _bulleted_list(text: str, check: Check) -> bool:
    lines = _lines(text)
    return len(lines) == check["items"] and all(re.match(r"- +\S", line) for line in lines)


def _json_keys(text: str, check: Check) -> bool:
    bare = re.sub(r"^```(?:json)?\s*|\s*```$", "", text)
    try:
        found = json.loads(bare)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and set(found) == set(check["keys"])


def _quoted(text: str, check: Check) -> bool:
    return len(text) > 2 and text[0] == text[-1] == "״" and text.count("״") % 2 == 0


KINDS: dict[str, Callable[[str, Check], bool]] = {
    "words": lambda text, check: _within(len(text.split()), check),
    "sentences": lambda text, check: _within(len(_SENTENCE_END.findall(text)), check),
    "lines": lambda text, check: _within(len(_lines(text)), check),
    "without_letter": lambda text, check: (
        fold_final_letters(check["letter"]) not in fold_final_letters(text)
    ),
    "words_start_with": _words_start_with,
    "acrostic": _acrostic,
    "includes": lambda text, check: all(count_word(text, word) for word in check["words"]),
    "excludes": lambda text, check: not any(count_word(text, word) for word in check["words"]),
    "word_count": lambda text, check: count_word(text, check["word"]) == check["times"],
    "starts_with": lambda text, check: text.startswith(check["text"]),
    "ends_with": lambda text, check: text.endswith(check["text"]),
    "language": _language,
    "no_digits": lambda text, check: not re.search(r"\d", text),
    "no_marks": lambda text, check: not any(mark in text for mark in check["marks"]),
    "numbered_list": _numbered_list,
    "bulleted_list": _bulleted_list,
    "json_keys": _json_keys,
    "quoted": _quoted,
}
