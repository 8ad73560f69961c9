import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hebench.metrics.extract import choice, choice_letter, final_answer, number, strip_thinking

SENTIMENT = ["חיובי", "שלילי", "ניטרלי"]
ENTAILMENT = ["נובע", "סותר", "ניטרלי"]
CITIES = ["תל אביב", "ירושלים", "חיפה", "באר שבע"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("הבירה היא ירושלים.", "הבירה היא ירושלים."),
        ("<think>אולי א, ואולי ב.</think>התשובה היא ב.", "התשובה היא ב."),
        ("<think>\nנחשב: 3 ועוד 4.\n</think>\n\nהתשובה: 7", "התשובה: 7"),
        ("<think>\n\n</think>\n\n42", "42"),  # thinking switched off
        ("<thinking>ב, כי...</thinking> אפשרות ב", "אפשרות ב"),
        ("<reasoning>הטקסט שלילי</reasoning>\nשלילי", "שלילי"),
        ("<thought>א</thought>ב", "ב"),
        ("<THINK>א</THINK>ב", "ב"),
        ("[THINK]א או ב?[/THINK]ב", "ב"),
        ("【think】א או ב?【/think】ב", "ב"),
        ("◁think▷א או ב?◁/think▷ב", "ב"),
        ("<seed:think>א או ב?</seed:think>ב", "ב"),
        ("<|START_THINKING|>א<|END_THINKING|><|START_RESPONSE|>ב<|END_RESPONSE|>", "ב"),
        ("<|inner_prefix|>א<|inner_suffix|>ב<|assistant_end|>", "ב"),
        ("<|begin_of_thought|>א<|end_of_thought|>ב", "ב"),
        ("<|channel>thought\nא או ב?<channel|>ב<turn|>", "ב"),
        (
            "<|channel|>analysis<|message|>א?<|end|><|start|>assistant<|channel|>final"
            "<|message|>התשובה היא ב<|return|>",
            "התשובה היא ב",
        ),
        (
            "<|channel|>analysis<|message|>א?<|end|><|start|>assistant<|channel|>commentary"
            "<|message|>רגע<|end|><|start|>assistant<|channel|>final<|message|>ב",
            "ב",
        ),
        ("<|channel|>analysis<|message|>המשתמש שואל", ""),
        ("analysisThe user asks in Hebrew.assistantfinalהתשובה היא ב", "התשובה היא ב"),
        ("analysisThe user asks in Hebrew", ""),
        ("analysis of the text: חיובי", "analysis of the text: חיובי"),
        # Unclosed: the model was cut off.
        ("<think>נחשב: 3 ועוד 4 הם 7, ולכן התשובה היא 7", ""),
        ("התשובה היא ב. <think>רגע, אולי ג", ""),
        ("<think>א<think>ב</think>ג", ""),
        # The prompt held the opening mark.
        ("3 ועוד 4 הם 7.\n</think>\n7", "7"),
        ("נחשוב.[/THINK]7", "7"),
        # Repeated, nested, mixed.
        ("<think>א</think>הרגש:<think>ב</think>שלילי", "הרגש: שלילי"),
        ("<think>א<think>ב</think>ג</think>ד", "ד"),
        ("<think>\n<think>\nא\n</think>ב", "ב"),  # opened by the template and by the model
        ("<think>לכתוב </thinking>?</think>ב", "ב"),
        ("<think>א</think>", ""),
        ("", ""),
    ],
)
def test_strip_thinking(text: str, expected: str) -> None:
    assert strip_thinking(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ירושלים", "ירושלים"),
        ("**ירושלים**.", "ירושלים"),
        ("הבירה היא ירושלים. התשובה היא: ירושלים.", "ירושלים"),
        ("התשובה הנכונה היא אפשרות ב׳.", "אפשרות ב׳"),
        ("אם כך, התשובה הסופית היא **42** שקלים!", "42 שקלים"),
        ("תשובה סופית: 42", "42"),
        ("**תשובה**: ״צה״ל״", "צה״ל"),
        ('**תשובה:** "תל אביב".', "תל אביב"),
        ("### תשובה סופית\n\nחיפה", "חיפה"),
        ("לסיכום, העיר היא חיפה.", "העיר היא חיפה"),
        ("התשובה היא חיפה. לסיכום, זו העיר.", "חיפה. לסיכום, זו העיר"),
        ("התשובה היא 40. רגע, טעיתי. התשובה היא 42.", "42"),
        ("התשובה, אם כן, היא 42.", "42"),
        ("תשובתי: חיפה", "חיפה"),
        ("The answer is Haifa.", "Haifa"),
        ("So the final answer: **חיפה**", "חיפה"),
        ("נקבל $\\boxed{42}$.", "42"),
        ("\\boxed{\\text{חיפה}}", "חיפה"),
        ("\\[ \\boxed{1{,}250} \\]", "1,250"),
        ("<answer>חיפה</answer> תודה", "חיפה"),
        ('{"answer": "חיפה"}', "חיפה"),
        ("```\n42\n```", "42"),
        ("```json\n42\n```", "42"),
        ("הַתְּשׁוּבָה הִיא: שָׁלוֹם", "שָׁלוֹם"),  # points are part of an answer
        ("\u200fהתשובה: \u202bחיפה\u202c", "חיפה"),
        ("״חיפה״ או ״עכו״", "״חיפה״ או ״עכו״"),
        # Not phrases.
        ("אין תשובה.", "אין תשובה"),
        ("התשובה אינה ידועה.", "התשובה אינה ידועה"),
        ("זו התשובה הנכונה.", "זו התשובה הנכונה"),
        # Broken off.
        ("לכן התשובה היא", ""),
        ("לכן $\\boxed{4", ""),
        ("", ""),
        ("א" * 3000, "א" * 2000),
        ("התשובה היא " + "א" * 3000, "א" * 2000),
    ],
)
def test_final_answer(text: str, expected: str) -> None:
    assert final_answer(text) == expected


