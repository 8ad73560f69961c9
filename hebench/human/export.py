"""What leaves a study: votes for the board, raw rows, pairs for DPO, evidence, what a review found.

    >>> write_atomically(board / "votes" / "summaries-1.jsonl", votes_jsonl(found))

Everything is pseudonymous: raters are random labels, and what they wrote as notes stays behind
unless it is asked for. What names models can be had only once the study is closed, for the
raters must not know.
"""

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select

from hebench.config import plain
from hebench.errors import ConfigError, DataError, one_line
from hebench.files import finite
from hebench.human import schema
from hebench.human.blinding import Reveal, reveals
from hebench.human.collected import Collected, CollectedVote, Task
from hebench.human.database import Database
from hebench.human.publish import study_of, study_row, study_state
from hebench.human.quality import apply_rules
from hebench.human.ranking import rank
from hebench.human.study import Study
from hebench.human.values import VERDICTS

VOTES_SCHEMA = 1  # of `hebench.board.votes`
EVIDENCE_SCHEMA = 1


def settle(database: Database, study: str) -> None:
    """Apply a closed study's rules, so that the numbers are the same in all that leaves it.

    Raises DataError for a study that is open.
    """
    if study_state(database, study).closed is None:
        raise _still_open(study)
    apply_rules(database, study)


def votes_jsonl(found: Collected) -> str:
    """Return the votes on pairs as the board reads them (`hebench.board.votes`).

    Raises DataError for a study that is open, is not about pairs, or has no vote.
    """
    _require_closed(found)
    if not found.study.paired:
        raise DataError(
            f"study {found.study.name} is of type {found.study.type}: the board ranks pairs"
        )
    header: dict[str, Any] = {
        "schema": VOTES_SCHEMA,
        "study": found.study.name,
        "title": found.study.title,
        "question": found.study.question,
        "closed": _date(found.closed or 0.0),
    }
    if found.reveals:  # who and why is in the card: a line of the board's has an end
        header["unblinded"] = {"times": len(found.reveals), "votes": found.reveals[0].votes}
    votes = [
        {
            "item": vote.task.item,
            "rater": vote.rater,
            "first": vote.shown[0],
            "second": vote.shown[1],
            "outcome": vote.shown_answer["outcome"],
            "excluded": ", ".join(vote.excluded) or None,
        }
        for vote in found.every()
    ]
    if not votes:
        raise DataError(f"study {found.study.name} has no votes yet")
    return _lines([header, *votes])


def raw_jsonl(database: Database, study: str, *, notes: bool = False) -> str:
    """Return every row of votes, replaced and taken back ones too, after a line on the study.

    `first` and `second` are the models as shown, an answer is about these sides. notes: with what
    raters wrote, which may say who they are. Raises DataError for a study that is open.
    """
    votes, slots, raters = schema.votes, schema.slots, schema.raters
    tasks, items = schema.tasks, schema.items
    a, b = schema.first_answers, schema.second_answers
    with database.read() as connection:
        row = study_row(connection, study)
        if row.closed is None:
            raise _still_open(study)
        reasons = _all_exclusions(connection, row.id)
        rows = connection.execute(
            select(votes, slots.c.kind, slots.c.swapped, slots.c.position, items.c.name)
            .add_columns(raters.c.pseudonym, a.c.model.label("one"), b.c.model.label("two"))
            .join(slots, votes.c.slot == slots.c.id)
            .join(raters, votes.c.rater == raters.c.id)
            .join(tasks, slots.c.task == tasks.c.id)
            .join(items, tasks.c.item == items.c.id)
            .join(a, tasks.c.first == a.c.id)
            .outerjoin(b, tasks.c.second == b.c.id)
            .where(slots.c.study == row.id)
            .order_by(votes.c.number)
        )
        header = {
            "study": _without_paths(study_of(row)),
            "published": moment(row.published),
            "closed": moment(row.closed),
            "unblinded": _unblinded(reveals(connection, row.id)),
        }
        return _lines([header, *(_raw(vote, reasons, notes) for vote in rows)])


