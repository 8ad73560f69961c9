"""The verbs that make scores and show them: eval, demo, judge, breakdown, compare."""

import json
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hebench.cli.options import AsJson, Include
from hebench.files import finite
from hebench.processes import rank

if TYPE_CHECKING:
    from hebench.board.compare_runs import RunComparison


def evaluate(
    model: Annotated[str, typer.Argument(help="A model folder, a Hub id, or baseline:random (…)")],
    tasks: Annotated[str, typer.Option(help="Task and group names, separated by commas.")],
    out: Annotated[Path, typer.Option(help="The run folder to write.")],
    name: Annotated[str | None, typer.Option(help="The model's name in tables.")] = None,
    revision: Annotated[str | None, typer.Option(help="Hub branch, tag or commit.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N items of each task.")] = None,
    split: Annotated[str | None, typer.Option(help="Another split, e.g. validation.")] = None,
    text: Annotated[str | None, typer.Option(help="A text file for hebench_bpb to read.")] = None,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16, float32 or auto.")] = "bfloat16",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    batch_size: Annotated[int, typer.Option(help="Requests a pass (hf); others go by tokens.")] = 8,
    seed: Annotated[int, typer.Option(help="Recorded; greedy answers do not depend on it.")] = 1234,
    track: Annotated[str, typer.Option(help="base, chat or thinking.")] = "base",
    backend: Annotated[
        str,
        typer.Option(
            help="prefix computes what prompts share once; hf is lm-eval's own; vllm; openai, "
            "a server."
        ),
    ] = "prefix",
    base_url: Annotated[str | None, typer.Option(help="The server, up to /v1.")] = None,
    concurrency: Annotated[int, typer.Option(help="Requests at a time to the server.")] = 4,
    max_tokens: Annotated[int | None, typer.Option(help="Of a free answer.")] = None,
    include_path: Include = None,
    as_json: AsJson = False,
) -> None:
    """Score a model, write the run folder, print the table."""
    from hebench.harness.run import EvalConfig
    from hebench.harness.run import evaluate as run

    names = tuple(part.strip() for part in tasks.split(",") if part.strip())
    manifest = run(
        EvalConfig(
            model=model,
            tasks=names,
            out=out,
            name=name,
            revision=revision,
            limit=limit,
            split=split,
            text=text,
            dtype=dtype,
            device=device,
            batch_size=batch_size,
            seed=seed,
            track=track,
            backend=backend,
            base_url=base_url,
            concurrency=concurrency,
            max_tokens=max_tokens,
            include=tuple(include_path or ()),
        )
    )
    if rank():
        return  # of several processes, the first one speaks
    _print_runs([out], as_json=as_json)
    if manifest.requests_truncated:
        print(
            f"hebench: {manifest.requests_truncated} of {manifest.requests} prompts were longer "
            "than the model's context and lost their beginning (instructions, shots)",
            file=sys.stderr,
        )
    if manifest.requests_failed:
        print(
            f"hebench: {manifest.requests_failed} of {manifest.requests} answers could not be "
            "judged (the model returned no number, or the server withheld them)",
            file=sys.stderr,
        )


def breakdown(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    task: Annotated[str, typer.Option(help="One of its tasks.")],
    by: Annotated[str, typer.Option(help="A field of the items: phenomenon, genre, topic ...")],
) -> None:
    """Split a task's score by a field of its items: grammar by phenomenon, NLI by genre."""
    from hebench.board.read import read_breakdown
    from hebench.board.show import shown
    from hebench.board.summary import interval_of

    for value, scores in read_breakdown(run, task, by).items():
        interval = interval_of(scores)
        print(f"{shown(value):32}{interval.text():>24}  n={interval.n}")


