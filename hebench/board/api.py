"""The site for programs: JSON with a schema, one table as CSV, citations as BibTeX.

    api/v1/board.json            columns, models, scores, rankings
    api/v1/models/<slug>.json    one model: its scores, its records and their settings
    api/v1/schema.json           JSON Schema of both
    api/v1/scores.csv            a row a score, for spreadsheets
    api/v1/hebench.bib           this board, and the sets that its scores come from

Shares are in [0, 1], rounded to six decimals. Texts from records are bounded and on one line, as
on the pages. The same records give the same bytes.
"""

import csv
import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import asdict
from importlib import resources
from typing import Any

from hebench.board.columns import Column
from hebench.board.page import Site
from hebench.board.show import shown
from hebench.board.standings import Board, Cell, Ranking
from hebench.board.store import Stored
from hebench.board.suite import task_info
from hebench.records import ModelEntry

API_SCHEMA = 1
LEVEL = 0.95
MAX_TEXT = 400  # characters of a setting, a note or a reason
FOLDER = "api/v1"
CSV_COLUMNS = (
    "track",
    "model",
    "slug",
    "task",
    "split",
    "version",
    "score",
    "low",
    "high",
    "n",
    "units",
    "unscored",
    "method",
    "partial",
    "record",
)
# What a spreadsheet takes as the beginning of a formula, full-width forms too.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
_BIBTEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
}


def files(site: Site) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of every file of the API."""
    board = site.board
    yield f"{FOLDER}/board.json", _json(board_content(site))
    for slug in board.models:
        yield f"{FOLDER}/models/{slug}.json", _json(model_content(site, slug))
    schema = resources.files("hebench.board") / "api_schema.json"
    yield f"{FOLDER}/schema.json", schema.read_bytes()
    yield f"{FOLDER}/scores.csv", scores_csv(board)
    yield f"{FOLDER}/hebench.bib", bibtex(site)


# ------------------------------------------------------------------------------- JSON


def board_content(site: Site) -> dict[str, Any]:
    """Return board.json."""
    board = site.board
    return _head("board", site) | {
        "columns": [_column(board, column) for column in board.columns.values()],
        "models": [_model(entry) for entry in board.models.values()],
        "cells": [_cell(key, slug, cell) for (key, slug), cell in board.cells.items()],
        "presets": board.presets,
        "rankings": [_ranking(preset, found) for (_, preset), found in board.rankings.items()],
        "withdrawn": [
            {"record": item.name, "model": item.record.model} | _withdrawn(item)
            for item in board.stored
            if item.withdrawn
        ],
    }


def model_content(site: Site, slug: str) -> dict[str, Any]:
    """Return a model's JSON."""
    board = site.board
    return _head("model", site) | {
        "model": _model(board.models[slug]),
        "cells": [
            _cell(key, slug, cell) for key in board.columns if (cell := board.cell(key, slug))
        ],
        "rankings": [
            {"track": track, "preset": preset} | _standing(slug, found)
            for (track, preset), found in board.rankings.items()
            if slug in found.standings
        ],
        "records": [_record(item) for item in board.stored if item.record.model == slug],
    }


def _head(kind: str, site: Site) -> dict[str, Any]:
    return {
        "schema": API_SCHEMA,
        "kind": kind,
        "version": site.version,
        "date": site.date,
        "level": LEVEL,
    }


def _column(board: Board, column: Column) -> dict[str, Any]:
    floor, best = board.floor(column.key), board.best(column.key)
    flags = {"saturated": board.saturated(column.key), "at_floor": board.at_floor(column.key)}
    return {
        "key": column.key,
        "task": column.task,
        "split": column.split,
        "track": column.track,
        "version": shown(column.version),
        "headline": column.headline,
        "shots": column.shots,
        "items": len(column.items),
        "units": column.units,
        "total": column.total,
        "chance": _number(column.chance),
        "floor": floor and {"model": floor[1], "mean": _number(floor[0])},
        "best": best and {"model": best[0], "mean": _number(best[1].mean)},
        "groups": list(column.groups),
        "flags": [name for name, true in flags.items() if true],
    }


def _model(entry: ModelEntry) -> dict[str, Any]:
    found = asdict(entry)
    for key in ("name", "organisation", "licence", "link", "training_data", "note"):
        found[key] = found[key] and shown(found[key], MAX_TEXT)
    return found


def _cell(key: str, slug: str, cell: Cell) -> dict[str, Any]:
    interval = cell.interval
    return {
        "column": key,
        "model": slug,
        "mean": _number(interval.mean),
        "low": _number(interval.low),
        "high": _number(interval.high),
        "standard_error": _number(interval.standard_error),
        "n": interval.n,
        "units": interval.clusters,
        "unscored": interval.unscored,
        "method": interval.method,
        "partial": cell.partial,
        "best": cell.best,
        "record": cell.record,
    }


