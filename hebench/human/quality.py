"""Who read what they judged: gold questions, attention checks, hidden repeats, reading time.

Nothing is deleted. An exclusion is a row with a reason, made by a rule of the study or by its
owner, and can be lifted; what an owner lifted, a rule does not bring back. Results are shown
with the excluded votes and without.

    >>> [row.reason for row in apply_rules(database, "summaries-1")]
    ['attention', 'too_fast']
    >>> lift(database, "summaries-1", 7, by="owner")
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from hebench.errors import DataError
from hebench.human import schema
from hebench.human.ballot import is_right
from hebench.human.collected import Collected, CollectedVote, collected
from hebench.human.database import Database
from hebench.human.masking import storable
from hebench.human.publish import study_row
from hebench.human.store import LATE
from hebench.human.study import SLUG, Quality

RULES = {
    "gold": "too few gold questions answered right",
    "attention": "attention checks missed",
    "repeats": "too few hidden repeats answered alike",
    "fast_rater": "most votes faster than anyone reads",
    "too_fast": "answered faster than anyone reads",
}
MAX_DETAIL = 2000  # characters of the words to a reason; what is longer is cut
_BY_RULE = "rule"
_FEWEST = 2  # gold questions or repeats: one alone convicts nobody
_FEWEST_FAST = 5  # votes, before a rater is called fast

Ground = tuple[str, str | None, str, str]  # rater, vote, reason, detail


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """Why a vote, or all of a rater's, does not count."""

    id: int
    rater: str
    vote: str | None  # None: all of the rater's votes
    reason: str
    detail: str
    by: str
    at: float
    lifted: float | None


@dataclass(frozen=True, kw_only=True)
class RaterCheck:
    """How one rater did on what can be checked; counts."""

    rater: str
    gold: int
    gold_right: int
    attention: int
    attention_missed: int
    repeats: int
    repeats_alike: int
    votes: int  # of the plan
    fast: tuple[str, ...]  # ids of votes of the plan, and repeats, that were too fast


def minimum_seconds(quality: Quality, characters: int) -> float:
    """Return the least time in which anyone reads so many characters."""
    return max(quality.floor_seconds, characters / quality.characters_per_second)


def rater_checks(found: Collected) -> tuple[RaterCheck, ...]:
    """Return how each rater who voted did, in order of appearance.

    Votes that came too late say nothing for or against their rater, or a closed study's numbers
    would change.
    """
    by_rater: dict[str, list[CollectedVote]] = {vote.rater: [] for vote in found.votes}
    for vote in found.votes:
        if not {*LATE} & {*vote.excluded}:
            by_rater[vote.rater].append(vote)
    return tuple(_checked(rater, votes, found.study.quality) for rater, votes in by_rater.items())


def _checked(rater: str, votes: list[CollectedVote], quality: Quality) -> RaterCheck:
    kinds: dict[str, list[CollectedVote]] = defaultdict(list)
    for vote in votes:
        kinds[vote.kind].append(vote)
    first = {vote.task.id: vote.answer for vote in kinds["main"]}
    repeats = [vote for vote in kinds["repeat"] if vote.task.id in first]
    right = {
        kind: sum(is_right(vote.task.expected or {}, vote.answer) for vote in kinds[kind])
        for kind in ("gold", "attention")
    }
    return RaterCheck(
        rater=rater,
        gold=len(kinds["gold"]),
        gold_right=right["gold"],
        attention=len(kinds["attention"]),
        attention_missed=len(kinds["attention"]) - right["attention"],
        repeats=len(repeats),
        repeats_alike=sum(alike(first[vote.task.id], vote.answer) for vote in repeats),
        votes=len(kinds["main"]),
        fast=tuple(_too_fast([*kinds["main"], *kinds["repeat"]], quality)),
    )


def _too_fast(votes: Iterable[CollectedVote], quality: Quality) -> Iterable[str]:
    """Yield the ids of votes given before anyone had read the page.

    A source counts only the first time a rater sees it, and a correction not at all: who changes
    an answer has read the page before.
    """
    seen: set[str] = set()
    for vote in sorted(votes, key=lambda vote: vote.first_at):
        characters = sum(len(text) for text in vote.task.texts)
        if vote.task.item not in seen:
            characters += len(vote.task.source)
        seen.add(vote.task.item)
        if vote.revision == 1 and vote.seconds < minimum_seconds(quality, characters):
            yield vote.id


