"""Evaluate a model on tasks and write the run folder."""

import contextlib
import datetime
import importlib.metadata
import inspect
import json
import os
import platform
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from lm_eval.api.model import LM
from lm_eval.models.utils import normalize_gen_kwargs

from hebench.errors import ConfigError, HebenchError, TaskError, one_line
from hebench.files import read_jsonl, require_writable, sha256_of_json
from hebench.harness.answers import ANSWERS_NAME, AnswerLog, resume, settings_of
from hebench.harness.models import (
    BASELINE_PREFIX,
    BaselineLM,
    identify,
    identify_served,
    load_local,
    settings_sha256,
)
from hebench.harness.served import ServedModel
from hebench.harness.tasks import fingerprint, load_tasks, quiet, source_sha256
from hebench.metrics import text
from hebench.processes import leave_gloo_at_exit, rank
from hebench.records import MANIFEST_NAME, MANIFEST_SCHEMA, Model, RunManifest

TRACKS = ("base", "chat", "thinking")
DTYPES = ("bfloat16", "float16", "float32", "auto")
BACKENDS = ("prefix", "hf", "vllm", "openai")
_VLLM_AT_ONCE = 2048  # requests: many times what it batches, minutes of work for a GPU
_PACKAGES = (
    "hebench",
    "lm_eval",
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "numpy",
    "sacrebleu",
    "rouge_score",
    "rapidfuzz",
)


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """What to evaluate, on what, and how."""

    model: str  # a folder, a Hub id (owner/name), or baseline:<name>
    tasks: tuple[str, ...]  # task or group names
    out: Path  # the run folder
    name: str | None = None  # what tables print; None for the folder's or the Hub's name
    revision: str | None = None  # Hub branch, tag or commit
    dtype: str = "bfloat16"  # of the weights and of the computation
    device: str = "cpu"  # as torch names it
    batch_size: int = 8  # requests a forward pass; prefix and vllm reckon in tokens instead
    limit: int | None = None  # items a task, from the first; None for all
    split: str | None = None  # None for each task's own reported split
    text: str | None = None  # a text file of the user's, for tasks that read running text
    seed: int = 1234
    # base, chat or thinking; the latter two apply the model's chat template, telling it which.
    # Of a server it only says what the server does: whether it thinks is set there.
    track: str = "base"
    backend: str = "prefix"  # shared beginnings; hf: lm-eval's own; vllm; openai: a chat server
    base_url: str | None = None  # of that server, such as http://localhost:8000/v1
    concurrency: int = 4  # requests at a time to that server
    max_tokens: int | None = None  # of a free answer; None for what each task says
    include: tuple[Path, ...] = ()  # further task folders, beside the packaged one

    def __post_init__(self) -> None:
        """Refuse values that contradict each other or mean nothing."""
        if not self.tasks:
            raise ConfigError("expected at least one task, found none; name one with --tasks")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"--limit: expected at least 1 item, found {self.limit}")
        for name in ("batch_size", "concurrency", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                option = name.replace("_", "-")
                raise ConfigError(f"--{option}: expected at least 1, found {value}")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"--seed: expected 0 to {2**32 - 1}, found {self.seed}")
        if self.dtype not in DTYPES:
            raise ConfigError(f"--dtype: expected {', '.join(DTYPES)}, found {self.dtype!r}")
        if self.track not in TRACKS:
            raise ConfigError(f"--track: expected {', '.join(TRACKS)}, found {self.track!r}")
        if self.backend not in BACKENDS:
            raise ConfigError(f"--backend: expected {', '.join(BACKENDS)}, found {self.backend!r}")
        if (self.backend == "openai") != (self.base_url is not None):
            raise ConfigError("--backend openai and --base-url go together")
        if self.backend == "openai" and self.track == "base":
            raise ConfigError("a chat server applies a chat template: add --track chat")
        if self.revision is not None and self.base_url is not None:
            raise ConfigError("--revision: a chat server chooses it; leave the option out")


