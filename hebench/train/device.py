"""Backends: what differs between CPU, CUDA and Gaudi, and between transformers 4.55 and 5.

A backend decides the Trainer class, its arguments, DeepSpeed's configuration and how the mask of
packed documents is written. The last differs silently: the wrong form trains without a warning
and lets documents see each other (or hides all of them), which is why `hebench.train.leak` asks
the model itself at the start of every job. Everything whose default differs between the Trainer
classes is set here, so that the backends train alike.

    >>> backend = open_backend(config)            # TrainingConfig(backend="auto", ...)
    >>> backend.name, backend.convention
    ('cpu', 'bool')

| convention | attention_mask | for |
| --- | --- | --- |
| positions | none: the model finds documents by positions that fall back to 0 | flash attention |
| bool | True where a token is attended to | sdpa |
| additive | 0 there, the least float elsewhere | eager |
| zero_one | 1.0 there, 0.0 elsewhere | optimum-habana 1.21's Mistral and Llama |

`gaudi` is optimum-habana (out of support since 2026-10-31), `hpu` plain transformers on the same
hardware; neither was verified on hardware. Shapes: B rows of L tokens.
"""

import dataclasses
import datetime
import functools
import importlib
import importlib.util
import math
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from hebench.errors import CheckpointError, ConfigError, one_line
from hebench.processes import leave_gloo_at_exit, rank
from hebench.train.packing import Row
from hebench.train.settings import Precision, TrainingConfig

