"""The corpus stage: from raw text in two languages to clean, deduplicated, mixed training text.

`inputs` says which files it is made of; `edits` and `refusals` are the rules, as functions on
strings; `selection` chooses what is held out and what is mixed in; `blocks` runs them all on
datatrove, here, on Slurm or on Ray; `report` says what each rule took, with examples; `stage` is
the order of things.

    hebench train corpus --recipe recipe.yaml out=runs/he/corpus

Out come `train/<language>/<source>.jsonl.gz`, `heldout/<language>/<source>.jsonl`, `report.json`
and `report.md`. The steps are those of section 3 of the DictaLM 2.0 report (arXiv 2407.07080).
"""

from pathlib import Path

from hebench.config import plain
from hebench.errors import ConfigError
from hebench.train.corpus.config import CorpusConfig, Input, Rules
from hebench.train.stage import StageRecord, read_stage

__all__ = ["CorpusConfig", "Input", "Rules", "run"]


def run(config: CorpusConfig, *, out: Path) -> StageRecord:
    """Make `out` a corpus folder and return the stage's record; at once if it is one already.

    Without datatrove (the Gaudi environment cannot have it) a folder that was made elsewhere with
    this configuration is taken as it is. Raises DataError for input that cannot be read or of
    which nothing is left, ConfigError for a folder that holds another corpus or settings that
    cannot be carried out.
    """
    try:
        from hebench.train.corpus import stage
    except ModuleNotFoundError as error:
        record = read_stage(out)
        if record and record.finished and record.config == plain(config):
            return record
        raise ConfigError(
            f"the corpus stage needs {error.name}: pip install 'hebench[train]', or make "
            f"the corpus in another environment with `hebench train corpus` and copy it to {out}"
        ) from error
    return stage.run(config, out=out)
