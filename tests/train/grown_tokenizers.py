"""Extended tokenizers for the tests of what comes after extension."""

import copy
import json
from typing import Any


def extend(tokenizer: Any, texts: list[str]) -> tuple[Any, list[str]]:
    """Return a copy of a byte-level tokenizer with merges that make each text one piece.

    Every beginning of a text from its second old piece on is a new piece, too. Also returns the
    texts of the new pieces in the order of their ids, with U+FFFD for half characters.
    """
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    vocab, merges = content["model"]["vocab"], content["model"]["merges"]
    for text in texts:
        parts = [token.value for token in _split(tokenizer, text)]
        whole = parts[0]
        for part in parts[1:]:
            merges.append([whole, part])
            whole += part
            vocab.setdefault(whole, len(vocab))
    longer = copy.deepcopy(tokenizer)
    longer._tokenizer = tokenizer.backend_tokenizer.from_str(json.dumps(content))
    added = {v: k for k, v in vocab.items() if v >= len(tokenizer)}
    byte_of = {char: byte for byte, char in _byte_characters().items()}
    spelled = [bytes(byte_of[c] for c in added[v]).decode(errors="replace") for v in sorted(added)]
    return longer, spelled


def _split(tokenizer: Any, text: str) -> Any:
    ((piece, _),) = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)
    return tokenizer.backend_tokenizer.model.tokenize(piece)


def _byte_characters() -> dict[int, str]:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    found = {byte: chr(byte) for byte in printable}
    hidden = [byte for byte in range(256) if byte not in found]
    return found | {byte: chr(256 + place) for place, byte in enumerate(hidden)}
