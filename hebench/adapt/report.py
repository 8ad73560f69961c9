"""The table and the picture of an adaptation: what each stage did to the model, and how sure.

Bits per byte come with the interval over documents; the difference from the base model is taken
passage by passage. Task scores of the two ends are compared item by item, as `hebench compare`
does. Loss per token is not shown: with another tokenizer it is another quantity.
"""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hebench.adapt.measure import read_bits
from hebench.adapt.recipe import Recipe
from hebench.board.compare_runs import RunComparison, compare_runs
from hebench.board.extract import extract
from hebench.board.read import read_run
from hebench.board.summary import interval_of
from hebench.config import plain
from hebench.files import finite, write_atomically, write_bytes_atomically
from hebench.stats.intervals import Interval
from hebench.train.measure import difference
from hebench.train.stage import StageRecord


@dataclass(frozen=True, kw_only=True)
class Point:
    """A place in the adaptation where the model was measured."""

    name: str  # base, or the stage before
    folder: Path
    record: StageRecord  # metrics: `hebench.train.measure.summary` by language


@dataclass(frozen=True, kw_only=True)
class Row:
    """One point of the table."""

    name: str
    seconds: float | None  # that the stage before took; None for the base model
    languages: Mapping[str, Mapping[str, Any]]  # `summary` by language code
    from_base: Mapping[str, Mapping[str, float]]  # bits per byte less the base's: mean, low, high
    tasks: Mapping[str, Interval]


@dataclass(frozen=True, kw_only=True)
class Report:
    """All points of an adaptation, and its ends compared."""

    recipe: str
    language: str
    rows: tuple[Row, ...]
    ends: RunComparison | None  # last training stage against base, item by item; None: no tasks
    last: str  # the point that `ends` compares with the base


def make_report(
    out: Path, recipe: Recipe, points: Sequence[Point], records: Mapping[str, StageRecord]
) -> Report:
    """Return the report of a run folder: `points` in order, the first is the base model."""
    rows = tuple(_row(point, points[0], records) for point in points)
    ends = None
    if recipe.measure.tasks:
        runs = [
            extract(out / "scores" / name / "tasks", model="run", added="2000-01-01")
            for name in ("pretrain", "base")
        ]
        ends = compare_runs(runs[0], runs[1], tasks=())
    return Report(
        recipe=recipe.name, language=recipe.language, rows=rows, ends=ends, last="pretrain"
    )


def write_report(out: Path, report: Report, records: Mapping[str, StageRecord]) -> None:
    """Write adapt.json, adapt.md and adapt.png into `out`."""
    content = plain(report) | {"stages": {name: plain(record) for name, record in records.items()}}
    text = json.dumps(finite(content), ensure_ascii=False, indent=2, default=float)
    write_atomically(out / "adapt.json", text + "\n")
    write_atomically(out / "adapt.md", table(report))
    write_bytes_atomically(out / "adapt.png", picture(report))


def table(report: Report) -> str:
    """Return the report as Markdown."""
    codes = sorted(report.rows[0].languages, key=lambda code: code != report.language)
    tasks = list(report.rows[0].tasks)
    heads = ["after"]
    heads += [f"{code}: bits per byte, less base" for code in codes]
    heads += [f"{code}: tokens per word" for code in codes]
    heads += [*tasks, "stage, seconds"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in report.rows:
        cells = [row.name]
        for code in codes:
            found, change = row.languages[code], row.from_base[code]
            text = f"{found['bits_per_byte']:.3f}"
            if row.seconds is not None:
                text += f", {change['mean']:+.3f} {_bounds(change)}"
            cells.append(text)
        cells += [f"{row.languages[code]['tokens_per_word']:.2f}" for code in codes]
        cells += [
            f"{row.tasks[name].text()} n={row.tasks[name].n}" if name in row.tasks else "-"
            for name in tasks
        ]
        cells.append("-" if row.seconds is None else f"{row.seconds:.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *_ends(report)]
    return "\n".join(lines) + "\n"


def picture(report: Report) -> bytes:
    """Return bits per byte through the stages as a PNG picture, a line for each language."""
    from matplotlib.figure import Figure  # without pyplot nothing looks for a display

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    places = range(len(report.rows))
    for place, code in enumerate(report.rows[0].languages):
        found = [row.languages[code] for row in report.rows]
        middle = [values["bits_per_byte"] for values in found]
        spread = [
            [values["bits_per_byte"] - _bound(values, "low") for values in found],
            [_bound(values, "high") - values["bits_per_byte"] for values in found],
        ]
        axes.errorbar(
            places, middle, yerr=spread, marker="o", capsize=3, color=f"C{place}", label=code
        )
    axes.set_xticks(list(places), [row.name for row in report.rows])
    axes.set(
        title=f"{report.recipe}: held-out text through the stages",
        ylabel="bits per byte (95 % interval over documents)",
    )
    axes.grid(alpha=0.3)
    axes.legend(title="language")
    target = io.BytesIO()
    figure.savefig(target, format="png", metadata={"Software": None})
    return target.getvalue()


def _row(point: Point, base: Point, records: Mapping[str, StageRecord]) -> Row:
    languages = point.record.metrics
    changes = {
        code: difference(read_bits(point.folder, code), read_bits(base.folder, code))
        for code in languages
    }
    run = point.folder / "tasks"
    stage = records.get(point.name)
    return Row(
        name=point.name,
        seconds=stage.seconds if stage else None,
        languages=languages,
        from_base={code: plain(change) for code, change in changes.items()},
        tasks={name: interval_of(task) for name, task in read_run(run).tasks.items()}
        if run.is_dir()
        else {},
    )


def _bound(values: Mapping[str, Any], side: str) -> float:
    """Return a bound of bits per byte, NaN where it is unknown: null if it was read from a file."""
    found = values[f"bits_per_byte_{side}"]
    return math.nan if found is None else float(found)


def _bounds(change: Mapping[str, float]) -> str:
    if math.isnan(change["low"]):
        return "[interval unknown]"
    return f"[{change['low']:+.3f}, {change['high']:+.3f}]"


def _ends(report: Report) -> list[str]:
    if report.ends is None:
        return []
    lines = [
        f"After {report.last} against the base model, item by item (points, 95 % interval):",
        "",
    ]
    for name, item in report.ends.tasks.items():
        pair = item.paired
        lines.append(
            f"- {name}: {100 * pair.difference:+.1f} [{100 * pair.low:+.1f}, "
            f"{100 * pair.high:+.1f}], n={pair.n}, p={pair.p:.4f} ({pair.test})"
        )
    return lines
