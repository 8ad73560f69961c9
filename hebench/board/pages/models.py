"""Model pages: what is known of a model, its scores with all their errors, and how to repeat them.

A page for every entry of `models.yaml`, also for one whose records are all withdrawn: nothing
leaves the board without a trace. Provenance holds everything that a record says, and the command
that makes its numbers again.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hebench.board import svg
from hebench.board.columns import Column
from hebench.board.extract import SETTINGS
from hebench.board.numbers import Metric, method_words, other_metrics
from hebench.board.page import Page, Site, model_name
from hebench.board.pages.tasks import Reference, reference
from hebench.board.show import shown
from hebench.board.standings import Board, Cell, Ranking, Standing, is_ranked
from hebench.board.store import Stored
from hebench.board.suite import groups, task_info
from hebench.records import ModelEntry, RunRecord

_PLAIN = "lm_eval"  # backend of records that were made by the plain command
# Setting of a record -> option of `hebench eval`.
_OPTIONS = {
    "revision": "--revision",
    "dtype": "--dtype",
    "batch_size": "--batch-size",
    "device": "--device",
    "seed": "--seed",
    "limit": "--limit",
    "max_tokens": "--max-tokens",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A model's scores on one column, beside what they are read against."""

    column: Column
    cell: Cell | None  # None: not run
    reference: Reference
    metrics: tuple[Metric, ...]


@dataclass(frozen=True, kw_only=True)
class Place:
    """A model's place in one ranking; a model that lacks columns has none."""

    preset: str
    columns: int
    standing: Standing | None
    models: int
    missing: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """A record as its page shows it."""

    stored: Stored
    command: str
    settings: dict[str, Any]


def pages(site: Site) -> Iterator[Page]:
    """Yield the page of every model."""
    board = site.board
    references = {key: reference(board, key) for key in board.columns}
    for slug, entry in board.models.items():
        yield Page(
            path=f"models/{slug}.html",
            template="model.html",
            title="model.page_title",
            title_values={"name": model_name(board, slug)},
            section="table",
            styles=("pages.css",),
            context=_context(board, entry, references),
        )


def _context(
    board: Board, entry: ModelEntry, references: dict[str, Reference]
) -> dict[str, object]:
    slug = entry.slug
    rows = [
        _row(board, column, slug, references[column.key])
        for column in board.columns_of(entry.track)
    ]
    own = [row for row in rows if row.cell]
    stored = [item for item in board.stored if item.record.model == slug]
    packaged = sum(task_info(row.column.record_key).packaged for row in own)
    return {
        "svg": svg,
        "slug": slug,
        "entry": entry,
        "ranked": is_ranked(entry),
        "places": list(_places(board, entry)),
        "rows": own,
        "missing": [row.column for row in rows if not row.cell],
        "records": [_provenance(item) for item in stored if not item.withdrawn],
        "withdrawn": [item for item in stored if item.withdrawn],
        "packaged": packaged,
        "public": len(own) - packaged,
        "rival": _rival(board, entry),
        "method_words": method_words,
    }


def _row(board: Board, column: Column, slug: str, found: Reference) -> Row:
    cell = board.cell(column.key, slug)
    metrics = tuple(other_metrics(column.part(slug))) if cell else ()
    return Row(column=column, cell=cell, reference=found, metrics=metrics)


def _places(board: Board, entry: ModelEntry) -> Iterator[Place]:
    """Yield the model's place in each ranking of its track that it has any column of."""
    for name in board.presets.get(entry.track, {}):
        ranking: Ranking = board.rankings[entry.track, name]
        standing = ranking.standings.get(entry.slug)
        missing = ranking.missing.get(entry.slug, ())
        if standing or missing:
            yield Place(
                preset=name,
                columns=len(ranking.keys),
                standing=standing,
                models=len(ranking.standings),
                missing=missing,
            )


def _rival(board: Board, entry: ModelEntry) -> str | None:
    """Return the best other model of the track, to compare with."""
    preset = board.preset(entry.track)
    if preset is None:
        return None
    order = board.rankings[entry.track, preset].standings
    return next((slug for slug in order if slug != entry.slug), None)


def _provenance(stored: Stored) -> Provenance:
    settings = {
        name: value
        for name, value in stored.record.settings.items()
        if name in SETTINGS and name != "name"
    }
    return Provenance(stored=stored, command=command(stored.record), settings=settings)


def command(record: RunRecord) -> str:
    """Return the command that repeats a record, quoted for a shell, an option a line.

    What the record cannot know, the address of a server, stands as a variable of the shell.
    """
    settings = record.settings
    names = list(dict.fromkeys(key.partition(".")[0] for key in record.tasks))
    whole = next((name for name, members in groups().items() if set(members) == set(names)), None)
    tasks, source = whole or ",".join(names), settings["source"]
    if settings["backend"] == _PLAIN:
        parts = ["lm_eval run --model hf", f"--model_args pretrained={_quoted(source)}"]
        options = {name: f"--{name}" for name in ("batch_size", "device", "seed", "limit")}
        last = ['--include_path "$(hebench tasks path)"', f"--output_path runs/{record.model}"]
        last.append("--log_samples")
        if record.track != "base":
            last.append("--apply_chat_template")
    else:
        parts = [f"hebench eval {_quoted(source)}"]
        options = _OPTIONS
        last = [f"--track {record.track}", f"--out runs/{record.model}"]
        if settings["backend"] == "openai":
            # Its revision is the name that the server answered under, and not asked for.
            options = {name: each for name, each in options.items() if name != "revision"}
            last.insert(0, '--backend openai --base-url "$BASE_URL"')
        elif settings["backend"] != "baseline":
            last.insert(0, f"--backend {_quoted(settings['backend'])}")
    parts.append(f"--tasks {_quoted(tasks)}")
    split = next((task.split for task in record.tasks.values() if task.split), None)
    if split and settings["backend"] != _PLAIN:
        parts.append(f"--split {_quoted(split)}")
    elif split:
        parts.append("--metadata " + shlex.quote(f'{{"split": "{shown(split)}"}}'))
    parts += [
        f"{option} {_quoted(settings[name])}"
        for name, option in options.items()
        if settings[name] is not None
    ]
    return " \\\n    ".join([*parts, *last])


def _quoted(value: Any) -> str:
    """Return a setting as one word of a shell; nothing in it can end the word or hide."""
    return shlex.quote(shown(value, 400))
