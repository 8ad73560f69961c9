"""Rules that refuse a whole document: too little of the script, too few frequent words.

The list of frequent words comes from a reference: a text of good quality, whose most frequent
words it is, or the corpus itself. Then words count by the documents that hold them, and those of
one document alone do not count, or junk would vouch for itself.

    >>> refusal("בית הספר נפתח", 1.0, Rules(), language("he"), frozenset({"בית", "הספר"}))
    >>> refusal("to be or not", 0.0, Rules(), language("he"), frozenset())
    ('script', '0.00 of the letters are Hebrew')
"""

import functools
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from hebench.errors import DataError
from hebench.files import write_atomically
from hebench.train.corpus.config import Rules
from hebench.train.languages import Language

_MOST_COUNTED = 2_000_000  # words in memory; beyond that the rarest are forgotten


def refusal(
    text: str, script_share: float, rules: Rules, target: Language, frequent: frozenset[str]
) -> tuple[str, str] | None:
    """Return the rule that refuses a document and what it found, or None.

    script_share: of the document before spans in other languages were masked, in [0, 1].
    """
    if script_share < rules.min_script_share:
        return "script", f"{script_share:.2f} of the letters are {target.name}"
    share = frequent_share(text, target, frequent)
    if share < rules.min_frequent_share:
        return "frequent words", f"{share:.2f} of the words are frequent"
    return None


def frequent_share(text: str, target: Language, frequent: frozenset[str]) -> float:
    """Return the share of the text's words in the script that are frequent ones, in [0, 1]."""
    found = words_of(text, target)
    return sum(map(frequent.__contains__, found)) / len(found) if found else 0.0


def words_of(text: str, target: Language) -> list[str]:
    """Return the runs of letters of the script, as the list of frequent words has them.

    Marks are stripped first, so that pointed text is judged like plain text; an acronym such as
    צה״ל is two runs here and in the list alike.
    """
    return _words(target).findall(target.strip(text).casefold())


@functools.cache
def _words(target: Language) -> re.Pattern[str]:
    return re.compile(f"[{target.letters}]+")


def count_words(texts: Iterable[str], target: Language, *, by_document: bool) -> Counter[str]:
    """Return how often each word occurs, or in how many texts; of very many, without the rarest."""
    counts: Counter[str] = Counter()
    for text in texts:
        found = words_of(text, target)
        counts.update(set(found) if by_document else found)
        counts = _bounded(counts)
    return counts


def _bounded(counts: Counter[str]) -> Counter[str]:
    """Return the counts, without the rarer half of the words once there are too many."""
    if len(counts) <= _MOST_COUNTED:
        return counts
    return Counter(dict(counts.most_common(_MOST_COUNTED // 2)))


def write_word_list(path: Path, counts: Counter[str], most: int) -> None:
    """Write the `most` frequent words, one a line with its count; ties in the words' order."""
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
    write_atomically(path, "".join(f"{word}\t{count}\n" for word, count in ranked))


def read_word_list(path: Path, most: int) -> Counter[str]:
    """Return the first `most` words of a list: a word, a tab and its count on each line.

    Raises DataError if a line is not that, or there is none.
    """
    counts: Counter[str] = Counter()
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                word, _, count = line.rstrip("\n").partition("\t")
                if not word or not count.isdecimal():
                    raise DataError(
                        f"{path} line {number}: expected a word, a tab and a count, found "
                        f"{line.strip()[:60]!r}; mend the list"
                    )
                counts[word] = int(count)
                if number == most:
                    break
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a word list in UTF-8, found {error}") from error
    if not counts:
        raise DataError(f"{path}: expected words, found none; give another reference")
    return counts


def add_word_lists(paths: Iterable[Path]) -> Counter[str]:
    """Return the sum of the lists that tasks wrote; of very many words, without the rarest."""
    counts: Counter[str] = Counter()
    for path in paths:
        if path.stat().st_size:  # a task without files counts nothing
            counts.update(read_word_list(path, _MOST_COUNTED))
            counts = _bounded(counts)
    return counts