def _raw(row: Any, reasons: dict[tuple[str, str | None], list[Any]], notes: bool) -> dict[str, Any]:
    sides = [row.two, row.one] if row.swapped else [row.one, row.two]
    made = {
        "id": row.id,
        "rater": row.pseudonym,
        "kind": row.kind,
        "item": row.name,
        "first": sides[0],
        "second": sides[1],
        "position": row.position,
        "revision": row.revision,
        "answer": row.answer,
        "seconds": round(row.seconds, 2),
        "at": moment(row.at),
        "exclusions": reasons.get((row.pseudonym, None), [])
        + reasons.get((row.pseudonym, row.id), []),
    }
    return made | {"note": row.note} if notes else made


def _all_exclusions(connection: Any, study: int) -> dict[tuple[str, str | None], list[Any]]:
    table, raters = schema.exclusions, schema.raters
    found: dict[tuple[str, str | None], list[Any]] = defaultdict(list)
    for row in connection.execute(
        select(table, raters.c.pseudonym)
        .join(raters, table.c.rater == raters.c.id)
        .where(table.c.study == study)
        .order_by(table.c.id)
    ):
        lifted = None if row.lifted is None else moment(row.lifted)
        made = {"reason": row.reason, "detail": row.detail, "by": row.by, "lifted": lifted}
        found[row.pseudonym, row.vote].append(made)
    return found


def preference_jsonl(found: Collected) -> str:
    """Return pairs for preference training: `{"prompt", "chosen", "rejected", ...}`, one a line.

    One line for each question on which more counted votes prefer one answer than the other; its
    text is what the model wrote, before names were masked. `margin` is the share of votes for
    the chosen answer less that for the rejected one, in (0, 1]. Raises DataError for a study
    that is open or not about pairs, and where no question was decided.
    """
    _require_closed(found)
    if not found.study.paired:
        raise DataError(f"study {found.study.name} does not compare pairs of answers")
    outcomes: dict[int, Counter[str]] = defaultdict(Counter)
    tasks: dict[int, Task] = {}
    for vote in found.counted():
        outcomes[vote.task.id][vote.answer["outcome"]] += 1
        tasks[vote.task.id] = vote.task
    pairs = [_pair(tasks[task], words) for task, words in sorted(outcomes.items())]
    decided = [pair for pair in pairs if pair is not None]
    if not decided:
        raise DataError(f"study {found.study.name}: no question was decided for one of its answers")
    return _lines(decided)


def _pair(task: Task, words: Counter[str]) -> dict[str, Any] | None:
    lead = words["first"] - words["second"]
    texts = [text.strip() for text in task.texts]
    if lead == 0 or texts[0] == texts[1] or not all(texts):
        return None  # nothing to learn from
    chosen, rejected = (0, 1) if lead > 0 else (1, 0)
    return {
        "prompt": task.prompt,
        "chosen": task.texts[chosen],
        "rejected": task.texts[rejected],
        "chosen_model": task.models[chosen],
        "rejected_model": task.models[rejected],
        "item": task.item,
        "votes": words.total(),
        "margin": round(abs(lead) / words.total(), 4),
    }


def review_jsonl(found: Collected) -> str:
    """Return what a review says of each item, one a line: `{"item", "verdict", "text", ...}`.

    An adjudicator's verdict stands; else that of more than half of the counted votes, and where
    no verdict has so many, the verdict is "undecided". `text` is the item as it should be: as it
    was if accepted; if fixed, the adjudicator's correction or the one that most wrote (the
    earliest of equals); else null. `votes` counts the raters' verdicts. Raises DataError for a
    study that is open, is no review, or has no vote.
    """
    _require_closed(found)
    given: dict[int, list[CollectedVote]] = defaultdict(list)
    for vote in found.counted():
        given[vote.task.id].append(vote)
    if found.study.type != "review" or not given:
        raise DataError(f"study {found.study.name} has no votes on items to review")
    settled = {vote.task.id: vote for vote in found.counted("adjudication")}
    items = [task for task in found.tasks if task.kind == "main"]
    return _lines(_reviewed(task, given[task.id], settled.get(task.id)) for task in items)


