"""Build the page: one static HTML file, models by tasks, every score with its interval.

    >>> build_page([read_run(Path("runs/smollm2"))], Path("leaderboard/site/index.html"))

The page is Hebrew, right to left. Every number, interval and identifier stands in an isolated
left-to-right run: without that, browsers show [39.7, 89.2] as [89.2, 39.7] in Hebrew text.
It needs no JavaScript and asks for nothing outside itself. All text from run folders is
escaped by the template.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from hebench.errors import DataError
from hebench.files import write_atomically
from hebench.hebrew import strip_bidi_controls
from hebench.records import Run, TaskScores
from hebench.stats.intervals import Interval, mean_interval

MAX_NAME = 120  # characters of a model's name that are shown
# Hebrew column heads; a task that is not here keeps its own name.
TITLES = {
    "hebench_mini_qa": "שאלות ותשובות",
    "hebench_mini_sentiment": "רגש",
    "hebench_mini_winograd": "וינוגרד",
    "hebench_mini_translation_en_he": "תרגום מאנגלית",
    "hebench_mini_translation_he_en": "תרגום לאנגלית",
    "hebench_mini_summarization": "סיכום",
    "hebench_mini_nli": "היסק",
    "hebench_mini_trivia": "טריוויה",
    "hebench_mini_grammar": "דקדוק",
    "hebench_mini_math": "מתמטיקה",
    "hebench_mini_nikud": "ניקוד",
    "hebench_heq": "HeQ",
    "hebench_sentiment": "רגש בתגובות",
    "hebench_nli": "היסק (HebNLI)",
    "hebench_topic": "נושאים",
    "hebench_grammar": "התאם (CLaMS)",
    "hebench_idioms": "ניבים",
    "hebench_nikud": "ניקוד (נקדימון)",
    "hebench_bpb": "סבירות הטקסט",
}
# What the headline of a task is: shown under the column's head.
HEADLINES = {
    "hebench_mini_qa": "TLNLS",
    "hebench_mini_sentiment": "accuracy",
    "hebench_mini_winograd": "accuracy",
    "hebench_mini_translation_en_he": "chrF++",
    "hebench_mini_translation_he_en": "chrF++",
    "hebench_mini_summarization": "ROUGE-L",
    "hebench_mini_nli": "accuracy",
    "hebench_mini_trivia": "accuracy",
    "hebench_mini_grammar": "accuracy",
    "hebench_mini_math": "accuracy",
    "hebench_mini_nikud": "words",
    "hebench_heq": "TLNLS",
    "hebench_sentiment": "accuracy",
    "hebench_nli": "accuracy",
    "hebench_topic": "accuracy",
    "hebench_grammar": "accuracy",
    "hebench_idioms": "accuracy",
    "hebench_nikud": "words",
    "hebench_bpb": "2^-bpb",
}


# What the Hebrew page calls the rows that are no model, and the one metric that has a plain name.
HEBREW = {
    "baseline:random": "בלי מודל: ניחוש אקראי",
    "baseline:most_frequent": "בלי מודל: התשובה השכיחה ביותר",
    "baseline:copy_source": "בלי מודל: העתקת המקור",
    "baseline:first_sentence": "בלי מודל: המשפט הראשון",
    "accuracy": "דיוק",
    "words": "מילים נכונות",
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One task of the table."""

    task: str
    title: str
    headline: str
    version: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run of the table, a cell a column; None where the run has no such task."""

    name: str
    source: str
    baseline: bool
    cells: tuple[Interval | None, ...]
    signature: tuple[str, ...]


def interval_of(scores: TaskScores) -> Interval:
    """Return a task's mean score with its interval, clustered as the data are."""
    return mean_interval(scores.scores, scores.clusters)


def table(runs: Sequence[Run]) -> tuple[tuple[Column, ...], tuple[Row, ...]]:
    """Return columns and rows in the order of the runs.

    Raises DataError if two runs share a name, or have different versions of a task, whose
    scores do not compare.
    """
    versions: dict[str, str] = {}
    names: set[str] = set()
    for run in runs:
        if run.name in names:
            raise DataError(f"two runs are named {run.name!r}; give one another name with --name")
        names.add(run.name)
        for task, scores in run.tasks.items():
            if versions.setdefault(task, scores.version) != scores.version:
                raise DataError(
                    f"{run.name}: expected version {versions[task]} of {task} as in the other "
                    f"runs, found {scores.version}; scores of different versions do not compare"
                )
    columns = tuple(
        Column(
            task=task,
            title=TITLES.get(task, task),
            headline=HEADLINES.get(task, "score"),
            version=version,
        )
        for task, version in versions.items()
    )
    rows = tuple(
        Row(
            name=strip_bidi_controls(run.name)[:MAX_NAME],
            source=run.manifest.model.source if run.manifest else "",
            baseline=bool(run.manifest and run.manifest.backend == "baseline"),
            cells=tuple(
                interval_of(run.tasks[column.task]) if column.task in run.tasks else None
                for column in columns
            ),
            signature=_signature(run),
        )
        for run in runs
    )
    return columns, rows


def build_page(runs: Sequence[Run], path: Path) -> Path:
    """Write the page for `runs` to `path` and return it. Raises DataError as `table` does."""
    if not runs:
        raise DataError("expected at least one run folder, found none")
    columns, rows = table(runs)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hebench.board"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("page.html").render(columns=columns, rows=rows, hebrew=HEBREW)
    write_atomically(path, html)
    return path


def _signature(run: Run) -> tuple[str, ...]:
    """Return what the row's numbers depend on, as `key:value` parts."""
    if run.manifest is None:
        return ("lm_eval", "no hebench manifest")
    manifest = run.manifest
    parts = [
        f"source:{manifest.model.source}",
        f"weights:{manifest.model.weights_sha256[:12]}" if manifest.model.weights_sha256 else "",
        f"revision:{manifest.model.revision}" if manifest.model.revision else "",
        f"dtype:{manifest.model.dtype}" if manifest.model.dtype else "",
        f"batch:{manifest.batch_size}",
        f"limit:{manifest.limit or 'none'}",
        f"split:{manifest.split}" if manifest.split else "",
        f"seed:{manifest.seed}",
        f"truncated:{manifest.requests_truncated}",
        f"lm_eval:{manifest.versions.get('lm_eval', 'unknown')}",
        f"hebench:{manifest.versions.get('hebench', 'unknown')}",
    ]
    return tuple(part for part in parts if part)
