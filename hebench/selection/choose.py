"""Choose a run's checkpoint from its log, and say what it is worth on items that chose nothing.

    hebench select runs/he/pretrain --report hebench --export models/he

    RUN/selection.json   the decision with its reasons, and the re-estimate
    RUN/selection.png    the curve, the set of equals and the choice

The chosen checkpoint is pinned, so that neither the rotation of hebench's own training nor a
watcher removes it. A plain Trainer with `save_total_limit` knows nothing of pins: choose when it
has ended, or export.
"""

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hebench.board.compare_runs import RunComparison, compare_runs
from hebench.board.extract import extract
from hebench.board.read import read_run
from hebench.board.summary import interval_of
from hebench.config import plain
from hebench.errors import CheckpointError, ConfigError, DataError, TaskError, one_line
from hebench.files import finite, write_atomically, write_bytes_atomically
from hebench.harness.tasks import load_tasks
from hebench.records import RunRecord
from hebench.selection.average import average, averages
from hebench.selection.evaluate import (
    EvaluateConfig,
    evaluate_folder,
    leaf_tasks,
    run_folder,
    units,
)
from hebench.selection.found import BEST_SO_FAR, Found, complete, is_done, look, of_these
from hebench.selection.log import LOG_NAME, Evaluated, append, read_log
from hebench.selection.picture import picture
from hebench.selection.rules import Decision, SelectConfig, decide
from hebench.stats.intervals import Interval
from hebench.train.checkpoints import MARKER, PIN, pin, unpin

DECISION_NAME = "selection.json"
PICTURE_NAME = "selection.png"
DECISION_SCHEMA = 1
_REASON = "chosen by hebench select"
# What a checkpoint holds beside the model, by the start of its name: not exported.
_OF_TRAINING = (
    *("optimizer", "scheduler", "rng_state", "scaler", "trainer_state", "training_args"),
    *("global_step", "zero_to_fp32", "latest", MARKER, PIN),
)
_A_TEXT = 40  # characters: two tasks that have one of such a length in common share an item
Announce = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class ChooseConfig:
    """How to choose, and what to find out about the choice."""

    select: SelectConfig = field(default_factory=SelectConfig)
    average: bool = False  # the mean of the set of equals is one more candidate
    report: tuple[str, ...] = ()  # tasks that chose nothing, on which chosen and last are compared
    report_limit: int | None = None  # items of a report task; None for all
    device: str = "cpu"  # of evaluations, as torch names it
    dtype: str = "bfloat16"  # of the weights on report tasks
    batch_size: int = 8
    include: tuple[Path, ...] = ()  # further task folders

    def __post_init__(self) -> None:
        """Refuse an average that the rule could never choose."""
        rule, prefer = self.select.rule, self.select.prefer
        if self.average and (rule in ("paper", "votes") or prefer == "lowest_loss"):
            found = f"prefer {prefer}" if prefer == "lowest_loss" else f"rule {rule}"
            raise ConfigError(
                f"average: expected a choice by scores, found {found}; a mean of weights has no "
                "loss and no votes, so that it is never chosen: leave average out"
            )


