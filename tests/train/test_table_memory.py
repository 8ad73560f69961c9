"""What distillation and calibration are said to need is what they allocate."""

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM

from hebench.train import calibrate, descent, distil, measure, student
from hebench.train.frozen import open_tokenizer
from hebench.train.memory import without_weights
from hebench.train.table_memory import calibration_bytes, distillation_bytes
from tests.train.grown_tokenizers import extend
from tests.train.made_rows import make_corpus

SIZES = {"hidden_size": 384, "num_hidden_layers": 4, "intermediate_size": 1024}
HEADS = {"num_attention_heads": 6, "num_key_value_heads": 2}
# Precision, words of a passage, whether the tables are one: short passages take less than opening.
CASES = [(kind, *sizes) for kind in ("fp32", "bf16") for sizes in ((100, False), (5, True))]
SHORT: dict[str, Any] = {"passages": 200, "batch_passages": 4, "steps": 3, "heldout_words": 10}


@pytest.fixture
def inputs(tmp_path: Path, tiny_tokenizer: Any) -> Callable[..., dict[str, Path]]:
    def made(*, tied: bool, rows: int) -> dict[str, Path]:
        config = LlamaConfig(**SIZES, **HEADS, vocab_size=rows, tie_word_embeddings=tied)
        LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
        tiny_tokenizer.save_pretrained(tmp_path / "model")
        make_corpus(tmp_path / "corpus")
        shutil.copytree(tmp_path / "corpus" / "train", tmp_path / "corpus" / "heldout")
        return {"model": tmp_path / "model", "corpus": tmp_path / "corpus"}

    return made


def allocated(work: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> tuple[int, int, int]:
    """Return the most bytes of tensors in the later steps and in all, and a batch's tokens."""
    ended, tokens = [], [0]
    learn, padded = descent.Descent.learn, measure.padded

    def learned(*given: Any, **named: Any) -> None:
        learn(*given, **named)
        ended.append(time.time_ns())

    def counted(rows: Any, filler: int) -> Any:
        found = padded(rows, filler)
        tokens.append(found[0].numel())
        return found

    # What measuring takes is next to nothing beside a real model's weights: here it would not be.
    for stage in (calibrate, distil):
        monkeypatch.setattr(stage, "bits_of", partial(measure.bits_of, batch_tokens=64))
    monkeypatch.setattr(student, "_TEACHER_TOKENS", 64)
    monkeypatch.setattr(descent.Descent, "learn", learned)
    for module in ("calibrate", "frozen"):
        monkeypatch.setattr(f"hebench.train.{module}.padded", counted)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    changes = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    live, most, steps = 0, 0, 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        live += event.nbytes()
        most = max(most, live)
        if ended[0] < event.start_ns() <= ended[-1]:
            steps = max(steps, live)
    return steps, most, max(tokens)


@pytest.mark.parametrize("case", CASES)
def test_calibration(
    inputs: Callable[..., dict[str, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[Any, int, bool],
) -> None:
    precision, words, tied = case
    folders = inputs(tied=tied, rows=4000)
    config = calibrate.CalibrateConfig(
        shares={"he": 1.0}, passage_words=words, precision=precision, **SHORT
    )
    steps, most, tokens = allocated(
        lambda: calibrate.run(config, **folders, out=tmp_path / "out"), monkeypatch
    )
    parts = calibration_bytes(without_weights(folders["model"]), precision, tokens)
    assert most / sum(parts.values()) == pytest.approx(1, abs=0.08)
    assert steps / (sum(parts.values()) - parts["opening"]) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("case", CASES)
def test_distillation(
    inputs: Callable[..., dict[str, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_tokenizer: Any,
    case: tuple[Any, int, bool],
) -> None:
    precision, words, tied = case
    folders = inputs(tied=tied, rows=len(tiny_tokenizer))
    longer, _ = extend(tiny_tokenizer, [" והנה", " הילדה", " ספר"])
    longer.save_pretrained(tmp_path / "tokenizer")
    config = distil.DistilConfig(
        language="he",
        writing="mean",
        shallow_share=0,
        passage_words=words,
        precision=precision,
        **SHORT,
    )
    steps, most, tokens = allocated(
        lambda: distil.run(
            config, **folders, tokenizer=tmp_path / "tokenizer", out=tmp_path / "out"
        ),
        monkeypatch,
    )
    new = len(open_tokenizer(tmp_path / "tokenizer")) - len(tiny_tokenizer)
    parts = distillation_bytes(
        without_weights(folders["model"]), precision, tokens, new_rows=new, on_gpu=False
    )
    assert most / sum(parts.values()) == pytest.approx(1, abs=0.08)
    assert steps / (sum(parts.values()) - parts["opening"]) == pytest.approx(1, abs=0.1)
