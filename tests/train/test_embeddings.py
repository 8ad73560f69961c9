import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hebench.errors import CheckpointError, DataError
from hebench.train.embeddings import Reading, grown, initial_rows, new_pieces, untie
from hebench.train.frozen import open_model
from tests.train.grown_tokenizers import extend


def table(rows=7, width=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, width, generator=generator)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8))
def test_reading_gives_the_rows_that_one_long_table_would_give(ids):
    old, new = table(7), table(3, seed=1)
    reading = Reading(nn.Embedding.from_pretrained(old), new)
    assert torch.equal(reading(torch.tensor([ids])), torch.cat([old, new])[ids][None])


def test_only_new_rows_are_parameters_and_only_they_get_a_gradient():
    reading = Reading(nn.Embedding.from_pretrained(table(7)), table(3, seed=1))
    assert [name for name, _ in reading.named_parameters()] == ["new"]
    reading(torch.tensor([[0, 8, 6]])).sum().backward()
    assert reading.old.grad is None
    assert reading.new.grad.abs().sum(1).bool().tolist() == [False, True, False]


def test_a_scaled_table_scales_new_rows_as_it_scales_old_ones():
    scaled = nn.Embedding.from_pretrained(table(7))
    scaled.embed_scale = torch.tensor(8.0)
    given_rows = Reading(scaled, table(3, seed=1))(torch.tensor([[2, 9]]))
    assert torch.equal(given_rows[0], 8 * torch.stack([table(7)[2], table(3, seed=1)[2]]))


def test_rows_come_in_the_type_of_the_frozen_table_from_float32_masters():
    reading = Reading(nn.Embedding.from_pretrained(table(7).bfloat16()), table(3, seed=1))
    assert reading(torch.tensor([[0, 8]])).dtype == torch.bfloat16
    assert reading.new.dtype == torch.float32


def test_new_pieces_are_named_by_the_old_pieces_that_they_are_made_of(tiny_tokenizer):
    longer, spelled = extend(tiny_tokenizer, ["שלום", " בית"])
    pieces = new_pieces(tiny_tokenizer, longer, rows=len(tiny_tokenizer))
    assert [tiny_tokenizer.decode(ids) for ids in pieces] == spelled
    assert spelled[-1] == " בית"


def test_ids_that_do_not_follow_the_table_are_refused(tiny_tokenizer):
    longer, _ = extend(tiny_tokenizer, ["שלום"])
    rows = len(tiny_tokenizer)
    with pytest.raises(DataError, match=rf"ids from {rows + 5} on.*found ids {rows} to"):
        new_pieces(tiny_tokenizer, longer, rows=rows + 5)
    with pytest.raises(DataError, match="found no new piece"):
        new_pieces(tiny_tokenizer, tiny_tokenizer, rows=rows)
    with pytest.raises(DataError, match="that moved or are gone"):
        new_pieces(longer, tiny_tokenizer, rows=rows)


def test_mean_rows_are_the_mean_of_old_rows():
    rows = initial_rows(table(7), [[1], [2, 4]])
    assert torch.equal(rows, torch.stack([table(7)[1], (table(7)[2] + table(7)[4]) / 2]))


def test_random_rows_follow_the_seed_and_the_table_s_spread():
    wide = table(400) * torch.tensor([1.0, 2.0, 3.0, 4.0])
    rows = initial_rows(wide, [[0]] * 2000, "random", seed=3)
    assert torch.allclose(rows.std(0), wide.std(0), rtol=0.1)
    assert torch.equal(rows, initial_rows(wide, [[0]] * 2000, "random", seed=3))
    assert not torch.equal(rows, initial_rows(wide, [[0]] * 2000, "random", seed=4))


@pytest.mark.parametrize("kind", ["llama", "mistral"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_grown_model_is_saved_with_two_tables_whose_old_rows_kept_their_bits(
    tiny_model_folder, tmp_path, kind, tied
):
    folder = tiny_model_folder(tmp_path / "base", kind=kind, tied=tied)
    before = open_model(folder, "fp32").cpu().state_dict()
    model = open_model(folder, "fp32")
    width = model.config.hidden_size
    grown(model, table(3, width), table(3, width, seed=1)).save_pretrained(tmp_path / "grown")
    after = open_model(tmp_path / "grown", "fp32").cpu()
    rows = len(before["model.embed_tokens.weight"])
    head = after.get_output_embeddings().weight
    assert not after.config.tie_word_embeddings
    assert after.config.vocab_size == rows + 3
    assert torch.equal(
        after.get_input_embeddings().weight,
        torch.cat([before["model.embed_tokens.weight"], table(3, width)]),
    )
    assert torch.equal(head, torch.cat([before["lm_head.weight"], table(3, width, seed=1)]))


def test_untied_tables_move_apart(tiny_model_folder, tmp_path):
    model = open_model(tiny_model_folder(tmp_path / "base", tied=True), "fp32")
    untie(model)
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    assert model.get_input_embeddings().weight.abs().sum() > 0


def test_a_head_with_a_bias_is_refused(tiny_model_folder, tmp_path):
    model = open_model(tiny_model_folder(tmp_path / "base"), "fp32")
    model.set_output_embeddings(nn.Linear(model.config.hidden_size, 400, bias=True))
    with pytest.raises(CheckpointError, match="a head without bias"):
        grown(model, table(3, 64), table(3, 64))
