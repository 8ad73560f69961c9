"""From a run folder to a run record: what the leaderboard keeps, and nothing else.

    >>> record = extract(Path("runs/smollm2"), model="smollm2-135m-instruct", added="2026-11-25")
    >>> record.tasks["hebench_mini_qa"].metrics["score"][:2]
    (0.0, 0.12)

Fields are allow-listed and bounded: no path of the machine that ran the model, no environment,
no file content. Scores are those in the samples; sums that corpus metrics need are kept with
them as metrics' parts, so that BLEU, chrF++, macro-F1 and bits per byte are recomputed, too.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from hebench.board.read import newest_results, read_results, read_run, samples_path
from hebench.board.require import LARGEST, is_finite
from hebench.board.suite import column_key, suite
from hebench.errors import DataError
from hebench.files import read_jsonl, sha256_of_json
from hebench.metrics import text
from hebench.records import (
    MANIFEST_NAME,
    RECORD_SCHEMA,
    Answer,
    Run,
    RunRecord,
    TaskRecord,
    TaskScores,
)

MAX_ANSWER = 20_000  # characters of an answer that are kept
# Settings of a record: what a score depends on, from the manifest or from lm-eval's results.
SETTINGS = (
    "name",
    "source",
    "revision",
    "weights_sha256",
    "parameters",
    "dtype",
    "backend",
    "batch_size",
    "device",
    "seed",
    "limit",
    "max_tokens",
    "versions",
    "hardware",
    "started",
    "seconds",
    "requests",
    "requests_truncated",
    "requests_failed",
)
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]+)?")
_MANIFEST_SETTINGS = SETTINGS[SETTINGS.index("backend") :]
Sample = dict[str, Any]


def extract(folder: Path, *, model: str, added: str) -> RunRecord:
    """Return the record of a run folder, ours or plain lm_eval's.

    Raises DataError as `read_run` does, and where samples lack what a record needs: hashes of
    document and prompt, an id for each item that no other item has, finite scores; and for a
    manifest whose model has no source.
    """
    run = read_run(folder)
    results = newest_results(folder)
    content = read_results(results)
    tasks = {}
    for name, scores in run.tasks.items():
        split = _split(run, content, name)
        path = samples_path(results, name)
        tasks[column_key(name, split)] = _task_record(scores, split, path)
    return RunRecord(
        schema=RECORD_SCHEMA,
        model=model,
        track=run.track,
        added=added,
        settings=_settings(run, content, folder),
        tasks=tasks,
    )


def _task_record(scores: TaskScores, split: str | None, path: Path) -> TaskRecord:
    samples = [sample for _, sample in read_jsonl(path)]
    if len(set(scores.items)) != len(scores.items):
        raise DataError(f"{path}: expected one line an item, found an id twice")
    for sample in samples:
        if not all(isinstance(sample.get(key), str) for key in ("doc_hash", "prompt_hash")):
            raise DataError(
                f"{path}: expected doc_hash and prompt_hash in every line, found none; "
                "use lm-eval 0.4.12 or later"
            )
    codes: dict[str, int] = {}
    clusters = tuple(codes.setdefault(label, len(codes)) for label in scores.clusters)
    return TaskRecord(
        version=scores.version,
        split=split,
        shots=scores.shots,
        total=scores.total,
        chance=chance_of([sample.get("doc") for sample in samples]),
        data_sha256=sha256_of_json([sample["doc_hash"] for sample in samples]),
        prompt_sha256=sha256_of_json([sample["prompt_hash"] for sample in samples]),
        items=scores.items,
        clusters=clusters if len(codes) < len(clusters) else None,
        metrics=_metrics(samples, path),
        parts=corpus_parts(samples, str(path)),
        answers=_answers(samples),
    )


def _metrics(samples: list[Sample], path: Path) -> dict[str, tuple[float | None, ...]]:
    """Return the values of every metric that is a number for each item; NaN becomes None."""
    listed = samples[0].get("metrics")
    texts = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    names = [name for name in texts if _is_number(samples[0].get(name))]
    if "score" not in names:
        names.insert(0, "score")
    found: dict[str, tuple[float | None, ...]] = {}
    for name in names:
        key = name if _is_number(samples[0].get(name)) else "acc"
        values = [float(sample[key]) for sample in samples if _is_number(sample.get(key))]
        if len(values) != len(samples):
            raise DataError(f"{path}: expected a number in {key!r} of every line")
        if any(map(math.isinf, values)):
            raise DataError(f"{path}: expected finite values in {key!r}, found an infinite one")
        found[name] = tuple(None if math.isnan(value) else value for value in values)
    if all(value is None for value in found["score"]):
        raise DataError(f"{path}: no item could be judged; there is nothing to show")
    return found


def corpus_parts(samples: Sequence[Sample], where: str) -> dict[str, tuple[tuple[float, ...], ...]]:
    """Return what corpus metrics add up, item by item, as `hebench.board.numbers` reads it.

    samples: lines of a run's samples, or what a task's scorer returned for each item. Raises
    DataError, beginning with `where`, for values that are no numbers or texts of such a metric.
    """
    found: dict[str, tuple[tuple[float, ...], ...]] = {}
    for name in ("bits_per_byte", "macro_f1"):
        pairs = [sample.get(name) for sample in samples]
        if all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
            if not all(is_finite(value) for pair in pairs if pair for value in pair):
                raise DataError(f"{where}: expected two finite numbers in {name!r} of every line")
            found[name] = tuple((float(pair[0]), float(pair[1])) for pair in pairs if pair)
    for name, statistics in (
        ("bleu_corpus", text.bleu_statistics),
        ("chrf_corpus", text.chrf_statistics),
    ):
        pairs = [sample.get(name) for sample in samples]
        if all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
            if not all(isinstance(pair[1], list) and pair[1] for pair in pairs if pair):
                raise DataError(f"{where}: expected an answer and references in {name!r}")
            rows = statistics([(str(pair[0]), list(pair[1])) for pair in pairs if pair])
            found[name] = tuple(tuple(float(value) for value in row) for row in rows)
    return found


def _answers(samples: list[Sample]) -> tuple[Answer, ...] | None:
    """Return what the model answered: a text, or a log-likelihood for each choice."""
    found: list[Answer] = []
    for sample in samples:
        answers = sample.get("filtered_resps")
        if not isinstance(answers, list) or not answers:
            return None
        first = answers[0]
        if isinstance(first, str) and _is_generated(sample):
            found.append(first[:MAX_ANSWER])
        else:
            try:
                values = [answer[0] if isinstance(answer, list) else answer for answer in answers]
                found.append(tuple(float(value) for value in values))
            except (TypeError, ValueError, OverflowError, IndexError):
                return None
    if any(isinstance(answer, tuple) and not all(map(math.isfinite, answer)) for answer in found):
        return None
    return tuple(found)


def _is_generated(sample: Sample) -> bool:
    """Return whether the request had options of generation, and not a text to score."""
    arguments = sample.get("arguments")
    request = arguments.get("gen_args_0") if isinstance(arguments, dict) else None
    return isinstance(request, dict) and bool(request.get("arg_1"))


def chance_of(docs: Sequence[Any]) -> float | None:
    """Return the mean score of a uniform guesser among the choices, if there are choices."""
    counts = [
        len(doc["choices"])
        for doc in docs
        if isinstance(doc, dict) and isinstance(doc.get("choices"), list)
    ]
    if len(counts) != len(docs) or not all(counts):
        return None
    return sum(1 / count for count in counts) / len(counts)


def _split(run: Run, content: dict[str, Any], task: str) -> str | None:
    """Return the split that was evaluated, None for the reported one."""
    if task not in suite() or not suite()[task].has_splits:
        return None
    if run.manifest:
        return run.manifest.split
    metadata = content["configs"][task].get("metadata")
    split = metadata.get("split") if isinstance(metadata, dict) else None
    return str(split) if split and split != "test" else None


def _settings(run: Run, content: dict[str, Any], folder: Path) -> dict[str, Any]:
    if run.manifest:
        model = run.manifest.model
        if not isinstance(model.source, str):
            raise DataError(
                f"{folder / MANIFEST_NAME}: expected a text in the model's source, found "
                f"{repr(model.source)[:40]}; run the evaluation anew"
            )
        found: dict[str, Any] = {
            "name": run.name,
            "source": _no_path(model.source),
            "revision": model.revision,
            "weights_sha256": model.weights_sha256,
            "parameters": model.parameters,
            "dtype": model.dtype,
        }
        return found | {key: getattr(run.manifest, key) for key in _MANIFEST_SETTINGS}
    config = content.get("config")
    config = config if isinstance(config, dict) else {}
    seconds = str(content.get("total_evaluation_time_seconds") or "")
    return dict.fromkeys(SETTINGS) | {
        "name": run.name,
        "source": run.name,
        "backend": "lm_eval",
        "batch_size": _scalar(config.get("batch_size")),
        "device": _scalar(config.get("device")),
        "seed": _scalar(config.get("random_seed")),
        "limit": _scalar(config.get("limit")),
        "versions": {
            name: str(content[key])
            for name, key in (
                ("lm_eval", "lm_eval_version"),
                ("transformers", "transformers_version"),
            )
            if isinstance(content.get(key), str)
        },
        "hardware": {},
        "seconds": round(float(seconds), 1) if _SECONDS.fullmatch(seconds) else None,
    }


def _no_path(source: str) -> str:
    return PurePath(source).name if PurePath(source).is_absolute() else source


def _scalar(value: Any) -> str | int | float | None:
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def _is_number(value: Any) -> bool:
    """Return whether a value is a number, NaN (not judged) too, that fits into a float."""
    return isinstance(value, float) or (type(value) is int and abs(value) < LARGEST)
