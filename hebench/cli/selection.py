"""`hebench select`, `watch` and `sweep`: evaluate a run's checkpoints and choose one."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hebench.cli.options import AsJson, Include
from hebench.errors import ConfigError
from hebench.files import finite

if TYPE_CHECKING:
    from hebench.selection.choose import Choice
    from hebench.selection.evaluate import EvaluateConfig

RunFolder = Annotated[Path, typer.Argument(help="The folder with checkpoint-<step> folders.")]
Tasks = Annotated[
    list[str] | None, typer.Option("--tasks", help="A task or group; may be repeated.")
]
Limit = Annotated[int | None, typer.Option(help="Items a task, from the first; all by default.")]
Dtype = Annotated[str, typer.Option(help="Of the evaluated weights.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:0 ...")]
BatchSize = Annotated[int, typer.Option(help="Requests a forward pass, where nothing is shared.")]
DEFAULT_TASKS = ["hebench_select"]
_BELONGS_TO = {  # parameter of select -> what has to be asked for, too
    "max_fall": "--rule constraint",
    "window": "--rule paper",
    "lowest": "--rule paper",
    "report_limit": "--report",
    "dtype": "--report",
    "batch_size": "--report",
    "device": "--report or --average",  # an average is evaluated as its members were, but for this
    "name": "--board",
    "seeds": "--fitness",
}


def watch(
    run: RunFolder,
    tasks: Tasks = None,
    limit: Limit = None,
    dtype: Dtype = "bfloat16",
    device: Device = "cpu",
    batch_size: BatchSize = 8,
    once: Annotated[bool, typer.Option(help="Evaluate what is there, and end.")] = False,
    idle: Annotated[
        float | None, typer.Option(help="End after so many seconds without a new checkpoint.")
    ] = None,
    keep: Annotated[
        int | None, typer.Option(help="Remove checkpoints but the best so many and the last.")
    ] = None,
    again: Annotated[bool, typer.Option(help="Evaluate anew where a task failed.")] = False,
    poll: Annotated[float, typer.Option(help="Seconds between two looks at the folder.")] = 10.0,
    include_path: Include = None,
) -> None:
    """Evaluate checkpoints as they appear; start as many watchers as you like."""
    from hebench.selection.watch import WatchConfig
    from hebench.selection.watch import watch as run_watch

    done = run_watch(
        run,
        WatchConfig(
            evaluate=_asked(
                tasks, include_path, limit=limit, dtype=dtype, device=device, batch_size=batch_size
            ),
            once=once,
            idle_seconds=idle,
            poll_seconds=poll,
            keep=keep,
            again=again,
        ),
        _say,
    )
    print(f"{done} checkpoints evaluated")


def sweep(
    run: RunFolder,
    tasks: Tasks = None,
    limit: Limit = None,
    dtype: Dtype = "bfloat16",
    device: Device = "cpu",
    batch_size: BatchSize = 8,
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster; by default a local one is started.")
    ] = None,
    cpus: Annotated[float, typer.Option(help="CPUs of a unit of work.")] = 1.0,
    gpus: Annotated[float, typer.Option(help="GPUs of a unit of work; 0.5 shares one.")] = 0.0,
    again: Annotated[bool, typer.Option(help="Evaluate what was evaluated, too.")] = False,
    include_path: Include = None,
) -> None:
    """Evaluate all checkpoints of a run on a Ray cluster, task by task."""
    from hebench.selection.sweep import SweepConfig
    from hebench.selection.sweep import sweep as run_sweep

    done = run_sweep(
        run,
        SweepConfig(
            evaluate=_asked(
                tasks, include_path, limit=limit, dtype=dtype, device=device, batch_size=batch_size
            ),
            address=address,
            cpus=cpus,
            gpus=gpus,
            again=again,
        ),
        _say,
    )
    print(f"{done} checkpoints evaluated")


def select(
    context: typer.Context,
    runs: Annotated[
        list[Path], typer.Argument(help="The run folder; with --fitness, one or several.")
    ],
    rule: Annotated[
        str, typer.Option(help="confident, best, paper, constraint or votes.")
    ] = "confident",
    prefer: Annotated[
        str, typer.Option(help="Of the set of equals: score, earliest or lowest_loss.")
    ] = "score",
    within: Annotated[
        float, typer.Option(help="Points: who is behind by surely less is equal, too.")
    ] = 0.0,
    tasks: Tasks = None,
    measure: Annotated[
        str,
        typer.Option(
            help="score, margin (probability of the right choice), answer (that of a byte of it), "
            "or auto: margins where scores are at chance."
        ),
    ] = "auto",
    guard: Annotated[
        list[str] | None, typer.Option(help="constraint: a task that must not fall.")
    ] = None,
    max_fall: Annotated[float, typer.Option(help="constraint: by more than this.")] = 0.01,
    window: Annotated[int, typer.Option(help="paper: steps back from the last.")] = 10_000,
    lowest: Annotated[int, typer.Option(help="paper: checkpoints of lowest loss.")] = 10,
    evidence: Annotated[
        Path | None, typer.Option(help="votes: what `hebench human export` wrote.")
    ] = None,
    level: Annotated[float, typer.Option(help="Of the set of equals and of intervals.")] = 0.95,
    average: Annotated[bool, typer.Option(help="Average the set of equals, too.")] = False,
    report: Annotated[
        list[str] | None, typer.Option(help="A task that chose nothing, to re-estimate on.")
    ] = None,
    report_limit: Limit = None,
    dtype: Dtype = "bfloat16",
    device: Device = "cpu",
    batch_size: BatchSize = 8,
    export: Annotated[
        Path | None, typer.Option(help="Copy the chosen model to this new folder.")
    ] = None,
    link: Annotated[
        Path | None, typer.Option(help="Make this a link to the chosen checkpoint.")
    ] = None,
    board: Annotated[
        Path | None, typer.Option(help="Put the checkpoints on this leaderboard.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the run on the leaderboard; else its folder's.")
    ] = None,
    fitness: Annotated[
        bool, typer.Option("--fitness", help="Measure the tasks instead of choosing.")
    ] = False,
    seeds: Annotated[
        bool, typer.Option("--seeds", help="fitness: the runs are seeds of one model.")
    ] = False,
    include_path: Include = None,
    as_json: AsJson = False,
) -> None:
    """Choose a checkpoint, say why, and what could not be told apart."""
    if fitness:
        _refuse_but(context, "runs", "fitness", "seeds", "as_json")
        _fitness(runs, seeds=seeds, as_json=as_json)
        return
    if len(runs) != 1:
        raise ConfigError(f"expected one run folder, found {len(runs)}; several go with --fitness")
    _refuse_idle(
        context,
        {
            "--rule constraint": rule == "constraint",
            "--rule paper": rule == "paper",
            "--report": bool(report),
            "--report or --average": bool(report) or average,
            "--board": board is not None,
            "--fitness": False,
        },
    )
    from hebench.config import build
    from hebench.selection.choose import ChooseConfig, choose
    from hebench.selection.rules import SelectConfig

    # Through `build`, so that a rule that does not exist is refused as in a configuration file.
    wanted: dict[str, Any] = {"rule": rule, "prefer": prefer, "measure": measure, "level": level}
    wanted |= {"max_fall": max_fall, "window_steps": window, "lowest": lowest}
    wanted |= {"indifference_points": within}
    given = {"tasks": tasks, "guard": guard, "evidence": str(evidence) if evidence else None}
    wanted |= {key: value for key, value in given.items() if value}
    choice = choose(
        runs[0],
        ChooseConfig(
            select=build(SelectConfig, wanted, "hebench select"),
            average=average,
            report=tuple(report or ()),
            report_limit=report_limit,
            device=device,
            dtype=dtype,
            batch_size=batch_size,
            include=tuple(include_path or ()),
        ),
        _say,
    )
    _publish(choice, runs[0], export=export, link=link, board=board, name=name)
    if as_json:
        print((runs[0] / "selection.json").read_text(encoding="utf-8"), end="")
    else:
        _show(choice)


def _asked(
    tasks: list[str] | None, include_path: list[Path] | None, **settings: Any
) -> "EvaluateConfig":
    from hebench.selection.evaluate import EvaluateConfig

    return EvaluateConfig(
        tasks=tuple(tasks or DEFAULT_TASKS), include=tuple(include_path or ()), **settings
    )


def _typed(context: typer.Context) -> dict[str, str]:
    """Return what stands on the command line, by parameter: the option's own name."""
    return {
        str(parameter.name): parameter.opts[0]
        for parameter in context.command.params
        if (source := context.get_parameter_source(str(parameter.name)))
        and source.name == "COMMANDLINE"
    }


