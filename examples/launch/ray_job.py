"""Pre-training as a Ray job: Ray finds the machines, a torchrun on each starts the processes.

    ray job submit --working-dir . -- python examples/launch/ray_job.py [key=value ...]

hebench is installed on every machine, and the paths below are on a file system that all share
(write them out from the root: a task's own folder is not this one). DRY=1 stops after the dry run.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import ray
from ray.util import get_node_ip_address
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

RECIPE = os.environ.get("RECIPE", "dictalm2_cuda")
NODES = int(os.environ.get("NODES", "6"))
PROCESSES = int(os.environ.get("PROCESSES", "8"))  # on each machine
GPUS = int(os.environ.get("GPUS", "8"))  # of each machine
CPUS = int(os.environ.get("CPUS", "64"))  # of each machine
MODEL = os.environ.get("MODEL", "/shared/runs/he/calibrate/model")
CORPUS = os.environ.get("CORPUS", "/shared/runs/he/corpus")
OUT = os.environ.get("OUT", "/shared/runs/he/pretrain")

COMMAND = ["hebench", "train", "pretrain", "--recipe", RECIPE]
COMMAND += [f"model={MODEL}", f"corpus={CORPUS}", f"out={OUT}"]
COMMAND += [f"pretrain.training.world_size={NODES * PROCESSES}", *sys.argv[1:]]


def address() -> tuple[str, int]:
    """Return where the processes meet: this machine, and a port that is free on it."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return get_node_ip_address(), probe.getsockname()[1]


def start(node: int, host: str, port: int) -> None:
    """Run one machine's share to its end. Raises CalledProcessError if a process of it fails."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(NODES)]
    launcher += ["--nproc_per_node", str(PROCESSES), "--node_rank", str(node)]
    launcher += ["--master_addr", host, "--master_port", str(port), "-m"]
    subprocess.run([*launcher, *COMMAND], check=True)


def main() -> None:
    """Say what would be done, then do it on all machines at once."""
    planned = subprocess.run([sys.executable, "-m", *COMMAND, "--dry-run"], check=False)
    if planned.returncode:
        sys.exit(planned.returncode)  # it has said why
    if os.environ.get("DRY"):
        return
    ray.init()
    group = placement_group([{"CPU": CPUS, "GPU": GPUS}] * NODES, strategy="STRICT_SPREAD")
    ray.get(group.ready())

    def on(node: int, work: Callable[..., Any], *arguments: object) -> Any:
        place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=node)
        remote = ray.remote(work).options(num_cpus=CPUS, num_gpus=GPUS, scheduling_strategy=place)
        return remote.remote(*arguments)

    host, port = ray.get(on(0, address))
    ray.get([on(node, start, node, host, port) for node in range(NODES)])


if __name__ == "__main__":
    main()
