"""Shared beginnings give the stock model's answers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.models.huggingface import HFLM

from hebench.board.read import read_run
from hebench.harness.models import identify, load_hf
from hebench.harness.prefix import SHORTEST, PrefixLM, _Branch, _common, _groups
from hebench.harness.run import EvalConfig, evaluate
from hebench.harness.tasks import load_tasks
from tests.conftest import make_tiny_model

CHOICES = ("hebench_mini_sentiment", "hebench_mini_trivia", "hebench_mini_grammar")
FREE = ("hebench_mini_qa",)


def loaded(folder: Path, *, shared: bool) -> Any:
    identity = identify(str(folder), name=None, revision=None, dtype="float32")
    return load_hf(
        str(folder), identity, dtype="float32", device="cpu", batch_size=5, shared=shared
    )


def requests_of(names: tuple[str, ...], limit: int) -> list[Any]:
    found = []
    for task in load_tasks(names)["tasks"].values():
        task.build_all_requests(limit=limit, rank=0, world_size=1)
        found += task.instances
    return found


def test_log_likelihoods_are_those_of_the_stock_model(tiny_model: Path) -> None:
    requests = requests_of(CHOICES, 8)
    stock = loaded(tiny_model, shared=False).loglikelihood(requests, disable_tqdm=True)
    ours = loaded(tiny_model, shared=True).loglikelihood(requests, disable_tqdm=True)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in stock]
    assert [value for value, _ in ours] == pytest.approx([value for value, _ in stock], abs=1e-4)


def test_generations_are_those_of_the_stock_model(tiny_model: Path) -> None:
    requests = requests_of(FREE, 4)
    stock = loaded(tiny_model, shared=False).generate_until(requests, disable_tqdm=True)
    ours = loaded(tiny_model, shared=True).generate_until(requests, disable_tqdm=True)
    assert ours == stock and any(ours)


def test_what_is_too_long_is_cut_as_the_stock_model_cuts_it(tmp_path: Path) -> None:
    short = make_tiny_model(tmp_path / "short", seed=1, context=400)
    requests = requests_of(("hebench_mini_sentiment",), 6)
    stock = loaded(short, shared=False).loglikelihood(requests, disable_tqdm=True)
    ours = loaded(short, shared=True).loglikelihood(requests, disable_tqdm=True)
    assert [value for value, _ in ours] == pytest.approx([value for value, _ in stock], abs=1e-4)


def test_the_shared_beginning_is_computed_once(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {}
    for shared in (False, True):
        lm = loaded(tiny_model, shared=shared)
        seen: list[int] = []
        forward = lm.model.forward
        monkeypatch.setattr(
            lm.model,
            "forward",
            lambda ids, *rest, forward=forward, seen=seen, **more: (
                seen.append(ids.numel()) or forward(ids, *rest, **more)
            ),
        )
        lm.loglikelihood(requests_of(("hebench_mini_sentiment",), 10), disable_tqdm=True)
        counts[shared] = sum(seen)
    assert counts[True] < counts[False] / 5


def test_a_cache_that_cannot_be_branched_goes_the_stock_way(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = loaded(tiny_model, shared=True)
    monkeypatch.setattr(PrefixLM, "_score", None)  # would fail if it were called
    monkeypatch.setattr("hebench.harness.prefix.DynamicCache", type("Other", (), {}))
    requests = requests_of(("hebench_mini_sentiment",), 3)
    stock = loaded(tiny_model, shared=False).loglikelihood(requests, disable_tqdm=True)
    assert lm.loglikelihood(requests, disable_tqdm=True) == stock


def test_groups_share_no_scored_position() -> None:
    shots = tuple(range(100))
    branches = [_Branch(n, (*shots, 200 + n), (7, 8)) for n in range(3)]
    branches.append(_Branch(3, shots, (5,) * 10))
    branches.append(_Branch(4, tuple(range(500, 600)), (1,)))
    groups = list(_groups(branches))
    assert [[branch.place for branch in group] for _, group in groups] == [[3, 0, 1, 2], [4]]
    assert [len(prefix) for prefix, _ in groups] == [90, 99]
    assert all(len(prefix) <= branch.sharable for prefix, group in groups for branch in group)
    assert _common((), (1,)) == 0 and _common((1, 2), (1, 2, 3)) == 2 and SHORTEST < 90


def test_a_run_says_which_backend_answered(tiny_model: Path, tmp_path: Path) -> None:
    tasks = ("hebench_mini_sentiment", "hebench_mini_qa")
    for backend in ("hf", "prefix"):
        evaluate(
            EvalConfig(
                model=str(tiny_model),
                tasks=tasks,
                out=tmp_path / backend,
                limit=6,
                dtype="float32",
                backend=backend,
            )
        )
    stock, ours = (read_run(tmp_path / backend) for backend in ("hf", "prefix"))
    assert ours.manifest is not None and ours.manifest.backend == "prefix"
    for name in tasks:
        assert ours.tasks[name].scores == stock.tasks[name].scores
    assert issubclass(PrefixLM, HFLM) and torch.is_inference_mode_enabled() is False
