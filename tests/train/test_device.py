import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hebench.errors import CheckpointError, ConfigError
from hebench.train import device
from hebench.train.device import Backend, attention_mask, collate, logits_of
from hebench.train.objective import NEXT_TOKEN
from hebench.train.packing import IGNORED, PADDING, Piece, lay
from tests.conftest import DEVICE
from tests.train.made_rows import training

SETTINGS = [
    ("eager", "additive"),
    ("eager", "positions"),
    ("sdpa", "bool"),
    ("sdpa", "additive"),
    ("sdpa", "positions"),
]


def backend_of(attention: str, convention: Any) -> Backend:
    return Backend(name="cpu", attention=attention, convention=convention)


def pieces_of(lengths: list[int], seed: int = 0) -> list[Piece]:
    random = np.random.default_rng(seed)
    return [Piece.whole(random.integers(0, 400, size=length)) for length in lengths]


def alone(model: Any, piece: Piece) -> torch.Tensor:
    """Return the logits of a document by itself, without any mask of ours: the oracle."""
    ids = torch.as_tensor(piece.tokens, device=model.device)[None]
    return model(input_ids=ids, use_cache=False).logits[0]  # type: ignore[no-any-return]


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=12))
@settings(max_examples=30)
def test_every_convention_says_what_a_loop_over_pairs_says(numbers: list[int]) -> None:
    documents = torch.tensor([sorted(numbers, reverse=True)])
    length = len(numbers)
    expected = torch.zeros(1, 1, length, length, dtype=torch.bool)
    for query in range(length):
        for key in range(query + 1):
            same = documents[0, query] == documents[0, key]
            expected[0, 0, query, key] = same
    allowed = attention_mask(documents, "bool")
    weights = attention_mask(documents, "zero_one")
    added = attention_mask(documents, "additive")
    assert attention_mask(documents, "positions") is None
    assert allowed is not None and weights is not None and added is not None
    assert torch.equal(allowed, expected)
    assert weights.dtype == torch.float32 and torch.equal(weights, expected.float())
    assert torch.equal(added == 0, expected)
    assert (added[~expected] == torch.finfo(torch.float32).min).all()
    assert expected.any(-1).all(), "a row that attends to nothing makes NaN"


def attend(heads: torch.Tensor, mask: torch.Tensor, convention: str) -> torch.Tensor:
    """Return self-attention over (B, H, L, D) as the code that reads a convention computes it."""
    scores = heads @ heads.transpose(-1, -2)
    least = torch.finfo(torch.float32).min
    if convention == "bool":  # torch's scaled_dot_product_attention
        scores = scores.masked_fill(~mask, -torch.inf)
    elif convention == "additive":  # transformers' eager attention
        scores = scores + mask
    else:  # optimum-habana 1.21: inverts the weights, and fills where something is left
        inverted = 1.0 - mask
        scores = scores + inverted.masked_fill(inverted.bool(), least)
    return scores.softmax(-1) @ heads


@pytest.mark.parametrize("convention", ["bool", "additive", "zero_one"])
def test_whoever_reads_the_convention_attends_within_documents_only(convention: Any) -> None:
    lengths = [5, 1, 7, 3]
    heads = torch.randn(2, 3, sum(lengths), 8, generator=torch.Generator().manual_seed(0))
    documents = torch.repeat_interleave(torch.arange(4), torch.tensor(lengths)).expand(2, -1)
    mask = attention_mask(documents, convention)
    assert mask is not None
    whole = attend(heads, mask, convention)
    for number in range(4):
        own = documents[0] == number
        part = heads[:, :, own]
        causal = torch.ones(part.shape[-2], part.shape[-2], dtype=torch.bool).tril()
        scores = (part @ part.transpose(-1, -2)).masked_fill(~causal, -torch.inf)
        torch.testing.assert_close(whole[:, :, own], scores.softmax(-1) @ part, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["llama", "mistral"])
