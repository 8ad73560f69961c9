"""Texts as raters see them: all of it there, none of it obeyed."""

import html
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hebench.human.masking import MASK
from hebench.human.typeset import sentences, typeset, typeset_line

HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
TEXTS = st.text(
    alphabet=st.one_of(
        st.sampled_from("אבגדC+ 1.`\n\r\t<>&\"'־\u05b8\u05b0\u202e\u2066\u200f\u00ad\x00!?"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=80,
)


def shown(markup: str) -> str:
    """What a reader sees, with control characters turned back."""
    text = re.sub(
        r'<span class="control">U\+([0-9A-F]{4,6})</span>', lambda m: chr(int(m[1], 16)), markup
    )
    return html.unescape(re.sub(r"<[^>]*>", "", text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("שלום", '<p dir="auto" data-at="0">שלום</p>'),
        ("א\n\nב", '<p dir="auto" data-at="0">א</p><p dir="auto" data-at="3">ב</p>'),
        ("ב־C++.", '<p dir="auto" data-at="0">ב־<bdi dir="ltr">C++</bdi>.</p>'),
        ("in C++", '<p dir="auto" data-at="0">in C++</p>'),
        ("כ־9,000 ₪", '<p dir="auto" data-at="0">כ־<bdi dir="ltr">9,000</bdi> ₪</p>'),
        ("שורה\r\n", '<p dir="auto" data-at="0">שורה</p>'),
        ("א `x<1`", '<p dir="auto" data-at="0">א <code dir="ltr">`x&lt;1`</code></p>'),
        ("בָּ", '<p dir="auto" data-at="0">ב<span class="nikud">ָּ</span></p>'),
        ("א\u202eב", '<p dir="auto" data-at="0">א<span class="control">U+202E</span>ב</p>'),
        (
            f"אני {MASK}",
            '<p dir="auto" data-at="0">אני <span class="masked" role="img" '
            f'aria-label="הוסתר">{MASK}</span></p>',
        ),
        (
            "```\nשלום\n\nx\n```\nסוף",
            '<pre dir="ltr" data-at="0">```\nשלום\n\nx\n```</pre>'
            '<p dir="auto" data-at="16">סוף</p>',
        ),
    ],
)
def test_a_text_becomes_blocks_of_their_own_direction(text: str, expected: str) -> None:
    assert typeset(text, masked="הוסתר") == expected


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("כ־9,000 ₪, לא 9,500.", ["9,000", "9,500"]),
        ("עלייה של 50%, ואז 2.5%.", ["50%", "2.5%"]),
        ("עולה $50, ולא ₪180", ["$50", "₪180"]),
        ("מספר #1, התגית #hebrew", ["#1", "#hebrew"]),
        ("כתוב Hello, world, וזהו", ["Hello, world"]),
        ("נולד ב־May 5, 2020, כך כתבו", ["May 5, 2020"]),
        ("ב־C++, בלי ספריות", ["C++"]),
        ("לפי OpenAI, אומרים.", ["OpenAI"]),
        ("הציונים 85, 90, 95", ["85", "90", "95"]),  # the first is the right one, as in a sentence
        ("בשנת 2020, OpenAI הודיעה", ["2020", "OpenAI"]),
        ("ב־12.3.2021, בשעות 9:00–19:00", ["12.3.2021", "9:00", "19:00"]),
        ("ציון 4.2, טווח 10-20%", ["4.2", "10-20%"]),
        ("ראו x.com/a%20b?", ["x.com/a%20b"]),
        ("$ לבד, # לבד, 50 % לחוד", ["50"]),
    ],
)
def test_what_runs_left_to_right_among_hebrew_is_whole_and_ends_before_its_clause_does(
    text: str, runs: list[str]
) -> None:
    assert re.findall('<bdi dir="ltr">(.*?)</bdi>', typeset_line(text, masked="")) == runs


def test_markup_in_an_answer_stays_text() -> None:
    made = typeset(HOSTILE + " ![](http://evil.example/x.png) **bold** `<b>`", masked="")
    assert not re.search(r"<(script|img|b|strong|a)\b", made)
    assert "![](http://evil.example/x.png) **bold**" in made


@given(TEXTS)
def test_every_block_shows_its_part_of_the_text(text: str) -> None:
    made = typeset(text, masked="")
    blocks = re.findall(r'<(p|pre) dir="\w+" data-at="(\d+)">(.*?)</\1>', made, flags=re.DOTALL)
    for _, place, inside in blocks:
        piece = shown(inside)
        assert text[int(place) : int(place) + len(piece)] == piece
    kept = "".join(shown(inside) for *_, inside in blocks)
    assert [c for c in kept if not c.isspace()] == [c for c in text if not c.isspace()]


@given(TEXTS)
def test_nothing_that_reorders_text_reaches_the_page(text: str) -> None:
    assert not re.search("[\u200e\u200f\u202a-\u202e\u2066-\u2069\x00]", typeset(text, masked=""))
    assert not re.search(
        "[\u200e\u200f\u202a-\u202e\u2066-\u2069\x00]", typeset_line(text, masked="")
    )


def test_the_longest_texts_take_no_time() -> None:
    units = ("a", "a-", "א", "`", "a.", ".", '."', "\u05b8", "```\n", "! ")
    for unit in (*units, "a,", "a, ", ",", ", ", "1, ", "%", "a%", "$", "#a", "$a, ", "א a, "):
        made = typeset(unit * 20_000, masked="")
        assert len(made) >= 20_000
        sentences(unit * 20_000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("אחת. שתיים! שלוש", ["אחת.", "שתיים!", "שלוש"]),
        ("ב־4.2 מיליון. סוף.", ["ב־4.2 מיליון.", "סוף."]),
        ("הוא אמר ״די.״ והלך.\n\n- פריט", ["הוא אמר ״די.״", "והלך.", "- פריט"]),
        ("... ואז הלך. סוף", ["...", "ואז הלך.", "סוף"]),
        ("… אמר.\n.. שוב", ["… אמר.", "..", "שוב"]),
        ("רגע....סוף?! כן", ["רגע....סוף?!", "כן"]),
        ("א" + "." * 500 + " ב" + "." * 500, ["א" + "." * 500, "ב" + "." * 500]),
        ("." * 500 + "א", ["." * 500 + "א"]),
        (".", ["."]),
        ("  \n ", []),
        ("", []),
    ],
)
def test_sentences_are_found_where_they_stand(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in sentences(text)] == expected


@given(TEXTS)
def test_sentences_cover_all_that_is_not_space_in_order(text: str) -> None:
    places = sentences(text)
    assert all(start < end for start, end in places)
    assert all(a[1] <= b[0] for a, b in pairwise(places))
    covered = "".join(text[start:end] for start, end in places)
    assert "".join(covered.split()) == "".join(text.split())
