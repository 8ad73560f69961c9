"""What a page of the site is, for the modules of `pages/` that make them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hebench.board.show import shown
from hebench.board.standings import Board
from hebench.board.votes import Study


@dataclass(frozen=True, kw_only=True)
class Site:
    """Everything that the pages are made of."""

    board: Board
    votes: tuple[Study, ...]
    version: str  # hash of the records; it names this state of the board
    date: str  # of the newest record, tombstone or study, ISO


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page, the same in every language but for its strings."""

    path: str  # below the folder of the language, such as models/dictalm2.0.html
    template: str
    title: str  # a key of the catalogue
    title_values: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)
    section: str = ""  # of the navigation
    styles: tuple[str, ...] = ()  # files of assets/ beside board.css
    scripts: tuple[str, ...] = ()  # files of assets/ and data/, in order


def model_name(board: Board, slug: str) -> str:
    """Return a model's name as pages show it: bounded, on one line, nothing that reorders text."""
    return shown(board.models[slug].name) or slug
