"""A small complete study, as `hebench human init` writes it: real translations, three models.

>>> write_example(Path("my-study"))
PosixPath('my-study/study.yaml')
"""

from importlib import resources
from pathlib import Path

from hebench.errors import ConfigError
from hebench.files import write_bytes_atomically

_FILES = (
    "checks.jsonl",
    "answers/smollm2.jsonl",
    "answers/translator-1.jsonl",
    "answers/translator-2.jsonl",
    "study.yaml",
)


def write_example(folder: Path) -> Path:
    """Write the example study to `folder` and return its YAML file.

    Raises ConfigError if one of its files is there already: nothing is overwritten.
    """
    there = [name for name in _FILES if (folder / name).exists()]
    if there:
        raise ConfigError(f"{folder / there[0]} is there already; choose another folder")
    source = resources.files(__name__)
    for name in _FILES:
        write_bytes_atomically(folder / name, source.joinpath(name).read_bytes())
    return folder / "study.yaml"
