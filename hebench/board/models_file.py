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

from hebench.board.require import is_date, is_finite, require
from hebench.errors import DataError
from hebench.files import write_atomically
from hebench.records import Checkpoint, ModelEntry, RunRecord

SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
TRACKS = ("base", "chat", "thinking")
KINDS = ("model", "baseline")


def read_models(folder: Path) -> dict[str, ModelEntry]:
    """Return the entries of `models.yaml` by slug. Raises DataError naming the entry."""
    path = folder / "models.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected YAML, found {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a mapping of slugs to models")
    return {slug: _entry(slug, value, path) for slug, value in content.items()}


def slugify(name: str) -> str:
    """Return a model's name as a slug: `Org/Model 7B` -> `org-model-7b`."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:80].strip("-.")


def _entry(slug: str, value: Any, path: Path) -> ModelEntry:
    where = f"{path}, {slug}"
    require(isinstance(slug, str) and SLUG.fullmatch(slug), f"{where}: not a slug")
    require(isinstance(value, dict), f"{where}: expected a mapping")
    known = {field.name for field in fields(ModelEntry)} - {"slug"}
    require(set(value) <= known, f"{where}: unknown keys {sorted(set(value) - known)}")
    for key in ("name", "kind", "track"):
        require(isinstance(value.get(key), str), f"{where}: expected a text in {key}")
    for key in ("organisation", "licence", "training_data", "note"):
        text = value.get(key)
        require(text is None or isinstance(text, str), f"{where}: expected a text in {key}")
    require(value["kind"] in KINDS, f"{where}: expected a kind of {KINDS}")
    require(value["track"] in TRACKS, f"{where}: expected a track of {TRACKS}")
    link = value.get("link")
    require(
        link is None or re.fullmatch(r"https://[^\s\"'<>]{3,300}", str(link)),
        f"{where}: expected a link that starts with https://",
    )
    released = value.get("released")
    released = released.isoformat() if isinstance(released, date) else released
    require(released is None or is_date(released), f"{where}: expected an ISO date in released")
    parameters = value.get("parameters")
    require(
        parameters is None or (isinstance(parameters, int) and parameters > 0),
        f"{where}: expected a whole number of parameters",
    )
    require(
        isinstance(value.get("open_weights"), bool | None),
        f"{where}: expected true, false or null in open_weights",
    )
    checkpoint = value.get("checkpoint")
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
    require(SLUG.fullmatch(str(value["run"])), f"{where}: the run's name is not a slug")
    for key in ("step", "tokens", "seed"):
        number = value.get(key)
        require(
            type(number) is int or (number is None and key != "step"),
            f"{where}: expected a whole number in {key}",
        )
    loss = value.get("loss")
    require(loss is None or is_finite(loss), f"{where}: expected a number in loss")
    require(
        isinstance(value.get("chosen", False), bool), f"{where}: expected true or false in chosen"
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
    """Append an entry, unknown fields as null, and leave the rest of the file as it is."""
    content = {key: value for key, value in asdict(entry).items() if key != "slug"}
    block = yaml.safe_dump({entry.slug: content}, allow_unicode=True, sort_keys=False)
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    write_atomically(path, f"{before.rstrip()}\n\n{block}".lstrip())
