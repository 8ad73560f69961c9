"""Small complete studies, as `hebench human init` writes them, made of real outputs.

    translations  blind pairs: an English model and two translators
    summaries     scores on the paper's four scales: two small models, a baseline and an editor

Articles of the second stay where they are, in `hebench_mini`, and join their summaries on the way.

>>> write_example(Path("my-study"), "summaries")
PosixPath('my-study/study.yaml')
"""

import json
from importlib import resources
from pathlib import Path

from hebench.data.load import mini_records
from hebench.errors import ConfigError
from hebench.files import write_bytes_atomically

EXAMPLES = ("translations", "summaries")


def write_example(folder: Path, example: str = EXAMPLES[0]) -> Path:
    """Write an example study to `folder` and return its YAML file.

    Raises ConfigError for an example that is none, and if one of its files is there already:
    nothing is overwritten.
    """
    if example not in EXAMPLES:
        raise ConfigError(f"expected an example among {', '.join(EXAMPLES)}, found {example!r}")
    files = _files(example)
    there = [name for name in files if (folder / name).exists()]
    if there:
        raise ConfigError(f"{folder / there[0]} is there already; choose another folder")
    for name, content in files.items():
        write_bytes_atomically(folder / name, content)
    return folder / "study.yaml"


def _files(example: str) -> dict[str, bytes]:
    """Return an example's files by name, `study.yaml` last: where it is, the others are."""
    root = resources.files(__name__) / example
    answers = {
        f"answers/{path.name}": path.read_bytes()
        for path in sorted((root / "answers").iterdir(), key=lambda path: path.name)
    }
    if example == "summaries":
        answers = _with_articles(answers)
    return answers | {name: (root / name).read_bytes() for name in ("checks.jsonl", "study.yaml")}


def _with_articles(answers: dict[str, bytes]) -> dict[str, bytes]:
    """Return the summaries with their articles, and those of the set itself as the editor's."""
    records = {record["id"]: record for record in mini_records("summarization")}

    def rows(summaries: dict[str, str]) -> bytes:
        lines = [
            {
                "item": item,
                "source": f"{records[item]['title']}\n\n{records[item]['article']}",
                "answer": answer,
            }
            for item, answer in summaries.items()
        ]
        return "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines).encode()

    found = {}
    for name, content in answers.items():
        given = [json.loads(line) for line in content.decode().splitlines()]
        found[name] = rows({line["item"]: line["answer"] for line in given})
    own = {line["item"]: records[line["item"]]["summary"] for line in given}
    return found | {"answers/editor.jsonl": rows(own)}
