"""Stage `distil`: the new pieces' input rows learn to say what the old pieces said.

A model whose tokenizer has grown does not know its new rows. Its own reading of the same text
with the old tokenizer is the teacher: wherever a piece ends, both have read the same characters,
so the final hidden state should be the same. Only the new rows of the input table train; the
body is frozen and shared by teacher and student, the old rows are no parameter at all.

    hebench train distil --recipe smollm2_he_cpu

    >>> run(DistilConfig(steps=500, ...), model=base, tokenizer=..., corpus=..., out=out).metrics
    {'relative_error': 0.50, 'relative_error_initial': 1.88, 'bits_per_byte': 2.10, ...}

Where states are matched (`mode`): `sentence`, the last token of each sentence, as the DictaLM 2.0
paper has it (arXiv 2407.07080, section 3; its loss prints a norm that may be squared or not, here
it is the squared one, over the teacher's variance); `word`, the end of each word; `piece`, the end
of each new-tokenizer piece, which costs no more and gives most to learn from. The relative error
in the metrics is at words' ends whatever the mode, over held-out text: squared error divided by
the squared distance of the teacher's states from their mean.

The first part of the training (`shallow_share`) compares the states after the first few layers
instead: the layers that put words together from pieces are the first ones, and a step through
twelve of thirty layers costs two fifths. It is the teacher-based initialisation of the second
part, which alone gets less far in the same time.

What the new rows are in the head is not learned here, and could not be: the objective says
nothing about it. They are worked out from what the teacher could write and fitted to states that
are there already or cost little (`writing: teacher`, see `heads.py`): the teacher's at new pieces'
ends, which only `mode: piece` has, and the student's own, in some of the training text and in a
little of the corpus's other languages. Or they get the mean of their old pieces' head rows
(`writing: mean`); `calibrate` trains them.

Letters: V old rows, N new rows, D hidden size, W matched places.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from hebench.config import plain
from hebench.errors import ConfigError
from hebench.files import sha256_of_json
from hebench.train.checkpoints import CheckpointRecord, model_sha256, save_model, tokenizer_sha256
from hebench.train.descent import BETAS, PROGRESS, Descent, Limits, Order
from hebench.train.embeddings import Initial, grown, initial_rows, new_pieces
from hebench.train.frozen import (
    body_precision,
    first_layers,
    open_model,
    open_tokenizer,
    require_logits,
)
from hebench.train.heads import (
    TEACHER_STATES,
    Heard,
    fitted_rows,
    followed,
    other_texts,
    plain_logits,
)
from hebench.train.languages import language
from hebench.train.measure import bits_of, summary
from hebench.train.passages import Passage, drawn, held_out, passages_of, sentences_of
from hebench.train.settings import Precision
from hebench.train.stage import StageRecord, open_stage
from hebench.train.student import Aligned, Mode, Student, TeacherStates, aligned
from hebench.train.texts import corpus_sha256

MODEL = "model"
TEACHER = "teacher"  # the teacher's states, while the stage is not finished
Writing = Literal["mean", "teacher"]


@dataclass(frozen=True, kw_only=True)
class DistilConfig:
    """What is matched, on which text, for how long."""

    language: str  # code in hebench/train/languages.py
    mode: Mode = "piece"
    initial: Initial = "mean"  # of the new rows of the input table
    writing: Writing = "teacher"  # of the new rows of the head
    passages: int  # of training text, at most; their teacher states are cached on disk
    passage_words: int = 24  # whitespace words of a passage; of a sentence, at most
    batch_passages: int = 2
    shallow_share: float = 0.5  # of the training, matched after the first layers; 0 for none
    shallow_layers: int = 12  # how many those are
    steps: int | None = None  # optimiser steps
    seconds: float | None = None  # of training, the teacher's work included
    learning_rate: float = 1e-2  # peak, of Adam
    warmup_steps: int = 10
    heldout_words: int = 300  # whitespace words measured, of each source
    precision: Precision = "fp32"  # of the frozen body; the new rows are fp32
    threads: int | None = None  # of the CPU; None leaves PyTorch's choice
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse sizes that are none, and a loop without an end."""
        language(self.language)
        for name in (
            "passages",
            "passage_words",
            "batch_passages",
            "shallow_layers",
            "heldout_words",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, found {getattr(self, name)}")
        if not 0 <= self.shallow_share < 1:
            raise ConfigError(f"shallow_share: expected from 0 to 1, found {self.shallow_share}")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads: expected at least 1, found {self.threads}")
        self.limits()

    def limits(self) -> Limits:
        """Return when training ends and how its rate runs."""
        return Limits(
            steps=self.steps,
            seconds=self.seconds,
            learning_rate=self.learning_rate,
            warmup_steps=self.warmup_steps,
        )


def run(
    config: DistilConfig, *, model: Path, tokenizer: Path, corpus: Path, out: Path
) -> StageRecord:
    """Distil `model` for the extended `tokenizer` into `out`/model; return the stage's record.

    corpus: with train/<language>/ and heldout/; some text of other languages in train/ keeps
    their probabilities what they were. Goes on from its own saved state if it was cut
    off. Raises DataError if the tokenizer is no extension of the model's, or without text.
    """
    train, heldout = corpus / "train" / config.language, corpus / "heldout"
    inputs = {
        "model": model_sha256(model),
        "tokenizer": tokenizer_sha256(tokenizer),
        "train": corpus_sha256(train),
        "heldout": corpus_sha256(heldout),
    } | {f"train/{folder.name}": corpus_sha256(folder) for folder in _others(config, train)}
    with open_stage(out, "distil", config, inputs) as stage:
        if stage.record.finished:
            return stage.record
        tokenizers = open_tokenizer(model), open_tokenizer(tokenizer)
        sample = held_out(
            heldout / config.language,
            words=config.passage_words,
            per_source_words=config.heldout_words,
        )
        settled = replace(config, precision=body_precision(config.precision, out / PROGRESS))
        student = open_student(settled, model, tokenizers)
        words = [aligned(passage.text, *tokenizers, "word") for passage in sample]
        texts = training_texts(config, train, *tokenizers)
        descent, metrics = learn(settled, student, texts, words, out)
        rows = student.reading.new.detach()
        heard = None
        if config.writing == "teacher":
            others = other_texts(
                _others(config, train), tokenizers[1], words=config.passage_words, seed=config.seed
            )
            heard = heard_of(config, student, texts, others, out)
        del student  # its body is opened again: there may be no memory for two
        network, found = untied(model, tokenizers, rows, sample, heard)
        metrics |= found
        record = CheckpointRecord(
            stage="distil",
            run=out.parent.name,
            step=descent.step,
            seed=config.seed,
            parent=inputs["model"],
            config_sha256=sha256_of_json(plain(config)),
            tokenizer_sha256=inputs["tokenizer"],
            data_sha256=inputs["train"],
            metrics=metrics,
        )
        save_model(out / MODEL, network, tokenizers[1], record)
        finished = stage.finish(metrics)
        descent.forget()
        shutil.rmtree(out / TEACHER)
        return finished


def open_student(config: DistilConfig, model: Path, tokenizers: tuple[Any, Any]) -> Student:
    """Return the base model with first values of the new rows; tokenizers: old and new.

    Raises CheckpointError if the head's rows are to be worked out and are not the whole head.
    """
    base = open_model(model, config.precision, config.threads)
    if config.writing == "teacher":
        require_logits(base, lambda ids: plain_logits(base, ids), "distil with writing: teacher")
    table = base.get_input_embeddings().weight
    pieces = new_pieces(*tokenizers, rows=len(table))
    return Student(base, initial_rows(table, pieces, config.initial, config.seed))


def learn(
    config: DistilConfig,
    student: Student,
    texts: Sequence[Aligned],
    words: Sequence[Aligned],
    out: Path,
) -> tuple[Descent, dict[str, Any]]:
    """Train the new rows on `texts`; return the finished loop and its numbers.

    words: held-out text with places at words' ends, on which nearness is measured.
    """
    before = student.nearness(words)
    descent = _train(student, texts, out, config)
    after = student.nearness(words)
    return descent, {
        "steps": descent.step,
        "precision": descent.precision,
        "training_seconds": round(descent.seconds, 3),
        "relative_error_initial": before.relative_error,
        "relative_error": after.relative_error,
        "cosine_initial": before.cosine,
        "cosine": after.cosine,
        "heldout_states": after.states,
    }


def untied(
    model: Path,
    tokenizers: tuple[Any, Any],
    rows: Tensor,
    sample: Sequence[Passage],
    heard: Heard | None,
) -> tuple[Any, dict[str, Any]]:
    """Return the model with distilled input rows (N, D) and a head of its own, and its bits.

    heard: what the head's new rows are fitted to; None leaves them mean rows. Bits per byte of
    the model with mean rows in both tables are beside, as `_mean_rows`. The model is opened anew
    in float32: the old rows are bit by bit those of the base model.
    """
    student = open_model(model, "fp32")
    reading, head = (
        part().weight for part in (student.get_input_embeddings, student.get_output_embeddings)
    )
    pieces = new_pieces(*tokenizers, rows=len(reading))
    grown(student, initial_rows(reading, pieces), initial_rows(head, pieces))
    initial = summary(bits_of(student, tokenizers[1], sample))["bits_per_byte"]
    with torch.no_grad():
        student.get_input_embeddings().weight[len(reading) :] = rows
        if heard:
            tokens = torch.tensor([token for text in heard.texts for token in text.new[1:]])
            counts = torch.bincount(tokens, minlength=len(head) + len(pieces))
            student.get_output_embeddings().weight[len(head) :] = fitted_rows(
                head, pieces, counts, followed(student, heard), heard.seed
            )
    return student, {"bits_per_byte_mean_rows": initial} | summary(
        bits_of(student, tokenizers[1], sample)
    )


def heard_of(
    config: DistilConfig,
    student: Student,
    texts: Sequence[Aligned],
    others: list[list[int]],
    out: Path,
) -> Heard:
    """Return what the head is fitted to, with the teacher's states as far as they are of use.

    Only at new pieces' ends are they: words' and sentences' ends are followed by what begins one.
    """
    wanted = TEACHER_STATES if config.mode == "piece" else 0
    teacher = TeacherStates(out / TEACHER, texts, student).followed(wanted)
    return Heard(texts=texts, others=others, teacher=teacher, seed=config.seed)


def _others(config: DistilConfig, train: Path) -> list[Path]:
    """Return the folders of training text in other languages."""
    found = sorted(path for path in train.parent.iterdir() if path.is_dir())
    return [path for path in found if path.name != config.language]


def training_texts(config: DistilConfig, train: Path, old: Any, new: Any) -> list[Aligned]:
    """Return the training text in both tokenizers: passages, or sentences in that mode."""
    cut = sentences_of if config.mode == "sentence" else passages_of
    passages = drawn(
        train, words=config.passage_words, count=config.passages, seed=config.seed, cut=cut
    )
    texts = [
        aligned(passage.text, old, new, config.mode)
        for passage in tqdm(passages, desc="tokenising", disable=None)
    ]
    # A passage of white space alone, say, has no place where states could be compared.
    return [text for text in texts if text.new_places]


def _train(student: Student, texts: Sequence[Aligned], out: Path, config: DistilConfig) -> Descent:
    """Train the new rows until a limit is reached; return the finished loop."""
    teacher = TeacherStates(out / TEACHER, texts, student)
    rows = student.reading.new
    # The optimiser is given these rows and nothing else: no old row, no moment of one.
    optimiser = torch.optim.Adam([rows], betas=BETAS)
    descent = Descent(
        out / PROGRESS, config.limits(), [optimiser], {"rows": rows}, config.precision
    )
    order = Order([len(text.old) for text in texts], config.batch_passages, config.seed)

    def loss(batch: Sequence[int]) -> Tensor:
        some = [texts[i] for i in batch]
        if descent.done < config.shallow_share:
            with first_layers(student.model, config.shallow_layers):
                theirs, ours = student.teacher_states(some), student.states(some)
            # The cosine: between layers a few dimensions are a thousand times the others.
            return 1 - functional.cosine_similarity(ours, theirs, dim=-1).mean()
        theirs = teacher.of(batch)  # first: what our states keep for their gradient stays
        return (student.states(some) - theirs).square().mean()

    for step in descent.steps("distil"):
        batch = order.batch(step)
        descent.learn(batch, loss, lambda i: len(texts[i].new_places), f"passages {batch}")
    return descent
