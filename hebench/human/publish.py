"""Publishing: a study and its texts become rows, and its plan becomes slots that wait for raters.

    >>> publish(database, study, read_material(study)).slots
    1260

A slot's code is random, so that neither codes nor their order say anything about models; the
plan itself can be made again from the study and its seed.
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, insert, select
from sqlalchemy.exc import IntegrityError

from hebench.config import build, plain
from hebench.errors import DataError
from hebench.human import schema
from hebench.human.database import Database
from hebench.human.masking import storable
from hebench.human.material import Check, Item, Material
from hebench.human.plan import Planned, Question, Seat
from hebench.human.power import seats_of
from hebench.human.study import Study, Text


@dataclass(frozen=True, kw_only=True)
class Published:
    """What publishing made."""

    study: str
    seats: int
    tasks: int
    slots: int


@dataclass(frozen=True, kw_only=True)
class StudyState:
    """A study in the database. Slots count the plan's questions, repeats and checks."""

    name: str
    title: Text
    state: str  # open or closed
    published: float
    closed: float | None
    slots: int
    answered: int


def publish(database: Database, study: Study, material: Material) -> Published:
    """Store a study, its texts and its slots, all or nothing.

    Raises DataError if a study of that name is already there.
    """
    seats = seats_of(study, material)
    with database.begin() as connection:
        try:
            number = connection.execute(
                insert(schema.studies).returning(schema.studies.c.id),
                {
                    "name": study.name,
                    "config": plain(study),
                    "secret": secrets.token_hex(32),
                    "published": database.clock(),
                    "forgotten": 0,
                },
            ).scalar_one()
        except IntegrityError as error:
            raise DataError(
                f"a study named {study.name!r} is there already; choose another name, or another "
                "database"
            ) from error
        questions = _store_tasks(connection, number, study, material, seats)
        checks = [_store_check(connection, number, place, c) for place, c in _kinds(material)]
        slots = _store_slots(connection, number, seats, questions, dict(checks))
    return Published(study=study.name, seats=len(seats), tasks=len(questions), slots=slots)


def _kinds(material: Material) -> list[tuple[tuple[str, int], Check]]:
    """Return the checks, each with its kind and its number within the kind."""
    seen = {"gold": 0, "attention": 0}
    found = []
    for check in material.checks:
        found.append(((check.kind, seen[check.kind]), check))
        seen[check.kind] += 1
    return found


def _store_item(connection: Connection, study: int, item: Item, names: Sequence[str]) -> list[int]:
    """Store an item and its answers; return the ids: of the item, then of answers by model."""
    number = connection.execute(
        insert(schema.items).returning(schema.items.c.id),
        {
            "study": study,
            "name": item.name,
            "source": item.source,
            "prompt": item.prompt,
            "reference": item.reference,
            "cluster": item.cluster,
        },
    ).scalar_one()
    found = [int(number)]
    for name in names:
        answer = item.answers[name]
        row = {"item": number, "model": name, "text": answer.text, "shown": answer.shown}
        found.append(_store_answer(connection, row | {"masked": answer.masked}))
    return found


def _store_answer(connection: Connection, row: dict[str, Any]) -> int:
    statement = insert(schema.answers).returning(schema.answers.c.id)
    return int(connection.execute(statement, row).scalar_one())


def _store_tasks(
    connection: Connection, study: int, config: Study, material: Material, seats: Sequence[Seat]
) -> dict[Question, int]:
    """Store the questions that the plan uses; return their ids."""
    names = list(config.models)
    used = sorted({page.question for seat in seats for page in seat if page.question})
    stored: dict[int, list[int]] = {}
    found = {}
    for question in used:
        item, a, b = question
        if item not in stored:
            stored[item] = _store_item(connection, study, material.items[item], names)
        ids = stored[item]
        row = {"kind": "main", "item": ids[0], "first": ids[1 + a], "expected": None}
        row["second"] = ids[1 + b] if b >= 0 else None
        found[question] = _store_task(connection, row | {"study": study})
    return found


def _store_task(connection: Connection, row: dict[str, Any]) -> int:
    statement = insert(schema.tasks).returning(schema.tasks.c.id)
    return int(connection.execute(statement, row).scalar_one())