@pytest.mark.parametrize(("attention", "convention"), SETTINGS)
def test_packed_logits_are_those_of_the_documents_alone(
    tiny_model_folder: Callable[..., Path],
    tmp_path: Path,
    kind: str,
    attention: str,
    convention: str,
) -> None:
    folder = tiny_model_folder(tmp_path, kind=kind)
    model = device.load_model(folder, attention).eval().to(DEVICE)
    packs = [pieces_of([9, 1, 20, 2, 13]), pieces_of([40, 3, 1, 1], seed=1)]
    laid = collate([lay(pack, 48, padding_id=0) for pack in packs])
    batch = {name: tensor.to(DEVICE) for name, tensor in laid.items()}
    with torch.no_grad():
        packed = logits_of(model, batch, backend_of(attention, convention))
        for row, pack in enumerate(packs):
            for number, piece in enumerate(pack):
                own = batch["document_ids"][row] == number
                torch.testing.assert_close(packed[row][own], alone(model, piece), atol=1e-5, rtol=0)


def test_loading_a_model_prints_nothing(
    tiny_model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """What a stage prints with --json is read by programs."""
    code = "import sys; from pathlib import Path; from hebench.train.device import load_model; "
    code += "model = load_model(Path(sys.argv[1]), 'sdpa'); model.save_pretrained(sys.argv[2])"
    folder = tiny_model_folder(tmp_path / "model")
    environment = {name: value for name, value in os.environ.items() if name != "DS_ACCELERATOR"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(tmp_path / "saved")],
        env=environment,
        capture_output=True,
        check=True,
        text=True,
    )
    assert done.stdout == ""


