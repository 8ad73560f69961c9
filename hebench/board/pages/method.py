"""The page of the method: every formula of the site in words, and how to check the numbers.

>>> [page.path for page in pages(site)]
['method.html']

Other pages link to its sections: `method.html#ranks`.
"""

import math
from collections.abc import Iterator

from hebench.board.page import Page, Site
from hebench.board.standings import Ranking
from hebench.stats.fitness import CRITERIA

# Section -> its parts: a paragraph by its key, "=" a formula, "@" a block of the template.
SECTIONS = {
    "metrics": ("scale", "@metrics", "unscored", "units"),
    "interval": (
        "what",
        "clusters",
        "=cluster",
        "binary",
        "=wilson",
        "other",
        "constant",
        "overlap",
    ),
    "mean": ("what", "=macro", "other_tasks", "missing"),
    "ranks": ("what", "how", "=better", "set", "alike", "critical", "@rankings"),
    "pbest": ("what",),
    "best": ("what",),
    "paired": ("what", "tests", "=mcnemar", "rest", "overall", "unequal"),
    "mde": ("what", "=mde", "use"),
    "holm": ("what",),
    "flags": ("chance", "floor", "saturated"),
    "corpus": ("what", "which"),
    "fitness": ("band", "lights", "@criteria", "unknown"),
    "winner": ("what", "remedy"),
    "votes": ("what", "=davidson", "answers", "raters", "side", "numbers", "alpha", "benchmark"),
    "tracks": ("what", "rows"),
    "partial": ("what",),
    "versions": ("what",),
    "changes": ("withdrawn", "moves"),
    "submit": ("what", "@steps", "check"),
    "verify": ("what", "bytes"),
    "limits": ("written", "contamination", "generation", "tasks"),
}
# The sources of the formulas: who, when, what, where.
REFERENCES = (
    (
        "Wilson",
        "1927",
        "Probable inference, the law of succession, and statistical inference",
        "JASA 22, 209–212",
    ),
    (
        "Satterthwaite",
        "1946",
        "An approximate distribution of estimates of variance components",
        "Biometrics Bulletin 2, 110–114",
    ),
    (
        "McNemar",
        "1947",
        "Note on the sampling error of the difference between correlated proportions",
        "Psychometrika 12, 153–157",
    ),
    (
        "Holm",
        "1979",
        "A simple sequentially rejective multiple test procedure",
        "Scandinavian Journal of Statistics 6, 65–70",
    ),
    ("Miller", "2024", "Adding error bars to evals", "arXiv 2411.00640"),
    (
        "Bowyer, Aitchison, Ivanova",
        "2025",
        "Don’t use the CLT in LLM evals with fewer than a few hundred datapoints",
        "arXiv 2503.01747",
    ),
    (
        "Mogstad, Romano, Shaikh, Wilhelm",
        "2024",
        "Inference for ranks",
        "Review of Economic Studies 91, 476–518",
    ),
    (
        "Koehn",
        "2004",
        "Statistical significance tests for machine translation evaluation",
        "EMNLP, 388–395",
    ),
    (
        "Hesterberg",
        "2015",
        "What teachers should know about the bootstrap",
        "The American Statistician 69, 371–386",
    ),
    ("Penedo and others", "2025", "FineWeb2 (with FineTasks)", "arXiv 2506.20920"),
    ("Heineman and others", "2025", "Signal and noise", "arXiv 2508.13144"),
    ("Magnusson and others", "2025", "DataDecide", "arXiv 2504.11393"),
    (
        "Davidson",
        "1970",
        "On extending the Bradley-Terry model to accommodate ties",
        "JASA 65, 317–328",
    ),
    (
        "Davidson, Beaver",
        "1977",
        "On extending the Bradley-Terry model to incorporate within-pair order effects",
        "Biometrics 33, 693–702",
    ),
    ("Krippendorff", "2018", "Content analysis, 4th edition, chapter 12", "Sage"),
    (
        "Bonett, Wright",
        "2000",
        "Sample size requirements for estimating Pearson, Kendall and Spearman correlations",
        "Psychometrika 65, 23–28",
    ),
    ("Singh and others", "2025", "The leaderboard illusion", "arXiv 2504.20879"),
    ("Shmidman and others", "2024", "Adapting LLMs to Hebrew: DictaLM 2.0", "arXiv 2407.07080"),
    (
        "Cohen, Merhav-Fine, Goldberg, Tsarfaty",
        "2023",
        "HeQ, a large and diverse Hebrew reading comprehension benchmark",
        "Findings of EMNLP, 13693–13705",
    ),
    ("Popović", "2017", "chrF++: words helping character n-grams", "WMT, 612–618"),
    (
        "Lin",
        "2004",
        "ROUGE: a package for automatic evaluation of summaries",
        "Text Summarization Branches Out, 74–81",
    ),
)
METRICS = ("accuracy", "TLNLS", "ROUGE-L", "chrF++", "words", "2^-bpb")


def pages(site: Site) -> Iterator[Page]:
    """Yield the page of the method."""
    yield Page(
        path="method.html",
        template="method.html",
        title="method.title",
        section="method",
        styles=("method.css",),
        context={
            "sections": SECTIONS,
            "references": REFERENCES,
            "metrics": METRICS,
            "found": _rankings(site),
            "criteria": CRITERIA,
            "infinity": math.inf,
        },
    )


def _rankings(site: Site) -> list[tuple[str, Ranking]]:
    """Return the board's rankings that hold a model, each with the name of its columns."""
    return [
        (preset, ranking)
        for (_, preset), ranking in site.board.rankings.items()
        if ranking.standings
    ]
