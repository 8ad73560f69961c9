"""Which files, of which sources, a corpus is made of; without datatrove, for whoever only plans.

>>> [part.source for part in input_parts(config)]
['knesset', 'law', 'wikipedia']
"""

from dataclasses import dataclass
from pathlib import Path

from hebench.data.corpora import corpus_files
from hebench.errors import ConfigError
from hebench.train.corpus.config import CorpusConfig
from hebench.train.texts import source_of


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file of an input, or one dataset, which every task reads a share of."""

    input: str
    source: str
    path: Path | None
    corpus: Path | None  # file or folder that the file belongs to


def unread_files(config: CorpusConfig) -> dict[str, list[str]]:
    """Return what lies in the inputs' folders and is not read, by input; only of those with some.

    Raises DataError as `input_parts` does.
    """
    found = {
        name: list(corpus_files(given.path)[1])
        for name, given in config.inputs.items()
        if given.path is not None
    }
    return {name: files for name, files in found.items() if files}


def input_parts(config: CorpusConfig) -> list[Part]:
    """Return the files of all inputs in order, and the datasets.

    Raises DataError if an input has no files, ConfigError if rules are given for no source.
    """
    parts = []
    for name, given in config.inputs.items():
        if given.path is None:
            found = [Part(input=name, source=given.source or name, path=None, corpus=None)]
        else:
            found = [
                Part(
                    input=name,
                    source=given.source or source_of(path),
                    path=path,
                    corpus=given.path,
                )
                for path in corpus_files(given.path)[0]
            ]
        known = {part.source for part in found}
        if unknown := sorted(set(given.rules_by_source) - known):
            raise ConfigError(
                f"inputs.{name}.rules_by_source: no source {unknown[0]!r}; known are "
                f"{', '.join(sorted(known))}"
            )
        parts += found
    owners: dict[tuple[str, str], str] = {}
    for part in parts:
        key = (config.inputs[part.input].language, part.source)
        if owners.setdefault(key, part.input) != part.input:
            raise ConfigError(
                f"inputs {owners[key]} and {part.input} both have a source {part.source!r} of "
                f"language {key[0]!r}; set `source` in one of them"
            )
    return parts