def evaluate(config: EvalConfig) -> RunManifest:
    """Run the tasks, write the run folder, and return its manifest.

    A folder that already holds this very evaluation is returned as it is; one that holds a part
    of it is completed. Raises HebenchError for anything that the user can mend.
    """
    _require_shareable(config)
    require_writable(config.out)
    loaded = load_tasks(config.tasks, config.include, split=config.split, text=config.text)
    _require_used(config, loaded)
    identity = (
        identify_served(config.model, name=config.name)
        if config.backend == "openai"
        else identify(config.model, name=config.name, revision=config.revision, dtype=config.dtype)
    )
    baseline = None
    if config.model.startswith(BASELINE_PREFIX):
        baseline = BaselineLM(config.model.removeprefix(BASELINE_PREFIX), config.seed)
        loaded = _applicable(baseline, loaded, config)
    versions = {name: str(task.VERSION) for name, task in loaded["tasks"].items()}
    fingerprints = {name: fingerprint(task) for name, task in loaded["tasks"].items()}
    data = {name: sha256_of_json(list(task.eval_docs)) for name, task in loaded["tasks"].items()}
    source = {name: source_sha256(task) for name, task in loaded["tasks"].items()}
    settings = _settings(config, identity)
    earlier = RunManifest.read(config.out)
    if (
        earlier
        and settings_of(config.out / ANSWERS_NAME) == settings
        and _is_same(earlier, identity, config, fingerprints, data)
        and earlier.source_sha256 == source
    ):
        return earlier

    at_once = _VLLM_AT_ONCE if config.backend == "vllm" else None
    log = AnswerLog(config.out / ANSWERS_NAME, settings, versions, rank=rank(), at_once=at_once)
    try:
        lm = baseline or _load(config, identity, log)
        started, clock = datetime.datetime.now(datetime.UTC), time.perf_counter()
        results = _ask_and_score(lm, loaded, config, identity)
        seconds = time.perf_counter() - clock
        counts = _summed(lm, log, loaded)
        if rank() == 0:
            log.merge()
    except BaseException:  # Ctrl-C, too: whatever ended it before its first answer
        log.drop_begun()
        raise
    finally:
        log.close()
    if results is None:  # the first process writes
        return _written(lm, config.out)
    device = _device_of(lm, config)
    prompts = _prompt_sha256(results["samples"])
    _save(results, identity, config.out)
    manifest = RunManifest(
        schema=MANIFEST_SCHEMA,
        model=_answering(lm, identity, log),
        track=config.track,
        backend=_backend_of(lm, config),
        batch_size=config.batch_size,
        device=device,
        seed=config.seed,
        limit=config.limit,
        split=config.split,
        max_tokens=config.max_tokens,
        tasks=tuple(loaded["tasks"]),
        task_sha256=fingerprints,
        task_versions=versions,
        data_sha256=data,
        prompt_sha256=prompts,
        metric_signatures=text.signatures(),
        versions=package_versions(),
        hardware=hardware_of(device),
        started=started.isoformat(timespec="seconds"),
        seconds=round(seconds, 1),
        requests=counts["total"],
        requests_reused=counts["reused"],
        requests_truncated=counts["truncated"],
        requests_failed=counts["failed"],
        source_sha256=source,
    )
    manifest.write(config.out)
    _wait_for_all(lm)
    return manifest


def _settings(config: EvalConfig, identity: Model) -> dict[str, Any]:
    """Return what answers depend on beside the request itself."""
    exact = identity.dtype in ("float32", None)
    return {
        "model": identity.source,
        "revision": identity.revision,
        "weights_sha256": identity.weights_sha256,
        "settings_sha256": settings_sha256(config.model),
        "dtype": identity.dtype,
        "batch_size": config.batch_size,
        "device": config.device.partition(":")[0],  # another GPU of one machine goes on
        "seed": config.seed,
        "track": config.track,
        "base_url": config.base_url,
        # In float32, prefix and hf answer alike; below, their last digits differ.
        "engine": None if config.backend != "vllm" and exact else config.backend,
    }


