"""Options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

Include = Annotated[
    list[Path] | None, typer.Option("--include-path", help="A further folder of task files.")
]
Leaderboard = Annotated[
    Path, typer.Option("--board", help="The leaderboard's folder: models.yaml, results/.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
