"""Read and write one run record, and believe nothing that it says.

A record may come from anyone's pull request: its size, types, counts and ranges are checked
before it is used, and the message names the field.
"""

import gzip
import hashlib
import io
import json
import re
import sys
import zlib
from collections.abc import Iterator
from dataclasses import asdict, fields
from itertools import chain
from pathlib import Path
from typing import Any

from hebench.board.extract import MAX_ANSWER, SETTINGS
from hebench.board.models_file import SLUG, TRACKS
from hebench.board.require import (
    LARGEST,
    is_date,
    is_finite,
    is_whole,
    read_plain,
    require,
    require_keys,
)
from hebench.errors import DataError
from hebench.files import write_bytes_atomically
from hebench.records import RECORD_SCHEMA, RunRecord, TaskRecord

# Without "--", which parts task and track in the key of a column (`columns.column_id`).
KEY = re.compile(r"(?!.*--)[A-Za-z0-9_-]{1,80}(\.[A-Za-z0-9_-]{1,40})?")
MAX_BYTES = 200_000_000  # of an unpacked record: a bomb is not read
NAME = re.compile(r"[A-Za-z0-9_.+-]{1,80}")  # of a metric, or a task's version
HASH = re.compile(r"[0-9a-f]{64}")
MAX_SETTING = 400  # characters of a setting
MAX_PACKAGES = 100  # names of one setting, such as versions
MAX_NAME = 200
MAX_PARTS = 64  # numbers that an item adds to a corpus metric
_PLAIN = (
    "version",
    "split",
    "shots",
    "total",
    "chance",
    "data_sha256",
    "prompt_sha256",
)


def read_record(path: Path) -> RunRecord:
    """Return a record as its file holds it.

    Raises DataError where the file is not a record of this schema with the right types, counts
    and ranges; the message names the file and the field.
    """
    packed = read_plain(path, MAX_BYTES)
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: expected a gzipped record, found {error}") from error
    if len(raw) > MAX_BYTES:
        raise DataError(f"{path}: expected at most {MAX_BYTES:,} bytes unpacked, found more")
    return _parsed(raw, str(path))


def write_record(path: Path, record: RunRecord) -> None:
    """Write a record; the same record gives the same bytes."""
    write_bytes_atomically(path, gzip.compress(_text(record), mtime=0))


def require_readable(record: RunRecord, where: str) -> None:
    """Raise DataError, beginning with `where`, unless `read_record` would take the record."""
    try:
        raw = _text(record)
    except ValueError as error:  # NaN or infinity, of which JSON has no names
        raise DataError(
            f"{where}: expected finite numbers in the settings, found another ({error}); run the "
            "evaluation anew"
        ) from error
    _parsed(raw, where)


