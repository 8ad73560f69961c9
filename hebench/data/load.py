"""The sets written for hebench, one small function each: from files to the tasks' documents.

Each returns a `datasets.DatasetDict` with the split `test` (the items that are scored) and,
where the task is few-shot, `shots`. lm-eval calls them by name from the YAML
(`custom_dataset: !function hebench.data.load.mini_qa`) and passes the task's metadata as
keywords, so a user chooses what is loaded the same way from both command lines:

    hebench eval MODEL --tasks hebench_heq --split validation
    lm_eval run ... --tasks hebench_heq --metadata '{"split": "validation"}'

Every document has an `id` that never changes and a `cluster`: items of one cluster (questions
about one passage) are not independent, and the intervals know it. `public.py` does the same
for the public sets.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hebench.errors import DataError
from hebench.files import expanded, read_jsonl

if TYPE_CHECKING:
    from datasets import DatasetDict

# What the question-answering prompt tells a model to write when the passage has no answer.
NULL_ANSWER = "אין תשובה"
# Labels as files hold them -> as prompts show them, in the order of the harness's choices.
SENTIMENT_LABELS = {"positive": "חיובי", "negative": "שלילי", "neutral": "ניטרלי"}
NLI_LABELS = {"entailment": "נובע", "contradiction": "סותר", "neutral": "ניטרלי"}

Doc = dict[str, Any]


def mini_records(capability: str, part: str = "items") -> list[Doc]:
    """Return the records of a set written for hebench, as its file holds them.

    capability: a folder under `mini/`; part: `items` or `shots`. The file's first line
    (licence, version, canary) is left out. Raises DataError if the package lacks the file.
    """
    path = Path(str(resources.files("hebench.data"))) / "mini" / capability / f"{part}.jsonl"
    if not path.is_file():
        raise DataError(f"expected the packaged set {path}, found nothing; reinstall hebench")
    return [record for number, record in read_jsonl(path) if number > 1]


def splits(**docs: list[Doc]) -> "DatasetDict":
    """Return lists of documents as a DatasetDict, by split name."""
    import datasets

    return datasets.DatasetDict(
        {split: datasets.Dataset.from_list(records) for split, records in docs.items()}
    )


# ------------------------------------------------------------------------------ the tasks


def mini_qa(**_: Any) -> "DatasetDict":
    """Return questions about short passages; clusters are passages."""
    return splits(test=question_documents("items"), shots=question_documents("shots"))


def mini_sentiment(**_: Any) -> "DatasetDict":
    """Return texts that are positive, negative or neutral."""
    return splits(test=sentiment_documents("items"), shots=sentiment_documents("shots"))


def mini_winograd(**_: Any) -> "DatasetDict":
    """Return Winograd items; clusters are pairs.

    The first item of every pair comes before any second one: the first N are N situations.
    """
    items = sorted(_winograd_documents("items"), key=lambda doc: doc["id"][-1])
    return splits(test=items, shots=_winograd_documents("shots"))


def mini_translation_en_he(**_: Any) -> "DatasetDict":
    """Return sentence pairs, English to Hebrew."""
    return splits(test=_pairs("en", "he", "items"), shots=_pairs("en", "he", "shots"))


def mini_translation_he_en(**_: Any) -> "DatasetDict":
    """Return sentence pairs, Hebrew to English."""
    return splits(test=_pairs("he", "en", "items"), shots=_pairs("he", "en", "shots"))


def mini_summarization(**_: Any) -> "DatasetDict":
    """Return articles with a reference summary and key facts each."""
    return splits(
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


def mini_nli(**_: Any) -> "DatasetDict":
    """Return premises with three hypotheses each; clusters are premises.

    As with Winograd pairs, one hypothesis of every premise comes before any second one.
    """
    items = sorted(nli_documents("items"), key=lambda doc: doc["id"][-1])
    return splits(test=items, shots=nli_documents("shots"))


def mini_trivia(**_: Any) -> "DatasetDict":
    """Return questions of general knowledge with four options."""
    return splits(test=_trivia_documents("items"), shots=_trivia_documents("shots"))


def mini_grammar(**_: Any) -> "DatasetDict":
    """Return minimal pairs of a grammatical and an ungrammatical sentence."""
    pairs = [
        minimal_pair(
            identity=record["id"],
            cluster=record["id"],
            phenomenon=record["phenomenon"],
            good=record["good"],
            bad=record["bad"],
        )
        for record in mini_records("grammar")
    ]
    return splits(test=round_robin(pairs, "phenomenon"))


def mini_math(**_: Any) -> "DatasetDict":
    """Return word problems with one integer answer; the shots show the steps."""
    return splits(test=_math_documents("items"), shots=_math_documents("shots"))


def mini_nikud(**_: Any) -> "DatasetDict":
    """Return sentences without and with points."""
    return splits(test=nikud_documents("items"), shots=nikud_documents("shots"))


def mini_instructions(**_: Any) -> "DatasetDict":
    """Return instructions with the checks that an answer must pass."""
    return splits(
        test=[
            {
                "id": record["id"],
                "cluster": record["id"],
                "instruction": record["instruction"],
                # Arrow wants one shape for all rows; checks differ in theirs.
                "checks": json.dumps(record["checks"], ensure_ascii=False),
                "target": record["example"],
            }
            for record in mini_records("instructions")
        ]
    )


def bits_per_byte(text: str | None = None, **_: Any) -> "DatasetDict":
    """Return running texts to be read: the package's, or the paragraphs of a file of the user's.

    text: a path to a UTF-8 text file; paragraphs are separated by blank lines. The package's
    texts are the passages and articles of the mini sets: good for comparing checkpoints of one
    run, too small and too uniform to rank models. Raises DataError if the file cannot be read.
    """
    if text is None:
        found = {record["id"]: record["passage"] for record in mini_records("qa")}
        found |= {record["id"]: record["article"] for record in mini_records("summarization")}
    else:
        found = _paragraphs(expanded(text))
    return _running(found)


def select_texts(**_: Any) -> "DatasetDict":
    """Return running texts for choosing checkpoints, none of them in `bits_per_byte`'s.

    The reviews of mini-sentiment and the premises of mini-nli: 192 short texts of many voices.
    """
    found = {record["id"]: record["text"] for record in mini_records("sentiment")}
    found |= {record["pair"]: record["premise"] for record in mini_records("nli")}
    return _running(found)


def _running(texts: Mapping[str, str]) -> "DatasetDict":
    return splits(test=[{"id": key, "cluster": key, "text": value} for key, value in texts.items()])


# ------------------------------------------------------------------------------ documents


def labelled(
    *, identity: str, choices: Mapping[str, str], label: str, cluster: str = "", **fields: str
) -> Doc:
    """Return a document with a closed set of answers, `choices` mapping labels to their text."""
    return {
        "id": identity,
        "cluster": cluster or identity,
        **fields,
        "choices": list(choices.values()),
        "label": list(choices).index(label),
    }


def minimal_pair(*, identity: str, cluster: str, phenomenon: str, good: str, bad: str) -> Doc:
    """Return a document with two sentences; which comes first depends on the identity alone.

    The order does not enter the score but for ties, and a guesser by place stays at chance.
    """
    label = hashlib.sha256(identity.encode()).digest()[0] % 2
    return {
        "id": identity,
        "cluster": cluster,
        "phenomenon": phenomenon,
        "choices": [bad, good] if label else [good, bad],
        "label": label,
    }


def round_robin(docs: list[Doc], field: str) -> list[Doc]:
    """Return `docs` taking one of each value of `field` in turn, so that the first N hold all."""
    seen: dict[str, int] = {}
    turns = []
    for doc in docs:
        seen[doc[field]] = turn = seen.get(doc[field], -1) + 1
        turns.append(turn)
    return [docs[place] for place in sorted(range(len(docs)), key=lambda place: turns[place])]


def question_document(
    *, identity: str, cluster: str, passage: str, question: str, answers: list[str]
) -> Doc:
    """Return a question about a passage; without answers, the null answer is its gold."""
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


def question_documents(part: str) -> list[Doc]:
    """Return the mini questions, the first of each passage first: the first N cover N passages."""
    records = mini_records("qa", part)
    most = max(len(record["questions"]) for record in records)
    return [
        question_document(
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


def sentiment_documents(part: str) -> list[Doc]:
    """Return the mini sentiment items or shots."""
    return [
        labelled(
            identity=record["id"],
            choices=SENTIMENT_LABELS,
            label=record["label"],
            text=record["text"],
        )
        for record in mini_records("sentiment", part)
    ]


def nli_documents(part: str) -> list[Doc]:
    """Return the mini inference items or shots."""
    return [
        labelled(
            identity=record["id"],
            cluster=record["pair"] or record["id"],
            choices=NLI_LABELS,
            label=record["label"],
            premise=record["premise"],
            hypothesis=record["hypothesis"],
            genre=record["genre"],
        )
        for record in mini_records("nli", part)
    ]


def nikud_documents(part: str) -> list[Doc]:
    """Return the mini sentences or shots without and with points."""
    return [
        {
            "id": record["id"],
            "cluster": record["id"],
            "text": record["text"],
            "target": record["pointed"],
        }
        for record in mini_records("nikud", part)
    ]


def translation_shots(source: str, target: str) -> list[Doc]:
    """Return the three mini translation shots; source and target are `en` and `he`."""
    return _pairs(source, target, "shots")


def _winograd_documents(part: str) -> list[Doc]:
    return [
        {
            "id": record["id"],
            "cluster": record["pair"] or record["id"],
            "sentence": record["sentence"],
            "question": record["question"],
            "choices": record["options"],
            "label": record["label"],
        }
        for record in mini_records("winograd", part)
    ]


def _trivia_documents(part: str) -> list[Doc]:
    return [
        {
            "id": record["id"],
            "cluster": record["id"],
            "topic": record["topic"],
            "question": record["question"],
            "choices": record["options"],
            "label": record["label"],
        }
        for record in mini_records("trivia", part)
    ]


def _math_documents(part: str) -> list[Doc]:
    return [
        {
            "id": record["id"],
            "cluster": record["id"],
            "question": record["question"],
            "answer": record["answer"],
            "target": record["solution"],
        }
        for record in mini_records("math", part)
    ]


def _pairs(source: str, target: str, part: str) -> list[Doc]:
    return [
        {
            "id": record["id"],
            "cluster": record["id"],
            "source": record[source][0],
            "references": record[target],
            "target": record[target][0],
        }
        for record in mini_records("translation", part)
    ]


def _paragraphs(path: Path) -> dict[str, str]:
    try:
        blocks = re.split(r"\n[^\S\n]*\n", path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path} as UTF-8 text: {error}") from error
    found = {f"paragraph-{n:05d}": block.strip() for n, block in enumerate(blocks, start=1)}
    found = {key: block for key, block in found.items() if block}
    if not found:
        raise DataError(f"{path}: expected text, found an empty file")
    return found
