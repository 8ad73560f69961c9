"""`hebench train STAGE` and `hebench adapt`: the training stages, one by one or in order."""

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hebench.cli.options import AsJson
from hebench.errors import ConfigError
from hebench.files import expanded, finite
from hebench.processes import rank

if TYPE_CHECKING:
    from hebench.train.stage import StageRecord

app = typer.Typer(
    no_args_is_help=True, help="The training stages, one at a time; `adapt` runs them all."
)

RecipeOption = Annotated[
    str, typer.Option("--recipe", help="A recipe's name, or a YAML file with the stage's key.")
]
Pairs = Annotated[
    list[str] | None,
    typer.Argument(help="key=value over the recipe (sft.training.steps=10), and the paths below."),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Do nothing; print what would be done as YAML: settings, steps, memory, arguments.",
    ),
]


def adapt(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or a YAML file.")],
    pairs: Annotated[
        list[str] | None,
        typer.Argument(help="key=value over the recipe; out=DIR names the run folder."),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Take a base model through all stages of a recipe, measuring before, between and after."""
    from hebench.adapt.recipe import load_recipe

    given, overrides = _split(pairs, ("out",))
    out = expanded(given.get("out") or f"runs/{Path(recipe).stem}")
    asked = load_recipe(recipe, overrides)
    if dry_run:
        from hebench.adapt.plan import plan_adapt

        _print_plan(lambda: plan_adapt(asked, out))
        return
    from hebench.adapt.report import table
    from hebench.adapt.run import adapt as run

    report = run(asked, out, _announce)
    if rank() != 0:  # of several processes, the first one speaks
        return
    print(table(report))
    print(f"run folder: {out.resolve()}")


def _stage(name: str, paths: tuple[str, ...], about: str) -> None:
    """Register `hebench train NAME`, which reads the recipe's part of that name."""

    def command(
        recipe: RecipeOption,
        pairs: Pairs = None,
        as_json: AsJson = False,
        dry_run: DryRun = False,
    ) -> None:
        given, overrides = _split(pairs, (*paths, "out"))
        missing = [path for path in (*paths, "out") if not given.get(path)]
        if missing:
            wanted = " ".join(f"{path}=PATH" for path in missing)
            raise ConfigError(f"hebench train {name} needs {wanted}")
        folders = {key: expanded(value) for key, value in given.items()}
        if dry_run:
            from hebench.adapt.recipe import stage_config
            from hebench.train.plan import plan_stage

            config = stage_config(recipe, name, overrides)
            out = folders.pop("out")
            _print_plan(lambda: plan_stage(name, config, inputs=folders, out=out), as_json=as_json)
            return
        record = _run_stage(name, recipe, overrides, folders)
        if rank() != 0:
            return
        if as_json:
            content = finite(dataclasses.asdict(record))
            print(json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False))
            return
        for key, value in record.metrics.items():
            if not isinstance(value, Mapping | list):
                print(f"{key:32}{value}")
        if name == "tokenizer":
            _print_curve(folders["out"])
        print(f"stage folder: {folders['out'].resolve()}")

    needs = " ".join(f"{path}=PATH" for path in (*paths, "out"))
    command.__doc__ = f"{about} Needs {needs}."
    app.command(name)(command)


_stage("corpus", (), "Clean, deduplicate and mix training text, with a report.")
_stage("tokenizer", ("model", "corpus"), "Extend a BPE tokenizer by pieces of the language.")
_stage(
    "distil",
    ("model", "tokenizer", "corpus"),
    "Teach the new pieces' input embeddings from the model itself.",
)
_stage("calibrate", ("model", "corpus"), "Train embeddings and LM head, the body frozen.")
_stage("pretrain", ("model", "corpus"), "Go on pre-training on packed documents.")
_stage("sft", ("model", "data"), "Fine-tune on conversations.")
_stage("dpo", ("model", "data"), "Optimise preferences directly.")


@app.command("pairs")
def pairs(
    native: Annotated[Path, typer.Argument(help="Conversations in the language, JSON Lines.")],
    other: Annotated[Path, typer.Argument(help="The same in another language, line by line.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    languages: Annotated[str, typer.Option(help="Their codes, in this order.")] = "he,en",
) -> None:
    """Make language-consistency pairs for dpo: the same answer in the right and wrong language."""
    from hebench.train.preferences import write_language_pairs

    codes = tuple(languages.split(","))
    if len(codes) != 2:
        raise ConfigError(f"--languages: expected two codes such as he,en, found {languages!r}")
    print(f"{write_language_pairs(native, other, out, codes=(codes[0], codes[1]))} rows in {out}")


def _run_stage(
    name: str, recipe: str, overrides: list[str], paths: dict[str, Path]
) -> "StageRecord":
    import importlib

    from hebench.adapt.recipe import stage_config

    module = importlib.import_module(f"hebench.train.{name}")
    run: Callable[..., StageRecord] = module.run
    return run(stage_config(recipe, name, overrides), **paths)


def _print_curve(folder: Path) -> None:
    """Print what an extension of each size buys, and where the picture of it is."""
    points = json.loads((folder / "curve.json").read_text(encoding="utf-8"))
    every = max(len(points) // 10, 1)
    print("\ntokens added  tokens per word of held-out text, every source counting alike")
    for point in [*points[:-1:every], points[-1]]:
        print(f"{point['tokens']:12,}  {point['tokens_per_word']:.3f}")
    print(f"all points and each source: {folder / 'curve.json'}; picture: {folder / 'curve.png'}")


def _print_plan(make: Callable[[], Mapping[str, Any]], *, as_json: bool = False) -> None:
    """Print a plan, once where a launcher started many processes."""
    import yaml

    # DeepSpeed looks for a device when it is imported, and says so on stdout; no plan needs one.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    plan = make()
    if rank() != 0:
        return
    if as_json:
        print(json.dumps(plan, ensure_ascii=False, indent=2))
    else:
        print(yaml.safe_dump(plan, sort_keys=False, allow_unicode=True, width=100), end="")


def _split(pairs: list[str] | None, names: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
    """Return the pairs whose key is one of `names`, and the others."""
    given: dict[str, str] = {}
    others = []
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"expected key=value, found {pair!r}")
        if key in names:
            given[key] = value
        else:
            others.append(pair)
    return given, others


def _announce(step: str) -> None:
    print(step, file=sys.stderr, flush=True)
