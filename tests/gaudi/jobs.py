"""Pre-training, SFT and DPO of a tiny model, for one backend to be held against another.

As a program, `python -m tests.gaudi.jobs FOLDER`, it runs them on a processor with transformers'
own model code: a process that optimum-habana has changed has none left.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from hebench.config import build
from hebench.models.tiny import tokenizer_of
from hebench.train import dpo, pretrain, sft
from tests.train.conftest import ENGLISH
from tests.train.made_rows import curve, make_corpus, pretraining

KINDS = ("llama", "mistral")
STAGES = ("pretrain", "sft", "dpo")
_TRAINING = {"row_tokens": 320, "micro_rows": 1, "global_rows": 2, "steps": 3, "threads": 1}
_TRAINING |= {"learning_rate": 1e-3, "save_every": 3}
_ASKED = [f"Where is the captain on day {day}?" for day in range(12)]


def make(folder: Path) -> None:
    """Write to a folder what the jobs read: a model of each kind, a corpus, talks and pairs."""
    make_corpus(folder / "corpus")
    chosen = ("At the pier, with the ferry.", "On the island, as always.", "Nobody knows.")
    talks = [{"prompt": asked, "response": chosen[n % 3]} for n, asked in enumerate(_ASKED)]
    pairs = [
        {"prompt": asked, "chosen": chosen[0], "rejected": "In winter " * (1 + n % 3)}
        for n, asked in enumerate(_ASKED)
    ]
    for name, rows in (("talks", talks), ("pairs", pairs)):
        (folder / name).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    tokenizer = tokenizer_of(ENGLISH.splitlines(), pieces=400)
    for kind in KINDS:
        config = AutoConfig.for_model(
            kind,
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=False,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            initializer_range=0.2,  # at the default scale a random model's answers are nearly equal
        )
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder / kind)
        tokenizer.save_pretrained(folder / kind)


def run(
    folder: Path,
    kind: str,
    stage: str,
    backend: str,
    callbacks: Sequence[Any] = (),
    **changes: Any,
) -> Path:
    """Run one stage from the model of a kind; return its folder. changes: of pre-training."""
    model, out = folder / kind, folder / backend / kind / stage
    training = _TRAINING | {"backend": backend}
    if stage == "pretrain":
        pretrain.run(
            pretraining(backend=backend, **changes),
            model=model,
            corpus=folder / "corpus",
            out=out,
            callbacks=callbacks,
        )
    elif stage == "sft":
        sft.run(
            build(sft.SftConfig, {"training": training}, "test"),
            model=model,
            data=folder / "talks",
            out=out,
        )
    else:
        dpo.run(
            build(dpo.DpoConfig, {"training": training, "beta": 0.1}, "test"),
            model=model,
            data=folder / "pairs",
            out=out,
        )
    return out


def numbers(out: Path) -> list[dict[str, Any]]:
    """Return a log's lines, without the gradient's norm: Gaudi's Trainer logs its own clip's."""
    return [{name: line[name] for name in line if name != "grad_norm"} for line in curve(out)]


if __name__ == "__main__":
    place = Path(sys.argv[1])
    make(place)
    for one in KINDS:
        for name in STAGES:
            run(place, one, name, "cpu")