def demo(
    out: Annotated[Path, typer.Option(help="Where runs and page go.")] = Path("runs/demo"),
) -> None:
    """Score a small real model and the baselines on the packaged sets, and build the page."""
    from hebench.harness.run import EvalConfig
    from hebench.harness.run import evaluate as run
    from hebench.models.baselines import BASELINES
    from hebench.models.demo import DEMO_TASKS, MODEL_NAME, obtain

    folder = obtain()
    # Few items of the quicker tasks keep the demo under five minutes on two cores; intervals
    # are wide so. What a model writes for nikud or mathematics alone takes as long again.
    jobs: list[tuple[str, str, str | None]] = [(str(folder), "smollm2", MODEL_NAME)]
    jobs += [(f"baseline:{kind}", kind, None) for kind in BASELINES]
    folders = []
    for model, name, title in jobs:
        print(f"{title or model} ...", file=sys.stderr)
        folders.append(out / name)
        asked = EvalConfig(model=model, tasks=DEMO_TASKS, out=folders[-1], name=title, limit=6)
        run(replace(asked, dtype=_demo_dtype(asked.out)) if title else asked)
    _print_runs(folders)
    _demo_board(folders, out)


def _demo_dtype(folder: Path) -> str:
    """Return in what a run was begun, or what this processor is quicker in.

    Without instructions for it a processor takes fifty times as long in bfloat16.
    """
    from hebench.harness.answers import ANSWERS_NAME, settings_of
    from hebench.train.device import settled_precision

    begun = settings_of(folder / ANSWERS_NAME)
    if begun and "dtype" in begun:
        return str(begun["dtype"])
    short = settled_precision("auto", None, backend="cpu") == "bf16"
    return "bfloat16" if short else "float32"


def judge(
    runs: Annotated[
        list[Path], typer.Argument(help="One run folder (scores) or two (which wins).")
    ],
    task: Annotated[str, typer.Option(help="A summarization task of those runs.")],
    model: Annotated[str, typer.Option("--judge", help="The judge, as its server calls it.")],
    base_url: Annotated[str, typer.Option(help="That server, up to /v1.")],
    language: Annotated[str, typer.Option(help="Of the judge's prompt: he or en.")] = "he",
    include_reference: Annotated[bool, typer.Option(help="Judge the references, too.")] = False,
    limit: Annotated[int | None, typer.Option(help="Only the first N items.")] = None,
    concurrency: Annotated[int, typer.Option(help="Requests at a time.")] = 4,
) -> None:
    """Let a model behind a server judge summaries; its scores are never mixed with others."""
    from hebench.board.show import shown
    from hebench.harness.judge import JudgeConfig, judge_run

    found = judge_run(
        JudgeConfig(
            runs=tuple(runs),
            task=task,
            model=model,
            base_url=base_url,
            language=language,
            include_reference=include_reference,
            limit=limit,
            concurrency=concurrency,
        )
    )
    served = shown(", ".join(found.served) or found.judge)
    print(f"{found.task}: {found.n} items, judged by {served}, {found.unparseable} not parsed")
    for name, interval in (found.axes or {}).items():
        print(f"{name:16}{interval.text()}")
    for name, interval in (found.reference or {}).items():
        print(f"{'reference ' + name:24}{interval.text()}")
    if found.pair:
        first, second = map(shown, found.runs)
        print(f"{first}: {found.pair.wins[0]} wins; {second}: {found.pair.wins[1]} wins")
        print(f"{found.pair.ties} ties, {found.pair.inconsistent} of them by order of sides")
        print(f"score of {first}: {found.pair.score.text()} n={found.pair.score.n}")