def content_hash(record: RunRecord) -> str:
    """Return a hash of what was measured: all of the record but the day it was added."""
    text = json.dumps(asdict(record) | {"added": None}, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def _text(record: RunRecord) -> bytes:
    """Return a record as JSON; half a surrogate pair in an answer stands as its escape."""
    text = json.dumps(asdict(record), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def _parsed(raw: bytes, where: str) -> RunRecord:
    try:
        content = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: expected JSON, found {error}") from error
    if not isinstance(content, dict) or content.get("schema") != RECORD_SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{where}: expected schema {RECORD_SCHEMA}, found {repr(found)[:40]}")
    require_keys(content, {field.name for field in fields(RunRecord)}, where)
    if not isinstance(content["tasks"], dict) or not content["tasks"]:
        raise DataError(f"{where}: expected at least one task")
    _require_settings(content["settings"], where)
    tasks = {}
    for key, value in content["tasks"].items():
        require(KEY.fullmatch(key), f"{where}: {key[:80]!r} is not the name of a column")
        tasks[key] = _task(key, value, f"{where}, {key}")
    record = RunRecord(**(content | {"tasks": tasks}))
    model = record.model
    require(
        isinstance(model, str) and SLUG.fullmatch(model),
        f"{where}: model {str(model)[:80]!r} is not a slug",
    )
    require(record.track in TRACKS, f"{where}: expected a track of {TRACKS}, found another")
    require(is_date(record.added), f"{where}: expected an ISO date in 'added'")
    return record


def _task(key: str, value: Any, where: str) -> TaskRecord:
    require(isinstance(value, dict), f"{where}: expected an object")
    require_keys(value, {field.name for field in fields(TaskRecord)}, where)
    items = value["items"]
    require(isinstance(items, list) and items, f"{where}: expected items, found none")
    require(
        set(map(type, items)) == {str}
        and min(map(len, items)) > 0
        and max(map(len, items)) <= MAX_NAME
        and len(set(items)) == len(items),
        f"{where}: expected ids of up to {MAX_NAME} characters, each once",
    )
    _require_fields(key, value, len(items), where)
    for name, column in _columns(value):
        require(NAME.fullmatch(name), f"{where}: {name[:80]!r} is not the name of a metric")
        found = len(column) if isinstance(column, list) else 0
        require(
            found == len(items), f"{where}: expected {len(items)} values in {name}, found {found}"
        )
    for name, column in value["metrics"].items():
        _require_metric(name, column, where)
    for name, rows in value["parts"].items():
        require(
            all(isinstance(row, list) and 0 < len(row) <= MAX_PARTS for row in rows)
            and len({len(row) for row in rows}) == 1
            and all(map(is_finite, chain.from_iterable(rows))),
            f"{where}: expected rows of finite numbers, all of one length, in {name}",
        )
    return TaskRecord(
        **{name: value[name] for name in _PLAIN},
        # One string for each id, however many records name it.
        items=tuple(map(sys.intern, items)),
        clusters=tuple(value["clusters"]) if value["clusters"] is not None else None,
        metrics={name: tuple(column) for name, column in value["metrics"].items()},
        parts={name: tuple(map(tuple, rows)) for name, rows in value["parts"].items()},
        answers=_bounded(value["answers"], where),
    )


def _require_fields(key: str, value: dict[str, Any], count: int, where: str) -> None:
    for name, form in (("version", NAME), ("data_sha256", HASH), ("prompt_sha256", HASH)):
        found = value[name]
        require(
            isinstance(found, str) and form.fullmatch(found),
            f"{where}: expected {form.pattern} in {name}",
        )
    require(
        value["split"] == (key.partition(".")[2] or None),
        f"{where}: its split is another than its name says",
    )
    total, shots, chance = value["total"], value["shots"], value["chance"]
    require(
        is_whole(total, count),
        f"{where}: expected at least as many items in all as were run ({count}), found "
        f"{str(total)[:40]}",
    )
    require(is_whole(shots), f"{where}: expected a number of shots")
    require(
        chance is None or (is_finite(chance) and 0 <= chance <= 1),
        f"{where}: expected a chance level in [0, 1]",
    )
    require(
        isinstance(value["metrics"], dict) and isinstance(value["parts"], dict),
        f"{where}: expected metrics and parts by name",
    )
    require("score" in value["metrics"], f"{where}: expected the metric score, found none")
    clusters = value["clusters"]
    require(
        clusters is None
        or (
            isinstance(clusters, list)
            and set(map(type, clusters)) == {int}
            and 0 <= min(clusters) <= max(clusters) < count
        ),
        f"{where}: expected codes from 0 to {count - 1} in clusters",
    )


def _require_metric(name: str, column: list[Any], where: str) -> None:
    judged = [number for number in column if number is not None]
    require(
        set(map(type, judged)) <= {int, float}
        and min(judged, default=0) > -LARGEST
        and max(judged, default=0) < LARGEST,
        f"{where}: expected finite numbers in {name}",
    )
    if name == "score":
        require(judged, f"{where}: no item was judged")
        require(min(judged) >= 0 and max(judged) <= 1, f"{where}: expected scores in [0, 1]")


def _columns(value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in ("clusters", "answers"):
        if value[name] is not None:
            yield name, value[name]
    for group in ("metrics", "parts"):
        yield from value[group].items()


def _bounded(answers: Any, where: str) -> tuple[Any, ...] | None:
    if answers is None:
        return None
    for answer in answers:
        text = isinstance(answer, str) and len(answer) <= MAX_ANSWER
        numbers = isinstance(answer, list) and all(map(is_finite, answer)) and answer
        require(
            text or numbers,
            f"{where}: expected answers of at most {MAX_ANSWER} characters, or finite numbers",
        )
    return tuple(answer if isinstance(answer, str) else tuple(answer) for answer in answers)


def _require_settings(settings: Any, where: str) -> None:
    """Allow only known settings of bounded size, so that a record carries nothing else."""
    require(isinstance(settings, dict), f"{where}: expected settings")
    unknown = set(settings) ^ set(SETTINGS)
    require(
        not unknown,
        f"{where}: settings missing or unknown: {sorted(key[:40] for key in unknown)[:9]}",
    )
    for name, value in settings.items():
        named = value if isinstance(value, dict) else {"": value}
        require(
            len(named) <= MAX_PACKAGES and max(map(len, named), default=0) <= MAX_SETTING,
            f"{where}: expected at most {MAX_PACKAGES} short names in {name}",
        )
        for part in named.values():
            require(
                part is None
                or is_finite(part)
                or (isinstance(part, str) and len(part) <= MAX_SETTING),
                f"{where}: expected a short text or a number in {name}",
            )


def _refuse_constant(name: str) -> None:
    raise ValueError(f"the number {name}, which is not finite")
