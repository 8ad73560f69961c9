"""What the board knows of the tasks: read from their YAML, without the harness.

    >>> suite()["hebench_mini_qa"].headline
    'TLNLS'

A **column** of the board is a task on one split: `hebench_heq` is the reported split,
`hebench_heq.validation` another one. Only the documents of the sets written for hebench are
shown on the site; those of public sets stay where their makers published them.
"""

import functools
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hebench.errors import DataError
from hebench.files import packaged_folder

Doc = dict[str, Any]
_OURS = "hebench.data.load."  # loaders of the sets that the package carries
# Family of prompts -> what its `score` is, as the field names it.
_HEADLINES = {
    "bits": "2^-bpb",
    "math": "accuracy",
    "nikud": "words",
    "qa": "TLNLS",
    "summarization": "ROUGE-L",
    "translation": "chrF++",
    "instructions": "accuracy",
}


@dataclass(frozen=True, kw_only=True)
class TaskInfo:
    """One task as its YAML describes it."""

    name: str
    version: str
    family: str  # qa, sentiment ...; the same for the base and the chat track
    headline: str  # what `score` is
    output_type: str
    shots: int
    card: str  # name of its data card
    loader: str  # dotted name of the function that loads its documents
    scorer: str  # dotted name of the function that scores an answer

    @property
    def packaged(self) -> bool:
        """Whether the documents are in the package, so that the site may show them."""
        return self.loader.startswith(_OURS)

    @property
    def has_splits(self) -> bool:
        """Whether another split than the reported one can be chosen."""
        return "split" in inspect.signature(_function(self.loader)).parameters

    def docs(self, split: str | None = None) -> list[Doc]:
        """Return the documents of a split (None: the reported one), in the task's order.

        Raises DataError where data that are not in the package cannot be had.
        """
        chosen = {"split": split} if split else {}
        return list(_function(self.loader)(**chosen)["test"])

    def score(self, doc: Doc, answer: str | tuple[float, ...]) -> dict[str, Any]:
        """Return the metrics of one answer, by the function that the harness calls, too."""
        results: list[Any] = [answer]
        if self.output_type == "multiple_choice":
            results = [(value, False) for value in answer]
        elif self.output_type == "loglikelihood_rolling":
            results = list(answer)
        scored: dict[str, Any] = _function(self.scorer)(doc, results)
        return scored

    def card_text(self) -> str:
        """Return the task's data card, Markdown in English; empty if there is none."""
        path = packaged_folder("data_cards") / f"{self.card}.md"
        return path.read_text(encoding="utf-8") if path.is_file() else ""


@functools.cache
def suite() -> dict[str, TaskInfo]:
    """Return every hebench task by name, in the order of the files."""
    found = {}
    for path in sorted(packaged_folder("tasks").rglob("*.yaml")):
        config = _read(path)
        if "task" not in config or not isinstance(config["task"], str):
            continue
        family = Path(config["include"]).name.removeprefix("chat_")
        found[config["task"]] = TaskInfo(
            name=config["task"],
            version=str(config["metadata"]["version"]),
            family=family,
            headline=_HEADLINES.get(family, "accuracy"),
            output_type=config["output_type"],
            shots=int(config.get("num_fewshot") or 0),
            card=config["metadata"]["data_card"],
            loader=config["custom_dataset"],
            scorer=config["process_results"],
        )
    return found


@functools.cache
def groups() -> dict[str, tuple[str, ...]]:
    """Return the groups of hebench tasks, each with its members in order."""
    found = {}
    for path in sorted(packaged_folder("tasks").glob("*.yaml")):
        config = _read(path)
        members = tuple(name for name in config.get("task", ()) if name in suite())
        if "group" in config and members:
            found[config["group"]] = members
    return found


def column_key(task: str, split: str | None) -> str:
    """Return a column's key; it is safe as a file name and in a URL."""
    return f"{task}.{split}" if split else task


def split_key(key: str) -> tuple[str, str | None]:
    """Return task and split of a column's key."""
    task, _, split = key.partition(".")
    return task, split or None


def task_info(key: str) -> TaskInfo:
    """Return the task of a column; of a task that is not hebench's, no more than its name."""
    name = split_key(key)[0]
    if name in suite():
        return suite()[name]
    return TaskInfo(
        name=name,
        version="",
        family="other",
        headline="accuracy",
        output_type="",
        shots=0,
        card="",
        loader="",
        scorer="",
    )


@functools.cache
def packaged_docs(task: str) -> dict[str, Doc]:
    """Return the documents of a packaged task by id; none for a public one."""
    info = task_info(task)
    return {str(doc["id"]): doc for doc in info.docs()} if info.packaged else {}


def _read(path: Path) -> dict[str, Any]:
    """Return a task file merged over what it includes; functions stay dotted names."""
    try:
        config: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except yaml.YAMLError as error:
        raise DataError(f"{path}: expected YAML, found {error}") from error
    return _read(path.parent / config["include"]) | config if "include" in config else config


class _Loader(yaml.SafeLoader):
    """Safe YAML in which `!function a.b.c` is the string `a.b.c`."""


def _dotted_name(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


_Loader.add_constructor("!function", _dotted_name)


def _function(dotted: str) -> Callable[..., Any]:
    module, _, name = dotted.rpartition(".")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found