def test_for_flash_attention_rows_are_one_row_whose_logits_are_those_of_the_rows_alone(
    tiny_model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """Flash attention finds documents by positions in one row only; here sdpa stands for it."""
    model = device.load_model(tiny_model_folder(tmp_path, kind="mistral"), "sdpa").eval()
    packs = [pieces_of([9, 1, 20, 2, 13]), pieces_of([40, 3, 1, 1], seed=1), pieces_of([48])]
    batch = collate([{**lay(pack, 48, padding_id=0), "row": np.array(0)} for pack in packs])
    seen: list[dict[str, Any]] = []
    model.register_forward_pre_hook(
        lambda _, args, inputs: seen.append(inputs) or None, with_kwargs=True
    )
    with torch.no_grad():
        found = logits_of(model, batch, backend_of("flash_attention_2", "positions"))
        for row in range(3):
            one = {name: tensor[row : row + 1] for name, tensor in batch.items()}
            expected = logits_of(model, one, backend_of("sdpa", "positions"))
            torch.testing.assert_close(found[row : row + 1], expected, atol=1e-5, rtol=0)
    assert seen[0]["input_ids"].shape == (1, 144)
    assert seen[0]["position_ids"][0, ::48].tolist() == [0, 0, 0]
    assert "attention_mask" not in seen[0]


def test_the_mask_keeps_documents_apart_under_a_sliding_window_too(
    tiny_model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tiny_model_folder(tmp_path, kind="mistral")
    backend = backend_of("sdpa", "positions")
    model = device.load_model(folder, "sdpa").eval()
    model.config.sliding_window = 8
    pack = pieces_of([20, 17])
    batch = collate([lay(pack, 40, padding_id=0)])
    with torch.no_grad():
        packed = logits_of(model, batch, backend)[0]
        for number, piece in enumerate(pack):
            own = batch["document_ids"][0] == number
            torch.testing.assert_close(packed[own], alone(model, piece), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("attention", "convention"), SETTINGS)
def test_the_order_of_documents_in_a_row_leaves_their_losses(
    tiny_model_folder: Callable[..., Path], tmp_path: Path, attention: str, convention: str
) -> None:
    model = device.load_model(tiny_model_folder(tmp_path), attention).eval()
    backend = backend_of(attention, convention)
    pack = pieces_of([9, 2, 20, 13])

    def losses(order: list[int]) -> list[float]:
        batch = collate([lay([pack[i] for i in order], 48, padding_id=0)])
        found = {}
        for place, index in enumerate(order):
            own = batch["document_ids"] == place
            labels = torch.where(own, batch["labels"], IGNORED)
            total, _ = NEXT_TOKEN.total(model, {**batch, "labels": labels}, backend)
            found[index] = float(total)
        return [found[index] for index in range(len(pack))]

    with torch.no_grad():
        assert losses([3, 1, 0, 2]) == pytest.approx(losses([0, 1, 2, 3]), abs=1e-4)


def test_the_objective_is_the_mean_loss_of_the_documents_alone(
    tiny_model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    model = device.load_model(tiny_model_folder(tmp_path), "sdpa").eval()
    pack = pieces_of([9, 2, 20])
    batch = collate([lay(pack, 40, padding_id=0)])
    with torch.no_grad():
        total, others = NEXT_TOKEN.total(model, batch, backend_of("sdpa", "bool"))
        expected = sum(
            float(
                torch.nn.functional.cross_entropy(
                    alone(model, piece)[:-1], torch.as_tensor(piece.tokens[1:]), reduction="sum"
                )
            )
            for piece in pack
        )
    assert float(total) == pytest.approx(expected, rel=1e-5)
    assert int(NEXT_TOKEN.count(batch)) == 8 + 1 + 19
    assert others == {}


def test_a_row_of_padding_alone_gives_finite_numbers(
    tiny_model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    model = device.load_model(tiny_model_folder(tmp_path), "sdpa").eval()
    batch = collate([lay([], 16, padding_id=0)])
    assert (batch["document_ids"] == PADDING).all()
    assert torch.isfinite(logits_of(model, batch, backend_of("sdpa", "bool"))).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda", "backend cuda: expected a CUDA device, found none"),
        ("hpu", "expected Habana's PyTorch"),
        ("gaudi", "expected Habana's PyTorch"),
    ],
)
def test_a_backend_that_is_not_here_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if name != "cuda" and device.importlib.util.find_spec("habana_frameworks"):
        pytest.skip("this machine has Habana's software")
    with pytest.raises(ConfigError, match=message):
        device.open_backend(training(backend=name))


@pytest.mark.parametrize(
    ("changes", "attention", "convention"),
    [
        ({}, "sdpa", "bool"),
        ({"attention": "eager"}, "eager", "additive"),
        (
            {"attention": "flash_attention_2", "precision": "bf16"},
            "flash_attention_2",
            "positions",
        ),
    ],
)
def test_the_mask_follows_from_backend_and_attention(
    changes: dict[str, Any], attention: str, convention: str
) -> None:
    backend = device.open_backend(training(**changes))
    assert (backend.attention, backend.convention) == (attention, convention)


def test_hpu_is_planned_as_plain_transformers_without_the_processor() -> None:
    config = training(backend="hpu")
    backend = device.plan_backend(config)
    assert (backend.name, backend.attention, backend.convention) == ("hpu", "sdpa", "bool")
    arguments = device.trainer_arguments(config, backend, Path("x"))
    assert not arguments["use_cpu"] and arguments["optim"] == "adamw_torch"
    assert "use_habana" not in arguments and not arguments["dataloader_pin_memory"]
    assert device.trainer_class(backend).__module__.startswith("transformers.")


@pytest.mark.parametrize(
    ("precision", "attention"), [("bf16", "flash_attention_2"), ("fp32", "sdpa")]
)
def test_flash_attention_is_chosen_where_it_is_there_and_computes_in_the_precision(
    monkeypatch: pytest.MonkeyPatch, precision: str, attention: str
) -> None:
    monkeypatch.setattr(device.importlib.util, "find_spec", lambda name: name)
    config = training(backend="cuda", precision=precision)
    assert device.plan_backend(config).attention == attention


@pytest.mark.skipif(DEVICE != "cpu", reason="of processors")
@pytest.mark.parametrize("faster", [True, False])
def test_a_processor_s_precision_is_the_faster_one_or_that_in_which_the_work_began(
    monkeypatch: pytest.MonkeyPatch, *, faster: bool
) -> None:
    monkeypatch.setattr(device, "_multiplies_faster_in_bf16", lambda: faster)
    asked = training(precision="auto")
    assert device.with_precision(asked).precision == ("bf16" if faster else "fp32")
    for begun in ("bf16", "fp32"):
        assert device.with_precision(asked, begun).precision == begun
        assert device.with_precision(training(precision=begun), "other").precision == begun
    several = training(precision="auto", world_size=2, micro_rows=1)
    assert device.with_precision(several).precision == "fp32"  # each might find another


@pytest.mark.parametrize(
    ("fp32", "bf16", "faster"), [(5.0, 3.0, True), (5.0, 4.5, False), (1.0, 2.0, False)]
)
def test_a_trial_takes_bf16_where_its_best_time_is_clearly_the_better_one(
    monkeypatch: pytest.MonkeyPatch, fp32: float, bf16: float, *, faster: bool
) -> None:
    # One in six is not held up by other work.
    clock = products_that_take(x * best for best in (fp32, bf16) for x in (9, 7, 1, 8, 8, 8))
    monkeypatch.setattr(device, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(device, "bf16_speed", device.bf16_speed.__wrapped__)
    monkeypatch.setattr(device, "_TRIAL", 8)
    assert device._multiplies_faster_in_bf16() is faster
    assert next(clock, None) is None


def test_a_trial_is_short_where_bf16_is_slow_by_far(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = products_that_take([3, 1, 2, 2, 2, 2, 50])
    monkeypatch.setattr(device, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(device, "_TRIAL", 8)
    assert device.bf16_speed.__wrapped__() == 1 / 50
    assert next(clock, None) is None


def products_that_take(seconds: Iterable[float]) -> Iterator[float]:
    """Yield what a clock says before and after each product; each begins at 0."""
    return (says for each in seconds for says in (0.0, float(each)))


def test_gaudi_trains_with_eager_attention_and_a_mask_of_ones_and_zeros(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device, "lacking", lambda name: "")
    backend = device.open_backend(training(backend="gaudi"))
    assert (backend.attention, backend.convention) == ("eager", "zero_one")


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_deepspeed_takes_its_sizes_from_the_recipe(stage: Any, precision: Any) -> None:
    config = training(
        zero_stage=stage, precision=precision, world_size=2, micro_rows=3, global_rows=12
    )
    found = device.deepspeed_config(config)
    assert found is not None
    assert found["train_micro_batch_size_per_gpu"] == 3
    assert found["gradient_accumulation_steps"] == 2
    assert found["train_batch_size"] == 12
    assert found["gradient_clipping"] == 1.0
    assert found["bf16"]["enabled"] == (precision == "bf16")
    assert found["zero_optimization"]["stage"] == stage
    assert device.deepspeed_config(training()) is None


def test_what_differs_between_trainers_is_written_out() -> None:
    backend = device.open_backend(training())
    found = device.trainer_arguments(training(activation_checkpointing=True), backend, Path("x"))
    assert found["adam_epsilon"] == 1e-8
    assert found["logging_nan_inf_filter"] is False
    assert found["ddp_bucket_cap_mb"] == 25
    names = {"activation_checkpointing", "gradient_checkpointing"} & found.keys()
    assert [found[name] for name in names] == [True]  # transformers 5 renamed it
    assert found["use_cpu"] is (DEVICE == "cpu") and found["bf16"] is False


def test_the_arguments_of_gaudi_can_be_shown_on_any_machine() -> None:
    config = training(backend="gaudi", activation_checkpointing=True)
    found = device.trainer_arguments(config, device.plan_backend(config), Path("x"))
    assert found["use_habana"] is True and found["use_lazy_mode"] is True
    assert found["gradient_checkpointing"] is True and found["attn_implementation"] == "eager"
    assert found["use_cpu"] is False


def test_another_number_of_processes_than_asked_is_refused(tmp_path: Path) -> None:
    config = training(world_size=2)
    with pytest.raises(ConfigError, match=r"expected 2 processes, found 1; launch with torchrun"):
        device.start(config, device.open_backend(config), tmp_path)
    assert os.environ.get("DS_ACCELERATOR") == {"cpu": "cpu"}.get(DEVICE)


def test_processes_on_processors_wait_as_long_as_those_on_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first one may pack for hours, and gloo's own patience is half of one."""
    asked: list[float] = []
    monkeypatch.setattr(
        "torch.distributed.init_process_group",
        lambda backend, timeout: asked.append(timeout.total_seconds()),
    )
    device._start_gloo()
    config = training()
    arguments = device.trainer_arguments(config, device.plan_backend(config), Path("x"))
    assert asked == [arguments["ddp_timeout"]]


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a causal language model"):
        device.load_model(tmp_path, "sdpa")


@pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1\n", b""])
def test_a_file_of_weights_that_is_none_is_refused(
    content: bytes, tiny_model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tiny_model_folder(tmp_path / "tiny")
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="expected a causal language model, found Error"):
        device.load_model(folder, "sdpa")
