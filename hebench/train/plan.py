"""What a stage would do, without doing it: `hebench train STAGE ... --dry-run`.

    hebench train pretrain --recipe dictalm2 model=mistral-7b corpus=runs/he/corpus \
        out=runs/he/pretrain --dry-run

Says what the stage was asked, what it finds, how many steps it takes, what memory a device needs
and with which arguments which trainer is called, for a backend that is on another machine too. It
refuses what the stage would refuse at its start, as far as that can be seen without weights, and
writes and downloads nothing.

    >>> plan_stage("pretrain", config, inputs={"corpus": corpus, "model": model}, out=out)["steps"]
    {'world_size': 48, 'accumulated': 1, 'tokens_a_step': 1572864, ...}
"""

import importlib.util
import math
import os
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from hebench.config import plain
from hebench.data.corpora import corpus_files
from hebench.errors import CheckpointError, ConfigError, DataError
from hebench.train import device
from hebench.train.calibrate import CalibrateConfig
from hebench.train.chat_data import data_sha256, encode, ensure_template, read_conversations
from hebench.train.checkpoints import TOKENIZER_NAME, complete_checkpoints, tokenizer_sha256
from hebench.train.corpus.config import CorpusConfig
from hebench.train.corpus.inputs import input_parts
from hebench.train.descent import PROGRESS
from hebench.train.distil import DistilConfig
from hebench.train.dpo import DpoConfig, packed_pairs
from hebench.train.frozen import body_precision, open_tokenizer
from hebench.train.memory import GIB, memory_bytes, parameters, without_weights
from hebench.train.mixing import Mixture, rows_by_share
from hebench.train.packing import ROWS_NAME, Rows, best_fit
from hebench.train.passages import passages_of, sentences_of
from hebench.train.preferences import read_preferences
from hebench.train.settings import TrainingConfig
from hebench.train.stage import holds_work, read_stage
from hebench.train.table_memory import calibration_bytes, distillation_bytes
from hebench.train.texts import read_documents, source_files
from hebench.train.trainer import refuse_other_world

_DOCUMENTS = 50  # of each source, from whose tokens those of a corpus are estimated
_MEGABYTE = 1_000_000
Plan = dict[str, Any]


def plan_stage(  # noqa: PLR0913 (each is named at the call)
    name: str,
    config: Any,
    *,
    inputs: Mapping[str, Path],
    out: Path,
    stand_in: Path | None = None,
    new_pieces: int = 0,
) -> Plan:
    """Return what a stage would do, as values fit for YAML.

    inputs: what its command takes, by name, as far as it is there already. stand_in: for a model
    that is not, the one that it will be made of, and new_pieces by how many rows it grows. Raises
    HebenchError for what keeps the stage from starting.
    """
    training: TrainingConfig | None = getattr(config, "training", None)
    found: Plan = {"stage": name, "out": str(out), "state": _state(config, training, out, inputs)}
    found["inputs"] = _inputs(config, inputs)
    found["config"] = plain(config)
    network = None
    if "model" in inputs:
        network = without_weights(inputs["model"])
    elif stand_in is not None:
        network = without_weights(stand_in, new_pieces=new_pieces)
    if network is not None:
        found["parameters"] = parameters(network)
    if isinstance(config, DistilConfig | CalibrateConfig) and network is not None:
        found |= _frozen(config, network, inputs, out, new_pieces)
    if training is None:
        return found
    training = device.with_precision(training)
    backend = device.plan_backend(training)
    if network is not None:
        window = device.sliding_window(network.config)
        backend = backend.for_window(window, training.row_tokens)
        device.require_positions(inputs.get("model", out), network, training.row_tokens)
    steps = _steps(name, config, training, inputs, out)
    found["steps"] = steps
    if network is not None:
        parts = memory_bytes(training, backend, network, getattr(config, "lora", None))
        parts["together"] = sum(parts.values())
        found["gib_a_device"] = {part: _rounded(size / GIB) for part, size in parts.items()}
    arguments = device.trainer_arguments(training, backend, out)
    if steps["steps"] is not None:
        arguments["max_steps"] = steps["steps"] - training.start_step
    found["trainer"] = {**_trainer(config, training, backend), "arguments": arguments}
    return found