def _ranking(preset: str, found: Ranking) -> dict[str, Any]:
    return {
        "track": found.track,
        "preset": preset,
        "columns": list(found.keys),
        "dof": _number(found.dof),
        "critical": _number(found.critical),
        "standings": [_standing(slug, found) for slug in found.standings],
        "missing": {slug: list(keys) for slug, keys in found.missing.items()},
    }


def _standing(slug: str, found: Ranking) -> dict[str, Any]:
    standing = found.standings[slug]
    mean = standing.mean
    return {
        "model": slug,
        "mean": _number(mean.mean),
        "low": _number(mean.low),
        "high": _number(mean.high),
        "standard_error": _number(mean.standard_error),
        "other_tasks_low": _number(mean.sample_low),
        "other_tasks_high": _number(mean.sample_high),
        "rank_low": standing.low,
        "rank_high": standing.high,
        "p_best": _number(standing.p_best),
    }


def _record(item: Stored) -> dict[str, Any]:
    return {
        "name": item.name,
        "added": item.record.added,
        "withdrawn": _withdrawn(item) if item.withdrawn else None,
        "settings": {key: _setting(value) for key, value in item.record.settings.items()},
        "tasks": {
            key: {
                "version": shown(task.version),
                "split": task.split and shown(task.split),
                "shots": task.shots,
                "items": len(task.items),
                "total": task.total,
                "data_sha256": shown(task.data_sha256),
                "prompt_sha256": shown(task.prompt_sha256),
            }
            for key, task in item.record.tasks.items()
        },
    }


def _withdrawn(item: Stored) -> dict[str, Any]:
    assert item.withdrawn is not None, "the caller has looked"
    return {"date": item.withdrawn.date, "reason": shown(item.withdrawn.reason, MAX_TEXT)}


def _setting(value: Any) -> Any:
    if isinstance(value, dict):
        return {shown(key): _setting(part) for key, part in value.items()}
    return shown(value, MAX_TEXT) if isinstance(value, str) else value


def _number(value: float | None) -> float | None:
    """Return a number rounded to six decimals; None for what is not finite, as JSON has it."""
    return round(float(value), 6) if value is not None and math.isfinite(value) else None


def _json(content: dict[str, Any]) -> bytes:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1, sort_keys=True)
    return (text + "\n").encode("utf-8")


# ------------------------------------------------------------------------- CSV and BibTeX


def scores_csv(board: Board) -> bytes:
    """Return every score as a row, with a byte order mark, so that spreadsheets see UTF-8."""
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(CSV_COLUMNS)
    for (key, slug), cell in board.cells.items():
        column, interval = board.columns[key], cell.interval
        texts = (column.track, shown(board.models[slug].name), slug, column.task)
        numbers = (interval.mean, interval.low, interval.high)
        rows.writerow(
            [
                *map(harmless, texts),
                harmless(column.split or ""),
                harmless(shown(column.version)),
                *(f"{number:.6f}" if math.isfinite(number) else "" for number in numbers),
                interval.n,
                interval.clusters,
                interval.unscored,
                interval.method,
                int(cell.partial),
                cell.record,
            ]
        )
    return out.getvalue().encode("utf-8-sig")


def harmless(text: str) -> str:
    """Return text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def bibtex(site: Site) -> bytes:
    """Return entries for this state of the board and for the sets behind its columns."""
    fields = {
        "title": "hebench: a leaderboard of Hebrew language models",
        "author": "The hebench authors",
        "year": site.date[:4],
        "note": f"Board version {site.version}, records up to {site.date}",
    }
    entries = [_entry(f"hebench-board-{site.version}", fields)]
    for card, text in sorted(_cards(site.board).items()):
        entries.append(_entry(f"hebench-{card}", _citation(card, text)))
    return "\n".join(entries).encode("utf-8")


def _cards(board: Board) -> dict[str, str]:
    """Return the data cards of the board's tasks, by name."""
    infos = [task_info(column.record_key) for column in board.columns.values()]
    return {info.card: text for info in infos if info.card and (text := info.card_text())}


def _citation(card: str, text: str) -> dict[str, str]:
    """Return the fields of an entry: the card's own title, and its Citation section as a note.

    Whoever made a set writes the citation as a sentence; taking it apart would be a guess.
    """
    heading = re.search(r"^# (.+)$", text, flags=re.MULTILINE)
    section = re.search(r"^## Citation\n(.+?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    note = " ".join(section[1].split()) if section else ""
    years = re.findall(r"\b(?:19|20)\d\d\b", note)
    return {
        "title": heading[1] if heading else card,
        **({"year": max(years)} if years else {}),
        **({"note": note} if note else {}),
    }


def _entry(key: str, fields: dict[str, str]) -> str:
    lines = [f"  {name} = {{{_escaped(shown(text, MAX_TEXT))}}}," for name, text in fields.items()]
    return "\n".join([f"@misc{{{key},", *lines, "}", ""])


def _escaped(text: str) -> str:
    return "".join(_BIBTEX.get(char, char) for char in text)
