"""The edits of the corpus stage: what they take, and above all what they leave alone."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hebench.data.load import mini_records
from hebench.train.corpus.config import Rules
from hebench.train.corpus.edits import Edits, collapse_repeats, edit, strip_controls, tidy
from hebench.train.languages import language

HEBREW = language("he")
PROPERTY = settings(max_examples=80, deadline=None)


def edited(text: str, **thresholds: int) -> str:
    return edit(text, Rules(**{"foreign_words": 6, **thresholds}), HEBREW, "he")[0]


LEFT_ALONE = [
    "צה״ל, ארה״ב ורמטכ״ל; ג׳ירפה, צ׳ק, וכו׳ ורח׳ הרצל",
    'חז"ל אמרו, צה"ל הודיע וג\'ון ענה',
    "בֵּית־סֵפֶר דּוּ־לְשׁוֹנִי וְאֵי־אֶפְשָׁר",
    "בְּרֵאשִׁ֖ית בָּרָ֣א אֱלֹהִ֑ים אֵ֥ת הַשָּׁמַ֖יִם וְאֵ֥ת הָאָֽרֶץ׃",
    "המחיר 1,250 ₪, כלומר 12.5% פחות מ־1,428.57 ₪",
    "ביום 12.3.2021, בשעה 09:30, ואחר כך ב־12/03/21 וב־12-03-2021",
    "בשנים 1948–1967 ובעונת 2020-2021",
    "סעיפים 3(א)(2), 12ב ו־41.2.3 לחוק, ס״ח 1523, עמ׳ 102-118",
    "מספר הזהות שלו הוא 086753092 והחשבון 12-345-678901",
    "ISBN 978-965-07-1234-5 או 0-7475-3269-9",
    "ע״א 12345-03-17 וע״פ 5678/09",
    "מספר קטן: 0.501234567, וגדול: 1,234,567,890",
    "קואורדינטות 31.7683, 35.2137 וגובה +754 מטרים",
    "עלייה של +12 +7 +3 נקודות ו+82 27 14 חריגות",
    "אם א < ב וגם ב > ג, אז א < ג; a<b וגם c>d",
    "הטיפוס List<int> והתוצאה <class 'int'> של הפונקציה type",
    "החץ -> והחץ <- והלב <3",
    "חברת AT&T ומדד S&P 500; בן & בת",
    "הסרט Crazy Little Thing Called Love יצא ב־2019",
    "כתב ל־New York Times על iPhone 15 Pro ועל GPT-4",
    "האתר ynet.co.il והקובץ war-and-peace.txt",
    "מוקד *2700 או מוקד 106, וקו 5 של האוטובוס",
    "@מישהו כתב #תגית",
    "פעם אחת.\nפעם אחת.\nואז שוב:\nפעם אחת.",
]


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_hebrew_text_that_only_looks_like_something_else_is_left_alone(text: str) -> None:
    assert edited(text) == text


def test_the_texts_of_the_packaged_sets_come_through_unchanged() -> None:
    texts = [record["passage"] for record in mini_records("qa")]
    texts += [record["pointed"] for record in mini_records("nikud")]
    texts += [record["text"] for record in mini_records("sentiment")]
    texts += [record["article"] for record in mini_records("summarization")]
    assert len(texts) > 250
    for text in texts:
        found, edits = edit(text, Rules(), HEBREW, "he")
        assert found == text
        assert not edits.counts


TAKEN = [
    ("<p>שלום</p><p>עולם</p>", "שלום\n\nעולם"),
    ('<a href="http://x.co.il/a?b=1&c=2" class=big>קישור</a> טוב', "קישור טוב"),
    ("אחת<br>שתיים<br/>שלוש", "אחת\nשתיים\nשלוש"),
    ("<b>מודגש</b> ו<i>נטוי</i>", "מודגש ונטוי"),
    ("<td>א</td><td>ב</td>", "א ב"),
    ("לפני<!-- הערה\nארוכה -->אחרי", "לפניאחרי"),
    ("לפני<script type='a'>if (a < b) {}</script>אחרי", "לפניאחרי"),
    ("<![CDATA[תוכן]]>", "תוכן"),
    ("<?xml version='1.0'?><doc>תוכן</doc>", "תוכן"),
    ("צה&quot;ל &amp; משטרה&nbsp;ישראל&#1497;ת", 'צה"ל & משטרה ישראלית'),
    ("צה&amp;quot;ל", 'צה"ל'),
    ("&unknown; &amp", "&unknown; &amp"),
    ("א\u200fב\u200e ג\u202bד\u202c \u2067ה\u2069\ufeff", "אב גד ה"),
    ("א\xa0ב\u2009ג\tד   ה", "א ב ג ד ה"),
    ("א\r\nב\rג\u2028ד\x0bה", "א\nב\nג\nד\nה"),
    ("א\x00ב\x07ג\ud800", "אבג"),
    ("כתבו אל info@example.co.il, תודה", "כתבו אל <email>, תודה"),
    ("לכתובת:dana.levi+1@mail.example.com.", "לכתובת:<email>."),
    ("ראו https://www.example.com/a_(b)?x=1#y.", "ראו <url>."),
    ("(ראו www.example.co.il)", "(ראו <url>)"),
    ("שכתובתו www.example.gov.ilובאתר האינטרנט.", "שכתובתו <url>ובאתר האינטרנט."),
    ("ראו www.דוגמה.co.il, וגם https://bücher.de/a.", "ראו <url>, וגם <url>."),
    ("https://münchen-online.de/a https://café-paris.fr/x", "<url> <url>"),
    ("http://www.אתר.co.il/x http://www.παράδειγμα.gr/σελίδα", "<url> <url>"),
    ("http://my_site.example.com/page?id=1 ועוד", "<url> ועוד"),
    ("https://user_name.example.com/post/1", "<url>"),
    ("ב־https://he.wikipedia.org/wiki/ירושלים_(עיר), למשל", "ב־<url>, למשל"),
    ("באתר https://example.co.il, ובאתר facebook.com/dana.levi;", "באתר <url>, ובאתר <url>;"),
    ("טל׳ 03-1234567, נייד 050-123-4567.", "טל׳ <phone>, נייד <phone>."),
    ("0501234567 או 054 123 4567 או 072-1234567", "<phone> או <phone> או <phone>"),
    ("(02) 6234567 או ‎+972-54-123-4567‎", "<phone> או <phone>"),
    ("1-800-123-456 או 02-6551818/42", "<phone> או <phone>"),
    ("ל-03-1234567 ול־050-1234567", "ל-<phone> ול־<phone>"),
    ("+1 (212) 555-0123 בארצות הברית", "<phone> בארצות הברית"),
    ("(+972) 50-123-4567 או (+1) 212-555-0123", "(<phone> או (<phone>"),
    ("סוף. This is a whole sentence in English. התחלה", "סוף. <foreign>. התחלה"),
    ("סוף. Don't they know it’s Mary's own house? התחלה", "סוף. <foreign>? התחלה"),
    ("(https://a.co/b_(c)_(d))).", "(<url>))."),
    ("הארגון (World Organization of Many Strange Things (WOMST)) כאן", "הארגון (<foreign>) כאן"),
    ('אמר "to be or not to be that is it" והלך', 'אמר "<foreign>" והלך'),
    ("כאן Это предложение написано по русски полностью כאן", "כאן <foreign> כאן"),
    (
        "הדואר info@example.co.il של the big company with long name הוא",
        "הדואר <email> של <foreign> הוא",
    ),
    ("צחוק\nצחוק\nצחוק\nסוף", "צחוק\nסוף"),
    ("צחוק\n\nצחוק\n\nצחוק\n\nסוף", "צחוק\n\nסוף"),
]


@pytest.mark.parametrize(("text", "expected"), TAKEN)
def test_each_rule_takes_what_it_is_for(text: str, expected: str) -> None:
    assert edited(text) == expected


def test_thresholds_decide_where_a_rule_begins() -> None:
    span = "סוף one two three four five six התחלה"
    assert edited(span, foreign_words=6) == "סוף <foreign> התחלה"
    assert edited(span, foreign_words=7) == span
    song = "לה\nלה\nלה\nלה"
    assert edited(song, max_repeats=3) == "לה"
    assert edited(song, max_repeats=4) == song


def test_a_document_of_another_language_keeps_its_script_and_loses_its_private_data() -> None:
    text = "Call +1 212 555 0123 or write to me@example.com about the שלום sign."
    found, _ = edit(text, Rules(), None, "en")
    assert found == "Call <phone> or write to <email> about the שלום sign."


def test_another_language_has_its_own_letters_and_phones() -> None:
    greek = (
        "Καλημέρα σας, το τηλέφωνο είναι 2101234567 και γράφει this is all in English now τέλος."
    )
    found, _ = edit(greek, Rules(foreign_words=6), language("el"), "el")
    assert found == "Καλημέρα σας, το τηλέφωνο είναι <phone> και γράφει <foreign> τέλος."


def test_edits_tell_the_rule_the_number_and_the_first_place() -> None:
    _, edits = edit("א <b>ב</b> ג <b>ד</b> 050-1234567", Rules(), HEBREW, "he")
    assert edits.counts == {"markup": 4, "phone": 1}
    before, after = edits.first["phone"]
    assert before.endswith("050-1234567")
    assert after.endswith("<phone>")


SLOW_TEXTS = {
    "brackets": "<" * 50_000,
    "tags": "<a " * 20_000,
    "spaces in tags": f"<a{' ' * 1900}b>" * 50,
    "scripts": "</script>" + "<script>" * 20_000,
    "comments": "-->" + "<!--" * 30_000,
    "mail": "a@" * 50_000,
    "hosts": "www.a" + "-" * 50_000,
    "hosts in two scripts": "www." + "a" * 25_000 + "א" * 25_000 + ".b",
    "entities": "&" * 50_000,
    "words": "word " * 20_000,
    "apostrophes": "a'" * 48 + " א " + "a'" * 48,
    "digits": "+1" + " 1" * 20_000,
    "long numbers": f"+{'1' * 60} " * 3_000,
    "numbers with points": "+12345678901234567.5 " * 10_000,
    "lines": "א\n" * 50_000,
    "one word": "a" * 1_000_000,
    "apostrophes in one word": "a'" * 500_000,
    "brackets after an address": "https://a.co/" + ")" * 1_000_000,
}


@pytest.mark.parametrize("text", SLOW_TEXTS.values(), ids=SLOW_TEXTS.keys())
def test_text_made_to_be_slow_is_still_read_in_linear_time(text: str) -> None:
    edited(text, foreign_words=50)  # would take minutes if a pattern went back over the text


# ------------------------------------------------------------------------------ properties
LETTERS = "אבגדהוזחטיכלמנסעפצקרשתםןךףץ"
WORDS = st.text(LETTERS, min_size=1, max_size=8)
POINTED = st.lists(
    st.tuples(st.sampled_from(LETTERS), st.text("ְִֵֶַָֹֻּׁׂ֑֖", max_size=2)), min_size=1, max_size=6
).map(lambda pairs: "".join(letter + marks for letter, marks in pairs))
MARKED = st.tuples(WORDS, st.sampled_from(["״", '"', "׳", "'", "־", "-", "–"]), WORDS).map("".join)
NUMBERS = st.one_of(
    st.integers(0, 10**7).map(lambda number: f"{number:,}"),
    st.decimals(0, 10**6, places=3).map(str),
    st.dates().map(lambda date: f"{date.day}.{date.month}.{date.year}"),
    st.dates().map(lambda date: f"{date:%d/%m/%Y}"),
    st.dates().map(lambda date: f"{date:%d-%m-%Y}"),
    st.times().map(lambda time: f"{time:%H:%M}"),
    st.tuples(st.integers(1000, 2100), st.integers(1000, 2100)).map(
        lambda pair: f"{pair[0]}–{pair[1]}"
    ),
    st.integers(1, 99999).map(lambda number: f"{number} ₪"),
    st.integers(0, 100).map(lambda number: f"{number}%"),
    st.integers(10**8, 10**9 - 1).map(str),
)
SIGNS = st.sampled_from(
    ["<", ">", "&", "(", ")", "–", "…", "?", "!", ":", "/", "+", "=", "*", "NASA", "x"]
)
TEXTS = st.lists(st.one_of(WORDS, POINTED, MARKED, NUMBERS, SIGNS), min_size=1, max_size=30).map(
    " ".join
)


@PROPERTY
@given(TEXTS)
def test_punctuation_points_and_numbers_are_never_damaged(text: str) -> None:
    found, edits = edit(text, Rules(), HEBREW, "he")
    assert (found, dict(edits.counts)) == (text, {})


PHONES = st.one_of(
    st.from_regex(r"0[23489]-[1-9]\d{6}", fullmatch=True),
    st.from_regex(r"05\d-?\d{3}-?\d{4}", fullmatch=True),
    st.from_regex(r"\+972-?5\d-?\d{7}", fullmatch=True),
)
# Python's own digits would do, but `\d` stands for those of all scripts.
PRIVATE = st.one_of(
    PHONES,
    st.from_regex(r"[a-z][a-z0-9._]{0,10}[a-z0-9]@[a-z]{2,8}\.(co\.il|com|org)", fullmatch=True),
    st.from_regex(
        r"(https?://|www\.)[a-z]{2,8}\.(co\.il|com)(/[a-zא-ת0-9_]{1,9}){0,3}", fullmatch=True
    ),
).filter(str.isprintable)


@PROPERTY
@given(TEXTS, PRIVATE, TEXTS)
def test_private_data_never_stays(before: str, private: str, after: str) -> None:
    found = edited(f"{before} {private}, {after}")
    assert private not in found
    assert "<phone>" in found or "<email>" in found or "<url>" in found


@PROPERTY
@given(st.text(LETTERS + "abc01258<>&@.-+ /:()\"'\n\t\r\u200f\u202e\xa0\x00\u05b8־״"))
def test_editing_twice_changes_nothing_more_where_no_markup_is_nested(text: str) -> None:
    plain = text.replace("<", "").replace("&", "")
    once = edited(plain)
    assert edited(once) == once


@PROPERTY
@given(st.text())
def test_the_result_has_no_controls_and_can_be_written(text: str) -> None:
    found = edited(text)
    found.encode()
    assert strip_controls(found, Edits()) == found
    assert tidy(found) == found


@PROPERTY
@given(st.lists(st.sampled_from("אבג"), max_size=30), st.integers(1, 4))
def test_no_paragraph_stands_more_often_in_a_row_than_it_may(lines: list[str], most: int) -> None:
    found = collapse_repeats("\n".join(lines), most, Edits()).split("\n")
    run = 1
    for before, line in pairwise(found):
        run = run + 1 if line == before else 1
        assert run <= most
    squeezed = [line for place, line in enumerate(lines) if place == 0 or lines[place - 1] != line]
    assert [line for place, line in enumerate(found) if place == 0 or found[place - 1] != line] == (
        squeezed or [""]
    )
