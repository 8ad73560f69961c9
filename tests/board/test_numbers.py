"""Metrics computed anew from a record: as the scorers give them, with an interval."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hebench.board.numbers import MAX_LABELS, Metric, method_words, other_metrics
from hebench.errors import DataError
from hebench.metrics.choice import macro_f1
from hebench.metrics.likelihood import corpus_bits_per_byte
from hebench.metrics.text import bleu_statistics, chrf_statistics, corpus_bleu, corpus_chrf
from hebench.records import TaskRecord
from hebench.stats.intervals import mean_interval
from tests.board.made import made_task

PAIRS = [
    ("הילד אכל תפוח אדום", ["הילד אכל תפוח ירוק"]),
    ("שלום לכולם", ["שלום לך", "שלום לכולם וברכה"]),
    ("", ["אין כאן דבר"]),
    ("the cat sat on the mat today", ["the cat sat on a mat today"]),
]


def part(**changes: object) -> TaskRecord:
    """A record of four independent items."""
    made = made_task("hebench_mini_sentiment", 0.5, 1, limit=4)
    found: TaskRecord = dataclasses.replace(made, clusters=None, **changes)  # type: ignore[arg-type]
    return found


def only(found: list[Metric]) -> Metric:
    assert len(found) == 1
    return found[0]


def test_a_metric_of_items_is_their_mean_with_the_interval_of_the_rule() -> None:
    values = (0.25, 0.5, None, 1.0)
    score = (0.0, 1.0, 1.0, 0.0)
    found = only(other_metrics(part(metrics={"score": score, "acc": score, "f1": values})))
    expected = mean_interval([0.25, 0.5, math.nan, 1.0])
    assert (found.name, found.kind, found.n) == ("f1", "share", 3)
    assert (found.value, found.low, found.high) == (expected.mean, expected.low, expected.high)


def test_a_metric_of_unknown_scale_is_left_out() -> None:
    metrics = {"score": (0.0, 1.0, 1.0, 0.0), "length": (1.0, 20.0, 3.0, 4.0)}
    assert other_metrics(part(metrics=metrics)) == []


@pytest.mark.parametrize(
    ("name", "statistics", "score"),
    [
        ("bleu_corpus", bleu_statistics, corpus_bleu),
        ("chrf_corpus", chrf_statistics, corpus_chrf),
    ],
)
def test_corpus_scores_are_those_of_the_scorer(
    name: str, statistics: object, score: object
) -> None:
    rows = tuple(tuple(map(float, row)) for row in statistics(PAIRS))  # type: ignore[operator]
    found = only(other_metrics(part(parts={name: rows})))
    assert found.value == pytest.approx(score(PAIRS), abs=1e-9)  # type: ignore[operator]
    assert found.low <= found.value <= found.high
    assert found.method == "bootstrap, 4 items"


def test_bits_per_byte_are_those_of_the_scorer_and_lower_bounds_stay_lower() -> None:
    rows = ((-120.0, 80), (-60.5, 50), (-10.0, 12), (-300.0, 160))
    found = only(other_metrics(part(parts={"bits_per_byte": rows})))
    assert found.kind == "bits"
    assert found.value == pytest.approx(corpus_bits_per_byte(rows), abs=1e-9)
    assert 0 <= found.low < found.value < found.high


def test_a_single_text_says_nothing_of_bits_per_byte() -> None:
    made = made_task("hebench_mini_sentiment", 0.5, 1, limit=1)
    found = only(
        other_metrics(
            dataclasses.replace(made, clusters=None, parts={"bits_per_byte": ((-9.0, 12.0),)})
        )
    )
    assert (found.low, found.high) == (0.0, math.inf)
    assert method_words(found.method) == ("undefined", 0)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 3)), min_size=2, max_size=30))
def test_macro_f1_is_that_of_the_scorer(pairs: list[tuple[int, int]]) -> None:
    rows = tuple((float(gold), float(said)) for gold, said in pairs)
    made = part(parts={"macro_f1": rows})
    found = only(other_metrics(made))
    assert found.value == pytest.approx(macro_f1(pairs), abs=1e-12)
    assert found.low <= found.value + 1e-12 and found.value - 1e-12 <= found.high


def test_whole_clusters_are_resampled() -> None:
    rng = np.random.default_rng(0)
    rows = tuple((float(gold), float(gold)) for gold in rng.integers(0, 2, 4))
    made = dataclasses.replace(part(parts={"macro_f1": rows}), clusters=(0, 0, 1, 1))
    assert only(other_metrics(made)).method in {"bootstrap, 2 clusters", "wilson"}


@pytest.mark.parametrize(
    ("name", "row"),
    [("bleu_corpus", (1.0,)), ("chrf_corpus", (1.0,)), ("bits_per_byte", (1.0, 2.0, 3.0))],
)
def test_parts_that_a_metric_cannot_add_up_are_refused(name: str, row: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match=name):
        other_metrics(part(parts={name: (row,) * 4}))


@pytest.mark.parametrize(("name", "width"), [("bleu_corpus", 10), ("chrf_corpus", 24)])
def test_counts_below_zero_are_refused(name: str, width: int) -> None:
    with pytest.raises(DataError, match=f"{name}: expected counts of 0 or more, found -2"):
        other_metrics(part(parts={name: ((-2.0,) * width,) * 4}))


def test_labels_without_end_are_refused() -> None:
    rows = tuple((float(place), 0.0) for place in range(MAX_LABELS + 1))
    with pytest.raises(DataError, match="labels"):
        other_metrics(part(parts={"macro_f1": rows}))


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("t", ("t", 0)),
        ("wilson", ("wilson", 0)),
        ("cluster-robust t, 42 clusters", ("clusters", 42)),
        ("bootstrap, 132 items", ("bootstrap_items", 132)),
        ("bootstrap, 7 clusters", ("bootstrap_clusters", 7)),
        ("undefined: one independent unit", ("undefined", 0)),
        ("none", ("none", 0)),
    ],
)
def test_every_method_of_an_interval_has_words(method: str, words: tuple[str, int]) -> None:
    assert method_words(method) == words
