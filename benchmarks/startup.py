"""How long a user waits before the first request: `hebench eval` against the stock command.

    python benchmarks/startup.py

Both score one item of the same task with no model behind it, so that all the time is start-up:
imports, the index of tasks, data, writing the results. Whole processes, in turn, five of each
after one that is not counted; the figure to quote is the median of the pairwise ratios.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 5
TASK = "hebench_mini_sentiment"


def seconds(command: list[str]) -> float:
    """Return the wall time of a command in seconds. Raises CalledProcessError if it fails."""
    start = time.perf_counter()
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    binary = Path(sys.executable).parent
    path = subprocess.run(
        [binary / "hebench", "tasks", "path"], check=True, capture_output=True, text=True
    ).stdout.strip()
    ours, stock = [], []
    with tempfile.TemporaryDirectory() as folder:
        for run in range(RUNS + 1):
            common = ["--tasks", TASK, "--limit", "1"]
            mine = [str(binary / "hebench"), "eval", "baseline:random", *common]
            ours.append(seconds([*mine, "--out", f"{folder}/ours{run}"]))
            theirs = [str(binary / "lm_eval"), "run", "--model", "dummy", *common]
            theirs += ["--include_path", path, "--output_path", f"{folder}/stock{run}"]
            stock.append(seconds([*theirs, "--log_samples"]))
    ratios = [theirs / mine for mine, theirs in zip(ours[1:], stock[1:], strict=True)]
    print(f"hebench eval  {statistics.median(ours[1:]):6.1f} s (median of {RUNS})")
    print(f"lm_eval run   {statistics.median(stock[1:]):6.1f} s")
    print(
        f"ratio         {statistics.median(ratios):6.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
    )


if __name__ == "__main__":
    main()
