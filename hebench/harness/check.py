"""What is wrong with task files: everything that the harness would pass over in silence.

    hebench tasks check                       the packaged tasks
    hebench tasks check my_tasks/             a folder of one's own
    hebench tasks check --tokenizer DIR       also, how a model's tokenizer cuts the choices

>>> check_tasks(tasks_folder())
[]
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from hebench.config import require_single_keys
from hebench.errors import CheckpointError, DataError, TaskError, one_line
from hebench.files import sha256_of_json, write_atomically
from hebench.harness.tasks import (
    build_requests,
    load_tasks,
    quiet,
    require_names,
    tasks_folder,
    upstream_folders,
)

PROMPTS_NAME = "prompts.json"
_DOCUMENTS = 20  # whose choices are cut by a tokenizer: boundaries repeat after a few


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
    silently) or give a key twice (it takes the last), functions that cannot be imported, names
    that are taken or do not start with `hebench_`, missing versions, few-shot examples that are
    not fixed, stop strings that can never match, and group members that do not exist.
    """
    if not folder.is_dir():
        raise TaskError(f"expected a folder of task files, found none at {folder}")
    problems: list[Problem] = []
    unnamed = False
    configs: dict[Path, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*.yaml")):
        try:
            config = load_yaml(path, resolve_func=True)
            require_names(config)
            configs[path] = config
            for read in (path, *_included(path)):
                require_single_keys(read)
        except Exception as error:  # noqa: BLE001 - whatever a file makes YAML raise is the finding
            problems.append(Problem(path, f"cannot be loaded: {one_line(error)}"))
            unnamed |= isinstance(error, TaskError)
    owners: dict[str, Path] = {}
    for path, config in configs.items():
        name = config.get("group") or config.get("task")
        if not isinstance(name, str):
            problems.append(Problem(path, "expected `task: NAME` or `group: NAME`, found neither"))
            continue
        if name in owners:
            problems.append(Problem(path, f"the name {name} is taken by {owners[name]}"))
        owners.setdefault(name, path)
        if name != "hebench" and not name.startswith("hebench_"):
            problems.append(
                Problem(path, f"expected a name that starts with hebench_, found {name}")
            )
        try:
            problems += [Problem(path, message) for message in _faults(config)]
        except (TypeError, AttributeError, ValueError) as error:
            problems.append(Problem(path, f"a value of the wrong kind: {one_line(error)}"))
    if unnamed:  # lm-eval cannot list the names of such a folder
        return problems
    members = {path: list(_members(config)) for path, config in configs.items()}
    known = _known_names(folder, {name for names in members.values() for name in names})
    for path, names in members.items():
        problems += [
            Problem(path, f"the group names {name}, which does not exist")
            for name in names
            if name not in known
        ]
    return problems


def named_tasks(folder: Path) -> list[str]:
    """Return the names of the tasks, without groups, that the files under `folder` give."""
    names = (load_yaml(path, resolve_func=False).get("task") for path in folder.rglob("*.yaml"))
    return sorted({name for name in names if isinstance(name, str)})


def _included(path: Path) -> Iterator[Path]:
    """Yield the files that a task file takes its settings from, and those that these do."""
    named = load_yaml(path, resolve_func=False, recursive=False).get("include") or []
    for name in [named] if isinstance(named, str) else named:
        found = path.parent / name
        yield found
        yield from _included(found)


def _members(group: dict[str, Any]) -> Iterator[str]:
    """Yield the names that a group, and those written out within it, take from elsewhere."""
    for member in group["task"] if isinstance(group.get("task"), list) else []:
        if not isinstance(member, dict):
            yield str(member)
        elif isinstance(member.get("task"), list):
            yield from _members(member)
        elif "dataset_path" not in member and "custom_dataset" not in member:
            yield str(member.get("task") or member.get("group"))  # with settings of its own


def _known_names(folder: Path, asked: set[str]) -> set[str]:
    """Return the packaged names, those of `folder` and, if any is asked for, lm-eval's own."""
    foreign = [] if all(name.startswith("hebench_") for name in asked) else upstream_folders()
    folders = {str(path.resolve()) for path in (*foreign, tasks_folder(), folder)}
    with quiet():
        return set(TaskManager(include_path=list(folders), include_defaults=False).all_tasks)


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
        elif any("\\n" in stop for stop in ([until] if isinstance(until, str) else until)):
            yield r"a stop string holds a backslash and an n; write it in double quotes: " '"\\n"'


@dataclass(frozen=True)
class Rendering:
    """What a task's data look like once loaded; None for what could not be had here."""

    task: str
    prompt_sha256: str | None
    version: str
    reason: str = ""  # why the data could not be loaded


def render_tasks(folder: Path, names: Iterable[str]) -> list[Rendering]:
    """Return each task with the hash of its first prompt, from the cache and the package alone.

    Nothing is downloaded: a task whose data are not in the cache says so in `reason`.
    """
    include = () if folder == tasks_folder() else (folder,)
    found = []
    for name in names:
        try:
            with _offline():
                (task,) = load_tasks((name,), include)["tasks"].values()
        except DataError as error:
            found.append(Rendering(name, None, "", one_line(error)))
            continue
        build_requests(task, 1)
        requests = [list(instance.args) for instance in task.instances]
        found.append(Rendering(name, sha256_of_json(requests), str(task.VERSION)))
    return found


def changed_prompts(folder: Path, rendered: Iterable[Rendering]) -> list[Problem]:
    """Return tasks whose first prompt differs from the stored one under the same version.

    The store is `prompts.json` in the task folder; a folder without one is not compared.
    """
    path = folder / PROMPTS_NAME
    if not path.is_file():
        return []
    stored = json.loads(path.read_text(encoding="utf-8"))
    problems = []
    for item in rendered:
        if item.prompt_sha256 is None:
            continue
        known = stored.get(item.task)
        if known is None:
            message = f"{item.task}: no prompt is stored; run `hebench tasks check --store`"
            problems.append(Problem(path, message))
        elif known["sha256"] != item.prompt_sha256 and known["version"] == item.version:
            message = (
                f"{item.task}: the first prompt changed and the version is still {item.version}; "
                "raise metadata.version, then run `hebench tasks check --store`"
            )
            problems.append(Problem(path, message))
    return problems


def store_prompts(folder: Path, rendered: Iterable[Rendering]) -> Path:
    """Write the hashes of the first prompts, keeping those of tasks that could not be loaded."""
    path = folder / PROMPTS_NAME
    stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for item in rendered:
        if item.prompt_sha256 is not None:
            stored[item.task] = {"version": item.version, "sha256": item.prompt_sha256}
    write_atomically(path, json.dumps(dict(sorted(stored.items())), indent=1) + "\n")
    return path


def check_boundaries(folder: Path, rendered: Iterable[Rendering], tokenizer: str) -> list[Problem]:
    """Return choices that a tokenizer merges into the prompt, so that nothing is left to score.

    lm-eval encodes prompt and choice together and cuts at the prompt's own length; where the
    tokenizer merges across the boundary, the choice is empty and the harness dies, or scores
    another span. Raises CheckpointError if the tokenizer does not load.
    """
    from transformers import AutoTokenizer

    try:
        encode = AutoTokenizer.from_pretrained(tokenizer).encode
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"cannot load the tokenizer {tokenizer}: {one_line(error)}"
        ) from error
    include = () if folder == tasks_folder() else (folder,)
    problems = []
    for item in rendered:
        if item.prompt_sha256 is None:
            continue
        (task,) = load_tasks((item.task,), include)["tasks"].values()
        if task.OUTPUT_TYPE != "multiple_choice":
            continue
        build_requests(task, _DOCUMENTS)
        for instance in task.instances:
            context, choice = instance.args
            cut = len(encode(context, add_special_tokens=False)) if context else 0
            if len(encode(context + choice, add_special_tokens=False)) <= cut:
                message = (
                    f"{item.task}: the choice {choice!r} encodes to nothing after its prompt; "
                    "start choices at white space"
                )
                problems.append(Problem(folder, message))
                break
    return problems


@contextmanager
def _offline() -> Iterator[None]:
    """Let nothing be downloaded: a check must not fetch what a user did not ask for."""
    before = os.environ.get("HEBENCH_OFFLINE")
    os.environ["HEBENCH_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HEBENCH_OFFLINE"]
        else:
            os.environ["HEBENCH_OFFLINE"] = before
