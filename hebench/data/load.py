"""One small function per benchmark: from files to the documents that the tasks read.

Each returns a `datasets.DatasetDict` with the split `test` (the items that are scored) and,
where the task is few-shot, `shots`. lm-eval calls them by name from the YAML
(`custom_dataset: !function hebench.data.load.heq`) and passes the task's metadata, so a user
chooses another split the same way from both command lines:

    hebench eval MODEL --tasks hebench_heq --split validation
    lm_eval run ... --tasks hebench_heq --metadata '{"split": "validation"}'

Every document has an `id` that never changes and a `cluster`: items of one cluster (questions
about one passage) are not independent, and the intervals know it.
"""

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hebench.data.fetch import fetch
from hebench.errors import DataError
from hebench.files import read_jsonl

if TYPE_CHECKING:
    from datasets import DatasetDict

# What the question-answering prompt tells a model to write when the passage has no answer.
NULL_ANSWER = "אין תשובה"
SENTIMENT_LABELS = {"positive": "חיובי", "negative": "שלילי", "neutral": "ניטרלי"}

Doc = dict[str, Any]


def mini_records(capability: str, part: str = "items") -> list[Doc]:
    """Return the records of a set written for hebench, as its file holds them.

    capability: `qa`, `sentiment`, `winograd`, `translation` or `summarization`; part: `items`
    or `shots`. The file's first line (licence, version, canary) is left out.
    """
    path = Path(str(resources.files("hebench.data"))) / "mini" / capability / f"{part}.jsonl"
    if not path.is_file():
        raise DataError(f"expected the packaged set {path}, found nothing; reinstall hebench")
    return [record for number, record in read_jsonl(path) if number > 1]


def mini_qa(**_: Any) -> "DatasetDict":
    """Return the `hebench_mini` questions about short passages; clusters are passages."""
    return _splits(test=_mini_questions("items"), shots=_mini_questions("shots"))


def mini_sentiment(**_: Any) -> "DatasetDict":
    """Return the `hebench_mini` sentiment items with their nine shots."""
    return _splits(
        **{
            split: [
                {
                    "id": record["id"],
                    "cluster": record["id"],
                    "text": record["text"],
                    "choices": list(SENTIMENT_LABELS.values()),
                    "label": list(SENTIMENT_LABELS).index(record["label"]),
                }
                for record in mini_records("sentiment", part)
            ]
            for split, part in (("test", "items"), ("shots", "shots"))
        }
    )


def mini_winograd(**_: Any) -> "DatasetDict":
    """Return the `hebench_mini` Winograd items with their five shots; clusters are pairs.

    The first item of every pair comes before any second one: the first N are N situations.
    """
    return _splits(
        **{
            split: [
                {
                    "id": record["id"],
                    "cluster": record["pair"] or record["id"],
                    "sentence": record["sentence"],
                    "question": record["question"],
                    "choices": record["options"],
                    "label": record["label"],
                }
                for record in sorted(
                    mini_records("winograd", part), key=lambda record: record["id"][-1]
                )
            ]
            for split, part in (("test", "items"), ("shots", "shots"))
        }
    )


def mini_translation_en_he(**_: Any) -> "DatasetDict":
    """Return the `hebench_mini` sentence pairs, English to Hebrew, with three shots."""
    return _mini_pairs("en", "he")


def mini_translation_he_en(**_: Any) -> "DatasetDict":
    """Return the `hebench_mini` sentence pairs, Hebrew to English, with three shots."""
    return _mini_pairs("he", "en")


def mini_summarization(**_: Any) -> "DatasetDict":
    """Return the `hebench_mini` articles with a reference summary and key facts each."""
    return _splits(
        test=[
            {
                "id": record["id"],
                "cluster": record["id"],
                "title": record["title"],
                "article": record["article"],
                "target": record["summary"],
                "facts": record["facts"],
            }
            for record in mini_records("summarization")
        ]
    )


def heq(split: str = "test", **_: Any) -> "DatasetDict":
    """Return a split of HeQ v1.1, `test` (reported) or `validation` (for development).

    The scored split is named `test` in the result whichever it is, as the task expects. The
    three shots are those of `hebench_mini`: fixed, and in neither split.
    Raises DataError for another split, and for the v1.0 layout, whose `is_impossible` is a
    string with the opposite sense and whose unanswerable questions carry wrong answers as gold.
    """
    if split not in {"test", "validation"}:
        raise DataError(f"hebench_heq: expected split test or validation, found {split!r}")
    return _splits(test=list(read_heq(fetch("heq", split))), shots=_mini_questions("shots"))


def read_heq(path: Path) -> Iterator[Doc]:
    """Yield the questions of a HeQ v1.1 file; see `heq` for what is refused."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or content.get("version") != "v1.1":
        found = content.get("version") if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{path}: expected HeQ version v1.1, found {found!r}; use the v1.1 files")
    passage_number = 0
    for article in content["data"]:
        for paragraph in article["paragraphs"]:
            passage_number += 1
            for question in paragraph["qas"]:
                if not isinstance(question["is_impossible"], bool):
                    raise DataError(
                        f"{path}, question {question['id']}: expected is_impossible true or "
                        f"false, found {question['is_impossible']!r}; this is the v1.0 layout, "
                        "use the v1.1 files"
                    )
                answers = [] if question["is_impossible"] else question["answers"]
                if not answers and not question["is_impossible"]:
                    raise DataError(
                        f"{path}, question {question['id']}: expected an answer, found none"
                    )
                yield _question(
                    identity=question["id"],
                    cluster=f"passage-{passage_number:04d}",
                    passage=paragraph["context"],
                    question=question["question"],
                    answers=list(dict.fromkeys(answer["text"] for answer in answers)),
                )


def _question(
    *, identity: str, cluster: str, passage: str, question: str, answers: list[str]
) -> Doc:
    golds = answers or [NULL_ANSWER]
    return {
        "id": identity,
        "cluster": cluster,
        "passage": " ".join(passage.split()),
        "question": " ".join(question.split()),
        "golds": golds,
        "target": golds[0],
        "null_answer": NULL_ANSWER,
    }


def _mini_questions(part: str) -> list[Doc]:
    """Return the questions, the first of each passage first: the first N cover N passages."""
    records = mini_records("qa", part)
    most = max(len(record["questions"]) for record in records)
    return [
        _question(
            identity=record["questions"][place]["id"],
            cluster=record["id"],
            passage=record["passage"],
            question=record["questions"][place]["question"],
            answers=record["questions"][place]["answers"],
        )
        for place in range(most)
        for record in records
        if place < len(record["questions"])
    ]


def _mini_pairs(source: str, target: str) -> "DatasetDict":
    return _splits(
        **{
            split: [
                {
                    "id": record["id"],
                    "cluster": record["id"],
                    "source": record[source][0],
                    "references": record[target],
                    "target": record[target][0],
                }
                for record in mini_records("translation", part)
            ]
            for split, part in (("test", "items"), ("shots", "shots"))
        }
    )


def _splits(**docs: list[Doc]) -> "DatasetDict":
    import datasets

    return datasets.DatasetDict(
        {split: datasets.Dataset.from_list(records) for split, records in docs.items()}
    )
