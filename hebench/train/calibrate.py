"""Stage `calibrate`: the input table and the head learn to work with the new pieces.

After distillation the model reads its new pieces and hardly writes them. Here both tables train
on next-token prediction with the body frozen (DictaLM 2.0, arXiv 2407.07080, section 3), on short
passages of the language mixed with passages of others, so that those are not forgotten.

A new piece is rare, and its own rows learn from it alone. What all rows have to learn, every token
teaches: beside the rows trains one linear map for each table, which is in the table when training
ends (row of t = r_t (I + M)), so that the model stays what it was.

After that text can be read without a gradient (`head_seconds`, `head_steps`), in a third of the
time, and the head fitted to all of its states at once (`heads.py`): with the body and now the input
table fixed that is a convex problem, and a thousand rare rows want text more than anything. The
paper does not; on two CPU cores most of the time is better spent so.

    hebench train calibrate --recipe smollm2_he_cpu

    >>> run(CalibrateConfig(shares={"he": 0.85, "en": 0.15}, steps=38, ...), ...).metrics
    {'bits_per_byte.he': 2.17, 'bits_per_byte_before.he': 2.73, 'steps': 38, ...}

Any causal model can be calibrated, one with its original tokenizer too: that is the control which
tells what the new pieces bought from what the text taught. Passages are drawn as text, so that
equal seeds give equal passages in equal order whatever the tokenizer.

Letters: D hidden size.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hebench.config import plain
from hebench.errors import CheckpointError, ConfigError, DataError
from hebench.files import sha256_of_json
from hebench.train.checkpoints import (
    CheckpointRecord,
    model_sha256,
    named_failure,
    save_model,
    tokenizer_sha256,
)
from hebench.train.descent import PROGRESS, Descent, Limits, Order
from hebench.train.device import require_rows
from hebench.train.embeddings import untie
from hebench.train.frozen import (
    DTYPES,
    body_precision,
    open_model,
    open_tokenizer,
    require_logits,
)
from hebench.train.heads import refitted_rows
from hebench.train.measure import bits_of, padded, summary
from hebench.train.passages import Passage, drawn, held_out, prefix_id
from hebench.train.settings import Precision
from hebench.train.stage import StageRecord, open_stage
from hebench.train.student import Followed
from hebench.train.tables import Tables, softcap
from hebench.train.texts import corpus_sha256

MODEL = "model"
# While the stage is not finished: how far the reading for the head is, and the states.
READING, STATES = "reading.pt", "states.f16"
_OFTEN = 4  # times that a row must follow to be fitted: what fewer say of it is chance


@dataclass(frozen=True, kw_only=True)
class CalibrateConfig:
    """On which text, at which rates, for how long the two tables train."""

    shares: Mapping[str, float]  # of the passages, by language code; they add up to 1
    passages: int  # drawn from the corpus, of all languages together
    passage_words: int = 60  # whitespace words
    batch_passages: int = 2
    steps: int | None = None  # optimiser steps
    seconds: float | None = None  # of training
    learning_rate: float = 5e-4  # peak, of Adam, for the head
    reading_rate: float = 3e-3  # peak, of Adam, for the input table's rows where they occur
    map_rate: float = 0.2  # peak, for both maps: what share of a row a step can move; 0: no maps
    warmup_steps: int = 10
    head_steps: int | None = None  # batches read after that, to fit the head to
    head_seconds: float | None = None  # of that reading; without either it is not fitted
    head_language: str | None = None  # rows that occur in its text are fitted; None: in any
    heldout_words: int = 300  # whitespace words measured, of each source
    precision: Precision = "fp32"  # of the frozen body; the tables are fp32
    threads: int | None = None  # of the CPU; None leaves PyTorch's choice
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse shares that do not add up, sizes that are none, and a loop without an end."""
        if abs(sum(self.shares.values()) - 1) > 1e-6 or min(self.shares.values(), default=0) <= 0:
            raise ConfigError(
                f"shares: expected numbers above 0 that add up to 1, found {dict(self.shares)}"
            )
        for name in ("passages", "passage_words", "batch_passages", "heldout_words"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, found {getattr(self, name)}")
        if not self.reading_rate > 0:
            raise ConfigError(f"reading_rate: expected more than 0, found {self.reading_rate}")
        if not self.map_rate >= 0:
            raise ConfigError(f"map_rate: expected 0 or more, found {self.map_rate}")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads: expected at least 1, found {self.threads}")
        for name in ("head_steps", "head_seconds"):
            if not (getattr(self, name) is None or 0 < getattr(self, name) < math.inf):
                raise ConfigError(f"{name}: expected more than 0, found {getattr(self, name)}")
        if self.head_language is not None and self.head_language not in self.shares:
            raise ConfigError(
                f"head_language: expected one of {', '.join(sorted(self.shares))}, found "
                f"{self.head_language!r}"
            )
        self.limits()

    def head_limits(self) -> Limits | None:
        """Return when the reading for the head ends; None if there is none."""
        if self.head_steps is None and self.head_seconds is None:
            return None
        return Limits(  # of a loop that only reads: its rate moves nothing
            steps=self.head_steps, seconds=self.head_seconds, learning_rate=1.0, warmup_steps=0
        )

    def limits(self) -> Limits:
        """Return when training ends and how its rate runs."""
        return Limits(
            steps=self.steps,
            seconds=self.seconds,
            learning_rate=self.learning_rate,
            warmup_steps=self.warmup_steps,
        )


def run(config: CalibrateConfig, *, model: Path, corpus: Path, out: Path) -> StageRecord:
    """Calibrate the tables of `model` into `out`/model and return the stage's record.

    corpus: with train/<language>/ and heldout/<language>/ for each of the shares. Goes on from
    its own saved state if it was cut off. Raises CheckpointError without a model, for one whose
    head is no plain one or that has fewer rows than its tokenizer pieces, DataError without text.
    """
    inputs = {"model": model_sha256(model), "tokenizer": tokenizer_sha256(model)}
    for code in config.shares:
        for part in ("train", "heldout"):
            inputs[f"{part}.{code}"] = corpus_sha256(corpus / part / code)
    with open_stage(out, "calibrate", config, inputs) as stage:
        if stage.record.finished:
            return stage.record
        tokenizer = open_tokenizer(model)
        network = _untied(model, config)
        require_rows(model, tokenizer, network.config)
        sample = {
            code: held_out(
                corpus / "heldout" / code, words=60, per_source_words=config.heldout_words
            )
            for code in config.shares
        }
        metrics = _bits(network, tokenizer, sample, "_before")
        tables = Tables(network)
        require_logits(network, lambda ids: tables.logits(network, ids, ids >= 0), "calibrate")
        precision = body_precision(config.precision, out / PROGRESS)
        network.to(DTYPES[precision])  # the body
        text = Text(training_passages(config, corpus / "train"), tokenizer, config)
        if not (out / PROGRESS).is_file():  # what was read was read by tables that are lost
            _forget_reading(out)
        descent = _train(network, tables, text, out / PROGRESS, precision)
        heard, reading_seconds = _read(network, tables, text, out, first=descent.step)
        del network  # its body is opened again, unrounded: there may be no memory for two
        network = tables.settle(_untied(model, config))
        head_seconds = reading_seconds + _fit_head(network, text, out, heard)
        numbers = text.numbers(heard.stop) | {
            "steps": descent.step,
            "precision": precision,
            "head_steps": len(heard),
            "training_seconds": round(descent.seconds + head_seconds, 3),
            "head_seconds": round(head_seconds, 3),
            "training_loss_nats": descent.loss,
        }
        metrics |= numbers | _bits(network, tokenizer, sample, "")
        record = CheckpointRecord(
            stage="calibrate",
            run=out.parent.name,
            step=descent.step,
            tokens=numbers["training_tokens"],
            seed=config.seed,
            loss_nats=descent.loss,
            parent=inputs["model"],
            config_sha256=sha256_of_json(plain(config)),
            tokenizer_sha256=inputs["tokenizer"],
            data_sha256=sha256_of_json(inputs),
            metrics=metrics,
        )
        save_model(out / MODEL, network, tokenizer, record)
        finished = stage.finish(metrics)
        descent.forget()
        _forget_reading(out)
        return finished


def _forget_reading(out: Path) -> None:
    for name in (READING, STATES):
        (out / name).unlink(missing_ok=True)


def _untied(model: Path, config: CalibrateConfig) -> Any:
    network = open_model(model, "fp32", config.threads)
    untie(network)
    return network


def training_passages(config: CalibrateConfig, train: Path) -> dict[str, list[Passage]]:
    """Return the passages of each language, by code: its share of them."""
    return {
        code: drawn(
            train / code,
            words=config.passage_words,
            count=max(1, round(config.passages * share)),
            seed=config.seed,
        )
        for code, share in sorted(config.shares.items())
    }


class Text:
    """The passages of a calibration in their order, batch after batch."""

    def __init__(
        self, passages: Mapping[str, Sequence[Passage]], tokenizer: Any, config: CalibrateConfig
    ) -> None:
        """Take the passages of each language."""
        self.config = config
        self.prefix = prefix_id(tokenizer)
        self._tokenizer = tokenizer
        self._passages = [(code, one) for code, found in passages.items() for one in found]
        # Not sorted by length: the same batches for every tokenizer.
        self._order = Order([0] * len(self._passages), config.batch_passages, config.seed)

    def where(self, step: int) -> str:
        """Return how an error names the passages of a batch."""
        return f"passages {self._order.batch(step)}"

    def rows(self, step: int) -> list[list[int]]:
        """Return the passages of a batch as token ids, each behind the prefix token."""
        return self._rows(passage for _, passage in self._of([step]))

    def following(self, steps: Iterable[int], language: str | None = None) -> Tensor:
        """Return the tokens that some batches predict, in order; of one language, or of all."""
        wanted = (one for code, one in self._of(steps) if language in (None, code))
        tokens = [token for row in self._rows(wanted) for token in row[1:]]
        return torch.tensor(tokens, dtype=torch.long)

    def numbers(self, steps: int) -> dict[str, Any]:
        """Return how much text the first batches are."""
        words = sum(len(passage.text.split()) for _, passage in self._of(range(steps)))
        return {
            "training_words": words,
            "training_tokens": len(self.following(range(steps))),
        }

    def _of(self, steps: Iterable[int]) -> Iterator[tuple[str, Passage]]:
        return (self._passages[i] for step in steps for i in self._order.batch(step))

    def _rows(self, passages: Iterable[Passage]) -> list[list[int]]:
        texts = [passage.text for passage in passages]
        if not texts:
            return []
        found = self._tokenizer(texts, add_special_tokens=False)["input_ids"]
        return [[self.prefix, *ids] for ids in found]


def _train(
    network: Any, tables: Tables, text: Text, progress: Path, precision: Precision
) -> Descent:
    """Train the tables until a limit is reached; return the finished loop."""
    config = text.config
    parts = {
        "reading": tables.reading.weight,
        "head": tables.head,
        "reading_map": tables.reading_map,
        "head_map": tables.head_map,
    }
    optimisers = tables.optimisers(
        head_rate=config.learning_rate,
        reading_rate=config.reading_rate,
        map_rate=config.map_rate,
    )
    descent = Descent(progress, config.limits(), optimisers, parts, precision)
    device = tables.head.device

    def loss(rows: Sequence[list[int]]) -> Tensor:
        ids, targets = padded(rows, text.prefix)
        return tables.loss(network, ids.to(device), targets.to(device))

    for step in descent.steps("calibrate"):
        # All tokens of a row but the prefix are predicted.
        descent.learn(text.rows(step), loss, lambda row: len(row) - 1, text.where(step))
    return descent


def _read(network: Any, tables: Tables, text: Text, out: Path, first: int) -> tuple[range, float]:
    """Write the states of batches from `first` on to disk; return which batches, and the seconds.

    In half precision, 2 D bytes a state, as they are needed in random order and may be more than
    memory holds. Raises DataError for one that is no number, CheckpointError for a full disk.
    """
    limits = text.config.head_limits()
    if limits is None:
        return range(first, first), 0.0
    descent = Descent(out / READING, limits, [], {})
    path, device = out / STATES, tables.head.device
    size = 2 * tables.head.shape[1] * len(text.following(range(first, first + descent.step)))
    with path.open("ab") as file:
        if file.tell() < size:
            raise CheckpointError(
                f"{path}: expected {size:,} bytes, found {file.tell():,}; remove {out / READING} "
                "to read the text again"
            )
        file.truncate(size)  # what was written after the saved state is written again
    for step in descent.steps("reading"):
        ids, targets = padded(text.rows(first + step), text.prefix)
        with torch.no_grad():
            found = tables.states(network, ids[:, :-1].to(device), (targets != -100).to(device))
        half = found.to(torch.float16).cpu()
        if not half.isfinite().all():
            raise DataError(
                f"{text.where(first + step)}: expected states that are numbers and fit half "
                "precision, found others; look at these texts, or leave head_seconds and "
                "head_steps out"
            )
        with named_failure(path), path.open("ab") as file:
            file.write(half.numpy().tobytes())
    return range(first, first + descent.step), descent.seconds


def _fit_head(network: Any, text: Text, out: Path, steps: range) -> float:
    """Fit the head of a settled model to the states of some batches; return the seconds."""
    start = time.perf_counter()
    head = network.get_output_embeddings().weight
    own = torch.bincount(text.following(steps, text.config.head_language), minlength=len(head))
    which = (own >= _OFTEN).nonzero()[:, 0]
    if len(which):
        following = text.following(steps)
        shape = len(following), head.shape[1]
        states = torch.from_numpy(np.memmap(out / STATES, np.float16, mode="r+", shape=shape))
        rows = refitted_rows(
            head,
            which,
            Followed(states=states, following=following),
            seed=text.config.seed,
            softcap=softcap(network),
        )
        with torch.no_grad():
            head[which] = rows
    return time.perf_counter() - start


def _bits(
    network: Any, tokenizer: Any, sample: Mapping[str, Sequence[Passage]], suffix: str
) -> dict[str, Any]:
    """Return bits per byte of each language's held-out text, and their intervals, by name."""
    found: dict[str, Any] = {}
    for code, passages in sample.items():
        numbers = summary(bits_of(network, tokenizer, passages))
        found |= {f"{name}{suffix}.{code}": value for name, value in numbers.items()}
    return found
