"""Summaries of a run folder judged by a model behind an OpenAI-compatible server.

    hebench judge runs/my-model --task hebench_mini_summarization \\
        --judge Qwen/Qwen3-32B --base-url http://localhost:8000/v1 --include-reference
    hebench judge runs/my-model runs/other --task hebench_mini_summarization \\
        --judge Qwen/Qwen3-32B --base-url http://localhost:8000/v1

One folder gets scores from 1 to 10 on four axes (`judge_<task>.json`); of two, each item's better
summary is chosen, asked twice with sides swapped (`judge_<task>_vs_<other>.json`, and `…-2.json`
where another run's folder has the same name). Both go to the first folder, written last. Every
reply is kept in `judge_<task>.jsonl` as it comes and is not asked again, so an interrupted or
repeated command pays only for what is missing.

    {"axes": {"relevance": {"mean": 0.73, "low": 0.66, "high": 0.8, "n": 32, ...}, ...}, ...}

Proportions as everywhere: x of 10 is (x - 1) / 9. Means are over the items that were judged; how
many replies could not be read stands beside them. An empty summary is not sent: it has the lowest
scores, and loses to one that says anything. The key is read from OPENAI_API_KEY and written
nowhere; articles and summaries go to that server and to no other.
"""

import json
import math
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hebench.errors import ConfigError, DataError, HebenchError, one_line
from hebench.files import encodable, finite, read_jsonl, sha256_of_json, write_atomically
from hebench.harness.completions import connect, content_of, served_name
from hebench.metrics.extract import strip_thinking
from hebench.metrics.judge import (
    AXES,
    HIGHEST,
    LANGUAGES,
    LONGEST_TEXT,
    LOWEST,
    Kind,
    axes_prompt,
    combine_swapped,
    parse_axes,
    parse_preference,
    preference_prompt,
    prompt_sha256,
)
from hebench.records import RunManifest
from hebench.stats.intervals import Interval, mean_interval

SCHEMA = 1
_RETRIES = 5
_TIMEOUT_SECONDS = 300
_LONGEST_REPLY = 100_000  # characters that are kept, from the end: thinking comes first
_SAMPLES_NAME = r"samples_(?P<task>.+)_(?P<stamp>\d{4}-\d\d-\d\dT[\d.:-]+)\.jsonl"

_KEY_FIELDS = ("judge", "prompt_sha256", "item", "texts_sha256")

Key = tuple[str, ...]  # the values of these fields
Record = dict[str, Any]  # a line of the log


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """What to judge, and who judges."""

    runs: tuple[Path, ...]  # one run folder (scores) or two (which is better)
    task: str  # a summarization task of those runs
    model: str  # the judge, as its server calls it
    base_url: str  # of that server, such as http://localhost:8000/v1
    language: str = "he"  # of the prompt: he or en
    include_reference: bool = False  # score the reference summaries as well (one folder)
    limit: int | None = None  # items, from the first; None for all
    concurrency: int = 4  # requests at a time
    max_tokens: int | None = 2048  # of a reply, thinking included; None for the server's own limit

    def __post_init__(self) -> None:
        """Refuse values that contradict each other or mean nothing."""
        if len(self.runs) not in (1, 2):
            raise ConfigError(f"expected one run folder or two, found {len(self.runs)}")
        if len(self.runs) == 2 and self.runs[0].resolve() == self.runs[1].resolve():
            raise ConfigError(f"expected two different run folders, found {self.runs[0]} twice")
        if len(self.runs) == 2 and self.include_reference:
            raise ConfigError("--include-reference goes with one run folder, found two")
        if not self.model:
            raise ConfigError("--judge: expected the name of a model, found none")
        if not re.match("https?://", self.base_url):
            raise ConfigError(f"--base-url: expected http(s)://…, found {self.base_url!r}")
        if self.language not in LANGUAGES:
            raise ConfigError(
                f"--language: expected {' or '.join(LANGUAGES)}, found {self.language!r}"
            )
        for name in ("limit", "concurrency", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name.replace('_', '-')}: expected at least 1, found {value}")


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """How often each of two runs was preferred."""

    wins: tuple[int, int]  # items, in the order of the runs
    ties: int  # items, inconsistent ones among them
    inconsistent: int  # items on which the judge changed its mind with the order
    n: int  # items with a verdict
    score: Interval  # of the first run: a win is 1, a tie 0.5


