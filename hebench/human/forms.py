"""A rater's form as an answer. A form without JavaScript and one that waited offline are alike.

    pairwise             outcome
    pairwise_dimensions  outcome, dimension.AXIS
    likert               score.AXIS: a number, or `none` (cannot judge)
    spans                span: start-end, any number of them; or cannot_judge
    review               verdict, text, reason

Beside these: slot, id, note, and seconds (by the script) or shown (when the page was made).

>>> answer_of(study, [("outcome", "tie"), ("slot", "x")])
{'outcome': 'tie'}
"""

import math
import re
from typing import Any

from hebench.human.ballot import MAX_SECONDS, Ballot, BallotError
from hebench.human.security import Form
from hebench.human.study import Study

_SPAN = re.compile(r"(\d{1,9})-(\d{1,9})", re.ASCII)


def ballot_of(study: Study, form: Form, *, now: float) -> Ballot:
    """Return the ballot that a form holds. Raises BallotError for what is missing."""
    fields = dict(form)
    return Ballot(
        id=fields.get("id", ""),
        slot=fields.get("slot", ""),
        answer=answer_of(study, form),
        seconds=_seconds(fields, now),
        note=_text(fields, "note").strip(),
    )


def answer_of(study: Study, form: Form) -> dict[str, Any]:
    """Return the answer in a form, still unchecked. Raises BallotError for a broken number."""
    fields = dict(form)
    if study.paired:
        answer: dict[str, Any] = {"outcome": fields.get("outcome")}
        if study.type == "pairwise_dimensions":
            answer["dimensions"] = _by_axis(fields, "dimension.")
        return answer
    if study.type == "likert":
        scores = _by_axis(fields, "score.")
        return {"scores": {name: _score(value) for name, value in scores.items()}}
    if study.type == "spans":
        if "cannot_judge" in fields:
            return {"cannot_judge": True}
        return {"spans": [_span(value) for name, value in form if name == "span"]}
    kept = {"fix": ("text", "reason"), "reject": ("reason",)}.get(fields.get("verdict", ""), ())
    given = {key: _text(fields, key) for key in kept}
    return {"verdict": fields.get("verdict")} | {
        key: value for key, value in given.items() if value.strip()
    }


def _text(fields: dict[str, str], name: str) -> str:
    # Browsers count a line's end as one character and send it as two, CR LF.
    return fields.get(name, "").replace("\r\n", "\n")


def _by_axis(fields: dict[str, str], prefix: str) -> dict[str, str]:
    return {
        name.removeprefix(prefix): value
        for name, value in fields.items()
        if name.startswith(prefix)
    }


def _score(value: str) -> int | None:
    if value == "none":
        return None
    return _number(value, "a score")


def _span(value: str) -> dict[str, int]:
    match = _SPAN.fullmatch(value)
    if match is None:
        raise BallotError("expected a span as start-end")
    return {"start": int(match[1]), "end": int(match[2])}


def _number(value: str, what: str) -> int:
    if not re.fullmatch(r"\d{1,9}", value, re.ASCII):
        raise BallotError(f"expected {what} to be a number")
    return int(value)


def _seconds(fields: dict[str, str], now: float) -> float:
    """Return how long the page was looked at: by the script, else since it was made."""
    try:
        seconds = float(fields["seconds"]) if "seconds" in fields else now - float(fields["shown"])
    except (KeyError, ValueError) as error:
        raise BallotError("expected the seconds on the page") from error
    if not math.isfinite(seconds):
        raise BallotError("expected the seconds on the page")
    return min(max(seconds, 0.0), MAX_SECONDS)
