"""How often the intervals of human votes hold the truth, and what simpler ways get wrong.

    python benchmarks/coverage_votes.py [--studies 1000]

Prints three tables, seeded; about two minutes. Raters have tastes of their own (each rater's
strengths are the common ones plus normal noise), so the truth is what an unlimited number of
raters would give, found by fitting the exact shares of 20,000 of them.
"""

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hebench.stats.agreement import krippendorff
from hebench.stats.davidson import probabilities
from hebench.stats.votes import Strengths, fit

Floats = NDArray[np.float64]

STRENGTHS = np.array([-0.6, -0.2, 0.0, 0.3, 0.5])
TASTE = 0.8  # standard deviation of a rater's own strengths
TIE = 0.7
VOTES_EACH = 40
MODELS = len(STRENGTHS)


def truth() -> Strengths:
    """Return the fit that unlimited raters would give."""
    tastes = STRENGTHS + np.random.default_rng(0).normal(0, TASTE, (20_000, MODELS))
    rows = []
    for i in range(MODELS):
        for j in range(MODELS):
            if i != j:
                shares = np.array(probabilities(tastes[:, i] - tastes[:, j], TIE)).mean(axis=1)
                rows += [(i, j, code, share) for code, share in enumerate(shares)]
    first, second, outcome, weights = np.array(rows).T
    return fit(
        first, second, outcome, list(range(len(rows))), models=MODELS, weights=weights, ridge=1e-9
    )


def study(
    generator: np.random.Generator, raters: int, taste: float, tie: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], list[int]]:
    """Return the votes of a study: first, second, outcome, rater."""
    votes = raters * VOTES_EACH
    rater = np.repeat(np.arange(raters), VOTES_EACH)
    own = STRENGTHS + generator.normal(0, taste, (raters, MODELS))
    first = generator.integers(0, MODELS, votes)
    second = (first + generator.integers(1, MODELS, votes)) % MODELS
    win, loss, _ = probabilities(own[rater, first] - own[rater, second], tie)
    draw = generator.random(votes)
    return first, second, np.where(draw < win, 0, np.where(draw < win + loss, 1, 2)), rater.tolist()


def intervals(studies: int) -> None:
    """Print how often intervals of differences and of win rates hold the truth."""
    target = truth()
    upper = np.triu_indices(MODELS, 1)
    wanted = (target.strengths[:, None] - target.strengths[None, :])[upper]
    print("| raters | votes | independent votes | clusters, z | clusters, t | win rates, t |")
    print("|--:|--:|--:|--:|--:|--:|")
    for raters in (5, 15, 30, 60):
        generator = np.random.default_rng(raters)
        held = np.zeros(4)
        for _ in range(studies):
            votes = study(generator, raters, TASTE, TIE)
            for column, clustered in ((0, False), (1, True)):
                found = fit(*votes, models=MODELS, clustered=clustered)
                gap = (found.strengths[:, None] - found.strengths[None, :])[upper] - wanted
                error = np.sqrt(found.difference_variances[upper])
                widths = (stats.norm.ppf(0.975), stats.t.ppf(0.975, found.dof))
                held[column] += (np.abs(gap) < widths[0] * error).mean()
                if clustered:
                    held[2] += (np.abs(gap) < widths[1] * error).mean()
                    inside = (found.win_rates_low <= target.win_rates) & (
                        target.win_rates <= found.win_rates_high
                    )
                    held[3] += inside.mean()
        cells = " | ".join(f"{100 * share:.1f} %" for share in held / studies)
        print(f"| {raters} | {raters * VOTES_EACH} | {cells} |")


def ties(studies: int) -> None:
    """Print what counting a tie as half a win each does to strengths."""
    spread = STRENGTHS[-1] - STRENGTHS[0]
    print("| tie parameter | ties | true best - worst | Davidson | tie as half a win each |")
    print("|--:|--:|--:|--:|--:|")
    for tie in (0.3, 0.7, 1.5):
        generator = np.random.default_rng(1)
        both, share = np.zeros(2), 0.0
        for _ in range(max(studies // 5, 1)):
            first, second, outcome, rater = study(generator, 30, 0.0, tie)
            share += float((outcome == 2).mean())
            found = fit(first, second, outcome, rater, models=MODELS)
            tied = outcome == 2
            halves = fit(
                np.concatenate([first, first[tied]]),
                np.concatenate([second, second[tied]]),
                np.concatenate([np.where(tied, 0, outcome), np.ones(tied.sum(), dtype=np.int64)]),
                rater + np.array(rater)[tied].tolist(),
                models=MODELS,
                weights=np.concatenate([np.where(tied, 0.5, 1.0), np.full(tied.sum(), 0.5)]),
            )
            both += [fitted.strengths[-1] - fitted.strengths[0] for fitted in (found, halves)]
        runs = max(studies // 5, 1)
        print(
            f"| {tie} | {100 * share / runs:.0f} % | {spread:.2f} | {both[0] / runs:.2f} "
            f"| {both[1] / runs:.2f} |"
        )


def ratings(generator: np.random.Generator, units: int) -> Floats:
    """Return five-step ratings by six raters, half of them missing."""
    latent = generator.normal(0, 1, (units, 1)) + generator.normal(0, 0.7, (units, 6))
    table = np.digitize(latent, [-1.2, -0.4, 0.4, 1.2]).astype(np.float64)
    table[generator.random(table.shape) < 0.5] = np.nan
    return table


def alphas(studies: int) -> None:
    """Print how often alpha's bootstrap interval holds the alpha of unlimited units."""
    generator = np.random.default_rng(2)
    target = krippendorff(ratings(generator, 200_000), "ordinal", resamples=1).value
    assert target is not None
    print(f"| units | alpha {target:.3f} held | mean width |")
    print("|--:|--:|--:|")
    for units in (30, 100, 200):
        held, width = 0, 0.0
        for _ in range(studies):
            found = krippendorff(ratings(generator, units), "ordinal", resamples=400)
            assert found.low is not None and found.high is not None
            held += found.low <= target <= found.high
            width += found.high - found.low
        print(f"| {units} | {100 * held / studies:.1f} % | {width / studies:.3f} |")


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description="Coverage of the intervals of human votes.")
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies a row")
    studies = parser.parse_args().studies
    pairs = MODELS * (MODELS - 1) // 2
    print(f"\nCoverage of 95 % intervals: {pairs} differences of strengths, {MODELS} win rates;")
    print(f"{studies} studies a row, {VOTES_EACH} votes a rater, own tastes with sd {TASTE}\n")
    intervals(studies)
    print("\nTies: what is estimated, no tastes, 1,200 votes\n")
    ties(studies)
    print("\nKrippendorff's ordinal alpha, bootstrap over units, six raters, half missing\n")
    alphas(studies)


if __name__ == "__main__":
    main()
