import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from hebench.metrics.text import bleu_statistics, chrf_statistics, corpus_bleu, corpus_chrf
from hebench.stats.intervals import mean_interval
from hebench.stats.resample import (
    bleu_from_statistics,
    chrf_from_statistics,
    corpus_bootstrap,
    paired_corpus_bootstrap,
)

Pairs = list[tuple[str, list[str]]]
Floats = NDArray[np.float64]

WORDS = ["הילד", "אכל", "תפוח", "ירוק", "בבית", "הספר", "שלום,", "כל", "(יום)", "גדול.", "לא"]
sentences = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)
corpora = st.lists(st.tuples(sentences, st.lists(sentences, min_size=1, max_size=3)), min_size=1)


def corpus(n: int, copied: float, seed: int = 0) -> Pairs:
    """Return n answers to the same references of this seed, each word right with some chance."""
    generator = np.random.default_rng(seed)
    references = [generator.choice(WORDS, generator.integers(4, 15)) for _ in range(n)]
    right = [generator.random(len(words)) < copied for words in references]
    answers = [
        np.where(keep, words, generator.choice(WORDS, len(words)))
        for keep, words in zip(right, references, strict=True)
    ]
    return [(" ".join(a), [" ".join(r)]) for a, r in zip(answers, references, strict=True)]


def share(values: Floats) -> Floats:
    """Return (R,) shares of ones, from (R, 2) sums of (score, 1): a mean as a corpus score."""
    return values[:, 0] / values[:, 1]


@given(pairs=corpora)
def test_sums_of_rows_give_sacrebleus_corpus_scores(pairs: Pairs) -> None:
    """Several references, empty answers, orders without a match and smoothing among them."""
    bleu, chrf = (rows(pairs).sum(axis=0)[None] for rows in (bleu_statistics, chrf_statistics))
    assert bleu_from_statistics(bleu)[0] == pytest.approx(corpus_bleu(pairs), abs=1e-12)
    assert chrf_from_statistics(chrf)[0] == pytest.approx(corpus_chrf(pairs), abs=1e-12)


def test_rows_of_many_corpora_are_scored_at_once() -> None:
    corpora = [corpus(5, copied, seed) for seed, copied in enumerate((0.1, 0.5, 1.0))]
    rows = np.stack([chrf_statistics(pairs).sum(axis=0) for pairs in corpora])
    assert chrf_from_statistics(rows) == pytest.approx([corpus_chrf(pairs) for pairs in corpora])
    rows = np.stack([bleu_statistics(pairs).sum(axis=0) for pairs in corpora])
    assert bleu_from_statistics(rows) == pytest.approx([corpus_bleu(pairs) for pairs in corpora])


@pytest.mark.parametrize("name", ["chrf", "bleu"])
def test_the_interval_is_near_sacrebleus_own(name: str) -> None:
    pairs = corpus(200, 0.5)
    metric, rows, score = {
        "chrf": (CHRF(word_order=2), chrf_statistics, chrf_from_statistics),
        "bleu": (BLEU(), bleu_statistics, bleu_from_statistics),
    }[name]
    references = [[item[1][0] for item in pairs]]
    other = metric.corpus_score([item[0] for item in pairs], references, n_bootstrap=1000)
    found = corpus_bootstrap(rows(pairs), score)
    assert 100 * found.mean == pytest.approx(other.score, abs=1e-9)
    assert 50 * (found.high - found.low) == pytest.approx(other._ci, rel=0.12)
    assert found.low < found.mean < found.high
    assert found.method == "bootstrap, 200 items"


def test_a_mean_as_a_corpus_score_gives_the_t_interval() -> None:
    """Few clusters of unequal size, where a plain percentile interval is a tenth too narrow."""
    generator = np.random.default_rng(0)
    codes = np.repeat(np.arange(12), generator.integers(3, 8, 12))
    scores = np.clip(
        generator.normal(0.5, 0.1, 12)[codes] + generator.normal(0, 0.1, len(codes)), 0, 1
    )
    rows = np.column_stack([scores, np.ones(len(codes))])
    found = corpus_bootstrap(rows, share, codes, resamples=20_000)
    expected = mean_interval(scores, codes)
    assert found.mean == pytest.approx(expected.mean)
    assert found.high - found.low == pytest.approx(expected.high - expected.low, rel=0.06)
    assert (found.clusters, found.n) == (12, len(codes))


def test_the_same_seed_gives_the_same_interval() -> None:
    rows = chrf_statistics(corpus(50, 0.5))
    assert corpus_bootstrap(rows, chrf_from_statistics, seed=3) == corpus_bootstrap(
        rows, chrf_from_statistics, seed=3
    )


def test_items_repeated_in_their_cluster_add_nothing() -> None:
    rows = chrf_statistics(corpus(50, 0.5))
    once = corpus_bootstrap(rows, chrf_from_statistics, list(range(50)))
    thrice = corpus_bootstrap(np.tile(rows, (3, 1)), chrf_from_statistics, list(range(50)) * 3)
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))


def test_what_does_not_vary_is_not_certain() -> None:
    rows = chrf_statistics(corpus(20, 1.0))
    perfect = corpus_bootstrap(rows, chrf_from_statistics)
    assert (perfect.mean, perfect.method) == (1.0, "wilson")
    assert perfect.low < 0.9 and perfect.standard_error > 0
    alone = corpus_bootstrap(rows, chrf_from_statistics, ["one document"] * 20)
    assert (alone.low, alone.high) == (0.0, 1.0)


def test_a_paired_difference_is_found_and_turns_with_the_systems() -> None:
    """Two systems that answer nearly alike: apart, their intervals overlap."""
    better = corpus(300, 0.5)
    worse = [(" ".join(a.split()[:-1]), r) if k % 4 else (a, r) for k, (a, r) in enumerate(better)]
    rows = [chrf_statistics(pairs) for pairs in (better, worse)]
    found = paired_corpus_bootstrap(*rows, chrf_from_statistics)
    back = paired_corpus_bootstrap(*rows[::-1], chrf_from_statistics)
    assert found.difference == pytest.approx(corpus_chrf(better) - corpus_chrf(worse))
    assert (back.low, back.high, back.p) == pytest.approx((-found.high, -found.low, found.p))
    apart = [corpus_bootstrap(values, chrf_from_statistics) for values in rows]
    assert found.high - found.low < apart[0].high - apart[0].low
    assert 0 < found.p <= 1


def test_a_system_against_itself_has_p_one() -> None:
    rows = chrf_statistics(corpus(40, 0.5))
    found = paired_corpus_bootstrap(rows, rows, chrf_from_statistics)
    assert (found.difference, found.p) == (0.0, 1.0)
    alone = paired_corpus_bootstrap(rows, rows, chrf_from_statistics, ["one"] * 40)
    assert (alone.low, alone.high, alone.p) == (-1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("rows", "clusters", "message"),
    [
        (np.zeros((0, 24)), None, "n > 0"),
        (np.zeros(24), None, "n > 0"),
        (np.ones((3, 24)), ["a"], "3 cluster labels"),
    ],
)
def test_misuse(rows: Floats, clusters: list[str] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        corpus_bootstrap(rows, chrf_from_statistics, clusters)


def test_unequal_systems_are_refused() -> None:
    with pytest.raises(ValueError, match="equal shapes"):
        paired_corpus_bootstrap(np.ones((3, 24)), np.ones((4, 24)), chrf_from_statistics)