LETTERS = [
    # The whole answer.
    ("ב", 1),
    ("ב.", 1),
    (" ב׳ ", 1),
    ("ב'", 1),
    ("(ג)", 2),
    ("[ג]", 2),
    ("ג)", 2),
    ("**ד**", 3),
    ("**ד.**", 3),
    ("`א`", 0),
    ('"א"', 0),
    ("> ב", 1),
    ("- ב", 1),
    ("C", 2),
    ("(b)", 1),
    ("b", 1),
    ("אפשרות ב", 1),
    ("תשובה ב׳", 1),
    ("סעיף ד.", 3),
    ("option B", 1),
    ("Answer: D", 3),
    ("\u200fב\u200f.", 1),
    ("האות ב", 1),
    ("האות: ב", 1),
    ("אות ב׳", 1),
    ("האות היא ב.", 1),
    # A mark before the option's text.
    ("ב. ירושלים", 1),
    ("ב) ירושלים", 1),
    ("(ב) ירושלים", 1),
    ("ב: ירושלים", 1),
    ("ב - ירושלים", 1),
    ("**ב׳** – ירושלים", 1),
    ("B. Jerusalem", 1),
    ("ב, כי זו הבירה", 1),
    ("ב כי זו הבירה", 1),
    ("אפשרות ב׳ - ירושלים", 1),
    ("ירושלים היא הבירה מאז 1949.\n\nב. ירושלים", 1),
    ("נימוק ארוך, ובו מילים רבות.\nב", 1),
    ("הבירה היא ירושלים (ב).", 1),
    # After a final-answer phrase.
    ("התשובה היא ג, כי א אינה נכונה", 2),
    ("התשובה הנכונה היא: ג', ירושלים", 2),
    ("התשובה הנכונה היא **ג. חיפה**, ולא א. תל אביב.", 2),
    ("התשובה היא ב כי ב-1948 הוקמה המדינה", 1),
    ("התשובה הנכונה היא אפשרות ב׳: ירושלים", 1),
    ("התשובה היא ירושלים (אפשרות ב).", 1),
    ("**תשובה**: **(ד)** כפי שהוסבר", 3),
    ("### תשובה\nב", 1),
    ("נבדוק:\nא. תל אביב\nב. ירושלים\n\nהתשובה היא ב", 1),
    ("התשובה היא ב. לסיכום, ירושלים היא הבירה.", 1),
    ("התשובה היא האות ב.", 1),
    ("האות הנכונה היא ב.", 1),
    ("בדקתי הכול, והאות המתאימה היא ב׳, כי זו הבירה", 1),
    ("The correct answer is (B) Jerusalem, not A.", 1),
    ("לכן $\\boxed{\\text{ג}}$", 2),
    ("\\boxed{C}", 2),
    ('{"תשובה": "ב"}', 1),
    ("<answer>ב</answer>", 1),
    # The object of a choice.
    ("אני בוחר באפשרות ב.", 1),
    ("אני בוחרת ב-ב׳, כי זו הבירה", 1),
    ("לכן ב היא התשובה הנכונה", 1),
    ("האות ב היא הנכונה", 1),
    ("אני בוחרת באות ב.", 1),
    ("בחרתי את האות ב, כי זו הבירה", 1),
    ("אפשרות א אינה נכונה. אפשרות ב היא הנכונה.", 1),
    ("I would choose option B because of the date.", 1),
    ("Option B is correct.", 1),
    ("A is correct", 0),
    # Two letters, or none for certain.
    ("א או ב", None),
    ("התשובה היא א או ב", None),
    ("התשובה היא א׳ או ב׳", None),
    ("התשובה היא א, ב", None),
    ("התשובה היא א ו-ב", None),
    ("התשובה היא א וב", None),
    ("התשובה היא א או שהתשובה היא ב", None),
    ("A/B", None),
    ("A and B", None),
    ("א. תל אביב\nב. ירושלים\nג. חיפה\nד. באר שבע", None),
    ("אפשרות א מתארת את העיר ואפשרות ב את הכפר", None),
    ("אפשרות א מתארת את העיר", None),
    ("התשובה היא ב? לא, ג", None),
    # Denied.
    ("התשובה היא לא ב", None),
    ("אפשרות א אינה נכונה", None),
    ("אפשרות א (תל אביב) אינה נכונה", None),
    ("(א) אינה נכונה", None),
    ("לא אפשרות א", None),
    # Letters that are talked about.
    ("האות ב היא השנייה באלף־בית", None),
    ("האות א שותקת ברוב המילים", None),
    ("המילה ״בית״ מתחילה באות ב.", None),
    ("התשובה היא שהמילה מתחילה באות ב", None),
    ("התשובה היא המילה שבה האות ב מופיעה", None),
    ("האות ב אינה הנכונה", None),
    # Prefixes, articles, initials, dates.
    ("התשובה היא ב-1948", None),
    ("התשובה היא ב־1948", None),
    ("התשובה היא ב 1948", None),
    ("ב-ירושלים", None),
    ("ה ירושלמי", None),
    ("התשובה היא הכלב", None),
    ("התשובה היא א. ב. יהושע", None),
    ("א.ב. יהושע", None),
    ('ד"ר כהן', None),
    ("ד״ר כהן", None),
    ("ג'ירפה", None),
    ("ב׳ באייר", None),
    ("ויטמין C הוא הנכון", None),
    ("A dog is in the yard", None),
    ("The answer is a dog", None),
    ("אני בוחר ב", None),
    ("כל האפשרויות נכונות", None),
    # Not among four options.
    ("ה", None),
    ("התשובה היא ו", None),
    ("E", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "expected"), LETTERS)
