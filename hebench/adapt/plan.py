"""What an adaptation would do, stage by stage: `hebench adapt RECIPE ... --dry-run`.

    hebench adapt dictalm2 model=mistral-7b text=corpora out=runs/dictalm2 --dry-run

What a stage reads and an earlier one has yet to make is not looked at, and what depends on it
(rows, and so steps where the recipe names none) is said to be unknown; memory is that of the base
model, grown. The same command after the corpus and the tokenizer knows more.
"""

import contextlib
import difflib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hebench.adapt.pick import CHOSEN, MODEL
from hebench.adapt.recipe import DEMO_MODEL, TINY_MODEL, Recipe, recipes_folder
from hebench.config import plain
from hebench.errors import TaskError
from hebench.files import expanded
from hebench.harness.tasks import task_names
from hebench.models import demo, tiny
from hebench.train.chat_data import read_conversations
from hebench.train.device import plan_backend, require_one_gpu
from hebench.train.plan import Plan, plan_stage, require_processes
from hebench.train.preferences import read_preferences
from hebench.train.stage import read_stage
from hebench.train.texts import read_documents
from hebench.train.tokenizer import FOLDER

_STAGES = ("corpus", "tokenizer", "distil", "calibrate", "pretrain", "sft", "dpo")


def plan_adapt(recipe: Recipe, out: Path) -> dict[str, Any]:
    """Return what `hebench adapt` would do, as values fit for YAML.

    Raises HebenchError for what keeps a stage from starting.
    """
    require_startable(recipe)
    whole = {
        name: value
        for name, value in plain(recipe).items()
        if name not in _STAGES  # each has its own below
    }
    with _base(recipe) as base:
        made = _made(recipe, base, out)
        stages: list[Plan] = []
        for name in _STAGES:
            config = getattr(recipe, name)
            if config is None:
                continue
            stages.append(
                plan_stage(
                    name,
                    config,
                    inputs={key: path for key, path in made[name].items() if path is not None},
                    out=out / name,
                    stand_in=None if name == "corpus" else base,
                    new_pieces=recipe.tokenizer.tokens,
                )
            )
    there = base is not None
    return {**whole, "out": str(out), "base_model_is_there": there, "stages": stages}


def require_startable(recipe: Recipe) -> None:
    """Raise HebenchError for what a late stage would refuse, after hours of the earlier ones.

    That is: another number of processes than asked, data that cannot be read, unknown tasks.
    """
    for config in (recipe.pretrain, recipe.sft, recipe.dpo):
        if config is not None:
            require_processes(config.training)
    if recipe.sft is not None and recipe.chat is not None:
        for _ in read_conversations(recipe.chat):
            pass
    if recipe.dpo is not None and recipe.preferences is not None:
        read_preferences(recipe.preferences)
    _require_tasks("measure.tasks", recipe.measure.tasks, ())
    if recipe.selection is not None:
        asked, chosen = recipe.selection.evaluate, recipe.selection.choose
        _require_tasks("selection.evaluate.tasks", asked.tasks, asked.include)
        _require_tasks("selection.choose.report", chosen.report, chosen.include)


def require_own_gpus(recipe: Recipe) -> None:
    """Raise ConfigError if a lone process would see several GPUs, here, in a late stage, too."""
    for config in (recipe.pretrain, recipe.sft, recipe.dpo):
        if config is None:
            continue
        training = config.training
        if "RANK" in os.environ or training.zero_stage:
            return  # ZeRO makes a lone process one of a launcher's, also in what follows
        if training.world_size == 1:
            require_one_gpu(plan_backend(training))


def _require_tasks(where: str, names: Sequence[str], include: Sequence[Path]) -> None:
    """Raise TaskError for an unknown name of ours; other names may be lm-eval's own tasks'."""
    known = task_names(include) if names else {}
    for name in names:
        if name.startswith("hebench_") and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "`hebench tasks ls` lists them"
            raise TaskError(f"{where}: unknown task {name}; {hint}")


def _made(recipe: Recipe, base: Path | None, out: Path) -> dict[str, dict[str, Path | None]]:
    """Return what each stage reads, None for what is not there yet."""

    def by(stage: str, name: str = "") -> Path | None:
        record = read_stage(out / stage)
        return out / stage / name if record and record.finished else None

    chosen = (
        by("pretrain", "model") if recipe.selection is None else by(f"pretrain/{CHOSEN}", MODEL)
    )
    corpus = by("corpus")
    return {
        "corpus": {},
        "tokenizer": {"model": base, "corpus": corpus},
        "distil": {"model": base, "tokenizer": by("tokenizer", FOLDER), "corpus": corpus},
        "calibrate": {"model": by("distil", "model"), "corpus": corpus},
        "pretrain": {"model": by("calibrate", "model"), "corpus": corpus},
        "sft": {"model": chosen, "data": recipe.chat},
        "dpo": {"model": by("sft", "model") if recipe.sft else chosen, "data": recipe.preferences},
    }


@contextlib.contextmanager
def _base(recipe: Recipe) -> Iterator[Path | None]:
    """Give the base model's folder, or None where it is yet to be downloaded."""
    if recipe.model == DEMO_MODEL:
        yield demo.place() if demo.place().is_dir() else None
    elif recipe.model == TINY_MODEL:
        text = recipes_folder() / "text" / "en.txt"
        with tempfile.TemporaryDirectory() as aside:
            yield tiny.make(Path(aside), [document.text for document in read_documents(text)])
    else:
        yield expanded(recipe.model)
