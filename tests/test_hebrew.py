import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hebench.hebrew import limit_marks, normalise, strip_bidi_controls, strip_marks, words

hebrew_text = st.text(
    st.one_of(
        st.characters(min_codepoint=0x0591, max_codepoint=0x05F4),
        st.sampled_from("אבגדהוזחטיכלמנסעפצקרשתךםןףץ \"'-–״׳־.,!?1234567890aA\u200f\u202e"),
        st.characters(codec="utf-8"),
    )
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("שָׁלוֹם", "שלום"),
        ("בֵּית־סֵפֶר", "בית־ספר"),  # the maqaf lies inside the block of points and stays
        ("בְּרֵאשִׁ֖ית בָּרָ֣א אֱלֹהִ֑ים׃", "בראשית ברא אלהים׃"),
        ("שׁלום", "שלום"),  # shin dot as its own character
        ("\ufb2a", "ש"),  # shin with its dot as one presentation form
    ],
)
def test_strip_marks(text: str, expected: str) -> None:
    assert strip_marks(text) == expected


def test_more_marks_in_a_row_than_any_word_has_are_cut_off() -> None:
    row = "\u0301\u05b8" * 20
    assert limit_marks(f"א{row}ב{row}ג") == f"א{row[:30]}ב{row[:30]}ג"


@pytest.mark.parametrize("char", ["א", "-", "־", " ", "\U0001f602", "\U0001d400"])
def test_what_is_no_mark_may_stand_in_a_row_of_any_length(char: str) -> None:
    assert limit_marks(char * 100) == char * 100


def test_every_character_that_normalisation_moves_counts_as_a_mark() -> None:
    for char in map(chr, range(sys.maxunicode + 1)):
        if unicodedata.combining(unicodedata.normalize("NFKD", char)[0]):
            assert limit_marks(char * 31) == char * 30, hex(ord(char))


def test_marks_made_to_be_slow_are_still_stripped_in_linear_time() -> None:
    text = "א" + "\u0315\u0316" * 200_000  # would take minutes if all were sorted
    assert len(strip_marks(text)) == 31


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Cat, a dog!", "cat dog"),
        ('צה"ל', "צהל"),
        ("צה״ל", "צה״ל"),  # Hebrew punctuation is no punctuation for SQuAD's rules
        ("בית־ספר", "בית־ספר"),
        ("בית-ספר", "ביתספר"),
        ("  ירושלים \n הבירה ", "ירושלים הבירה"),
        ("שָׁלוֹם", "שָׁלוֹם"),
    ],
)
def test_reference_profile(text: str, expected: str) -> None:
    assert normalise(text, "reference") == expected


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ('צה"ל', "צה״ל"),
        ("צה״ל", "צהל"),
        ("בית־ספר", "בית ספר"),
        ("בית-ספר", "בית ספר"),
        ("בֵּית־סֵפֶר", "בית ספר"),
        ("ג׳ירפה", "ג'ירפה"),
        ("מנכ״ל", "מנכל"),  # folding makes the final letter of an acronym irrelevant
        ("\u200fשלום\u200e", "שלום"),
        ("„תל אביב”", "תל אביב"),
        ("1948.", "1948"),
    ],
)
def test_hebrew_profile_calls_these_equal(left: str, right: str) -> None:
    assert normalise(left, "hebrew") == normalise(right, "hebrew")


def test_hebrew_profile_keeps_prefixes_apart() -> None:
    assert normalise("בירושלים", "hebrew") != normalise("ירושלים", "hebrew")


def test_unknown_profile_is_refused() -> None:
    with pytest.raises(ValueError, match="profile"):
        normalise("שלום", "squad")  # type: ignore[arg-type]


@pytest.mark.parametrize("profile", ["reference", "hebrew"])
@given(text=hebrew_text)
def test_normalising_twice_changes_nothing(profile: str, text: str) -> None:
    once = normalise(text, profile)  # type: ignore[arg-type]
    assert normalise(once, profile) == once  # type: ignore[arg-type]


@given(text=hebrew_text)
def test_words_hold_no_space_no_mark_and_no_bidi_control(text: str) -> None:
    for word in words(text):
        assert word == word.strip() != ""
        assert strip_bidi_controls(word) == word
        assert strip_marks(word) == unicodedata.normalize("NFC", word)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('ד״ר לוי גר בתל־אביב, ליד צה"ל.', ["ד״ר", "לוי", "גר", "בתל", "אביב", "ליד", "צה״ל"]),
        ("ב-12.3.2021 נמכרו 1,250 ג׳ירפות", ["ב", "12.3.2021", "נמכרו", "1,250", "ג׳ירפות"]),
        ("״כן״, אמרה.", ["כן", "אמרה"]),
        # A geresh is a part of its word, single quotes around words are not.
        ("'שלום'", ["שלום"]),
        ("‘שלום לכם’, אמר.", ["שלום", "לכם", "אמר"]),
        ("האות ׳א׳", ["האות", "א"]),
        ("'צ׳יפס, ג'ירפה וכו''", ["צ׳יפס", "ג׳ירפה", "וכו׳"]),
        ("צ'יפס וכו', כיתה א' או ב'", ["צ׳יפס", "וכו׳", "כיתה", "א׳", "או", "ב׳"]),
        ("בשנות ה־'80 וה־'90", ["בשנות", "ה", "80", "וה", "90"]),
        ("הַיֶּלֶד", ["הילד"]),
        ("עלייה של 7.5%", ["עלייה", "של", "7.5%"]),
        ("", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected
