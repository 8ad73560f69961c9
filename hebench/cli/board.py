"""`hebench board`: from run folders to records, and from records to the site."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from hebench.cli.options import Leaderboard
from hebench.errors import ConfigError, HebenchError, one_line

app = typer.Typer(no_args_is_help=True, help="The leaderboard: add runs, build, verify.")


@app.command("add")
def board_add(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Run folders, ours or lm_eval's; or .jsonl of hebench human export."),
    ],
    board: Leaderboard = Path("leaderboard"),
    model: Annotated[
        str | None, typer.Option(help="The model's slug in models.yaml; default: from its name.")
    ] = None,
) -> None:
    """Keep runs as records of the leaderboard, and people's votes; refuse what does not belong."""
    from hebench.board.store import add_run, add_votes

    for source in sources:
        if source.suffix == ".jsonl":
            if model:
                raise ConfigError(f"{source}: votes name their models themselves; omit --model")
            path, new = add_votes(board, source)
        else:
            path, is_new = add_run(board, source, model=model)
            new = (path.parent.name,) if is_new else ()
        print(path)
        if new:
            print(
                f"hebench: {board / 'models.yaml'} has new entries: {', '.join(new)}; fill in "
                "what is null there (size, licence, dates, links), and see that name, kind and "
                "track are right",
                file=sys.stderr,
            )


@app.command("withdraw")
def board_withdraw(
    record: Annotated[str, typer.Argument(help="MODEL/DATE-HASH, as the site names it.")],
    reason: Annotated[str, typer.Option(help="The site shows it.")],
    board: Leaderboard = Path("leaderboard"),
) -> None:
    """Let a record count no more; it stays, with a tombstone that says why."""
    from hebench.board.store import withdraw

    print(withdraw(board, record, reason))


@app.command("build")
def board_build(
    board: Leaderboard = Path("leaderboard"),
    out: Annotated[Path | None, typer.Option(help="Default: BOARD/site.")] = None,
) -> None:
    """Build the site from the records."""
    from hebench.board.build import build_site

    print(f"site: {(build_site(board, out or board / 'site') / 'index.html').resolve()}")


@app.command("verify")
def board_verify(
    board: Leaderboard = Path("leaderboard"),
    site: Annotated[Path | None, typer.Option(help="Default: BOARD/site.")] = None,
) -> None:
    """Compute every number of the built site anew and fail at the first that differs."""
    from hebench.board.verify import verify

    files, scores = verify(board, site or board / "site")
    print(f"{files:,} files and {scores:,} scores are what the records say")


@app.command("check")
def board_check(
    board: Leaderboard = Path("leaderboard"),
    against: Annotated[
        Path | None, typer.Option(help="The folder before: no record may be lost or changed.")
    ] = None,
    preview: Annotated[Path | None, typer.Option(help="Build the site here, too.")] = None,
) -> None:
    """Check a submission: records, items, prompts, and that scores follow from answers."""
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


@app.command("serve")
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
