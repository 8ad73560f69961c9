"""`hebench tasks`: list the tasks, check them, show their prompts."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from hebench.cli.options import AsJson, Include
from hebench.errors import ConfigError, HebenchError

app = typer.Typer(no_args_is_help=True, help="The tasks: list, check, show their prompts.")


@app.command("path")
def tasks_path() -> None:
    """Print the folder of task files, for `lm_eval run --include_path`."""
    from hebench.harness.tasks import tasks_folder

    print(tasks_folder())


@app.command("ls")
def tasks_ls(include_path: Include = None, as_json: AsJson = False) -> None:
    """List tasks and groups."""
    from hebench.harness.tasks import task_names

    names = task_names(include_path or ())
    if as_json:
        print(json.dumps(names, indent=2))
        return
    for name, kind in names.items():
        print(f"{kind:6}{name}")


@app.command("check")
def tasks_check(
    folder: Annotated[Path | None, typer.Argument(help="Default: the packaged tasks.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Also check how this model's tokenizer cuts choices.")
    ] = None,
    store: Annotated[bool, typer.Option(help="Store the prompts' hashes as they are.")] = False,
) -> None:
    """Find task files that the harness would drop silently, and other faults."""
    from hebench.harness import check
    from hebench.harness.tasks import tasks_folder

    chosen = folder or tasks_folder()
    problems = check.check_tasks(chosen)
    rendered: list[check.Rendering] = []
    if not problems:
        rendered = check.render_tasks(chosen, check.named_tasks(chosen))
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


@app.command("show")
def tasks_show(
    task: str,
    n: Annotated[int, typer.Option(help="How many items.")] = 1,
    include_path: Include = None,
) -> None:
    """Print the exact prompts that a model is given; of chat tasks, before its template."""
    from hebench.harness.tasks import prompts

    if n < 1:
        raise ConfigError(f"--n: expected at least 1 item, found {n}")
    for number, prompt in enumerate(prompts(task, n, include_path or ()), start=1):
        print(f"--- {task}, item {number} ---\n{prompt}")
