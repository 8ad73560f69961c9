"""How long a user waits before the first request: `hebench eval` against the stock command.

    python benchmarks/startup.py

Both score one item of the same task with no model behind it, so that all the time is start-up:
imports, the index of tasks, data, writing the results; then all of its items, which adds making
the prompts. Whole processes, in turn, five of each after one that is not counted; the figure to
quote is the median of the pairwise ratios. Then `hebench --help`, and with a random model of two
layers the time to its first request, of which loading it (torch and transformers are imported for
that) is told apart.
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
# Prints the seconds that the model takes to load, and those until its first request.
FIRST_REQUEST = """
import sys, time
start = time.perf_counter()
from hebench.cli import main
import hebench.harness.run as run
load, loading = run.load_local, []
def timed(*rest, **more):
    before = time.perf_counter()
    model = load(*rest, **more)
    loading.append(time.perf_counter() - before)
    ask = model.loglikelihood
    def first(*rest, **more):
        print(loading[0], time.perf_counter() - start)
        return ask(*rest, **more)
    model.loglikelihood = first
    return model
run.load_local = timed
main()
"""


def seconds(command: list[str]) -> float:
    """Return the wall time of a command in seconds. Raises CalledProcessError if it fails."""
    start = time.perf_counter()
    _run(command)
    return time.perf_counter() - start


def _run(command: list[str]) -> str:
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, check=True, capture_output=True, env=environment, text=True)
    return done.stdout


def against_stock(binary: Path, folder: str, *limit: str) -> None:
    """Print how long items without a model take with either command; all without a limit."""
    path = _run([str(binary / "hebench"), "tasks", "path"]).strip()
    ours, stock = [], []
    for run in range(RUNS + 1):
        common = ["--tasks", TASK, *limit]
        mine = [str(binary / "hebench"), "eval", "baseline:random", *common]
        ours.append(seconds([*mine, "--out", f"{folder}/ours{run}"]))
        theirs = [str(binary / "lm_eval"), "run", "--model", "dummy", *common]
        theirs += ["--include_path", path, "--output_path", f"{folder}/stock{run}"]
        stock.append(seconds([*theirs, "--log_samples"]))
    ratios = [theirs / mine for mine, theirs in zip(ours[1:], stock[1:], strict=True)]
    print("one item" if limit else "all items")
    print(f"hebench eval  {statistics.median(ours[1:]):6.1f} s (median of {RUNS})")
    print(f"lm_eval run   {statistics.median(stock[1:]):6.1f} s")
    print(
        f"ratio         {statistics.median(ratios):6.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
    )


def first_request(model: Path, folder: str) -> tuple[float, float]:
    """Return the seconds that loading `model` takes, and those until its first request."""
    argv = ["eval", str(model), "--tasks", TASK, "--limit", "1", "--out", f"{folder}/run"]
    out = _run([sys.executable, "-c", FIRST_REQUEST, *argv])
    loading, whole = map(float, out.splitlines()[0].split())
    return loading, whole


def main() -> None:
    """Print the tables."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from tests.conftest import make_tiny_model

    binary = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as folder:
        against_stock(binary, f"{folder}/one", "--limit", "1")
        against_stock(binary, f"{folder}/all")
        helped = [seconds([str(binary / "hebench"), "--help"]) for _ in range(RUNS + 1)][1:]
        print(f"hebench --help {statistics.median(helped):5.2f} s")
        model = make_tiny_model(Path(folder) / "tiny", seed=0)
        found = [first_request(model, f"{folder}/{run}") for run in range(RUNS + 1)][1:]
        loading, rest = (statistics.median(one) for one in zip(*found, strict=True))
        print(f"first request {rest:6.2f} s, of which the model's loading {loading:.2f} s")


if __name__ == "__main__":
    main()
