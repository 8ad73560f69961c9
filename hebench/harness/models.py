"""What answers: a local folder or a Hub model through lm-eval's backends, or a baseline.

>>> identify("baseline:random", name=None, revision=None, dtype="bfloat16").name
'Baseline: random'
"""

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.model import LM

from hebench.errors import CheckpointError, ConfigError, TaskError, one_line
from hebench.files import expanded, sha256_of_files
from hebench.harness.tasks import quiet
from hebench.models.baselines import BASELINES, TITLES
from hebench.processes import rank
from hebench.records import Model

_LOGGER = logging.getLogger(__name__)
_SLOW = 0.5  # times as fast as in float32: less is worth a word
BASELINE_PREFIX = "baseline:"
_WEIGHT_PATTERNS = ("*.safetensors", "*.bin")
_SETTINGS_PATTERNS = ("*.json", "*.jinja", "*.model", "*.txt")


def identify(model: str, *, name: str | None, revision: str | None, dtype: str) -> Model:
    """Return what is known of `model` before its weights are loaded.

    Raises ConfigError for an unknown baseline or a revision of what has none, CheckpointError for
    what is not a model.
    """
    folder = expanded(model)
    if revision is not None and (model.startswith(BASELINE_PREFIX) or folder.is_dir()):
        raise ConfigError(
            f"--revision: expected a model of the Hub, found {model}, which has none; leave it out"
        )
    if model.startswith(BASELINE_PREFIX):
        kind = model.removeprefix(BASELINE_PREFIX)
        if kind not in BASELINES:
            raise ConfigError(f"unknown baseline {kind}; expected one of {', '.join(BASELINES)}")
        return Model(
            name=name or TITLES[kind],
            source=model,
            revision=None,
            weights_sha256=None,
            parameters=None,
            dtype=None,
        )
    local = folder.is_dir()
    if not local and (folder.exists() or model.startswith(("/", ".", "~"))):
        raise CheckpointError(
            f"expected a model folder, found {'a file' if folder.exists() else 'nothing'} at "
            f"{model}"
        )
    if local:
        return _identify_folder(folder, name, dtype)
    if model.count("/") != 1:
        raise CheckpointError(
            f"expected a model folder or a Hub id like owner/name, found {model!r} "
            "(there is no such folder)"
        )
    from transformers import AutoConfig

    try:
        hub_config = AutoConfig.from_pretrained(model, revision=revision)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot load {model}: {one_line(error)}") from error
    return Model(
        name=name or model.split("/")[1],
        source=model,
        revision=getattr(hub_config, "_commit_hash", None),
        weights_sha256=None,
        parameters=None,
        dtype=dtype,
    )


def identify_served(model: str, *, name: str | None) -> Model:
    """Return what is known of a model behind a server: the name that it is asked for."""
    public = Path(model).name if model.startswith(("/", "~", ".")) else model
    return Model(
        name=name or public,
        source=public,
        revision=None,
        weights_sha256=None,
        parameters=None,
        dtype=None,
    )


def _identify_folder(folder: Path, name: str | None, dtype: str) -> Model:
    weights = sorted({path for pattern in _WEIGHT_PATTERNS for path in folder.glob(pattern)})
    if not (folder / "config.json").is_file() or not weights:
        missing = "config.json" if weights else "weight files (*.safetensors or *.bin)"
        raise CheckpointError(
            f"{folder} is not a model folder: no {missing}; save one with save_pretrained()"
        )
    return Model(
        name=name or folder.resolve().name,
        source=folder.resolve().name,
        revision=None,
        weights_sha256=sha256_of_files(weights, "hash of the weights"),
        parameters=None,
        dtype=dtype,
    )


def settings_sha256(model: str) -> str | None:
    """Return a hash of what stands beside the weights in a model folder: config and tokenizer.

    None for a model that is not a folder: its revision says it all.
    """
    folder = expanded(model)
    if not folder.is_dir():
        return None
    beside = {path for pattern in _SETTINGS_PATTERNS for path in folder.glob(pattern)}
    return sha256_of_files(sorted(beside), "hash of the settings")


