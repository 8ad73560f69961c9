"""The leaderboard's own files: run records, tombstones, models.yaml.

    leaderboard/
        models.yaml                                        who the models are
        results/<model>/<date>-<hash>.json.gz              a run record
        results/<model>/<date>-<hash>.withdrawn.json       its tombstone, if it counts no more
        votes/<study>.jsonl                                people's votes, if there are any

A record is never changed or deleted: a rerun is a new record, and the old one is withdrawn with
a reason that the site shows. At most one live record holds a model's scores for a column.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from hebench.board.extract import extract
from hebench.board.models_file import SLUG, append_entry, draft_entry, read_models, slugify
from hebench.board.record_file import content_hash, read_record, require_readable, write_record
from hebench.board.require import is_date, is_text, read_plain
from hebench.board.votes import read_study, require_models
from hebench.errors import DataError
from hebench.files import write_atomically, write_bytes_atomically
from hebench.records import RECORD_SCHEMA, Checkpoint, ModelEntry, RunRecord, TaskRecord, Tombstone

MAX_REASON = 1_000  # characters
MAX_TOMBSTONE = 100_000  # bytes of its file
FILE_NAME = re.compile(r"\d{4}-\d\d-\d\d-[0-9a-f]{12}\.json\.gz")


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A record with its place and, if it counts no more, its tombstone."""

    path: Path
    record: RunRecord
    withdrawn: Tombstone | None

    @property
    def name(self) -> str:
        """Return `model/date-hash`, which names the record everywhere."""
        return f"{self.record.model}/{self.path.name.removesuffix('.json.gz')}"


# ------------------------------------------------------------------------------ reading


def read_store(folder: Path) -> tuple[dict[str, ModelEntry], list[Stored]]:
    """Return the models and all records, withdrawn ones too, by file name.

    Raises DataError for anything that is not as it should be: an unknown schema, a record
    without a model, two live records of one model and column, a task in two versions, with other
    shots, documents or prompts.
    """
    models = read_models(folder)
    stored = list(_read_all(folder, models))
    _require_consistent(stored)
    return models, stored


def live(stored: list[Stored]) -> list[Stored]:
    """Return the records that count."""
    return [item for item in stored if item.withdrawn is None]


# ------------------------------------------------------------------------------ writing


def add_run(
    folder: Path,
    run: Path,
    *,
    model: str | None = None,
    added: str | None = None,
    checkpoint: Checkpoint | None = None,
) -> tuple[Path, bool]:
    """Keep a run folder as a record; return its path and whether `models.yaml` got a new entry.

    model: a slug of `models.yaml`, or None for one made of the run's name; an entry that is
    not there is appended with what the run knows, and with its `checkpoint`. Raises DataError,
    and writes nothing, if the record does not go with those that are there.
    """
    draft = extract(run, model=model or "unnamed", added=added or date.today().isoformat())
    slug = model or slugify(str(draft.settings["name"]))
    if not SLUG.fullmatch(slug):
        raise DataError(
            f"expected a model's slug (a-z, 0-9, . _ -), found {slug[:80]!r}; name one with --model"
        )
    record = dataclasses.replace(draft, model=slug)
    require_readable(record, str(run))
    with _alone(folder):
        return _add(folder, record, run, checkpoint)


def _add(
    folder: Path, record: RunRecord, run: Path, checkpoint: Checkpoint | None
) -> tuple[Path, bool]:
    models, slug = read_models(folder), record.model
    known = models.get(slug)
    entry = known or dataclasses.replace(draft_entry(record), checkpoint=checkpoint)
    if entry.track != record.track:
        raise DataError(
            f"{slug}: models.yaml says track {entry.track}, the run is of track {record.track}; "
            "tracks are never mixed: give the run a model of its own with --model"
        )
    path = folder / "results" / slug / f"{record.added}-{content_hash(record)[:12]}.json.gz"
    stored = list(_read_all(folder, models))
    twin = next(
        (item for item in stored if content_hash(item.record) == content_hash(record)), None
    )
    if twin:
        raise DataError(f"{run} is on the board already, as {twin.name}")
    _require_consistent([*stored, Stored(path=path, record=record, withdrawn=None)])
    # The entry first: one without a record does no harm, and the same command goes on from it.
    if known is None:
        append_entry(folder / "models.yaml", entry)
    write_record(path, record)
    return path, known is None