def _state(
    config: Any, training: TrainingConfig | None, out: Path, inputs: Mapping[str, Path]
) -> str:
    """Return how far a stage's folder is. Raises ConfigError if it holds another stage."""
    record = read_stage(out)
    other = record is not None and record.config != plain(config)
    if record is None or (other and not holds_work(out, record)):
        return "not begun"
    if other:
        raise ConfigError(
            f"{out}: holds a stage that was asked for otherwise; choose another folder, or remove "
            "this one"
        )
    made_of = {"data": data_sha256, "tokenizer": tokenizer_sha256}  # a corpus may be too large
    for name in made_of.keys() & inputs.keys() & record.inputs.keys():
        before, now = record.inputs[name], made_of[name](inputs[name])
        if before != now:
            raise ConfigError(
                f"{out}: inputs.{name} was {before[:12]}, is {now[:12]}; choose another folder, or "
                "remove this one"
            )
    if record.finished:
        return "finished: it would return at once"
    if training is not None:
        refuse_other_world(out, training)
    newest = complete_checkpoints(out)[-1:]
    return f"cut off: goes on from {newest[0].name if newest else 'its start'}"


def _inputs(config: Any, inputs: Mapping[str, Path]) -> dict[str, Any]:
    """Return what the inputs hold. Raises HebenchError for one that is not there."""
    found: dict[str, Any] = {}
    for name, path in inputs.items():
        found[name] = str(path)
        if name == "tokenizer" and not (path / TOKENIZER_NAME).is_file():
            raise CheckpointError(f"{path}: expected a tokenizer, found no {TOKENIZER_NAME}")
        if name == "data" and not path.is_file():
            raise DataError(f"{path}: expected a JSON Lines file, found none; check the path")
        if name == "data":
            read = read_preferences if isinstance(config, DpoConfig) else read_conversations
            deque(read(path), maxlen=0)  # or say which line cannot be read
        if name == "corpus":
            codes = getattr(config, "shares", None) or (config.language,)
            found[name] = {code: _text(path / "train" / code) for code in codes}
            if hasattr(config, "heldout_words"):  # the stage measures itself
                found[name]["heldout"] = _text(path / "heldout")
    return found | (_corpus_inputs(config) if isinstance(config, CorpusConfig) else {})


def _corpus_inputs(config: CorpusConfig) -> dict[str, str]:
    if config.reference is not None and not config.reference.exists():
        raise DataError(
            f"{config.reference}: expected a word list or a corpus, found nothing; check the path"
        )
    input_parts(config)  # or say which rules are of no source
    return {
        name: f"dataset {given.dataset}, commit {given.revision}"
        if given.path is None
        else _text(given.path)
        for name, given in config.inputs.items()
    }


def _text(folder: Path) -> str:
    files, unread = corpus_files(folder)
    size = sum(path.stat().st_size for path in files)
    many = "s" if len(files) > 1 else ""
    beside = f"; not read: {', '.join(unread)}" if unread else ""
    return f"{folder}: {len(files)} file{many}, {_rounded(size / _MEGABYTE)} MB{beside}"


def _steps(
    name: str, config: Any, training: TrainingConfig, inputs: Mapping[str, Path], out: Path
) -> Plan:
    """Return the sizes of a training, `steps` None where they cannot be known yet."""
    require_processes(training)
    rows, basis = None, "not needed: the recipe names the steps"
    if training.steps is None:
        rows, basis = _rows(name, config, inputs, out)
    known = rows is not None or training.steps is not None
    total = training.total_steps(rows or 0) if known else None
    return {
        "world_size": training.world_size,
        "accumulated": training.accumulated,
        "tokens_a_step": training.global_rows * training.row_tokens,
        "rows": rows,
        "rows_known_from": basis,
        "steps": total,
        "first_step": training.start_step,
        "warmup_steps": training.warmup_steps,
        "seconds_at_most": training.seconds,
    }


