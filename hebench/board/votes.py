"""People's votes on the board: `leaderboard/votes/<study>.jsonl`, one vote a line."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hebench.records import ModelEntry


@dataclass(frozen=True, kw_only=True)
class Study:
    """The votes of one study."""

    name: str


def read_votes(folder: Path, models: Mapping[str, ModelEntry]) -> tuple[Study, ...]:
    """Return the studies of a leaderboard folder, by name."""
    return ()
