"""Memory estimates: parameters as in the real model, states as in the paper's worked example."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from hebench.errors import CheckpointError
from hebench.train import memory
from hebench.train.adapters import Lora, adapted, trained_parameters
from hebench.train.device import Backend, load_model
from hebench.train.frozen import open_tokenizer
from hebench.train.memory import memory_bytes, parameters, without_weights
from hebench.train.vocabulary import read_base
from tests.train.made_rows import training

CPU = Backend(name="cpu", attention="sdpa", convention="bool")
STATES = ("weights", "gradients", "optimiser")
LORA = Lora(rank=4, alpha=8, dropout=0.0)


@pytest.fixture
def folder(tmp_path: Path, tiny_model_folder: Callable[..., Path]) -> Path:
    return tiny_model_folder(tmp_path / "model", tied=True)


def real(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder)


def test_parameters_are_those_of_the_real_model_before_and_after_it_grows(folder: Path) -> None:
    model = real(folder)
    rows, width = model.get_input_embeddings().weight.shape
    count = sum(weight.numel() for weight in model.parameters())
    network = without_weights(folder)
    assert parameters(network) == count
    assert all(weight.device.type == "meta" for weight in network.parameters())
    # Untied: the head's old rows are numbers of their own, and both tables get seven more.
    grown = without_weights(folder, new_pieces=7)
    assert parameters(grown) == count + rows * width + 2 * 7 * width


@pytest.mark.skipif(
    transformers.__version__.startswith("4."), reason="transformers 4 takes values of any kind"
)
@pytest.mark.parametrize(
    "change", [{"num_hidden_layers": "two"}, {"hidden_size": 33, "num_attention_heads": 4}]
)
def test_a_configuration_of_the_wrong_kind_is_one_line(
    folder: Path, change: dict[str, Any]
) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change))
    for read in (without_weights, read_base, lambda place: load_model(place, "sdpa")):
        with pytest.raises(CheckpointError) as info:
            read(folder)
        assert "\n" not in str(info.value)


def test_a_tokenizer_that_cannot_be_used_is_one_line(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"model": {"type": "BPE"}}')
    with pytest.raises(CheckpointError, match="expected a tokenizer, found") as info:
        open_tokenizer(folder)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("stage", "gigabytes"), [(1, 31.4), (2, 16.6), (3, 1.88)], ids=["ZeRO-1", "ZeRO-2", "ZeRO-3"]
)
def test_states_under_zero_are_those_of_the_papers_figure(
    folder: Path, stage: Any, gigabytes: float
) -> None:
    """Rajbhandari et al. 2020, figure 1: 7.5 billion parameters, 64 processes, 16 bits."""
    network = without_weights(folder)
    config = training(zero_stage=stage, world_size=64, global_rows=128, precision="bf16")
    found = memory_bytes(config, CPU, network, None)
    together = sum(found[part] for part in STATES) * 7.5e9 / parameters(network)
    assert together / 1e9 == pytest.approx(gigabytes, rel=0.01)


def test_states_without_zero_are_what_the_optimiser_really_holds(folder: Path) -> None:
    model = real(folder)
    optimiser = torch.optim.AdamW(model.parameters())
    model(input_ids=torch.tensor([[1, 2, 3]]), use_cache=False).logits.sum().backward()
    optimiser.step()

    def size(tensors: Any) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    moments = [
        value
        for state in optimiser.state.values()
        for name, value in state.items()
        if name != "step"
    ]
    found = memory_bytes(training(), CPU, without_weights(folder), None)
    assert found["weights"] == size(model.parameters())
    assert found["gradients"] == size(weight.grad for weight in model.parameters())
    assert found["optimiser"] == size(moments)
    assert found["copies"] == 0


@pytest.mark.parametrize(("processes", "share"), [(1, 6.0), (8, 0.75)])
def test_deepspeeds_step_needs_copies_of_its_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int, share: float
) -> None:
    """As `test_zero_takes_the_memory_that_was_worked_out` sees it in a real process."""
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 2}
    transformers.LlamaConfig(**sizes, vocab_size=1000).save_pretrained(tmp_path)
    network = without_weights(tmp_path)
    monkeypatch.setattr(memory, "BUCKET", 1000)
    settings = {"world_size": processes, "global_rows": 8, "micro_rows": 1, "row_tokens": 8}
    half = training(zero_stage=2, precision="bf16", **settings)
    found = memory_bytes(half, CPU, network, None)
    assert found["bucket"] == 2 * 1000
    passing = sum(found[part] for part in ("activations", "logits", "bucket", "step"))
    assert passing == pytest.approx(share * parameters(network))
    plain = memory_bytes(training(precision="bf16", **settings), CPU, network, None)
    assert plain["step"] == plain["bucket"] == 0


def test_adapters_alone_have_gradients_and_moments(folder: Path) -> None:
    count = trained_parameters(adapted(real(folder), LORA, seed=0))
    found = memory_bytes(training(), CPU, without_weights(folder), LORA)
    whole = parameters(without_weights(folder))
    assert [found[part] for part in STATES] == [4 * (whole + count), 4 * count, 8 * count]


def test_longer_rows_cost_their_square_with_eager_attention_only(folder: Path) -> None:
    def activations(attention: str, row_tokens: int) -> float:
        backend = Backend(name="cpu", attention=attention, convention="bool")
        config = training(row_tokens=row_tokens, micro_rows=1)
        return memory_bytes(config, backend, without_weights(folder), None)["activations"]

    assert activations("sdpa", 512) == 2 * activations("sdpa", 256)
    assert activations("eager", 512) > 2 * activations("eager", 256)


def test_checkpointing_keeps_one_layer_and_the_inputs_of_all(folder: Path) -> None:
    plain, cheap = (
        memory_bytes(training(activation_checkpointing=on), CPU, without_weights(folder), None)
        for on in (False, True)
    )
    assert cheap["activations"] < plain["activations"]
    assert cheap["logits"] == plain["logits"] > 0


@pytest.mark.parametrize("content", [None, "{}", "not json"])
def test_a_folder_without_a_causal_model_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"expected a (model folder|causal language model)"):
        without_weights(tmp_path)
