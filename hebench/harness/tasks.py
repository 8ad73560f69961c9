"""Find, load and show tasks.

>>> prompts("hebench_mini_qa", 1)[0].splitlines()[0]
'ענו על השאלה בקצרה, במילים מן הקטע. אם התשובה אינה בקטע, כתבו: אין תשובה.'
"""

import contextlib
import difflib
import functools
import inspect
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lm_eval.tasks
import lm_eval.utils
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml
from lm_eval.utils import hash_string

from hebench.errors import DataError, HebenchError, TaskError, one_line
from hebench.files import packaged_folder, sha256_of, sha256_of_json

# Where the installed lm-eval keeps its own Hebrew tasks, which `hebench_extended` names. Reading
# these folders takes a moment; its whole index of 14,000 files takes 15 seconds.
UPSTREAM_FOLDERS = (
    "belebele",
    "global_mmlu/full/he",
    "include/default/Hebrew",
    "global_piqa/parallel_cloze",
    "global_piqa/nonparallel_cloze",
    "multiblimp",
)

# lm-eval compiles a template again for each document and each shot that it fills in, which takes
# more of a task's time than all else but the model.
_compile = functools.lru_cache(maxsize=1024)(lm_eval.utils.env.from_string)
setattr(lm_eval.utils.env, "from_string", _compile)  # noqa: B010


def tasks_folder() -> Path:
    """Return the folder of the task files: in the wheel, or at the top of a checkout."""
    return packaged_folder("tasks")


def task_names(include: Sequence[Path] = ()) -> dict[str, str]:
    """Return every task and group name with its kind, `task` or `group`.

    Raises TaskError if a file under the folders cannot be read.
    """
    manager = _task_manager(include, {})
    kinds = dict.fromkeys(manager.all_subtasks, "task") | dict.fromkeys(manager.all_groups, "group")
    return dict(sorted(kinds.items()))


def prompts(task_name: str, count: int, include: Sequence[Path] = ()) -> list[str]:
    """Return the exact text that a base model is given for the first `count` items of a task."""
    loaded = load_tasks((task_name,), include)
    if len(loaded["tasks"]) != 1:
        raise TaskError(f"expected one task, found the group {task_name}; name one of its tasks")
    task = next(iter(loaded["tasks"].values()))
    build_requests(task, count)
    seen = {instance.doc_id: instance.args[0] for instance in task.instances}
    return [seen[doc_id] for doc_id in sorted(seen)]


def prompt_sha256(task_name: str, split: str | None, count: int) -> str:
    """Return a hash of the prompts of a task's first `count` items, as run records hold it.

    Raises DataError where the data cannot be had.
    """
    (task,) = load_tasks((task_name,), split=split)["tasks"].values()
    build_requests(task, count)
    first: dict[int, str] = {}
    for instance in task.instances:
        first.setdefault(instance.doc_id, hash_string(instance.args[0]))
    return sha256_of_json([first[doc_id] for doc_id in sorted(first)])


def upstream_folders() -> list[Path]:
    """Return the folders of lm-eval's own Hebrew tasks. Raises TaskError if one is gone."""
    root = Path(lm_eval.tasks.__file__).parent
    for name in UPSTREAM_FOLDERS:
        if not (root / name).is_dir():
            raise TaskError(
                f"expected lm-eval's tasks in {root / name}, found nothing; install lm-eval 0.4.13"
            )
    return [root / name for name in UPSTREAM_FOLDERS]


def _task_manager(
    include: Sequence[Path], metadata: dict[str, str], *, upstream: bool = False
) -> TaskManager:
    folders = [tasks_folder(), *include]
    for folder in folders:
        if not folder.is_dir():
            raise TaskError(f"expected a folder of task files, found nothing at {folder}")
        for path in sorted(folder.rglob("*.yaml")):
            try:
                require_names(load_yaml(path, resolve_func=False))
            except Exception as error:
                raise TaskError(
                    f"{path} cannot be loaded: {one_line(error)}; mend or remove it "
                    "(`hebench tasks check` lists every fault)"
                ) from error
    return TaskManager(
        # Later folders win, so that no upstream task can take the place of ours.
        include_path=[
            str(folder) for folder in (*(upstream_folders() if upstream else ()), *folders)
        ],
        include_defaults=False,
        metadata=metadata,
    )


