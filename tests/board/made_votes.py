"""Made-up votes for tests: seeded strengths, tastes of raters, a pull towards the first side."""

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MODELS = ("model-a", "model-b", "model-c", "model-d")
Line = dict[str, Any]


def header(name: str = "summaries-1") -> Line:
    """The first line of a study."""
    return {
        "schema": 1,
        "study": name,
        "title": {"he": "תקצירים", "en": "Summaries"},
        "question": {"he": "איזה תקציר טוב יותר?", "en": "Which summary is better?"},
        "closed": "2026-12-01",
    }


def vote(outcome: str = "first", **changes: Any) -> Line:
    """One vote, a good one unless changed."""
    found = {"item": "i0", "rater": "r0", "first": "model-a", "second": "model-b"}
    return found | {"outcome": outcome, "excluded": None} | changes


def made_votes(
    count: int = 300, *, raters: int = 10, models: Sequence[str] = MODELS, seed: int = 1
) -> list[Line]:
    """Votes that prefer earlier models, each rater judging a pair of an item once."""
    made = random.Random(seed)
    strength = {model: -0.6 * place for place, model in enumerate(models)}
    taste = {(rater, model): made.gauss(0, 0.4) for rater in range(raters) for model in models}
    lines: dict[tuple[str, int, frozenset[str]], Line] = {}
    while len(lines) < count:
        rater, item = made.randrange(raters), f"i{made.randrange(30)}"
        first, second = made.sample(list(models), 2)
        eta = strength[first] - strength[second] + taste[rater, first] - taste[rater, second] + 0.3
        weights = [math.exp(eta / 2), math.exp(-eta / 2), 0.25, 0.15, 0.15, 0.05]
        outcomes = ["first", "second", "tie", "both_good", "both_bad", "cannot_judge"]
        lines[item, rater, frozenset((first, second))] = vote(
            made.choices(outcomes, weights)[0],
            item=item,
            rater=f"r{rater}",
            first=first,
            second=second,
        )
    return list(lines.values())


def write_votes(folder: Path, lines: Sequence[Line], *, first: Line | None = None) -> Path:
    """Write a study where the board looks for it."""
    head = first or header()
    path = folder / "votes" / f"{head['study']}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [json.dumps(line, ensure_ascii=False) for line in (head, *lines)]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path
