import multiprocessing
import os
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hebench.data import corpora, overlap
from hebench.data.overlap import Item, ItemOverlap, clean_corpus, find_overlap, hebrew_words
from hebench.errors import ConfigError, DataError
from hebench.hebrew import normalise
from tests.data.test_corpora import SUFFIXES, read_corpus, write_corpus

# 13 words: two shingles of 12. In corpora it stands as it would in print.
PASSAGE = 'בשנת 1948 הוקם צה"ל, ובית־הספר הראשון לקצינים נפתח ליד תל אביב בחורף'
PRINTED = "בִּשְׁנַת 1948 הוּקַם צה״ל ובית הספר הראשון „לקצינים” נפתח – ליד תל־אביב, בחורף"
# Eight words: matched as a whole. Four: too short to judge.
SENTENCE = "הג׳ירפה אכלה את כל העלים שבראש העץ הגבוה"
PHRASE = "כן, אמרה רות לאמה"
UNRELATED = [
    "הממשלה אישרה ביום ראשון את תקציב המדינה לשנה הבאה אחרי דיון ארוך שנמשך עד הבוקר",
    "בשנת 1948 הוקם צה״ל ובית הספר הראשון לטייסים נפתח רק אחרי כמה שנים בצפון הארץ",
    "הג׳ירפה אכלה את כל העלים שבראש השיח הנמוך",
]
ITEMS = [Item("qa", "p", PASSAGE), Item("qa", "short", PHRASE), Item("winograd", "s", SENTENCE)]


def by_id(found: overlap.Overlap) -> dict[str, ItemOverlap]:
    return {item.id: item for item in found.items}


def naive_shares(
    documents: Sequence[str], items: Sequence[Item], size: int, whole: int
) -> list[tuple[float | None, int]]:
    """Sets of tuples: for each item its share and its number of documents."""

    def shingles(text: str, length: int) -> set[tuple[str, ...]]:
        words = normalise(text, "hebrew").split()
        return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}

    answers: list[tuple[float | None, int]] = []
    for item in items:
        length = min(len(normalise(item.text, "hebrew").split()), size)
        if length < min(whole, size):
            answers.append((None, 0))
            continue
        own = shingles(item.text, length)
        held = [own & shingles(document, length) for document in documents]
        answers.append((len(set().union(*held)) / len(own), sum(map(bool, held))))
    return answers


# Words


@given(
    st.text(
        st.one_of(
            st.characters(min_codepoint=0x0591, max_codepoint=0x05F4),
            st.sampled_from("אבכךמםסף \"'-–״׳־.,!?\u200f\u202e\u00a0\u0345\u1e9e\ufb2a\u0085½ﬀ"),
            st.characters(),
        )
    )
)
def test_the_fast_words_are_those_of_the_profile(text: str) -> None:
    assert hebrew_words(text) == normalise(text, "hebrew").split()


def test_the_fast_words_agree_on_every_character_there_is() -> None:
    for start in range(0, 0x110000, 0x1000):
        block = [chr(code) for code in range(start, start + 0x1000)]
        text = " ".join(f"א{char}ב {char}" for char in block)
        assert hebrew_words(text) == normalise(text, "hebrew").split(), hex(start)


@pytest.mark.parametrize("marks", ["\u0315\u0316", "\u0315\uff9e", "\u0315\U0001d165"])
def test_a_document_of_marks_is_still_read_in_linear_time(marks: str) -> None:
    (word,) = hebrew_words("א" + marks * 200_000)  # would take minutes if all were sorted
    assert len(word) == 31


