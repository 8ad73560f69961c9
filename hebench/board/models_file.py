"""`leaderboard/models.yaml`: who the models of the board are.

    dictalm2.0:
      name: DictaLM 2.0
      kind: model                  # or baseline: a row without a model
      track: base                  # base, chat or thinking; a model in two tracks has two entries
      parameters: 7000000000
      ...

Everything but name, kind and track may be null, which means unknown and is shown so.
"""

import re
from dataclasses import asdict, fields
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from hebench.board.require import is_date, is_finite, is_text, is_whole, read_plain, require
from hebench.errors import DataError, one_line
from hebench.files import write_atomically
from hebench.records import Checkpoint, ModelEntry, RunRecord

SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
LINK = re.compile(r"https://[!#-&(-;=?-~]{3,300}")  # ASCII; no quotes, no angles
MAX_BYTES = 20_000_000  # of models.yaml
MAX_LOSS = 1e6
TRACKS = ("base", "chat", "thinking")
KINDS = ("model", "baseline")


def read_models(folder: Path) -> dict[str, ModelEntry]:
    """Return the entries of `models.yaml` by slug. Raises DataError naming the entry."""
    path = folder / "models.yaml"
    try:
        return _parsed(read_plain(path, MAX_BYTES), path)
    except FileNotFoundError:
        return {}


def slugify(name: str) -> str:
    """Return a model's name as a slug: `Org/Model 7B` -> `org-model-7b`."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:80].strip("-.")


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key that stands twice is a mistake: the first would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping. Raises ConstructorError for a key that stands twice."""
        seen: set[str] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"found the key {name[:80]!r} twice", key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep)


def _parsed(raw: bytes, path: Path) -> dict[str, ModelEntry]:
    try:
        content = yaml.load(raw.decode("utf-8"), _Loader) or {}
    # ValueError: no UTF-8, the 30th of February, a number of thousands of digits.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected YAML, found {one_line(error)}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a mapping of slugs to models")
    found = {slug: _entry(slug, value, path) for slug, value in content.items()}
    _require_one_of_each_run(found, path)
    return found


def _require_one_of_each_run(entries: dict[str, ModelEntry], path: Path) -> None:
    """Raise DataError for a training run with two tracks, or with two checkpoints to rank."""
    tracks: dict[str, str] = {}
    chosen: dict[str, str] = {}
    for slug, entry in entries.items():
        if entry.checkpoint is None:
            continue
        run = entry.checkpoint.run
        require(
            tracks.setdefault(run, entry.track) == entry.track,
            f"{path}, {slug}: other checkpoints of {run} are of another track",
        )
        require(
            not entry.checkpoint.chosen or chosen.setdefault(run, slug) == slug,
            f"{path}, {slug}: {chosen.get(run)} is the chosen checkpoint of {run} already; a run "
            "has one at most",
        )


def _entry(slug: Any, value: Any, path: Path) -> ModelEntry:
    where = f"{path}, {str(slug)[:80]}"
    require(isinstance(slug, str) and SLUG.fullmatch(slug), f"{where}: not a slug")
    require(isinstance(value, dict), f"{where}: expected a mapping")
    unknown = set(value) - ({field.name for field in fields(ModelEntry)} - {"slug"})
    require(not unknown, f"{where}: unknown keys {sorted(str(key)[:40] for key in unknown)[:9]}")
    for key in ("name", "kind", "track"):
        require(is_text(value.get(key), MAX_BYTES), f"{where}: expected a text in {key}")
    for key in ("organisation", "licence", "training_data", "note"):
        text = value.get(key)
        require(
            text in (None, "") or is_text(text, MAX_BYTES), f"{where}: expected a text in {key}"
        )
    require(value["kind"] in KINDS, f"{where}: expected a kind of {KINDS}")
    require(value["track"] in TRACKS, f"{where}: expected a track of {TRACKS}")
    link = value.get("link")
    require(
        link is None or (isinstance(link, str) and LINK.fullmatch(link)),
        f"{where}: expected a link in ASCII that starts with https://",
    )
    released = value.get("released")
    released = released.isoformat() if isinstance(released, date) else released
    require(released is None or is_date(released), f"{where}: expected an ISO date in released")
    parameters = value.get("parameters")
    require(
        parameters is None or is_whole(parameters, 1),
        f"{where}: expected a whole number of parameters",
    )
    require(
        isinstance(value.get("open_weights"), bool | None),
        f"{where}: expected true, false or null in open_weights",
    )
    checkpoint = value.get("checkpoint")
    require(
        checkpoint is None or value["kind"] == "model", f"{where}: a baseline has no checkpoint"
    )
    return ModelEntry(
        slug=slug,
        **(value | {"released": released, "checkpoint": _checkpoint(checkpoint, where)}),
    )


def _checkpoint(value: Any, where: str) -> Checkpoint | None:
    if value is None:
        return None
    known = {field.name for field in fields(Checkpoint)}
    require(
        isinstance(value, dict) and {"run", "step"} <= set(value) <= known,
        f"{where}: expected a checkpoint with run and step, and no keys but {sorted(known)}",
    )
    run = value["run"]
    require(isinstance(run, str) and SLUG.fullmatch(run), f"{where}: the run's name is not a slug")
    for key in ("step", "tokens", "seed"):
        number = value.get(key)
        require(
            is_whole(number) or (number is None and key != "step"),
            f"{where}: expected a whole number in {key}",
        )
    loss = value.get("loss")
    require(
        loss is None or (is_finite(loss) and abs(loss) < MAX_LOSS),
        f"{where}: expected a number in loss",
    )
    for key in ("chosen", "averaged"):
        require(
            isinstance(value.get(key, False), bool), f"{where}: expected true or false in {key}"
        )
    return Checkpoint(**value)


def draft_entry(record: RunRecord) -> ModelEntry:
    """Return what a record knows of its model."""
    source = str(record.settings["source"])
    return ModelEntry(
        slug=record.model,
        name=str(record.settings["name"])[:200],
        kind="baseline" if source.startswith("baseline:") else "model",
        track=record.track,
        parameters=record.settings["parameters"],
    )


def append_entry(path: Path, entry: ModelEntry) -> None:
    """Append an entry, unknown fields as null, and leave the rest of the file as it is.

    Raises DataError, and writes nothing, if the file with the entry could not be read again.
    """
    content = {key: value for key, value in asdict(entry).items() if key != "slug"}
    block = yaml.safe_dump({entry.slug: content}, allow_unicode=True, sort_keys=False)
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    text = f"{before.rstrip()}\n\n{block}".lstrip()
    try:
        _parsed(text.encode("utf-8"), path)
    except DataError as error:
        raise DataError(f"cannot append {entry.slug} ({error}); add it by hand") from error
    write_atomically(path, text)
