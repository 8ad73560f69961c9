import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hebench.errors import ConfigError, DataError
from hebench.selection.log import Evaluated
from hebench.selection.picture import picture
from hebench.selection.rules import SelectConfig, decide
from hebench.selection.table import local_lines, read_table
from tests.selection.made_run import made_curve, made_entry, made_items

RISING = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]


def test_a_clear_rise_is_followed_to_its_end() -> None:
    made = decide(made_curve(RISING), SelectConfig())
    assert made.chosen == "checkpoint-700" and made.equals == ("checkpoint-700",)
    assert made.low < 0.8 < made.high
    assert 0 < made.detectable < 0.3


def test_equal_checkpoints_are_all_in_the_set_and_the_preference_decides() -> None:
    log = made_curve([0.5] * 4, seed=2)
    made = decide(log, SelectConfig())
    assert len(made.equals) == 4
    assert "no checkpoint can be told from another on these items" in made.reasons
    assert decide(log, SelectConfig(prefer="earliest")).chosen == "checkpoint-100"
    assert decide(log, SelectConfig(prefer="lowest_loss")).chosen == "checkpoint-400"


def test_best_takes_the_highest_and_its_luck_is_named() -> None:
    log = made_curve([0.5] * 10, seed=3)
    made = decide(log, SelectConfig(rule="best"))
    assert made.score == max(entry.score for entry in log)
    assert made.flattery > 0.01
    assert made.low < 0.5 < made.high


def test_paper_looks_at_the_lowest_losses_of_the_window() -> None:
    log = made_curve([0.9, 0.2, 0.5, 0.6])
    config = SelectConfig(rule="paper", window_steps=300, lowest=2)
    made = decide(log, config)
    assert [c.checkpoint for c in made.candidates if c.allowed] == [
        "checkpoint-300",
        "checkpoint-400",
    ]
    assert made.chosen == "checkpoint-400"
    with pytest.raises(ConfigError, match="needs losses, and the log has none"):
        decide([made_entry(1, [1, 0]), made_entry(2, [0, 1])], config)


@pytest.mark.parametrize("loss", [None, math.nan])
@pytest.mark.parametrize("present", [None, {"checkpoint-100"}])
def test_paper_says_so_if_no_checkpoint_of_its_window_has_a_loss(
    loss: float | None, present: set[str] | None
) -> None:
    log = [made_entry(100, [1, 0], loss_nats=2.0), made_entry(300, [0, 1], loss_nats=loss)]
    config = SelectConfig(rule="paper", window_steps=100)
    with pytest.raises(ConfigError, match="no checkpoint of the last 100 steps has one; widen"):
        decide(log, config, present=present)


def test_a_loss_that_is_no_number_is_no_lowest_loss() -> None:
    log = made_curve([0.5, 0.5, 0.5])
    log[2] = made_entry(300, [0], tasks=log[2].tasks, loss_nats=math.nan)
    assert decide(log, SelectConfig(prefer="lowest_loss")).chosen == "checkpoint-200"


def test_constraint_keeps_the_guard() -> None:
    hebrew, english = made_curve(RISING), made_curve([0.8, 0.8, 0.8, 0.3, 0.3, 0.3, 0.3], seed=1)
    log = [
        made_entry(h.step, [0], tasks={"he": h.tasks["task"], "en": e.tasks["task"]})
        for h, e in zip(hebrew, english, strict=True)
    ]
    made = decide(log, SelectConfig(rule="constraint", guard=("en",), max_fall=0.15))
    assert made.step <= 300 and made.tasks == ("he",)
    assert not any(c.allowed for c in made.candidates if c.step > 300)