def _store_check(
    connection: Connection, study: int, place: tuple[str, int], check: Check
) -> tuple[tuple[str, int], int]:
    name = f"check:{place[0]}:{place[1]}"
    row = {"study": study, "name": name, "source": check.source, "prompt": check.source}
    item = connection.execute(
        insert(schema.items).returning(schema.items.c.id),
        row | {"reference": None, "cluster": name},
    ).scalar_one()
    texts = [
        _store_answer(
            connection, {"item": item, "model": None, "text": t, "shown": t, "masked": False}
        )
        for t in check.answers
    ]
    return place, _store_task(
        connection,
        {
            "study": study,
            "item": item,
            "kind": check.kind,
            "first": texts[0],
            "second": texts[1] if len(texts) > 1 else None,
            "expected": check.expected,
        },
    )


def _store_slots(
    connection: Connection,
    study: int,
    seats: Sequence[Seat],
    questions: dict[Question, int],
    checks: dict[tuple[str, int], int],
) -> int:
    rows: list[dict[str, Any]] = []
    for number, seat in enumerate(seats):
        seat_id = connection.execute(
            insert(schema.seats).returning(schema.seats.c.id), {"study": study, "number": number}
        ).scalar_one()
        for position, page in enumerate(seat):
            rows.append(
                {
                    "study": study,
                    "code": new_code(),
                    "task": _task_of(page, questions, checks),
                    "seat": seat_id,
                    "position": position,
                    "kind": page.kind,
                    "swapped": page.swapped,
                }
            )
    # In an order that says nothing either.
    connection.execute(insert(schema.slots), sorted(rows, key=lambda row: str(row["code"])))
    return len(rows)


def _task_of(
    page: Planned, questions: dict[Question, int], checks: dict[tuple[str, int], int]
) -> int:
    if page.question is not None:
        return questions[page.question]
    assert page.number is not None, "a page is a question or a check"
    return checks[page.kind, page.number]


def new_code() -> str:
    """Return a new slot's code: 22 characters that cannot be guessed."""
    return secrets.token_urlsafe(16)


# ----------------------------------------------------------------------------- what is there


def studies(database: Database) -> tuple[StudyState, ...]:
    """Return all studies, by name."""
    with database.read() as connection:
        names = connection.execute(select(schema.studies.c.name).order_by(schema.studies.c.name))
        return tuple(_state(connection, name) for name in names.scalars())


def study_state(database: Database, name: str) -> StudyState:
    """Return a study's state. Raises DataError for a name that is not there."""
    with database.read() as connection:
        return _state(connection, name)


def _state(connection: Connection, name: str) -> StudyState:
    row = study_row(connection, name)
    slots = schema.slots
    counted = connection.execute(
        select(func.count(), func.count(slots.c.answered)).where(
            slots.c.study == row.id, slots.c.kind != "adjudication"
        )
    ).one()
    return StudyState(
        name=name,
        title=row.config["title"],
        state="open" if row.closed is None else "closed",
        published=row.published,
        closed=row.closed,
        slots=counted[0],
        answered=counted[1],
    )


def study_row(connection: Connection, name: str) -> Any:
    """Return a study's row. Raises DataError for a name that is not there."""
    row = connection.execute(
        select(schema.studies).where(schema.studies.c.name == storable(name))
    ).one_or_none()
    if row is None:
        known = connection.execute(select(schema.studies.c.name)).scalars()
        raise DataError(
            f"expected a published study, found no {name!r}; there are: "
            f"{', '.join(sorted(known)) or 'none'}"
        )
    return row


def study_of(row: Any) -> Study:
    """Return the study that a row of `studies` holds."""
    return _built(row.name, json.dumps(row.config))


@lru_cache(maxsize=64)
def _built(name: str, config: str) -> Study:
    """Return a study from its stored form; every claim and vote asks for it."""
    return build(Study, json.loads(config), f"study {name}")


def changes(written: Study, stored: Study) -> tuple[str, ...]:
    """Return the keys in which a study's file differs from the study as it was published.

    Folders do not count: a study may be served from another place than it was published from.
    """
    now, then = _declared(written), _declared(stored)
    return tuple(key for key in now if now[key] != then[key])


def _declared(study: Study) -> dict[str, Any]:
    content: dict[str, Any] = plain(study)
    for source in content["models"].values():
        source["answers"] = Path(source["answers"]).name
    return content | {"checks": study.checks and study.checks.name}


def stored_study(database: Database, name: str) -> Study:
    """Return a published study. Raises DataError for a name that is not there."""
    with database.read() as connection:
        return study_of(study_row(connection, name))
