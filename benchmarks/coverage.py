"""How often the intervals, tests and rank sets of `hebench.stats` are right, on simulated boards.

    python benchmarks/coverage.py

The truth is known because it was made up: binary items with their own difficulty, passages with
several questions, documents with a quality. Each row simulates many boards and counts how often
the interval (the plain textbook one beside it) holds the truth; 95 % is the promise. Tests are
counted where nothing is to be found: they must call 5 % or less significant. Seeded, a few
minutes; a share of 95 % of 2,000 boards is exact to about one point.
"""

import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hebench.metrics.text import chrf_statistics
from hebench.stats.intervals import mean_interval, wilson
from hebench.stats.macro import macro_mean
from hebench.stats.paired import compare
from hebench.stats.ranks import difference_variances, rank_sets
from hebench.stats.resample import chrf_from_statistics, corpus_bootstrap

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Rows = list[Sequence[object]]

BOARDS = 2000
Z = float(stats.norm.ppf(0.975))


def print_table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print one Markdown table; shares are given in percent."""
    print(f"\n**{title}**\n")
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        cells = [f"{100 * x:.1f} %" if isinstance(x, float) else str(x) for x in row]
        print("| " + " | ".join(cells) + " |", flush=True)


def holds(low: float, high: float, truth: float) -> bool:
    """Return whether the interval holds the truth, but for rounding."""
    return low - 1e-12 <= truth <= high + 1e-12


def proportions() -> Rows:
    """Return Wilson's and Wald's exact coverage, summed over the binomial distribution."""
    rows: Rows = []
    for n in (20, 30, 100, 300):
        for share in (0.6, 0.95):
            found = {"wilson": 0.0, "wald": 0.0}
            for count in range(n + 1):
                mean, weight = count / n, float(stats.binom.pmf(count, n, share))
                half = Z * np.sqrt(mean * (1 - mean) / n)
                found["wilson"] += weight * holds(*wilson(mean, n), share)
                found["wald"] += weight * holds(mean - half, mean + half, share)
            rows.append((n, share, found["wilson"], found["wald"]))
    return rows


def passages(generator: np.random.Generator, groups: int, size: int) -> tuple[Floats, Integers]:
    """Return 0/1 scores of questions on passages of uneven difficulty (mean 0.6), and codes."""
    codes = np.repeat(np.arange(groups), size)
    chance = generator.beta(1.8, 1.2, groups)[codes]
    return (generator.random(groups * size) < chance).astype(float), codes


def clusters() -> Rows:
    """Return the coverage of a mean over passages, by our rule and as if items were independent."""
    rows: Rows = []
    for groups in (8, 15, 30, 100):
        generator = np.random.default_rng(groups)
        hits = np.zeros(2)
        for _ in range(BOARDS):
            scores, codes = passages(generator, groups, 5)
            for place, labels in enumerate((codes, None)):
                found = mean_interval(scores, labels)
                hits[place] += holds(found.low, found.high, 0.6)
        rows.append((groups, groups * 5, *map(float, hits / BOARDS)))
    return rows


def rivals(
    generator: np.random.Generator, n: int, *, size: int, graded: bool, gap: float
) -> tuple[Floats, Floats, Integers]:
    """Return scores of two models whose expected scores differ by `gap`, in clusters of `size`."""
    codes = np.arange(n) // size
    easy = generator.uniform(0, 0.75, codes.max() + 1)[codes]
    chances = np.stack([easy + 0.1 + gap, easy + 0.1])
    if graded:
        noise = generator.uniform(-0.1, 0.1, (2, codes.max() + 1))[:, codes]
        a, b = chances + noise
    else:
        # A shared draw: two models mostly fail on the same items.
        shared, own = generator.random(n), generator.random((2, n))
        draw = np.where(generator.random(n) < 0.6, shared, own)
        a, b = (draw < chances).astype(float)
    return a, b, codes


def pairs() -> Rows:
    """Return coverage of a paired difference; the interval of two independent means beside it."""
    rows: Rows = []
    for kind, n, size, graded in (
        ("0/1", 30, 1, False),
        ("0/1", 100, 1, False),
        ("0/1", 1000, 1, False),
        ("graded", 30, 1, True),
        ("0/1, clusters of 5", 100, 5, False),
        ("graded, clusters of 5", 60, 5, True),
    ):
        generator = np.random.default_rng(n + size)
        hits, widths = np.zeros(2), np.zeros(2)
        for _ in range(BOARDS):
            a, b, codes = rivals(generator, n, size=size, graded=graded, gap=0.05)
            found = compare(a, b, codes, draws=1)
            half = Z * np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / n)
            hits += holds(found.low, found.high, 0.05), abs(found.difference - 0.05) <= half
            widths += found.high - found.low, 2 * half
        rows.append((kind, n, *map(float, hits / BOARDS), f"{widths[1] / widths[0]:.2f}"))
    return rows


def errors_of_tests() -> Rows:
    """Return how often tests at 5 % find a difference between equally good models."""
    rows: Rows = []
    for kind, n, size, graded in (
        ("0/1", 30, 1, False),
        ("0/1", 200, 1, False),
        ("graded", 20, 1, True),
        ("0/1, clusters of 5", 50, 5, False),
        ("0/1, clusters of 5", 200, 5, False),
    ):
        generator = np.random.default_rng(7 * n + size)
        hits = np.zeros(4)
        for _ in range(BOARDS):
            a, b, codes = rivals(generator, n, size=size, graded=graded, gap=0.0)
            found = compare(a, b, codes, draws=400)
            spread = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / n)
            hits += (
                found.p < 0.05,
                found.sign_flip_p < 0.05,
                not holds(found.bootstrap_low, found.bootstrap_high, 0.0),
                abs(found.difference) > Z * spread,
            )
        rows.append((kind, n, *map(float, hits / BOARDS)))
    return rows


def macro() -> Rows:
    """Return coverage of an average over fixed tasks, with a naive z interval beside it."""
    rows: Rows = []
    for name, sizes, truths in (
        ("6 tasks, 20 to 500 items", (20, 30, 50, 100, 200, 500), (0.5, 0.9, 0.97, 0.4, 0.7, 0.6)),
        ("4 tasks of 25 items near the ceiling", (25,) * 4, (0.97, 0.95, 0.98, 0.9)),
        ("3 tasks of 15 items", (15,) * 3, (0.3, 0.5, 0.8)),
    ):
        generator = np.random.default_rng(len(sizes))
        truth, hits = float(np.mean(truths)), np.zeros(2)
        for _ in range(BOARDS):
            scores = [
                (generator.random(n) < p).astype(float) for n, p in zip(sizes, truths, strict=True)
            ]
            tasks = [mean_interval(values) for values in scores]
            found = macro_mean([t.mean for t in tasks], [t.standard_error for t in tasks], sizes)
            plain = np.sqrt(sum(x.var(ddof=1) / len(x) for x in scores)) / len(sizes)
            hits += holds(found.low, found.high, truth), abs(found.mean - truth) <= Z * plain
        rows.append((name, *map(float, hits / BOARDS)))
    return rows


def sampled_tasks() -> Rows:
    """Return coverage of an average over tasks drawn anew: t over tasks, and a task bootstrap."""
    rows: Rows = []
    for tasks in (5, 10, 20):
        generator = np.random.default_rng(tasks)
        hits = np.zeros(3)
        for _ in range(BOARDS):
            truths = generator.beta(6, 4, tasks)  # mean 0.6
            means = generator.binomial(200, truths) / 200
            errors = np.sqrt(means * (1 - means) / 199 + 1e-9)
            found = macro_mean(means, errors, [200] * tasks)
            drawn = means[generator.integers(0, tasks, (400, tasks))].mean(axis=1)
            hits += (
                holds(found.sample_low, found.sample_high, 0.6),
                holds(*np.quantile(drawn, [0.025, 0.975]), 0.6),
                holds(found.low, found.high, 0.6),
            )
        rows.append((tasks, *map(float, hits / BOARDS)))
    return rows


def boards(count: int = 400) -> Rows:
    """Return how often *all* true ranks lie in their sets, and with overlapping error bars."""
    rows: Rows = []
    for name, models, groups, size, spread in (
        ("all equal", 10, 300, 1, 0.0),
        ("spread", 10, 300, 1, 0.25),
        ("spread, 5 questions a passage", 10, 60, 5, 0.25),
        ("12 passages only", 6, 12, 10, 0.15),
        ("more models than items", 40, 30, 1, 0.25),
    ):
        generator = np.random.default_rng(models + groups)
        gains = spread * np.linspace(-0.5, 0.5, models)
        truth = np.arange(models, 0, -1) if spread else None
        hits, width = np.zeros(2), 0.0
        codes = np.repeat(np.arange(groups), size)
        for _ in range(count):
            easy = generator.uniform(0.25, 0.75, groups)[codes]
            own = generator.normal(0, 0.08, (models, groups))[:, codes]  # tastes of a passage
            draw = generator.random((models, len(codes)))
            scores = (draw < easy + gains[:, None] + own).astype(float)
            means, variances = scores.mean(axis=1), difference_variances(scores, codes)
            ranks = rank_sets(means, variances, dof=groups - 1, draws=500)
            bounds = [mean_interval(row, codes) for row in scores]
            low, high = (np.array([getattr(b, x) for b in bounds]) for x in ("low", "high"))
            apart = low[:, None] > high[None, :]
            marginal = 1 + apart.sum(axis=0), models - apart.sum(axis=1)
            hits += inside(ranks.low, ranks.high, truth), inside(*marginal, truth)
            width += float((ranks.high - ranks.low + 1).mean()) / count
        rows.append(
            (name, f"{models} x {groups * size}", *map(float, hits / count), f"{width:.1f}")
        )
    return rows


def inside(low: Integers, high: Integers, truth: Integers | None) -> bool:
    """Return whether all true ranks are inside; equals (no truth) have every rank."""
    if truth is None:
        return bool(np.all(low == 1) and np.all(high == len(low)))
    return bool(np.all((low <= truth) & (truth <= high)))


def corpora(count: int = 1000) -> Rows:
    """Return coverage of corpus chrF++ over documents, moved-out and plain percentiles."""
    words = [f"{a}{b}" for a in ("ה", "ב", "ל", "") for b in ("ילד", "תפוח", "בית", "ספר")]
    generator = np.random.default_rng(0)
    pairs = []
    documents = np.repeat(np.arange(600), 4)
    for quality in generator.beta(2, 2, 600)[documents]:
        reference = generator.choice(words, generator.integers(4, 20))
        kept = generator.random(len(reference)) < quality
        answer = np.where(kept, reference, generator.choice(words, len(reference)))
        pairs.append((" ".join(answer), [" ".join(reference)]))
    rows = chrf_statistics(pairs).reshape(600, 4, -1)
    truth = float(chrf_from_statistics(rows.sum(axis=(0, 1))[None])[0])
    found: Rows = []
    for sampled in (8, 15, 30, 100):
        hits = np.zeros(3)
        codes = np.repeat(np.arange(sampled), 4)
        for seed in range(count):
            drawn = rows[generator.integers(0, 600, sampled)]
            flat = drawn.reshape(sampled * 4, -1)
            moved = corpus_bootstrap(flat, chrf_from_statistics, codes, resamples=400, seed=seed)
            sums = np.stack(
                [
                    drawn[generator.integers(0, sampled, sampled)].sum(axis=(0, 1))
                    for _ in range(200)
                ]
            )
            plain = np.quantile(chrf_from_statistics(sums), [0.025, 0.975])
            items = corpus_bootstrap(flat, chrf_from_statistics, resamples=400, seed=seed)
            hits += (
                holds(moved.low, moved.high, truth),
                holds(*plain, truth),
                holds(items.low, items.high, truth),
            )
        found.append((sampled, *map(float, hits / count)))
    return found


STUDIES: tuple[tuple[str, tuple[str, ...], Callable[[], Rows]], ...] = (
    ("A share of right answers (exact)", ("n", "truth", "Wilson", "Wald"), proportions),
    (
        "A mean over passages of 5 questions",
        ("passages", "items", "cluster-robust t", "as if independent"),
        clusters,
    ),
    (
        "The difference of two models, truly 5 points",
        ("scores", "n", "paired", "two means", "two means' width / paired"),
        pairs,
    ),
    (
        "Equal models called different at 5 %",
        ("scores", "n", "p by the rule", "sign flips", "bootstrap", "unpaired z"),
        errors_of_tests,
    ),
    ("An average over these tasks", ("tasks", "Satterthwaite t", "plain z"), macro),
    (
        "An average over tasks in general",
        ("tasks", "t over tasks", "bootstrap of tasks", "items' noise alone"),
        sampled_tasks,
    ),
    (
        "All true ranks inside at once",
        ("board", "models x items", "rank sets", "overlapping intervals", "mean size of a set"),
        boards,
    ),
    (
        "Corpus chrF++ of documents of 4 items",
        ("documents", "ours", "plain percentiles", "items as if independent"),
        corpora,
    ),
)


def main() -> None:
    """Print every table."""
    for title, head, study in STUDIES:
        start = time.perf_counter()
        print_table(title, head, study())
        print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