@dataclass(frozen=True, kw_only=True)
class JudgeSummary:
    """What the judge said of a task, and all that it depends on."""

    schema: int
    task: str
    runs: tuple[str, ...]  # the models' names
    samples: tuple[str, ...]  # file names
    judge: str  # the model that was asked for
    served: tuple[str, ...]  # the names under which it answered
    language: str
    prompt_sha256: str
    max_tokens: int | None
    n: int  # items
    requests: int  # distinct questions
    reused: int  # of these, answered by an earlier command
    unparseable: int  # replies that are not what was asked for
    truncated: int  # replies that the token limit cut off
    unasked: int  # empty summaries, or pairs with one or with equal texts: decided by rule
    shortened: int  # texts longer than the judge is shown
    verdicts: dict[str, Any]  # by item: scores by axis, or 1, 2, 0; None if it was not read
    axes: dict[str, Interval] | None = None  # by axis, in [0, 1]
    reference: dict[str, Interval] | None = None  # the same of the reference summaries
    reference_verdicts: dict[str, Any] | None = None
    pair: Preferences | None = None
    place: str | None = None  # of two runs: a hash of where the second folder is


@dataclass(frozen=True, kw_only=True)
class _Item:
    id: str
    cluster: str
    title: str
    article: str
    reference: str
    summary: str


@dataclass(frozen=True, kw_only=True)
class _Question:
    key: Key
    prompt: str
    settled: Any  # the verdict, where a rule gives it; None where the judge has to be asked


def judge_run(config: JudgeConfig) -> JudgeSummary:
    """Judge the summaries, write replies and summary to the first run folder, return the summary.

    Raises DataError for a folder without readable samples of that task, ConfigError without the
    openai package, and HebenchError if the server fails; replies so far are then kept.
    """
    paths = [_samples_file(folder, config.task) for folder in config.runs]
    runs = [_read_items(path, config) for path in paths]
    if len(runs) == 2:
        runs[1] = _aligned(runs[0], runs[1], paths)
    sides = _sides(config, runs)
    questions = {
        question.key: question for side in sides for question in side if question.settled is None
    }
    replies, reused = _ask_all(config, list(questions.values()))
    parse: Callable[[str], Any] = parse_axes if len(runs) == 1 else parse_preference
    parsed = {key: parse(record["reply"]) for key, record in replies.items()}
    verdicts = [
        [parsed[one.key] if one.settled is None else one.settled for one in side] for side in sides
    ]
    texts = {text for run in runs for item in run for text in (item.article, item.summary)}
    summary = JudgeSummary(
        **_provenance(config, paths),
        served=tuple(sorted({record["served"] for record in replies.values()})),
        n=len(runs[0]),
        requests=len(questions),
        reused=reused,
        unparseable=sum(verdict is None for verdict in parsed.values()),
        truncated=sum(record["truncated"] for record in replies.values()),
        unasked=sum(question.settled is not None for question in sides[0]),
        shortened=sum(len(text) > LONGEST_TEXT for text in texts),
        **(_score_fields if len(runs) == 1 else _pair_fields)(runs[0], verdicts),
    )
    write_atomically(
        _summary_file(config, summary),
        json.dumps(finite(asdict(summary)), ensure_ascii=False, indent=2, allow_nan=False) + "\n",
    )
    return summary


