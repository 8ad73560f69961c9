"""The page of people's votes; there is none while there are no votes.

>>> [page.path for page in pages(site)]
['votes.html']
"""

from collections.abc import Iterator

from hebench.board import svg
from hebench.board.page import Page, Site
from hebench.board.study import study_result
from hebench.stats.agreement import NO_PAIRS, NO_RATINGS, NO_VARIATION, ONE_RATER

# What the statistics say in a sentence -> the key under which the page says it.
ALPHA_REASONS = {
    NO_RATINGS: "no_ratings",
    ONE_RATER: "one_rater",
    NO_PAIRS: "no_pairs",
    NO_VARIATION: "no_variation",
}
NEEDED_REASONS = {
    "no interval to narrow": "no_interval",
    "the first two are level": "level",
}


def pages(site: Site) -> Iterator[Page]:
    """Yield the page of votes, if there are any."""
    if not site.votes:
        return
    yield Page(
        path="votes.html",
        template="votes.html",
        title="votes.title",
        section="votes",
        styles=("pages.css",),
        context={
            "results": [study_result(study, site.board) for study in site.votes],
            "alpha_reasons": ALPHA_REASONS,
            "needed_reasons": NEEDED_REASONS,
            "svg": svg,
        },
    )
