"""The texts that models are scored on: what must not stand in a training corpus.

    hebench data overlap corpus/            which of them do
    hebench data overlap corpus/ --clean out/

The packaged sets always count; of the public ones, those whose files are in the cache (the
others are named, so that a clean report is not mistaken for a complete one).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from hebench.data import load, public
from hebench.data.fetch import PinnedFile, fetch, select, sources
from hebench.data.overlap import Item
from hebench.errors import DataError

if TYPE_CHECKING:
    from datasets import DatasetDict

_Loader = Callable[..., "DatasetDict"]
# Set -> (loader, the fields of a document that hold text to be found).
_PACKAGED: dict[str, tuple[_Loader, tuple[str, ...]]] = {
    "mini-qa": (load.mini_qa, ("passage", "question")),
    "mini-sentiment": (load.mini_sentiment, ("text",)),
    "mini-winograd": (load.mini_winograd, ("sentence",)),
    "mini-translation": (load.mini_translation_en_he, ("source", "target")),
    "mini-summarization": (load.mini_summarization, ("article", "target")),
    "mini-nli": (load.mini_nli, ("premise", "hypothesis")),
    "mini-trivia": (load.mini_trivia, ("question",)),
    "mini-grammar": (load.mini_grammar, ("choices",)),
    "mini-math": (load.mini_math, ("question",)),
    "mini-nikud": (load.mini_nikud, ("text",)),
    "mini-instructions": (load.mini_instructions, ("instruction",)),
}
# Set -> (loader, fields, splits, the files that a split needs: "{}" stands for its name).
_PUBLIC: dict[str, tuple[_Loader, tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "heq": (public.heq, ("passage", "question"), ("validation", "test"), ("heq/{}",)),
    "nli": (public.nli, ("premise", "hypothesis"), ("validation", "test"), ("hebnli/{}",)),
    "sentiment": (
        public.sentiment,
        ("text",),
        ("test",),
        ("hebrew-sentiment/train", "hebrew-sentiment/test"),
    ),
    "sentiment-validation": (
        public.sentiment,
        ("text",),
        ("validation",),
        ("hebrew-sentiment/train",),
    ),
    "ntrex": (public.translation_en_he, ("source", "target"), ("test",), ("ntrex",)),
    "tatoeba": (public.tatoeba_en_he, ("source", "target"), ("test",), ("tatoeba",)),
    "topic": (public.topic, ("text",), ("validation",), ("sib200/he_dev", "sib200/he_train")),
    "topic-test": (public.topic, ("text",), ("test",), ("sib200/he_test", "sib200/he_train")),
    "grammar": (public.grammar, ("choices",), ("test",), ("clams",)),
    "idioms": (
        public.idioms,
        ("sentence",),
        ("validation", "test", "unseen_idiom_test"),
        ("hebrew-idioms/{}",),
    ),
    "hesum": (public.hesum, ("article", "target"), ("validation", "test"), ("hesum/{}",)),
}


def evaluation_items(names: tuple[str, ...] = ()) -> tuple[list[Item], list[str]]:
    """Return the items of the named sets (all, if none is named), and what the cache lacks.

    A text that several documents share (a passage with many questions) counts once, under the
    first document's id; so does a set that is named twice. Raises DataError for an unknown set,
    and for a cached file that is damaged.
    """
    known = [*_PACKAGED, *_PUBLIC, "nikud"]
    for name in names:
        if name not in known:
            raise DataError(f"unknown set {name}; expected one of {', '.join(known)}")
    wanted = tuple(dict.fromkeys(names)) or tuple(known)
    items: list[Item] = []
    absent: list[str] = []
    for name in wanted:
        if name in _PACKAGED:
            loader, fields = _PACKAGED[name]
            items += _items(name, loader(), fields)
        elif name == "nikud":
            found, missing = _nikud()
            items += found
            absent += missing
        else:
            loader, fields, splits, files = _PUBLIC[name]
            for split in splits:
                pinned = select([file.format(split) for file in files])
                if all(file.cached.exists() for file in pinned):
                    items += _items(f"{name}/{split}", loader(split=split), fields)
                else:
                    absent.append(f"{name}/{split}")
    return items, absent


def sources_of(names: Sequence[str]) -> list[str]:
    """Return the data sets, as `hebench data get` calls them, that public sets are read from."""
    files = [
        file
        for name in names
        for file in (("nakdimon-test",) if name == "nikud" else _PUBLIC[name][3])
    ]
    return list(dict.fromkeys(file.partition("/")[0] for file in files))


def _items(name: str, splits: "DatasetDict", fields: tuple[str, ...]) -> Iterator[Item]:
    seen: set[str] = set()
    for doc in splits["test"]:
        for field in fields:
            texts = doc[field] if isinstance(doc[field], list) else [doc[field]]
            for place, text in enumerate(texts):
                if text not in seen:
                    seen.add(text)
                    yield Item(name, f"{doc['id']}:{field}{place or ''}", text)


def _nikud() -> tuple[list[Item], list[str]]:
    """Return the lines of the cached Nakdimon texts, and how many files are not cached."""
    files: list[PinnedFile] = list(sources()["nakdimon-test"].files.values())
    items = []
    for file in files:
        if file.cached.exists():
            lines = fetch(file.source, file.name).read_text(encoding="utf-8").splitlines()
            items += [
                Item("nikud", f"{file.name}:{number}", line)
                for number, line in enumerate(lines, start=1)
                if line.strip()
            ]
    missing = sum(not file.cached.exists() for file in files)
    return items, [f"nikud ({missing} of {len(files)} files)"] if missing else []