def _provenance(config: JudgeConfig, paths: Sequence[Path]) -> dict[str, Any]:
    """Return the fields of a summary that are known before the judge is asked."""
    manifests = [RunManifest.read(folder) for folder in config.runs]
    return {
        "schema": SCHEMA,
        "task": config.task,
        "runs": tuple(
            manifest.model.name if manifest else folder.resolve().name
            for manifest, folder in zip(manifests, config.runs, strict=True)
        ),
        "samples": tuple(path.name for path in paths),
        "judge": _public(config.model),
        "language": config.language,
        "prompt_sha256": prompt_sha256(_kind(config), config.language),
        "max_tokens": config.max_tokens,
        "place": sha256_of_json(str(config.runs[1].resolve())) if config.runs[1:] else None,
    }


def _kind(config: JudgeConfig) -> Kind:
    return "axes" if len(config.runs) == 1 else "preference"


def _sides(config: JudgeConfig, runs: Sequence[Sequence[_Item]]) -> list[list[_Question]]:
    """Return the questions, one a place and item: of summaries, references, or both orders."""
    if len(runs) == 2:
        pairs = list(zip(*runs, strict=True))
        return [
            [_question(config, one, one.summary, other.summary) for one, other in pairs],
            [_question(config, one, other.summary, one.summary) for one, other in pairs],
        ]
    sides = [[_question(config, item, item.summary) for item in runs[0]]]
    if config.include_reference:
        sides.append([_question(config, item, item.reference) for item in runs[0]])
    return sides


def _question(config: JudgeConfig, item: _Item, *texts: str) -> _Question:
    """Return the question about one summary or two, with its verdict where a rule gives it."""
    settled: Any = None
    if len(texts) == 1:
        prompt = axes_prompt(item.article, *texts, title=item.title, language=config.language)
        if not texts[0]:
            settled = dict.fromkeys(AXES, LOWEST)
    else:
        prompt = preference_prompt(item.article, *texts, title=item.title, language=config.language)
        if not all(texts) or texts[0] == texts[1]:
            settled = 0 if texts[0] == texts[1] else 1 if texts[0] else 2
    prompt_hash = prompt_sha256(_kind(config), config.language)
    shown = sha256_of_json([item.title, item.article, *texts])
    key = (_public(config.model), prompt_hash, item.id, shown)
    return _Question(key=key, prompt=prompt, settled=settled)


