"""Placeholder."""

from collections.abc import Iterator

from hebench.board.page import Site


def files(site: Site) -> Iterator[tuple[str, bytes]]:
    """Yield nothing yet."""
    yield from ()