def _refuse_idle(context: typer.Context, asked: dict[str, bool]) -> None:
    """Raise ConfigError for an option that would do nothing without another one."""
    typed = _typed(context)
    for parameter, needed in _BELONGS_TO.items():
        if parameter in typed and not asked[needed]:
            raise ConfigError(
                f"{typed[parameter]} does nothing without {needed}; add that, or leave it out"
            )


def _refuse_but(context: typer.Context, *allowed: str) -> None:
    """Raise ConfigError for options that --fitness would pass over in silence."""
    given = [option for parameter, option in _typed(context).items() if parameter not in allowed]
    if given:
        raise ConfigError(
            f"--fitness measures every task of the logs and chooses nothing; leave out "
            f"{', '.join(given)}"
        )


def _publish(
    choice: "Choice",
    folder: Path,
    *,
    export: Path | None,
    link: Path | None,
    board: Path | None,
    name: str | None,
) -> None:
    """Put the chosen checkpoint, and all of them on a leaderboard, where they were asked for."""
    from hebench.selection.choose import export as write_copy
    from hebench.selection.choose import link as write_link

    if export:
        _say(f"exported to {write_copy(choice, export)}")
    if link:
        _say(f"linked at {write_link(choice, link)}")
    if board:
        from hebench.board.models_file import slugify
        from hebench.selection.leaderboard import put_on_board

        run = name or slugify(folder.resolve().name)
        slugs = put_on_board(folder, board, run=run, chosen=choice.decision.chosen)
        _say(f"{len(slugs)} checkpoints on {board}, as {slugs[0]} ...")