def _score_fields(items: Sequence[_Item], verdicts: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Return the fields of a summary that one run folder fills: of its own, of the references."""
    fields: dict[str, Any] = {}
    names = (("axes", "verdicts"), ("reference", "reference_verdicts"))
    for (means, by_item), side in zip(names, verdicts, strict=False):
        fields[by_item] = _by_item(items, side)
        fields[means] = {
            axis: _interval(
                items,
                [
                    (verdict[axis] - LOWEST) / (HIGHEST - LOWEST) if verdict else math.nan
                    for verdict in side
                ],
            )
            for axis in AXES
        }
    return fields


def _pair_fields(items: Sequence[_Item], verdicts: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Return the fields of a summary that two run folders fill."""
    both = [combine_swapped(*replies) for replies in zip(*verdicts, strict=True)]
    found = [verdict.preference for verdict in both]
    worth = {1: 1.0, 0: 0.5, 2: 0.0, None: math.nan}
    pair = Preferences(
        wins=(found.count(1), found.count(2)),
        ties=found.count(0),
        inconsistent=sum(verdict.inconsistent for verdict in both),
        n=len(found) - found.count(None),
        score=_interval(items, [worth[preference] for preference in found]),
    )
    return {"pair": pair, "verdicts": _by_item(items, found)}


def _by_item(items: Sequence[_Item], verdicts: Sequence[Any]) -> dict[str, Any]:
    return {item.id: verdict for item, verdict in zip(items, verdicts, strict=True)}


def _interval(items: Sequence[_Item], scores: Sequence[float]) -> Interval:
    return mean_interval(scores, [item.cluster for item in items])


# --- Asking -------------------------------------------------------------------------------------


def _ask_all(config: JudgeConfig, questions: Sequence[_Question]) -> tuple[dict[Key, Record], int]:
    """Return the reply to each question, and how many were in the log already."""
    path = config.runs[0] / f"judge_{config.task}.jsonl"
    kept = _read_log(path) if path.exists() else {}
    replies = {
        question.key: kept[question.key]
        for question in questions
        if question.key in kept and _reusable(kept[question.key], config)
    }
    reused = len(replies)
    missing = [question for question in questions if question.key not in replies]
    if not missing:
        return replies, reused
    lock = threading.Lock()
    with (
        path.open("a", encoding="utf-8") as log,
        _client(config) as ask,
        tqdm(total=len(missing), desc="judge", unit="request", disable=None) as bar,
        ThreadPoolExecutor(max_workers=config.concurrency) as pool,
    ):

        def answer(question: _Question) -> None:
            record = dict(zip(_KEY_FIELDS, question.key, strict=True)) | ask(question.prompt)
            with lock:  # here and not where results are collected: an answer that came is kept
                log.write(json.dumps(record, ensure_ascii=False) + "\n")
                log.flush()
                replies[question.key] = record
                bar.update()

        futures = [pool.submit(answer, question) for question in missing]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:  # Ctrl-C too: ask nothing more, then let it pass
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return replies, reused


@contextmanager
def _client(config: JudgeConfig) -> Iterator[Callable[[str], Record]]:
    """Yield a function that sends one message and returns the part of a record that came back."""
    try:
        import openai
    except ImportError as error:
        raise ConfigError("judging needs the openai package; install hebench[served]") from error

    def failure(reason: str) -> HebenchError:
        return HebenchError(
            f"the judge at {config.base_url} failed after {_RETRIES} retries: {reason[:300]}; "
            "replies so far are kept, the same command goes on when it is back"
        )

    limit = {} if config.max_tokens is None else {"max_tokens": config.max_tokens}
    with connect(config.base_url, retries=_RETRIES, timeout=_TIMEOUT_SECONDS) as client:

        def ask(prompt: str) -> Record:
            try:
                reply = client.chat.completions.create(
                    model=config.model,
                    messages=[{"role": "user", "content": prompt}],
                    temperature=0,
                    **limit,
                )
            except openai.APIStatusError as error:
                raise failure(f"status {error.status_code}: {one_line(error)}") from error
            except (openai.OpenAIError, ValueError, RecursionError) as error:
                raise failure(one_line(error)) from error  # no connection, or no JSON
            try:
                content = content_of(reply)
            except ValueError as error:
                raise failure(str(error)) from error
            return {
                "served": _public(served_name(reply)),
                # A reply that the server withheld is empty, so it cannot be read and is counted.
                "reply": encodable(content or "")[-_LONGEST_REPLY:],
                "truncated": getattr(reply.choices[0], "finish_reason", None) == "length",
                "max_tokens": config.max_tokens,
            }

        yield ask


def _reusable(record: Record, config: JudgeConfig) -> bool:
    """Return whether a reply stands: one that a token limit cut off is asked for under another."""
    return not record["truncated"] or record.get("max_tokens") == config.max_tokens


def _read_log(path: Path) -> dict[Key, Record]:
    """Return the records of a log by key, later ones first; a line cut short by a crash goes."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
    records: dict[Key, Record] = {}
    for number, record in read_jsonl(path):
        texts = [record.get(name) for name in (*_KEY_FIELDS, "served", "reply")]
        if not all(isinstance(text, str) for text in texts) or not isinstance(
            record.get("truncated"), bool
        ):
            raise DataError(
                f"{path} line {number}: expected a judge's reply, found other keys or types; "
                "remove the line"
            )
        records[tuple(record[name] for name in _KEY_FIELDS)] = record
    return records


# --- Run folders --------------------------------------------------------------------------------


def _samples_file(folder: Path, task: str) -> Path:
    """Return the newest samples of a task in `folder`, or one folder below, as lm_eval nests it."""
    if not folder.is_dir():
        raise DataError(f"expected a run folder, found none at {folder}; check the path")
    if RunManifest.read(folder) is None and (folder / "answers.jsonl").exists():
        raise DataError(
            f"{folder}: this evaluation is not finished; run the same command to continue it"
        )
    files = [*folder.glob("samples_*.jsonl"), *folder.glob("*/samples_*.jsonl")]
    named = [(re.fullmatch(_SAMPLES_NAME, path.name), path) for path in files]
    tasks = sorted({found["task"] for found, _ in named if found})
    if task not in tasks:
        known = ", ".join(tasks) or "no task"
        raise DataError(
            f"{folder}: expected samples of {task}, found those of {known}; "
            "name a summarization task that was run (in lm_eval with --log_samples)"
        )
    stamps = {found["stamp"]: path for found, path in named if found and found["task"] == task}
    return stamps[max(stamps)]  # ISO times: the largest is the newest


def _read_items(path: Path, config: JudgeConfig) -> list[_Item]:
    """Return the first `limit` items of a samples file. Raises DataError naming the line."""
    items: dict[str, _Item] = {}
    for number, sample in read_jsonl(path):
        if config.limit is not None and len(items) == config.limit:
            break
        try:
            item = _item(sample)
            if item.id in items:
                raise ValueError(f"item {item.id} for the second time")
            if config.include_reference and not item.reference:
                raise ValueError(f"item {item.id} without a reference in doc.target")
        except ValueError as error:
            raise DataError(
                f"{path} line {number}: expected the sample of a summarization task, found "
                f"{one_line(error)}; judge a task of articles and summaries"
            ) from error
        items[item.id] = item
    if not items:
        raise DataError(f"{path}: expected at least one sample, found none; run the task anew")
    return list(items.values())


def _item(sample: dict[str, Any]) -> _Item:
    """Return one sample as an item. Raises ValueError saying what is not there."""
    doc, reply = sample.get("doc"), sample.get("filtered_resps") or sample.get("resps")
    while isinstance(reply, list) and reply:
        reply = reply[0]
    if not isinstance(doc, dict) or not isinstance(doc.get("article"), str) or not doc["article"]:
        raise ValueError("no text in doc.article")
    if not isinstance(reply, str):
        raise ValueError("no text in filtered_resps or resps")
    title, reference = doc.get("title") or "", doc.get("target") or ""
    if not isinstance(title, str) or not isinstance(reference, str):
        raise ValueError("a doc.title or doc.target that is no text")
    name = str(doc.get("id", sample.get("doc_id")))
    return _Item(
        id=encodable(name),
        cluster=str(doc.get("cluster", name)),
        title=encodable(title),
        article=encodable(doc["article"]),
        reference=encodable(reference).strip(),
        summary=encodable(strip_thinking(reply)),
    )


def _aligned(one: Sequence[_Item], other: Sequence[_Item], paths: Sequence[Path]) -> list[_Item]:
    """Return the items of `other` in the order of `one`. Raises DataError if they are others."""
    others = {item.id: item for item in other}
    same = [
        others[item.id]
        for item in one
        if item.id in others
        and (item.title, item.article) == (others[item.id].title, others[item.id].article)
    ]
    if not len(one) == len(other) == len(same):
        raise DataError(
            f"expected the same items in {paths[0]} ({len(one)}) and {paths[1]} ({len(other)}), "
            f"found {len(same)} in common; run the task on the same data, or judge with --limit"
        )
    return same


def _summary_file(config: JudgeConfig, summary: JudgeSummary) -> Path:
    """Return where a summary goes; that of another folder which has this name, too, stays."""
    if len(config.runs) == 1:
        return config.runs[0] / f"judge_{config.task}.json"
    start = f"judge_{config.task}_vs_{config.runs[1].resolve().name}"
    names = chain([start], (f"{start}-{number}" for number in count(2)))
    paths = (config.runs[0] / f"{name}.json" for name in names)
    return next(path for path in paths if not path.exists() or _is_of(path, summary))


def _is_of(path: Path, summary: JudgeSummary) -> bool:
    """Return whether a file holds an earlier summary of the same folder, or does not say."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return bool(found.get("place", summary.place) == summary.place)
    except (ValueError, AttributeError):
        return False


def _public(model: str) -> str:
    """Return a model's name without the path that it may have on a server's disk."""
    return Path(model).name if model.startswith(("/", "~", ".")) else model