def _reviewed(
    task: Task, votes: list[CollectedVote], settled: CollectedVote | None
) -> dict[str, Any]:
    deciding = votes if settled is None else [settled]
    given = Counter(vote.answer["verdict"] for vote in deciding)
    verdict = max(given, key=given.__getitem__, default="undecided")
    if 2 * given[verdict] <= len(deciding):
        verdict = "undecided"
    fixes = Counter(vote.answer["text"] for vote in deciding if "text" in vote.answer)
    texts = {"accept": task.texts[0], "fix": max(fixes, key=fixes.__getitem__, default=None)}
    heard = votes if settled is None else [*votes, settled]
    counts = Counter(vote.answer["verdict"] for vote in votes)
    return {
        "item": task.item,
        "model": task.models[0],
        "verdict": verdict,
        "text": texts.get(verdict),
        "reasons": [vote.answer["reason"] for vote in heard if "reason" in vote.answer],
        "votes": {word: counts[word] for word in VERDICTS},
        "adjudicated": settled is not None,
    }


def evidence_json(found: Collected) -> str:
    """Return what people's votes say of each model, for choosing a checkpoint by them.

    Strengths are logs with mean 0, win rates in [0, 1]; bounds are of 95 % intervals clustered
    by rater. A model that nobody judged against another has neither rate nor rank: null.
    Raises DataError for a study that is open, is not about pairs, or has no vote.
    """
    _require_closed(found)
    ranking = rank(found.counted()) if found.study.paired else None
    if ranking is None:
        raise DataError(f"study {found.study.name} has no votes on pairs that count")
    evidence = {
        "schema": EVIDENCE_SCHEMA,
        "kind": "votes",
        "study": found.study.name,
        "closed": _date(found.closed or 0.0),
        "votes": ranking.votes,
        "excluded": len(found.every()) - len(found.counted()),
        "raters": ranking.raters,
        "unblinded": _unblinded(found.reveals),
        "method": ranking.method,
        "notes": ranking.notes,
        "models": [
            {
                "model": row.model,
                "strength": row.strength,
                "strength_low": finite(row.strength_low),
                "strength_high": finite(row.strength_high),
                "win_rate": finite(row.win_rate),
                "win_rate_low": finite(row.low),
                "win_rate_high": finite(row.high),
                "rank_low": row.rank_low,
                "rank_high": row.rank_high,
                "p_best": row.p_best,
                "votes": row.votes,
            }
            for row in ranking.rows
        ],
    }
    return json.dumps(evidence, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def _unblinded(rows: Iterable[Reveal]) -> list[dict[str, Any]]:
    """Return when models could be told before the end, for readers of an export."""
    return [plain(row) | {"at": moment(row.at)} for row in rows]


def backup(database: Database, path: Path) -> Path:
    """Copy a SQLite database while it is in use, and return where to.

    The copy is of one moment. Raises ConfigError for a file that is there already, and for
    PostgreSQL, saying what to run.
    """
    if path.exists():
        raise ConfigError(f"{path} is there already; choose another name with --out")
    if database.postgres:
        url = database.engine.url.set(drivername="postgresql")
        shown = url.render_as_string(hide_password=True)
        raise ConfigError(f"PostgreSQL has its own: pg_dump -Fc --file={path} '{shown}'")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.tmp")
    with closing(database.engine.raw_connection()) as source:
        try:
            with closing(sqlite3.connect(unfinished)) as target:
                source.driver_connection.backup(target)  # type: ignore[union-attr]
            unfinished.replace(path)
        except sqlite3.Error as error:
            raise ConfigError(f"cannot write {path}: {one_line(error)}; choose another") from error
        finally:
            unfinished.unlink(missing_ok=True)
    return path


# ---------------------------------------------------------------------------------- small parts


def _require_closed(found: Collected) -> None:
    if found.closed is None:
        raise _still_open(found.study.name)


def _still_open(study: str) -> DataError:
    return DataError(
        f"study {study} is open: what names its models leaves only a closed study; close it first"
    )


def _without_paths(study: Study) -> dict[str, Any]:
    content: dict[str, Any] = plain(study)
    return content | {"models": list(study.models), "checks": study.checks is not None}


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def moment(seconds: float) -> str:
    """Return a time as ISO 8601, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _lines(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
