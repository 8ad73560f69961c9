"""The answers of a run, kept as they come, so that nothing computed is lost or asked twice."""

import contextlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lm_eval.api.model import LM, CacheHook
from lm_eval.models.utils import normalize_gen_kwargs
from tqdm import tqdm

from hebench.errors import ConfigError, DataError
from hebench.files import sha256_of_json

ANSWERS_NAME = "answers.jsonl"
_SPECIAL_TOKENS = 16  # more than any tokenizer adds to a text
_REQUEST_TYPES = ("loglikelihood", "loglikelihood_rolling", "generate_until")


class AnswerLog(CacheHook):  # type: ignore[misc]
    """The answers of one model under one set of settings, appended to a file as they come.

    A line is `{"key": ..., "answer": ...}`; the key is a hash of the task's name and version, the
    kind of request, and all that it holds: prompt, answer to score, settings of generation (and of
    several answers to one request, of the number of all but the first). The
    answer of a server is `{"text": ..., "served": ...}`: null where it withheld one, and the name
    that it answered under. The first line holds the settings of the run, hashes of the model among
    them. Processes that share a run write a file each and read all. A last line that a crash cut
    short is asked again. Raises ConfigError if a file belongs to other settings.
    """

    def __init__(
        self,
        path: Path,
        settings: dict[str, Any],
        versions: dict[str, str],
        *,
        rank: int = 0,
        at_once: int | None = None,
    ) -> None:
        """Open the log at `path`, reading what it holds; versions: of the tasks, by name.

        at_once: the most requests that the model is given in one call, where it tells of its
        answers only when it has all of them.
        """
        super().__init__(None)
        self._at_once = at_once
        self._answers: dict[str, Any] = {}
        self._awaited: dict[str, list[str]] = {}  # keys by what the model sees of them
        self._bar: tqdm[Any] | None = None
        self._path, self._versions = path, versions
        self.reused = self.failed = self.truncated = 0
        self.served: set[str] = set()  # the names under which a server gave what was asked for
        own = path.with_stem(f"{path.stem}.{rank}") if rank else path
        for found in self._files():
            self._read(found, settings, mend=found == own)
        self._own, self._begun = own, 0  # bytes of a log that this run has begun
        self._stream = own.open("a", encoding="utf-8")
        if own.stat().st_size == 0:
            self._append({"settings": settings})
            self._begun = own.stat().st_size

    def __len__(self) -> int:
        """Return how many answers the log holds."""
        return len(self._answers)

    def close(self) -> None:
        """Close the file; the log takes no more answers."""
        self._stream.close()

    def drop_begun(self) -> None:
        """Remove a log that was begun here and holds no answer: a start that failed binds nobody.

        Not one that is older: another process may have begun it, and be loading its model.
        """
        with contextlib.suppress(FileNotFoundError):
            if self._own.stat().st_size == self._begun:
                self._own.unlink()

    def merge(self) -> None:
        """Move the answers of the other processes, which are done, into the one file."""
        own = {record["key"] for record in _records(self._path)[1:]}
        for found in self._files():
            if found != self._path:
                for record in _records(found)[1:]:
                    if record["key"] not in own:
                        self._append(record)
                found.unlink()

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        """Record an answer; the model calls this after each request (lm-eval's cache hook)."""
        keys = self._awaited.get(_content_key(attr, req))
        if keys:
            self._keep(keys.pop(0), res)

    def answer(self, ask: Callable[..., list[Any]], kind: str, requests: list[Any]) -> list[Any]:
        """Return the answers to `requests` in order, asking only for those not in the log."""
        contents = [_content_key(kind, request.args) for request in requests]
        asked: Counter[int] = Counter()
        keys: list[str] = []
        missing: list[tuple[str, Any]] = []
        for content, request in zip(contents, requests, strict=True):
            # A task with repeats asks for several answers, which differ where they are drawn.
            number = asked[id(request)] % request.repeats
            asked[id(request)] += 1
            version = self._versions.get(request.task_name)
            named = [request.task_name, version, content]
            key = sha256_of_json([*named, number] if number else named)
            keys.append(key)
            if key not in self._answers:
                missing.append((key, request))
                self._awaited.setdefault(content, []).append(key)
        # Processes that share a run are given the last request again until all have as many.
        once = {id(request): key for request, key in zip(requests, keys, strict=True)}
        self.reused += sum(key in self._answers for key in once.values())
        if missing:
            # disable=None: a bar on a terminal, nothing in a log file. The model's own bar is
            # switched off, since it knows neither of this nor of the answers that are reused.
            with tqdm(total=len(missing), desc=kind, unit="request", disable=None) as self._bar:
                size = self._at_once or len(missing)
                for start in range(0, len(missing), size):
                    some = missing[start : start + size]
                    answers = ask([request for _, request in some], disable_tqdm=True)
                    for (key, _), answer in zip(some, answers, strict=True):
                        self._keep(key, answer)
            self._awaited.clear()
        used = [self._answers[key] for key in once.values()]
        self.served |= {answer["served"] for answer in used if isinstance(answer, dict)}
        self.failed += sum(map(_is_failure, used))
        return [_as_given(self._answers[key]) for key in keys]

    def _files(self) -> list[Path]:
        """Return the log and those of other processes, but no copy that a user has made."""
        stem, suffix = map(re.escape, (self._path.stem, self._path.suffix))
        ours = re.compile(rf"{stem}(\.\d+)?{suffix}")
        return sorted(path for path in self._path.parent.iterdir() if ours.fullmatch(path.name))

    def _keep(self, key: str, answer: Any) -> None:
        if key not in self._answers:
            self._answers[key] = answer
            self._append({"key": key, "answer": answer})
            if self._bar is not None:
                self._bar.update()

    def _append(self, record: dict[str, Any]) -> None:
        self._stream.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._stream.flush()

    def _read(self, path: Path, settings: dict[str, Any], *, mend: bool) -> None:
        records = _records(path, mend=mend)
        if not records:
            return
        found = records[0].get("settings", {})
        for key, value in settings.items():
            if found.get(key) != value:
                raise ConfigError(
                    f"{path.parent} holds answers under {key} = {found.get(key)}, and this run has "
                    f"{key} = {value}; choose another folder with --out"
                )
        self._answers |= {record["key"]: record["answer"] for record in records[1:]}


