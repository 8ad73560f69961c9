"""The answers of a model in memory as a run folder, like that which `hebench eval` writes.

    write_run_folder(asked, Path("runs/he/evals/checkpoint-200/live"), model=known, seconds=41.0)

It says the same of itself and is read by the same commands: `hebench compare`, `hebench board add`.
"""

import datetime
import importlib.metadata
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lm_eval.utils import handle_non_serializable

from hebench.files import sha256_of_json, write_atomically
from hebench.harness.answers import is_nan
from hebench.harness.live import Asked, Sample
from hebench.harness.run import hardware_of, package_versions
from hebench.metrics import text
from hebench.records import MANIFEST_SCHEMA, Model, RunManifest


def write_run_folder(asked: Asked, out: Path, *, model: Model, seconds: float) -> None:
    """Write the answers of all processes to `out`, in place of a run folder that is there.

    The folder appears when it is whole. seconds: that the asking took, until now.
    """
    now = datetime.datetime.now(datetime.UTC)
    stamp = now.replace(tzinfo=None).isoformat().replace(":", "-")
    aside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    aside.mkdir(parents=True)
    try:
        write_atomically(aside / f"results_{stamp}.json", _json(_results(asked)) + "\n")
        for name, samples in asked.samples.items():
            lines = [_json(_as_written(sample)) + "\n" for sample in samples]
            write_atomically(aside / f"samples_{name}_{stamp}.jsonl", "".join(lines))
        started = now - datetime.timedelta(seconds=seconds)
        _manifest(asked, model, started, seconds).write(aside)
        shutil.rmtree(out, ignore_errors=True)
        aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _manifest(
    asked: Asked, model: Model, started: datetime.datetime, seconds: float
) -> RunManifest:
    return RunManifest(
        schema=MANIFEST_SCHEMA,
        model=model,
        track="base",
        backend=asked.backend,
        batch_size=asked.batch_size,
        device=asked.device,
        seed=asked.seed,
        limit=asked.limit,
        split=None,
        max_tokens=None,
        tasks=tuple(asked.samples),
        task_sha256={name: each.task_sha256 for name, each in asked.described.items()},
        task_versions={name: asked.versions[name] for name in asked.samples},
        data_sha256={name: each.data_sha256 for name, each in asked.described.items()},
        source_sha256={name: each.source_sha256 for name, each in asked.described.items()},
        prompt_sha256={name: _prompts(found) for name, found in asked.samples.items()},
        metric_signatures=text.signatures(),
        versions=package_versions(),
        hardware=hardware_of(asked.device),
        started=started.isoformat(timespec="seconds"),
        seconds=round(seconds, 1),
        requests=sum(len(s["arguments"]) for found in asked.samples.values() for s in found),
        requests_reused=0,
        requests_truncated=asked.truncated,
        requests_failed=sum(map(_failed, asked.samples.values())),
    )


def _results(asked: Asked) -> dict[str, Any]:
    """Return lm-eval's results; of metrics the score alone, the others are in the samples."""
    means = {}
    for name, samples in asked.samples.items():
        scores = np.array([float(sample.get("score", np.nan)) for sample in samples])
        judged = scores[~np.isnan(scores)]
        means[name] = {"alias": name} | ({"score,none": judged.mean()} if judged.size else {})
    return {
        "results": means,
        "configs": {name: each.config for name, each in asked.described.items()},
        "versions": {name: asked.versions[name] for name in asked.samples},
        "n-shot": {name: each.shots for name, each in asked.described.items()},
        "n-samples": {
            name: {"original": each.total, "effective": len(asked.samples[name])}
            for name, each in asked.described.items()
        },
        "config": {
            "model": "hf",
            "batch_size": asked.batch_size,
            "device": asked.device,
            "limit": asked.limit,
            "random_seed": asked.seed,
        },
        "lm_eval_version": importlib.metadata.version("lm_eval"),
    }


def _as_written(sample: Sample) -> Sample:
    """Return a sample in the form of lm-eval's files, in which requests have names."""
    arguments = {
        f"gen_args_{n}": {f"arg_{m}": part for m, part in enumerate(args)}
        for n, args in enumerate(sample["arguments"])
    }
    return sample | {"arguments": arguments, "target": str(sample["target"])}


def _json(content: Any) -> str:
    return json.dumps(content, default=handle_non_serializable, ensure_ascii=False)


def _prompts(samples: Sequence[Sample]) -> str:
    """Return a hash of all that a task asked, in the order of its items."""
    return sha256_of_json([list(args) for sample in samples for args in sample["arguments"]])


def _failed(samples: Sequence[Sample]) -> int:
    """Return how many answers are no numbers."""
    return sum(is_nan(answer) for sample in samples for all_ in sample["resps"] for answer in all_)
