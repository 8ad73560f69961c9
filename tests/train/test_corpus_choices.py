"""What the corpus stage refuses, holds out, mixes in and counts, apart from any pipeline."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hebench.data.load import mini_records
from hebench.errors import DataError
from hebench.train.corpus.config import Rules
from hebench.train.corpus.edits import Edits, script_share
from hebench.train.corpus.refusals import (
    count_words,
    read_word_list,
    refusal,
    words_of,
    write_word_list,
)
from hebench.train.corpus.selection import (
    BINS,
    Candidate,
    Candidates,
    bin_of,
    hold_out,
    key_of,
    limits,
    passage_of,
)
from hebench.train.corpus.tally import EXAMPLES, Tally, read_tallies
from hebench.train.languages import language

HEBREW = language("he")
PROPERTY = settings(max_examples=60, deadline=None)
PASSAGES = [record["passage"] for record in mini_records("qa")]
FREQUENT = frozenset(
    count_words(
        [record["text"] for record in mini_records("sentiment")]
        + [record["article"] for record in mini_records("summarization")]
        + [record["premise"] for record in mini_records("nli")],
        HEBREW,
        by_document=False,
    )
)


# ------------------------------------------------------------------------------- refusals
def test_ordinary_hebrew_is_kept_and_the_refused_say_why() -> None:
    rules = Rules(min_frequent_share=0.35)  # the reference is a few pages
    assert all(refusal(text, 1.0, rules, HEBREW, FREQUENT) is None for text in PASSAGES)
    share = script_share("It is a truth, שלום", HEBREW)
    found = refusal("<foreign>, שלום", share, Rules(), HEBREW, FREQUENT)
    assert found == ("script", "0.29 of the letters are Hebrew")


def test_hebrew_letters_that_are_no_words_are_refused() -> None:
    shuffled = random.Random(0)
    text = " ".join("".join(shuffled.sample(word, len(word))) for word in PASSAGES[0].split())
    rule, _ = refusal(text, 1.0, Rules(), HEBREW, FREQUENT) or ("", "")
    assert rule == "frequent words"
    assert refusal(text, 1.0, Rules(min_frequent_share=0.0), HEBREW, FREQUENT) is None


def test_words_count_by_their_occurrences_or_by_their_documents() -> None:
    texts = ["הד הד הד קול", "הד שקט"]
    assert count_words(texts, HEBREW, by_document=False) == {"הד": 4, "קול": 1, "שקט": 1}
    assert count_words(texts, HEBREW, by_document=True) == {"הד": 2, "קול": 1, "שקט": 1}


def test_points_and_cantillation_do_not_make_a_word_rare() -> None:
    assert words_of("בְּרֵאשִׁ֖ית צה״ל, בית־סֵפֶר", HEBREW) == ["בראשית", "צה", "ל", "בית", "ספר"]


def test_placeholders_are_not_letters_of_another_script() -> None:
    assert script_share("טל׳ <phone> <url> <email> <foreign>", HEBREW) == 1.0


@PROPERTY
@given(st.text("אבגabcαβ 12,.־ְ״"))
def test_the_fast_share_of_a_script_is_the_share_of_the_language(text: str) -> None:
    assert script_share(text, HEBREW) == pytest.approx(HEBREW.share(text))


def test_a_word_list_is_written_by_frequency_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "words.tsv"
    write_word_list(path, Counter({"של": 9, "את": 9, "הוא": 12, "נדיר": 1}), 3)
    assert path.read_text("utf-8") == "הוא\t12\nאת\t9\nשל\t9\n"
    assert list(read_word_list(path, 2)) == ["הוא", "את"]
    path.write_bytes("\ufeff".encode() + path.read_bytes())  # as an editor may leave it
    assert list(read_word_list(path, 2)) == ["הוא", "את"]


@pytest.mark.parametrize("content", ["", "של\n", "של\tרבים\n", "\t7\n", "של\t²\n"])
def test_a_word_list_of_another_form_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "words.tsv"
    path.write_text(content, "utf-8")
    with pytest.raises(DataError, match=r"words\.tsv"):
        read_word_list(path, 10)


# ------------------------------------------------------------------------------ selection
def test_a_key_depends_on_text_and_seed_alone() -> None:
    assert key_of("שלום", 0) == key_of("שלום", 0)
    assert len({key_of("שלום", 0), key_of("שלום", 1), key_of("שלום.", 0)}) == 3
    bins = [bin_of(key_of(str(number), 0)) for number in range(2000)]
    assert min(bins) >= 0
    assert max(bins) < BINS
    assert abs(np.mean(bins) / BINS - 0.5) < 0.03


@PROPERTY
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(0, 10**6), st.integers(1, 60)
)
def test_a_passage_is_whole_lines_in_a_row_and_long_enough(
    sizes: list[int], key: int, words: int
) -> None:
    lines = [
        " ".join(f"{place}.{word}" for word in range(size)) for place, size in enumerate(sizes)
    ]
    passage = passage_of("\n".join(lines), key, words)
    assert passage in "\n".join(lines)
    assert min(words, sum(sizes)) <= len(passage.split()) <= 2 * words


def documents(number: int, words: int) -> list[tuple[int, str, str]]:
    texts = [
        "\n".join(
            " ".join(f"w{place}x{word}" for word in range(line, line + 5))
            for line in range(0, words, 5)
        )
        for place in range(number)
    ]
    return [(key_of(text, 0), f"d{place}", text) for place, text in enumerate(texts)]


@PROPERTY
@given(st.integers(0, 100), st.integers(1, 5))
def test_tasks_hold_out_together_what_one_task_would(seed: int, tasks: int) -> None:
    given_documents = documents(60, 40)
    one = Candidates(200)
    for document in given_documents:
        one.offer(*document)
    random.Random(seed).shuffle(given_documents)
    several = []
    for task in range(tasks):
        part = Candidates(200)
        for document in given_documents[task::tasks]:
            part.offer(*document)
        several += part.kept()
    assert hold_out(several, 200, 2400) == hold_out(one.kept(), 200, 2400)


def test_holding_out_takes_the_smallest_keys_and_enough_words() -> None:
    candidates = Candidates(200)
    for document in documents(60, 40):
        candidates.offer(*document)
    chosen = hold_out(candidates.kept(), 200, 2400)
    assert sum(len(each.passage.split()) for each in chosen) >= 200
    smallest = sorted(key for key, _, _ in documents(60, 40))
    assert [each.key for each in chosen] == smallest[: len(chosen)]
    assert len(chosen) >= 8  # of several documents, not the whole of one


def test_texts_that_come_again_and_again_do_not_shorten_what_is_held_out() -> None:
    candidates = Candidates(400)
    texts = [" ".join(f"מילה{number}" for _ in range(60)) for number in range(40)]
    for place, text in enumerate(texts * 20):
        candidates.offer(key_of(text, 0), str(place), text)
    chosen = hold_out(candidates.kept(), 400, 20 * 40 * 60)
    assert sum(len(each.passage.split()) for each in chosen) >= 400


def test_a_small_source_is_not_held_out_away() -> None:
    whole = [Candidate(1, "a", 1000, "w " * 100), Candidate(2, "b", 100, "w " * 100)]
    assert [each.id for each in hold_out(whole, 500, 1100)] == ["b"]


def test_phrases_are_never_held_out() -> None:
    candidates = Candidates(100)
    candidates.offer(1, "short", "תודה רבה לכולם")
    assert candidates.kept() == []


@PROPERTY
@given(
    st.lists(st.integers(0, 500), min_size=50, max_size=50),
    st.lists(st.integers(0, 500), min_size=50, max_size=50),
    st.floats(0.1, 0.9),
)
def test_the_mixture_has_the_wanted_shares(
    hebrew: list[int], english: list[int], share: float
) -> None:
    bins = {"he/a": spread(hebrew), "en/b": spread(english)}
    below = limits(bins, {}, {"he": share, "en": 1 - share})
    words = {name: int(counts[: below[name]].sum()) for name, counts in bins.items()}
    wanted = min(sum(hebrew) / share, sum(english) / (1 - share))
    assert abs(words["he/a"] - share * wanted) <= 251
    assert abs(words["en/b"] - (1 - share) * wanted) <= 251


def spread(words: list[int]) -> np.ndarray:
    counts = np.zeros(BINS, dtype=np.int64)
    counts[:: BINS // len(words)][: len(words)] = words
    return counts


def test_without_a_mixture_everything_is_taken_up_to_the_limit_of_a_source() -> None:
    bins = {"he/law": spread([10] * 100), "he/news": spread([10] * 100)}
    assert limits(bins, {}, {}) == {"he/law": BINS, "he/news": BINS}
    below = limits(bins, {"he/law": 300}, {})
    assert bins["he/law"][: below["he/law"]].sum() == 300
    assert below["he/news"] == BINS


# ---------------------------------------------------------------------------------- tally
def test_counts_of_tasks_add_up_to_the_counts_of_one(tmp_path: Path) -> None:
    whole, parts = Tally(), [Tally(), Tally()]
    for number in range(40):
        edits = Edits()
        edits.add("markup", f"<b>{number}", str(number))
        for tally in (whole, parts[number % 2]):
            tally.count("he/a", "read", "שלוש מילים כאן")
            tally.edited("he/a", f"a:{number}", edits)
            tally.removed("he/a", "script", f"a:{number}", "אבג " * 500, "0.1")
    for number, tally in enumerate(parts):
        tally.save(tmp_path / f"{number}.tally.json")
    whole.save(tmp_path / "whole.json")
    added = read_tallies(tmp_path.glob("*.tally.json"))
    expected = read_tallies([tmp_path / "whole.json"])
    assert (
        added.totals
        == expected.totals
        == {"he/a": {"read_documents": 40, "read_words": 120, "read_characters": 560}}
    )
    assert added.rules == expected.rules
    script = added.rules["he/a"]["script"]
    assert (script.documents, script.words, len(script.examples)) == (40, 20_000, EXAMPLES)
    assert all(len(before) <= 400 for _, _, before, _ in script.examples)
