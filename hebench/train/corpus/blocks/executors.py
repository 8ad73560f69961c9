"""Where a phase runs: datatrove's executors, here, on Slurm and on Ray.

On Slurm the process that was started waits for the jobs that it submits, on a login node. The
run folder must be on a file system that all machines see.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
from datatrove.executor.base import PipelineExecutor
from loguru import logger

from hebench.errors import ConfigError, one_line
from hebench.train.corpus.config import CorpusConfig

_POLL_SECONDS = 20


def execute(config: CorpusConfig, name: str, steps: list[Any], tasks: int, logs: Path) -> None:
    """Run one phase to its end; tasks that an earlier run completed are not done again.

    Raises what a task raises, where tasks run here; ConfigError if they do not complete
    elsewhere, or cannot write.
    """
    logger.remove()
    folder = str(logs / name)
    try:
        missing = _run(config, name, steps, tasks, folder)
    except OSError as error:
        raise ConfigError(
            f"corpus: phase {name!r} stopped: {one_line(error)}; mend that (space on the disk?) "
            "and run the stage again: it goes on from here"
        ) from error
    finally:
        logger.remove()
    if missing:
        raise ConfigError(
            f"corpus: {missing} of {tasks} tasks of phase {name!r} did not complete; "
            f"read {folder}/logs, then run the stage again: it goes on from here"
        )


def _run(config: CorpusConfig, name: str, steps: list[Any], tasks: int, folder: str) -> int:
    """Run one phase and return how many tasks are not complete."""
    executor: PipelineExecutor
    if config.executor == "local":
        executor = _Here(steps, tasks=tasks, workers=min(config.workers, tasks), logging_dir=folder)
        executor.run()
    elif config.executor == "ray":
        executor = RayPipelineExecutor(
            steps, tasks=tasks, workers=config.workers, logging_dir=folder, time=None
        )
        executor.run()
    else:
        executor = SlurmPipelineExecutor(
            steps,
            tasks=tasks,
            time=f"{config.slurm_hours}:00:00",
            partition=config.slurm_partition,
            workers=config.workers,
            job_name=f"hebench-corpus-{name}",
            logging_dir=folder,
            qos="",
            # The environment of this process, for `launch_pickled_pipeline`.
            env_command=f'export PATH="{Path(sys.executable).parent}:$PATH"',
        )
        _run_on_slurm(executor)
    return len(executor.get_incomplete_ranks())


class _Here(LocalPipelineExecutor):  # type: ignore[misc]
    """datatrove's local executor, whose words go to a file."""

    def __init__(self, *steps: Any, **options: Any) -> None:
        """Take datatrove's own options."""
        super().__init__(*steps, **options)
        self._main_process = os.getpid()

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        if os.getpid() != self._main_process:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
        folder = Path(self.logging_dir.resolve_paths("stderr"))
        folder.mkdir(parents=True, exist_ok=True)
        with (
            (folder / f"{rank:05d}.log").open("a", encoding="utf-8") as stream,
            contextlib.redirect_stderr(stream),
        ):
            try:
                return super()._run_for_rank(rank, local_rank, node_rank)
            finally:
                logger.remove()  # datatrove has put a sink on the file that closes now


def _run_on_slurm(executor: Any) -> None:
    """Submit a phase and wait until its tasks are complete or no longer queued."""
    try:
        executor.run()
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigError(
            f"executor slurm: expected a cluster that takes jobs, found {one_line(error)}; "
            "run on a login node, or choose another executor"
        ) from error
    while executor.job_id != -1 and executor.get_incomplete_ranks():
        queue = ["squeue", "--noheader", "--jobs", str(executor.job_id)]
        if not subprocess.run(queue, capture_output=True, text=True, check=False).stdout.strip():
            break
        time.sleep(_POLL_SECONDS)
