"""What the tests of packed training share: a small corpus, small settings, a log without times."""

import json
from pathlib import Path
from typing import Any

from hebench.train.pretrain import PretrainConfig
from hebench.train.settings import TrainingConfig
from tests.conftest import DEVICE
from tests.train.conftest import ENGLISH

TIMES = ("seconds", "tokens_per_second")
SHARES = {"en": 0.5, "he": 0.5}


def training(**changes: Any) -> TrainingConfig:
    """Return settings for a model of two layers: 6 steps of 4 rows of 64 tokens."""
    values: dict[str, Any] = {
        "backend": DEVICE,
        "row_tokens": 64,
        "micro_rows": 2,
        "global_rows": 4,
        "steps": 6,
        "learning_rate": 1e-3,
        "save_every": 2,
        "threads": 1,
    }
    return TrainingConfig(**{**values, **changes})


def pretraining(**changes: Any) -> PretrainConfig:
    """Return a stage's configuration: half and half of two languages."""
    return PretrainConfig(shares=SHARES, training=training(**changes))


def make_corpus(folder: Path, documents: int = 60) -> Path:
    """Write train/<language>/<source>.jsonl with documents of many lengths; return `folder`."""
    for language, step in (("he", 7), ("en", 11)):
        source = folder / "train" / language / "ferry.jsonl"
        source.parent.mkdir(parents=True)
        texts = [ENGLISH[i * step % 900 :][: 20 + (i * 37) % 230] for i in range(documents)]
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder


def curve(out: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log without the columns that tell the time."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in line if key not in TIMES} for line in lines]
