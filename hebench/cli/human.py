"""`hebench human`: people compare models, blind. From a study's YAML file to a ranking.

STUDY is a study's YAML file; its database is then NAME.sqlite beside it, or `--db`. Where there is
no file, STUDY is the study's name and `--db` names the database.
"""

import contextlib
import datetime
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hebench.errors import ConfigError

if TYPE_CHECKING:
    from hebench.human.database import Database
    from hebench.human.ranking import Ranking

app = typer.Typer(
    no_args_is_help=True, help="Human evaluation: people compare models' answers, blind."
)

Study = Annotated[str, typer.Argument(help="A study's YAML file, or its name (then with --db).")]
Db = Annotated[
    str | None,
    typer.Option(
        "--db",
        help="A file, or postgresql://…; default: HEBENCH_HUMAN_DB, else NAME.sqlite by the YAML.",
    ),
]
Out = Annotated[Path, typer.Option(help="The file to write; it must not exist.")]
Example = Annotated[
    str, typer.Option(help="translations (blind pairs) or summaries (scores on four scales).")
]
Port = Annotated[int, typer.Option(help="Of the server.")]


@app.command("init")
def init(
    folder: Annotated[Path, typer.Argument(help="A new folder.")], example: Example = "translations"
) -> None:
    """Write a small complete study to change into your own."""
    from hebench.human.example import write_example

    print(write_example(folder, example))


@app.command("check")
def check(study: Annotated[Path, typer.Argument(help="A study's YAML file.")]) -> None:
    """Find what is wrong with a study, and say what its plan can find."""
    from hebench.human.material import read_material
    from hebench.human.power import power
    from hebench.human.study import load_study

    loaded = load_study(study)
    material = read_material(loaded)
    plan = power(loaded, material)
    print(f"{loaded.name}: {loaded.type}, {len(loaded.models)} models, {len(material.items)} items")
    if material.left_out:
        print(f"{len(material.left_out)} items left out: a model has no answer to them")
    if material.masked:
        print(f"{material.masked} answers name a model; raters see the name masked")
    if material.unmasked:
        print(f"not masked in answers, since too short: {', '.join(material.unmasked)}")
    unit = "pair of models" if loaded.paired else "model"
    print(
        f"plan: {plan.seats} raters, {plan.votes} votes on {plan.questions} questions "
        f"({plan.shared} asked of several raters), {plan.votes_a_pair:.0f} votes a {unit}"
    )
    if plan.short_by:
        print(f"the plan asks for {plan.short_by} votes more than items and models allow")
    for rate, needed in plan.needed.items():
        votes = needed.votes if needed.votes is not None else f"none ({needed.reason})"
        print(f"to find a win rate of {rate:.0%}: {votes} votes a pair")
    if plan.detectable is not None:
        print(f"smallest win rate that this plan finds four times in five: {plan.detectable:.1%}")
    if plan.detectable_points is not None:
        print(f"smallest difference that it finds: {plan.detectable_points:.2f} points of a scale")


@app.command("publish")
def publish(study: Annotated[Path, typer.Argument(help="A YAML file.")], db: Db = None) -> None:
    """Make the plan's pages, sides and orders, from the seed; from now on people can rate."""
    from hebench.human.material import read_material
    from hebench.human.publish import publish as make
    from hebench.human.study import load_study

    loaded = load_study(study)
    with _opened(str(study), db, new=True) as (database, _):
        made = make(database, loaded, read_material(loaded))
    print(f"{made.study}: {made.seats} raters' seats, {made.tasks} questions, {made.slots} pages")


@app.command("invite")
def invite(
    study: Study,
    db: Db = None,
    role: Annotated[str, typer.Option(help="rater, adjudicator or owner.")] = "rater",
    people: Annotated[int, typer.Option(help="1: a personal link; N: one link for so many.")] = 1,
    links: Annotated[int, typer.Option(help="So many links.")] = 1,
    days: Annotated[float, typer.Option(help="How long a link works.")] = 30.0,
    address: Annotated[
        str, typer.Option(help="Where people reach the server.")
    ] = "http://localhost:8765",
) -> None:
    """Print invitation links; only their hashes are stored, so keep what is printed."""
    from hebench.human.access import invite as make

    if role not in ("rater", "adjudicator", "owner"):
        raise ConfigError(f"--role: expected rater, adjudicator or owner, found {role!r}")
    with _opened(study, db) as (database, name):
        for _ in range(links):
            made = make(database, name, role=role, people=people, days=days)  # type: ignore[arg-type]
            print(f"{address.rstrip('/')}/rate/{made.token}")