def add_votes(folder: Path, path: Path) -> tuple[Path, tuple[str, ...]]:
    """Keep a study's votes; return their path and the slugs of new entries of `models.yaml`.

    A model that is not there is appended under the name that the votes give it, in the track of
    the study's other models, or as a base model where none is known. Raises DataError, and
    writes nothing, for what are no votes and where the board has other votes of the study.
    """
    study, content = read_study(path), path.read_bytes()
    kept = folder / "votes" / f"{study.name}.jsonl"
    with _alone(folder):
        models = read_models(folder)
        track = next((models[slug].track for slug in study.models if slug in models), "base")
        drafts = {
            slug: ModelEntry(slug=slug, name=slug, kind="model", track=track)
            for slug in study.models
            if slug not in models
        }
        require_models(study, models | drafts, path)
        if kept.exists() and kept.read_bytes() != content:
            raise DataError(
                f"{kept}: the board has other votes of study {study.name} already; remove that "
                f"file if {path} takes its place"
            )
        for entry in drafts.values():
            append_entry(folder / "models.yaml", entry)
        write_bytes_atomically(kept, content)
    return kept, tuple(drafts)


def withdraw(folder: Path, name: str, reason: str, *, on: str | None = None) -> Path:
    """Put a tombstone beside the record `name` (`model/date-hash`) and return its path.

    Raises DataError if there is no such record, it is withdrawn already, or no reason is given.
    """
    reason = reason.strip()[:MAX_REASON]
    if not is_text(reason, MAX_REASON):
        raise DataError("expected a reason, found none; the site shows it")
    found = {item.name: item for item in _read_all(folder, read_models(folder))}
    if name not in found:
        raise DataError(
            f"expected a record of the board, found no {name}; it has {', '.join(found) or 'none'}"
        )
    if stone := found[name].withdrawn:
        raise DataError(f"{name} is withdrawn already, on {stone.date}: {stone.reason}")
    stone = Tombstone(
        schema=RECORD_SCHEMA,
        date=on or date.today().isoformat(),
        reason=reason,
    )
    path = _tombstone_path(found[name].path)
    write_atomically(path, json.dumps(asdict(stone), ensure_ascii=False, indent=1) + "\n")
    return path


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time add to a leaderboard; the lock ends with its process."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: expected a leaderboard's folder; choose another with --board")
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


# ------------------------------------------------------------------------------ the rules


def _read_all(folder: Path, models: dict[str, ModelEntry]) -> Iterator[Stored]:
    for path in sorted((folder / "results").glob("*/*.json.gz")):
        record = read_record(path)
        if not FILE_NAME.fullmatch(path.name) or not path.name.startswith(record.added):
            raise DataError(
                f"{path}: expected a name like {record.added}-0123456789ab.json.gz; add runs with "
                "hebench board add"
            )
        if record.model != path.parent.name:
            raise DataError(f"{path}: is of model {record.model}; move it to that folder")
        if record.model in models and models[record.model].track != record.track:
            raise DataError(
                f"{path}: track {record.track}, but models.yaml says "
                f"{models[record.model].track}; tracks are never mixed"
            )
        if record.model not in models:
            raise DataError(f"{path}: models.yaml has no entry {record.model}; add one")
        yield Stored(path=path, record=record, withdrawn=_tombstone(path))


def _require_consistent(stored: list[Stored]) -> None:
    """Raise DataError unless the live records can stand on one board."""
    owners: dict[tuple[str, str], str] = {}
    shared: dict[tuple[str | int, ...], tuple[str, str]] = {}
    for item in live(stored):
        for key, task in item.record.tasks.items():
            for place, found in _shared(item.record.track, key, task):
                expected, first = shared.setdefault(place, (found, item.name))
                if expected != found:
                    raise DataError(
                        f"{item.name}: {found} of {key}, but {first} has {expected}; such scores "
                        "do not compare: run the task anew as hebench has it, or withdraw the "
                        "other record (hebench board withdraw)"
                    )
            other = owners.setdefault((item.record.model, key), item.name)
            if other != item.name:
                raise DataError(
                    f"{item.name}: {other} holds scores of {item.record.model} on {key} already; "
                    "withdraw one of them (hebench board withdraw)"
                )


def _shared(track: str, key: str, task: TaskRecord) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield what all live records have alike, each with the place where they have it."""
    size = len(task.items)
    yield ("version", key), f"version {task.version}"
    yield ("shots", key, track), f"{task.shots} shots"
    yield ("documents", key, size), f"documents {task.data_sha256[:12]}"
    if track == "base":  # elsewhere a model's own chat template is part of the prompts
        yield ("prompts", key, size), f"prompts {task.prompt_sha256[:12]}"


def _tombstone_path(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".json.gz") + ".withdrawn.json")


def _tombstone(path: Path) -> Tombstone | None:
    beside = _tombstone_path(path)
    try:
        stone = Tombstone(**json.loads(read_plain(beside, MAX_TOMBSTONE)))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{beside}: expected a tombstone, found {error}") from error
    if (
        stone.schema != RECORD_SCHEMA
        or not is_date(stone.date)
        or not is_text(stone.reason, MAX_REASON)
    ):
        raise DataError(f"{beside}: expected schema {RECORD_SCHEMA}, an ISO date and a reason")
    return stone
