"""Choose one of pre-training's checkpoints: evaluate all that are there, decide, export it.

What `hebench watch RUN/pretrain --once` and `hebench select RUN/pretrain` do, and their files:
`selection.jsonl`, `selection.json`, `selection.png`. The chosen one is exported to `chosen/model`,
a plain folder, and goes on to fine-tuning; `chosen/stage.json` says how it was chosen.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hebench.adapt.measure import apart, launched
from hebench.adapt.recipe import SelectionConfig
from hebench.selection.choose import ChooseConfig, choose, export
from hebench.selection.evaluate import EvaluateConfig
from hebench.selection.watch import WatchConfig, watch
from hebench.train.stage import StageRecord, open_stage

CHOSEN = "chosen"
MODEL = "model"  # in its folder
Announce = Callable[[str], None]


def selected(
    run: Path, config: SelectionConfig, out: Path, announce: Announce = lambda _: None
) -> StageRecord:
    """Choose a checkpoint of `run` into `out`/model; return the record, at once if it is there.

    Raises HebenchError for what cannot be compared, and if it was asked for otherwise before.
    """
    with open_stage(out, "selection", _asked(config)) as stage:
        if stage.record.finished:
            return stage.record
        alone = (run, config, out)
        found = apart(_select, *alone) if launched() else _select(*alone, announce)
        announce(f"chosen: {found['chosen']}; {'; '.join(found['reasons'])}")
        return stage.finish(found)


def _select(
    run: Path, config: SelectionConfig, out: Path, announce: Announce = lambda _: None
) -> dict[str, Any]:
    watch(run, WatchConfig(evaluate=config.evaluate, once=True), announce)
    choice = choose(run, config.choose, announce)
    shutil.rmtree(out / MODEL, ignore_errors=True)  # of a run that was cut off here
    export(choice, out / MODEL)
    return {"chosen": choice.decision.chosen, "reasons": list(choice.decision.reasons)}


def _asked(config: SelectionConfig) -> SelectionConfig:
    """Return what a choice depends on: not where, and in which batches, models are asked."""
    return replace(
        config,
        evaluate=replace(
            config.evaluate, device=EvaluateConfig.device, batch_size=EvaluateConfig.batch_size
        ),
        choose=replace(
            config.choose, device=ChooseConfig.device, batch_size=ChooseConfig.batch_size
        ),
    )
