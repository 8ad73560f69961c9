import math
from dataclasses import fields, replace

import choix
import evalica
import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hebench.stats.ballots import OUTCOMES, tally
from hebench.stats.davidson import probabilities
from hebench.stats.vote_plan import fragility, needed_votes, votes_needed
from hebench.stats.votes import Strengths, fit, ranks_of

Votes = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], list[int]]

PUDDINGS = """
1 2 19 22 16   1 3 16 19 12   2 3 19 19 10   1 4 18 23 13   2 4 23 19 9
3 4 19 20 15   1 5 13 19 18   2 5 16 20 12   3 5 16 15 17   4 5 17 14 16
1 6 18 21 12   2 6 22 20 12   3 6 13 18 10   4 6 14 19 18   5 6 11 21 12
"""


def puddings() -> Votes:
    """Davidson 1970, table 1: preferences among six brands of chocolate pudding.

    Every comparison stands here twice, once a side, so that the side effect is 0.
    """
    rows: list[tuple[int, int, int]] = []
    for i, j, wins, losses, ties in np.array(PUDDINGS.split(), dtype=int).reshape(-1, 5):
        rows += [(i - 1, j - 1, 0)] * wins + [(i - 1, j - 1, 1)] * losses
        rows += [(j - 1, i - 1, 1)] * wins + [(j - 1, i - 1, 0)] * losses
        rows += [(i - 1, j - 1, 2), (j - 1, i - 1, 2)] * ties
    first, second, outcome = np.array(rows).T
    return first, second, outcome, list(range(len(rows)))


def simulated(  # noqa: PLR0913
    seed: int,
    *,
    votes: int = 300,
    models: int = 4,
    raters: int = 12,
    tie: float = 0.6,
    side: float = 0.3,
) -> Votes:
    generator = np.random.default_rng(seed)
    strengths = np.linspace(-0.8, 0.8, models)
    first = generator.integers(0, models, votes)
    second = (first + generator.integers(1, models, votes)) % models
    win, loss, _ = probabilities(strengths[first] - strengths[second] + side, tie)
    draw = generator.random(votes)
    outcome = np.where(draw < win, 0, np.where(draw < win + loss, 1, 2))
    return first, second, outcome, [int(code) for code in generator.integers(0, raters, votes)]


def same(
    found: Strengths, other: Strengths, but: tuple[str, ...] = (), scale: float = 1e-7
) -> None:
    for field in fields(Strengths):
        if field.name in but:
            continue
        ours, theirs = getattr(found, field.name), getattr(other, field.name)
        if isinstance(ours, float | np.ndarray):
            assert ours == pytest.approx(theirs, abs=scale, nan_ok=True), field.name
        else:
            assert ours == theirs, field.name


def test_davidsons_puddings_get_the_published_strengths() -> None:
    found = fit(*puddings(), models=6, ridge=1e-6)
    worth = np.exp(found.strengths) / np.exp(found.strengths).sum()
    published = [0.1388005, 0.1729985, 0.1617420, 0.1653930, 0.1586805, 0.2023855]
    assert worth == pytest.approx(published, abs=3e-5)
    assert found.tie == pytest.approx(0.7468147, abs=3e-5)
    assert found.side == pytest.approx(0, abs=1e-9)
    assert found.notes == {}


def test_with_ties_it_is_newmans_model_in_evalica() -> None:
    first, second, outcome, rater = puddings()
    found = fit(first, second, outcome, rater, models=6, ridge=1e-9)
    names = [evalica.Winner.X, evalica.Winner.Y, evalica.Winner.Draw]
    other = evalica.newman(
        [str(code) for code in first],
        [str(code) for code in second],
        [names[code] for code in outcome],
        tolerance=1e-12,
        limit=10_000,
    )
    logs = np.log(other.scores.sort_index().to_numpy())
    assert found.strengths == pytest.approx(logs - logs.mean(), abs=1e-5)
    assert found.tie == pytest.approx(2 * other.v, abs=1e-5)


def test_without_ties_it_is_bradley_and_terrys_model_in_choix() -> None:
    first, second, outcome, _ = simulated(1)
    decided = outcome < 2
    first, second, outcome = first[decided], second[decided], outcome[decided]
    winner = np.where(outcome == 0, first, second)
    loser = np.where(outcome == 0, second, first)
    ones, zeros = np.ones(len(winner), dtype=int), np.zeros(len(winner), dtype=int)
    found = fit(
        np.concatenate([winner, loser]),
        np.concatenate([loser, winner]),
        np.concatenate([zeros, ones]),
        list(range(2 * len(winner))),
        models=4,
        ridge=1e-9,
    )
    theirs = choix.ilsr_pairwise(4, list(zip(winner.tolist(), loser.tolist(), strict=True)))
    assert found.strengths == pytest.approx(theirs - theirs.mean(), abs=1e-5)
    assert found.tie == 0
    assert set(found.notes) == {"no_ties"}


