"""How well each rule chooses a checkpoint, over made-up runs whose truth is known.

    python benchmarks/selection.py            # 400 runs of each shape, about two minutes
    python benchmarks/selection.py --runs 40  # a glance

A made-up run has 20 checkpoints, 4 tasks of 150 items (0/1), and a true quality by step: rising
to a plateau, rising and falling (loss goes on falling), rising throughout, or flat; with small
true jumps from checkpoint to checkpoint (sd 0.3 points). An item's answer flips with a latent
number that neighbouring checkpoints share in part, as real ones do. Losses are the mean true
quality's mirror with noise, or, in the falling shape, fall throughout.

Printed: how often the choice is truly within 0.5 points of the best, the mean regret in points,
how often the interval that goes with the choice covers the chosen one's true score, and how often
the set of equals holds the true best of those the rule considers, with its size. For `best`,
`paper` and `last` the interval is the usual one of a single model, which knows nothing of the
choice. The last rows are short runs with a sharp bend: a straight rise to a corner and nothing
after it, which smoothing rounds off. Also: the time to choose among 1,000 checkpoints on 20 tasks.
"""

import argparse
import time

import numpy as np
from scipy import stats

from hebench.selection.log import Evaluated, TaskItems
from hebench.selection.rules import SelectConfig, decide

SHAPES = ("plateau", "rise and fall", "rising", "flat")
CHECKPOINTS, SHORT, TASKS, ITEMS = 20, (6, 8, 12), 4, 150


def truth(shape: str, rng: np.random.Generator, count: int) -> np.ndarray:
    """Return the true mean quality, (count,), in [0, 1]."""
    t = np.linspace(0, 1, count)
    if shape == "corner":
        return 0.45 + 0.12 * np.minimum(t / rng.uniform(0.2, 0.6), 1) + rng.normal(0, 0.003, count)
    rise = 0.12 * (1 - np.exp(-t / rng.uniform(0.1, 0.4)))
    curve = {
        "plateau": 0.45 + rise,
        "rise and fall": 0.45 + rise - rng.uniform(0.06, 0.15) * np.clip(t - 0.4, 0, None),
        "rising": 0.45 + 0.12 * t,
        "flat": np.full(count, 0.5),
    }[shape]
    return curve + rng.normal(0, 0.003, count)


def made_run(shape: str, rng: np.random.Generator, count: int = CHECKPOINTS):
    """Return a log of made-up checkpoints and the true mean score of each."""
    quality = truth(shape, rng, count)
    offsets = rng.normal(0, 0.08, TASKS)
    true = np.zeros(count)
    tasks: list[dict[str, TaskItems]] = [{} for _ in range(count)]
    for task in range(TASKS):
        level = np.clip(quality + offsets[task], 0.05, 0.95)
        true += level / TASKS
        # An item's latent number: mostly its own difficulty, partly drifting with training.
        own = rng.normal(0, np.sqrt(0.7), ITEMS)
        drift = np.zeros((count, ITEMS))
        drift[0] = rng.normal(0, 1, ITEMS)
        for i in range(1, count):
            drift[i] = 0.7 * drift[i - 1] + np.sqrt(1 - 0.49) * rng.normal(0, 1, ITEMS)
        latent = own + np.sqrt(0.3) * drift
        right = latent < stats.norm.ppf(level)[:, None]
        for i in range(count):
            tasks[i][f"task{task}"] = TaskItems(
                version="1", prompt_sha256="p", data_sha256="d", scores=right[i].astype("f4")
            )
    falling = np.linspace(3.0, 2.6, count) + rng.normal(0, 0.01, count)
    smooth = 5 - 4 * np.convolve(np.pad(quality, 2, mode="edge"), np.ones(5) / 5, mode="valid")
    loss = falling if shape == "rise and fall" else smooth + rng.normal(0, 0.01, count)
    log = [
        Evaluated(
            checkpoint=f"c{i}",
            step=500 * (i + 1),
            loss_nats=float(loss[i]),
            tasks=tasks[i],
        )
        for i in range(count)
    ]
    return log, true