def test_the_guard_is_against_the_first_checkpoint_also_where_that_cannot_be_chosen() -> None:
    hebrew, english = made_curve(RISING[:4]), made_curve([0.9, 0.6, 0.6, 0.6], seed=1)
    log = [
        made_entry(h.step, [0], tasks={"he": h.tasks["task"], "en": e.tasks["task"]})
        for h, e in zip(hebrew, english, strict=True)
    ]
    log[0] = replace(log[0], tasks={"en": log[0].tasks["en"]}, failed={"he": "server down"})
    with pytest.raises(ConfigError, match="no checkpoint keeps en within 10.0 points of checkpoin"):
        decide(log, SelectConfig(rule="constraint", guard=("en",), max_fall=0.1))
    other = replace(log[0].tasks["en"], version="9")  # which cannot be compared with the rest
    later = [replace(log[0], tasks={"en": other}), *log[1:]]
    assert decide(later, SelectConfig(rule="constraint", guard=("en",), max_fall=0.1)).chosen
    made = decide(log, SelectConfig(rule="constraint", guard=("en",), max_fall=0.9))
    assert made.reasons[0].endswith(f"on 1 tasks, {len(hebrew[0].tasks['task'].scores)} items")
    assert any("of the first, checkpoint-100" in reason for reason in made.reasons)


def test_a_log_whose_tasks_are_all_guarded_has_none_to_choose_by() -> None:
    with pytest.raises(ConfigError, match="every task of the log is guarded"):
        decide(made_curve(RISING), SelectConfig(rule="constraint", guard=("task",)))


def test_differences_that_do_not_matter_do_not_count() -> None:
    """Scores a hair apart on every item are told apart, if nobody says what matters."""
    own = np.random.default_rng(1).uniform(0.2, 0.8, 200)
    log = [made_entry(100 * n, own + 0.0005 * n + 0.02 * (n > 1)) for n in (1, 2, 3)]
    assert decide(log, SelectConfig()).equals == ("checkpoint-300",)
    made = decide(log, SelectConfig(indifference_points=1.0, prefer="earliest"))
    assert made.equals == ("checkpoint-200", "checkpoint-300") and made.step == 200
    noisy = made_curve([0.5, 0.9], items=400)
    assert decide(noisy, SelectConfig(indifference_points=5)).equals == ("checkpoint-200",)
    assert len(decide(noisy, SelectConfig(indifference_points=60)).equals) == 2


def test_votes_decide_among_those_that_may_be_first(tmp_path: Path) -> None:
    evidence = tmp_path / "evidence.json"
    models = [{"model": f"checkpoint-{n}00", "rank_low": 1 if n in (2, 3) else 4} for n in range(9)]
    evidence.write_text(json.dumps({"models": models}), encoding="utf-8")
    made = decide(made_curve(RISING), SelectConfig(rule="votes", evidence=evidence))
    assert made.chosen == "checkpoint-300"
    evidence.write_text(json.dumps({"models": models[:1]}), encoding="utf-8")
    with pytest.raises(ConfigError, match="is a checkpoint of the log"):
        decide(made_curve(RISING), SelectConfig(rule="votes", evidence=evidence))
    for content in ("[]", "{", '{"models": [{}]}'):
        evidence.write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match="expected evidence of votes"):
            decide(made_curve(RISING), SelectConfig(rule="votes", evidence=evidence))
    with pytest.raises(DataError, match="expected evidence of votes"):
        decide(made_curve(RISING), SelectConfig(rule="votes", evidence=tmp_path / "none.json"))


# ------------------------------------------------------------------ bad input


def test_one_checkpoint_alone_is_taken_and_nothing_was_chosen() -> None:
    made = decide([made_entry(100, [1, 0, 1])], SelectConfig())
    assert made.chosen == "checkpoint-100"
    assert "there is one checkpoint: nothing was chosen" in made.reasons
    assert made.detectable == 0.0


def test_all_at_chance_takes_the_last_and_says_so() -> None:
    made = decide(made_curve([0.25] * 6, chance=0.25), SelectConfig())
    assert made.at_chance and made.chosen == "checkpoint-600"
    assert any("no choice is better than the last" in reason for reason in made.reasons)


def test_free_answers_that_are_all_wrong_are_at_chance() -> None:
    made = decide([made_entry(step, [0, 0, 0]) for step in (1, 2)], SelectConfig())
    assert made.at_chance and made.step == 2


def test_a_task_without_a_judged_item_leaves_its_checkpoint_out() -> None:
    log = [*made_curve(RISING), made_entry(800, np.full(200, np.nan))]
    made = decide(log, SelectConfig())
    assert made.left_out == {"checkpoint-800": "task: no item could be judged"}
    assert made.chosen == "checkpoint-700"