Convention = Literal["positions", "bool", "additive", "zero_one"]
Batch = dict[str, torch.Tensor]
_MODEL_INPUTS = ("input_ids", "inputs_embeds", "position_ids", "attention_mask")
GAUDI_CONFIG = {"use_fused_adam": True, "use_fused_clip_norm": True}
BUCKET = 500_000_000  # numbers that DeepSpeed gathers before it sends gradients; its own default
_POSITIONS = ("wpe", "embed_positions")  # tables of learned positions: GPT-2 and -Neo; OPT
_TRIAL, _CLEARLY = 1024, 1.25  # size of a matrix; times as fast, since a step is more than products
_WAIT_SECONDS = 24 * 3600  # other processes wait while the first packs a corpus


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A kind of machine, with the attention implementation and the mask that go with it."""

    name: Literal["cpu", "cuda", "hpu", "gaudi"]
    attention: str  # transformers' attn_implementation
    convention: Convention

    def with_mask(self, batch: Mapping[str, torch.Tensor]) -> Batch:
        """Return the batch with the `attention_mask` that keeps its documents apart."""
        mask = attention_mask(batch["document_ids"], self.convention)
        return {**batch} if mask is None else {**batch, "attention_mask": mask}

    def for_window(self, window: int | None, row_tokens: int) -> "Backend":
        """Return the backend for a model whose layers see `window` tokens back, or all (None).

        A mask of ours would undo a window shorter than a row, so positions must do. Raises
        ConfigError on gaudi, where they do not.
        """
        if window is None or window >= row_tokens or self.convention == "positions":
            return self
        if self.name == "gaudi":
            raise ConfigError(
                f"row_tokens: expected at most the model's sliding window of {window} on backend "
                f"gaudi, found {row_tokens}; take shorter rows"
            )
        return dataclasses.replace(self, convention="positions")


def open_backend(config: TrainingConfig) -> Backend:
    """Return the backend that a configuration asks for. Raises ConfigError if it is not here."""
    backend = plan_backend(config)
    missing = lacking(backend.name)
    if missing:
        raise ConfigError(
            f"backend {backend.name}: expected {missing}, found none; choose another backend"
        )
    return backend


def plan_backend(config: TrainingConfig) -> Backend:
    """Return the backend that a configuration asks for, be it on this machine or not."""
    name = config.backend if config.backend != "auto" else _found()
    attention = config.attention
    if name == "gaudi":
        return Backend(name="gaudi", attention="eager", convention="zero_one")
    if attention == "auto":
        # which computes in half precision only
        flash = name == "cuda" and with_precision(config).precision == "bf16"
        found = flash and importlib.util.find_spec("flash_attn") is not None
        attention = "flash_attention_2" if found else "sdpa"
    conventions: dict[str, Convention] = {
        "eager": "additive",
        "sdpa": "bool",
        "flash_attention_2": "positions",
    }
    return Backend(name=name, attention=attention, convention=conventions[attention])


def with_precision(config: TrainingConfig, begun: str | None = None) -> TrainingConfig:
    """Return the configuration with `precision: auto` settled for the device it runs on.

    begun: the precision in which the work that goes on was begun, if any was.
    """
    name = config.backend if config.backend != "auto" else _found()
    found = settled_precision(config.precision, begun, backend=name, processes=config.world_size)
    return dataclasses.replace(config, precision=found)


def settled_precision(
    asked: Precision, begun: str | None, *, backend: str, processes: int = 1
) -> Literal["fp32", "bf16"]:
    """Return what is asked for; for `auto` what was begun in, or the faster one on a backend."""
    if asked != "auto":
        return asked
    if begun is not None:
        bf16 = begun == "bf16"
    elif backend == "cpu":  # of several processes each would come to a result of its own
        bf16 = processes == 1 and _multiplies_faster_in_bf16()
    else:
        bf16 = backend != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if bf16 else "fp32"


def _multiplies_faster_in_bf16() -> bool:
    return bf16_speed() > _CLEARLY


@functools.cache
def bf16_speed() -> float:
    """Return how many times as fast as in fp32 this processor multiplies in bf16, by a trial.

    Its features do not tell: of two with AVX512-BF16 one was twice as fast in it as in fp32, and
    the other half as fast; one without instructions for it took fifty times as long.
    """
    seconds: dict[torch.dtype, float] = {}
    for kind in (torch.float32, torch.bfloat16):
        factor = torch.ones(_TRIAL, _TRIAL, dtype=kind)
        times: list[float] = []
        for _ in range(6):
            begun = time.perf_counter()
            factor @ factor
            times.append(time.perf_counter() - begun)
            if min(times) > 20 * seconds.get(torch.float32, math.inf):
                break  # one is enough where it is slower than other work could make it
        seconds[kind] = min(times)
    return seconds[torch.float32] / seconds[torch.bfloat16]


def _found() -> Literal["cpu", "cuda", "hpu"]:
    if torch.cuda.is_available():
        return "cuda"
    return "hpu" if importlib.util.find_spec("habana_frameworks") else "cpu"


def lacking(name: str) -> str:
    """Return what a backend needs and this machine has not, or ""."""
    if name == "cuda" and not torch.cuda.is_available():
        return "a CUDA device"
    # optimum.habana fails with IndexError, not ImportError, where the vendor's software is absent.
    if name in ("hpu", "gaudi") and importlib.util.find_spec("habana_frameworks") is None:
        return "Habana's PyTorch (habana_frameworks)"
    if name == "gaudi" and importlib.util.find_spec("optimum") is None:
        return "optimum-habana"
    return ""


def attention_mask(document_ids: torch.Tensor, convention: Convention) -> torch.Tensor | None:
    """Return the causal mask within documents, (B, 1, L, L), or None where positions suffice.

    document_ids: (B, L); equal neighbours are one document, padding is one, too, so that no row
    of the mask is empty.
    """
    if convention == "positions":
        return None
    length = document_ids.shape[-1]
    causal = torch.ones(length, length, dtype=torch.bool, device=document_ids.device).tril()
    seen = (document_ids[:, :, None] == document_ids[:, None, :]) & causal
    seen = seen[:, None]
    if convention == "bool":
        return seen
    if convention == "zero_one":
        return seen.float()
    return torch.zeros_like(seen, dtype=torch.float32).masked_fill(
        ~seen, torch.finfo(torch.float32).min
    )


def collate(rows: Sequence[Row]) -> Batch:
    """Return rows as one batch: each array stacked to (B, ...)."""
    return {name: torch.stack([torch.as_tensor(row[name]) for row in rows]) for name in rows[0]}


def logits_of(model: Any, batch: Mapping[str, torch.Tensor], backend: Backend) -> torch.Tensor:
    """Return a model's logits of packed rows, (B, L, V), no document seeing another.

    batch: without a mask; `inputs_embeds`, (B, L, D), may stand for `input_ids`. transformers has
    flash attention look at positions where there is one row only, so there all rows are laid end
    to end: each begins at position 0, as a document does.

    `use_cache` is not left to the model: with a cache, transformers does not look at positions.
    """
    masked = backend.with_mask(batch)
    inputs = {name: masked[name] for name in _MODEL_INPUTS if name in masked}
    shape = batch["position_ids"].shape
    if backend.attention == "flash_attention_2":
        inputs = {name: tensor.flatten(0, 1)[None] for name, tensor in inputs.items()}
    logits: torch.Tensor = model(**inputs, use_cache=False).logits
    return logits.flatten(0, 1).unflatten(0, shape)


def loaded_as(dtype: torch.dtype) -> dict[str, torch.dtype]:
    """Return the argument that has `from_pretrained` load a type; transformers 4.56 renamed it."""
    import transformers

    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    return {"dtype" if version >= (4, 56) else "torch_dtype": dtype}


def load_model(folder: Path, attention: str) -> Any:
    """Return a causal model in fp32 with no cache. Raises CheckpointError if there is none."""
    import transformers

    transformers.utils.logging.disable_progress_bar()  # a bar for each file; ours are enough
    if _found() == "cpu":  # or DeepSpeed, once imported, says on stdout that it found no device
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, attn_implementation=attention, **loaded_as(torch.float32)
        )
    # A damaged folder raises many kinds, among them some that derive from Exception alone.
    except Exception as error:
        raise CheckpointError(
            f"{folder}: expected a causal language model, found {one_line(error)}; "
            "give a Hugging Face folder"
        ) from error
    model.config.use_cache = False
    return model


def require_rows(folder: Path, tokenizer: Any, config: Any) -> None:
    """Raise CheckpointError if a model's embedding has fewer rows than its tokenizer pieces."""
    rows = config.get_text_config().vocab_size
    if len(tokenizer) > rows:
        raise CheckpointError(
            f"{folder}: expected at most {rows} pieces, as the embedding has rows, found a "
            f"tokenizer of {len(tokenizer)}; use the model that it was made for"
        )