def _show(choice: "Choice") -> None:
    decision = choice.decision
    print(f"chosen: {decision.chosen} (step {decision.step}), rule {decision.rule}")
    for reason in decision.reasons:
        print(f"  {reason}")
    for checkpoint, why in decision.left_out.items():
        print(f"  left out: {checkpoint}, {why}")
    print(
        f"score {100 * decision.score:.1f} on the items that chose it; its true score lies in "
        f"[{100 * decision.low:.1f}, {100 * decision.high:.1f}] at {100 * decision.level:.0f}%, "
        f"the luck of the choice ({100 * decision.flattery:+.1f}) taken off"
    )
    print(
        f"cannot be told from the best ({len(decision.equals)}): {', '.join(decision.equals)}\n"
        f"a difference of {100 * decision.detectable:.1f} points between two would be found four "
        "times in five; smaller ones mostly not"
    )
    found = choice.reestimate
    if found is None:
        return
    print("on items that chose nothing:")
    for task, interval in found.chosen.items():
        print(f"  {task:40}{interval.text():>24}  n={interval.n}")
    if found.against_last is None:
        print(f"  it is the last candidate, {found.last}: there is nothing to compare it with")
        return
    over = found.against_last.overall
    print(
        f"  less the last ({found.last}), mean over tasks: {100 * over.difference:+.1f} "
        f"[{100 * over.low:+.1f}, {100 * over.high:+.1f}], p {over.p:.4f}, "
        f"detectable {100 * over.detectable:.1f}"
    )


def _fitness(runs: list[Path], *, seeds: bool, as_json: bool) -> None:
    from hebench.config import plain
    from hebench.selection.task_fitness import fitness_of_runs

    found = fitness_of_runs(runs, seeds=seeds)
    if as_json:
        rows = finite([plain(each) for each in found])
        print(json.dumps(rows, ensure_ascii=False, indent=2, allow_nan=False))
        return
    heads = ("task", "by", "n", "first", "last", "rise", "noise", "signal/noise", "above chance")
    print(f"| {' | '.join((*heads, 'decisions', 'light'))} |\n{'|---' * (len(heads) + 2)}|")
    for each in found:
        own = each.fitness
        cells = [
            *(each.task, each.measure, str(each.items)),
            *(f"{100 * value:.1f}" for value in (each.first, each.last)),
            _number(own.monotonicity, ".2f"),
            _number(own.seed_noise if own.seed_noise is not None else own.detrended_noise, ".4f"),
            _number(own.level_to_noise, ".1f"),
            _number(own.above_chance, ".1f"),
            _number(own.decision_accuracy, ".2f"),
            f"{own.light} {' '.join(own.reasons)}".strip(),
        ]
        print(f"| {' | '.join(cells)} |")
    print(
        "rise: rank correlation with the step. noise: standard deviation between seeds, or around "
        "the trend of one run. above chance: in such deviations. decisions: pairs of runs ordered "
        "early as at the end."
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
