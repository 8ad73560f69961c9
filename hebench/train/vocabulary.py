"""A model's tokenizer as a BPE that can be continued, and the same one with more merges.

What is read is `tokenizer.json`, the file that holds a fast tokenizer whole; what is written is
that file with merges at the end of its list and pieces at the end of its vocabulary, so that
transformers, vLLM and whoever else loads the base model's tokenizer loads the extended one.

    >>> base = read_base(Path("SmolLM2-135M"))
    >>> base.split(next(base.pieces("שלום")))  # in the letters that stand for bytes
    ['×', '©', '×ľ', '×ķ', '×', 'Ŀ']
    >>> content = extended(base, [Merge("×", "©", "×©")])
    >>> content["model"]["merges"][-1], content["model"]["vocab"]["×©"]
    (['×', '©'], 49152)
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hebench.errors import CheckpointError, one_line
from hebench.train.bpe import Merge, Spelling
from hebench.train.checkpoints import TOKENIZER_NAME


@dataclass(frozen=True, kw_only=True)
class Base:
    """A model's tokenizer, and what must be known of it to continue its training."""

    tokenizer: Any  # as transformers loads it
    content: dict[str, Any]  # of its tokenizer.json
    rows: int  # of the model's embedding
    spelling: Spelling

    def pieces(self, text: str) -> Iterator[str]:
        """Yield a text's words as the merges see them: normalised, cut, in the pieces' letters.

        A SentencePiece-style tokenizer may take a whole text for one word; no merge of its crosses
        a space, so the text is cut before each.
        """
        backend = self.tokenizer.backend_tokenizer
        if backend.normalizer:
            text = backend.normalizer.normalize_str(text)
        words = [text]
        if backend.pre_tokenizer:
            words = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
        for word in words:
            if self.spelling.byte_level:
                yield word
            else:
                yield from re.findall("▁*[^▁]+|▁+", word)

    def split(self, word: str) -> list[str]:
        """Return the pieces that the model's own merges make of a word from `pieces`."""
        return [token.value for token in self.tokenizer.backend_tokenizer.model.tokenize(word)]

    @property
    def merges(self) -> list[tuple[str, str]]:
        """Return the model's own merges in order of rank."""
        return [_pair(merge) for merge in self.content["model"]["merges"]]

    @property
    def ids(self) -> dict[str, int]:
        """Return the id of every piece and every added token."""
        added = {token["content"]: token["id"] for token in self.content["added_tokens"]}
        return {**self.content["model"]["vocab"], **added}


def read_base(model: Path) -> Base:
    """Return the tokenizer of a model folder.

    Raises CheckpointError, with the reason, for one that cannot be extended by merges.
    """
    path = model / TOKENIZER_NAME
    _require_bpe(path)
    from transformers import AutoConfig, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
        rows = int(AutoConfig.from_pretrained(model).get_text_config().vocab_size)
    except Exception as error:  # tokenizers and strict configurations raise nothing narrower
        raise CheckpointError(
            f"{model}: expected a model folder with its tokenizer, found {one_line(error)}"
        ) from error
    # From here on what transformers made of the file, which is what the model was given to read.
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    spelling = Spelling(byte_level="ByteLevel" in _kinds(content))
    if not spelling.byte_level and "▁" not in json.dumps(_parts(content), ensure_ascii=False):
        raise CheckpointError(
            f"{path}: expected a byte-level or a SentencePiece-style tokenizer, found one that "
            "marks spaces in neither way; its merges cannot be continued"
        )
    if not spelling.byte_level and not content["model"]["byte_fallback"]:
        raise CheckpointError(
            f"{path}: expected byte fallback, found none: letters it does not know are lost; "
            "choose another base model"
        )
    base = Base(tokenizer=tokenizer, content=content, rows=rows, spelling=spelling)
    highest = max(base.ids.values())
    if highest >= rows:
        raise CheckpointError(
            f"{model}: expected a vocabulary within the embedding's {rows} rows, found id "
            f"{highest} in {TOKENIZER_NAME}; the tokenizer belongs to another model, or the "
            "embedding was not resized"
        )
    return base


def _require_bpe(path: Path) -> None:
    """Refuse what is no BPE, or a BPE with an option that new merges would not survive."""
    try:
        model = json.loads(path.read_text(encoding="utf-8"))["model"]
        kind = model["type"]
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path}: expected a fast tokenizer, found no such file; load the tokenizer with "
            "transformers and save it to that folder"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: expected a fast tokenizer, found {one_line(repr(error))}; restore the file"
        ) from error
    if kind != "BPE":
        raise CheckpointError(
            f"{path}: expected a BPE tokenizer, found {kind}, which has no merges"
        )
    if not model.get("merges"):
        raise CheckpointError(f"{path}: expected merges to continue, found none")
    for option in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(option):
            raise CheckpointError(
                f"{path}: its option {option}={model[option]!r} is not supported; choose a base "
                "model whose tokenizer is byte-level or SentencePiece-style"
            )


def extended(base: Base, merges: Sequence[Merge]) -> dict[str, Any]:
    """Return the content of tokenizer.json with merges added at the end.

    New ids follow the last row of the embedding. Rows that had no piece (padding, gaps) get one
    that no text reaches, because loaders take the number of pieces for the next free id; for
    the same reason tokens that stood beside the vocabulary move into it, with their ids.
    """
    vocab = dict(base.ids)
    used = set(vocab.values())
    vocab |= {f"<|unused_{row}|>": row for row in range(base.rows) if row not in used}
    old_merges = base.content["model"]["merges"]
    new_merges: list[str | list[str]] = []
    for left, right, piece in merges:
        vocab.setdefault(piece, len(vocab))
        # A SentencePiece-style character of its own needs no merge: it is where merges start.
        if base.spelling.byte_level or len(piece) > 1:
            as_text = isinstance(old_merges[0], str)
            new_merges.append(f"{left} {right}" if as_text else [left, right])
    model = {**base.content["model"], "vocab": vocab, "merges": [*old_merges, *new_merges]}
    return {**base.content, "model": model}


def _pair(merge: str | list[str]) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _parts(content: dict[str, Any]) -> list[Any]:
    return [content["normalizer"], content["pre_tokenizer"]]


def _kinds(part: Any) -> set[str]:
    """Return the types of a tokenizer's normalisers and pre-tokenisers, nested ones too."""
    if isinstance(part, dict) and "model" in part:
        return _kinds(_parts(part))
    if isinstance(part, dict):
        return {str(part.get("type"))} | _kinds(list(part.values()))
    if isinstance(part, list):
        return set().union(*(_kinds(inner) for inner in part))
    return set()