def require_positions(folder: Path, model: Any, row_tokens: int) -> None:
    """Raise ConfigError if a model learned a table of positions that is shorter than a row."""
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in _POSITIONS and isinstance(module, torch.nn.Embedding):
            known = module.num_embeddings - getattr(module, "offset", 0)
            if known < row_tokens:
                raise ConfigError(
                    f"row_tokens: expected at most {known}, the positions that the model in "
                    f"{folder} knows, found {row_tokens}"
                )


def sliding_window(config: Any) -> int | None:
    """Return how many tokens back a model's layers see by its configuration, None for all."""
    # Qwen's names a window that it does not use.
    used = getattr(config, "use_sliding_window", True)
    return getattr(config, "sliding_window", None) if used else None


def trainer_class(backend: Backend) -> type[Any]:
    """Return the Trainer class of a backend."""
    if backend.name == "gaudi":
        from optimum.habana import GaudiTrainer

        return GaudiTrainer  # type: ignore[no-any-return]
    from transformers import Trainer

    return Trainer  # type: ignore[no-any-return]


def trainer_arguments(config: TrainingConfig, backend: Backend, out: Path) -> dict[str, Any]:
    """Return the arguments of a backend's TrainingArguments, all that differ written out.

    Schedule, saves, stops and logs are our own callbacks', so that each means the same on
    every backend and version.
    """
    arguments: dict[str, Any] = {
        "output_dir": str(out),
        "per_device_train_batch_size": config.micro_rows,
        "gradient_accumulation_steps": config.accumulated,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "constant",  # replaced by TrainingConfig.rate_factor
        "weight_decay": config.weight_decay,
        "adam_beta1": config.adam_beta1,
        "adam_beta2": config.adam_beta2,
        "adam_epsilon": config.adam_epsilon,  # Gaudi's default is another
        "max_grad_norm": config.max_grad_norm,
        # One pass over the memory a step. Gaudi has its own (GAUDI_CONFIG), hpu's was never tried.
        "optim": "adamw_torch_fused" if backend.name in ("cpu", "cuda") else "adamw_torch",
        "bf16": config.precision == "bf16",
        "seed": config.seed,
        "logging_strategy": "steps",
        "logging_steps": config.log_every,
        "logging_nan_inf_filter": False,  # it would hide the loss that must stop the job
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_pin_memory": backend.name == "cuda",
        "average_tokens_across_devices": True,
        "ddp_find_unused_parameters": False,
        "ddp_bucket_cap_mb": 25,  # Gaudi's default is 230
        "ddp_timeout": _WAIT_SECONDS,
        "use_cpu": backend.name == "cpu",
        "deepspeed": deepspeed_config(config),
    }
    arguments.update(_checkpointing(config, backend))
    if backend.name == "gaudi":
        arguments.update(use_habana=True, use_lazy_mode=True, attn_implementation="eager")
    return arguments


def _checkpointing(config: TrainingConfig, backend: Backend) -> dict[str, Any]:
    """Return the argument of activation checkpointing, which transformers 5 renamed."""
    if not config.activation_checkpointing:
        return {}
    prefix = "gradient"
    if backend.name != "gaudi":  # which has transformers 4.55, and may be planned from elsewhere
        names = {field.name for field in dataclasses.fields(_arguments_class(backend))}
        prefix = "activation" if "activation_checkpointing" in names else "gradient"
    return {
        f"{prefix}_checkpointing": True,
        f"{prefix}_checkpointing_kwargs": {"use_reentrant": False},
    }


def _arguments_class(backend: Backend) -> type[Any]:
    if backend.name == "gaudi":
        from optimum.habana import GaudiTrainingArguments

        return GaudiTrainingArguments  # type: ignore[no-any-return]
    from transformers import TrainingArguments

    return TrainingArguments  # type: ignore[no-any-return]