@app.command("revoke")
def revoke(
    study: Study,
    number: Annotated[int, typer.Argument(help="As `status` lists it.", min=1, max=2**31 - 1)],
    db: Db = None,
) -> None:
    """Let a link, and whoever came in by it, in no more; the votes stay."""
    from hebench.human.access import revoke as stop

    with _opened(study, db) as (database, name):
        stop(database, name, number)


@app.command("serve")
def serve(
    study: Study,
    db: Db = None,
    host: Annotated[str, typer.Option(help="This machine only, unless told.")] = "127.0.0.1",
    port: Port = 8765,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
) -> None:
    """Serve a study until Ctrl-C; one that is not published yet is published first."""
    from hebench.human import serve as server

    url, name = _located(study, db)
    _publish_if_new(study, url, name)
    print(f"{server.address_of(host, port)} (Ctrl-C ends it)", flush=True)
    warning = server.advice(host)
    if warning:
        print(f"hebench: {warning}", file=sys.stderr)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve(database_url=url, study=name, host=host, port=port, workers=workers)


@app.command("demo")
def demo(
    folder: Annotated[Path, typer.Argument(help="Where it is kept.")] = Path("runs/human-demo"),
    example: Example = "translations",
    port: Port = 8765,
) -> None:
    """Set up a bundled example study in FOLDER/EXAMPLE, print its links and serve it."""
    from hebench.human.access import invite as make
    from hebench.human.example import write_example
    from hebench.human.serve import address_of

    study = folder / example / "study.yaml"
    if not study.is_file():
        write_example(study.parent, example)
    url, name = _located(str(study), None)
    _publish_if_new(str(study), url, name)
    with _opened(str(study), None) as (database, _):
        rater, owner = (make(database, name, role=role) for role in ("rater", "owner"))
    address = address_of("127.0.0.1", port)
    print(f"to rate:       {address}/rate/{rater.token}")
    print(f"the dashboard: {address}/rate/{owner.token}")
    serve(str(study), port=port)


@app.command("status")
def status(
    study: Study,
    db: Db = None,
    names: Annotated[
        str | None,
        typer.Option(
            help="Name models before the end; WHY is kept with the results.", metavar="WHY"
        ),
    ] = None,
) -> None:
    """Print counts, the ranking so far with its intervals, and the links.

    Models of an open study are numbers, as on the dashboard.
    """
    from hebench.human.access import invites, signing_key
    from hebench.human.blinding import reveal
    from hebench.human.dashboard import dashboard

    with _opened(study, db) as (database, name):
        if names is not None:
            reveal(database, name, what="status", why=names)
        board = dashboard(database, name, key=signing_key(database, name), named=names is not None)
        links = invites(database, name)
    found = board.results
    counts, coverage = found.counts, found.coverage
    print(f"{name}: {board.state.state}, {counts.votes} votes of {counts.raters} raters")
    print(f"pages: {counts.answered} of {counts.slots} answered; {counts.excluded} votes excluded")
    print(
        f"questions: {coverage.begun} of {coverage.questions} begun, {coverage.complete} complete"
    )
    print(f"stop rule: {found.stop.words}")
    for one in board.found.reveals:
        print(f"models could be told after {one.votes} votes: {one.what}, by {one.by}")
    if found.ranking:
        _print_ranking(found.ranking, board.label)
    for link in links:
        until = datetime.datetime.fromtimestamp(link.expires, datetime.UTC).date()
        ended = ", revoked" if link.revoked else ""
        print(
            f"link {link.id}: {link.role}, used by {link.used} of {link.people}, to {until}{ended}"
        )


@app.command("close")
def close(study: Study, db: Db = None) -> None:
    """Close a study and apply its quality rules: names may be revealed and results exported."""
    from hebench.human.blinding import close_study
    from hebench.human.export import settle

    with _opened(study, db) as (database, name):
        close_study(database, name)
        settle(database, name)


@app.command("reopen")
def reopen(study: Study, db: Db = None) -> None:
    """Open a closed study again; that its models could be told by then is kept."""
    from hebench.human.blinding import reopen_study

    with _opened(study, db) as (database, name):
        reopen_study(database, name)


