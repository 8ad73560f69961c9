import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hebench.errors import DataError
from hebench.train.passages import (
    batches,
    drawn,
    held_out,
    passages_of,
    prefix_id,
    sentences_of,
)
from hebench.train.texts import Document


def document(text, name="d"):
    return Document(id=name, source="s", text=text)


def corpus(folder, **sources):
    folder.mkdir()
    for source, texts in sources.items():
        lines = [json.dumps({"text": text}) for text in texts]
        (folder / f"{source}.00000.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


@given(st.text(st.sampled_from("אב \n.x\t"), max_size=60), st.integers(1, 5))
def test_passages_glued_together_are_the_document_up_to_its_last_word(text, words):
    found = [passage.text for passage in passages_of(document(text), words)]
    assert "".join(found) == text.rstrip()
    assert all(len(passage.split()) == words for passage in found[:-1])
    assert all(1 <= len(passage.split()) <= words for passage in found)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("בוקר טוב. מה שלומך? טוב!", ["בוקר טוב.", " מה שלומך?", " טוב!"]),
        ("״די!״ אמרה רות. הלכה…", ["״די!״", " אמרה רות.", " הלכה…"]),
        ("כותרת\nשורה ראשונה.\n\nסוף", ["כותרת", "שורה ראשונה.", "סוף"]),
        ("3.5 ליטר ב־12.3.2021", ["3.5 ליטר ב־12.3.2021"]),
        ("מילה אחת ועוד ארבע מילים", ["מילה אחת ועוד", " ארבע מילים"]),
    ],
)
def test_sentences_end_at_their_marks_and_at_lines(text, sentences):
    assert [found.text for found in sentences_of(document(text), words=3)] == sentences


def test_sources_are_heard_in_turn_until_the_small_one_is_empty(tmp_path):
    folder = corpus(tmp_path / "c", law=["a b c d e f g h"], news=["x y", "z w"])
    found = drawn(folder, words=1, count=20, seed=0)
    assert [passage.source for passage in found[:8]] == ["law", "news"] * 4
    assert [passage.source for passage in found[8:]] == ["law"] * 4


def test_the_shards_of_a_source_are_one_source(tmp_path):
    folder = corpus(tmp_path / "c", law=["a b", "c d"], news=["x"])
    (folder / "law.00001.jsonl").write_text('{"text": "e f"}\n', encoding="utf-8")
    found = drawn(folder, words=1, count=4, seed=0)
    assert [passage.source for passage in found] == ["law", "news", "law", "law"]


def test_equal_seeds_draw_equal_passages_and_other_seeds_others(tmp_path):
    folder = corpus(tmp_path / "c", law=[" ".join(map(str, range(200)))])
    texts = [
        [passage.text for passage in drawn(folder, words=2, count=10, seed=seed)]
        for seed in (0, 0, 1)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_no_more_of_a_large_source_is_read_than_twenty_times_what_is_drawn(tmp_path):
    folder = corpus(tmp_path / "c", law=["x"] * 100 + ["y"] * 100)
    damaged = folder / "law.00001.jsonl"
    damaged.write_text("no JSON\n", encoding="utf-8")
    assert {passage.text for passage in drawn(folder, words=1, count=5, seed=0)} == {"x"}
    with pytest.raises(DataError, match="law.00001"):
        drawn(folder, words=1, count=50, seed=0)


def test_held_out_text_comes_from_as_many_documents_as_there_are(tmp_path):
    folder = corpus(tmp_path / "c", law=["a b c d", "e f g h", "i"], news=["x y"])
    found = held_out(folder, words=2, per_source_words=6)
    assert [passage.text for passage in found] == ["a b", "e f", "i", " c d", "x y"]


def test_a_folder_without_text_is_refused(tmp_path):
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="expected documents with text, found none"):
        drawn(tmp_path, words=2, count=3, seed=0)


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 64))
def test_batches_hold_everything_once_and_no_more_than_they_may(lengths, batch_tokens):
    found = batches(lengths, batch_tokens)
    assert sorted(index for batch in found for index in batch) == list(range(len(lengths)))
    for batch in found:
        padded = len(batch) * max(lengths[index] for index in batch)
        assert len(batch) == 1 or padded <= batch_tokens


def test_the_prefix_is_bos_and_eos_where_there_is_none(tiny_tokenizer):
    import copy

    other = copy.deepcopy(tiny_tokenizer)
    assert prefix_id(other) == other.convert_tokens_to_ids("<s>")
    other.bos_token = None
    assert prefix_id(other) == other.convert_tokens_to_ids("</s>")
    other.eos_token = None
    with pytest.raises(DataError, match="expected a BOS or EOS token, found neither"):
        prefix_id(other)