# Finding


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_planted_item_is_found_in_every_format(tmp_path: Path, suffix: str) -> None:
    texts = [UNRELATED[0], f"הקדמה. {PRINTED}. סוף", UNRELATED[1], f"אמר: «{SENTENCE}»"]
    path = write_corpus(tmp_path / f"part{suffix}", texts)
    found = find_overlap(path, ITEMS)
    lines = (3, 7) if ".txt" in suffix else (2, 4)
    assert by_id(found)["p"] == ItemOverlap(
        set="qa",
        id="p",
        words=13,
        shingles=2,
        share=1.0,
        documents=1,
        examples=(f"part{suffix}:{lines[0]}",),
    )
    assert by_id(found)["s"].share == 1.0
    assert by_id(found)["s"].examples == (f"part{suffix}:{lines[1]}",)
    assert (found.files, found.skipped, found.documents) == (1, (), 4)
    assert found.words == sum(len(normalise(text, "hebrew").split()) for text in texts)


def test_nothing_is_found_in_unrelated_text(tmp_path: Path) -> None:
    found = find_overlap(write_corpus(tmp_path / "a.jsonl", UNRELATED * 50), ITEMS)
    assert found.documents == 150
    assert [item.share for item in found.items] == [0.0, None, 0.0]
    assert all(item.documents == 0 and item.examples == () for item in found.items)


def test_sets_are_counted_and_short_items_are_not_dropped(tmp_path: Path) -> None:
    items = [*ITEMS, Item("qa", "empty", " – "), Item("qa", "half", PASSAGE + " מאוד קר")]
    found = find_overlap(write_corpus(tmp_path / "a.txt", [PRINTED]), items)
    assert found.sets == (
        overlap.SetOverlap(set="qa", items=4, judged=2, touched=2, contained=1, too_short=2),
        overlap.SetOverlap(set="winograd", items=1, judged=1, touched=0, contained=0, too_short=0),
    )
    assert by_id(found)["half"].share == 0.5
    assert by_id(found)["empty"].words == by_id(found)["short"].shingles == 0
    assert by_id(found)["short"].words == 4


def test_the_lengths_are_parameters(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "a.txt", [PHRASE])
    assert by_id(find_overlap(path, ITEMS, whole_words=4))["short"].share == 1.0
    assert by_id(find_overlap(path, ITEMS, shingle_words=3))["short"].shingles == 2
    assert find_overlap(path, ITEMS, shingle_words=3).sets[0].too_short == 0


def test_an_item_is_not_found_across_two_documents(tmp_path: Path) -> None:
    words = SENTENCE.split()
    path = write_corpus(tmp_path / "a.jsonl", [" ".join(words[:4]), " ".join(words[4:])])
    assert by_id(find_overlap(path, ITEMS))["s"].share == 0.0


def test_three_examples_are_kept_in_the_order_of_the_corpus(tmp_path: Path) -> None:
    write_corpus(tmp_path / "b.jsonl", [SENTENCE, UNRELATED[0], SENTENCE])
    write_corpus(tmp_path / "a" / "z.txt", [SENTENCE + " " + SENTENCE])
    write_corpus(tmp_path / "c.parquet", [SENTENCE])
    found = by_id(find_overlap(tmp_path, ITEMS))["s"]
    assert found.documents == 4
    assert found.examples == ("a/z.txt:1", "b.jsonl:1", "b.jsonl:3")


def test_the_field_is_a_parameter_and_what_was_not_read_is_reported(tmp_path: Path) -> None:
    write_corpus(tmp_path / "a.jsonl", [SENTENCE], field="body")
    write_corpus(tmp_path / "b.parquet", [SENTENCE], field="body")
    (tmp_path / "c.csv").write_bytes(b"")
    found = find_overlap(tmp_path, ITEMS, field="body")
    assert (found.files, found.skipped, found.documents) == (2, ("c.csv",), 2)
    assert by_id(found)["s"].documents == 2
    with pytest.raises(
        DataError, match=r"a\.jsonl line 1: .*field 'text', found only 'id', 'body'"
    ):
        find_overlap(tmp_path, ITEMS)


def test_no_bar_is_drawn_where_there_is_no_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    find_overlap(write_corpus(tmp_path / "a.jsonl", UNRELATED), ITEMS)
    assert capfd.readouterr() == ("", "")


few_words = st.lists(st.sampled_from(["אב", "בג", "גד"]), max_size=9).map(" ".join)