def _require_shareable(config: EvalConfig) -> None:
    """Raise ConfigError if a launcher started several processes that cannot share the work."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    alone = config.model.startswith(BASELINE_PREFIX) or config.backend != "prefix"
    if count > 1 and alone:
        raise ConfigError(
            f"expected one process, found {count}: only --backend prefix shares out the work of a "
            "model among several; start hebench without a launcher"
        )


def _require_used(config: EvalConfig, loaded: dict[str, Any]) -> None:
    """Raise ConfigError for a split, or a text, that the loader of no chosen task takes."""
    loaders = [task.config.custom_dataset for task in loaded["tasks"].values()]
    taken = [
        parameter
        for loader in loaders
        if loader is not None
        for parameter in inspect.signature(loader).parameters.values()
    ]
    for option in ("split", "text"):
        # A loader of a user's may take it among others, as `**kwargs`; ours have no use for `**_`.
        if getattr(config, option) is not None and not any(
            each.name == option or (each.kind is each.VAR_KEYWORD and each.name != "_")
            for each in taken
        ):
            raise ConfigError(
                f"--{option}: expected a task that has a choice of it, found "
                f"{', '.join(config.tasks)}; leave the option out"
            )


def _device_of(lm: LM, config: EvalConfig) -> str:
    """Return where the answers were computed, as torch names it."""
    if config.backend == "vllm":
        return config.device  # it does not say
    return str(lm.device) if hasattr(lm, "model") else "cpu"


def _answering(lm: LM, identity: Model, log: AnswerLog) -> Model:
    """Return what is known of a model once it has answered."""
    if hasattr(lm, "model") and hasattr(lm.model, "num_parameters"):
        dtype = str(lm.model.dtype).removeprefix("torch.")  # which `auto` does not say
        return replace(identity, parameters=int(lm.model.num_parameters()), dtype=dtype)
    if isinstance(lm, ServedModel):
        # The server may answer under another name than it was asked for: a dated snapshot, say.
        return replace(identity, revision=" ".join(sorted(log.served)) or None)
    return identity


def _summed(lm: LM, log: AnswerLog, loaded: dict[str, Any]) -> dict[str, int]:
    """Return the counts of requests over all processes of the run; on the first process only."""
    own = {name: getattr(log, name) for name in ("reused", "truncated", "failed")}
    own["total"] = sum(len(task.instances) for task in loaded["tasks"].values())
    if lm.world_size == 1:
        return own
    every = lm.gather_object(own, dst=0) or []
    return {name: sum(counts[name] for counts in every) for name in own}


def _wait_for_all(lm: LM) -> None:
    if lm.world_size > 1:
        lm.barrier()


def _written(lm: LM, out: Path) -> RunManifest:
    """Return the manifest that the first process writes."""
    _wait_for_all(lm)
    manifest = RunManifest.read(out)
    if manifest is None:
        raise ConfigError(f"the first process of the run wrote no {MANIFEST_NAME} to {out}")
    return manifest


def _backend_of(lm: LM, config: EvalConfig) -> str:
    """Return the backend that answered: a model that shares nothing is answered by stock code."""
    if isinstance(lm, BaselineLM):
        return "baseline"
    return "hf" if config.backend == "prefix" and lm.branches is None else config.backend


def _as_of_one_process(items: list[dict[str, Any]], repeats: int) -> None:
    """Put samples in the order of the task, without what lm-eval asks to keep processes in step."""
    items.sort(key=lambda item: item["doc_id"])
    for item in items:
        item["resps"] = [answers[:repeats] for answers in item["resps"]]


def _prompt_sha256(samples: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    """Return a hash of all that each task asked, in the order of its items."""
    found = {}
    for name, items in samples.items():
        asked = {item["doc_id"]: [list(args) for args in item["arguments"]] for item in items}
        found[name] = sha256_of_json([args for doc_id in sorted(asked) for args in asked[doc_id]])
    return found


def _applicable(baseline: BaselineLM, loaded: dict[str, Any], config: EvalConfig) -> dict[str, Any]:
    """Return only the tasks that the baseline can answer, without (then partial) groups."""
    tasks = {
        name: task
        for name, task in loaded["tasks"].items()
        if baseline.applies([task.eval_docs[0]])
    }
    if not tasks:
        raise TaskError(f"{config.model} does not apply to any of {', '.join(config.tasks)}")
    return {"tasks": tasks, "groups": {}}


def _is_same(
    earlier: RunManifest,
    identity: Model,
    config: EvalConfig,
    fingerprints: dict[str, str],
    data: dict[str, str],
) -> bool:
    """Return whether a run under the same settings asked the same, by the same code."""
    return (
        earlier.model.name == identity.name
        and earlier.max_tokens == config.max_tokens
        and earlier.limit == config.limit
        and earlier.split == config.split
        and earlier.task_sha256 == fingerprints
        and earlier.data_sha256 == data
        and earlier.versions == package_versions()
    )


def _load(config: EvalConfig, identity: Model, log: AnswerLog) -> LM:
    """Return the model, which answers from `log` first; a baseline's answers are never kept."""
    if config.base_url is not None:
        lm: LM = ServedModel(
            config.model, config.base_url, concurrency=config.concurrency, seed=config.seed
        )
    else:
        leave_gloo_at_exit()
        lm = load_local(
            config.model,
            identity,
            backend=config.backend,
            dtype=config.dtype,
            device=config.device,
            batch_size=config.batch_size,
            seed=config.seed,
            thinking=None if config.track == "base" else config.track == "thinking",
        )
    resume(lm, log)
    return lm