def alike(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Return whether two answers to one question are the same (scores: within a step)."""
    if "scores" in first:
        return all(
            (a is None) == (b is None) and (a is None or abs(a - b) <= 1)
            for a, b in ((score, second["scores"][axis]) for axis, score in first["scores"].items())
        )
    if "spans" in first or "cannot_judge" in first:
        return ("spans" in first) == ("spans" in second) and bool(first.get("spans")) == bool(
            second.get("spans")
        )
    key = "verdict" if "verdict" in first else "outcome"
    return bool(first[key] == second[key])


def grounds(found: Collected) -> tuple[Ground, ...]:
    """Return what the study's rules exclude: rater, vote or None for all, reason, detail."""
    rules = found.study.quality
    made: list[Ground] = []
    for check in rater_checks(found):
        if check.gold >= _FEWEST and check.gold_right < rules.gold_share * check.gold:
            made.append((check.rater, None, "gold", f"{check.gold_right} of {check.gold} right"))
        if check.attention_missed >= rules.attention_misses:
            detail = f"{check.attention_missed} of {check.attention} missed"
            made.append((check.rater, None, "attention", detail))
        if check.repeats >= _FEWEST and check.repeats_alike < rules.repeat_share * check.repeats:
            detail = f"{check.repeats_alike} of {check.repeats} alike"
            made.append((check.rater, None, "repeats", detail))
        pages = check.votes + check.repeats
        if pages >= _FEWEST_FAST and len(check.fast) > rules.fast_share * pages:
            detail = f"{len(check.fast)} of {pages} votes"
            made.append((check.rater, None, "fast_rater", detail))
        seconds = {vote.id: vote.seconds for vote in found.votes if vote.rater == check.rater}
        made += [(check.rater, v, "too_fast", f"{seconds[v]:.1f} s") for v in check.fast]
    return tuple(made)


def apply_rules(database: Database, study: str) -> tuple[Exclusion, ...]:
    """Bring the rules' exclusions up to date and return those in force.

    New grounds become rows, rows whose ground is gone are lifted.
    """
    wanted = {ground[:3]: ground for ground in grounds(collected(database, study))}
    table = schema.exclusions
    with database.begin() as connection:
        row = study_row(connection, study)
        connection.execute(  # two owners at once would make every row twice
            select(schema.studies.c.id).where(schema.studies.c.id == row.id).with_for_update()
        )
        now = database.clock()
        there = _rows(connection, row.id)
        known = {
            (old.pseudonym, old.vote, old.reason)
            for old in there
            if old.lifted is None or old.lifted_by != _BY_RULE
        }
        over = [
            old.id
            for old in there
            if old.by == _BY_RULE
            and old.lifted is None
            and (old.pseudonym, old.vote, old.reason) not in wanted
        ]
        if over:
            connection.execute(
                update(table).where(table.c.id.in_(over)).values(lifted=now, lifted_by=_BY_RULE)
            )
        raters = _rater_ids(connection, row.id)
        for key, (rater, vote, reason, detail) in wanted.items():
            if key not in known and rater in raters and _exists(connection, vote):
                _insert(connection, row.id, raters[rater], vote, reason, detail, _BY_RULE, now)
    return tuple(row for row in exclusions(database, study) if row.lifted is None)


def exclude(  # noqa: PLR0913 (one argument a column)
    database: Database,
    study: str,
    *,
    rater: str,
    reason: str,
    by: str,
    vote: str | None = None,
    detail: str = "",
) -> int:
    """Exclude a rater (by pseudonym), or one vote of theirs; return the exclusion's id.

    reason: a short label of a-z, 0-9, '.', '_' and '-'. Raises DataError for a label of another
    form and for a rater or vote that this study does not have.
    """
    if not SLUG.fullmatch(reason):
        raise DataError(f"reason: expected a label of a-z, 0-9, '.', '_' and '-', found {reason!r}")
    with database.begin() as connection:
        row = study_row(connection, study)
        raters = _rater_ids(connection, row.id)
        if rater not in raters or not _exists(connection, vote, raters[rater]):
            raise DataError(f"study {study} has no rater {rater!r} with such a vote")
        return _insert(
            connection,
            row.id,
            raters[rater],
            vote,
            reason,
            storable(detail)[:MAX_DETAIL],
            by,
            database.clock(),
        )


def lift(database: Database, study: str, exclusion: int, *, by: str) -> None:
    """Let a vote, or a rater's votes, count again. Raises DataError for no such row."""
    table = schema.exclusions
    with database.begin() as connection:
        row = study_row(connection, study)
        changed = connection.execute(
            update(table)
            .where(table.c.id == exclusion, table.c.study == row.id, table.c.lifted.is_(None))
            .values(lifted=database.clock(), lifted_by=by)
        )
    if not changed.rowcount:
        raise DataError(f"study {study} has no exclusion {exclusion} in force")


def exclusions(database: Database, study: str) -> tuple[Exclusion, ...]:
    """Return all exclusions of a study, lifted ones too, oldest first."""
    with database.read() as connection:
        row = study_row(connection, study)
        return tuple(
            Exclusion(
                id=old.id,
                rater=old.pseudonym,
                vote=old.vote,
                reason=old.reason,
                detail=old.detail,
                by=old.by,
                at=old.at,
                lifted=old.lifted,
            )
            for old in _rows(connection, row.id)
        )


def _rows(connection: Connection, study: int) -> list[Any]:
    table = schema.exclusions
    return list(
        connection.execute(
            select(table, schema.raters.c.pseudonym)
            .join(schema.raters, table.c.rater == schema.raters.c.id)
            .where(table.c.study == study)
            .order_by(table.c.id)
        )
    )


def _rater_ids(connection: Connection, study: int) -> dict[str, int]:
    raters = schema.raters
    rows = connection.execute(
        select(raters.c.pseudonym, raters.c.id).where(
            raters.c.study == study, raters.c.erased.is_(None)
        )
    )
    return {row.pseudonym: row.id for row in rows}


def _exists(connection: Connection, vote: str | None, rater: int | None = None) -> bool:
    """Return whether a vote is there (it may have been erased since), of this rater if given."""
    if vote is None:
        return True
    found = select(schema.votes.c.id).where(schema.votes.c.id == storable(vote))
    if rater is not None:
        found = found.where(schema.votes.c.rater == rater)
    return connection.execute(found).first() is not None


def _insert(  # noqa: PLR0913, PLR0917 (one argument a column)
    connection: Connection,
    study: int,
    rater: int,
    vote: str | None,
    reason: str,
    detail: str,
    by: str,
    at: float,
) -> int:
    row = {"study": study, "rater": rater, "vote": vote, "reason": reason, "detail": detail}
    statement = insert(schema.exclusions).returning(schema.exclusions.c.id)
    return int(connection.execute(statement, row | {"by": by, "at": at}).scalar_one())