def test_without_ties_side_style_and_clustered_errors_are_those_of_a_logit() -> None:
    """The logit's columns: models 1 to 3 against model 0, the side, and a style difference."""
    generator = np.random.default_rng(4)
    first, second, outcome, rater = simulated(2, tie=0.0, votes=400)
    style = generator.normal(size=(400, 1))
    found = fit(first, second, outcome, rater, models=4, style=style, ridge=1e-9)
    rows = np.zeros((400, 4))
    rows[np.arange(400), first] += 1
    rows[np.arange(400), second] -= 1
    scaled = style / np.sqrt((style**2).mean())
    logit = sm.Logit(outcome == 0, np.column_stack([rows[:, 1:], np.ones(400), scaled])).fit(
        disp=0,
        cov_type="cluster",
        cov_kwds={"groups": np.array(rater), "use_correction": False},
    )
    errors = logit.bse * math.sqrt(found.raters / (found.raters - 1))
    against = found.strengths[1:] - found.strengths[0]
    assert against == pytest.approx(logit.params[:3], abs=1e-6)
    assert np.sqrt(found.difference_variances[1:, 0]) == pytest.approx(errors[:3], abs=1e-6)
    assert (found.side, found.style[0]) == pytest.approx(tuple(logit.params[3:]), abs=1e-6)
    assert (found.side_error, found.style_errors[0]) == pytest.approx(tuple(errors[3:]), abs=1e-6)


def test_what_was_simulated_is_recovered() -> None:
    found = fit(*simulated(3, votes=20_000, raters=200), models=4)
    assert found.strengths == pytest.approx([-0.8, -0.8 / 3, 0.8 / 3, 0.8], abs=0.06)
    assert found.tie == pytest.approx(0.6, abs=0.04)
    assert found.side == pytest.approx(0.3, abs=0.05)
    assert found.side_interval[0] < 0.3 < found.side_interval[1]
    win, _, tie = probabilities(np.linspace(-0.8, 0.8, 4)[:, None] - np.linspace(-0.8, 0.8, 4), 0.6)
    expected = (win + tie / 2).sum(axis=1) - 0.5
    assert found.win_rates == pytest.approx(expected / 3, abs=0.01)
    assert found.win_rates.mean() == pytest.approx(0.5)


@given(seed=st.integers(0, 1000))
@settings(max_examples=15)
def test_the_order_of_votes_is_irrelevant(seed: int) -> None:
    first, second, outcome, rater = simulated(seed, votes=60)
    order = np.random.default_rng(seed).permutation(60)
    same(
        fit(first, second, outcome, rater, models=4),
        fit(first[order], second[order], outcome[order], [rater[i] for i in order], models=4),
    )


@given(seed=st.integers(0, 1000))
@settings(max_examples=15)
def test_swapping_all_sides_turns_the_side_effect_and_nothing_else(seed: int) -> None:
    first, second, outcome, rater = simulated(seed, votes=60)
    style = np.random.default_rng(seed).normal(size=(60, 1))
    found = fit(first, second, outcome, rater, models=4, style=style)
    swapped = np.array([1, 0, 2])[outcome]
    other = fit(second, first, swapped, rater, models=4, style=-style)
    same(found, other, but=("side",))
    assert found.side == pytest.approx(-other.side, abs=1e-7)


@given(seed=st.integers(0, 1000))
@settings(max_examples=15)
def test_renaming_models_renames_the_result(seed: int) -> None:
    first, second, outcome, rater = simulated(seed, votes=60)
    names = np.random.default_rng(seed).permutation(4)
    found = fit(first, second, outcome, rater, models=4)
    other = fit(names[first], names[second], outcome, rater, models=4)
    for field in ("strengths", "low", "high", "win_rates", "win_rates_low", "win_rates_high"):
        assert getattr(other, field)[names] == pytest.approx(getattr(found, field), abs=1e-6)
    assert other.difference_variances[np.ix_(names, names)] == pytest.approx(
        found.difference_variances, abs=1e-6
    )