RULES = {
    "confident": SelectConfig(),
    "confident, lowest loss": SelectConfig(prefer="lowest_loss"),
    "confident, earliest": SelectConfig(prefer="earliest"),
    "best": SelectConfig(rule="best"),
    "paper": SelectConfig(rule="paper"),
    "last": SelectConfig(rule="paper", lowest=1, window_steps=1),
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=400)
    runs = parser.parse_args().runs
    print(f"{runs} runs of each shape, {CHECKPOINTS} checkpoints, {TASKS} x {ITEMS} items")
    print(
        "| rule | shape | within 0.5 | regret | interval covers | width | set holds best | size |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for rule in RULES:
        everything = []
        for shape in SHAPES:
            found = tried(rule, shape, runs, CHECKPOINTS)
            everything += found
            show(rule, shape, found)
        show(rule, "all", everything)
    for count in SHORT:
        for rule in ("confident", "best"):
            show(rule, f"corner, {count} checkpoints", tried(rule, "corner", runs, count))
    speed()


def tried(rule: str, shape: str, runs: int, count: int) -> list[tuple[float, ...]]:
    """Return what came of a rule in each of the made-up runs, in the order of the columns."""
    rng = np.random.default_rng(7)
    found = []
    for _ in range(runs):
        log, true = made_run(shape, rng, count)
        made = decide(log, RULES[rule])
        place = [entry.checkpoint for entry in log].index(made.chosen)
        low, high = made.low, made.high
        considered = [candidate.allowed for candidate in made.candidates]
        best = int(np.where(considered, true, 0).argmax())
        if rule in ("best", "last", "paper"):
            low, high = usual(log[place])
        found.append(
            (
                true.max() - true[place] <= 0.005,
                100 * (true.max() - true[place]),
                low <= true[place] <= high,
                100 * (high - low),
                log[best].checkpoint in made.equals,
                len(made.equals),
            )
        )
    return found


def usual(entry: Evaluated) -> tuple[float, float]:
    """Return the interval of one model that nobody picked, 95 %."""
    scores = np.array([task.scores for task in entry.tasks.values()])
    error = np.sqrt((scores.var(axis=1, ddof=1) / scores.shape[1]).sum()) / len(scores)
    half = stats.t.ppf(0.975, scores.shape[1] - 1) * error
    return scores.mean() - half, scores.mean() + half


def show(rule: str, shape: str, found: list[tuple[float, ...]]) -> None:
    """Print one row."""
    within, regret, covers, width, holds, size = np.mean(np.array(found, dtype=float), axis=0)
    print(
        f"| {rule} | {shape} | {within:.0%} | {regret:.2f} | {covers:.1%} | {width:.1f} "
        f"| {holds:.1%} | {size:.1f} |",
        flush=True,
    )


def speed() -> None:
    """Print how long 1,000 checkpoints on 20 tasks of 200 items take, all of them at chance.

    Then every task's scores are judged against all checkpoints at once, and so are the margins
    that stand in for them: nothing takes longer.
    """
    rng = np.random.default_rng(1)
    log = [
        Evaluated(
            checkpoint=f"c{i}",
            step=i,
            tasks={
                f"task{t}": TaskItems(
                    version="1",
                    prompt_sha256="p",
                    data_sha256="d",
                    scores=(rng.random(200) < 0.5).astype("f4"),
                    margins=rng.random(200).astype("f4"),
                    chance=0.5,
                )
                for t in range(20)
            },
        )
        for i in range(1, 1001)
    ]
    start, busy = time.perf_counter(), time.process_time()
    decide(log, SelectConfig())
    print(
        f"1,000 checkpoints x 20 tasks x 200 items: {time.perf_counter() - start:.1f} s, "
        f"{time.process_time() - busy:.1f} s of it computing"
    )


if __name__ == "__main__":
    main()
