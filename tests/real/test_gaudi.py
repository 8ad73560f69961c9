"""Gaudi's environment as its constraints have it, and our side of its contract, tested in it."""

import json
import os
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

# What `pip list` says of Habana's software, which optimum-habana asks for when it is imported.
PLUGIN = "habana_torch_plugin-1.24.0.dist-info"
METADATA = "Metadata-Version: 2.1\nName: habana-torch-plugin\nVersion: 1.24.0\n"


# The command line on optimum-habana's Trainer, a processor in the hardware's place.
HEBENCH = """
from tests.gaudi import stub
stub.compute_here()
from hebench.cli import main
main()
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with `hebench[gaudi]`; torch, there the vendor's, is that of the tests."""
    folder = tmp_path_factory.mktemp("gaudi")
    venv.create(folder, with_pip=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    torch = distribution("torch")
    for name in {path.parts[0] for path in torch.files or () if path.parts[0] != ".."}:
        (packages / name).symlink_to(str(torch.locate_file(name)))
    (packages / PLUGIN).mkdir()
    (packages / PLUGIN / "METADATA").write_text(METADATA)
    install = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--no-compile"]
    install += ["--constraint", REPOSITORY / "constraints/gaudi.txt"]
    install += ["--editable", f"{REPOSITORY}[gaudi]", "pytest", "hypothesis"]
    subprocess.run(install, check=True, capture_output=True)
    return folder


def python(environment: Path, *arguments: str) -> None:
    """Run the environment's Python in the repository; what it printed is in the failure."""
    found = subprocess.run(
        [environment / "bin/python", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-5000:] + found.stderr[-3000:]


def test_gaudis_trainer_and_models_keep_our_contract(environment: Path) -> None:
    pytest_alone = ("-W", "ignore", "-o", "addopts=--import-mode=importlib")
    python(environment, "-m", "pytest", "tests/gaudi", *pytest_alone, "-p", "no:cacheprovider")


def test_a_recipe_goes_from_its_base_model_to_its_end_on_gaudis_trainer(
    environment: Path, tmp_path: Path
) -> None:
    """The corpus is made elsewhere, as the docs have it: datatrove is not in that environment."""
    corpus = ["hebench", "train", "corpus", "--recipe", "tiny", f"out={tmp_path / 'run/corpus'}"]
    subprocess.run([sys.executable, "-m", *corpus], check=True, capture_output=True)
    stages = ("pretrain", "sft", "dpo")
    backends = [f"{stage}.training.backend=gaudi" for stage in stages]
    python(environment, "-c", HEBENCH, "adapt", "tiny", f"out={tmp_path / 'run'}", *backends)
    rows = json.loads((tmp_path / "run/adapt.json").read_text("utf-8"))["rows"]
    assert [row["name"] for row in rows] == ["base", "distil", "calibrate", *stages]
    bits = {row["name"]: row["languages"]["he"]["bits_per_byte"] for row in rows}
    assert bits["pretrain"] < bits["distil"] < bits["base"]
