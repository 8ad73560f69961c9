"""The plan of a study: which questions, asked of whom, on which side, in which order.

A question is an item with a pair of models (or with one, where answers are judged singly). The
plan is incomplete, since all pairs of all items would be too many, and balanced, so that no
model is better known than another; it is a pure function of sizes and a seed:

* questions run through items and pairs so that the uses of any two items, or any two pairs,
  differ by one at most;
* a share of the questions, spread over the pairs, is asked of several raters (for agreement),
  the others of one: at a fixed budget, more items tell models apart better than more judgements
  of one (Steen and Markert 2021, EACL, 1861-1875);
* each seat, the work of one rater, has its share of every pair and no question twice;
* within a seat each model is shown first as often as second, give or take one;
* hidden repeats come at least half a seat later, with the sides swapped.

    >>> seats = plan_seats(study.plan, items=100, models=3, paired=True, checks=(0, 0), seed=7)
    >>> len(seats), len(seats[0])
    (30, 42)
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from hebench.human.study import Plan

Question = tuple[int, int, int]  # item, first model, second model (-1 where one is judged)


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One page of a seat: a question of the plan, a hidden repeat of one, or check `number`."""

    kind: str  # main, repeat, gold or attention
    question: Question | None
    number: int | None
    swapped: bool


Seat = tuple[Planned, ...]


def plan_seats(  # noqa: PLR0913 (the sizes of a study)
    plan: Plan, *, items: int, models: int, paired: bool, checks: tuple[int, int], seed: int
) -> tuple[Seat, ...]:
    """Return the pages of each of `plan.raters` seats, in the order in which they are shown.

    checks: how many gold questions and attention checks there are to choose from. Where items
    and models allow fewer questions than the plan asks for, seats are smaller.
    """
    generator = np.random.default_rng(seed)
    copies = _copies(plan, _questions(plan, items, models, paired, generator), generator)
    seats = []
    surplus: Counter[tuple[int, int]] = Counter()
    for mine in _dealt(plan.raters, copies, generator):
        swaps = _sides(mine, surplus, generator) if paired else [False] * len(mine)
        order = generator.permutation(len(mine))
        main = [
            Planned(kind="main", question=mine[i], number=None, swapped=swaps[i]) for i in order
        ]
        seats.append(_with_checks(plan, main, paired, checks, generator))
    return tuple(seats)


