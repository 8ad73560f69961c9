"""Pre-training, SFT and DPO of a tiny model, for one backend to be held against another.

As a program, `python -m tests.gaudi.jobs FOLDER`, it runs them on a processor with transformers'
own model code: a process that optimum-habana has changed has none left.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hebench.config import build
from hebench.models.tiny import tokenizer_of
from hebench.train import dpo, pretrain, sft
from tests.train.conftest import ENGLISH, save_tiny_model
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
        save_tiny_model(tokenizer, folder / kind, kind=kind, tied=False)


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
