"""Preferences: a prompt with a better and a worse answer, the data of DPO.

Two kinds of rows, in one JSON Lines file or in several:

    {"prompt": "...", "chosen": "...", "rejected": "..."}
    {"aligned": {"he": {"prompt": "כמה ימים יש בשבוע?", "response": "שבעה."},
                 "en": {"prompt": "How many days are in a week?", "response": "Seven."}}}

The first is what a human evaluation exports, and what public sets look like (`chosen` may be a
list of messages). The second makes language-consistency pairs, as DictaLM 2.0 used: asked in
Hebrew, the Hebrew answer is chosen and the same answer in English rejected; and the reverse. The
pair differs in nothing but the language, so that is all that it can teach.

    >>> [(p.prompt[0].content, p.chosen) for p in read_preferences(Path("pairs.jsonl"))]
    [('כמה ימים יש בשבוע?', 'שבעה.'), ('How many days are in a week?', 'Seven.')]
"""

import itertools
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hebench.errors import DataError, one_line
from hebench.files import write_atomically
from hebench.train.chat_data import (
    Conversation,
    Message,
    conversation,
    read_conversations,
    read_messages,
    read_rows,
    require_turns,
)
from hebench.train.languages import LANGUAGES, Language, language

OWN_SHARE = 0.5  # of a text's letters that are of the script: from here on it is in the language


@dataclass(frozen=True, kw_only=True)
class Preference:
    """A prompt, the better answer and the worse; `where` names file and line."""

    prompt: tuple[Message, ...]  # the user's turn is the last
    chosen: str
    rejected: str
    about_language: bool = False  # the answers differ in language alone
    where: str

    @property
    def talks(self) -> tuple[Conversation, Conversation]:
        """Return the conversations that end with the chosen and with the rejected answer."""
        chosen, rejected = (
            Conversation(
                messages=(*self.prompt, Message(role="assistant", content=answer)),
                where=self.where,
            )
            for answer in (self.chosen, self.rejected)
        )
        return chosen, rejected


def read_preferences(path: Path) -> list[Preference]:
    """Return the preferences of a JSON Lines file; an aligned row gives two.

    Raises DataError (file and line) for a row that is neither kind, for equal answers and for
    aligned texts in the wrong language, and if there is no row.
    """
    found: list[Preference] = []
    for where, row in read_rows(path):
        if "aligned" in row:
            found += _language_pairs(row["aligned"], where)
        else:
            found.append(_preference(row, where))
    if not found:
        raise DataError(f"{path}: expected preferences, found none; give another file")
    return found


def limit_language_pairs(about_language: Sequence[bool], share: float, seed: int) -> list[int]:
    """Return which pairs stay, so that those about language are at most `share` in [0, 1) of them.

    about_language: of each pair. Which ones stay depends on the seed alone; the order is kept.
    """
    pairs = [number for number, about in enumerate(about_language) if about]
    # What is a whole number but for the last digit of a float is one.
    wanted = math.floor(share / (1 - share) * (len(about_language) - len(pairs)) + 1e-9)
    kept = set(random.Random(seed).sample(pairs, min(wanted, len(pairs))))
    return [number for number, about in enumerate(about_language) if not about or number in kept]


def write_language_pairs(native: Path, other: Path, out: Path, *, codes: tuple[str, str]) -> int:
    """Write the aligned rows of two parallel files of conversations; return how many.

    Line k of `native` and of `other` say the same in the languages `codes`. Raises DataError if
    their numbers differ or a text is not in its language.
    """
    rows = []
    talks = itertools.zip_longest(read_conversations(native), read_conversations(other))
    for number, (mine, theirs) in enumerate(talks, start=1):
        if mine is None or theirs is None:
            short, long = (native, other) if mine is None else (other, native)
            raise DataError(
                f"{short}: expected as many conversations as in {long}, found {number - 1}; "
                "align the files line by line"
            )
        aligned = {code: _row(talk) for code, talk in zip(codes, (mine, theirs), strict=True)}
        _language_pairs(aligned, f"{mine.where} and {theirs.where}")
        rows.append(json.dumps({"aligned": aligned}, ensure_ascii=False))
    write_atomically(out, "\n".join(rows) + "\n")
    return len(rows)


def _row(talk: Conversation) -> dict[str, Any]:
    return {"messages": [{"role": turn.role, "content": turn.content} for turn in talk.messages]}


def _preference(row: Mapping[str, Any], where: str) -> Preference:
    missing = [key for key in ("prompt", "chosen", "rejected") if key not in row]
    if missing:
        raise DataError(
            f"{where}: expected keys prompt, chosen and rejected (or aligned), "
            f"found no {missing[0]} among {one_line(', '.join(row), 80)}"
        )
    prompt = read_messages(row["prompt"], f"{where}: prompt")
    require_turns(prompt, "user", f"{where}: prompt")
    chosen, rejected = (
        _answer(row[key], prompt, f"{where}: {key}") for key in ("chosen", "rejected")
    )
    _require_different(chosen, rejected, where)
    return Preference(prompt=prompt, chosen=chosen, rejected=rejected, where=where)


def _answer(value: Any, prompt: tuple[Message, ...], where: str) -> str:
    """Return the answer's text; public sets often repeat the prompt before it."""
    messages = read_messages(value, where, "assistant")
    if messages[: len(prompt)] == prompt:
        messages = messages[len(prompt) :]
    if [message.role for message in messages] != ["assistant"]:
        raise DataError(
            f"{where}: expected one answer of the assistant, found messages of "
            f"{', '.join(message.role for message in messages) or 'nobody'}"
        )
    return messages[0].content


def _language_pairs(aligned: Any, where: str) -> list[Preference]:
    """Return the two preferences of one conversation in two languages."""
    codes = list(aligned) if isinstance(aligned, dict) else []
    described = [code for code in codes if code in LANGUAGES]
    if len(codes) != 2 or len(described) != 1:
        raise DataError(
            f"{where}: expected in 'aligned' two languages, one of them of "
            f"{', '.join(LANGUAGES)}, found {one_line(', '.join(map(str, codes)), 60) or 'none'}"
        )
    own = language(described[0])
    talks = {code: conversation(aligned[code], f"{where}: {code}") for code in codes}
    for code, talk in talks.items():
        _require_language(talk, own, code == own.code)
    _require_different(talks[codes[0]].answer, talks[codes[1]].answer, where)
    return [
        Preference(
            prompt=talks[asked].prompt,
            chosen=talks[asked].answer,
            rejected=talks[wrong].answer,
            about_language=True,
            where=where,
        )
        for asked, wrong in ((own.code, _other(codes, own)), (_other(codes, own), own.code))
    ]


def _other(codes: list[str], own: Language) -> str:
    return next(code for code in codes if code != own.code)


def _require_language(talk: Conversation, own: Language, expected: bool) -> None:
    """Raise DataError unless question and answer are, or are not, in the script of `own`."""
    for name, text in (("prompt", talk.prompt[-1].content), ("answer", talk.answer)):
        share = own.share(text)
        if (share >= OWN_SHARE) != expected or not any(char.isalpha() for char in text):
            raise DataError(
                f"{talk.where}: expected the {name} {'in' if expected else 'in no'} {own.name}, "
                f"found {share:.0%} of its letters to be {own.name}: {one_line(text, 40)}"
            )


def _require_different(chosen: str, rejected: str, where: str) -> None:
    if chosen.split() == rejected.split():
        raise DataError(
            f"{where}: expected two different answers, found one twice "
            f"({one_line(chosen, 40)}); remove the line"
        )
