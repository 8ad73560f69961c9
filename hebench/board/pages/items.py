"""Placeholder."""

from collections.abc import Iterator

from hebench.board.page import Page, Site


def pages(site: Site) -> Iterator[Page]:
    """Yield nothing yet."""
    yield from ()
