"""What only a GPU can show: its half precision, its memory, flash attention, a recipe on it."""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.models.huggingface import HFLM

from hebench.errors import ConfigError
from hebench.harness.prefix import PrefixLM
from hebench.train import calibrate, pretrain
from hebench.train.device import Backend, collate, load_model, logits_of
from hebench.train.leak import check_leaks
from hebench.train.memory import memory_bytes, without_weights
from hebench.train.packing import lay
from tests.conftest import DEVICE
from tests.harness import tiny_models
from tests.harness.test_prefix import CHOICES, FREE, SHARING, free, scored
from tests.real.test_adapt import POINTS, adapt, report_of
from tests.real.test_training import launch, losses
from tests.train.conftest import *  # noqa: F403 (the tiny tokenizer and models)
from tests.train.made_rows import pretraining
from tests.train.test_calibrate import config as calibration
from tests.train.test_calibrate import write_corpus
from tests.train.test_device import pieces_of

SDPA = Backend(name="cuda", attention="sdpa", convention="bool")
FLASH = Backend(name="cuda", attention="flash_attention_2", convention="positions")

flash = pytest.mark.skipif(
    importlib.util.find_spec("flash_attn") is None, reason="needs the package flash-attn"
)
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
    torch.cuda.empty_cache()  # what is reserved from here on is in use
    with memory_of(torch.cuda.memory_reserved() + 160 * 2**20):
        found = ours.loglikelihood(asked, disable_tqdm=True)
        assert ours._budget.tokens < 4096  # it was cut down from what was reckoned
        written = ours.generate_until(writes, disable_tqdm=True)
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


@flash
def test_with_flash_attention_it_trains_about_as_well(
    base: tuple[Path, Path], plain: list[float], tmp_path: Path
) -> None:
    asked = pretraining(precision="bf16", attention="flash_attention_2")
    pretrain.run(asked, model=base[0], corpus=base[1], out=tmp_path / "flash")
    assert losses(tmp_path / "flash") == pytest.approx(plain, rel=0.02)


@flash
@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_flash_attention_keeps_packed_documents_apart(
    tiny_model_folder: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    """No gradient between them, and logits as near to the documents alone in fp32 as SDPA's."""
    folder = tiny_model_folder(tmp_path, kind=kind)
    packs = [pieces_of([9, 1, 20, 2, 13]), pieces_of([40, 3, 1, 1], seed=1)]
    laid = collate([lay(pack, 48, padding_id=0) for pack in packs])
    batch = {name: tensor.cuda() for name, tensor in laid.items()}
    apart = []
    with torch.no_grad():
        alone = logits_of(load_model(folder, "sdpa").eval().cuda(), batch, SDPA)
    for backend in (SDPA, FLASH):
        model = load_model(folder, backend.attention).eval().cuda()
        with torch.autocast("cuda", torch.bfloat16):
            check_leaks(model, backend)
            with torch.no_grad():
                found = logits_of(model, batch, backend)
        apart.append((found - alone)[batch["document_ids"] >= 0].abs().mean())
    assert 0 < apart[1] < 1.5 * apart[0]


# A process of its own, so that all it takes is the training's.
TRAINS = """
import json, sys
from pathlib import Path
import torch
from hebench.train import pretrain
from tests.train.made_rows import pretraining

settings, model, corpus, out, _ = sys.argv[1:]
asked = pretraining(**json.loads(settings))
pretrain.run(asked, model=Path(model), corpus=Path(corpus), out=Path(out))
Path(out).with_name("most").write_text(str(torch.cuda.max_memory_allocated()))
"""


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    "chosen",
    [
        {"precision": "fp32", "attention": "sdpa"},
        {"precision": "bf16", "attention": "sdpa"},
        pytest.param({"precision": "bf16", "attention": "flash_attention_2"}, marks=flash),
        # Rows so short that beside states there is hardly more than DeepSpeed's bucket.
        {"precision": "bf16", "attention": "sdpa", "zero_stage": 2, "row_tokens": 64},
    ],
    ids=["fp32", "bf16", "flash", "zero"],
)
def test_memory_is_about_what_was_worked_out(
    base: tuple[Path, Path], tmp_path: Path, chosen: dict[str, Any], checkpointing: bool
) -> None:
    folder = larger_model(base[0], tmp_path / "model")
    settings = {"row_tokens": 1024, "steps": 2, "activation_checkpointing": checkpointing} | chosen
    backend = SDPA if chosen["attention"] == "sdpa" else FLASH
    network = without_weights(folder)
    parts = memory_bytes(pretraining(**settings).training, backend, network, None)
    code, errors = launch(1, settings, (folder, base[1]), tmp_path / "run", does=TRAINS)
    assert code == 0, errors
    found = int((tmp_path / "most").read_text())
    assert found / sum(parts.values()) == pytest.approx(1, abs=0.2), (found, parts)


@contextlib.contextmanager
def memory_of(size: float) -> Iterator[None]:
    """Leave this process so many bytes of the device's memory."""
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(size / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_calibration_reads_less_at_a_time_where_memory_asks_with_the_same_result(
    base: tuple[Path, Path], tmp_path: Path
) -> None:
    model, corpus = larger_model(base[0], tmp_path / "model"), write_corpus(tmp_path / "corpus")
    asked = calibration(passages=64, passage_words=18, batch_passages=32, steps=4)
    found, most = [], [float(torch.cuda.get_device_properties(0).total_memory)]
    for share, name in ((1.0, "whole"), (0.75, "parts")):
        with memory_of(share * most[-1]):
            torch.cuda.reset_peak_memory_stats()
            record = calibrate.run(asked, model=model, corpus=corpus, out=tmp_path / name)
            found.append(record.metrics)
            most.append(float(torch.cuda.max_memory_reserved()))
    assert most[2] <= 0.75 * most[1]
    for name in ("training_loss_nats", "bits_per_byte.he", "bits_per_byte.en"):
        assert found[1][name] == pytest.approx(found[0][name], rel=1e-3), name


def test_training_without_the_memory_for_it_is_one_line(
    base: tuple[Path, Path], tmp_path: Path
) -> None:
    model = larger_model(base[0], tmp_path / "model")  # whose weights are 0.3 GiB of this
    with (
        memory_of(torch.cuda.memory_allocated() + 0.7 * 2**30),
        pytest.raises(ConfigError, match=r"memory for micro_rows=2 rows of 64 tokens, found too"),
    ):
        pretrain.run(pretraining(), model=model, corpus=base[1], out=tmp_path / "run")


def larger_model(base: Path, folder: Path) -> Path:
    """Save a random Llama of 81 million parameters with the tokenizer of another; return it."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=8,
        num_attention_heads=12,
        num_key_value_heads=12,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def test_a_recipe_runs_on_it_from_end_to_end(tmp_path: Path) -> None:
    placed = [f"{stage}.training.backend=cuda" for stage in ("pretrain", "sft", "dpo")]
    placed += ["selection.evaluate.device=cuda", "selection.choose.device=cuda"]
    done = adapt("tiny", f"out={tmp_path / 'run'}", "measure.device=cuda", *placed)
    assert done.returncode == 0, done.stderr
    rows = report_of(tmp_path / "run")["rows"]
    assert [row["name"] for row in rows] == POINTS
    bits = [row["languages"]["he"]["bits_per_byte"] for row in rows]
    assert bits[3] < bits[1]