@pytest.mark.parametrize("distinct_hashes", [None, 2, 1])
@settings(max_examples=50)
@given(documents=st.lists(few_words, max_size=5), texts=st.lists(few_words, min_size=1, max_size=5))
def test_hashes_that_collide_accuse_nobody(
    distinct_hashes: int | None, documents: list[str], texts: list[str]
) -> None:
    """With the true hashes, and with ones so bad that most windows collide."""
    items = [Item("set", str(number), text) for number, text in enumerate(texts)]
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        if distinct_hashes:
            bad = np.arange(100, dtype=np.uint64) % np.uint64(distinct_hashes)
            patch.setattr(overlap, "_hashes_of_words", lambda words: bad[:words])
        path = write_corpus(Path(folder) / "a.jsonl", documents)
        found = find_overlap(path, items, shingle_words=3, whole_words=2)
    expected = naive_shares(documents, items, size=3, whole=2)
    assert [(item.share, item.documents) for item in found.items] == expected


def test_one_process_and_two_say_and_write_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpora, "CHUNK_BYTES", 500)
    monkeypatch.setattr(corpora, "CHUNK_ROWS", 7)
    texts = [*UNRELATED, PRINTED, *UNRELATED, SENTENCE] * 12
    for suffix in SUFFIXES:
        write_corpus(tmp_path / "corpus" / f"a{suffix}", texts)
    one = find_overlap(tmp_path / "corpus", ITEMS)
    assert one.documents == 6 * 96
    assert by_id(one)["p"].documents == 6 * 12
    assert find_overlap(tmp_path / "corpus", ITEMS, workers=2) == one
    first = clean_corpus(tmp_path / "corpus", ITEMS, tmp_path / "one")
    second = clean_corpus(tmp_path / "corpus", ITEMS, tmp_path / "two", workers=2)
    assert first == second
    assert first.overlap == one
    for suffix in SUFFIXES:
        name = f"a{suffix}"
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_memory_does_not_grow_with_the_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpora, "CHUNK_BYTES", 2**16)
    peaks = []
    for copies in (100, 1000):
        path = write_corpus(tmp_path / f"{copies}.jsonl.gz", [*UNRELATED, PRINTED] * copies)
        find_overlap(path, ITEMS)  # fills the table of characters
        tracemalloc.start()
        find_overlap(path, ITEMS)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_workers_do_not_run_ahead_of_the_counting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpora, "CHUNK_BYTES", 1)
    path = write_corpus(tmp_path / "a.jsonl", UNRELATED * 20)
    read = []

    def chunks() -> Iterator[corpora.Chunk]:
        for chunk in corpora.read_chunks(path, path, "text", rows=False):
            read.append(chunk)
            yield chunk

    index, _ = overlap._prepare(ITEMS, "text", 12, 6)
    with closing(overlap._search_all(chunks(), index, 2)) as searched:
        for _ in range(10):
            next(searched)
        assert len(read) == 14  # two more for each worker
    assert multiprocessing.active_children() == []


# Cleaning


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_cleaning_takes_out_the_planted_documents_and_no_other(tmp_path: Path, suffix: str) -> None:
    planted = [f"הקדמה. {PRINTED}", f"{SENTENCE}. {PRINTED}", SENTENCE]
    texts = [planted[0], UNRELATED[0], planted[1], UNRELATED[1], UNRELATED[2], planted[2]]
    path = write_corpus(tmp_path / f"a{suffix}", texts)
    out = tmp_path / "new" / f"clean{suffix}"
    cleaning = clean_corpus(path, ITEMS, out)
    assert read_corpus(out) == UNRELATED
    assert (cleaning.documents, cleaning.removed) == (6, 3)
    assert cleaning.removed_by_set == {"qa": 2, "winograd": 2}
    assert cleaning.overlap == find_overlap(path, ITEMS)
    assert not any(item.documents for item in find_overlap(out, ITEMS).items)
    assert [other.name for other in out.parent.iterdir()] == [out.name]


