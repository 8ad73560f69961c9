"""Gaudi's environment as its constraints have it, and our side of its contract, tested in it."""

import os
import subprocess
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

# What `pip list` says of Habana's software, which optimum-habana asks for when it is imported.
PLUGIN = "habana_torch_plugin-1.24.0.dist-info"
METADATA = "Metadata-Version: 2.1\nName: habana-torch-plugin\nVersion: 1.24.0\n"


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A new environment with `hebench[gaudi]`; torch, there the vendor's, is that of the tests."""
    venv.create(tmp_path, with_pip=True)
    (packages,) = tmp_path.glob("lib/python*/site-packages")
    torch = distribution("torch")
    for name in {path.parts[0] for path in torch.files or () if path.parts[0] != ".."}:
        (packages / name).symlink_to(str(torch.locate_file(name)))
    (packages / PLUGIN).mkdir()
    (packages / PLUGIN / "METADATA").write_text(METADATA)
    install = [tmp_path / "bin/python", "-m", "pip", "install", "--quiet", "--no-compile"]
    install += ["--constraint", REPOSITORY / "constraints/gaudi.txt"]
    install += ["--editable", f"{REPOSITORY}[gaudi]", "pytest", "hypothesis"]
    subprocess.run(install, check=True, capture_output=True)
    return tmp_path


def test_gaudis_trainer_and_models_keep_our_contract(environment: Path) -> None:
    found = subprocess.run(
        [
            *(environment / "bin/python", "-m", "pytest", "tests/gaudi", "-W", "ignore"),
            *("-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider"),
        ],
        cwd=REPOSITORY,
        env={**os.environ, "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-5000:] + found.stderr[-2000:]