def require_processes(training: TrainingConfig) -> None:
    """Raise ConfigError if a launcher started another number of processes than asked."""
    started = int(os.environ["WORLD_SIZE"]) if "RANK" in os.environ else training.world_size
    if started != training.world_size:
        raise ConfigError(
            f"world_size: expected {training.world_size} processes, found {started}; launch so "
            "many, or set world_size"
        )


def _rows(name: str, config: Any, inputs: Mapping[str, Path], out: Path) -> tuple[int | None, str]:
    """Return the rows that one pass reads, and how that is known."""
    unknown = "not yet: the steps are passes x rows / global_rows, rounded up"
    if name == "dpo" and inputs.keys() >= {"model", "data"}:
        tokenizer = open_tokenizer(inputs["model"])
        ensure_template(tokenizer)
        return len(packed_pairs(config, inputs["data"], tokenizer)[0]), "the data, packed"
    if name == "sft":
        if (out / "rows" / ROWS_NAME).is_file():
            return len(Rows(out / "rows")), "the folder's packed rows"
        if inputs.keys() >= {"model", "data"}:
            return _chat_rows(config.training, inputs["model"], inputs["data"]), "the data, packed"
    if name == "pretrain":
        if all((out / "rows" / code / ROWS_NAME).is_file() for code in config.shares):
            return len(Mixture(out / "rows", config.shares)), "the folder's packed rows"
        if inputs.keys() >= {"model", "corpus"}:
            rows = _mixed_rows(config, inputs["model"], inputs["corpus"])
            if rows is not None:
                return rows, "estimated from the corpus's words and tokens of some documents"
    return None, unknown


def _frozen(
    config: DistilConfig | CalibrateConfig,
    network: Any,
    inputs: Mapping[str, Path],
    out: Path,
    new_pieces: int,
) -> Plan:
    """Return steps and memory of a stage whose body is frozen.

    Of the memory, that with one passage is what it takes at least: where there is none for all of
    a batch, it is cut.
    """
    longest = _longest_passage(config, inputs)
    precision = body_precision(config.precision, out / PROGRESS)
    batch = config.batch_passages * longest if longest else None

    def parts(tokens: int) -> dict[str, float]:
        if isinstance(config, CalibrateConfig):
            return calibration_bytes(network, precision, tokens)
        rows = len(network.get_input_embeddings().weight)
        new = len(open_tokenizer(inputs["tokenizer"])) - rows if "tokenizer" in inputs else 0
        return distillation_bytes(
            network,
            precision,
            tokens,
            new_rows=max(new, new_pieces),
            on_gpu=torch.cuda.is_available(),
        )

    sizes = parts(batch or 0)
    sizes["together"] = sum(sizes.values())
    found: Plan = {
        "steps": {
            "steps": config.steps,
            "seconds_at_most": config.seconds,
            "tokens_of_the_longest_passage": longest,
            "tokens_a_batch": batch,
            "tokens_known_from": "the first documents of each source"
            if longest
            else "not yet: memory is without activations",
        },
        "gib_a_device": {part: _rounded(size / GIB) for part, size in sizes.items()},
    }
    if longest:
        found["gib_with_one_passage"] = _rounded(sum(parts(longest).values()) / GIB)
    return found