@app.command("export")
def export(
    study: Study,
    out: Out,
    what: Annotated[
        str,
        typer.Option(
            help="votes (for the board), raw, preferences (DPO), evidence (select), review."
        ),
    ] = "votes",
    notes: Annotated[
        bool,
        typer.Option("--notes", help="raw: with raters' notes, which may say who wrote them."),
    ] = False,
    db: Db = None,
) -> None:
    """Write a closed study's votes in one of five forms; raters appear under pseudonyms."""
    from hebench.human import export as forms
    from hebench.human.collected import collected

    makers = {
        "votes": forms.votes_jsonl,
        "preferences": forms.preference_jsonl,
        "evidence": forms.evidence_json,
        "review": forms.review_jsonl,
    }
    if what not in (*makers, "raw"):
        raise ConfigError(f"--what: expected raw, {', '.join(makers)}, found {what!r}")
    if notes and what != "raw":
        raise ConfigError(f"--notes: expected --what raw, found --what {what}")
    with _opened(study, db) as (database, name):
        forms.settle(database, name)
        if what == "raw":
            text = forms.raw_jsonl(database, name, notes=notes)
        else:
            text = makers[what](collected(database, name))
    _write_new(out, text)


@app.command("report")
def report(study: Study, out: Out, db: Db = None) -> None:
    """Write the study card: who judged what and how, agreement, ranking (Markdown)."""
    from hebench.human.card import study_card
    from hebench.human.collected import collected
    from hebench.human.export import settle
    from hebench.human.results import study_results

    with _opened(study, db) as (database, name):
        settle(database, name)
        found = collected(database, name)
        _write_new(out, study_card(found, study_results(found)))


@app.command("backup")
def backup(study: Study, out: Out, db: Db = None) -> None:
    """Copy the database while the server runs."""
    from hebench.human.export import backup as copy
    from hebench.human.publish import study_state

    with _opened(study, db) as (database, name):
        study_state(database, name)  # a copy without the study would be taken for a backup of it
        print(copy(database, out))


def _located(study: str, db: str | None) -> tuple[str, str]:
    """Return the database's URL and the study's name."""
    db = db or os.environ.get("HEBENCH_HUMAN_DB")
    path = Path(study)
    if path.suffix in (".yaml", ".yml") or path.is_dir():
        from hebench.human.study import load_study

        path = path / "study.yaml" if path.is_dir() else path
        name = load_study(path).name
        return db or str(path.parent / f"{name}.sqlite"), name
    if db is None:
        raise ConfigError(f"{study!r} is no YAML file: give one, or say where the votes are: --db")
    return db, study


@contextlib.contextmanager
def _opened(study: str, db: str | None, *, new: bool = False) -> Iterator[tuple["Database", str]]:
    from hebench.human.database import open_database

    url, name = _located(study, db)
    database = open_database(url, new=new)
    try:
        yield database, name
    finally:
        database.close()


def _publish_if_new(study: str, url: str, name: str) -> None:
    from hebench.human.database import open_database
    from hebench.human.material import read_material
    from hebench.human.publish import changes, stored_study, studies
    from hebench.human.publish import publish as make
    from hebench.human.study import load_study

    database = open_database(url)
    try:
        path = Path(study)
        path = path / "study.yaml" if path.is_dir() else path
        if not path.is_file():
            return
        loaded = load_study(path)
        if name not in {state.name for state in studies(database)}:
            make(database, loaded, read_material(loaded))
        elif changed := changes(loaded, stored_study(database, name)):
            print(
                f"hebench: {path}: study {name} goes on as it was published, without later "
                f"changes of {', '.join(changed)}; a changed study needs a new `name`",
                file=sys.stderr,
            )
    finally:
        database.close()


def _write_new(out: Path, text: str) -> None:
    from hebench.files import write_atomically

    if out.exists():
        raise ConfigError(f"{out} is there already; choose another name with --out")
    write_atomically(out, text)
    print(out)


def _print_ranking(ranking: "Ranking", label: Callable[[str], str | int]) -> None:
    for row in ranking.rows:
        shown = label(row.model)
        rate = f"win rate {row.win_rate:.1%} [{row.low:.1%}, {row.high:.1%}]"
        print(
            f"  rank {row.ranks}  {'not judged' if row.rank_low is None else rate}  "
            f"{row.votes} votes  "
            f"{shown if isinstance(shown, str) else f'model {shown}'}"
        )
    for note in ranking.notes.values():
        print(f"  {note}")
