import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hebench.errors import DataError
from hebench.train.frozen import final_states, open_model
from hebench.train.measure import (
    Bits,
    Difference,
    bits_of,
    difference,
    nearness,
    padded,
    summary,
)
from hebench.train.passages import Passage


def passage(text, source="s", document="d"):
    return Passage(source=source, document=document, text=text)


def made(bits, size, sources, documents):
    return Bits(
        bits=np.array(bits, dtype=float),
        size=np.array(size, dtype=float),
        sources=tuple(sources),
        documents=tuple(documents),
        tokens=100,
        words=40,
    )


@pytest.fixture(scope="module")
def tiny(tiny_model_folder, tmp_path_factory):
    return open_model(tiny_model_folder(tmp_path_factory.mktemp("measured")), "fp32")


def test_bits_are_those_of_each_text_alone_whatever_shares_its_batch(tiny, tiny_tokenizer):
    texts = ["The ferry", " left the harbour at seven in the morning", "שלום", " a"]
    together = bits_of(tiny, tiny_tokenizer, [passage(text) for text in texts])
    for number, text in enumerate(texts):
        ids = tiny_tokenizer(tiny_tokenizer.bos_token + text, return_tensors="pt").input_ids
        ids = ids.to(tiny.device)
        # The oracle: transformers' own loss, a mean over the predicted tokens.
        with torch.no_grad():
            loss = tiny(input_ids=ids, labels=ids, use_cache=False).loss
        expected = float(loss) * (ids.shape[1] - 1) / math.log(2)
        assert together.bits[number] == pytest.approx(expected, rel=1e-5)
    assert together.size.tolist() == [9, 41, 8, 2]
    assert together.words == 12


def test_no_passages_and_broken_models_are_refused(tiny_model_folder, tmp_path, tiny_tokenizer):
    model = open_model(tiny_model_folder(tmp_path / "m"), "fp32")
    with pytest.raises(DataError, match="expected held-out passages, found none"):
        bits_of(model, tiny_tokenizer, [])
    model.get_output_embeddings().weight.data[3] = float("nan")
    with pytest.raises(DataError, match="no number"):
        bits_of(model, tiny_tokenizer, [passage("The ferry")])


def test_the_mean_over_sources_counts_each_source_once():
    found = summary(made([10, 30, 8], [10, 10, 4], ["a", "a", "b"], ["1", "2", "3"]))
    assert found["bits_per_byte_by_source"] == {"a": 2.0, "b": 2.0}
    assert found["bits_per_byte"] == 2.0
    assert found["tokens_per_word"] == 2.5


def test_the_interval_is_student_s_where_one_source_has_documents_of_equal_size():
    from scipy import stats

    values = np.array([1.0, 1.4, 0.9, 1.6, 1.3])
    found = summary(made(values * 8, [8] * 5, "aaaaa", "12345"))
    low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    assert found["bits_per_byte_low"] == pytest.approx(low)
    assert found["bits_per_byte_high"] == pytest.approx(high)


def test_passages_of_one_document_are_one_observation():
    split = made([8, 12, 9, 15], [8] * 4, "aaaa", "1122")
    whole = made([20, 24], [16] * 2, "aa", "12")
    assert summary(split)["bits_per_byte_low"] == pytest.approx(summary(whole)["bits_per_byte_low"])


def test_the_interval_holds_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    truth = {"a": 2.0, "b": 1.0, "c": 1.5}
    hits = 0
    for _ in range(400):
        sources = ["a"] * 40 + ["b"] * 24 + ["c"] * 32
        documents = [f"{place // 4}" for place in range(96)]
        size = generator.integers(200, 400, 96)
        own = generator.normal(0, 0.2, 24)[np.arange(96) // 4]
        rate = np.array([truth[source] for source in sources]) + own
        found = summary(made(rate * size, size, sources, documents))
        hits += found["bits_per_byte_low"] <= 1.5 <= found["bits_per_byte_high"]
    assert 0.92 <= hits / 400 <= 0.98


def test_a_paired_difference_is_surer_than_two_means():
    generator = np.random.default_rng(1)
    documents = [str(place) for place in range(30)]
    hard = generator.normal(2, 0.4, 30)
    better = made(hard * 100, [100] * 30, "a" * 30, documents)
    worse = made((hard + 0.05) * 100, [100] * 30, "a" * 30, documents)
    found = difference(better, worse)
    assert found.mean == pytest.approx(-0.05)
    assert found.low <= found.high < 0
    assert summary(better)["bits_per_byte_high"] > summary(worse)["bits_per_byte_low"]
    with pytest.raises(ValueError, match="the same passages"):
        difference(better, made([1], [1], "a", "1"))


def test_where_each_source_is_one_document_the_interval_is_unknown_and_not_nothing():
    one = made([10, 12, 9], [8, 8, 8], "aab", "112")
    found = summary(one)
    assert found["bits_per_byte"] == pytest.approx(1.25)
    assert math.isnan(found["bits_per_byte_low"]) and math.isnan(found["bits_per_byte_high"])
    assert math.isnan(difference(one, one).low)


def test_documents_that_do_not_differ_have_an_interval_of_no_width():
    same = made([10, 10], [8, 8], "aa", "12")
    assert difference(same, same) == Difference(mean=0, low=0, high=0)


def test_nearness_is_zero_for_the_teacher_and_one_for_its_mean():
    teacher = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)) + 3
    same = nearness(teacher, teacher)
    assert (same.relative_error, same.states) == (0, 50)
    assert same.cosine == pytest.approx(1)
    assert nearness(teacher.mean(0).expand(50, 8), teacher).relative_error == pytest.approx(1)
    assert nearness(2 * teacher, teacher).cosine == pytest.approx(1)


@given(st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=6), min_size=1, max_size=4))
def test_padding_is_never_a_target(rows):
    ids, targets = padded(rows, 0)
    for place, row in enumerate(rows):
        assert ids[place, : len(row)].tolist() == row
        assert [target for target in targets[place].tolist() if target != -100] == row[1:]


def test_states_of_a_row_do_not_depend_on_what_stands_beside_it(tiny):
    rows, places = [[1, 5, 9, 30], [1, 7]], [[1, 3], [1]]
    with torch.no_grad():
        together = final_states(tiny, rows, places)
        alone = [final_states(tiny, [row], [at]) for row, at in zip(rows, places, strict=True)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