def load_local(  # noqa: PLR0913 (each is named at the call)
    model: str,
    identity: Model,
    *,
    backend: str,
    dtype: str,
    device: str,
    batch_size: int,
    seed: int,
    thinking: bool | None = None,
) -> LM:
    """Return lm-eval's model of a folder or Hub id: hf, prefix (shared beginnings) or vllm.

    thinking: what the chat template of a model that can think or not is told; None for nothing.
    vLLM looks for its device and its batches itself. Raises ConfigError if vLLM is not installed
    or there is no such device, CheckpointError if the model does not load.
    """
    if dtype == "bfloat16" and device == "cpu" and rank() == 0:
        _tell_if_slow()
    local = expanded(model)
    common = {
        "pretrained": str(local) if local.is_dir() else model,
        "revision": identity.revision or "main",
        "dtype": dtype,
    }
    kind = _class_of(backend)
    try:
        with quiet():
            # lm-eval's own `enable_thinking` wants the mark that ends the thinking, too, and cuts
            # there; our metrics know the marks, and samples keep what was thought.
            if backend == "vllm":
                served = kind(**common, batch_size="auto", seed=seed, enable_prefix_caching=True)
                served.enable_thinking = thinking  # it overwrites what its template arguments say
                return served
            template = {} if thinking is None else {"enable_thinking": thinking}
            found = kind(
                **common, device=device, batch_size=batch_size, chat_template_args=template
            )
    # transformers and safetensors raise many kinds for a damaged file; each is the user's to mend.
    except Exception as error:
        raise CheckpointError(f"cannot load the model {model}: {one_line(error)}") from error
    # A launcher gives each process a device of its own, of the kind that was asked for.
    asked = device if found.world_size == 1 else device.partition(":")[0]
    _require_device(asked, str(found.device))
    return found


def _tell_if_slow() -> None:
    from hebench.train.device import bf16_speed  # torch, without which baselines do

    if (speed := bf16_speed()) < _SLOW:
        _LOGGER.warning(
            "this processor multiplies %.0f times as slowly in bfloat16 as in float32; "
            "--dtype float32 is quicker here",
            1 / speed,
        )


def _require_device(asked: str, found: str) -> None:
    """Raise ConfigError unless `found` is the device that was asked for: lm-eval takes another."""
    kind, _, number = asked.partition(":")
    if kind != found.partition(":")[0] or (number and asked != found):
        raise ConfigError(
            f"--device: expected a device of this machine, such as {found}, found {asked}"
        )


def _class_of(backend: str) -> Callable[..., LM]:
    if backend == "vllm":
        try:
            from lm_eval.models.vllm_causallms import VLLM
        except ImportError as error:
            raise ConfigError(
                f"--backend vllm needs the vllm package ({one_line(error)}); install hebench[vllm]"
            ) from error
        found: Callable[..., LM] = VLLM
        return found
    if backend == "prefix":
        from hebench.harness.prefix import PrefixLM

        return PrefixLM
    from lm_eval.models.huggingface import HFLM

    stock: Callable[..., LM] = HFLM
    return stock


class BaselineLM(LM):  # type: ignore[misc]
    """A baseline in the place of a model: it sees documents, not prompts."""

    def __init__(self, kind: str, seed: int) -> None:
        """Take the baseline `kind`, a key of `BASELINES`."""
        super().__init__()
        self._answer = BASELINES[kind]
        self._seed = seed

    def applies(self, docs: Sequence[dict[str, Any]]) -> bool:
        """Return whether the baseline can answer documents of this kind."""
        return self._answer(docs, self._seed) is not None

    def loglikelihood(
        self, requests: list[Any], disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        """Return 0 for the choice that the baseline makes and -1 for the others."""
        chosen = self._by_document(requests)
        return [
            (0.0, True) if chosen[_document(request)] == request.idx else (-1.0, False)
            for request in requests
        ]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """Raise TaskError: there is nothing to say about running text."""
        raise TaskError("a baseline has no likelihood of running text; leave that task out")

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Return the baseline's text for each request; a choice is given by its text."""
        answers = self._by_document(requests)
        return [_text(answers[_document(request)], request.doc) for request in requests]

    @property
    def tokenizer_name(self) -> str:
        """There is none; lm-eval asks for its name where prompts are messages."""
        return "baseline"

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return the messages as JSON; nobody reads them."""
        return json.dumps(chat_history, ensure_ascii=False)

    def _by_document(self, requests: list[Any]) -> dict[tuple[str, int], int | str]:
        docs: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
        for request in requests:
            docs[request.task_name][request.doc_id] = request.doc
        found: dict[tuple[str, int], int | str] = {}
        for task, by_id in docs.items():
            answers = self._answer(list(by_id.values()), self._seed) or []
            found.update(zip(((task, key) for key in by_id), answers, strict=True))
        return found


def _text(answer: int | str, doc: dict[str, Any]) -> str:
    return answer if isinstance(answer, str) else str(doc["choices"][answer])


def _document(request: Any) -> tuple[str, int]:
    return request.task_name, request.doc_id