def compare(
    first: Annotated[Path, typer.Argument(help="A run folder.")],
    second: Annotated[Path, typer.Argument(help="Another one, on the same items.")],
    task: Annotated[list[str] | None, typer.Option(help="Only this task; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two runs item by item: difference, interval, p, smallest detectable difference."""
    from hebench.board.compare_runs import compare_runs
    from hebench.board.extract import extract

    runs = [extract(folder, model="run", added="2000-01-01") for folder in (first, second)]
    found = compare_runs(runs[0], runs[1], tasks=tuple(task or ()))
    names = [str(run.settings["name"]) for run in runs]
    if as_json:
        content = {"first": names[0], "second": names[1], **asdict(found)}
        print(json.dumps(finite(content), ensure_ascii=False, indent=2, allow_nan=False))
        return
    _print_comparison(found, names)


def _print_comparison(found: "RunComparison", names: list[str]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from hebench.board.show import shown as bounded

    def points(value: float) -> str:
        return f"{100 * value:+.1f}"

    def chance(p: float) -> str:
        return "<0.0001" if p < 1e-4 else f"{p:.4f}"

    names = [bounded(name) for name in names]
    shown = Table(
        "task",
        "n",
        "first",
        "second",
        "difference",
        "95% interval",
        "p",
        "p (Holm)",
        "first better : worse",
        "detectable",
        title=escape(f"first: {names[0]}; second: {names[1]} (scores in %, differences in points)"),
    )
    for name, item in found.tasks.items():
        pair = item.paired
        units = "" if pair.clusters == pair.n else f" in {pair.clusters}"
        shown.add_row(
            name,
            f"{pair.n}{units}",
            f"{100 * pair.mean_a:.1f}",
            f"{100 * pair.mean_b:.1f}",
            points(pair.difference),
            f"[{points(pair.low)}, {points(pair.high)}]",
            chance(pair.p),
            chance(item.p_holm),
            f"{pair.better} : {pair.worse}",
            f"{100 * pair.detectable:.1f}",
        )
    overall = found.overall
    if overall.tasks > 1:
        shown.add_section()
        interval = f"[{points(overall.low)}, {points(overall.high)}]"
        cells = [points(overall.difference), interval, chance(overall.p), "", ""]
        title = f"mean of {overall.tasks} tasks"
        shown.add_row(title, "", "", "", *cells, f"{100 * overall.detectable:.1f}")
    Console(width=None if sys.stdout.isatty() else 200).print(shown)
    for name, item in found.tasks.items():
        for metric, corpus in item.corpus.items():
            print(
                f"{name} {metric}: {100 * corpus.score_a:.1f} and {100 * corpus.score_b:.1f}, "
                f"difference {points(corpus.difference)} [{points(corpus.low)}, "
                f"{points(corpus.high)}], p {corpus.p:.4f} (paired bootstrap)"
            )
        if item.paired.unscored:
            print(f"{name}: {item.paired.unscored} items could not be judged in one or both runs")
    for run, missing in ((names[0], found.only_second), (names[1], found.only_first)):
        if missing:
            print(f"not compared, since {run} lacks them: {', '.join(missing)}")
    print(
        "p: exact McNemar for 0/1 scores of independent items, else t on cluster-robust errors. "
        "detectable: the true difference that a test on these items finds four times in five."
    )


def _demo_board(folders: list[Path], out: Path) -> None:
    """Build the site of the demo's runs from a leaderboard of their own, made anew each time."""
    from hebench.board.build import build_site
    from hebench.board.store import add_run

    with tempfile.TemporaryDirectory() as aside:  # `out` may have a leaderboard/ that is no demo's
        for folder in folders:
            add_run(Path(aside), folder)
        print(f"page: {(build_site(Path(aside), out / 'site') / 'he' / 'index.html').resolve()}")


def _print_runs(folders: list[Path], *, as_json: bool = False) -> None:
    from hebench.board.read import read_run
    from hebench.board.summary import interval_of, table

    runs = [read_run(folder) for folder in folders]
    if as_json:
        scores: list[dict[str, Any]] = [
            {
                "model": run.name,
                "tasks": {
                    name: asdict(interval_of(task)) | {"metrics": task.metrics}
                    for name, task in run.tasks.items()
                },
            }
            for run in runs
        ]
        print(json.dumps(finite(scores), ensure_ascii=False, indent=2, allow_nan=False))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    columns, rows = table(runs)
    shown = Table(
        "task", *(escape(row.name) for row in rows), title="score in %, 95% interval, n items"
    )
    for place, column in enumerate(columns):
        cells = [row.cells[place] for row in rows]
        shown.add_row(
            f"{column.task} ({column.headline})",
            *(f"{cell.text()} n={cell.n}" if cell else "-" for cell in cells),
        )
    Console(width=None if sys.stdout.isatty() else 200).print(shown)
