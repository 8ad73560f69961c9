"""What a rater may answer, by type of study, and what a known answer is compared with.

    pairwise             {"outcome": "first"}
    pairwise_dimensions  {"outcome": "tie", "dimensions": {"faithful": "second"}}
    likert               {"scores": {"fluent": 4, "complete": null}}    null: cannot judge
    spans                {"spans": [{"start": 3, "end": 17}]}, or {"cannot_judge": true}
    review               {"verdict": "fix", "text": "..."}, accept, or reject with a reason

First and second are the answers as shown; offsets count Unicode code points of the shown text.

>>> check_answer(study, {"outcome": "first"}, ("טוב", "רע"))
{'outcome': 'first'}
"""

import math
import uuid
from dataclasses import dataclass
from typing import Any

from hebench.errors import DataError, HebenchError, one_line
from hebench.human.masking import storable
from hebench.human.study import Study

DIMENSION_OUTCOMES = ("first", "second", "tie", "cannot_judge")
MAX_NOTE = 1000  # characters
MAX_SECONDS = 86_400.0
_MAX_FIX = 200_000
_MAX_REASON = 2000
_MAX_SPANS = 500
_SWAPPED = {"first": "second", "second": "first"}


class BallotError(HebenchError):
    """An answer that this study does not ask for."""