def test_votes_cast_twice_by_the_same_raters_do_not_narrow_the_interval() -> None:
    first, second, outcome, rater = simulated(5)
    once = fit(first, second, outcome, rater, models=4, ridge=1e-9)
    columns = [np.concatenate([column, column]) for column in (first, second, outcome)]
    twice = fit(*columns, rater * 2, models=4, ridge=1e-9)
    assert twice.high - twice.low == pytest.approx(once.high - once.low, abs=1e-6)
    independent = fit(*columns, rater * 2, models=4, clustered=False)
    assert independent.method == "t, 600 votes taken as independent"
    assert np.all(independent.high - independent.low < 0.8 * (once.high - once.low))


def test_an_interval_of_items_and_raters_counts_the_smaller_number() -> None:
    first, second, outcome, rater = simulated(6)
    items = np.random.default_rng(6).integers(0, 40, 300).tolist()
    found = fit(first, second, outcome, rater, items=items, models=4)
    assert (found.dof, found.method) == (11, "cluster-robust t, 12 raters and 40 items")
    alone = fit(first, second, outcome, rater, items=list(range(300)), models=4)
    assert alone.difference_variances == pytest.approx(
        fit(first, second, outcome, rater, models=4).difference_variances, rel=1e-6
    )


def test_sampling_weights_stand_for_repeated_votes() -> None:
    first, second, outcome, rater = simulated(7, votes=80)
    times = np.random.default_rng(7).integers(1, 4, 80)
    columns = [np.repeat(column, times) for column in (first, second, outcome, np.array(rater))]
    weighted = fit(first, second, outcome, rater, models=4, weights=times, ridge=1e-9)
    repeated = fit(*columns[:3], columns[3].tolist(), models=4, ridge=1e-9)
    assert weighted.strengths == pytest.approx(repeated.strengths, abs=1e-6)
    assert weighted.covariance == pytest.approx(repeated.covariance, abs=1e-6)


def test_unjudged_votes_are_counted_and_left_out() -> None:
    first, second, outcome, rater = simulated(8)
    found = fit(first, second, outcome, rater, models=4)
    more = fit([0, *first], [1, *second], [-1, *outcome], [99, *rater], models=4)
    assert more.unjudged == 1
    same(found, more, but=("unjudged",))


@given(data=st.data(), models=st.integers(2, 5), votes=st.integers(1, 12))
@settings(max_examples=60)
def test_any_few_votes_have_a_fit_whose_win_rates_lie_in_their_intervals(
    data: st.DataObject, models: int, votes: int
) -> None:
    def column(low: int, high: int) -> NDArray[np.int64]:
        return np.array(data.draw(st.lists(st.integers(low, high), min_size=votes, max_size=votes)))

    first = column(0, models - 1)
    second = (first + column(1, models - 1)) % models
    found = fit(first, second, column(0, 2), column(0, 3).tolist(), models=models)
    assert np.all(np.isfinite(found.strengths))
    assert np.all(found.low <= found.strengths) and np.all(found.strengths <= found.high)
    rated = ~np.isnan(found.win_rates)
    low, high = found.win_rates_low[rated], found.win_rates_high[rated]
    rates = found.win_rates[rated]
    assert np.all((low >= 0) & (low <= rates + 1e-9) & (rates <= high + 1e-9) & (high <= 1))
    assert found.pairs.sum() == 2 * votes


def test_disconnected_models_are_told_and_compared_only_within_their_group() -> None:
    found = fit([0, 1, 2, 3] * 2, [1, 0, 3, 2] * 2, [0, 0, 0, 0, 1, 1, 1, 1], "abbaabab", models=5)
    assert found.components == ((0, 1), (2, 3), (4,))
    assert set(found.notes) == {"disconnected", "no_ties", "raters_alike"}  # of each group's raters
    assert math.isinf(found.difference_variances[0, 2])
    assert math.isfinite(found.difference_variances[0, 1])
    assert math.isnan(found.win_rates[4])
    assert (found.low[4], found.high[4]) == (-math.inf, math.inf)


def test_a_model_that_never_loses_is_told_and_has_a_very_wide_interval() -> None:
    first, second, rater = [0, 1] * 20, [1, 0] * 20, list(range(10)) * 4
    found = fit(first, second, [0, 1] * 20, rater, models=2)
    assert {"separated", "no_ties"} <= set(found.notes)
    assert np.all(np.isfinite(found.strengths))
    assert found.strengths[0] > 0
    assert found.low[0] < 0


