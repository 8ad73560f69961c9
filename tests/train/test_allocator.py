"""What is freed is kept for the next step."""

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

# argv: whether to ask for it. Prints the pages that were cleared for ten tensors of 100 MB.
FREES = """
import resource, sys
import torch
from hebench.train.allocator import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):  # each a little larger than the block that was freed, until two are one
    torch.ones(25_000_000)
before = faults()
for _ in range(10):
    torch.ones(25_000_000)
print(faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_large_blocks_are_not_cleared_anew_at_each_allocation() -> None:
    pages = {}
    for name in ("kept", "given back"):
        command = [sys.executable, "-c", FREES, name]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, cwd=REPOSITORY, timeout=120
        )
        pages[name] = int(done.stdout)
    assert pages["kept"] * 5 < pages["given back"]
