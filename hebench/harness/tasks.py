"""Find, check, load and show tasks.

>>> check_tasks(tasks_folder())
[]
"""

import contextlib
import difflib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from hebench.errors import HebenchError, TaskError, one_line
from hebench.files import sha256_of_json


def tasks_folder() -> Path:
    """Return the folder of the task files: in the wheel, or at the top of a checkout."""
    package = Path(str(resources.files("hebench")))
    packaged = package / "_tasks"
    return packaged if packaged.is_dir() else package.parent / "tasks"


def task_names(include: Sequence[Path] = ()) -> dict[str, str]:
    """Return every task and group name with its kind, `task` or `group`.

    Raises TaskError if a file under the folders cannot be read.
    """
    manager = _task_manager(include, split=None)
    kinds = dict.fromkeys(manager.all_subtasks, "task") | dict.fromkeys(manager.all_groups, "group")
    return dict(sorted(kinds.items()))


@dataclass(frozen=True)
class Problem:
    """Something wrong with a task file, in one line."""

    path: Path
    message: str

    def __str__(self) -> str:
        """Return the line that the command prints."""
        return f"{self.path}: {self.message}"


def check_tasks(folder: Path) -> list[Problem]:
    """Return what is wrong with the task files under `folder`; an empty list if nothing is.

    Finds what `lm_eval validate` does not: files that do not parse (the harness skips them
    silently), functions that cannot be imported, names that are taken or do not start with
    `hebench_`, missing versions, few-shot examples that are not fixed, stop strings that can
    never match, and group members that do not exist.
    """
    if not folder.is_dir():
        raise TaskError(f"expected a folder of task files, found nothing at {folder}")
    problems: list[Problem] = []
    configs: dict[Path, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*.yaml")):
        try:
            configs[path] = load_yaml(path, resolve_func=True)
        except Exception as error:  # noqa: BLE001 - whatever a file makes YAML raise is the finding
            problems.append(Problem(path, f"cannot be loaded: {one_line(error)}"))
    owners: dict[str, Path] = {}
    for path, config in configs.items():
        name = config.get("group") or config.get("task")
        if not isinstance(name, str):
            problems.append(Problem(path, "expected `task: NAME` or `group: NAME`, found neither"))
            continue
        if name in owners:
            problems.append(Problem(path, f"the name {name} is taken by {owners[name]}"))
        owners.setdefault(name, path)
        if not name.startswith("hebench_"):
            problems.append(
                Problem(path, f"expected a name that starts with hebench_, found {name}")
            )
        problems += [Problem(path, message) for message in _faults(config)]
    for path, config in configs.items():
        for child in config["task"] if isinstance(config.get("task"), list) else []:
            if child not in owners:
                problems.append(Problem(path, f"the group names {child}, which does not exist"))
    return problems


def prompts(task_name: str, count: int, include: Sequence[Path] = ()) -> list[str]:
    """Return the exact text that a base model is given for the first `count` items of a task."""
    loaded = load_tasks((task_name,), include, split=None)
    if len(loaded["tasks"]) != 1:
        raise TaskError(f"expected one task, found the group {task_name}; name one of its tasks")
    task = next(iter(loaded["tasks"].values()))
    task.build_all_requests(limit=count, rank=0, world_size=1)
    seen = {instance.doc_id: instance.args[0] for instance in task.instances}
    return [seen[doc_id] for doc_id in sorted(seen)]


def _faults(config: dict[str, Any]) -> Iterator[str]:
    metadata = config.get("metadata")
    if not isinstance(metadata, dict) or "version" not in metadata:
        yield "expected metadata with a version, found none"
    if "group" in config:
        return
    description = config.get("description") or ""
    if description != description.rstrip() + "\n\n" and description:
        yield "the description must end in a blank line, or it runs into the first prompt"
    if config.get("num_fewshot") is None:
        yield "expected num_fewshot, found none: every model must see the same prompt"
    elif config["num_fewshot"] > 0:
        sampler = (config.get("fewshot_config") or {}).get("sampler")
        if not config.get("fewshot_split") or sampler != "first_n":
            yield "few-shot examples are not fixed: set fewshot_split, and sampler: first_n"
    if not any(metric.get("metric") == "score" for metric in config.get("metric_list") or []):
        yield "expected the metric `score` in metric_list, found none"
    if config.get("output_type") == "generate_until":
        until = (config.get("generation_kwargs") or {}).get("until")
        if not until:
            yield "expected generation_kwargs.until, found none: an answer would never stop"
        elif any("\\n" in stop for stop in until):
            yield r"a stop string holds a backslash and an n; write it in double quotes: " '"\\n"'


def _task_manager(include: Sequence[Path], split: str | None) -> TaskManager:
    folders = [tasks_folder(), *include]
    for folder in folders:
        if not folder.is_dir():
            raise TaskError(f"expected a folder of task files, found nothing at {folder}")
        for path in sorted(folder.rglob("*.yaml")):
            try:
                load_yaml(path, resolve_func=False)
            except Exception as error:
                raise TaskError(
                    f"{path} cannot be loaded: {one_line(error)}; mend or remove it "
                    "(`hebench tasks check` lists every fault)"
                ) from error
    return TaskManager(
        include_path=[str(folder) for folder in folders],
        include_defaults=False,
        metadata={"split": split} if split else {},
    )


def load_tasks(names: Sequence[str], include: Sequence[Path], split: str | None) -> dict[str, Any]:
    """Return lm-eval's {"tasks": {name: Task}, "groups": {name: Group}} for `names`."""
    manager = _task_manager(include, split)
    for name in names:
        if name not in manager.all_tasks:
            close = difflib.get_close_matches(name, manager.all_tasks, n=3)
            hint = f"did you mean {' or '.join(close)}? " if close else ""
            raise TaskError(f"unknown task {name}; {hint}`hebench tasks ls` lists them")
    try:
        with quiet():
            return dict(manager.load(list(names)))
    except HebenchError:
        raise
    except (ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
        raise TaskError(f"cannot load {', '.join(names)}: {one_line(error)}") from error


def fingerprint(task: Any) -> str:
    """Return a hash of a task's resolved configuration, functions' source included."""
    config = task.dump_config()
    config.get("metadata", {}).pop("config_source", None)  # a path of this machine
    return sha256_of_json(config)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence lm-eval's routine warnings: one a data set, and truncations, which we count."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "transformers", "datasets")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