def test_an_outcome_that_the_side_determines_is_told_and_not_certain() -> None:
    """Whoever is first wins or ties: each model beat the other, yet no finite side effect fits."""
    found = fit([0, 1, 0] * 6, [1, 0, 1] * 6, [0, 0, 2] * 6, [i // 3 for i in range(18)], models=2)
    assert set(found.notes) == {"open"}
    assert found.low[0] < 0 < found.high[0]
    assert found.high[0] - found.low[0] > 10


def test_one_rater_has_no_interval() -> None:
    first, second, outcome, _ = simulated(9)
    found = fit(first, second, outcome, ["דנה"] * 300, models=4)
    assert "one_cluster" in found.notes
    assert found.method == "undefined: 1 raters"
    assert np.all(np.isinf(found.high))
    assert np.all(np.isinf(found.difference_variances[~np.eye(4, dtype=bool)]))
    assert (found.win_rates_low.tolist(), found.win_rates_high.tolist()) == ([0] * 4, [1] * 4)


def test_raters_who_vote_alike_do_not_give_certainty() -> None:
    votes = ([0, 1] * 4, [1, 0] * 4, [0, 1, 0, 1, 1, 0, 2, 2])
    found = fit(*(column * 6 for column in votes), [i // 8 for i in range(48)], models=2)
    assert "raters_alike" in found.notes
    assert found.high[0] - found.low[0] > 1


def test_nothing_but_ties_tells_nothing() -> None:
    found = fit([0, 1, 2], [1, 2, 0], [2, 2, 2], list("abc"), models=3)
    assert "all_ties" in found.notes
    assert found.strengths == pytest.approx([0, 0, 0])
    assert found.tie > 3


def test_a_side_that_models_never_changed_is_told() -> None:
    found = fit([0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 2], list("abcd"), models=2)
    assert "side_unknown" in found.notes
    assert (found.side, math.isnan(found.side_error)) == (0, True)


def test_rank_sets_take_the_variances_of_differences() -> None:
    ranks = pytest.importorskip("hebench.stats.ranks")
    found = fit(*simulated(10, votes=6000, raters=60), models=4)
    sets = ranks.rank_sets(found.strengths, found.difference_variances, dof=found.dof)
    assert (sets.low.tolist(), sets.high.tolist()) == ([4, 3, 2, 1], [4, 3, 2, 1])


@pytest.mark.parametrize(
    ("first", "second", "outcome", "more", "message"),
    [
        ([0], [0], [0], {}, "one against itself"),
        ([0], [2], [0], {}, "models 0 to 1, found 0 to 2"),
        ([0], [1], [3], {}, "each 0, 1, 2 or -1"),
        ([0], [1], [-1], {}, "at least one vote"),
        ([0, 1], [1, 0], [0], {}, "1 models a side"),
        ([0], [1], [0], {"weights": [0]}, "positive weights"),
        ([0], [1], [0], {"style": [[0.0]]}, "style column 0 never differs"),
        ([0], [1], [0], {"style": [1.0]}, "style differences of shape"),
        ([0], [1], [0], {"style": [[1.0]]}, "determines a style difference"),
        ([0], [1], [0], {"items": []}, "1 labels"),
    ],
)
def test_misuse(
    first: list[int], second: list[int], outcome: list[int], more: dict[str, list], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit(first, second, outcome, ["a"] * len(outcome), models=2, **more)


def test_tally_keeps_both_bad_apart_from_a_tie() -> None:
    words = ["first", "second", "tie", "both_good", "both_bad", "cannot_judge"]
    found = tally([0] * 6, [1, 1, 1, 1, 2, 1], words, models=4)
    assert found.votes.tolist() == [6, 5, 1, 0]
    assert found.codes.tolist() == [0, 1, 2, 2, 2, -1]
    assert found.shares["both_bad"][:3].tolist() == pytest.approx([1 / 6, 0, 1])
    assert found.shares["win"][:3].tolist() == pytest.approx([1 / 6, 1 / 5, 0])
    assert sum(found.shares.values())[:3] == pytest.approx([1, 1, 1])
    assert math.isnan(found.shares["win"][3])
    assert found.totals == dict.fromkeys(words, 1)
    with pytest.raises(ValueError, match="draw"):
        tally([0], [1], ["draw"], models=2)


def test_one_vote_decides_a_lead_of_one() -> None:
    found = fragility([0, 1, 0, 1, 0], [1, 0, 1, 0, 1], [0, 0, 1, 1, 0], models=2)
    assert (found.leader, found.rival, found.votes, found.exact) == (0, 1, 1, True)
    assert found.share == pytest.approx(0.2)


def test_a_shared_first_place_needs_no_vote_to_fall() -> None:
    assert fragility([0, 1], [1, 0], [0, 0], models=2).votes == 0


@given(seed=st.integers(0, 500))
@settings(max_examples=6)
def test_without_the_fragile_votes_another_model_is_first_and_with_fewer_not(seed: int) -> None:
    """Removing single votes, one after the other, is tried against the answer 1."""
    first, second, outcome, rater = simulated(seed, votes=40, models=3)
    found = fragility(first, second, outcome, models=3, refits=150)
    assume(found.exact and found.votes > 0)
    firsts = set()
    for vote in range(40):
        left = np.arange(40) != vote
        names = [rater[i] for i in np.flatnonzero(left)]
        strengths = fit(first[left], second[left], outcome[left], names, models=3).strengths
        rest = np.delete(strengths, found.leader).max()
        firsts.add(bool(rest >= strengths[found.leader] - 1e-5))
    assert (True in firsts) == (found.votes == 1)


def test_a_large_lead_is_robust_and_its_bound_is_checked_not_exact() -> None:
    first, second, outcome, _ = simulated(11, votes=4000)
    found = fragility(first, second, outcome, models=4)
    assert (found.leader, found.rival, found.exact) == (3, 2, False)
    assert 40 < found.votes < 400


def test_fragility_refuses_models_never_compared() -> None:
    with pytest.raises(ValueError, match="take one group"):
        fragility([0, 2], [1, 3], [0, 0], models=4)


def test_votes_needed_are_none_more_once_the_first_two_differ() -> None:
    clear = fit(*simulated(12, votes=6000, raters=60), models=4)
    assert votes_needed(clear).votes == 0
    close = fit(*simulated(12, votes=200), models=4)
    more = votes_needed(close)
    assert more.votes is not None and more.votes > 0
    assert votes_needed(close, power=0.95).votes > more.votes
    level = fit([0, 1], [1, 0], [0, 0], ["a", "b"], models=2)
    assert votes_needed(level).reason == "the first two are level"
    apart = fit([0, 2], [1, 3], [0, 0], ["a", "b"], models=4)
    assert votes_needed(apart).reason == "no interval to narrow"


def test_a_difference_without_any_variance_is_not_told_apart() -> None:
    """Two models that each rater finds level, against a third that raters judge differently."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        rows = [(a, b, won, r) for r in range(4) for a, b in ((0, 1), (1, 0)) for won in (0, 1)]
        for rater in range(4):
            for won in generator.integers(0, 2, 3).tolist():
                rows += [(own, 2, won, rater) for own in (0, 1)]
                rows += [(2, own, 1 - won, rater) for own in (0, 1)]
        first, second, outcome, raters = zip(*rows, strict=True)
        three = fit(first, second, outcome, raters, models=3)
        for pair in ([0, 1], [1, 0]):
            covariance = three.covariance[np.ix_(pair, pair)]
            two = replace(
                three,
                strengths=three.strengths[pair],
                covariance=covariance,
                components=((0, 1),),
            )
            assert votes_needed(two).reason == "the first two are level"
            apart = replace(two, strengths=np.array([0.5, -0.5]), covariance=0 * covariance)
            assert votes_needed(apart).reason == "no interval to narrow"


def test_planned_votes_find_the_difference_as_often_as_planned() -> None:
    """1,500 studies of independent votes at a win rate of 0.6 with 20 % ties."""
    votes = needed_votes(0.6, tie_share=0.2, raters=30, rater_correlation=0.0).votes
    assert votes is not None
    each = math.ceil(votes / 30)
    generator = np.random.default_rng(1)
    scores = generator.choice([1.0, 0.5, 0.0], p=[0.5, 0.2, 0.3], size=(1500, 30, each))
    means = scores.mean(axis=2)
    t = (means.mean(axis=1) - 0.5) / (means.std(axis=1, ddof=1) / math.sqrt(30))
    assert 0.76 < (t > 2.0452).mean() < 0.88


def test_few_raters_of_different_tastes_can_not_be_made_up_for() -> None:
    few = needed_votes(0.55, tie_share=0.2, raters=10)
    assert (few.votes, few.reason) == (None, "too few raters")
    many = needed_votes(0.55, tie_share=0.2, raters=100)
    assert many.votes is not None
    assert many.votes > needed_votes(0.55, tie_share=0.2, raters=200).votes
    with pytest.raises(ValueError, match="does not allow"):
        needed_votes(0.9, tie_share=0.5, raters=10)


def test_raters_who_balance_out_have_a_wide_interval() -> None:
    # Each rater's votes sum to nothing, so their variance is 0: that is no certainty.
    outcomes = [OUTCOMES[word] for word in ("first", "second", "tie")]
    found = fit([0, 0, 0], [1, 1, 1], outcomes, list("rrs"), models=2)
    low, high, best = ranks_of(found, (0, 1))
    assert (low, high) == ([1, 1], [2, 2]) and best == pytest.approx([0.5, 0.5], abs=0.1)
    assert (found.win_rates_low < 0.1).all() and (found.win_rates_high > 0.9).all()
