"""Passages: a few consecutive words of a document, the unit of text in distillation and after.

A passage is text, not tokens, so that models with different tokenizers read exactly the same; it
is short, so that many documents and every source are heard in few minutes; it keeps the space
before its first word, so that glued together the passages are the document.

    >>> [passage.text for passage in passages_of(document, words=2)]
    ['בית הספר', ' נמצא ברחוב', ' הרצל.']
    >>> drawn(Path("corpus/train/he"), words=24, count=5000, seed=0)[0].source
    'law'
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from hebench.errors import DataError
from hebench.train.texts import Document, read_documents, source_files

_WORD = re.compile(r"\S+")
# The end of a sentence: its mark with closing quotes or brackets, or the end of a line. An
# abbreviation with a full stop cuts one in two, which costs a short sentence and nothing else.
_SENTENCE_END = re.compile(r"""[.!?…]+["'”’׳״)\]]*(?=\s)|\n+""")
_SCANNED = 20  # passages read for each one drawn, after which the rest of a file is not read


@dataclass(frozen=True, kw_only=True)
class Passage:
    """Consecutive words of one document, with the white space before each."""

    source: str
    document: str  # its id
    text: str


def passages_of(document: Document, words: int) -> Iterator[Passage]:
    """Yield a document's passages of `words` words; the last may be shorter."""
    start = end = count = 0
    for count, word in enumerate(_WORD.finditer(document.text), start=1):
        end = word.end()
        if count % words == 0:
            yield Passage(
                source=document.source, document=document.id, text=document.text[start:end]
            )
            start = end
    if count % words:
        yield Passage(source=document.source, document=document.id, text=document.text[start:end])


def sentences_of(document: Document, words: int) -> Iterator[Passage]:
    """Yield a document's sentences; longer ones in passages of `words` words."""
    ends = [match.end() for match in _SENTENCE_END.finditer(document.text)]
    for start, end in zip([0, *ends], [*ends, len(document.text)], strict=True):
        sentence = document.text[start:end].rstrip()
        yield from passages_of(replace(document, text=sentence), words)


def drawn(
    folder: Path,
    *,
    words: int,
    count: int,
    seed: int,
    cut: Callable[[Document, int], Iterator[Passage]] = passages_of,
) -> list[Passage]:
    """Return up to `count` passages from a folder's sources, each source heard equally often.

    Sources that run out leave their share to the others. Each source's passages are a random
    sample of its beginning (all of a small one; 20 times what is drawn of a large one), in random
    order, taken in turn from one source after the other; equal arguments give equal passages.
    Raises DataError if there is no text.
    """
    generator = random.Random(seed)
    sources = [
        _sample(paths, cut=lambda document: cut(document, words), count=count, generator=generator)
        for paths in source_files(folder).values()
    ]
    return _in_turn(sources)[:count]


def held_out(folder: Path, *, words: int, per_source_words: int) -> list[Passage]:
    """Return passages of each source of held-out text, about `per_source_words` of each.

    The first passages of all its documents, then the second ones: as many documents are heard as
    there are, since words of one document are much alike. Raises DataError if there is no text.
    """
    kept: list[Passage] = []
    for paths in source_files(folder).values():
        total = 0
        documents = [list(passages_of(d, words)) for path in paths for d in read_documents(path)]
        for passage in _in_turn(documents):
            kept.append(passage)
            total += len(passage.text.split())
            if total >= per_source_words:
                break
    return kept


def _sample(
    paths: Sequence[Path],
    *,
    cut: Callable[[Document], Iterator[Passage]],
    count: int,
    generator: random.Random,
) -> list[Passage]:
    """Return up to `count` passages of one source in random order, in bounded memory."""
    kept: list[Passage] = []
    seen = 0
    for document in chain.from_iterable(read_documents(path) for path in paths):
        for passage in cut(document):
            seen += 1
            if len(kept) < count:
                kept.append(passage)
            elif (place := generator.randrange(seen)) < count:
                kept[place] = passage
        if seen >= count * _SCANNED:
            break
    generator.shuffle(kept)
    return kept


def _in_turn(lists: Sequence[Sequence[Passage]]) -> list[Passage]:
    """Return the first of each list, then the second of each that has one, and so on."""
    turns = chain.from_iterable(zip_longest(*lists))
    return [passage for passage in turns if passage is not None]


def prefix_id(tokenizer: Any) -> int:
    """Return the token that stands before a text: BOS, or EOS where a tokenizer has no BOS.

    Without one the first word's state would be the sink that attention pours into, and its
    probability could not be measured. Raises DataError if there is neither.
    """
    for found in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if found is not None:
            return int(found)
    raise DataError(
        f"{tokenizer.name_or_path}: expected a BOS or EOS token, found neither; "
        "name one in tokenizer_config.json"
    )


def batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Return indices in batches of similar length, each at most `batch_tokens` with its padding.

    A sequence longer than that is a batch of its own.
    """
    found: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        # Sorted: the newcomer is the longest, so that it sets the length of the batch.
        if found and (len(found[-1]) + 1) * lengths[index] <= batch_tokens:
            found[-1].append(index)
        else:
            found.append([index])
    return found
