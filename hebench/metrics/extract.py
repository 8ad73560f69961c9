"""Answers out of the free text that chat models write, in Hebrew or partly in English.

A likelihood picks one of the given answers; a chat model writes a paragraph, and what it meant
has to be read out of it. Each function here returns what the text says for certain, or None:
callers count None as unparseable and score it 0. Nothing is guessed, since a guess that favours
the right answer would favour the models that evade the question.

    >>> text = strip_thinking("<think>א או ג?</think>**התשובה היא ג׳**, כי א אינה נכונה.")
    >>> final_answer(text)
    'ג׳, כי א אינה נכונה'
    >>> choice_letter(text, 4)
    2
    >>> choice("התשובה: הרגש הוא שלילי, ולא חיובי", ["חיובי", "שלילי", "ניטרלי"])
    1
    >>> number("100 פחות 43, כלומר 57. התשובה: חמישים ושבעה שקלים")
    57

Thinking goes first (`strip_thinking`): the others take what they are given for an answer.

Time is linear in the text, whatever it holds. Runs of white space are made one character first,
so that no pattern needs to repeat a space; what patterns repeat after that is bounded, or a
class of characters that cannot match what may follow it, so that giving characters back is never
tried more than a bounded number of times. Only the first 2,000 characters of an answer are
normalised, because Unicode normalisation itself is quadratic in a run of combining marks.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from hebench.hebrew import normalise, strip_bidi_controls
from hebench.metrics.numerals import Number, in_digits, in_words

_LONGEST_ANSWER = 2_000  # characters

# --- Thinking -----------------------------------------------------------------------------------

# (opening, closing, whether a second opening inside is a block of its own). Inside a block only
# its own marks count. Channels do not nest: each message of gpt-oss opens one.
_BLOCKS = (
    *(
        (f"<{name}>", f"</{name}>", True)
        for name in ("think", "thinking", "thought", "reasoning", "seed:think")
    ),
    (r"\[THINK\]", r"\[/THINK\]", True),  # Magistral
    ("【think(?:ing)?】", "【/think(?:ing)?】", True),
    ("◁think▷", "◁/think▷", True),  # Kimi
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>", True),  # Command A
    (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>", True),  # Apertus
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>", True),  # OpenThinker
    (r"<\|channel>thought", r"<channel\|>", False),  # Gemma 4
    (r"<\|channel\|>(?:analysis|commentary)", r"<\|channel\|>final[^<]{0,60}<\|message\|>", False),
    # gpt-oss again, where the decoder dropped its control tokens and left their words.
    (r"\Aanalysis(?=[^\W\d_])", "assistantfinal", False),
)
_BLOCK_MARK = re.compile(
    "|".join(f"(?P<o{i}>{opening})|(?P<c{i}>{end})" for i, (opening, end, _) in enumerate(_BLOCKS)),
    re.IGNORECASE,
)
_CONTROL_TOKEN = re.compile(r"<\|\w{1,30}\|>|</s>|<(?:start|end)_of_turn>|<turn\|>")


def strip_thinking(text: str) -> str:
    """Return `text` without what the model wrote for itself, stripped of outer white space.

    A closing mark without its opening ends thinking that the prompt began, so all before it goes.
    A block that is never closed makes the result "": the model was cut off while thinking, and
    what it wrote before is not its last word.
    """
    kept: list[str] = []
    begin = opened = depth = family = 0
    for mark in _BLOCK_MARK.finditer(text):
        which = mark.lastgroup or ""
        opens, number_of_family = which[0] == "o", int(which[1:])
        if depth == 0:
            if opens:
                kept.append(text[begin : mark.start()])
                depth, family, opened = 1, number_of_family, mark.end()
            else:
                kept.clear()
            begin = mark.end()
        elif number_of_family == family:
            if not opens:
                depth -= 1
                begin = mark.end()
            # The template and the model may both write the opening mark: that is one block.
            elif _BLOCKS[family][2] and text[opened : mark.start()].strip():
                depth += 1
                opened = mark.end()
    if depth:
        return ""
    return _CONTROL_TOKEN.sub(" ", " ".join([*kept, text[begin:]])).strip()


# --- The final answer -----------------------------------------------------------------------------

# Soft hyphens, zero-width spaces and joiners go; control characters become a space.
_UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff")) | dict.fromkeys(
    (*range(9), *range(11, 32), *range(0x7F, 0xA0)), " "
)
# Points and cantillation; the block's other characters are punctuation (see hebench.hebrew).
_POINTS = {code: None for code in range(0x591, 0x5C8) if code not in (0x5BE, 0x5C0, 0x5C3, 0x5C6)}
# In this order; a star between two digits is a product and no emphasis.
_MARKDOWN = tuple(
    (re.compile(pattern, re.MULTILINE), replacement)
    for pattern, replacement in (
        (r"(?<=[0-9])(?:\*{1,2}| \*{1,2} )(?=[0-9])", " × "),
        (r"```[a-z]{2,15}(?=\n)|[*`]", ""),
        (r"(?<![^\W_])_+|_+(?![^\W_])", ""),
        (r"[^\S\n]+", " "),
        (r" ?\n[ \n]*", "\n"),
        (r"^ ?(?:(?:#{1,6}|[>•+-]) )+", ""),
    )
)
_LATEX = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\[dt]?frac\{([^{}]{1,40})\}\{([^{}]{1,40})\}", r" \1/\2 "),
        (r"\\sqrt\{?", "√"),
        (r"\\(?:times|cdot)(?![a-z])", "×"),
        (r"\{,\}", ","),
        (r"\\[,;!:]|\$", ""),
        (r"\\([%₪#&_])", r"\1"),
        (r"\\[a-zA-Z]{1,20}|\\[()\[\]\\]|[{}]", " "),
        (" {1,9}", " "),
    )
)
_QUOTES = "\"'“”„‟«»״׳‘’‚"

_NOUN = "ה?תשובה|תשובתי|(?:האפשרות|הבחירה|האות) (?:הנכונה|המתאימה|שלי)|הסעיף הנכון"
_BETWEEN = (
    "הנכונה|הסופית|המדויקת|המתאימה|הטובה|ביותר|המלאה|הקצרה|נכונה|סופית|שלי|"
    "לשאלה|לבעיה|לתרגיל|לחידה|על|השאלה|של|הבעיה|התרגיל|זו|הזו|הזאת"
)
_HEBREW_LEAD = rf"(?:{_NOUN})(?: (?:{_BETWEEN})){{0,4}}"
_LEAD = re.compile(
    "|".join(
        (
            # The answer is, answer: ...; the second half of "א או שהתשובה היא ב" leads nowhere.
            rf"(?<![א-ת])(?<!או )(?<!או ש)[וש]{{0,2}}{_HEBREW_LEAD}"
            r"(?:(?:, (?:אם כן|לכן|לפיכך|אפוא),)? (?:היא|הוא|הינה|הינו|תהיה)(?![א-ת])"
            r"(?: ?[:–-](?!\S))?|[\"״]? ?[:=]| [–—-] )",
            rf"^{_HEBREW_LEAD}\n",  # as a heading
            r"התשובה (?:הנכונה|הסופית)(?= [(0-9₪-])",
            r"(?<![A-Za-z])(?<!or )(?i:answer|(?:correct|right|best|final) (?:option|choice))"
            r"(?: is(?![a-z]):?| would be(?![a-z]):?|[\"”]? ?[:=])",
            r"^(?i:(?:the )?(?:final )?answer)\n",
            r"(?P<boxed>\\boxed ?\{)",
            r"(?P<tag><answer>)",
            r"(?P<summary>(?:^|(?<=[.!?] ))לסיכום(?![א-ת])|(?<![א-ת])לסיכום(?= ?[,:–-]))",
        )
    ),
    re.MULTILINE,
)


def final_answer(text: str) -> str:
    """Return what follows the last final-answer phrase of `text`, or all of `text` without one.

    Markdown, LaTeX wrappers, bidi controls, quotes around it and punctuation at its end are
    removed; points stay. At most 2,000 characters. "" where the text breaks off at the phrase.
    A summary (לסיכום) counts as a phrase only where no other is: chat models answer first and
    sum up afterwards.
    """
    return _answer(text)[0][:_LONGEST_ANSWER]


def _answer(text: str) -> tuple[str, bool]:
    """Return the unbounded final answer, and whether a phrase led to it."""
    text = strip_bidi_controls(_CONTROL_TOKEN.sub(" ", text)).translate(_UNSEEN)
    for pattern, replacement in _MARKDOWN:
        text = pattern.sub(replacement, text)
    # The phrase is looked for without points, and the answer cut where they still stand.
    places = [place for place, char in enumerate(text) if ord(char) not in _POINTS]
    lead = summary = None
    for found in _LEAD.finditer("".join(text[place] for place in places)):
        if found["summary"]:
            summary = found
        else:
            lead = found
    lead = lead or summary
    if lead is None:
        return _trim(text), False
    rest = text[places[lead.end()] :] if lead.end() < len(places) else ""
    if lead["boxed"]:
        rest = _inside_braces(rest)
    elif lead["tag"]:
        rest = rest.partition("</answer>")[0]
    return _trim(rest), True


def _inside_braces(text: str) -> str:
    """Return what stands before the brace that closes an open one; "" if none does."""
    depth = 1
    for place, char in enumerate(text[:_LONGEST_ANSWER]):
        depth += (char == "{") - (char == "}")
        if depth == 0:
            return text[:place]
    return ""


def _trim(text: str) -> str:
    for pattern, replacement in _LATEX:
        text = pattern.sub(replacement, text)
    for _ in range(3):
        text = text.lstrip(" \n:,;").rstrip(" \n.,:;!?…")
        if len(text) > 1 and text[0] in _QUOTES and text[-1] in _QUOTES:
            # A mark inside an acronym or a loanword (צה״ל, ג׳ירפה) quotes nothing.
            inner = re.sub(rf"(?<=[א-ת])[{_QUOTES}](?=[א-ת])", "", text[1:-1])
            if text[0] not in inner and text[-1] not in inner:
                text = text[1:-1]
    return text


_SENTENCE_END = re.compile(r"(?<=[.!?…])(?= )|\n")
_REASON = re.compile(
    r"[,;]? (?:כי|משום|מכיוון|כיוון|מאחר|מפני|שכן|בגלל|היות|because|since)(?![א-תa-z])"
)


def _statement(answer: str) -> str:
    """Return the first sentence of `answer` without the reason it gives."""
    return _REASON.split(_SENTENCE_END.split(answer, maxsplit=1)[0], maxsplit=1)[0]


# --- Option letters -------------------------------------------------------------------------------

_LETTERS = ("אבגדהוזח", "ABCDEFGH")
_GERESH = "[׳'’]?"
# A small Latin letter counts only before a closing bracket: "a" is an article.
_LETTER = r"([א-חA-H]|[a-h](?=[)\]]))"
_MARK = rf"(?:[{_QUOTES}(\[]{{1,2}} ?)?{_LETTER}{_GERESH}"
_CUE = (
    "(?:[והבלמש]{0,2}(?:אפשרות|תשובה|סעיף|בחירה|אופציה)"
    "(?: (?:הנכונה|הנכון|הסופית|היא|הוא)){0,2}"
    "|(?i:option|answer|choice)(?: is| letter)?):? "
)
# Prompts ask for a letter, but texts talk of letters, too: האות ב היא השנייה באלף־בית.
_LETTER_CUE = r"ה?אות(?: היא)?:? (?!\S{1,3} היא )"
# A letter that is glued to a word, a number or an acronym is a prefix or an initial.
_ALONE = rf"(?!\w|[-־{_QUOTES}]\w| [0-9])"
_ALSO = rf"[{_QUOTES})\].]?(?: ?[,/&+] ?| (?:או|ואולי|וגם|and|or) | ו-?)(?:{_CUE})?{_MARK}{_ALONE}"
# What may follow a letter that stands for an option. A full stop does not, if another initial
# follows it: א. ב. יהושע.
_SEPARATED = (
    rf"(?=[{_QUOTES}]?(?:$|\n|[)\],;:/!]| [–—-] | \(|\.(?! ?[א-תA-Za-z]{_GERESH}\.)"
    "| (?:כי|משום|מכיוון|כיוון|מאחר|מפני|שכן|בגלל|היות|לפי|היא|הוא|הינה|נכונה|נכון|הנכונה"
    rf"|because|since|is)(?![א-תa-z])|{_ALSO}))"
)
_HEAD = re.compile(rf"(?:{_CUE}|{_LETTER_CUE})?{_MARK}{_SEPARATED}")
_ANOTHER = re.compile(_ALSO)
_NAMED = re.compile(rf"(?<![\w־-]){_CUE}{_MARK}{_ALONE}|(?<!\S)\({_LETTER}{_GERESH}\)")
# A bare letter is "the right one" only where a clause begins: ויטמין C הוא הנכון names a vitamin.
_CLAUSE_START = "(?:^|(?<=[.,:;] )|(?<=לכן )|(?<=לפיכך )|(?<=[Ss]o )|(?<=herefore ))"
_CHOSEN = re.compile(
    rf"(?<![\w־-])(?:(?:בוחר|בוחרת|בחרתי|אבחר|נבחר) (?:ב[-־]|באות |(?:את )?{_CUE}|את (?:האות )?)"
    rf"|(?i:choose|select|pick) (?:{_CUE})?|התשובה (?:הנכונה |הסופית )?){_MARK}{_ALONE}"
    rf"|(?:(?<![\w־-])(?:{_CUE}|האות )|{_CLAUSE_START}){_MARK}[)\]{_QUOTES}]?"
    "(?: (?:היא |הוא |הינה )?(?:התשובה |האפשרות )?ה?(?:נכונה|נכון|מתאימה)(?![א-ת])"
    "| is (?:the )?(?:correct|right|best)(?![a-z]))",
    re.MULTILINE,
)
_DENIED_AFTER = re.compile(
    rf"[{_QUOTES})\]]{{0,2}}(?: \([^()\n]{{0,60}}\))?(?: [–—-])? (?:היא |הוא |is )?"
    "(?:אינ[הון]|איננ[הו]|לא(?![א-ת])|שגוי|wrong|incorrect|not(?![a-z]))"
)
_DENIED_BEFORE = re.compile(r"(?:לא|אינ[הו]|איננ[הו]|במקום|(?i:not|than)) (?:את |ב[-־])?$")


def choice_letter(text: str, count: int) -> int | None:
    """Return the index of the option that `text` names by its letter, or None.

    Letters are the first `count` of א to ח or A to H. One counts where it is marked as an option:
    right after a final-answer phrase, alone on the first or last line or before the text of an
    option there, or as the object of a choice (אני בוחרת באפשרות ב, 'B is correct'). None where
    two letters are named, or one that is not among the first `count`.
    Raises ValueError if `count` is not between 1 and 8.
    """
    if not 1 <= count <= len(_LETTERS[0]):
        raise ValueError(f"expected 1 to {len(_LETTERS[0])} options, found {count}")
    answer, led = _answer(text)
    answer = answer.translate(_POINTS)
    letters = _letters_of_answer(answer) if led else _letters_of_text(answer)
    if len(letters) != 1:
        return None
    index = letters.pop()
    return index if index < count else None


def _index(letter: str) -> int:
    return max(alphabet.find(letter.upper()) for alphabet in _LETTERS)


def _letters_at_head(line: str) -> set[int]:
    """Return the letters that stand at the beginning of a line as options."""
    head = _HEAD.match(line)
    if head is None:
        return {_index(line)} if re.fullmatch("[a-h]", line) else set()
    if _DENIED_AFTER.match(line, head.end()):
        return set()
    other = _ANOTHER.match(line, head.end())
    return {_index(found[1]) for found in (head, other) if found}


def _letters_by(pattern: re.Pattern[str], text: str) -> set[int]:
    """Return the letters that a pattern finds and the words around do not deny."""
    return {
        _index(found[1] or found[2])
        for found in pattern.finditer(text)
        if not _DENIED_AFTER.match(text, found.end())
        and not _DENIED_BEFORE.search(text[max(0, found.start() - 20) : found.start()])
    }


def _letters_of_answer(answer: str) -> set[int]:
    """Return the letters named after a final-answer phrase."""
    lines = answer.split("\n", 2)
    letters = _letters_at_head(lines[0])
    if letters:
        # A marked line below is the list of options once more, not a choice among them.
        return letters.union(*map(_letters_at_head, lines[1:2]))
    return _letters_by(_NAMED, _statement(answer))


def _letters_of_text(text: str) -> set[int]:
    """Return the letters named as options in a text without a final-answer phrase."""
    chosen = _letters_by(_CHOSEN, text)
    if chosen:
        return chosen
    lines = text.split("\n")
    marked = [(place, _letters_at_head(line)) for place, line in enumerate(lines)]
    letters = {letter for _, found in marked for letter in found}
    if letters:
        return letters if marked[0][1] or marked[-1][1] else set()
    return _letters_by(_NAMED, text) if re.search(rf"\({_LETTER}{_GERESH}\)$", text) else set()


# --- The text of a choice -------------------------------------------------------------------------

# Labels that answers inflect, with the endings that keep their meaning: חיובית, הנכונה.
_LABELS = {
    **dict.fromkeys(("חיובי", "שלילי", "ניטרלי", "מילולי"), ("ת", "ים", "ות")),
    **dict.fromkeys(("נובע", "סותר", "מושאל", "מעורב"), ("ת", "ים", "ות")),
    **dict.fromkeys(("נכון", "שגוי"), ("ה", "ים", "ות")),
}
_SPELLINGS = (("נייטרל", "ניטרל"), ("נטרל", "ניטרל"), ("גיאוגרפ", "גאוגרפ"))
# Inside a sentence these are grammar (לא ידוע, לכן); as an answer they open it.
_PARTICLES = ("כן", "לא", "yes", "no")
_DENIALS = "לא אינו אינה אינם אינן איננו איננה not isnt"
_ABSENCES = "אין בלתי בלי ללא לאו היעדר העדר חוסר במקום no never without than"
_CONTRASTS = "אלא אבל אך אולם but"
_PREFIX = re.compile("ו?(?:כש|ש)?[בכלמ]?ה?")
_CLAUSE_END = re.compile(r"(?<![0-9])[,.;:!?]|[,.;:!?](?![0-9])|[()\n–—]| - ")


def _fold(text: str) -> str:
    """Return `text` as two spellings of one answer agree; a number stays one word."""
    text = re.sub(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))", "", text)
    # These click letters are in no answer; a letter survives where punctuation goes.
    text = re.sub(r"(?<=[0-9])[.,:/](?=[0-9])", "ǀ", text)
    text = re.sub(r"(?<![\w)])[-−](?=[0-9])", "ǃ", text)
    text = normalise(text, "hebrew")
    for variant, spelling in _SPELLINGS:
        text = text.replace(variant, spelling)
    return text


_FORMS = {
    form: forms
    for stem, endings in _LABELS.items()
    for forms in [frozenset(_fold(stem + ending) for ending in ("", *endings))]
    for form in forms
}
_PARTICLE_WORDS = frozenset(map(_fold, _PARTICLES))
_DENIED_BY_NEXT = frozenset(_fold(_DENIALS).split())
# Before a choice these take the prefixes of a clause: ולא, שאינו.
_DENIAL_WORDS, _CONTRAST_WORDS = (
    frozenset(prefix + word for prefix in ("", "ו", "ש", "וש", "כש") for word in _fold(row).split())
    for row in (f"{_DENIALS} {_ABSENCES}", _CONTRASTS)
)


def choice(text: str, choices: Sequence[str]) -> int | None:
    """Return the index of the choice that `text` names by its letter or by its text, or None.

    The text of a choice counts as whole words under the `hebrew` normalisation, prefix letters
    allowed on the first; known labels also inflected. After a final-answer phrase its sentence
    decides, if it names a choice; elsewhere a line that holds nothing but a choice does. None
    where two are named, where the one named is denied (לא חיובי), and where a letter stands
    before the text of another choice. Text is sought in at most 2,000 characters; a longer answer
    is read for letters only. Raises ValueError if `choices` is empty.
    """
    if not choices:
        raise ValueError("expected at least one choice, found none")
    answer, led = _answer(text)
    answer = answer.translate(_POINTS)
    folded = [_fold(item) for item in choices]
    readable = answer if len(answer) <= _LONGEST_ANSWER else _statement(answer) if led else ""
    readable = readable if len(readable) <= _LONGEST_ANSWER else ""
    named = _equal(readable, folded)
    if not named:
        letter = choice_letter(text, min(len(folded), len(_LETTERS[0])))
        if letter is not None:
            return None if _contradicted(answer, letter, folded) else letter
        named = _named_choices(readable, led, folded)
    return named.pop() if len(named) == 1 else None


def _contradicted(answer: str, letter: int, folded: Sequence[str]) -> bool:
    """Return whether the text beside an option's letter is another option's."""
    for line in answer.split("\n"):
        head = _HEAD.match(line)
        if head and _index(head[1]) == letter:
            beside = line[head.end() : _LONGEST_ANSWER].lstrip(f" .:)](–—-{_QUOTES}")
            others = _equal(_CLAUSE_END.split(beside, maxsplit=1)[0], folded)
            return bool(others) and letter not in others
    return False


def _forms(item: str) -> list[frozenset[str]]:
    """Return, for each word of a folded choice, the forms that count as this word."""
    return [_FORMS.get(word, frozenset((word,))) for word in item.split()]


def _equal(text: str, folded: Sequence[str]) -> set[int]:
    """Return the choices that `text` consists of; none for a text without words."""
    words = _fold(text).split()
    exact = {index for index, item in enumerate(folded) if words and item.split() == words}
    return exact or {
        index
        for index, forms in enumerate(map(_forms, folded))
        if words
        and len(forms) == len(words)
        and all(word in form for word, form in zip(words, forms, strict=True))
    }


def _named_choices(answer: str, led: bool, folded: Sequence[str]) -> set[int]:
    """Return the choices that an answer names by their text."""
    lines = answer.split("\n")
    ends = {lines[0]} if led else {lines[0], lines[-1]}
    named = {index for line in ends for index in _opening_particle(line, folded)}
    if led:
        named |= _mentions(_statement(answer), folded)
    else:
        named = named.union(*(_equal(line, folded) for line in lines))
    return named or _mentions(answer, folded)


def _opening_particle(line: str, folded: Sequence[str]) -> set[int]:
    """Return the choice כן or לא that a line opens with, punctuation after it."""
    opening = re.match(r"[^\W\d_]{2,3}(?= ?[,.;:!]| [–—-] |$)", line)
    word = _fold(opening.group()) if opening else ""
    return {folded.index(word)} if word in _PARTICLE_WORDS and word in folded else set()


def _mentions(text: str, folded: Sequence[str]) -> set[int]:
    """Return the choices that occur in `text` and are not denied there, the longest first."""
    words: list[str] = []
    clause_of: list[slice] = []
    for clause in map(str.split, map(_fold, _CLAUSE_END.split(text))):
        clause_of += [slice(len(words), len(words) + len(clause))] * len(clause)
        words += clause
    taken = [False] * len(words)
    named: set[int] = set()
    denied: set[int] = set()
    items = sorted(set(folded) - _PARTICLE_WORDS - {""}, key=lambda item: (-len(item), item))
    for item in items:
        same = {index for index, other in enumerate(folded) if other == item}
        forms = _forms(item)
        for begin in range(len(words) - len(forms) + 1):
            end = begin + len(forms)
            if any(taken[begin:end]) or not _occurs(words[begin:end], forms):
                continue
            taken[begin:end] = [True] * len(forms)
            before = words[clause_of[begin].start : begin]
            after = words[end : min(end + 2, clause_of[end - 1].stop)]
            (denied if _is_denied(before, after) else named).update(same)
    return named - denied


def _occurs(words: Sequence[str], forms: Sequence[frozenset[str]]) -> bool:
    """Return whether `words` are a choice, prefix letters allowed on the first word."""
    if not all(word in form for word, form in zip(words[1:], forms[1:], strict=True)):
        return False
    return words[0] in forms[0] or any(
        (len(form) > 2 or len(forms) > 1)
        and words[0].endswith(form)
        and _PREFIX.fullmatch(words[0][: -len(form)])
        for form in forms[0]
    )


def _is_denied(before: Sequence[str], after: Sequence[str]) -> bool:
    """Return whether the words around a choice, in its clause, deny it."""
    for word, following in zip(reversed(before), ["", *reversed(before)], strict=False):
        if word in _CONTRAST_WORDS:
            break
        if word in _DENIAL_WORDS and following != "ספק":
            return True
    return any(word in _DENIED_BY_NEXT for word in after)


# --- Whole numbers --------------------------------------------------------------------------------

_OPERATOR = "(?:[-+*×÷·/:−–^]|פחות|ועוד|כפול|חלקי|plus|minus|times)"
_OPEN_SUM = re.compile(f" ?{_OPERATOR} ?")
# A last number after one of these is part of a sum, of a range, or of what the answer is about
# (42 שקלים ל-3 ילדים), and not the result.
_NO_RESULT = re.compile(
    f"(?:{_OPERATOR}|(?:^| )(?:[בלמו][-־]|ול[-־]|מתוך|לכל|כל|תוך|בתוך|במשך|או|עד|בין|לפני|אחרי|"
    "לאחר|of|per|in|for|or|to|and)) ?$"
)
_PERCENT = re.compile(" ?(?:%|אחוז)")
_EQUALS = re.compile(r"(?:שווה|שווים|שוות) ל[-־]$")
_GOES_ON = re.compile(" (?:פחות|ועוד|כפול|חלקי) ")
_DENIED_NUMBER = re.compile(r"(?:^|[^א-תa-z])(?:לא|אינ[הו]|איננ[הו]|not) $")


def number(text: str) -> int | None:
    """Return the whole number that `text` gives as its answer, or None.

    Digits (1,250, 1 250, 42.0, −5, 3 מיליון) or, where a sentence has none, Hebrew words of both
    genders. After a final-answer phrase it is the number of its sentence: the only one, or the one
    after the last '=', or the last one unless it plainly belongs to something else (42 מתוך 50).
    Without a phrase it is the only number of the last sentence, or what its last '=' gives, or the
    only number of the text. A fraction, a time, a date or a sum left open is None.
    """
    answer, led = _answer(text)
    answer = answer.translate(_POINTS)
    if led:
        statement = _statement(answer)
        outside = re.sub(r"\([^()]{0,200}\)", " ", statement)
        for sentence in (outside, statement):
            if found := _numbers(sentence):
                return _result(sentence, found, last_counts=True)
        return _only_number(answer)
    sentences = [part for part in _SENTENCE_END.split(answer) if re.search(r"\w", part)]
    if sentences and (found := _numbers(sentences[-1])):
        return _result(sentences[-1], found, last_counts=False)
    return _only_number(answer)


def _numbers(sentence: str) -> list[Number]:
    return list(in_digits(sentence)) or list(in_words(sentence))


def _only_number(text: str) -> int | None:
    """Return the number of a text that holds no other, in digits or in words."""
    found = [*in_digits(text), *in_words(text)]
    return _result(text, found, last_counts=False) if "=" not in text else None


def _result(sentence: str, found: Sequence[Number], *, last_counts: bool) -> int | None:
    """Return which of the numbers of a sentence is its result; None where none is for certain."""
    gaps = [sentence[one.end : next_.begin] for one, next_ in pairwise(found)]
    chosen: Number | None = None
    if len({item.value for item in found}) == 1 and not any(map(_OPEN_SUM.fullmatch, gaps)):
        chosen = found[-1]
    elif "=" in sentence:
        chosen = _after_equals(sentence, found)
    elif last_counts and gaps and (not _NO_RESULT.search(gaps[-1]) or _EQUALS.search(gaps[-1])):
        percent = [_PERCENT.match(sentence, item.end) for item in found]
        chosen = found[-1] if all(percent) or not percent[-1] else None
    if chosen is None or _GOES_ON.match(sentence, chosen.end):
        return None
    before = sentence[max(0, chosen.begin - 8) : chosen.begin]
    return None if _DENIED_NUMBER.search(before) else chosen.value


def _after_equals(sentence: str, found: Sequence[Number]) -> Number | None:
    """Return the number that the last '=' of a sentence gives; None before another sum."""
    sign = sentence.rfind("=")
    after = [item for item in found if item.begin > sign]
    if not after or not re.fullmatch(" ?[₪$€]? ?", sentence[sign + 1 : after[0].begin]):
        return None
    gap = sentence[after[0].end : after[1].begin] if after[1:] else ""
    return None if _OPEN_SUM.fullmatch(gap) else after[0]
