"""What "no ability" scores on every task: the table in `data_cards/baselines.md`.

    make baselines            (or: python benchmarks/baselines.py)

Each baseline of `hebench.models.baselines` is run on every task to which it applies, on all
items of the reported split; where that split is not to be had (no network, or a mirror that
lacks it), the development split stands in and is named. Random baselines use seed 1234.
"""

import sys
import tempfile
from pathlib import Path

from hebench.board.read import read_run
from hebench.board.summary import interval_of
from hebench.errors import DataError, HebenchError, TaskError
from hebench.files import write_atomically
from hebench.harness.run import EvalConfig, evaluate
from hebench.harness.tasks import task_names
from hebench.models.baselines import BASELINES

TABLE = Path(__file__).parents[1] / "data_cards" / "baselines.md"
STAND_INS = (None, "validation", "wiki")
HEAD = """# What no ability scores

Made by `make baselines`; do not edit. Headline scores in percent with 95 % intervals. A task that a
baseline does not apply to is left blank; *split* is the one that could be had when the table was
made (`reported` is the task's own).

| task | split | n | random | most frequent | copy the source | first sentence |
|---|---|--:|--:|--:|--:|--:|
"""


def row(task: str, folder: Path) -> str | None:
    """Return a task's line of the table, or None if no baseline applies to it."""
    cells, used, count = [], "", 0
    for kind in BASELINES:
        cell = ""
        for split in STAND_INS:
            out = folder / f"{task}-{kind}-{split}"
            try:
                evaluate(EvalConfig(model=f"baseline:{kind}", tasks=(task,), out=out, split=split))
            except TaskError:
                break
            except DataError:
                continue
            interval = interval_of(read_run(out).tasks[task])
            cell, used, count = interval.text(), split or "reported", interval.n
            break
        cells.append(cell)
    if not any(cells):
        return None
    return f"| `{task}` | {used} | {count:,} | {' | '.join(cells)} |\n"


def main() -> None:
    """Write the table and say what was left out."""
    names = [name for name, kind in task_names().items() if kind == "task" and "_chat_" not in name]
    rows, left_out = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            try:
                line = row(name, Path(folder))
            except HebenchError as error:
                sys.exit(f"{name}: {error}")
            if line is None:
                left_out.append(name)
            else:
                rows.append(line)
    write_atomically(TABLE, HEAD + "".join(rows))
    print(f"{TABLE}: {len(rows)} tasks; no baseline applies to {', '.join(left_out)}")


if __name__ == "__main__":
    main()
