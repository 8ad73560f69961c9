"""Shared fixtures: a tiny random model, the files beside the checkout, a private cache."""

import os
import signal

# A shell has what it runs in the background ignore Ctrl-C, which tests send to what they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Tests run in several processes at once: each keeps to one thread, or they fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Here and not in a fixture: the Hub's package reads it when a test module imports it.
os.environ["HF_HUB_OFFLINE"] = "1"

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# An example may take as long as a busy machine makes it.
settings.register_profile("hebench", deadline=None)
settings.load_profile("hebench")

REPOSITORY = Path(__file__).parent.parent
DEVICE = os.environ.get("HEBENCH_TEST_DEVICE", "cpu")  # where models compute: cuda on a GPU


@pytest.fixture(scope="session", autouse=True)
def _offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reaches a hub or a user's cache; progress bars stay quiet."""
    patch = pytest.MonkeyPatch()
    patch.setenv("TQDM_DISABLE", "1")
    # One cache for all processes of a run: the demo model is converted once.
    base = tmp_path_factory.getbasetemp()
    common = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    cache = os.environ.get("HEBENCH_TEST_CACHE") or str(common / "cache")
    patch.setenv("HEBENCH_CACHE", cache)
    patch.delenv("HEBENCH_MIRROR", raising=False)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The mirrored public files and the reference vectors, which the project does not ship."""
    folder = Path(os.environ.get("HEBENCH_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"needs the mirror of public files: no {folder} (set HEBENCH_SHARED)")
    return folder


@pytest.fixture
def mirror(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """HEBENCH_MIRROR set to the mirrored public files, with an empty cache of its own."""
    monkeypatch.setenv("HEBENCH_MIRROR", str(shared / "upstream"))
    monkeypatch.setenv("HEBENCH_CACHE", str(tmp_path / "cache"))
    return shared / "upstream"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved two-layer random Llama with a byte-level BPE tokenizer trained on the mini sets."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny", seed=0)


def make_tiny_model(folder: Path, *, seed: int, context: int = 8192) -> Path:
    """Save a random two-layer model (about 0.5 M parameters) to `folder`."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from hebench.data.load import mini_records

    texts = [record["passage"] for record in mini_records("qa")]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=1024,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        # At the default scale a random model's answers are nearly equal.
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The system's Chromium, headless: one for all tests, since playwright runs once a process."""
    from tests.chromium import launched

    yield from launched()
