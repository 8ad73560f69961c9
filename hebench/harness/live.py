"""Ask a model that is in memory, in the middle of its training, and leave no trace in it.

    with undisturbed(model):
        found = ask(model, tokenizer, ("hebench_mini_nli",), limit=50, batch_size=8, seed=1234)
    found.samples["hebench_mini_nli"][0]["score"]

Processes that hold the same weights share the items: each asks every `count`-th from its own on,
and whoever gathers the samples sorts them by `doc_id`.
"""

import contextlib
import copy
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hebench.errors import one_line
from hebench.files import sha256_of_json
from hebench.harness.answers import is_truncated
from hebench.harness.prefix import PrefixLM
from hebench.harness.tasks import fingerprint, load_tasks, quiet, source_sha256
from hebench.train.allocator import as_usual

Sample = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which items a process asks: those at `rank`, `rank + count`, ..."""

    rank: int = 0
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What came of it, by task, and how it was asked; a task is in `samples` or in `failed`."""

    samples: dict[str, list[Sample]]  # as lm-eval's sample files hold them, by doc_id
    versions: dict[str, str]
    failed: dict[str, str]  # task -> why
    described: dict[str, "Described"]  # those in `samples`
    truncated: int  # requests longer than the model's context
    backend: str  # prefix, or hf where the model shares nothing
    device: str
    batch_size: int
    seed: int
    limit: int | None


@dataclass(frozen=True, kw_only=True)
class Described:
    """What a run folder says of a task beside its samples."""

    config: dict[str, Any]
    shots: int
    total: int  # items in the split
    task_sha256: str
    data_sha256: str  # over every document of the split
    source_sha256: str


def ask(  # noqa: PLR0913 (each is named at the call)
    model: Any,
    tokenizer: Any,
    tasks: Sequence[str],
    *,
    limit: int | None,
    batch_size: int,
    seed: int,
    include: Sequence[Path] = (),
    share: Share | None = None,
) -> Asked:
    """Return the samples of tasks and groups, asked of a model in memory in its own precision.

    A task that fails does not take the others with it. Raises TaskError for unknown names and
    DataError for data that cannot be had. Call it within `undisturbed`.
    """
    share = share or Share()
    loaded = load_tasks(tasks, include)["tasks"]
    with quiet():
        lm = PrefixLM(
            # A copy: lm-eval gives a tokenizer padding of its own.
            pretrained=model,
            tokenizer=copy.deepcopy(tokenizer),
            batch_size=batch_size,
        )
    samples, failed = {}, {}
    for name, task in loaded.items():
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        task.set_fewshot_seed(seed=seed)
        count = min(limit or len(task.eval_docs), len(task.eval_docs))
        try:
            samples[name] = _samples(lm, task, list(range(share.rank, count, share.count)))
        # A task is somebody's code: what it raises must not stop a training.
        except Exception as error:  # noqa: BLE001
            failed[name] = one_line(error)
    return Asked(
        samples=samples,
        versions={name: str(task.VERSION) for name, task in loaded.items()},
        failed=failed,
        described={name: _described(loaded[name]) for name in samples},
        truncated=sum(
            is_truncated(lm, loaded[name].OUTPUT_TYPE, args)
            for name, found in samples.items()
            for sample in found
            for args in sample["arguments"]
        ),
        backend="prefix" if samples and lm.branches is not None else "hf",
        device=str(model.device),
        batch_size=batch_size,
        seed=seed,
        limit=limit,
    )


def _described(task: Any) -> Described:
    return Described(
        config=task.dump_config(),
        shots=int(task.config.num_fewshot or 0),
        total=len(task.eval_docs),
        task_sha256=fingerprint(task),
        data_sha256=sha256_of_json(list(task.eval_docs)),
        source_sha256=source_sha256(task),
    )


def _samples(lm: PrefixLM, task: Any, items: list[int]) -> list[Sample]:
    from lm_eval.evaluator import evaluate

    if not items:  # fewer items than processes; an empty list means all of them to lm-eval
        return []
    name = str(task.config.task)
    with quiet():
        found = evaluate(
            lm,
            {"tasks": {name: task}, "groups": {}},
            samples={name: items},
            log_samples=True,
            bootstrap_iters=0,
        )
    return sorted(dict(found)["samples"][name], key=lambda sample: int(sample["doc_id"]))


@contextlib.contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Give back all that training depends on: random numbers, modes, gradients, cache flag.

    Within, the model evaluates: no dropout, with its cache, and in the precision of its weights,
    so without autocast, also not that which accelerate wraps around `forward`. Nothing that it
    frees is kept for training's next step.
    """
    python, numpy, torch_cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    training = [(module, module.training) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    cache = model.config.use_cache
    mixed = model.__dict__.pop("forward", None) if hasattr(model, "_original_forward") else None
    kind = model.device.type
    autocast = torch.is_autocast_enabled(kind)
    model.eval()
    model.config.use_cache = True
    try:
        torch.set_autocast_enabled(kind, False)
        with as_usual():
            yield
    finally:
        torch.set_autocast_enabled(kind, autocast)
        if mixed is not None:
            model.forward = mixed
        model.config.use_cache = cache
        for module, mode in training:
            module.training = mode
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(torch_cpu)
        if devices is not None:
            torch.cuda.set_rng_state_all(devices)
