"""What is freed is kept for the next step."""

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

# Prints the pages that were cleared for ten tensors of 100 MB, before and within.
FREES = """
import resource
import torch
from hebench.train.allocator import FreedMemory

def faults():
    for _ in range(20):  # each a little larger than the block that was freed, until two are one
        torch.ones(25_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(25_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
with FreedMemory(kept=True):
    print(faults())
"""

# MiB that the process has.
RESIDENT = """
import resource

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() // 2**20
"""

# A gap in front of each block that stays, which the next, larger one does not fit. Prints how
# many MiB the process has then, and after a step that a minute has passed before.
GAPS = f"""{RESIDENT}
import torch
from hebench.train import allocator

memory, kept = allocator.FreedMemory(kept=True), []
with memory:
    for step in range(20):
        block = torch.ones(10_000_000 + 1_000_000 * step)
        kept.append(torch.ones(100))
        del block
    memory.step_over()
    print(resident())
    allocator._KEPT_SECONDS = 0.0
    memory.step_over()
    print(resident())
"""

# Prints the MiB that a block leaves behind: one of 400 MB within, a larger one beside it.
ASIDE = f"""{RESIDENT}
import torch
from hebench.train.allocator import FreedMemory, as_usual

def left(size):
    before = resident()
    torch.ones(size)
    return resident() - before

torch.ones(1000)
with FreedMemory(kept=True):
    print(left(100_000_000))
    with as_usual():
        print(left(200_000_000))
    print(left(100_000_000))
"""


def printed(program: str) -> list[int]:
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=REPOSITORY, timeout=120
    )
    return [int(line) for line in done.stdout.split()]


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="of glibc")


def test_large_blocks_are_not_cleared_anew_at_each_allocation_within() -> None:
    before, within = printed(FREES)
    assert within * 5 < before


def test_what_lies_free_is_given_back_now_and_then() -> None:
    gaps, left = printed(GAPS)
    assert left < gaps - 100


def test_what_an_evaluation_in_the_middle_frees_is_not_kept() -> None:
    within, beside, after = printed(ASIDE)
    assert min(within, after) > 300
    assert beside < 50
