import pytest
from hypothesis import given
from hypothesis import strategies as st

from hebench.hebrew import strip_marks
from hebench.metrics.nikud import compare, process_results

SENTENCE = "הַיֶּלֶד שָׁר שִׁיר יָפֶה לְסָבְתָא."


def test_the_reference_itself_is_right() -> None:
    found = compare(SENTENCE, SENTENCE)
    assert found.words == found.words_right == 5
    assert found.letters == found.letters_right == 17
    assert found.decisions == found.decisions_right
    assert found.letters_kept


def test_no_points_at_all() -> None:
    scores = process_results({"target": SENTENCE}, [strip_marks(SENTENCE)])
    assert scores["score"] == 0 and scores["letters_kept"] == 1
    # Some decisions are "no mark", and a text without marks gets those.
    assert 0.2 < scores["decision_accuracy"] < 0.7


@pytest.mark.parametrize(
    ("reference", "prediction", "words_right", "plain_right"),
    [
        ("שָׁלוֹם", "שַׁלוֹם", 0, False),  # another vowel
        ("שָׁלוֹם", "שָׂלוֹם", 0, False),  # sin for shin
        ("סַפָּר", "סַפָר", 0, False),  # p or f is heard
        ("קִטֵּר", "קִטֵר", 0, True),  # dagesh forte in tet is not
        ("יַלְדָּה", "יַלדָּה", 0, True),  # silent shva, written or not
        ("שׁוּם", "שׁום", 0, False),  # the dot of shuruk is heard
        ("חׇכְמָה", "חָכְמָה", 1, True),  # qamats qatan is qamats
        ("שָּׁנָה", "שָּׁנָה", 1, True),  # the order of marks is no decision
        # Neither is a meteg or a rafe, which come before the dot of a shin.
        ("ש\u05b8\u05c1לום", "ש\u05b8\u05bd\u05c1לום", 1, True),
        ("ש\u05b8\u05bd\u05c1לום", "ש\u05b8\u05c1לום", 1, True),
        ("ש\u05b8\u05c1לום", "ש\u05b8\u05bf\u05c1לום", 1, True),
        ("ש\u05b8\u05bd\u05c1לום", "ש\u05b8\u05bd\u05c2לום", 0, False),
    ],
)
def test_what_counts(reference: str, prediction: str, words_right: int, plain_right: bool) -> None:
    found = compare(reference, prediction)
    assert found.words_right == words_right
    assert (found.plain_decisions == found.plain_decisions_right) == plain_right


def test_a_word_whose_letters_changed_is_wrong_throughout() -> None:
    found = compare("הַיֶּלֶד הָלַךְ", "הַיַּלְדָּה הָלַךְ")
    assert (found.words, found.words_right, found.letters_kept) == (2, 1, False)
    assert found.letters_right == 3


def test_another_number_of_words_is_wrong_altogether() -> None:
    found = compare(SENTENCE, f"בְּבַקָּשָׁה: {SENTENCE}")
    assert found.words_right == found.letters_right == found.decisions_right == 0


def test_numbers_and_latin_are_no_words_to_point() -> None:
    assert compare("בִּשְׁנַת 1948 NATO", "בִּשְׁנַת 1948 NATO").words == 1


@given(st.text(st.sampled_from("שלוםבכפ \u05b0\u05b8\u05bc\u05c1\u05c2"), max_size=30))
def test_counts_are_consistent(prediction: str) -> None:
    found = compare(SENTENCE, prediction)
    assert 0 <= found.words_right <= found.words == 5
    assert 0 <= found.letters_right <= found.letters
    assert 0 <= found.decisions_right <= found.decisions
    assert 0 <= found.plain_decisions_right <= found.plain_decisions <= found.decisions