@dataclass(frozen=True, kw_only=True)
class Ballot:
    """One answer as a browser sends it; `id` is made there, so that sending twice is harmless."""

    id: str  # a UUID
    slot: str
    answer: dict[str, Any]
    seconds: float  # that the page was visible, 0 to MAX_SECONDS
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse what no browser of ours sends."""
        check_id(self.id)
        if not isinstance(self.slot, str):
            raise BallotError("expected a slot's code")
        if isinstance(self.seconds, bool) or not (
            isinstance(self.seconds, int | float)
            and math.isfinite(self.seconds)
            and 0 <= self.seconds <= MAX_SECONDS
        ):
            raise BallotError(f"expected seconds from 0 to {MAX_SECONDS:g}")
        if not isinstance(self.note, str) or len(self.note) > MAX_NOTE:
            raise BallotError(f"expected a note of at most {MAX_NOTE} characters")


def check_id(value: str) -> None:
    """Raise BallotError unless `value` is a UUID in its usual form."""
    try:
        usual = str(uuid.UUID(value)) == value
    except (ValueError, AttributeError, TypeError):
        usual = False
    if not usual:
        raise BallotError("expected an id that is a UUID in lower case")


def check_answer(study: Study, answer: Any, texts: tuple[str, ...]) -> dict[str, Any]:
    """Return an answer in canonical form.

    texts: what was shown. Raises BallotError for anything that the study does not ask for.
    """
    if not isinstance(answer, dict):
        raise BallotError(f"expected an object, found {type(answer).__name__}")
    if study.type == "pairwise":
        _keys(answer, {"outcome"})
        return {"outcome": _one_of(answer["outcome"], study.outcomes)}
    if study.type == "pairwise_dimensions":
        _keys(answer, {"outcome", "dimensions"})
        return {
            "outcome": _one_of(answer["outcome"], study.outcomes),
            "dimensions": {
                name: _one_of(value, DIMENSION_OUTCOMES)
                for name, value in _by_axis(study, answer["dimensions"]).items()
            },
        }
    if study.type == "likert":
        _keys(answer, {"scores"})
        steps = {axis.name: axis.steps for axis in study.axes}
        return {
            "scores": {
                name: _score(value, steps[name])
                for name, value in _by_axis(study, answer["scores"]).items()
            }
        }
    return _spans(answer, texts[0]) if study.type == "spans" else _review(answer)


def _keys(answer: dict[str, Any], expected: set[str]) -> None:
    if set(answer) != expected:
        raise BallotError(
            f"expected {', '.join(sorted(expected))}, found "
            f"{one_line(', '.join(sorted(map(str, answer))), 80)}"
        )


def _one_of(value: Any, allowed: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise BallotError(f"expected one of {', '.join(allowed)}, found {one_line(value, 40)!r}")
    return value


def _by_axis(study: Study, given: Any) -> dict[str, Any]:
    names = [axis.name for axis in study.axes]
    if not isinstance(given, dict) or set(given) != set(names):
        raise BallotError(f"expected an answer for each of {', '.join(names)}")
    return {name: given[name] for name in names}


def _score(value: Any, steps: int) -> int | None:
    if value is not None and not (type(value) is int and 1 <= value <= steps):
        raise BallotError(f"expected 1 to {steps}, or null, found {one_line(value, 40)!r}")
    return value


def _spans(answer: dict[str, Any], text: str) -> dict[str, Any]:
    if set(answer) == {"cannot_judge"} and answer["cannot_judge"] is True:
        return {"cannot_judge": True}
    _keys(answer, {"spans"})
    given = answer["spans"]
    if not isinstance(given, list) or len(given) > _MAX_SPANS:
        raise BallotError(f"expected at most {_MAX_SPANS} spans")
    marked: list[list[int]] = []
    for span in sorted(_span(span, len(text)) for span in given):
        if marked and span[0] <= marked[-1][1]:  # overlapping marks are one mark
            marked[-1][1] = max(marked[-1][1], span[1])
        else:
            marked.append(list(span))
    return {"spans": [{"start": start, "end": end} for start, end in marked]}


def _span(span: Any, length: int) -> tuple[int, int]:
    if not isinstance(span, dict) or set(span) != {"start", "end"}:
        raise BallotError("expected spans of start and end")
    start, end = span["start"], span["end"]
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= length:
        raise BallotError(f"expected a span within the {length} characters shown")
    return start, end


def _review(answer: dict[str, Any]) -> dict[str, Any]:
    verdict = _one_of(answer.get("verdict"), ("accept", "fix", "reject"))
    allowed = {"accept": set(), "fix": {"text", "reason"}, "reject": {"reason"}}[verdict]
    needed = {"accept": set(), "fix": {"text"}, "reject": {"reason"}}[verdict]
    given = set(answer) - {"verdict"}
    if not needed <= given <= allowed:
        raise BallotError(f"{verdict}: expected {', '.join(sorted(needed)) or 'nothing more'}")
    limits = {"text": _MAX_FIX, "reason": _MAX_REASON}
    for key in given:
        value = answer[key]
        if not isinstance(value, str) or not value.strip() or len(value) > limits[key]:
            raise BallotError(f"{key}: expected 1 to {limits[key]:,} characters")
    return {"verdict": verdict} | {key: storable(answer[key]) for key in sorted(given)}


# ------------------------------------------------------------------------------ known answers


def check_expected(study: Study, expected: Any, where: str) -> dict[str, Any]:
    """Return what a check expects, lists of what is right by key; DataError if it cannot be.

    pairwise: `outcome`; likert: an axis's name; spans: `marked` (true or false); review:
    `verdict`. One value or a list of them.
    """
    keys: dict[str, tuple[Any, ...]]
    if study.paired:
        keys = {"outcome": study.outcomes}
    elif study.type == "likert":
        keys = {axis.name: tuple(range(1, axis.steps + 1)) for axis in study.axes}
    elif study.type == "spans":
        keys = {"marked": (True, False)}
    else:
        keys = {"verdict": ("accept", "fix", "reject")}
    if not isinstance(expected, dict) or not expected or not set(expected) <= set(keys):
        raise DataError(f"{where}: expected in `expected` some of {', '.join(keys)}")
    found = {}
    for key, value in expected.items():
        allowed = value if isinstance(value, list) else [value]
        if not allowed or not all(
            any(type(one) is type(known) and one == known for known in keys[key]) for one in allowed
        ):
            raise DataError(f"{where}: {key}: expected some of {list(keys[key])}, found {value!r}")
        found[key] = allowed
    return found


def is_right(expected: dict[str, Any], answer: dict[str, Any]) -> bool:
    """Return whether an answer, sides as in the check, is one of those expected."""
    given = dict(answer.get("scores", {})) | {
        key: answer[key] for key in ("outcome", "verdict") if key in answer
    }
    if "spans" in answer:
        given["marked"] = bool(answer["spans"])
    return all(given.get(key) in allowed for key, allowed in expected.items())


def unswapped(answer: dict[str, Any], swapped: bool) -> dict[str, Any]:
    """Return an answer about the order of the plan, if the sides were swapped on the page."""
    if not swapped or "outcome" not in answer:
        return answer
    turned = answer | {"outcome": _turn(answer["outcome"])}
    if "dimensions" in answer:
        turned["dimensions"] = {key: _turn(word) for key, word in answer["dimensions"].items()}
    return turned


def _turn(outcome: str) -> str:
    return _SWAPPED.get(outcome, outcome)