@dataclass(frozen=True, kw_only=True)
class Reestimate:
    """The chosen checkpoint on items that selection never saw."""

    chosen: dict[str, Interval]  # by task
    last: str  # the last candidate, which it is compared with
    against_last: RunComparison | None  # chosen less last, item by item; None: it is the last


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What `selection.json` holds."""

    decision: Decision
    averaged: tuple[str, ...]  # members of the average that was a candidate, () if none was
    reestimate: Reestimate | None
    folder: Path  # of the chosen checkpoint


def choose(run: Path, config: ChooseConfig, announce: Announce = lambda _: None) -> Choice:
    """Return the choice of a run folder's checkpoint, written to `selection.json` as well.

    Tasks may be named by their group. Raises DataError if there is no log or it cannot be compared,
    ConfigError if no evaluated checkpoint is left or a report task was selected by. What a report
    raises besides comes after the choice was written and pinned.
    """
    there = {found.name: found for found in [*complete(run), *averages(run)]}
    log = _lines(run, there)
    asked = config.select
    select = replace(
        asked,
        tasks=_without_groups(asked.tasks, log, config.include),
        guard=_without_groups(asked.guard, log, config.include),
    )
    decision = decide(log, select, present=there)
    averaged: tuple[str, ...] = ()
    if config.average:
        added = _averaged(run, log, decision, there, config, announce)
        if added is not None:
            averaged = added.averaged
            there[added.name] = added
            decision = decide(_lines(run, there), select, present=there)
    if config.report:
        _require_unseen({*decision.tasks, *select.guard}, config, announce)
    chosen = there[decision.chosen]
    choice = Choice(decision=decision, averaged=averaged, reestimate=None, folder=chosen.folder)
    _write(run, choice)
    _pin_alone(chosen, there.values())
    if not config.report:
        return choice
    try:
        found = _reestimate(chosen, _last(decision, there, chosen), config, announce)
    except DataError as error:
        raise DataError(
            f"--report: {one_line(error)}; {run / DECISION_NAME} holds the choice without it"
        ) from error
    choice = replace(choice, reestimate=found)
    _write(run, choice)
    return choice


def _lines(run: Path, there: dict[str, Found]) -> list[Evaluated]:
    """Return the lines of the log without those of an earlier training in the same folder."""
    found = of_these(read_log(run / LOG_NAME), there.values())
    if not found:
        raise DataError(
            f"{run / LOG_NAME}: expected lines of the checkpoints that are there, found those of "
            "an earlier training alone; evaluate with `hebench watch --once`"
        )
    return found


def _last(decision: Decision, there: Mapping[str, Found], chosen: Found) -> Found:
    """Return the last candidate that is there: later ones may have diverged, or have no scores."""
    names = [each.checkpoint for each in decision.candidates if not each.averaged]
    return next((there[name] for name in reversed(names) if name in there), chosen)


def _without_groups(
    names: Sequence[str], log: Sequence[Evaluated], include: tuple[Path, ...]
) -> tuple[str, ...]:
    """Return the tasks of the log that are named, of a group its own."""
    known = {name for entry in log for name in [*entry.tasks, *entry.failed]}
    groups = {
        name: leaf_tasks(EvaluateConfig(tasks=(name,), include=include))
        for name in names
        if name not in known
    }
    return tuple(dict.fromkeys(leaf for name in names for leaf in groups.get(name, (name,))))


def export(choice: Choice, target: Path) -> Path:
    """Copy the chosen checkpoint's model, without what belongs to the training, to a new folder.

    Raises ConfigError if something stands there.
    """
    _require_free(target)
    aside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        aside.mkdir(parents=True)
        for path in sorted(choice.folder.iterdir()):
            if path.is_file() and not path.name.startswith(_OF_TRAINING):
                shutil.copyfile(path, aside / path.name)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def link(choice: Choice, target: Path) -> Path:
    """Make `target` a symbolic link to the chosen checkpoint; one that is there is replaced.

    Raises ConfigError if something else stands there.
    """
    if not target.is_symlink():
        _require_free(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    # A link's way begins where its folder truly is, whatever links led there.
    aside.symlink_to(os.path.relpath(choice.folder.resolve(), target.parent.resolve()))
    aside.replace(target)
    return target


def _require_free(target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise ConfigError(f"{target}: expected nothing there, found something; choose another name")


def _averaged(  # noqa: PLR0913, PLR0917 (what `choose` knows)
    run: Path,
    log: Sequence[Evaluated],
    decision: Decision,
    there: dict[str, Found],
    config: ChooseConfig,
    announce: Announce,
) -> Found | None:
    """Make and evaluate the mean of the set of equals; None where that is one checkpoint."""
    members = [there[name] for name in decision.equals if not there[name].averaged]
    if len(members) < 2:
        announce("no average: fewer than two checkpoints cannot be told from the best")
        return None
    found = average([member.folder for member in members], run)
    lines = {entry.checkpoint: entry for entry in log}
    like = lines[members[-1].name]
    for settings in like.all_settings:
        asked = _asked_as(like.checkpoint, settings, config)
        if not is_done(found, lines, asked.asked):
            announce(f"{found.name}: evaluating")
            append(run / LOG_NAME, evaluate_folder(found, asked))
    return found


def _asked_as(checkpoint: str, settings: Mapping[str, Any], config: ChooseConfig) -> EvaluateConfig:
    """Return the configuration by which a line of the log came about."""
    try:
        return EvaluateConfig(
            tasks=tuple(settings["tasks"]),
            limit=settings["limit"],
            dtype=settings["dtype"],
            device=config.device,
            batch_size=settings["batch_size"],
            seed=settings["seed"],
            include=config.include,
        )
    except KeyError as error:
        raise ConfigError(
            f"{checkpoint}: its line of {LOG_NAME} does not say how it was evaluated "
            f"({error} is missing), so an average cannot be evaluated alike; leave --average out"
        ) from error


def _require_unseen(chose: Collection[str], config: ChooseConfig, announce: Announce) -> None:
    """Raise ConfigError if a report task was chosen by, or shares its items' texts with one."""
    report = load_tasks(config.report, config.include)["tasks"]
    seen = {name: name for name in report if name in chose}
    for name in sorted({*chose} - {*report}):
        try:
            (task,) = load_tasks((name,), config.include)["tasks"].values()
        except TaskError:
            announce(f"{name} is unknown here: whether a report task has its items, nobody looked")
            continue
        own = _texts(task)
        seen |= {other: name for other in report if own & _texts(report[other])}
    if seen:
        shown = ", ".join(f"{name} (items of {other})" for name, other in sorted(seen.items()))
        raise ConfigError(
            f"--report: expected tasks whose items did not choose, found {shown}; scores that "
            "chose flatter what they chose"
        )