def start(config: TrainingConfig, backend: Backend, out: Path) -> Any:
    """Start threads and process group; return the backend's TrainingArguments.

    Raises ConfigError if the launcher started another number of processes than asked.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if backend.name == "cpu":
        # accelerate imports DeepSpeed, which looks for a device and says so
        os.environ["DS_ACCELERATOR"] = "cpu"
        if importlib.util.find_spec("deepspeed"):  # and now, lest it keep the group
            importlib.import_module("deepspeed.comm")
        leave_gloo_at_exit()
    # A launcher's own, or an earlier stage's (transformers 4.55 leaves it), would come before ours.
    os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16" if config.precision == "bf16" else "no"
    if config.zero_stage:
        _prepare_deepspeed()
    if backend.name == "cpu" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        _start_gloo()
    arguments = _arguments_class(backend)(**trainer_arguments(config, backend, out))
    if arguments.n_gpu > 1:  # transformers has not been told of a launcher
        require_one_gpu(backend)
    if arguments.world_size != config.world_size:
        raise ConfigError(
            f"world_size: expected {config.world_size} processes, found {arguments.world_size}; "
            f"launch with torchrun --nproc_per_node {config.world_size}, or set world_size"
        )
    if config.zero_stage == 3:  # which asks DeepSpeed, while a model loads, how many share it
        from deepspeed import comm

        if not comm.is_initialized():  # accelerate starts it on accelerators only
            comm.init_distributed(auto_mpi_discovery=False, verbose=False)
    return arguments


def require_one_gpu(backend: Backend) -> None:
    """Raise ConfigError if a process without a launcher sees several GPUs: each needs its own."""
    if backend.name == "cuda" and (count := torch.cuda.device_count()) > 1:
        raise ConfigError(
            f"expected one device for each process, found {count} for one process; "
            "launch with torchrun, or set CUDA_VISIBLE_DEVICES to one"
        )


def _start_gloo() -> None:
    """Start the group of processors with our patience: transformers gives it to GPUs alone."""
    if not torch.distributed.is_initialized():
        patience = datetime.timedelta(seconds=_WAIT_SECONDS)
        torch.distributed.init_process_group("gloo", timeout=patience)


def build_trainer(backend: Backend, cls: type[Any], arguments: Any, **parts: Any) -> Any:
    """Return a trainer of class `cls` that prints nothing; parts: model, tokenizer, data set."""
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    if backend.name == "gaudi":
        from optimum.habana import GaudiConfig

        parts["gaudi_config"] = GaudiConfig(**GAUDI_CONFIG)
    trainer = cls(args=arguments, data_collator=collate, **parts)
    for foreign in (PrinterCallback, ProgressCallback):  # they print; log and bar are ours
        trainer.remove_callback(foreign)
    return trainer


def deepspeed_config(config: TrainingConfig) -> dict[str, Any] | None:
    """Return DeepSpeed's configuration, its sizes from the recipe; None for ZeRO stage 0."""
    if not config.zero_stage:
        return None
    return {
        "train_micro_batch_size_per_gpu": config.micro_rows,
        "gradient_accumulation_steps": config.accumulated,
        "train_batch_size": config.global_rows,
        "gradient_clipping": config.max_grad_norm,
        "bf16": {"enabled": config.precision == "bf16"},
        "zero_allow_untested_optimizer": True,  # plain AdamW: no kernel to compile
        "zero_optimization": {
            "stage": config.zero_stage,
            "contiguous_gradients": True,
            "reduce_bucket_size": BUCKET,
            "overlap_comm": False,  # its order of sums would differ from run to run
            "stage3_gather_16bit_weights_on_model_save": config.zero_stage == 3,
        },
        "steps_per_print": 2**31,
    }


def _prepare_deepspeed() -> None:
    """Set what DeepSpeed reads from the environment. Raises ConfigError if it is not here."""
    if importlib.util.find_spec("deepspeed") is None:
        raise ConfigError(
            "zero_stage: expected deepspeed to be installed, found it is not; "
            "install hebench[train], or set zero_stage=0"
        )
    if "WORLD_SIZE" not in os.environ:  # without a launcher it would look for MPI
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        os.environ.update(
            RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=port
        )


def leave_deepspeed(config: TrainingConfig, trainer: Any) -> None:
    """Have what follows in this process be without DeepSpeed: other models, and other stages."""
    if config.zero_stage:
        from transformers.integrations.deepspeed import unset_hf_deepspeed_config

        trainer.accelerator.free_memory()  # else its hooks hold engine and model to the end
        unset_hf_deepspeed_config()  # ZeRO 3 would load each model in shards
        os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)  # accelerate's, for all that it starts


def first_then_all(work: Callable[[], object]) -> None:
    """Do `work` in the first process while the others wait for it."""
    if rank() == 0:
        work()
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