def test_choice_letter_of_four(text: str, expected: int | None) -> None:
    assert choice_letter(text, 4) == expected


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [("ח", 8, 7), ("H.", 8, 7), ("ה. חיפה", 5, 4), ("ז", 6, None), ("ב", 2, 1), ("ג", 2, None)],
)
def test_only_the_first_letters_are_options(text: str, count: int, expected: int | None) -> None:
    assert choice_letter(text, count) == expected


@pytest.mark.parametrize("count", [0, 9])
def test_there_are_eight_letters(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 8 options"):
        choice_letter("א", count)


CHOICES = [
    # Letters.
    ("ב", CITIES, 1),
    ("ב. ירושלים", CITIES, 1),
    ("התשובה: ב (ירושלים)", CITIES, 1),
    ("התשובה היא ב, כי תל אביב אינה הבירה", CITIES, 1),
    ("ב. תל אביב", CITIES, None),  # the letter and the text disagree
    # The text of a choice.
    ("ירושלים", CITIES, 1),
    ("**ירושלים**.", CITIES, 1),
    ("הבירה היא ירושלים, כמובן", CITIES, 1),
    ("היא שוכנת בירושלים", CITIES, 1),
    ("הוא נולד בתל־אביב", CITIES, 0),
    ("תֵּל אָבִיב", CITIES, 0),
    ("לבאר־שבע", CITIES, 3),
    ("ירושלים או חיפה", CITIES, None),
    ("ירושלמי", CITIES, None),
    ("עכו", CITIES, None),
    ("בירת ישראל היא ירושלים, ולא תל אביב", CITIES, 1),
    ("תל אביב אינה הבירה", CITIES, None),
    ("תל אביב היא לא הבירה", CITIES, None),
    ("התשובה היא ירושלים. תל אביב היא עיר גדולה.", CITIES, 1),
    ("התשובה היא ירושלים, כי תל אביב היא רק עיר גדולה.", CITIES, 1),
    ("ירושלים\n\nנימוק: תל אביב היא עיר גדולה.", CITIES, 1),
    ('ט"ו בשבט', ["א׳ בתשרי", "ט״ו בשבט"], 1),
    ("א׳ בתשרי", ["ט״ו בשבט", "א׳ בתשרי"], 1),  # a date, not the letter
    # One choice inside another.
    ("העיר ניו יורק", ["ניו יורק", "העיר ניו יורק"], 1),
    ("ניו יורק", ["ניו יורק", "העיר ניו יורק"], 0),
    ("המנורה", ["הנורה", "המנורה"], 1),
    ("זה לא נכון", ["נכון", "לא נכון"], 1),
    ("הטענה לא נכונה", ["נכון", "לא נכון"], 1),
    ("הטענה נכונה", ["נכון", "לא נכון"], 0),
    # Numbers are whole words.
    ("הוא בן 15", ["5", "15"], 1),
    ("15.5", ["5", "15"], None),
    ("1250", ["250", "1,250"], 1),
    ("-5", ["5", "15"], None),
    ("-5", ["5", "-5"], 1),
    ("המדינה הוקמה ב-1948", ["1948", "1967"], 0),
    # Labels.
    ("חיובי", SENTIMENT, 0),
    ("הרגש המובע בטקסט הוא **שלילי**.", SENTIMENT, 1),
    ("הביקורת חיובית", SENTIMENT, 0),
    ("הנימה השלילית ברורה", SENTIMENT, 1),
    ("נייטרלי", SENTIMENT, 2),
    ("גיאוגרפיה", ["טיולים", "גאוגרפיה"], 1),
    ("הטקסט ניטרלי", ["חיובי", "שלילי", "נייטרלי"], 2),
    ("הטקסט לא חיובי", SENTIMENT, None),
    ("הטקסט אינו מביע רגש חיובי", SENTIMENT, None),
    ("הטקסט לא חיובי ולא שלילי", SENTIMENT, None),
    ("הטקסט אינו חיובי או שלילי", SENTIMENT, None),
    ("לא חיובי אלא שלילי", SENTIMENT, 1),
    ("תשובה: הרגש הוא שלילי, ולא חיובי", SENTIMENT, 1),
    ("ניטרלי (לא חיובי ולא שלילי)", SENTIMENT, 2),
    ("אין ספק שהטקסט חיובי", SENTIMENT, 0),
    ("ניכר בו היעדר רגש חיובי", SENTIMENT, None),
    ("התשובה היא חיובי, כי הכותב אינו מוצא דבר שלילי.", SENTIMENT, 0),
    ("חיובי או ניטרלי", SENTIMENT, None),
    ("חיובי\nשלילי\nניטרלי", SENTIMENT, None),
    ("ההשערה נובעת מן הטענה.", ENTAILMENT, 0),
    ("ההשערה סותרת את הטענה.", ENTAILMENT, 1),
    ("ההשערה אינה סותרת ואינה נובעת; היא ניטרלית.", ENTAILMENT, 2),
    ("ההשערה אינה נובעת מן הטענה.", ENTAILMENT, None),
    ("הביטוי משמש במובן המושאל", ["מילולית", "מושאלת"], 1),
    # Yes and no: only as an answer, not as grammar.
    ("כן.", ["כן", "לא"], 0),
    ("לא, כי הטקסט לא אומר כן", ["כן", "לא"], 1),
    ("התשובה היא לא.", ["כן", "לא"], 1),
    ("Yes, it does.", ["yes", "no"], 0),
    ("הטקסט לא ברור", ["כן", "לא"], None),
    ("לכן הדבר אפשרי", ["כן", "לא"], None),
    ("לא ידוע", ["כן", "לא"], None),
    ("כן ולא", ["כן", "לא"], None),
    ("", ["כן", "לא"], None),
    ("!?", ["+", "-"], None),
    # Long prose names nothing, a phrase in it does.
    ("ירושלים " + "היא עיר " * 300, CITIES, None),
    ("תל אביב היא עיר " * 200 + "התשובה היא ירושלים.", CITIES, 1),
]


@pytest.mark.parametrize(("text", "choices", "expected"), CHOICES)
def test_choice(text: str, choices: list[str], expected: int | None) -> None:
    assert choice(text, choices) == expected


def test_no_choices_is_misuse() -> None:
    with pytest.raises(ValueError, match="at least one choice"):
        choice("א", [])


NUMBERS = [
    # Digits.
    ("42", 42),
    ("0", 0),
    ("**42**.", 42),
    ("42 שקלים", 42),
    ("42%", 42),
    ("₪57", 57),
    ("57₪", 57),
    ("1,250 ש״ח", 1250),
    ("1250", 1250),
    ("1 250", 1250),
    ("1\u202f250\u00a0ש״ח", 1250),
    ("1,234,567", 1234567),
    ("42.0", 42),
    ("-5", -5),
    ("−5 מעלות", -5),
    ("מינוס 5", -5),
    ("כ-42 שקלים", 42),
    ("3 מיליון", 3_000_000),
    ("1.5 מיליון שקלים", 1_500_000),
    ("3 מיליוני שקלים", 3_000_000),
    ("42 אלף", 42_000),
    ("\u200f42\u200f", 42),
    # After a final-answer phrase.
    ("100 פחות 43. התשובה היא 57.", 57),
    ("התשובה היא: **2,142** ליטרים.", 2142),
    ("התשובה: העודף הוא 57 שקלים.", 57),
    ("תשובה סופית: 57 ש״ח (100-43)", 57),
    ("התשובה היא 120 − 78 = 42 שקלים.", 42),
    ("התשובה היא 3*4=12", 12),
    ("התשובה היא 120 פחות 78, כלומר 42.", 42),
    ("התשובה היא 42, כי 6 כפול 7 הם 42 ולא 13.", 42),
    ("התשובה היא שהמחיר שווה ל-57", 57),
    ("התשובה היא 42. בדיקה: 42 ועוד 58 הם 100.", 42),
    ("התשובה היא 40. טעיתי. התשובה היא 42.", 42),
    ("לסיכום, נשארו לה 42 שקלים", 42),
    ("התשובה הסופית 42", 42),
    ("לכן $\\boxed{1{,}250}$", 1250),
    ("$$\\boxed{x = 42}$$", 42),
    ("The answer is 42.", 42),
    ("התשובה היא 42 (ארבעים ושתיים)", 42),
    ("התשובה היא ארבעים ושתיים, כי 6 כפול 7 הם 42", 42),
    # Without a phrase.
    ("6 × 7 = 42", 42),
    ("7 * 1 = 7", 7),
    ("1. מחשבים 3*4=12\n2. מחסרים 5\nנשארו 7 עוגיות", 7),
    ("בשנת 1948 היו 3. נשארו 42 שקלים.", 42),
    ("**3** * **4** = **12**", 12),
    ("היו לה 10 תפוחים. נשארו לה שבעה.", 7),
    # Words.
    ("שבע", 7),
    ("שבעה תפוחים", 7),
    ("שני ילדים", 2),
    ("שתים עשרה", 12),
    ("שנים עשר ילדים", 12),
    ("אחד־עשר", 11),
    ("תשע עשרה", 19),
    ("עשרים ושלוש", 23),
    ("מאה ועשרים", 120),
    ("מאה ארבעים ושתיים", 142),
    ("אלף מאתיים וחמישים", 1250),
    ("שלושת אלפים", 3000),
    ("עשרת אלפים ואחת", 10_001),
    ("שלוש מאות אלף ועשרים", 300_020),
    ("מיליון ומאתיים אלף", 1_200_000),
    ("מינוס חמש", -5),
    ("אפס", 0),
    ("לארבעים ושניים אורחים", 42),
    ("כחמישים", 50),
    ("אַרְבָּעִים וּשְׁתַּיִם", 42),
    ("אַרְבָּעִים וְאַחַת", 41),
    ("באר שבע", None),
    ("כל אחד קיבל שבעה תפוחים", 7),
    ("התשובה היא אחת מהאפשרויות", None),
    ("שלוש שנים", 3),
    # Several, and none for certain.
    ("יש 3 תפוחים ו-4 אגסים", None),
    ("יש 3 תפוחים. יש 4 אגסים. זהו.", None),
    ("התשובה היא 42 שקלים ל-3 ילדים", None),
    ("התשובה היא 42 מתוך 50", None),
    ("התשובה היא 42 שקלים, שהם 70% מהסכום", None),
    ("התשובה היא 5 או 7", None),
    ("התשובה היא 5-7", None),
    ("התשובה היא 6*7", None),
    ("התשובה היא = 6 * 7", None),
    ("התשובה היא 7*7", None),
    ("7 + 7 =", None),
    ("שבע כפול שבע", None),
    ("התשובה היא 42 שקלים אחרי 3 ימים", None),
    ("התשובה היא 405 חלקי שלושה רבעים", None),
    ("התשובה היא לא 42", None),
    ("חמישה ושלושה", None),
    ("עשרים ושלוש מאות", None),
    ("התשובה היא", None),
    ("אין מספיק נתונים", None),
    ("", None),
    # Not whole, not plain.
    ("2.5", None),
    ("1/2", None),
    ("3 1/2", None),
    ("3½", None),
    ("\\boxed{\\frac{1}{2}}", None),
    ("\\boxed{\\sqrt{49}}", None),
    ("42 וחצי", None),
    ("שלוש וחצי", None),
    ("חצי שעה", None),
    ("חצי מיליון", None),
    ("שני שלישים", None),
    ("ב-06:00", None),
    ("12.3.2021", None),
    ("10^3", None),
    ("5k", None),
    ("5M", None),
    ("1.000", None),  # one, or a thousand in another country
    ("1,25", None),
    ("H2O", None),
    ("9" * 5000, None),
]


@pytest.mark.parametrize(("text", "expected"), NUMBERS)
def test_number(text: str, expected: int | None) -> None:
    assert number(text) == expected


FEMININE = ["אפס", "אחת", "שתיים", "שלוש", "ארבע", "חמש", "שש", "שבע", "שמונה", "תשע", "עשר"]
MASCULINE = [
    "אפס",
    "אחד",
    "שניים",
    "שלושה",
    "ארבעה",
    "חמישה",
    "שישה",
    "שבעה",
    "שמונה",
    "תשעה",
    "עשרה",
]
OF_THOUSANDS = ["שלושת", "ארבעת", "חמשת", "ששת", "שבעת", "שמונת", "תשעת", "עשרת"]  # 3 to 10
TENS = ["עשרים", "שלושים", "ארבעים", "חמישים", "שישים", "שבעים", "שמונים", "תשעים"]


def spell(value: int, *, feminine: bool) -> str:
    """Return the number in words by the rules of school grammar, ו before the last part."""
    parts = _parts(value, feminine=feminine)
    return " ".join([*parts[:-1], "ו" + parts[-1]] if len(parts) > 1 else parts)


def _parts(value: int, *, feminine: bool) -> list[str]:
    units = FEMININE if feminine else MASCULINE
    if value <= 10:
        return [units[value]]
    if value < 20:
        first = {2: "שתים" if feminine else "שנים"}.get(value - 10, units[value - 10])
        return [f"{first} {'עשרה' if feminine else 'עשר'}"]
    if value < 100:
        rest = _parts(value % 10, feminine=feminine) if value % 10 else []
        return [TENS[value // 10 - 2], *rest]
    if value < 1000:
        hundreds = {1: "מאה", 2: "מאתיים"}.get(value // 100, f"{FEMININE[value // 100]} מאות")
        return [hundreds, *(_parts(value % 100, feminine=feminine) if value % 100 else [])]
    thousands = value // 1000
    if thousands <= 2:
        head = ["", "אלף", "אלפיים"][thousands]
    elif thousands <= 10:
        head = f"{OF_THOUSANDS[thousands - 3]} אלפים"
    else:
        head = f"{spell(thousands, feminine=False)} אלף"
    return [head, *(_parts(value % 1000, feminine=feminine) if value % 1000 else [])]


@pytest.mark.parametrize(
    ("value", "feminine", "masculine"),
    [
        (12, "שתים עשרה", "שנים עשר"),
        (125, "מאה עשרים וחמש", "מאה עשרים וחמישה"),
        (3013, "שלושת אלפים ושלוש עשרה", "שלושת אלפים ושלושה עשר"),
    ],
)
def test_the_speller_knows_grammar(value: int, feminine: str, masculine: str) -> None:
    assert spell(value, feminine=True) == feminine
    assert spell(value, feminine=False) == masculine


@pytest.mark.parametrize("feminine", [True, False])
def test_every_number_word_to_9999_is_read(feminine: bool) -> None:
    misread = {
        value: read
        for value in range(10_000)
        if (read := number(spell(value, feminine=feminine))) != value
    }
    assert misread == {}


@given(
    value=st.integers(0, 999_999),
    feminine=st.booleans(),
    prefix=st.sampled_from(["", "ב", "כ", "ל", "ה", "מ", "ש"]),
    joint=st.sampled_from([" ", "־", "-"]),
)
def test_number_words_in_a_sentence(value: int, feminine: bool, prefix: str, joint: str) -> None:
    words = prefix + spell(value, feminine=feminine).replace(" ", joint)
    assert number(f"התשובה היא {words} שקלים.") == value


@given(value=st.integers(-(10**12), 10**12), unit=st.sampled_from(["", " ש״ח", "%", "₪", " ק״מ."]))
def test_digits_are_read_with_any_separator(value: int, unit: str) -> None:
    grouped = f"{value:,}"
    for digits in (str(value), grouped, grouped.replace(",", " "), f"{value}.0"):
        assert number(f"לכן התשובה היא {digits}{unit}") == value
        assert number(f"{digits}{unit}") == value


fragments = st.lists(
    st.one_of(
        st.sampled_from([text for text, _ in LETTERS] + [text for text, _ in NUMBERS[:-1]]),
        st.sampled_from(list("אבגדהוזח ABCH a.,:;()[]'״׳-−־*_`#>=/\n\\{}$0123456789%₪")),
        st.sampled_from(
            ["התשובה היא ", "תשובה: ", "\\boxed{", "<think>", "</think>", " או ", "לא "]
        ),
        st.text(max_size=5),
    ),
    max_size=8,
).map("".join)


@given(text=fragments)
@example(text="\ud800")  # half a surrogate pair
@example(text="\x00\u202e\u2067א")
def test_arbitrary_text_never_raises_and_answers_stay_in_range(text: str) -> None:
    assert strip_thinking(text) == strip_thinking(text).strip()
    assert len(final_answer(text)) <= 2000
    for count in (1, 4, 8):
        assert choice_letter(text, count) in {None, *range(count)}
    assert choice(text, CITIES) in {None, *range(len(CITIES))}
    assert isinstance(number(text), int | None)


@pytest.mark.parametrize(
    "frame", ["**{}**", "*{}*", "__{}__", "_{}_", "`{}`", "```\n{}\n```", "# {}", "> {}", "- {}"]
)
@pytest.mark.parametrize(("text", "expected"), LETTERS)
def test_markdown_around_an_answer_changes_nothing(
    text: str, expected: int | None, frame: str
) -> None:
    assert choice_letter(frame.format(text), 4) == expected


@given(text=fragments.filter(lambda text: not set(text) & set("*_`#>-")))
def test_emphasis_around_any_text_changes_nothing(text: str) -> None:
    assert choice_letter(f"**{text}**", 4) == choice_letter(text, 4)


@given(text=fragments, thinking=fragments)
def test_thinking_before_an_answer_changes_nothing(text: str, thinking: str) -> None:
    answer = strip_thinking(text)
    inner = thinking.replace("think>", "")
    assert strip_thinking(f"<think>{inner}</think>{answer}") == strip_thinking(answer)


@given(text=fragments)
def test_an_answer_read_with_more_options_is_the_same(text: str) -> None:
    few, many = choice_letter(text, 4), choice_letter(text, 8)
    assert few == many or (few is None and many is not None and many >= 4)


HOSTILE = [
    *' \n*_`(-"׳.=1א½\\{<\x00\u200f\u05b0',
    *("\u0315\u0316", "1 234 ", "1,", "א או ", "(א) ", "א.\n", "לא ", "התשובה הנכונה הסופית שלי "),
    *("לסיכום\n", "אפשרות א ", "שלילי, ", "ושלוש ", "שלוש מאות אלף ", "<think> ", "</think>"),
    *("<|channel|>", "\\boxed{", "\\frac{1}{", "בוחר באפשרות "),
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_text_takes_time_linear_in_its_length(unit: str) -> None:
    """100,000 characters took half a second at most here; quadratic time would be minutes."""
    text = "התשובה היא " * (HOSTILE.index(unit) % 2) + unit * (100_000 // len(unit))
    readers: list[Callable[[str], Any]] = [
        strip_thinking,
        final_answer,
        lambda answer: choice_letter(answer, 4),
        lambda answer: choice(answer, SENTIMENT),
        number,
    ]
    for read in readers:
        began = time.perf_counter()
        read(text)
        assert time.perf_counter() - began < 10, read