def _ask_and_score(
    lm: LM, loaded: dict[str, Any], config: EvalConfig, identity: Model
) -> dict[str, Any] | None:
    """Return lm-eval's results with its samples, as its `simple_evaluate` would.

    None in a process of `accelerate launch` that is not the first. `simple_evaluate` itself is
    not used: it asks git about the current folder and spends seconds on a
    description of the machine, which `run.json` holds anyway.
    """
    from lm_eval.evaluator import evaluate as run_tasks
    from lm_eval.loggers.utils import add_tokenizer_info

    random.seed(config.seed)
    np.random.seed(config.seed)
    if hasattr(lm, "model"):
        import torch

        torch.manual_seed(config.seed)
    for task in loaded["tasks"].values():
        if config.max_tokens and task.get_config("output_type") == "generate_until":
            task.set_config("generation_kwargs", {"max_gen_toks": config.max_tokens}, update=True)
        _require_askable(lm, task, config.limit)
        task.set_fewshot_seed(seed=config.seed)
    if config.track != "base":
        _require_template(lm, config)
    with quiet():
        # Standard errors of means are closed-form; our intervals come from the items anyway.
        results = run_tasks(
            lm,
            loaded,
            limit=config.limit,
            log_samples=True,
            bootstrap_iters=100,
            apply_chat_template=config.track != "base",
            fewshot_as_multiturn=config.track != "base",
        )
    if results is None:
        return None
    found = dict(results)
    for name, items in found["samples"].items():
        _as_of_one_process(items, loaded["tasks"][name].config.repeats)
    found["config"] = {
        "model": "hf",
        "model_args": {"pretrained": identity.source, "dtype": config.dtype},
        "batch_size": config.batch_size,
        "device": config.device,
        "limit": config.limit,
        "random_seed": config.seed,
        "numpy_seed": config.seed,
        "torch_seed": config.seed,
        "fewshot_seed": config.seed,
    }
    found["date"] = time.time()
    found["lm_eval_version"] = importlib.metadata.version("lm_eval")
    if hasattr(lm, "model"):
        found["transformers_version"] = importlib.metadata.version("transformers")
        add_tokenizer_info(found, lm)
    return found


def _require_template(lm: LM, config: EvalConfig) -> None:
    """Raise ConfigError if the model cannot turn messages into a prompt."""
    try:
        lm.apply_chat_template([{"role": "user", "content": "?"}])
    except (ValueError, TypeError, jinja2.TemplateError) as error:
        raise ConfigError(
            f"--track {config.track}: expected a chat template beside the model, found "
            f"{one_line(error, 120)}; add one, or use --track base"
        ) from error


