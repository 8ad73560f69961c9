from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from hebench.errors import ConfigError
from hebench.train import device
from hebench.train.device import Backend, Batch
from hebench.train.leak import check_leaks, tiny_pack
from hebench.train.packing import PADDING
from tests.conftest import DEVICE


@pytest.fixture(scope="module")
def folder(
    tiny_model_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("leak"), kind="mistral", tied=False)


class Naive(Backend):
    """Rows without a mask, as a plain collator makes them."""

    def with_mask(self, batch: Mapping[str, torch.Tensor]) -> Batch:
        positions = torch.arange(batch["document_ids"].shape[1])
        return {**batch, "position_ids": positions.expand_as(batch["document_ids"])}


class Ones(Backend):
    """Rows with the 2-D mask of ones that tokenizers give."""

    def with_mask(self, batch: Mapping[str, torch.Tensor]) -> Batch:
        return {**batch, "attention_mask": torch.ones_like(batch["document_ids"])}


class Uncausal(Backend):
    """Documents apart, each seen whole."""

    def with_mask(self, batch: Mapping[str, torch.Tensor]) -> Batch:
        documents = batch["document_ids"]
        same = documents[:, :, None] == documents[:, None, :]
        return {**batch, "attention_mask": same[:, None]}


class WithPadding(Backend):
    """Documents apart, but padding belongs to the document before it."""

    def with_mask(self, batch: Mapping[str, torch.Tensor]) -> Batch:
        documents = batch["document_ids"].clone()
        documents[documents == PADDING] = documents.max()
        first = documents.clone()
        first[:, 0] = PADDING
        mask = device.attention_mask(documents, "bool")
        assert mask is not None
        mask[:, :, :, 0] = True  # and the first token of a row is seen by all
        return {**batch, "attention_mask": mask}


@pytest.mark.parametrize(
    ("attention", "convention"),
    [
        ("eager", "additive"),
        ("eager", "positions"),
        ("sdpa", "bool"),
        ("sdpa", "additive"),
        ("sdpa", "positions"),
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_a_right_mask_passes(folder: Path, attention: str, convention: Any, training: bool) -> None:
    model = device.load_model(folder, attention).train(training).to(DEVICE)
    check_leaks(model, Backend(name="cpu", attention=attention, convention=convention))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_that_finds_documents_by_positions_in_one_row_only_passes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As transformers' flash attention does, which is not on every machine."""
    model = device.load_model(folder, "sdpa")
    forward = model.forward

    def one_row_only(**inputs: Any) -> Any:
        if len(inputs["position_ids"]) > 1:
            inputs.pop("position_ids")
        return forward(**inputs)

    monkeypatch.setattr(model, "forward", one_row_only)
    check_leaks(model, Backend(name="cuda", attention="flash_attention_2", convention="positions"))
    with pytest.raises(ConfigError, match="packed documents see each other"):
        check_leaks(model, Backend(name="cpu", attention="sdpa", convention="positions"))


@pytest.mark.parametrize(
    ("attention", "convention"),
    [("eager", "bool"), ("sdpa", "zero_one"), ("eager", "zero_one")],
)
def test_a_mask_of_another_convention_is_a_leak(
    folder: Path, attention: str, convention: Any
) -> None:
    model = device.load_model(folder, attention)
    backend = Backend(name="cpu", attention=attention, convention=convention)
    with pytest.raises(ConfigError, match=rf"see each other .*{attention}, mask {convention}"):
        check_leaks(model, backend)


@pytest.mark.parametrize("kind", [Naive, Ones, WithPadding])
def test_a_mask_that_lets_others_in_is_a_leak(folder: Path, kind: type[Backend]) -> None:
    model = device.load_model(folder, "sdpa")
    with pytest.raises(ConfigError, match="packed documents see each other"):
        check_leaks(model, kind(name="cpu", attention="sdpa", convention="bool"))


def test_a_mask_that_shows_the_future_is_refused(folder: Path) -> None:
    model = device.load_model(folder, "sdpa")
    with pytest.raises(ConfigError, match="tokens see their own future"):
        check_leaks(model, Uncausal(name="cpu", attention="sdpa", convention="bool"))


def test_a_model_that_answers_without_looking_proves_nothing(folder: Path) -> None:
    model = device.load_model(folder, "sdpa")
    torch.nn.init.zeros_(model.lm_head.weight)
    with pytest.raises(ConfigError, match="documents do not see themselves"):
        check_leaks(model, Backend(name="cpu", attention="sdpa", convention="bool"))


def test_gradients_that_are_no_numbers_prove_nothing(folder: Path) -> None:
    model = device.load_model(folder, "sdpa")
    torch.nn.init.constant_(model.lm_head.weight, float("nan"))
    with pytest.raises(ConfigError, match="found nan"):
        check_leaks(model, Backend(name="cpu", attention="sdpa", convention="bool"))


def test_the_check_survives_activation_checkpointing(folder: Path) -> None:
    model = device.load_model(folder, "sdpa").train()
    # transformers 4.55 has it by its old name.
    name = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    getattr(model, f"{name}_checkpointing_enable")({"use_reentrant": False})
    check_leaks(model, Backend(name="cpu", attention="sdpa", convention="bool"))


def test_the_pack_has_padding_a_single_token_and_several_rows() -> None:
    pack = tiny_pack(50)
    assert pack["input_ids"].shape == (2, 24)
    assert int(pack["input_ids"].max()) < 50
    assert (pack["document_ids"] == PADDING).any(-1).all()
    assert (pack["document_ids"][0] == 1).sum() == 1
