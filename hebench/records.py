"""The records that cross folders, and their form on disk. Read this file and you know the system.

A **run folder** is what lm-eval writes: `results_*.json` and one `samples_<task>_*.jsonl` a
task. `hebench eval` adds `run.json`, a `RunManifest`, and writes it last: a run folder of ours
without it is unfinished. Folders made by the plain `lm_eval` command have none and are read all
the same; what only the manifest knows is then unknown.

    runs/smollm2/
        run.json
        results_2026-11-23T05-00-00.json
        samples_hebench_mini_qa_2026-11-23T05-00-00.jsonl
        ...

A **run record** is what the leaderboard keeps of a run folder: one gzipped JSON file,
`leaderboard/results/<model>/<date>-<hash>.json.gz`, a `RunRecord` with allow-listed fields and
the score of every item, so that each number on the site is computed anew from it. A record that
should no longer count stays where it is and gets a `Tombstone` beside it.
"""

import json
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hebench.errors import DataError
from hebench.files import write_atomically

MANIFEST_NAME = "run.json"
MANIFEST_SCHEMA = 1
RECORD_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Model:
    """Which model answered, as exactly as can be known."""

    name: str  # what tables print
    source: str  # Hub id, folder name or baseline:<name>; never an absolute path
    revision: str | None  # Hub commit, or the id that a server answered under
    weights_sha256: str | None  # over the weight files' names and hashes, if they are local
    parameters: int | None
    dtype: str | None


@dataclass(frozen=True, kw_only=True)
class RunManifest:
    """Everything that a score of this run depends on, and what went wrong on the way."""

    schema: int
    model: Model
    track: str  # base, chat or thinking: never mixed in one ranking
    backend: str
    batch_size: int
    device: str
    seed: int
    limit: int | None  # items a task; None for all
    split: str | None  # None for each task's own reported split
    max_tokens: int | None  # of a free answer, if the run overrode what the tasks say
    tasks: tuple[str, ...]
    task_sha256: dict[str, str]  # task -> hash of its resolved configuration
    task_versions: dict[str, str]
    data_sha256: dict[str, str]  # task -> hash of every document of the evaluated split
    prompt_sha256: dict[str, str]  # task -> hash of every request, in order
    metric_signatures: dict[str, str]
    versions: dict[str, str]  # package -> version
    hardware: dict[str, str]
    started: str  # ISO 8601, UTC
    seconds: float  # wall time of this command, without answers reused from an earlier one
    requests: int
    requests_reused: int  # answered by an interrupted run of the same command
    requests_truncated: int  # prompt longer than the model's context: its beginning was cut
    requests_failed: int  # the model returned no number
    # task -> hash of its few-shot documents and of the code that it is made of; None: not known
    source_sha256: dict[str, str] | None = None

    def write(self, folder: Path) -> None:
        """Write `run.json`; call this last, since it marks the folder as complete."""
        write_atomically(
            folder / MANIFEST_NAME, json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n"
        )

    @classmethod
    def read(cls, folder: Path) -> "RunManifest | None":
        """Return the manifest of a run folder, or None where there is none.

        Raises DataError if it is not JSON, of another schema, or has other keys or another model.
        A key that has come since may be missing.
        """
        path = folder / MANIFEST_NAME
        if not path.is_file():
            return None
        try:
            content: Any = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path}: expected JSON, found {error}; run the evaluation anew"
            ) from error
        schema = content.get("schema") if isinstance(content, dict) else None
        if schema != MANIFEST_SCHEMA:
            raise DataError(
                f"{path}: expected schema {MANIFEST_SCHEMA}, found {schema!r}; "
                "use the hebench that wrote it"
            )
        expected, found = {field.name for field in fields(cls)}, set(content)
        needed = {field.name for field in fields(cls) if field.default is MISSING}
        if not needed <= found <= expected:
            raise DataError(
                f"{path}: keys missing: {sorted(needed - found)}, unknown: "
                f"{sorted(found - expected)}; run the evaluation anew"
            )
        try:
            content["model"] = Model(**content["model"])
            content["tasks"] = tuple(content["tasks"])
        except TypeError as error:
            raise DataError(f"{path}: {error}; run the evaluation anew") from error
        return cls(**content)


@dataclass(frozen=True, kw_only=True)
class TaskScores:
    """The per-item headline scores of one task in one run."""

    task: str
    version: str
    scores: tuple[float, ...]  # in [0, 1]; NaN for an item that could not be judged
    items: tuple[str, ...]  # ids, in the order of `scores`
    clusters: tuple[str, ...]  # items of one cluster are not independent
    metrics: dict[str, float]  # the task's aggregated metrics, `score` among them
    shots: int
    total: int  # items in the evaluated split, of which len(scores) were run


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run folder as read: who, and the scores by task."""

    name: str
    track: str
    tasks: dict[str, TaskScores]
    manifest: RunManifest | None


# ---------------------------------------------------------------------------- the leaderboard

# What a model answered to one item: its text, or the log-likelihood (nats) of each choice.
Answer = str | tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class TaskRecord:
    """One task of a run record, item by item; all sequences are in one order, (items,)."""

    version: str
    split: str | None  # None for the task's own reported split
    shots: int
    total: int  # items in the split, of which len(items) were run
    chance: float | None  # mean score of a uniform guesser; None where there are no choices
    data_sha256: str  # over the documents, in order
    prompt_sha256: str  # over the prompts, in order; a chat template is part of them
    items: tuple[str, ...]
    clusters: tuple[int, ...] | None  # codes from 0; None where every item stands for itself
    metrics: dict[str, tuple[float | None, ...]]  # `score` among them; None: not judged
    parts: dict[str, tuple[tuple[float, ...], ...]]  # corpus metric -> what its sum is made of
    answers: tuple[Answer, ...] | None


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run of one model, as the leaderboard keeps it."""

    schema: int
    model: str  # a key of models.yaml
    track: str
    added: str  # ISO date on which it joined the board
    settings: dict[str, Any]  # what the scores depend on: `hebench.board.store.SETTINGS`
    tasks: dict[str, TaskRecord]  # by task, or task.split for a split that is not the reported one


@dataclass(frozen=True, kw_only=True)
class Tombstone:
    """Why a run record counts no more."""

    schema: int
    date: str  # ISO
    reason: str


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where in a training run a model stands."""

    run: str  # name of the training run; its checkpoints share a page
    step: int
    tokens: int | None = None
    seed: int | None = None
    loss: float | None = None  # nats a token, on the run's own validation text
    chosen: bool = False
    averaged: bool = False  # a mean of the weights of several, the last of them at this step


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A model as `leaderboard/models.yaml` describes it; None is "unknown", shown as such."""

    slug: str
    name: str
    kind: str  # model or baseline
    track: str  # base, chat or thinking; a model in two tracks has two entries
    organisation: str | None = None
    parameters: int | None = None
    licence: str | None = None
    open_weights: bool | None = None
    released: str | None = None  # ISO date
    link: str | None = None  # https only
    training_data: str | None = None  # what its makers say it was trained on
    note: str | None = None
    checkpoint: Checkpoint | None = None
