"""The page of what changed: day by day, and who moved and why.

>>> [page.path for page in pages(site)]
['changes.html']
"""

from collections.abc import Iterator

from hebench.board.history import DAYS, history
from hebench.board.page import Page, Site

NAMES = 12  # models of one line that are named; more are counted
ROWS = 12  # moves that are shown at once; more are folded


def pages(site: Site) -> Iterator[Page]:
    """Yield the page of changes."""
    yield Page(
        path="changes.html",
        template="changes.html",
        title="changes.title",
        section="changes",
        styles=("pages.css",),
        context={"days": history(site.board), "most_days": DAYS, "named": NAMES, "rows": ROWS},
    )
