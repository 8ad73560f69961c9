"""Conversations: JSON Lines of messages, made into token ids with the assistant's part marked.

    {"prompt": "מה בירת קנדה?", "response": "אוטווה."}
    {"messages": [{"role": "user", "content": "כמה הם 15 כפול 12?"},
                  {"role": "assistant", "content": "180."}]}

A chat template says where a turn begins and ends, but few say which tokens are the assistant's.
So a conversation is rendered turn by turn: what an assistant's turn adds to the text after the
prompt that would be given to the model is what the model must learn to write. A template whose
later turns change the earlier ones has no such part and is refused.

    >>> piece = encode(tokenizer, conversation)
    >>> tokenizer.decode(piece.tokens[piece.trained])
    '180.<|im_end|>'
"""

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hebench.errors import ConfigError, DataError, one_line
from hebench.files import encodable, read_jsonl, sha256_of
from hebench.train.packing import Piece, Tokens

ROLES = ("system", "user", "assistant")
# For base models. Roles are written as ordinary text, since a special token of our own would need
# a new row in the embeddings; a turn ends with the model's own end-of-text token.
DEFAULT_TEMPLATE_NAME = "roles"
DEFAULT_TEMPLATE = (
    "{% if bos_token %}{{ bos_token }}{% endif %}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: str  # of ROLES
    content: str


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """A conversation that ends with the assistant's answer; `where` names its file and line."""

    messages: tuple[Message, ...]
    where: str

    @property
    def prompt(self) -> tuple[Message, ...]:
        """Return what stands before the last answer."""
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        """Return the last answer."""
        return self.messages[-1].content


def read_conversations(path: Path) -> Iterator[Conversation]:
    """Yield the conversations of a JSON Lines file.

    Raises DataError (file and line) for a row that is no conversation, and if there is none.
    """
    found = False
    for where, row in read_rows(path):
        found = True
        yield conversation(row, where)
    if not found:
        raise DataError(f"{path}: expected conversations, found none; give another file")


def data_sha256(path: Path) -> str:
    """Return the SHA-256 of a data file. Raises DataError if it cannot be read."""
    try:
        return sha256_of(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (file and line, object) of a JSON Lines file. Raises DataError if it cannot be read."""
    try:
        for number, row in read_jsonl(path):
            yield f"{path} line {number}", row
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: expected a JSON Lines file, found {error.strerror}; give another")


def conversation(row: Mapping[str, Any], where: str) -> Conversation:
    """Return the conversation that a row holds as `messages`, or as `prompt` and `response`.

    A system message may come first; then user and assistant take turns, the assistant last.
    Raises DataError for anything else.
    """
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: expected an object with messages, found {_named(row)}")
    if "messages" in row:
        messages = read_messages(row["messages"], f"{where}: messages")
    elif "prompt" in row and "response" in row:
        prompt = read_messages(row["prompt"], f"{where}: prompt")
        messages = (*prompt, *read_messages(row["response"], f"{where}: response", "assistant"))
    else:
        raise DataError(
            f"{where}: expected a key 'messages', or 'prompt' and 'response', "
            f"found {one_line(', '.join(row), 80)}"
        )
    require_turns(messages, "assistant", where)
    return Conversation(messages=messages, where=where)


def read_messages(value: Any, where: str, role: str = "user") -> tuple[Message, ...]:
    """Return the messages of a JSON value: a list of them, or the text of one by `role`."""
    if isinstance(value, str):
        value = [{"role": role, "content": value}]
    if not isinstance(value, list) or not value:
        raise DataError(f"{where}: expected a text or a list of messages, found {_named(value)}")
    messages = []
    for number, item in enumerate(value, start=1):
        if not isinstance(item, dict) or item.get("role") not in ROLES:
            found = _named(item.get("role") if isinstance(item, dict) else item)
            raise DataError(
                f"{where}: expected a role of {', '.join(ROLES)} in message {number}, found {found}"
            )
        content = item.get("content")
        if not isinstance(content, str) or not content.strip():
            raise DataError(
                f"{where}: expected text in message {number} ({item['role']}), "
                f"found {_named(content)}; write it or remove the line"
            )
        if content != encodable(content):
            raise DataError(
                f"{where}: expected text in message {number} ({item['role']}), found half of a "
                "character (a lone surrogate); mend it or remove the line"
            )
        messages.append(Message(role=item["role"], content=content))
    return tuple(messages)


def require_turns(messages: Sequence[Message], last: str, where: str) -> None:
    """Raise DataError unless user and assistant take turns and `last` has the last word."""
    roles = [message.role for message in messages]
    turns = roles[1:] if roles[0] == "system" else roles
    expected = [("user", "assistant")[number % 2] for number in range(len(turns))]
    if turns != expected or not turns or turns[-1] != last:
        raise DataError(
            f"{where}: expected user and assistant in turn, the {last} last, "
            f"found {one_line(', '.join(roles), 80)}"
        )


def ensure_template(tokenizer: Any) -> str:
    """Return "own" if the tokenizer has a chat template; else give it ours and return its name.

    Raises ConfigError if ours cannot serve, because the tokenizer has no end-of-text token.
    """
    if tokenizer.chat_template:
        return "own"
    if not tokenizer.eos_token:
        raise ConfigError(
            "the tokenizer has no chat template and no end-of-text token to make one with; "
            "add chat_template.jinja to the model's folder"
        )
    tokenizer.chat_template = DEFAULT_TEMPLATE
    return DEFAULT_TEMPLATE_NAME


def encode(tokenizer: Any, talk: Conversation, *, last_only: bool = False) -> Piece:
    """Return a conversation's ids and which of them the assistant wrote, its end mark included.

    last_only: only the last answer is a target. Raises ConfigError if the template rewrites
    earlier turns or does not end an answer with a token that the tokenizer marks as its own,
    DataError if it refuses the conversation, or if a message spells out a special token, which
    would forge a turn.
    """
    _require_plain(tokenizer, talk)
    text, spans = _rendered(tokenizer, talk)
    tokens = _ids(tokenizer, text)
    trained = np.zeros(len(tokens), dtype=bool)
    marks, _ = _marks(tokenizer, len(tokenizer))
    for before, after in spans[-1:] if last_only else spans:
        asked, end = _ids(tokenizer, before), _shared(_ids(tokenizer, after), tokens)
        begin = _shared(asked, tokens)
        # A token that begins in the prompt and ends in the answer is not the assistant's: when
        # the model is asked, it will not be there to be written.
        trained[begin + (begin < len(asked)) : end] = True
        if int(tokens[end - 1]) not in marks:
            raise ConfigError(
                f"{talk.where}: expected the chat template to end an answer with a special token, "
                f"found {_named(after[-20:])}; such a model would never stop: add "
                f"{tokenizer.eos_token or 'an end token'} to the template"
            )
    return Piece(tokens=tokens, trained=trained)


def _require_plain(tokenizer: Any, talk: Conversation) -> None:
    """Raise DataError if a message has the text of a special token in it."""
    _, spelt = _marks(tokenizer, len(tokenizer))
    for number, message in enumerate(talk.messages, start=1):
        if mark := spelt.search(message.content):
            raise DataError(
                f"{talk.where}: expected plain text in message {number} ({message.role}), "
                f"found the special token {mark[0]}, which would begin or end a turn there; "
                "write it otherwise or remove the line"
            )


@functools.lru_cache(maxsize=2)  # Gemma has six thousand: too many to look up for each line
def _marks(tokenizer: Any, pieces: int) -> tuple[frozenset[int], re.Pattern[str]]:
    """Return the ids of the tokens added to a tokenizer, and what finds the text of a special one.

    pieces: how many the tokenizer has, so that one that has grown is looked at again.
    """
    added = tokenizer.added_tokens_decoder
    # Not all_special_tokens alone: Llama 3's marks of a turn are not among them.
    special = {str(token) for token in added.values() if token.special}
    special.update(tokenizer.all_special_tokens)
    spelt = "|".join(map(re.escape, sorted(special))) or "(?!)"
    return frozenset(added), re.compile(spelt)


def _ids(tokenizer: Any, text: str) -> Tokens:
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return np.array(ids, dtype=np.int64)


def _shared(first: Tokens, second: Tokens) -> int:
    """Return how many ids at their beginning two texts have in common."""
    length = min(len(first), len(second))
    differing = np.flatnonzero(first[:length] != second[:length])
    return int(differing[0]) if len(differing) else length


def _rendered(tokenizer: Any, talk: Conversation) -> tuple[str, list[tuple[str, str]]]:
    """Return a conversation's text and, of each answer, the text before it and up to its end."""
    messages = [{"role": turn.role, "content": turn.content} for turn in talk.messages]
    text = _render(tokenizer, messages, talk.where)
    spans = []
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = _render(tokenizer, messages[:number], talk.where, add_generation_prompt=True)
        after = _render(tokenizer, messages[: number + 1], talk.where)
        if not (text.startswith(after) and after.startswith(before)):
            raise ConfigError(
                f"{talk.where}: the chat template writes turn {number + 1} otherwise when it is "
                "answered or followed, so the answer's tokens cannot be told; give the model a "
                "template that only appends"
            )
        # The line break that templates put after the end mark is not the assistant's.
        spans.append((before, after.rstrip()))
    return text, spans


def _render(
    tokenizer: Any,
    messages: list[dict[str, str]],
    where: str,
    *,
    add_generation_prompt: bool = False,
) -> str:
    from jinja2 import TemplateError

    try:
        text: str = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except TemplateError as error:
        raise DataError(
            f"{where}: the model's chat template refuses this conversation: {one_line(error)}"
        ) from error
    return text


def _named(value: Any) -> str:
    return one_line(repr(value), 60)
