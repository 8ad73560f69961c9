"""Our side of optimum-habana's contract, held against the installed package, on a processor.

optimum-habana's Trainer, arguments and model code run as they are; Habana's software below them is
mocked (`stub.py`), so this says nothing of the hardware's numbers. It needs an environment of its
own (`constraints/gaudi.txt`), which `tests/real/test_gaudi.py` builds to run this file in it.
"""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, TrainerCallback, TrainingArguments

from hebench.errors import ConfigError
from hebench.train import device
from hebench.train.device import Backend, collate, logits_of
from hebench.train.leak import check_leaks
from hebench.train.packing import Piece, lay
from tests.conftest import REPOSITORY
from tests.gaudi import stub  # before optimum-habana, which imports what it mocks
from tests.gaudi.jobs import KINDS, STAGES, numbers, run
from tests.train.made_rows import training

GAUDI = Backend(name="gaudi", attention="eager", convention="zero_one")
_ARGUMENTS = device.trainer_arguments  # as they go to the hardware

# What each of two processes does; argv: the folder of the jobs.
SHARED = """
import sys
from pathlib import Path
from tests.gaudi import stub
from tests.gaudi.jobs import run
stub.compute_here()
run(Path(sys.argv[1]), "llama", "pretrain", "gaudi", world_size=2, micro_rows=1)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the jobs read, and the logs of those on transformers' own code."""
    found = tmp_path_factory.mktemp("jobs")
    subprocess.run(
        [sys.executable, "-m", "tests.gaudi.jobs", str(found)],
        check=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    return found


@pytest.fixture(scope="module", autouse=True)
def _here() -> None:
    stub.compute_here()
    stub.change()


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest, folder: Path) -> Any:
    """A model of optimum-habana's code."""
    found = device.load_model(folder / request.param, "eager").eval()
    assert type(found.model.layers[0]).__module__.startswith("optimum.habana")
    return found


def given(**changes: Any) -> dict[str, Any]:
    return _ARGUMENTS(training(backend="gaudi", **changes), GAUDI, Path("out"))


@pytest.mark.parametrize(
    "changes", [{}, {"activation_checkpointing": True, "precision": "bf16", "max_grad_norm": 0.3}]
)
def test_the_installed_arguments_take_ours_and_hold_what_was_given(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    from optimum.habana import GaudiConfig, GaudiTrainingArguments

    asked = given(**changes) | {"output_dir": str(tmp_path)}
    held = GaudiTrainingArguments(**asked | {"use_cpu": True})  # to look for no device
    # Of one process there is nothing to average over, and they say so.
    found = {name: getattr(held, name) for name in asked} | {"average_tokens_across_devices": True}
    assert found | {"use_cpu": False} == asked
    config = GaudiConfig(**device.GAUDI_CONFIG)
    assert {name: getattr(config, name) for name in device.GAUDI_CONFIG} == device.GAUDI_CONFIG
    zero = given(zero_stage=2)
    assert zero.keys() <= {field.name for field in dataclasses.fields(GaudiTrainingArguments)}


def test_every_default_that_is_gaudis_own_is_written_out() -> None:
    from optimum.habana import GaudiTrainingArguments

    def defaults(cls: type[Any]) -> dict[str, Any]:
        return {
            field.name: field.default
            for field in dataclasses.fields(cls)
            if field.default is not dataclasses.MISSING
        }

    usual = defaults(TrainingArguments)
    own = {
        name
        for name, value in defaults(GaudiTrainingArguments).items()
        if name in usual and value != usual[name]
    }
    # The one that is left to it: half precision by the hardware's own autocast.
    assert own - given().keys() == {"half_precision_backend"}
    assert {"adam_epsilon", "logging_nan_inf_filter", "ddp_bucket_cap_mb"} <= own


def test_packed_logits_are_those_of_the_documents_alone(model: Any) -> None:
    random = torch.Generator().manual_seed(0)
    pieces = [
        Piece.whole(torch.randint(3, 400, (length,), generator=random).numpy())
        for length in (9, 1, 20, 2, 13)
    ]
    batch = collate([lay(pieces, 48, padding_id=0)])
    with torch.no_grad():
        packed = logits_of(model, batch, GAUDI)[0]
        for number, piece in enumerate(pieces):
            ids = torch.as_tensor(piece.tokens)[None]
            alone = logits_of(
                model,
                {
                    "input_ids": ids,
                    "position_ids": torch.arange(len(piece.tokens))[None],
                    "document_ids": torch.zeros_like(ids),
                },
                GAUDI,
            )[0]
            own = batch["document_ids"][0] == number
            torch.testing.assert_close(packed[own], alone, atol=1e-5, rtol=0)


def test_no_mask_but_ones_and_zeros_keeps_documents_apart(model: Any) -> None:
    model.train()  # as at the start of a job; otherwise its Llama adds in place
    check_leaks(model, GAUDI)
    for convention in ("additive", "positions"):
        with pytest.raises(ConfigError, match="nothing was trained"):
            check_leaks(model, dataclasses.replace(GAUDI, convention=convention))
    with pytest.raises(RuntimeError, match="bool"):
        check_leaks(model, dataclasses.replace(GAUDI, convention="bool"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", STAGES)
def test_gaudis_trainer_has_the_numbers_of_transformers_own(
    folder: Path, kind: str, stage: str
) -> None:
    expected = numbers(folder / "cpu" / kind / stage)
    found = numbers(run(folder, kind, stage, "gaudi"))
    assert len(found) == len(expected) >= 3
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    weights, others = (
        AutoModelForCausalLM.from_pretrained(folder / name / kind / stage / "model").state_dict()
        for name in ("gaudi", "cpu")
    )
    for name, tensor in others.items():
        torch.testing.assert_close(weights[name], tensor, atol=1e-4, rtol=2**-7)


class Cut(TrainerCallback):  # type: ignore[misc]
    """Ends the work after the third step, as a kill would."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 3:
            raise KeyboardInterrupt


@pytest.fixture
def another(folder: Path, tmp_path: Path) -> Path:
    """A folder with what pre-training reads, and no runs."""
    for name in ("llama", "corpus"):
        (tmp_path / name).symlink_to(folder / name)
    return tmp_path


def test_gaudis_trainer_goes_on_from_a_checkpoint_of_ours(folder: Path, another: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(another, "llama", "pretrain", "gaudi", [Cut()])
    out = run(another, "llama", "pretrain", "gaudi")
    for ours, theirs in zip(numbers(out), numbers(folder / "cpu/llama/pretrain"), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)


def test_two_processes_of_gaudis_trainer_equal_one(folder: Path, another: Path) -> None:
    script = another / "shared.py"
    script.write_text(SHARED)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    subprocess.run(
        [*launcher, "--standalone", "--local_addr", "127.0.0.1", str(script), str(another)],
        check=True,
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
    )
    found, expected = numbers(another / "gaudi/llama/pretrain"), folder / "cpu/llama/pretrain"
    for ours, theirs in zip(found, numbers(expected), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
