"""The answers of a run, kept as they come, so that nothing computed is lost or asked twice."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lm_eval.api.model import LM, CacheHook
from tqdm import tqdm

from hebench.errors import ConfigError
from hebench.files import read_jsonl, sha256_of_json

ANSWERS_NAME = "answers.jsonl"
_REQUEST_TYPES = ("loglikelihood", "loglikelihood_rolling", "generate_until")


class AnswerLog(CacheHook):  # type: ignore[misc]
    """The answers of one model under one set of settings, appended to a file as they come.

    A line is `{"key": <hash of the request>, "answer": ...}`; the first line holds the
    settings. A last line that a crash cut short is dropped and asked again.
    Raises ConfigError if the file belongs to other settings.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        """Open the log at `path`, reading what it holds."""
        super().__init__(None)
        self._answers: dict[str, Any] = {}
        self._bar: tqdm[Any] | None = None
        self.reused = self.failed = self.truncated = self.total = 0
        if path.exists():
            self._read(path, settings)
        self._stream = path.open("a", encoding="utf-8")
        if path.stat().st_size == 0:
            self._append({"settings": settings})

    def __len__(self) -> int:
        """Return how many answers the log holds."""
        return len(self._answers)

    def close(self) -> None:
        """Close the file; the log takes no more answers."""
        self._stream.close()

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        """Record an answer; the model calls this after each request (lm-eval's cache hook)."""
        key = _request_key(attr, req)
        if key not in self._answers:
            self._answers[key] = res
            self._append({"key": key, "answer": res})
            if self._bar is not None:
                self._bar.update()

    def answer(self, ask: Callable[..., list[Any]], kind: str, requests: list[Any]) -> list[Any]:
        """Return the answers to `requests` in order, asking only for those not in the log."""
        keys = [_request_key(kind, request.args) for request in requests]
        missing = [
            request for key, request in zip(keys, requests, strict=True) if key not in self._answers
        ]
        self.total += len(requests)
        self.reused += len(requests) - len(missing)
        if missing:
            # disable=None: a bar on a terminal, nothing in a log file. The model's own bar is
            # switched off, since it knows neither of this nor of the answers that are reused.
            with tqdm(total=len(missing), desc=kind, unit="request", disable=None) as self._bar:
                for request, answer in zip(missing, ask(missing, disable_tqdm=True), strict=True):
                    self.add_partial(kind, request.args, answer)
        answers = [self._answers[key] for key in keys]
        self.failed += sum(1 for value in answers if _is_nan(value))
        return [tuple(value) if isinstance(value, list) else value for value in answers]

    def _append(self, record: dict[str, Any]) -> None:
        self._stream.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._stream.flush()

    def _read(self, path: Path, settings: dict[str, Any]) -> None:
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(path, len(whole))
        records = [record for _, record in read_jsonl(path)]
        if not records:
            return
        found = records[0].get("settings", {})
        for key, value in settings.items():
            if found.get(key) != value:
                raise ConfigError(
                    f"{path.parent} holds answers under {key} = {found.get(key)}, and this run has "
                    f"{key} = {value}; choose another folder with --out"
                )
        self._answers = {record["key"]: record["answer"] for record in records[1:]}


def _request_key(kind: str, args: Any) -> str:
    return sha256_of_json([kind, list(args)])


def _is_nan(answer: Any) -> bool:
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
            log.truncated += sum(_is_truncated(lm, kind, request.args) for request in requests)
            return log.answer(ask, kind, requests)

        setattr(lm, kind, answered)


def _is_truncated(lm: LM, kind: str, args: Any) -> bool:
    """Return whether a prompt exceeds the model's context, so that its beginning is cut off."""
    encode, longest = getattr(lm, "tok_encode", None), getattr(lm, "max_length", None)
    if encode is None or longest is None or kind == "loglikelihood_rolling":
        return False
    if kind == "generate_until":
        return bool(len(encode(args[0])) > longest - int(args[1].get("max_gen_toks", 0)))
    return bool(len(encode(args[0] + args[1])) > longest + 1)
