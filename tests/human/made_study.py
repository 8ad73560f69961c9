"""A small study made for the tests: three models, items with short Hebrew texts."""

import uuid
from dataclasses import replace
from typing import Any

import numpy as np

from hebench.human.access import enter, invite
from hebench.human.ballot import Ballot
from hebench.human.collected import Collected, CollectedVote, Rater, Task
from hebench.human.database import Database
from hebench.human.material import Answer, Check, Item, Material
from hebench.human.publish import publish
from hebench.human.store import Assignment, claim, vote
from hebench.human.study import Axis, Consent, Plan, Source, Study
from hebench.stats.davidson import probabilities

MODELS = ("model-aleph", "model-bet", "model-gimel")
TEXT = {"he": "איזה תקציר טוב יותר?", "en": "Which summary is better?"}


class Clock:
    """Seconds since 1970, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def made_study(**changes: Any) -> Study:
    """Return a study of three models; `plan` may be a mapping of changes to its plan."""
    plan = {"raters": 3, "votes_each": 4, "overlap_share": 0.5, "overlap": 2, "repeats": 1}
    plan |= changes.pop("plan", {})
    kind = changes.get("type", "pairwise")
    axes: tuple[Axis, ...] = ()
    if kind in ("likert", "pairwise_dimensions"):
        axes = tuple(
            Axis(name=name, title=TEXT, low=TEXT, high=TEXT) for name in ("fluent", "faithful")
        )
    values: dict[str, Any] = {
        "name": "summaries-1",
        "type": kind,
        "title": TEXT,
        "instructions": TEXT,
        "question": TEXT,
        "consent": Consent(version="1", text=TEXT),
        "models": {name: Source(answers=f"{name}.jsonl") for name in MODELS},
        "plan": Plan(**plan),
        "axes": axes,
        "seed": 7,
        "checks": "checks.jsonl",
    }
    return Study(**values | changes)


def made_material(items: int = 12, *, single: bool = False) -> Material:
    """Return items with an answer of each model, and two checks of each kind."""
    made = []
    for number in range(items):
        answers = {
            model: Answer(
                model=model,
                text=f"תשובה {number} של {place}",
                shown=f"תשובה {number} של {place}",
                masked=False,
            )
            for place, model in enumerate(MODELS)
        }
        made.append(
            Item(
                name=f"item-{number:03d}",
                source=f"מקור {number}",
                prompt=f"סכמו: מקור {number}",
                reference=None,
                cluster=f"cluster-{number // 2}",
                answers=answers,
            )
        )
    checks = tuple(
        Check(
            kind=kind,
            source="שאלה",
            answers=("טוב",) if single else ("טוב", "רע"),
            expected={"outcome": ["first"]},
        )
        for kind in ("gold", "gold", "attention", "attention")
    )
    return Material(items=tuple(made), checks=checks, left_out={})


def published(database: Database, *, items: int = 12, **changes: Any) -> Study:
    """Publish a made study and return it."""
    study = made_study(**changes)
    material = made_material(items, single=not study.paired)
    if study.type != "pairwise":
        material = replace(material, checks=())
    publish(database, study, material)
    return study


def joined(database: Database, study: str = "summaries-1", *, role: Any = "rater") -> int:
    """Return a new rater."""
    link = invite(database, study, role=role)
    return enter(database, link.token, consent="1").person.rater


def new_id() -> str:
    return str(uuid.uuid4())


def ballot(page: Assignment, outcome: str = "first", **changes: Any) -> Ballot:
    """Return a vote on a page that took half a minute."""
    values = {"id": new_id(), "slot": page.slot, "answer": {"outcome": outcome}, "seconds": 30.0}
    return Ballot(**values | changes)


def vote_all(database: Database, rater: int, outcome: str = "first") -> int:
    """Let a rater answer all there is; return how many pages that was."""
    done = 0
    while pages := claim(database, rater).assignments:
        vote(database, rater, ballot(pages[0], outcome))
        done += 1
    return done


def made_collected(votes: list[dict[str, Any]], **changes: Any) -> Collected:
    """Return a study as if it had collected these votes, without a database.

    A vote has `item`, `rater`, `models` and `answer` (about the order of `models`); `kind`,
    `swapped`, `seconds`, `excluded`, `expected` and `texts` may be given.
    """
    closed = changes.pop("closed", 1_800_100_000.0)
    study = made_study(**changes)
    tasks: dict[Any, Task] = {}
    made = []
    for number, row in enumerate(votes):
        kind = row.get("kind", "main")
        models = tuple(row.get("models", ()))
        key = (row["item"], models)
        if key not in tasks:
            tasks[key] = Task(
                id=len(tasks) + 1,
                kind=kind if kind in ("gold", "attention") else "main",
                item=row["item"],
                cluster=row["item"],
                source="מקור",
                prompt=f"סכמו: {row['item']}",
                models=models,
                texts=row.get("texts", tuple(f"תשובת {model}" for model in models)),
                masked=tuple(False for _ in models),
                expected=row.get("expected"),
                planned=1,
            )
        made.append(
            CollectedVote(
                id=f"00000000-0000-4000-8000-{number:012d}",
                task=tasks[key],
                rater=row["rater"],
                kind=kind,
                swapped=row.get("swapped", False),
                answer=row["answer"],
                seconds=row.get("seconds", 30.0),
                note="",
                at=1_800_000_000.0 + number,
                first_at=1_800_000_000.0 + number,
                revision=1,
                position=number,
                excluded=row.get("excluded", ()),
            )
        )
    raters = dict.fromkeys(vote.rater for vote in made)
    return Collected(
        study=study,
        published=1_800_000_000.0,
        closed=closed,
        now=1_800_100_000.0,
        tasks=tuple(tasks.values()),
        raters=tuple(
            Rater(pseudonym=name, role="rater", joined=0.0, seen=0.0, erased=False)
            for name in raters
        ),
        votes=tuple(made),
        slots=len(made),
        answered=len(made),
        leased=0,
        corrections=0,
        forgotten=0,
        reveals=(),
    )


def simulated(
    strengths: dict[str, float], *, raters: int = 12, votes_each: int = 30, seed: int = 0
) -> list[dict[str, Any]]:
    """Return votes on pairs drawn from Davidson's model, sides at random."""
    generator = np.random.default_rng(seed)
    names = sorted(strengths)
    rows = []
    for rater in range(raters):
        for number in range(votes_each):
            a, b = sorted(generator.choice(len(names), 2, replace=False))
            gap = strengths[names[a]] - strengths[names[b]]
            win, loss, _ = probabilities(np.array([gap]), 0.5)
            draw = generator.random()
            first = "first" if draw < win[0] else "second" if draw < win[0] + loss[0] else "tie"
            rows.append(
                {
                    "item": f"i-{rater}-{number}",
                    "rater": f"r-{rater}",
                    "models": (names[a], names[b]),
                    "answer": {"outcome": first},
                    "swapped": bool(generator.integers(2)),
                }
            )
    return rows
