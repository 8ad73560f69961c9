"""The command line: `hebench <verb>`. A stage is imported only when its verb is called.

Exit codes: 0 done; 2 a mistake that the user can mend, told in one line; 130 interrupted;
1 a bug of ours, with its traceback.
"""

import contextlib
import errno
import json
import math
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hebench.errors import ConfigError, HebenchError, one_line

if TYPE_CHECKING:
    from hebench.board.compare_runs import RunComparison

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Hebrew language-model evaluation, with intervals.",
)
tasks_app = typer.Typer(no_args_is_help=True, help="The tasks: list, check, show their prompts.")
board_app = typer.Typer(no_args_is_help=True, help="The leaderboard: add runs, build, verify.")
data_app = typer.Typer(no_args_is_help=True, help="The public data: list, fetch, verify.")
app.add_typer(tasks_app, name="tasks")
app.add_typer(data_app, name="data")
app.add_typer(board_app, name="board")

# No room, no leave, or a path that is no file or no folder.
_USER_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM, errno.EFBIG}
_USER_ERRNOS |= {errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
_MESSAGE = 4_000  # characters: some list what there is

Include = Annotated[
    list[Path] | None, typer.Option("--include-path", help="A further folder of task files.")
]
Leaderboard = Annotated[
    Path, typer.Option("--board", help="The leaderboard's folder: models.yaml, results/.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def main() -> None:
    """Run the command line and exit; a user's mistake is one line on stderr."""
    if not sys.stderr.isatty():
        # tqdm reads this when it is first imported: no progress bars in log files.
        os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        app()
    except SystemExit as end:
        if end.code == 130:  # typer's answer to Ctrl-C
            print("hebench: interrupted; the same command goes on from here", file=sys.stderr)
        raise
    except HebenchError as error:
        print(f"hebench: {one_line(error, _MESSAGE)}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in _USER_ERRNOS:
            raise
        print(f"hebench: {error.strerror}: {error.filename or 'while writing'}", file=sys.stderr)
        sys.exit(2)


@app.command("eval")
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
    batch_size: Annotated[int, typer.Option(help="Requests a forward pass.")] = 8,
    seed: Annotated[int, typer.Option(help="Recorded; greedy answers do not depend on it.")] = 1234,
    track: Annotated[str, typer.Option(help="base, chat or thinking.")] = "base",
    backend: Annotated[
        str,
        typer.Option(
            help="hf; prefix, which shares what prompts have in common; openai, a server."
        ),
    ] = "hf",
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


@app.command()
def breakdown(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    task: Annotated[str, typer.Option(help="One of its tasks.")],
    by: Annotated[str, typer.Option(help="A field of the items: phenomenon, genre, topic ...")],
) -> None:
    """Split a task's score by a field of its items: grammar by phenomenon, NLI by genre."""
    from hebench.board.read import read_breakdown
    from hebench.board.summary import interval_of

    for value, scores in read_breakdown(run, task, by).items():
        interval = interval_of(scores)
        print(f"{value:32}{interval.text():>24}  n={interval.n}")


@app.command()
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
    for model, short, title in jobs:
        print(f"{title or model} ...", file=sys.stderr)
        folders.append(out / short)
        run(EvalConfig(model=model, tasks=DEMO_TASKS, out=out / short, name=title, limit=6))
    _print_runs(folders)
    _demo_board(folders, out)


@app.command()
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
    served = ", ".join(found.served) or found.judge
    print(f"{found.task}: {found.n} items, judged by {served}, {found.unparseable} not parsed")
    for name, interval in (found.axes or {}).items():
        print(f"{name:16}{interval.text()}")
    for name, interval in (found.reference or {}).items():
        print(f"{'reference ' + name:24}{interval.text()}")
    if found.pair:
        first, second = found.runs
        print(f"{first}: {found.pair.wins[0]} wins; {second}: {found.pair.wins[1]} wins")
        print(f"{found.pair.ties} ties, {found.pair.inconsistent} of them by order of sides")
        print(f"score of {first}: {found.pair.score.text()} n={found.pair.score.n}")


@tasks_app.command("path")
def tasks_path() -> None:
    """Print the folder of task files, for `lm_eval run --include_path`."""
    from hebench.harness.tasks import tasks_folder

    print(tasks_folder())


@tasks_app.command("ls")
def tasks_ls(include_path: Include = None, as_json: AsJson = False) -> None:
    """List tasks and groups."""
    from hebench.harness.tasks import task_names

    names = task_names(include_path or ())
    if as_json:
        print(json.dumps(names, indent=2))
        return
    for name, kind in names.items():
        print(f"{kind:6}{name}")


@tasks_app.command("check")
def tasks_check(
    folder: Annotated[Path | None, typer.Argument(help="Default: the packaged tasks.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Also check how this model's tokenizer cuts choices.")
    ] = None,
    store: Annotated[bool, typer.Option(help="Store the prompts' hashes as they are.")] = False,
) -> None:
    """Find task files that the harness would drop silently, and other faults."""
    from hebench.harness import check
    from hebench.harness.tasks import task_names, tasks_folder

    chosen = folder or tasks_folder()
    problems = check.check_tasks(chosen)
    rendered: list[check.Rendering] = []
    if not problems:
        names = {path.stem for path in chosen.rglob("*.yaml")}
        kinds = task_names(() if folder is None else (folder,))
        rendered = check.render_tasks(
            chosen, sorted(name for name in names if kinds.get(name) == "task")
        )
        if store:
            print(f"stored in {check.store_prompts(chosen, rendered)}")
        problems += check.changed_prompts(chosen, rendered)
        if tokenizer:
            problems += check.check_boundaries(chosen, rendered, tokenizer)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        raise HebenchError(f"{len(problems)} faults in {chosen}")
    absent = [item.task for item in rendered if item.prompt_sha256 is None]
    if absent:
        print(f"data not in the cache, prompts not checked: {', '.join(absent)}")
    print(f"no faults in {chosen}")


@tasks_app.command("show")
def tasks_show(
    task: str,
    n: Annotated[int, typer.Option(help="How many items.")] = 1,
    include_path: Include = None,
) -> None:
    """Print the exact prompts that a model is given."""
    from hebench.harness.tasks import prompts

    for number, prompt in enumerate(prompts(task, n, include_path or ()), start=1):
        print(f"--- {task}, item {number} ---\n{prompt}")


@data_app.command("ls")
def data_ls(as_json: AsJson = False) -> None:
    """List the public sets: licence, size, and how much of each is in the cache."""
    from hebench.data.fetch import sources

    rows = [
        {
            "name": source.name,
            "title": source.title,
            "licence": source.licence,
            "noncommercial": source.noncommercial,
            "files": len(source.files),
            "present": sum(file.cached.exists() for file in source.files.values()),
            "megabytes": round(sum(file.bytes or 0 for file in source.files.values()) / 1e6, 1),
            "note": source.note,
        }
        for source in sources().values()
    ]
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    for row in rows:
        flag = " [non-commercial]" if row["noncommercial"] else ""
        counts = f"{row['present']:>4} of {row['files']:>3} files"
        print(f"{row['name']:18}{counts}{row['megabytes']:>7} MB")
        print(f"{'':18}{row['title']}; licence: {row['licence']}{flag}")
        if row["note"]:
            print(f"{'':18}{row['note']}")


@data_app.command("get")
def data_get(
    names: Annotated[list[str] | None, typer.Argument(help="Sets, or SET/FILE.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every set.")] = False,
) -> None:
    """Download sets into the cache; what cannot be had is listed, the rest is fetched."""
    from hebench.data.fetch import fetch, select, sources
    from hebench.errors import DataError

    if bool(names) == everything:
        raise ConfigError("expected names of data sets or --all; `hebench data ls` lists them")
    wanted = select(names or list(sources()))
    failures = []
    for file in wanted:
        try:
            fetch(file.source, file.name)
        except DataError as error:
            failures.append(error)
            print(f"hebench: {error}", file=sys.stderr)
    print(f"{len(wanted) - len(failures)} of {len(wanted)} files are in the cache")
    if failures:
        raise DataError(f"{len(failures)} of {len(wanted)} files could not be fetched (see above)")


@data_app.command("verify")
def data_verify() -> None:
    """Check every file of the cache against its pinned checksum; a damaged one is set aside."""
    from hebench.data.fetch import fetch, select, sources
    from hebench.errors import DataError

    present = [file for file in select(list(sources())) if file.cached.exists()]
    failures = 0
    for file in present:
        try:
            fetch(file.source, file.name)
        except DataError as error:
            failures += 1
            print(f"hebench: {error}", file=sys.stderr)
    print(f"{len(present) - failures} of {len(present)} cached files are as pinned")
    if failures:
        raise DataError(f"{failures} cached files were damaged (see above)")


@data_app.command("overlap")
def data_overlap(
    corpus: Annotated[Path, typer.Argument(help="A file or folder: jsonl, parquet or txt.")],
    sets: Annotated[str, typer.Option("--sets", help="Sets by name; default: all.")] = "",
    field: Annotated[str, typer.Option(help="The field that holds the text.")] = "text",
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    clean: Annotated[Path | None, typer.Option(help="Write the corpus without them here.")] = None,
    min_share: Annotated[
        float, typer.Option(help="Leave a document out only if it holds this share of an item.")
    ] = 0.0,
    report: Annotated[Path | None, typer.Option(help="Write the report, item by item.")] = None,
) -> None:
    """Find evaluation items in a training corpus, and write the corpus without them."""
    from hebench.data.evaluated import evaluation_items
    from hebench.data.overlap import clean_corpus, find_overlap
    from hebench.files import write_atomically

    names = tuple(part.strip() for part in sets.split(",") if part.strip())
    items, absent = evaluation_items(names)
    cleaning = None
    if clean is None:
        overlap = find_overlap(corpus, items, field=field, workers=workers)
    else:
        cleaning = clean_corpus(
            corpus, items, clean, min_share=min_share, field=field, workers=workers
        )
        overlap = cleaning.overlap
    print(f"{overlap.documents:,} documents, {overlap.words:,} words in {overlap.files} files")
    print(f"{'set':24}{'items':>8}{'too short':>11}{'judged':>8}{'touched':>9}{'contained':>11}")
    for row in overlap.sets:
        counts = f"{row.items:>8}{row.too_short:>11}{row.judged:>8}{row.touched:>9}"
        print(f"{row.set:24}{counts}{row.contained:>11}")
    if absent:
        print(f"not in the cache, not looked for: {', '.join(absent)}")
    if overlap.skipped:
        print(f"files of another format, not read: {', '.join(overlap.skipped)}")
    if cleaning:
        print(f"{cleaning.removed:,} of {cleaning.documents:,} documents left out of {clean}")
        for name, count in cleaning.removed_by_set.items():
            print(f"  {name}: {count:,}")
    if report:
        write_atomically(report, json.dumps(asdict(overlap), ensure_ascii=False, indent=1) + "\n")


@board_app.command("add")
def board_add(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, ours or lm_eval's.")],
    board: Leaderboard = Path("leaderboard"),
    model: Annotated[
        str | None, typer.Option(help="The model's slug in models.yaml; default: from its name.")
    ] = None,
) -> None:
    """Keep run folders as records of the leaderboard; refuse what does not belong there."""
    from hebench.board.store import add_run

    for run in runs:
        path, is_new = add_run(board, run, model=model)
        print(path)
        if is_new:
            print(
                f"hebench: {board / 'models.yaml'} has a new entry {path.parent.name}; fill in "
                "what is null there (size, licence, dates, links)",
                file=sys.stderr,
            )


@board_app.command("withdraw")
def board_withdraw(
    record: Annotated[str, typer.Argument(help="MODEL/DATE-HASH, as the site names it.")],
    reason: Annotated[str, typer.Option(help="The site shows it.")],
    board: Leaderboard = Path("leaderboard"),
) -> None:
    """Let a record count no more; it stays, with a tombstone that says why."""
    from hebench.board.store import withdraw

    print(withdraw(board, record, reason))


@board_app.command("build")
def board_build(
    board: Leaderboard = Path("leaderboard"),
    out: Annotated[Path | None, typer.Option(help="Default: BOARD/site.")] = None,
) -> None:
    """Build the site from the records."""
    from hebench.board.build import build_site

    print(f"site: {(build_site(board, out or board / 'site') / 'index.html').resolve()}")


@board_app.command("verify")
def board_verify(
    board: Leaderboard = Path("leaderboard"),
    site: Annotated[Path | None, typer.Option(help="Default: BOARD/site.")] = None,
) -> None:
    """Compute every number of the built site anew and fail at the first that differs."""
    from hebench.board.verify import verify

    files, scores = verify(board, site or board / "site")
    print(f"{files:,} files and {scores:,} scores are what the records say")


@board_app.command("check")
def board_check(
    board: Leaderboard = Path("leaderboard"),
    against: Annotated[
        Path | None, typer.Option(help="The folder before: no record may be lost or changed.")
    ] = None,
    preview: Annotated[Path | None, typer.Option(help="Build the site here, too.")] = None,
) -> None:
    """Check a submission: records, counts, prompts, and that scores follow from answers."""
    from hebench.board.build import build_site
    from hebench.board.check import check_board
    from hebench.board.verify import verify
    from hebench.harness.tasks import prompt_sha256

    report = check_board(board, prompt_hash=prompt_sha256, against=against)
    for line in report.unchecked:
        print(f"not checked: {one_line(line)}")
    for line in report.problems:
        print(one_line(line), file=sys.stderr)
    if report.problems:
        raise HebenchError(f"{len(report.problems)} problems in {board} (see above)")
    if preview:
        print(f"site: {(build_site(board, preview) / 'index.html').resolve()}")
        verify(board, preview)
    print(f"{report.records} records, {report.recomputed:,} scores follow from their answers")


@board_app.command("serve")
def board_serve(
    site: Annotated[Path, typer.Option(help="A built site.")] = Path("leaderboard/site"),
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8321,
) -> None:
    """Show the built site on this machine, until Ctrl-C."""
    from hebench.board.serve import site_server

    with site_server(site, port) as server:
        print(f"http://127.0.0.1:{server.server_port}/ (Ctrl-C ends it)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


@app.command("compare")
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
        print(json.dumps(_finite(content), ensure_ascii=False, indent=2))
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


def _finite(value: Any) -> Any:
    """Return a value for JSON, in which NaN is null."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _demo_board(folders: list[Path], out: Path) -> None:
    """Build the site of the demo's runs from a leaderboard of their own, made anew each time."""
    from hebench.board.build import build_site
    from hebench.board.store import add_run

    board = out / "leaderboard"
    shutil.rmtree(board, ignore_errors=True)
    for folder in folders:
        add_run(board, folder)
    print(f"page: {(build_site(board, out / 'site') / 'he' / 'index.html').resolve()}")


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
        print(json.dumps(scores, ensure_ascii=False, indent=2))
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
