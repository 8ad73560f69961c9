"""Choose one of pre-training's checkpoints: evaluate all that are there, decide, export it.

What `hebench watch RUN/pretrain --once` and `hebench select RUN/pretrain` do, and their files:
`selection.jsonl`, `selection.json`, `selection.png`. The chosen one is exported to `chosen/`, a
plain folder, and goes on to fine-tuning.
"""

import time
from collections.abc import Callable
from pathlib import Path

from hebench.adapt.measure import hebench_apart, launched
from hebench.adapt.recipe import SelectionConfig
from hebench.selection.choose import choose, export
from hebench.selection.watch import WatchConfig, watch
from hebench.train.device import rank

CHOSEN = "chosen"
WAIT_SECONDS = 1.0


def selected(run: Path, config: SelectionConfig, announce: Callable[[str], None]) -> Path:
    """Return the folder of the chosen checkpoint of `run`, at once if it was chosen before.

    The first process chooses, the others wait. Raises HebenchError for what cannot be compared.
    """
    folder = run / CHOSEN
    # An export is moved into place whole: where its configuration is, all of it is.
    done = folder / "config.json"
    while rank() != 0 and not done.is_file():
        time.sleep(WAIT_SECONDS)
    if done.is_file():
        return folder
    if launched():
        asked = config.evaluate
        tasks = [part for name in asked.tasks for part in ("--tasks", name)]
        limit = [] if asked.limit is None else ["--limit", str(asked.limit)]
        weights = ["--dtype", asked.dtype, "--device", asked.device]
        hebench_apart("watch", run, "--once", *tasks, *limit, *weights)
    else:
        watch(run, WatchConfig(evaluate=config.evaluate, once=True), announce)
    choice = choose(run, config.choose, announce)
    announce(f"chosen: {choice.decision.chosen}; {'; '.join(choice.decision.reasons)}")
    export(choice, folder)
    return folder
