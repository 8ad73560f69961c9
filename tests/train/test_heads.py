import math

import pytest
import torch

from hebench.train.embeddings import initial_rows
from hebench.train.heads import (
    LIFT,
    constant_direction,
    fitted_rows,
    log_shares,
    refitted_rows,
    teacher_rows,
)
from hebench.train.student import Followed

PIECES = [[1, 2], [1, 3], [4, 2, 3]]


def made_states(count: int = 400) -> torch.Tensor:
    """States that lie about one mean, as a language model's final states do."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.linspace(1, 3, 16)
    return mean + 0.3 * torch.randn(count, 16, generator=generator)


def test_the_direction_gives_nearly_one_on_states_that_it_has_not_seen():
    states = made_states()
    found = states[200:] @ constant_direction(states[:200])
    assert float((found - 1).abs().max()) < 0.2
    assert float(found.mean()) == pytest.approx(1, abs=0.02)


def test_shares_are_among_the_pieces_that_begin_alike():
    counts = torch.tensor([50, 10, 7, 7, 0, 60, 30, 9])  # ids 0 to 4 are old, 5 to 7 are new
    shares = log_shares(torch.tensor([1, 1, 4]), counts).exp()
    assert shares.tolist() == pytest.approx([60.5 / 101.5, 30.5 / 101.5, 9.5 / 10], rel=1e-5)


def test_a_piece_that_never_occurs_has_a_finite_small_share():
    counts = torch.tensor([0, 1000, 0, 0, 0, 0, 1000, 5])
    shares = log_shares(torch.tensor([1, 1, 4]), counts).exp()
    assert 0 < float(shares[0]) < 1e-3


def test_new_pieces_share_what_their_first_old_piece_was_given():
    """Against each other they stand as often as they occur; against p1, all of them together."""
    table = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    states = made_states()
    counts = torch.tensor([50, 10, 7, 7, 0, 60, 30, 9])
    rows = teacher_rows(table, PIECES, counts, constant_direction(states))
    logits = states.mean(0) @ torch.cat([table, rows]).T
    assert float(logits[5] - logits[6]) == pytest.approx(math.log(60.5 / 30.5), abs=0.01)
    both = float(torch.logsumexp(logits[5:7], 0) - logits[1])
    assert both == pytest.approx(math.log(91 / 101.5) + LIFT, abs=0.02)


def test_text_is_likelier_than_with_mean_rows():
    """Pieces drawn by the rule that the rows are made of: p1 by its old row, then by frequency."""
    generator = torch.Generator().manual_seed(2)
    table = torch.randn(5, 16, generator=generator)
    states = made_states()
    chosen = torch.multinomial((states @ table.T).softmax(1), 1, generator=generator)[:, 0]
    written = chosen.clone()
    written[chosen == 1] = torch.tensor([5, 6, 6, 6]).repeat(400)[: int((chosen == 1).sum())]
    written[chosen == 4] = 7
    counts = torch.bincount(written, minlength=8)

    def loss(rows):
        logits = states @ torch.cat([table, rows]).T
        return float(torch.nn.functional.cross_entropy(logits, written))

    assert loss(teacher_rows(table, PIECES, counts, constant_direction(states))) < loss(
        initial_rows(table, PIECES)
    )


def made_examples(planted: torch.Tensor, table: torch.Tensor, count: int = 3000) -> Followed:
    """States, and tokens drawn by the old rows and planted new ones."""
    generator = torch.Generator().manual_seed(3)
    states = made_states(count)
    logits = states @ torch.cat([table, planted]).T
    following = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return Followed(states=states, following=following)


@pytest.fixture(scope="module")
def planted():
    """Old rows, 60 pieces of two, rows that a map of the pieces' mean rows gives, and examples."""
    generator = torch.Generator().manual_seed(4)
    table = torch.randn(40, 16, generator=generator)
    pieces = torch.randint(40, (60, 2), generator=generator).tolist()
    rows = initial_rows(table, pieces) @ torch.randn(16, 16, generator=generator) / 2
    examples = made_examples(rows, table)
    counts = torch.bincount(examples.following, minlength=100)
    return table, pieces, rows, examples, counts


def divergence(found, planted):
    """Mean over unseen states of the divergence, in nats, of the planted rows' probabilities."""
    table, _, rows, _, _ = planted
    states = made_states(4000)[3000:]
    ours, theirs = ((states @ torch.cat([table, new]).T).log_softmax(1) for new in (found, rows))
    return float((theirs.exp() * (theirs - ours)).sum(1).mean())


def test_rows_that_a_map_gave_are_recovered_from_what_follows_the_states(planted):
    table, pieces, _, examples, counts = planted
    start = teacher_rows(table, pieces, counts, constant_direction(examples.states))
    found = fitted_rows(table, pieces, counts, examples, 0)
    assert divergence(found, planted) < 0.1 * divergence(start, planted)


def test_equal_arguments_give_equal_rows_and_another_seed_gives_others(planted):
    table, pieces, _, examples, counts = planted
    few = Followed(states=examples.states[:600], following=examples.following[:600])
    first, again, other = (fitted_rows(table, pieces, counts, few, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_new_pieces_stay_improbable_where_states_were_followed_by_old_ones(planted):
    table, pieces, _, examples, counts = planted
    away = made_states(1000) * torch.linspace(1, -1, 16)  # as in another language
    old = (away @ table.T).argmax(1)
    both = Followed(
        states=torch.cat([examples.states, away[:500]]),
        following=torch.cat([examples.following, old[:500]]),
    )

    def share(examples):
        rows = fitted_rows(table, pieces, counts, examples, 0)
        return float((away[500:] @ torch.cat([table, rows]).T).softmax(1)[:, 40:].sum(1).mean())

    assert share(both) < 0.05 < share(examples)


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_a_head_whose_rows_were_moved_is_recovered_from_what_follows_its_states(softcap):
    """The first 30 rows of 40 were moved, by a map and each by itself; the others were not."""
    generator = torch.Generator().manual_seed(5)
    before = torch.randn(40, 16, generator=generator)
    moved = before.clone()
    moved[:30] += before[:30] @ torch.randn(16, 16, generator=generator) / 8
    moved[:30] += torch.randn(30, 16, generator=generator) / 8

    def chances(table, states):
        logits = states @ table.T
        return (softcap * torch.tanh(logits / softcap) if softcap else logits).softmax(1)

    states = made_states(8000)
    following = torch.multinomial(chances(moved, states), 1, generator=generator)[:, 0]
    examples = Followed(states=states[:7000].half(), following=following[:7000])
    which = torch.arange(30)
    found = before.clone()
    found[which] = refitted_rows(before, which, examples, seed=0, softcap=softcap)

    def divergence(table):
        ours, theirs = (chances(each, states[7000:]) for each in (table, moved))
        return float((theirs * (theirs.log() - ours.log())).sum(1).mean())

    assert divergence(found) < 0.1 * divergence(before)
    again = refitted_rows(before, which, examples, seed=0, softcap=softcap)
    assert torch.equal(again, found[which])
