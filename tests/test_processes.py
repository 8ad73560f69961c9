"""Processes of one job: their group is left before their interpreter goes."""

import subprocess
import sys
from pathlib import Path

import pytest

from hebench.processes import rank
from tests.conftest import REPOSITORY

# The second process leaves behind a collective that ends, with a callback of Python's, a second
# later: while its interpreter goes, which an object in a cycle holds up for two seconds. argv: a
# folder, the rank. Without leaving, it is aborted (SIGABRT) on Python before 3.14.
JOB = """
import sys, time
from pathlib import Path
import torch
from torch import distributed
from hebench.processes import leave_gloo_at_exit

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(2)

folder, rank, holds = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"

def called(_):
    (folder / "called").touch()
    time.sleep(0.2)  # after it, the thread asks for the interpreter's lock

leave_gloo_at_exit()
leave_gloo_at_exit()  # as a second stage would
distributed.init_process_group("gloo", f"file://{folder}/met", rank=rank, world_size=2)
if rank:
    work = distributed.all_reduce(torch.ones(2), async_op=True)
    work.get_future().then(called)
    del work
    held = distributed.group.WORLD if holds else None
    while holds and not (folder / "called").exists():
        time.sleep(0.01)
    slow = Slow()
    slow.itself = slow
else:
    time.sleep(1)
    distributed.all_reduce(torch.ones(2))
"""


@pytest.mark.parametrize("holds", [False, True])
def test_a_process_is_not_aborted_by_a_thread_of_the_group_that_it_leaves(
    tmp_path: Path, holds: bool
) -> None:
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", JOB, str(tmp_path), str(number), str(holds)],
            cwd=REPOSITORY,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    ends = [(job.communicate(timeout=60)[1], job.returncode) for job in jobs]
    assert [code for _, code in ends] == [0, 0], ends
    assert (tmp_path / "called").exists()


def test_a_lone_process_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert rank() == 0
    monkeypatch.setenv("RANK", "3")
    assert rank() == 3