def settings_of(path: Path) -> dict[str, Any] | None:
    """Return the settings that the log at `path` belongs to, or None where there is no log."""
    records = _records(path) if path.is_file() else []
    return records[0].get("settings") if records else None


def _records(path: Path, *, mend: bool = False) -> list[dict[str, Any]]:
    """Return the lines of a log but for a last one cut short, which `mend` takes off the file."""
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if mend and len(whole) < len(content):
        os.truncate(path, len(whole))
    try:
        return [json.loads(line) for line in whole.splitlines()]
    except ValueError as error:
        raise DataError(f"{path} holds a line that is no JSON; remove the file") from error


def _is_failure(answer: Any) -> bool:
    return answer["text"] is None if isinstance(answer, dict) else is_nan(answer)


def _as_given(answer: Any) -> Any:
    """Return a stored answer as the model gave it to lm-eval."""
    if isinstance(answer, dict):
        return answer["text"] or ""
    return tuple(answer) if isinstance(answer, list) else answer


def _content_key(kind: str, args: Any) -> str:
    return sha256_of_json([kind, list(args)])


def is_nan(answer: Any) -> bool:
    """Return whether a stored answer is, or begins with, a log-likelihood that is no number."""
    value = answer[0] if isinstance(answer, list | tuple) else answer
    return isinstance(value, float) and math.isnan(value)


def resume(lm: LM, log: AnswerLog) -> None:
    """Make `lm` answer from `log` first, and log what it answers itself."""
    lm.set_cache_hook(log)
    for kind in _REQUEST_TYPES:
        ask = getattr(lm, kind)

        def answered(
            requests: list[Any], *, ask: Callable[..., list[Any]] = ask, kind: str = kind
        ) -> list[Any]:
            once = {id(request): request.args for request in requests}
            log.truncated += sum(is_truncated(lm, kind, args) for args in once.values())
            return log.answer(ask, kind, requests)

        setattr(lm, kind, answered)


def is_truncated(lm: LM, kind: str, args: Any) -> bool:
    """Return whether a prompt exceeds the model's context, so that its beginning is cut off."""
    encode, longest = getattr(lm, "tok_encode", None), getattr(lm, "max_length", None)
    if encode is None or longest is None or kind == "loglikelihood_rolling":
        return False
    if kind == "generate_until":
        options = normalize_gen_kwargs(args[1], getattr(lm, "max_gen_toks", 0))
        text, room = args[0], longest - options["max_gen_toks"]
    else:
        text, room = args[0] + args[1], longest + 1
    # No token is shorter than a byte, but for a few special ones: most texts need no encoding.
    return bool(len(text.encode()) + _SPECIAL_TOKENS > room and len(encode(text)) > room)