def _longest_passage(
    config: DistilConfig | CalibrateConfig, inputs: Mapping[str, Path]
) -> int | None:
    """Return the tokens of the longest passage in the first documents of each source."""
    codes, source, cut = list(getattr(config, "shares", ())), "model", passages_of
    if isinstance(config, DistilConfig):
        codes, source = [config.language], "tokenizer"
        cut = sentences_of if config.mode == "sentence" else passages_of
    if not inputs.keys() >= {source, "corpus"}:
        return None
    tokenizer = open_tokenizer(inputs[source])
    texts = [
        passage.text
        for code in codes
        for paths in source_files(inputs["corpus"] / "train" / code).values()
        for document in islice(read_documents(paths[0]), _DOCUMENTS)
        for passage in cut(document, config.passage_words)
    ]
    ids = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return 1 + max(map(len, ids))  # behind the prefix


def _chat_rows(training: TrainingConfig, model: Path, data: Path) -> int:
    tokenizer = open_tokenizer(model)
    ensure_template(tokenizer)
    talks = tqdm(read_conversations(data), desc="sft: conversations", disable=None)
    lengths = [len(encode(tokenizer, talk).tokens) for talk in talks]
    fitting = [length for length in lengths if length <= training.row_tokens]
    if not fitting:
        raise DataError(
            f"{data}: expected a conversation of at most row_tokens = {training.row_tokens} "
            f"tokens, found {len(lengths)} that are longer; raise row_tokens"
        )
    return len(best_fit(fitting, training.row_tokens))


def _mixed_rows(config: Any, model: Path, corpus: Path) -> int | None:
    """Return about how many rows the mixture has; None if the corpus does not say its words."""
    record = read_stage(corpus)
    words = {code: record and record.metrics.get(f"{code}_train_words") for code in config.shares}
    if not all(words.values()):
        return None
    tokenizer = open_tokenizer(model)
    rows = {
        code: math.ceil(
            count * _tokens_a_word(tokenizer, corpus / "train" / code) / config.training.row_tokens
        )
        for code, count in words.items()
        if count
    }
    return sum(rows_by_share(rows, config.shares).values())


def _tokens_a_word(tokenizer: Any, folder: Path) -> float:
    """Return tokens per whitespace word over sources by their size, each from its beginning."""
    total = weight = 0.0
    for paths in source_files(folder).values():
        texts = [document.text for document in islice(read_documents(paths[0]), _DOCUMENTS)]
        words = sum(len(text.split()) for text in texts)
        size = sum(path.stat().st_size for path in paths)
        total += size * _tokens(tokenizer, texts) / words
        weight += size
    return total / weight


def _tokens(tokenizer: Any, texts: Iterable[str]) -> int:
    ids = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return sum(len(document) + 2 for document in ids)  # with BOS and EOS


def _trainer(config: Any, training: TrainingConfig, backend: device.Backend) -> Plan:
    """Return the trainer's class, how it attends, and what of it this machine lacks."""
    needed = {
        "deepspeed": training.zero_stage > 0,
        "flash_attn": backend.attention == "flash_attention_2",
        "peft": getattr(config, "lora", None) is not None,
    }
    lacks = [name for name, used in needed.items() if used and not importlib.util.find_spec(name)]
    if missing := device.lacking(backend.name) or _gpu_of_its_own(training, backend):
        lacks.insert(0, missing)
    found: Plan = {
        "class": "transformers.Trainer",
        "backend": backend.name,
        "this_machine_lacks": lacks,
        "attention": backend.attention,
        "mask": backend.convention,
    }
    if backend.name == "gaudi":
        found |= {"class": "optimum.habana.GaudiTrainer", "gaudi_config": device.GAUDI_CONFIG}
    return found


def _gpu_of_its_own(training: TrainingConfig, backend: device.Backend) -> str:
    """Return what keeps a lone process from starting here, or ""."""
    if training.world_size > 1 or training.zero_stage or "RANK" in os.environ:
        return ""
    try:
        device.require_one_gpu(backend)
    except ConfigError as error:
        return str(error)
    return ""


def _rounded(value: float) -> float:
    """Return a value to three significant digits."""
    return float(f"{value:.3g}")