def test_items_that_no_checkpoint_could_judge_are_left_out_of_the_means() -> None:
    whole, cut = [], []
    for entry in made_curve(RISING):
        scores = entry.tasks["task"].scores.copy()
        scores[:50] = np.nan
        whole.append(made_entry(entry.step, scores))
        cut.append(made_entry(entry.step, scores[50:]))
    made = decide(whole, SelectConfig())
    assert made.candidates == decide(cut, SelectConfig()).candidates and made.left_out == {}
    assert made.candidates[-1].score == pytest.approx(float(np.nanmean(scores)))
    assert math.isfinite(made.low) and math.isfinite(made.high)
    assert "50 items left out, which no checkpoint could judge: task" in made.reasons


def test_a_checkpoint_that_could_judge_the_easy_items_alone_is_left_out() -> None:
    generator = np.random.default_rng(4)
    own = np.concatenate([generator.uniform(0.7, 0.9, 50), generator.uniform(0.1, 0.3, 50)])
    broken = np.where(np.arange(100) < 50, own, np.nan)
    log = [made_entry(100, own), made_entry(200, own + 0.05), made_entry(300, broken)]
    made = decide(log, SelectConfig())
    assert made.chosen == "checkpoint-200" and len(made.candidates) == 2
    assert made.left_out == {"checkpoint-300": "task: 50 of 100 items could not be judged"}
    assert not any("no checkpoint could judge" in reason for reason in made.reasons)


def test_checkpoints_that_were_judged_on_different_items_cannot_be_compared() -> None:
    log = [made_entry(100, [1, math.nan]), made_entry(200, [math.nan, 1])]
    with pytest.raises(DataError, match="no checkpoint has.*1 of 2 items could not be judged"):
        decide(log, SelectConfig())


def test_a_failed_task_leaves_its_checkpoint_out_with_the_reason() -> None:
    log = made_curve(RISING)
    log[6] = made_entry(700, [0], tasks={}, failed={"task": "ran out of memory"})
    made = decide(log, SelectConfig())
    assert made.left_out == {"checkpoint-700": "task failed: ran out of memory"}
    assert made.step == 600


def test_a_log_without_one_whole_checkpoint_is_refused() -> None:
    log = [made_entry(1, [0], tasks={}, failed={"task": "broke"})]
    with pytest.raises(DataError, match="no checkpoint has scores on every task.*broke"):
        decide(log, SelectConfig())


def test_two_versions_of_a_task_in_one_log_are_refused() -> None:
    log = made_curve([0.5, 0.6])
    other = made_items(np.ones(200), version="2.0")
    with pytest.raises(DataError, match="not the same task.*version 1.0.*from step 300 version 2"):
        decide([*log, made_entry(300, [0], tasks={"task": other})], SelectConfig())


def test_another_number_of_items_is_another_task() -> None:
    with pytest.raises(DataError, match="n 200.*n 3"):
        decide([*made_curve([0.5]), made_entry(300, [1, 0, 1])], SelectConfig())


def test_a_task_that_nobody_evaluated_is_refused() -> None:
    with pytest.raises(DataError, match="expected tasks of the log .task., found other"):
        decide(made_curve([0.5]), SelectConfig(tasks=("other",)))