def _require_askable(lm: LM, task: Any, limit: int | None) -> None:
    """Raise ConfigError for a task that stock code could not be asked as this run is set up.

    Of several processes that read running text each waits for the others there, and one that finds
    all its answers in the log never comes; nor may one of them be left without an item. A model of
    vLLM that thinks scores no given answers. Free answers must leave room for a prompt.
    """
    kind, name = task.get_config("output_type"), task.config.task
    if kind == "loglikelihood_rolling" and lm.world_size > 1 and lm.branches is None:
        raise ConfigError(
            f"{name} can be asked of this model by one process only, since it shares nothing; "
            "start hebench without a launcher"
        )
    if kind != "generate_until" and getattr(lm, "enable_thinking", None):
        raise ConfigError(
            f"--track thinking: with --backend vllm expected tasks with free answers, found {name}"
        )
    decoder = getattr(lm, "backend", "causal") == "causal"  # others keep prompt and answer apart
    if kind == "generate_until" and decoder and hasattr(lm, "max_length"):
        options = task.get_config("generation_kwargs") or {}
        tokens = normalize_gen_kwargs(options, lm.max_gen_toks)["max_gen_toks"]
        if tokens >= lm.max_length:
            raise ConfigError(
                f"{name} lets answers have {tokens} tokens, and the whole context of the model has "
                f"{lm.max_length}; limit them with --max-tokens"
            )
    items = min(limit or len(task.eval_docs), len(task.eval_docs))
    if items < lm.world_size:
        raise ConfigError(
            f"{name}: expected an item for each of {lm.world_size} processes, found {items}; "
            "start fewer"
        )


def _save(results: dict[str, Any], identity: Model, out: Path) -> None:
    """Write lm-eval's own files aside, read them back, and move them into `out`.

    lm-eval only logs a failed write, so the files themselves are the evidence.
    Raises ConfigError if one is missing, short or unreadable.
    """
    from lm_eval.loggers import EvaluationTracker

    samples = results.pop("samples")
    with tempfile.TemporaryDirectory(dir=out, prefix=".partial-") as aside:
        tracker = EvaluationTracker(output_path=aside)
        tracker.general_config_tracker.log_experiment_args(
            model_source="hf",
            model_args={"pretrained": identity.source},
            system_instruction=None,
            chat_template=None,
            fewshot_as_multiturn=False,
        )
        with quiet():
            tracker.save_results_aggregated(results=results, samples=samples)
            for task, task_samples in samples.items():
                tracker.save_results_samples(task_name=task, samples=task_samples)
        written = sorted(Path(aside).glob("*/*.json*"))
        _require_whole(written, {task: len(items) for task, items in samples.items()}, out)
        (out / MANIFEST_NAME).unlink(missing_ok=True)  # until the new one is there, not complete
        for path in written:
            path.replace(out / path.name)


def _require_whole(written: Sequence[Path], counts: dict[str, int], out: Path) -> None:
    names = {path.name: path for path in written}
    try:
        (results,) = [name for name in names if name.startswith("results_")]
        json.loads(names[results].read_text(encoding="utf-8"))
        stamp = results.removeprefix("results_").removesuffix(".json")
        for task, count in counts.items():
            found = sum(1 for _ in read_jsonl(names[f"samples_{task}_{stamp}.jsonl"]))
            if found != count:
                raise ValueError(f"{task}: expected {count} items, found {found}")
    except (KeyError, ValueError, HebenchError, OSError) as error:
        disk = os.statvfs(out)
        raise ConfigError(
            f"the results could not be written whole to {out} "
            f"({disk.f_bavail * disk.f_frsize / 1e6:.0f} MB free there); the answers are kept in "
            f"{ANSWERS_NAME}: make room and run the same command again"
        ) from error


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that scores depend on, by name."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def hardware_of(device: str) -> dict[str, str]:
    """Return what this machine is, and the accelerator if `device` is one, by name."""
    found = {
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": str(
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        ),
    }
    if device.startswith("cuda"):
        import torch

        found["accelerator"] = torch.cuda.get_device_name(torch.device(device))
    return found