def _questions(
    plan: Plan, items: int, models: int, paired: bool, generator: np.random.Generator
) -> list[Question]:
    """Return the questions, as many as the votes allow, uses of items and of pairs balanced.

    Question t takes item t mod I and pair t mod P. That visits every combination of one residue
    class of gcd(I, P) in lcm(I, P) steps; the next class begins with pairs shifted by one.
    """
    pairs = _rounds(models, generator) if paired else [(m, -1) for m in range(models)]
    per_question = 1 + plan.overlap_share * (plan.overlap - 1)
    wanted = int(plan.raters * plan.votes_each / per_question + 1e-9)
    shuffled = generator.permutation(items)
    cycle = math.lcm(items, len(pairs))
    return [
        (int(shuffled[t % items]), *pairs[(t + t // cycle) % len(pairs)])
        for t in range(min(wanted, items * len(pairs)))
    ]


def _rounds(models: int, generator: np.random.Generator) -> list[tuple[int, int]]:
    """Return all pairs of models, each model once in any M / 2 pairs that follow each other.

    The circle method of tournaments: one place stands still, the others turn.
    """
    names = [int(model) for model in generator.permutation(models)]
    if models % 2:
        names.append(-1)
    pairs = []
    for _ in range(len(names) - 1):
        for place in range(len(names) // 2):
            a, b = names[place], names[-1 - place]
            if a >= 0 and b >= 0:
                pairs.append((min(a, b), max(a, b)))
        names = [names[0], names[-1], *names[1:-1]]
    assert sorted(pairs) == list(combinations(range(models), 2)), "a pair is missing"
    return pairs


def _copies(
    plan: Plan, questions: list[Question], generator: np.random.Generator
) -> list[tuple[Question, int]]:
    """Return each question with its number of raters, questions of a pair in random order."""
    order = sorted(generator.permutation(len(questions)), key=lambda t: questions[t][1:])
    asked = []
    for place, number in enumerate(order):
        share = plan.overlap_share
        shared = math.floor((place + 1) * share + 1e-9) > math.floor(place * share + 1e-9)
        asked.append((questions[number], plan.overlap if shared else 1))
    return asked


def _dealt(
    raters: int, copies: list[tuple[Question, int]], generator: np.random.Generator
) -> list[list[Question]]:
    """Deal the questions, sorted by pair, one to each seat in turn, in a new order every turn.

    So seats differ by one in size and hardly in pairs. Copies of a question follow each other;
    where a turn ends between them, the next one begins with seats that do not have it.
    """
    seats: list[list[Question]] = [[] for _ in range(raters)]
    turn: list[int] = []
    for question, count in copies:
        taken: set[int] = set()
        for _ in range(count):
            if not turn:
                turn = [int(seat) for seat in generator.permutation(raters)]
            seat = next(seat for seat in turn if seat not in taken)
            turn.remove(seat)
            taken.add(seat)
            seats[seat].append(question)
    return seats


def _sides(
    questions: list[Question], surplus: Counter[tuple[int, int]], generator: np.random.Generator
) -> list[bool]:
    """Return whether the sides of each question are swapped, each model balanced to within one.

    The questions are the edges of a graph whose points are models. Walk along unused edges,
    beginning at points of odd degree while there are any: every walk passes through its points,
    so showing the model walked from first balances all but the walk's two ends. The direction
    of a walk is free, and chosen so that each pair, over all seats, is shown both ways alike;
    `surplus` counts how often more a pair was shown in its own order.
    """
    swaps = [False] * len(questions)
    for walk in _walks(questions, generator):
        lead = sum(surplus[questions[edge][1:]] * _sign(questions[edge], a) for edge, a in walk)
        turned = lead > 0 or (lead == 0 and bool(generator.integers(2)))
        for edge, leaves in walk:
            swaps[edge] = (_sign(questions[edge], leaves) < 0) != turned
            surplus[questions[edge][1:]] += -1 if swaps[edge] else 1
    return swaps


def _walks(
    questions: list[Question], generator: np.random.Generator
) -> Iterator[list[tuple[int, int]]]:
    """Yield walks that use every question once; a point is the end of one open walk at most."""
    free: dict[int, set[int]] = defaultdict(set)
    for edge, (_, a, b) in enumerate(questions):
        free[a].add(edge)
        free[b].add(edge)
    points = [int(point) for point in generator.permutation(sorted(free))]
    for point in points:
        if len(free[point]) % 2:  # a walk from here ends at another odd point, and both are even
            yield _walk(point, questions, free)
    for point in points:
        while free[point]:
            yield _walk(point, questions, free)


def _sign(question: Question, leaves: int) -> int:
    """Return 1 where a walk leaves a question by its first model, -1 by its second."""
    return 1 if leaves == question[1] else -1


def _walk(
    start: int, questions: list[Question], free: dict[int, set[int]]
) -> list[tuple[int, int]]:
    """Return the edges of a walk until it can go no further, each with the point it leaves."""
    walk, here = [], start
    while free[here]:
        edge = min(free[here])
        _, a, b = questions[edge]
        walk.append((edge, here))
        there = b if here == a else a
        free[a].discard(edge)
        free[b].discard(edge)
        here = there
    return walk


def _with_checks(
    plan: Plan,
    main: list[Planned],
    paired: bool,
    checks: tuple[int, int],
    generator: np.random.Generator,
) -> Seat:
    """Return a seat's pages with repeats and checks spread among them."""
    size = len(main)
    placed = [(float(place), page) for place, page in enumerate(main)]
    half = size // 2
    for origin in generator.permutation(half)[: plan.repeats]:
        page = main[origin]
        again = Planned(
            kind="repeat",
            question=page.question,
            number=None,
            swapped=not page.swapped if paired else False,
        )
        placed.append((generator.uniform(origin + half, size) - 0.5, again))
    for kind, count, known in (
        ("gold", plan.gold, checks[0]),
        ("attention", plan.attention, checks[1]),
    ):
        for place, number in enumerate(generator.permutation(known)[:count]):
            # One in each part of the seat, at a random place in it.
            at = (place + generator.random()) * size / count - 0.5
            swapped = paired and bool(generator.integers(2))
            page = Planned(kind=kind, question=None, number=int(number), swapped=swapped)
            placed.append((at, page))
    return tuple(page for _, page in sorted(placed, key=lambda pair: pair[0]))
