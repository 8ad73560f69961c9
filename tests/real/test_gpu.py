"""What only a GPU can show: its half precision, lack of its memory, a recipe that runs on it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.models.huggingface import HFLM

from hebench.harness.prefix import PrefixLM
from hebench.train import pretrain
from tests.conftest import DEVICE
from tests.harness import tiny_models
from tests.harness.test_prefix import CHOICES, FREE, SHARING, free, scored
from tests.real.test_adapt import POINTS, adapt, report_of
from tests.real.test_training import launch, losses
from tests.train.conftest import *  # noqa: F403 (the tiny tokenizer and models)
from tests.train.made_rows import pretraining

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU and HEBENCH_TEST_DEVICE=cuda"),
]


def pair(tiny_model: Path, architecture: str, dtype: Any, rows: int = 4) -> tuple[Any, Any]:
    """Return the stock model and ours around one random model."""
    model = tiny_models.build(architecture).to(dtype)
    tokenizer = tiny_models.tokenizer_of(tiny_model)
    return tuple(
        kind(pretrained=model, tokenizer=tokenizer, batch_size=rows) for kind in (HFLM, PrefixLM)
    )


@pytest.mark.parametrize("architecture", tiny_models.ARCHITECTURES)
def test_in_half_precision_scores_are_as_near_to_float32_as_the_stock_models(
    tiny_model: Path, architecture: str
) -> None:
    exact, _ = pair(tiny_model, architecture, torch.float32)
    stock, ours = pair(tiny_model, architecture, torch.bfloat16)
    right, theirs, found = (
        torch.tensor([value for value, _ in lm.loglikelihood(CHOICES, disable_tqdm=True)])
        for lm in (exact, stock, ours)
    )
    assert (found - right).abs().mean() < 1.5 * (theirs - right).abs().mean()
    assert ours.branches is not None
    assert all(ours.generate_until(FREE, disable_tqdm=True))


def test_lack_of_the_devices_memory_changes_the_passes_and_not_the_answers(
    tiny_model: Path,
) -> None:
    kinds = ("נעים", "רועש", "יקר")
    filler = "".join(f"ביקורת {n}: המקום {kinds[n % 3]}, השירות טוב.\n" for n in range(120))
    asked = [scored(f"{filler}{n}\n{filler}תשובה:", " חיובי") for n in range(4)]
    writes = [*SHARING, free(f"{filler}תשובה:", 24)]
    stock, ours = pair(tiny_model, "llama", torch.float32)
    expected = stock.loglikelihood(asked, disable_tqdm=True)
    texts = stock.generate_until(writes, disable_tqdm=True)
    assert ours.branches is not None  # which reads a small tree to see that it can
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 160 * 2**20) / total)
    try:
        found = ours.loglikelihood(asked, disable_tqdm=True)
        assert ours._budget.tokens < 4096  # it was cut down from what was reckoned
        written = ours.generate_until(writes, disable_tqdm=True)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert [value for value, _ in found] == pytest.approx(
        [value for value, _ in expected], abs=1e-4 * len(filler)
    )
    assert written == texts


@pytest.fixture(scope="module")
def plain(base: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses of a run in float32 without DeepSpeed."""
    out = tmp_path_factory.mktemp("plain") / "pretrain"
    pretrain.run(pretraining(), model=base[0], corpus=base[1], out=out)
    return losses(out)


@pytest.mark.parametrize("stage", [0, 2])
def test_half_precision_trains_about_as_well(
    base: tuple[Path, Path], plain: list[float], tmp_path: Path, stage: int
) -> None:
    settings = {"zero_stage": stage, "precision": "bf16"}
    code, errors = launch(1, settings, base, tmp_path / "half")
    assert code == 0, errors
    assert losses(tmp_path / "half") == pytest.approx(plain, rel=0.02)


def test_a_recipe_runs_on_it_from_end_to_end(tmp_path: Path) -> None:
    placed = [f"{stage}.training.backend=cuda" for stage in ("pretrain", "sft", "dpo")]
    placed += ["selection.evaluate.device=cuda", "selection.choose.device=cuda"]
    done = adapt("tiny", f"out={tmp_path / 'run'}", "measure.device=cuda", *placed)
    assert done.returncode == 0, done.stderr
    rows = report_of(tmp_path / "run")["rows"]
    assert [row["name"] for row in rows] == POINTS
    bits = [row["languages"]["he"]["bits_per_byte"] for row in rows]
    assert bits[3] < bits[1]
