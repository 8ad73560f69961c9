"""What the corpus stage is asked: inputs, thresholds by source, and where it runs.

corpus:
  language: he
  mix: {he: 0.5, en: 0.5}
  inputs:
    hebrew:
      language: he
      path: corpus-he/
      rules_by_source: {literature: {min_frequent_share: 0.3}}
    english: {language: en, path: corpus-en/, heldout_words: 20000}
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hebench.errors import ConfigError
from hebench.train.languages import language


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Thresholds for the documents of one source.

    The two shares and `foreign_words` are about the script of the target language; they are
    passed over in documents of another language.
    """

    min_script_share: float = 0.5  # of a document's letters, in [0, 1]
    min_frequent_share: float = 0.5  # of its words, in the list of frequent words; in [0, 1]
    foreign_words: int = 8  # in a row, that make a span in another language; names and titles stay
    max_repeats: int = 2  # times that a paragraph may stand in a row; beyond that, the first stays

    def __post_init__(self) -> None:
        """Refuse what cannot be a threshold."""
        for name in ("min_script_share", "min_frequent_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"{name}: expected a share in [0, 1], found {getattr(self, name)}"
                )
        for name in ("foreign_words", "max_repeats"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected a number from 1, found {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Input:
    """Documents of one language, from files or from a Hugging Face dataset."""

    language: str  # ISO 639-1
    path: Path | None = None  # a file or folder: .jsonl(.gz), .parquet, .txt(.gz)
    dataset: str | None = None  # name of a Hugging Face dataset, or a folder that holds one
    revision: str | None = None  # commit of the dataset
    subset: str | None = None  # configuration of the dataset
    split: str = "train"  # of the dataset
    text_field: str = "text"  # name of the field or column that holds the text
    source: str | None = None  # one name for all files; None: each file is a source of its own
    heldout_words: int = 4000  # of each source, kept out of training
    max_words: int | None = None  # of each source, in training; None: all
    rules: Rules = field(default_factory=Rules)
    rules_by_source: dict[str, Rules] = field(default_factory=dict)  # in place of `rules`

    def __post_init__(self) -> None:
        """Refuse what is neither files nor a dataset, or both, and a dataset without a commit."""
        if (self.path is None) == (self.dataset is None):
            raise ConfigError("expected one of path and dataset; give files or a dataset's name")
        if self.dataset is not None and self.revision is None:
            raise ConfigError(
                f"dataset {self.dataset}: expected a revision, so that a later run reads the same; "
                "add the commit"
            )
        of_a_dataset = (self.revision, self.subset, self.split)
        if self.path is not None and of_a_dataset != (None, None, Input.split):
            raise ConfigError(
                f"path {self.path}: expected no revision, subset or split, which only a dataset "
                "has; leave them out, or give `dataset` in place of `path`"
            )
        if self.source is not None:
            _require_name("source", self.source)
        if self.heldout_words < 0 or (self.max_words is not None and self.max_words < 1):
            raise ConfigError("heldout_words: expected 0 or more, max_words: 1 or more; mend them")

    def rules_of(self, source: str) -> Rules:
        """Return the thresholds for one source."""
        return self.rules_by_source.get(source, self.rules)


def _require_name(where: str, name: str) -> None:
    """Refuse a name that cannot be part of a file's name (a dot ends the source's name there)."""
    if not re.fullmatch(r"[\w-]+", name):
        raise ConfigError(f"{where}: expected letters, digits, - and _ in {name!r}; rename it")


_OTHERS_READ = ("reference", "benchmark")  # by these names recorded beside the inputs, in stage.py


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """The corpus stage."""

    language: str  # the target, ISO 639-1; its rules are in hebench/train/languages.py
    inputs: dict[str, Input]
    mix: dict[str, float] = field(default_factory=dict)  # language -> share of words; {}: all
    reference: Path | None = None  # word list (.tsv) or corpus; None: the target's own inputs
    frequent_words: int = 100_000  # of the reference that count as frequent
    bands: int = 20  # of MinHash: documents that agree in all rows of one band are duplicates
    rows: int = 10  # of a band; with 20 bands, nine in ten pairs of Jaccard 0.8 are found
    benchmark_sets: tuple[str, ...] = ()  # names of evaluation sets; (): all that are at hand
    benchmark_share: float = 0.0  # of an item's 12-word runs, above which a document goes
    seed: int = 0
    executor: Literal["local", "slurm", "ray"] = "local"
    # Into which the files are dealt. A task is what is done again after a crash, and one band of
    # its signatures (44 bytes a document) is sorted in memory: more tasks for a larger corpus.
    tasks: int = 8
    workers: int = 1  # tasks at a time
    slurm_partition: str | None = None
    slurm_hours: int = 8  # limit of a task

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        language(self.language)
        for name in self.inputs:
            _require_name("inputs", name)
            if name in _OTHERS_READ:
                raise ConfigError(f"inputs: {name} names something else that is read; rename it")
        codes = set(self.languages)
        if self.language not in codes:
            raise ConfigError(
                f"inputs: expected one in the target language {self.language!r}, found "
                f"{sorted(codes) or 'none'}; add one"
            )
        if self.mix and (set(self.mix) != codes or not abs(sum(self.mix.values()) - 1) <= 1e-6):
            raise ConfigError(
                f"mix: expected shares of {sorted(codes)} that add up to 1, found {self.mix}"
            )
        if any(not share > 0 for share in self.mix.values()):
            raise ConfigError(f"mix: expected shares above 0, found {self.mix}; leave inputs out")
        for name in ("frequent_words", "bands", "rows", "tasks", "workers", "slurm_hours"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected a number from 1, found {getattr(self, name)}")
        if not 0 <= self.seed < 2**32 - 1:
            raise ConfigError(f"seed: expected 0 to {2**32 - 2}, found {self.seed}")
        if not 0 <= self.benchmark_share <= 1:
            raise ConfigError(f"benchmark_share: expected [0, 1], found {self.benchmark_share}")
        if (self.executor == "slurm") != (self.slurm_partition is not None):
            raise ConfigError("slurm_partition: expected with executor slurm, and only there")

    @property
    def languages(self) -> list[str]:
        """Return the codes of the languages of all inputs, sorted."""
        return sorted({each.language for each in self.inputs.values()})
