"""What the owner's page shows: the study's numbers, its models under masks until it closes.

    >>> view = dashboard(database, "summaries-1", key=key, named=False)
    >>> view.label("dicta")
    3

A mask is a number that depends on the study's secret and says nothing about names or strengths.
"""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from hebench.human.adjudicate import disputed
from hebench.human.collected import Collected, collected
from hebench.human.database import Database
from hebench.human.publish import StudyState, study_state
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


def dashboard(database: Database, study: str, *, key: bytes, named: bool) -> Dashboard:
    """Return the page's values; models are named only if `named`, or once the study is closed."""
    state = study_state(database, study)
    found = collected(database, study)
    return Dashboard(
        state=state,
        found=found,
        results=study_results(found),
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
