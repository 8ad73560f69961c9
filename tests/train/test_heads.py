import math

import pytest
import torch

from hebench.train.embeddings import initial_rows
from hebench.train.heads import LIFT, constant_direction, log_shares, teacher_rows

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
    rows = teacher_rows(table, PIECES, counts, states)
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

    assert loss(teacher_rows(table, PIECES, counts, states)) < loss(initial_rows(table, PIECES))
