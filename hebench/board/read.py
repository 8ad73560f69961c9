"""Read a run folder, made by `hebench eval` or by the plain `lm_eval` command.

    >>> run = read_run(Path("runs/smollm2"))
    >>> run.tasks["hebench_mini_qa"].metrics["score"]
    0.083

Nothing in such a folder is trusted: scores are checked to be numbers in [0, 1], counts are
checked against each other, text is only ever text.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hebench.board.require import is_whole
from hebench.errors import DataError
from hebench.files import read_jsonl
from hebench.records import Run, RunManifest, TaskScores


def read_run(folder: Path) -> Run:
    """Return the newest complete evaluation in `folder` (or one folder below, as lm_eval nests it).

    Raises DataError if there is no results file, if it is not lm-eval's, or if a task's samples
    are missing, too few or without a `score`.
    """
    results_path = newest_results(folder)
    content = read_results(results_path)
    manifest = RunManifest.read(folder)
    if manifest is None and (folder / "answers.jsonl").exists():
        raise DataError(
            f"{folder}: this evaluation is not finished; run the same command to continue it"
        )
    tasks = {
        name: _read_task(content, name, samples_path(results_path, name))
        for name in content["configs"]
    }
    if not tasks:
        raise DataError(f"{results_path}: expected at least one task, found none")
    return Run(
        name=manifest.model.name if manifest else _plain_name(content),
        track=manifest.track if manifest else _plain_track(content),
        tasks=tasks,
        manifest=manifest,
    )


def read_breakdown(folder: Path, task: str, field: str) -> dict[str, TaskScores]:
    """Return a task's scores split by a field of its documents, such as `phenomenon` or `genre`.

    Raises DataError as `read_run` does, and if the task or the field is not there.
    """
    whole = read_run(folder).tasks
    if task not in whole:
        raise DataError(f"{folder}: expected one of {', '.join(whole)}, found no {task}")
    path = samples_path(newest_results(folder), task)
    values = [_doc(sample).get(field) for _, sample in read_jsonl(path)]
    if not all(isinstance(value, str | int) for value in values):
        first = _doc(next(read_jsonl(path))[1])
        known = [key for key, value in first.items() if isinstance(value, str | int)]
        raise DataError(
            f"{task}: expected a text or a number as {field} of every document; of the first, "
            f"{', '.join(known)} are such"
        )
    scores = whole[task]
    parts: dict[str, list[int]] = {}
    for place, value in enumerate(values):
        parts.setdefault(str(value), []).append(place)
    return {
        value: replace(
            scores,
            scores=tuple(scores.scores[place] for place in places),
            items=tuple(scores.items[place] for place in places),
            clusters=tuple(scores.clusters[place] for place in places),
            metrics={},
            total=len(places),
        )
        for value, places in sorted(parts.items())
    }


def newest_results(folder: Path) -> Path:
    """Return the newest results file in `folder` or one folder below.

    Raises DataError if there is none.
    """
    if not folder.is_dir():
        raise DataError(f"expected a run folder, found none at {folder}; check the path")
    found = [*folder.glob("results_*.json"), *folder.glob("*/results_*.json")]
    if not found:
        raise DataError(
            f"{folder}: expected a results_*.json, found none; the evaluation did not finish "
            "(run the same command again to continue it)"
        )
    # Names hold the ISO time, so the largest name is the newest.
    return max(found, key=lambda path: path.name)


def samples_path(results: Path, task: str) -> Path:
    """Return where lm-eval put a task's samples, beside the results file."""
    return results.with_name(f"samples_{task}_{results.stem.removeprefix('results_')}.jsonl")


def read_results(path: Path) -> dict[str, Any]:
    """Return the content of lm-eval's results file. Raises DataError if it is another file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected JSON, found {error}; run the evaluation anew") from error
    by_task = ("results", "configs", "n-samples")
    if (
        not isinstance(content, dict)
        or not all(isinstance(content.get(key), dict) for key in by_task)
        or not all(isinstance(part, dict) for key in by_task for part in content[key].values())
        or not all(isinstance(content.get(key, {}), dict) for key in ("versions", "n-shot"))
        or not all(Path(name).name == name for name in content["configs"])
    ):
        raise DataError(f"{path}: expected lm-eval's results, found another JSON file")
    return content


def _read_task(content: dict[str, Any], name: str, samples_path: Path) -> TaskScores:
    if not samples_path.is_file():
        raise DataError(
            f"expected {samples_path}, found nothing; run lm_eval with --log_samples, since "
            "intervals are computed from the items"
        )
    samples = [sample for _, sample in read_jsonl(samples_path)]
    counts = content["n-samples"].get(name, {})
    if len(samples) != counts.get("effective"):
        raise DataError(
            f"{samples_path}: expected {counts.get('effective')} items as the results say, "
            f"found {len(samples)}; the file is damaged, run the evaluation anew"
        )
    docs = [_doc(sample) for sample in samples]
    items = [
        str(doc.get("id", sample.get("doc_id"))) for doc, sample in zip(docs, samples, strict=True)
    ]
    return TaskScores(
        task=name,
        version=str(content.get("versions", {}).get(name, "unknown")),
        scores=tuple(_scores(samples, samples_path)),
        items=tuple(items),
        clusters=tuple(
            str(doc.get("cluster", item)) for doc, item in zip(docs, items, strict=True)
        ),
        metrics=_metrics(content["results"].get(name, {})),
        shots=_whole(content.get("n-shot", {}).get(name, 0), f"{name}: shots"),
        total=_whole(counts.get("original", len(samples)), f"{name}: items"),
    )


def _whole(value: Any, what: str) -> int:
    if not is_whole(value):
        raise DataError(f"{what}: expected a whole number in the results, found {repr(value)[:40]}")
    return int(value)


def _doc(sample: dict[str, Any]) -> dict[str, Any]:
    doc = sample.get("doc")
    return doc if isinstance(doc, dict) else {}


def _scores(samples: Iterable[dict[str, Any]], path: Path) -> Iterable[float]:
    for place, sample in enumerate(samples, start=1):
        value = sample.get("score", sample.get("acc"))
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DataError(
                f"{path} line {place}: expected a number in 'score', found {value!r}; "
                "only tasks that emit `score` or `acc` can be shown (all hebench tasks do)"
            )
        if not (0 <= value <= 1 or (isinstance(value, float) and math.isnan(value))):
            raise DataError(
                f"{path} line {place}: expected a score in [0, 1], found {repr(value)[:40]}"
            )
        yield float(value)


def _metrics(entry: dict[str, Any]) -> dict[str, float]:
    """Return `{"tlnls": 0.1}` from lm-eval's `{"tlnls,none": 0.1, "tlnls_stderr,none": ...}`."""
    return {
        key.split(",")[0]: float(value)
        for key, value in entry.items()
        if "," in key and "_stderr," not in key and (isinstance(value, float) or is_whole(value))
    }


def _plain_track(content: dict[str, Any]) -> str:
    """Return the track of a plain run: lm_eval leaves null where no chat template was applied."""
    return "base" if content.get("chat_template") is None else "chat"


def _plain_name(content: dict[str, Any]) -> str:
    """Return a model's name without the path that lm_eval leaves in its results."""
    name = str(content.get("model_name") or "unnamed model")
    return Path(name).name if "/" in name and Path(name).is_absolute() else name
