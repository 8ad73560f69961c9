"""What "no ability" scores: answers made without a model.

A score means something only beside these. Each baseline is a function from a task's documents
to an answer for each, run through the same harness as a model, on the same items.

    hebench eval baseline:random --tasks hebench_mini --out runs/random

- `random`: a uniformly drawn choice; for free answers, the reference of another random item.
- `most_frequent`: the most frequent gold choice (or gold answer) of the evaluated items, which
  is an upper bound for any constant guesser; not defined for translation and summaries.
- `copy_source`: the passage, the source text or the article, unchanged.
- `first_sentence`: the first sentence of the passage or the article.
"""

import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

Doc = dict[str, Any]
# (documents of one task, seed) -> an answer for each: a choice's index, a text, or None where
# the baseline does not apply to the task.
Baseline = Callable[[Sequence[Doc], int], list[int] | list[str] | None]

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def random_answer(docs: Sequence[Doc], seed: int) -> list[int] | list[str] | None:
    """Return a random choice for each item, or another item's reference answer."""
    if "choices" in docs[0]:
        return [_generator(seed, doc).randrange(len(doc["choices"])) for doc in docs]
    if "target" not in docs[0]:
        return None
    targets = [doc["target"] for doc in docs]
    answers = []
    for place, doc in enumerate(docs):
        others = targets[:place] + targets[place + 1 :]
        answers.append(_generator(seed, doc).choice(others) if others else "")
    return answers


def most_frequent(docs: Sequence[Doc], seed: int) -> list[int] | list[str] | None:
    """Return the most frequent gold for each item; a tie goes to the lower index or first text."""
    if "choices" in docs[0]:
        counts = Counter(doc["label"] for doc in docs)
        return [max(sorted(counts), key=lambda label: counts[label])] * len(docs)
    if "golds" in docs[0]:
        return [Counter(doc["golds"][0] for doc in docs).most_common(1)[0][0]] * len(docs)
    return None


def copy_source(docs: Sequence[Doc], seed: int) -> list[int] | list[str] | None:
    """Return the text that each item asks about, unchanged."""
    if "target" not in docs[0]:
        return None
    for field in ("passage", "source", "article", "text"):
        if field in docs[0]:
            return [doc[field] for doc in docs]
    return None


def first_sentence(docs: Sequence[Doc], seed: int) -> list[int] | list[str] | None:
    """Return the first sentence of the passage or article of each item."""
    for field in ("passage", "article"):
        if field in docs[0]:
            return [_SENTENCE_END.split(doc[field], maxsplit=1)[0] for doc in docs]
    return None


BASELINES: dict[str, Baseline] = {
    "random": random_answer,
    "most_frequent": most_frequent,
    "copy_source": copy_source,
    "first_sentence": first_sentence,
}
TITLES = {
    "random": "Baseline: random",
    "most_frequent": "Baseline: most frequent answer",
    "copy_source": "Baseline: copy the source",
    "first_sentence": "Baseline: first sentence",
}


def _generator(seed: int, doc: Doc) -> random.Random:
    """Return a generator that depends on the item and the seed, not on the order of items."""
    digest = hashlib.sha256(f"{seed}:{doc.get('id', doc)}".encode()).digest()
    return random.Random(digest)