def _texts(task: Any) -> set[str]:
    """Return the texts of a task's items; short ones, such as labels, may well be many tasks'."""
    parts = [part for doc in task.eval_docs for part in doc.values()]
    texts = [text for part in parts for text in (part if isinstance(part, list) else [part])]
    return {text for text in texts if isinstance(text, str) and len(text) >= _A_TEXT}


def _reestimate(chosen: Found, last: Found, config: ChooseConfig, announce: Announce) -> Reestimate:
    asked = EvaluateConfig(
        tasks=config.report,
        limit=config.report_limit,
        dtype=config.dtype,
        device=config.device,
        batch_size=config.batch_size,
        include=config.include,
    )
    records, intervals = {}, {}
    for found in dict.fromkeys((chosen, last)):
        announce(f"{found.name}: evaluating on {', '.join(config.report)}")
        entry = evaluate_folder(found, asked)
        if entry.failed:
            task, reason = next(iter(entry.failed.items()))
            raise ConfigError(f"--report: {task} failed on {found.name}: {reason}; leave it out")
        folders = [run_folder(found, unit) for unit in units(asked)]
        records[found.name] = _record(folders)
        intervals[found.name] = {
            name: interval_of(scores)
            for folder in folders
            for name, scores in read_run(folder).tasks.items()
        }
    same = chosen.name == last.name
    return Reestimate(
        chosen=intervals[chosen.name],
        last=last.name,
        against_last=None if same else compare_runs(records[chosen.name], records[last.name]),
    )


def _record(folders: Sequence[Path]) -> RunRecord:
    """Return several run folders of one model as one record."""
    found = [extract(folder, model="run", added="2000-01-01") for folder in folders]
    return replace(
        found[0], tasks={key: task for each in found for key, task in each.tasks.items()}
    )


def _write(run: Path, choice: Choice) -> None:
    content = {"schema": DECISION_SCHEMA} | plain(choice) | {"folder": choice.folder.name}
    text = json.dumps(finite(content), ensure_ascii=False, indent=2, allow_nan=False)
    write_atomically(run / DECISION_NAME, text + "\n")
    write_bytes_atomically(run / PICTURE_NAME, picture(choice.decision))


def _pin_alone(chosen: Found, others: Iterable[Found]) -> None:
    """Pin the chosen checkpoint, and let go what an earlier choice pinned."""
    for found in others:
        path = found.folder / PIN
        if found != chosen and path.is_file() and path.read_text("utf-8").strip() == _REASON:
            unpin(found.folder)
    if look(chosen.folder) is None:
        raise CheckpointError(f"{chosen.folder}: expected the chosen checkpoint, found it removed")
    path = chosen.folder / PIN
    if not path.exists() or path.read_text("utf-8").strip() == BEST_SO_FAR:
        pin(chosen.folder, _REASON)
