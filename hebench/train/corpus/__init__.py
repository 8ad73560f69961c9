"""The corpus stage: from raw text in two languages to clean, deduplicated, mixed training text.

`edits` and `refusals` are the rules, as functions on strings; `selection` chooses what is held
out and what is mixed in; `blocks` runs them all on datatrove, here, on Slurm or on Ray; `report`
says what each rule took, with examples; `stage` is the order of things.

    hebench train corpus --recipe recipe.yaml out=runs/he/corpus

Out come `train/<language>/<source>.jsonl.gz`, `heldout/<language>/<source>.jsonl`, `report.json`
and `report.md`. The steps are those of section 3 of the DictaLM 2.0 report (arXiv 2407.07080).
"""

from hebench.train.corpus.config import CorpusConfig, Input, Rules
from hebench.train.corpus.stage import run

__all__ = ["CorpusConfig", "Input", "Rules", "run"]