def require_names(config: dict[str, Any]) -> None:
    """Raise TaskError for a task or group named by what is no text: lm-eval sorts the names."""
    for key in ("task", "group"):
        if not isinstance(value := config.get(key, ""), str | list | dict):
            raise TaskError(f"{key}: expected a name, found {value!r}")


def load_tasks(
    names: Sequence[str],
    include: Sequence[Path] = (),
    *,
    split: str | None = None,
    text: str | None = None,
) -> dict[str, Any]:
    """Return lm-eval's {"tasks": {name: Task}, "groups": {name: Group}} for `names`.

    split and text reach the loaders of the data. Raises TaskError for unknown names and files
    that do not load, DataError for data that cannot be had.
    """
    chosen = {"split": split, "text": text}
    metadata = {key: value for key, value in chosen.items() if value is not None}
    manager = _task_manager(include, metadata)
    if "hebench_extended" in names or any(name not in manager.all_tasks for name in names):
        manager = _task_manager(include, metadata, upstream=True)
    for name in names:
        if name not in manager.all_tasks:
            ours = _task_manager(include, metadata).all_tasks
            close = difflib.get_close_matches(name, ours, n=3)
            hint = f"did you mean {' or '.join(close)}? " if close else ""
            raise TaskError(f"unknown task {name}; {hint}`hebench tasks ls` lists them")
    try:
        with quiet():
            return dict(manager.load(list(names)))
    except HebenchError:
        raise
    except OSError as error:  # no Hub, above all
        raise DataError(
            f"cannot get the data of {', '.join(names)}: {one_line(error)}; connect to the Hub"
        ) from error
    except Exception as error:  # a task is somebody's code and templates, and may raise anything
        raise TaskError(
            f"cannot load {', '.join(names)}: {type(error).__name__}: {one_line(error)}"
        ) from error


def build_requests(task: Any, count: int) -> None:
    """Write the prompts of a task's first `count` items. Raises TaskError if it cannot."""
    try:
        task.build_all_requests(limit=count, rank=0, world_size=1)
    except Exception as error:  # as in `load_tasks`
        raise TaskError(
            f"{task.config.task}: cannot write its prompts: {type(error).__name__}: "
            f"{one_line(error)}"
        ) from error


def fingerprint(task: Any) -> str:
    """Return a hash of a task's resolved configuration, functions' source included."""
    config = task.dump_config()
    config.get("metadata", {}).pop("config_source", None)  # a path of this machine
    return sha256_of_json(config)


def source_sha256(task: Any) -> str:
    """Return a hash of what `fingerprint` does not see: few-shot documents, code behind functions.

    The code is the files of the task's own functions and the scorers that those call.
    """
    config = task.config.to_dict(keep_callable=True)
    functions = (inspect.unwrap(one) for one in _values(config) if callable(one))
    own = {inspect.getsourcefile(one) for one in functions if hasattr(one, "__code__")}
    package = Path(__file__).parent.parent
    paths = {*map(Path, filter(None, own)), *package.glob("metrics/*.py"), package / "hebrew.py"}
    shots = list(task.fewshot_docs()) if task.config.num_fewshot else []
    return sha256_of_json([shots, sorted(sha256_of(path) for path in paths)])


def _values(config: Any) -> Iterator[Any]:
    """Yield what mappings and lists within each other hold."""
    if isinstance(config, dict | list | tuple):
        for value in config.values() if isinstance(config, dict) else config:
            yield from _values(value)
    else:
        yield config


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