def test_checkpoints_that_are_gone_inform_and_are_not_chosen() -> None:
    log = made_curve(RISING)
    made = decide(log, SelectConfig(), present={"checkpoint-200", "checkpoint-300"})
    assert made.chosen == "checkpoint-300"
    assert "5 checkpoints are gone from the disk and cannot be chosen" in made.reasons
    whole = decide(log, SelectConfig())
    assert [c.smoothed for c in made.candidates] == [c.smoothed for c in whole.candidates]
    with pytest.raises(ConfigError, match="on the disk, found none"):
        decide(log, SelectConfig(), present=set())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"level": 1.0}, "level"),
        ({"window_steps": 0}, "window_steps"),
        ({"rule": "constraint"}, "guard"),
        ({"guard": ("x",)}, "guard"),
        ({"rule": "votes"}, "evidence"),
        ({"rule": "best", "prefer": "earliest"}, "prefer earliest belongs to"),
        ({"rule": "paper", "prefer": "lowest_loss"}, "prefer lowest_loss belongs to"),
        ({"indifference_points": -1.0}, "indifference"),
        ({"rule": "constraint", "guard": ("x",), "tasks": ("x",)}, "cannot be guarded"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SelectConfig(**values)


# ------------------------------------------------------------------ margins


def _with_margins(levels: list[float], *, scores: float) -> list[Evaluated]:
    """Return a log whose scores stay at a level while the margins rise through `levels`."""
    generator = np.random.default_rng(5)
    flat = made_curve([scores] * len(levels), items=100, chance=0.5)
    log = []
    for entry, level in zip(flat, levels, strict=True):
        margins = np.clip(level + generator.normal(0, 0.05, 100), 0, 1).astype(np.float32)
        task = made_items(entry.tasks["task"].scores, margins=margins, chance=0.5)
        log.append(made_entry(entry.step, [0], tasks={"task": task}))
    return log


def test_margins_choose_where_accuracy_is_at_chance() -> None:
    log = _with_margins([0.5, 0.55, 0.6, 0.7, 0.6, 0.5], scores=0.5)
    made = decide(log, SelectConfig())
    assert made.chosen == "checkpoint-400" and not made.at_chance
    assert "by the probability of the right choice: task" in made.reasons
    assert decide(log, SelectConfig(measure="score")).at_chance


def test_margins_are_not_looked_at_where_accuracy_speaks() -> None:
    made = decide(_with_margins([0.9, 0.5, 0.5], scores=0.9), SelectConfig())
    assert not any("probability" in reason for reason in made.reasons)


@pytest.mark.parametrize("measure", ["margin", "answer"])
def test_a_measure_that_a_task_does_not_have_is_refused(measure: str) -> None:
    with pytest.raises(ConfigError, match=f"measure {measure} needs tasks of choices, and task"):
        decide(made_curve([0.5, 0.6]), SelectConfig(measure=measure))  # type: ignore[arg-type]


def test_a_measure_is_that_of_the_tasks_of_choices_and_others_keep_their_scores() -> None:
    flat = _with_answers(_with_margins([0.5] * 4, scores=0.5), [0.3] * 4)
    rising = made_curve([0.2, 0.3, 0.4, 0.5])
    both = [
        replace(entry, tasks={**entry.tasks, "text": other.tasks["task"]})
        for entry, other in zip(flat, rising, strict=True)
    ]
    made = decide(both, SelectConfig(measure="answer"))
    assert made.chosen == "checkpoint-400" and made.tasks == ("task", "text")
    assert "by the probability of a byte of the right answer: task" in made.reasons
    older = [
        replace(entry, tasks={**entry.tasks, "task": replace(entry.tasks["task"], answers=None)})
        for entry in both
    ]
    assert decide(older, SelectConfig(measure="margin")).tasks == ("task", "text")
    with pytest.raises(ConfigError, match="measure answer needs tasks of choices"):
        decide(older, SelectConfig(measure="answer"))
    with pytest.raises(ConfigError, match="task: expected the measure answer in each line"):
        decide(
            [replace(e, tasks={**e.tasks, "new": both[0].tasks["task"]}) for e in older],
            SelectConfig(measure="answer"),
        )


def _with_answers(log: list[Evaluated], levels: list[float]) -> list[Evaluated]:
    """Return a log whose right answers' bytes have about these probabilities."""
    generator = np.random.default_rng(6)
    found = []
    for entry, level in zip(log, levels, strict=True):
        answers = np.clip(level + generator.normal(0, 0.02, 100), 0, 1).astype(np.float32)
        task = replace(entry.tasks["task"], answers=answers)
        found.append(replace(entry, tasks={"task": task}))
    return found


def test_answers_choose_where_they_are_asked_for_and_have_no_chance_level() -> None:
    flat = _with_margins([0.5] * 6, scores=0.5)
    log = _with_answers(flat, [0.1, 0.15, 0.2, 0.3, 0.2, 0.1])
    made = decide(log, SelectConfig(measure="answer"))
    assert made.chosen == "checkpoint-400" and not made.at_chance
    assert "by the probability of a byte of the right answer: task" in made.reasons
    assert made.score == pytest.approx(0.3, abs=0.01) and made.low < 0.3 < made.high
    # By itself, what is at chance by its margins is at chance, whatever its answers do.
    assert decide(log, SelectConfig()).at_chance


def test_a_checkpoint_whose_answers_are_no_numbers_is_left_out() -> None:
    log = _with_answers(_with_margins([0.5] * 4, scores=0.9), [0.1, 0.2, 0.3, math.nan])
    made = decide(log, SelectConfig(measure="answer"))
    assert made.left_out == {"checkpoint-400": "task: no item could be judged"}
    assert made.chosen == "checkpoint-300"
    assert decide(log, SelectConfig()).left_out == {}


# ------------------------------------------------------------------ the curve


@given(
    steps=st.lists(st.integers(1, 10_000), min_size=5, max_size=30, unique=True),
    bandwidth=st.sampled_from([1.0, 4.0, 16.0]),
)
def test_smoothing_keeps_a_straight_line(steps: list[int], bandwidth: float) -> None:
    x = np.array(sorted(steps), dtype=float)
    smoother = local_lines(x, bandwidth)
    assert smoother.sum(axis=1) == pytest.approx(np.ones(len(x)))
    line = 0.2 + 0.5 * x / x.max()
    assert smoother @ line == pytest.approx(line, abs=1e-5)


def test_an_average_stands_beside_the_curve() -> None:
    log = made_curve([0.3, 0.4, 0.5, 0.6, 0.7, 0.8], items=500)
    lucky = made_curve([0.95], items=500, seed=9)[0]
    added = made_entry(
        600, [0], checkpoint="average-500-600-x", averaged=("a", "b"), tasks=lucky.tasks
    )
    before, after = read_table(log), read_table([*log, added])
    place = [entry.checkpoint for entry in after.entries].index("average-500-600-x")
    own = np.zeros(7)
    own[place] = 1
    assert np.array_equal(after.smoother[place], own)
    others = [n for n in range(7) if n != place]
    assert after.smoother[np.ix_(others, others)] == pytest.approx(before.smoother)
    made = decide([*log, added], SelectConfig())
    assert made.chosen == "average-500-600-x" and made.candidates[place].averaged


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), rule=st.sampled_from(["confident", "best"]))
def test_the_order_of_lines_and_of_tasks_is_irrelevant(seed: int, rule: str) -> None:
    generator = np.random.default_rng(seed)
    first, second = (made_curve(generator.uniform(0.2, 0.8, 6), 40, seed=seed + k) for k in (0, 1))
    log = [
        made_entry(a.step, [0], tasks={"a": a.tasks["task"], "b": b.tasks["task"]})
        for a, b in zip(first, second, strict=True)
    ]
    turned = [
        made_entry(entry.step, [0], tasks=dict(reversed(list(entry.tasks.items()))))
        for entry in log
    ]
    one, other = (decide(lines, SelectConfig(rule=rule)) for lines in (log, turned))  # type: ignore[arg-type]
    assert one.chosen == other.chosen and one.equals == other.equals
    assert one.low == pytest.approx(other.low) and one.high == pytest.approx(other.high)
    assert one.chosen in one.equals
    assert 0 <= one.low <= one.high <= 1


PLATEAU = [0.50, 0.54, 0.57, 0.59, 0.605, 0.615, 0.62, 0.62, 0.615, 0.61]
CORNER = [0.45, 0.51, 0.57, 0.57, 0.57, 0.57]  # which smoothing rounds off


@pytest.mark.parametrize("truth", [PLATEAU, [0.5] * 6, CORNER])
def test_set_and_interval_hold_the_truth_about_as_often_as_promised(truth: list[float]) -> None:
    """95 %: of 100 made-up runs, 88 or fewer would be such bad luck once in 200 times."""
    best = f"checkpoint-{100 * (1 + int(np.argmax(truth)))}"
    held = covered = 0
    for seed in range(100):
        made = decide(made_curve(truth, 150, seed=seed), SelectConfig())
        held += best in made.equals
        covered += made.low <= truth[made.step // 100 - 1] <= made.high
    assert held > 88 and covered > 88


def test_a_decision_has_a_picture() -> None:
    assert picture(decide(made_curve(RISING), SelectConfig())).startswith(b"\x89PNG")
