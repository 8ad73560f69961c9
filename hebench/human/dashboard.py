"""What the owner's page shows: the study's numbers, its models under masks until it closes.

    >>> view = dashboard(database, "summaries-1", key=key, named=False)
    >>> view.label("dicta")
    3

A mask is a number that depends on the study's secret and says nothing about names or strengths.
Nor do the places of models: where no number orders them, their masks do, and not the alphabet.
A server keeps the numbers until something that they stand on changes: at 10,000 votes they take
most of a second.
"""

import hashlib
import hmac
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from hebench.human import schema
from hebench.human.adjudicate import disputed
from hebench.human.collected import Collected, collected
from hebench.human.database import Database
from hebench.human.publish import StudyState, study_row, study_state
from hebench.human.quality import RULES, Exclusion, exclusions
from hebench.human.results import StudyResults, study_results
from hebench.human.store import LATE
from hebench.stats.agreement import NO_PAIRS, NO_RATINGS, NO_VARIATION, ONE_RATER

# What the statistics say in a sentence -> the key under which the page says it.
ALPHA_REASONS = {
    NO_RATINGS: "no_ratings",
    ONE_RATER: "one_rater",
    NO_PAIRS: "no_pairs",
    NO_VARIATION: "no_variation",
}
NEEDED_REASONS = {
    "no interval to narrow": "no_interval",
    "the first two are level": "level",
}
REASONS = (*RULES, *LATE, "owner")  # of exclusions that the page says in words


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """Everything on the page."""

    state: StudyState
    found: Collected
    results: StudyResults
    exclusions: tuple[Exclusion, ...]
    disputed: int
    masks: dict[str, int]
    named: bool  # whether models may be named

    def label(self, model: str) -> str | int:
        """Return a model's name where it may be known, else the number that masks it."""
        return model if self.named else self.masks[model]


class Latest:
    """The numbers of one study as last worked out in this process."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._stamp: Any = None
        self._numbers: tuple[Collected, StudyResults] | None = None

    def numbers(self, database: Database, study: str, key: bytes) -> tuple[Collected, StudyResults]:
        """Return what is collected and what it says, worked out anew only if it has changed.

        key: of the masks, by which models are ordered where no number does. `now` of what is
        collected, and when raters were last seen, may be older.
        """
        with self._lock:
            # Taken first: what comes in between makes the numbers newer than their stamp.
            stamp = _stamp(database, study)
            if self._numbers is None or stamp != self._stamp:
                found = collected(database, study)
                order = masks(found.study.models, key).__getitem__
                self._stamp, self._numbers = stamp, (found, study_results(found, order=order))
            return self._numbers


def _stamp(database: Database, study: str) -> Any:
    """Return what changes whenever a study's numbers do: rows are added, marked, or erased."""
    votes, raters, slots = schema.votes, schema.raters, schema.slots
    out, seen = schema.exclusions, schema.reveals
    with database.read() as connection:
        row, now = study_row(connection, study), database.clock()
        counts = (
            select(func.count(), func.max(votes.c.number))
            .join(raters, votes.c.rater == raters.c.id)
            .where(raters.c.study == row.id),
            select(func.count(), func.count(raters.c.erased)).where(raters.c.study == row.id),
            select(func.max(out.c.id), func.count(), func.count(out.c.lifted)).where(
                out.c.study == row.id
            ),
            select(
                func.count(slots.c.answered), func.count().filter(slots.c.leased_until >= now)
            ).where(slots.c.study == row.id),
            select(func.count()).where(seen.c.study == row.id),
        )
        return (
            study,
            row.closed,
            row.forgotten,
            *(tuple(connection.execute(each).one()) for each in counts),
        )


def dashboard(
    database: Database, study: str, *, key: bytes, named: bool, latest: Latest | None = None
) -> Dashboard:
    """Return the page's values; models are named only if `named`, or once the study is closed.

    latest: numbers to use again if nothing has changed.
    """
    state = study_state(database, study)
    found, results = (latest or Latest()).numbers(database, study, key)
    return Dashboard(
        state=state,
        found=found,
        results=results,
        exclusions=exclusions(database, study),
        disputed=len(disputed(found)),
        masks=masks(found.study.models, key),
        named=named or state.state == "closed",
    )


def masks(models: Iterable[str], key: bytes) -> dict[str, int]:
    """Return a number from 1 for each model, in an order that only the key knows."""
    ordered = sorted(
        models, key=lambda name: hmac.new(key, b"mask\0" + name.encode(), hashlib.sha256).digest()
    )
    return {name: number for number, name in enumerate(ordered, start=1)}