def test_a_folder_is_cleaned_file_by_file(tmp_path: Path) -> None:
    corpus, out = tmp_path / "corpus", tmp_path / "clean"
    write_corpus(corpus / "a.jsonl", UNRELATED)
    write_corpus(corpus / "b" / "b.parquet", [SENTENCE, *UNRELATED])
    write_corpus(corpus / "b" / "c.txt.gz", [SENTENCE])
    write_corpus(corpus / "empty.parquet", [])
    write_corpus(corpus / "empty.jsonl", [])
    assert clean_corpus(corpus, ITEMS, out).removed == 2
    assert (out / "a.jsonl").read_bytes() == (corpus / "a.jsonl").read_bytes()
    assert read_corpus(out / "b" / "b.parquet") == UNRELATED
    assert read_corpus(out / "b" / "c.txt.gz") == []
    assert read_corpus(out / "empty.parquet") == []
    assert (out / "empty.jsonl").read_bytes() == b""


def test_min_share_spares_documents_that_only_touch_an_item(tmp_path: Path) -> None:
    item = Item("qa", "long", " ".join(f"מילה{n}" for n in range(22)))  # eleven shingles
    partly = " ".join(item.text.split()[:14])  # three of them
    path = write_corpus(tmp_path / "a.txt", [item.text, partly, UNRELATED[0]])
    for min_share, kept in ((0.0, 1), (3 / 11, 1), (0.3, 2), (1.0, 2)):
        out = tmp_path / f"clean-{min_share}.txt"
        cleaning = clean_corpus(path, [item], out, min_share=min_share)
        assert cleaning.removed == 3 - kept
        assert len(read_corpus(out)) == kept


def test_a_broken_corpus_leaves_no_output(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write_corpus(corpus / "a.jsonl", UNRELATED)
    (corpus / "b.jsonl").write_text("{", encoding="utf-8")
    for workers in (1, 2):
        with pytest.raises(DataError, match=r"b\.jsonl line 1"):
            clean_corpus(corpus, ITEMS, tmp_path / "out" / "clean", workers=workers)
        assert list((tmp_path / "out").iterdir()) == []
        assert multiprocessing.active_children() == []


# What is refused


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda at: find_overlap(at, ITEMS, workers=0), "workers: expected a number from 1"),
        (lambda at: find_overlap(at, ITEMS, shingle_words=0), "shingle_words: .*found 0"),
        (lambda at: clean_corpus(at, ITEMS, at.parent / "b", min_share=1.1), "min_share: .*1.1"),
        (lambda at: clean_corpus(at, ITEMS, at.parent / "b.txt"), "expected the suffix .jsonl"),
        (lambda at: clean_corpus(at, ITEMS, at), "expected a new path"),
        (lambda at: clean_corpus(at.parent, ITEMS, at.parent / "c" / "d"), "outside the corpus"),
    ],
)
def test_options_that_cannot_be_carried_out(
    tmp_path: Path, call: Callable[[Path], object], message: str
) -> None:
    path = write_corpus(tmp_path / "corpus" / "a.jsonl", UNRELATED)
    with pytest.raises(ConfigError, match=message):
        call(path)
    assert [other.name for other in path.parent.iterdir()] == ["a.jsonl"]


def test_items_need_an_id_of_their_own(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "a.jsonl", UNRELATED)
    for items in ([], [Item("qa", "1", "א"), Item("qa", "1", "ב")]):
        with pytest.raises(ValueError, match="id of its own"):
            find_overlap(path, items)


class DeadlyIndex:
    """Ends the process that unpickles it, as the kernel does for want of memory."""

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (1,)


def test_a_worker_that_is_ended_is_told_in_one_line(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "a.jsonl", UNRELATED)
    chunks = corpora.read_chunks(path, path, "text", rows=False)
    with pytest.raises(ConfigError, match="use fewer"):
        list(overlap._search_all(chunks, DeadlyIndex(), 2))  # type: ignore[arg-type]
