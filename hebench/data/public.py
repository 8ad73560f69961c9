"""The public Hebrew sets, one small function each, from pinned files to the tasks' documents.

As in `hebench.data.load`, each returns a DatasetDict with the scored split under the name
`test` and, where the task is few-shot, `shots`; `split` chooses what is scored. Shots come from
the sets written for hebench (or, for topics, from the training split): fixed, and in no split
that is scored.

Every trap that is known of a set is handled here and told in its data card: inverted flags,
leaked and duplicate rows, labels in two languages, prefixes cut off their words. A file that
does not look as expected is refused with its name and the place, never read with a guess.
"""

import csv
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hebench.data.fetch import fetch, sources
from hebench.data.load import (
    NLI_LABELS,
    SENTIMENT_LABELS,
    Doc,
    labelled,
    mini_records,
    minimal_pair,
    nikud_documents,
    nli_documents,
    question_document,
    question_documents,
    round_robin,
    sentiment_documents,
    splits,
    translation_shots,
)
from hebench.errors import DataError, SplitError
from hebench.files import read_jsonl
from hebench.hebrew import strip_marks

if TYPE_CHECKING:
    from datasets import DatasetDict

# Columns of a raw CSV field may hold whole articles.
csv.field_size_limit(10_000_000)

TOPICS = {
    "science/technology": "מדע וטכנולוגיה",
    "travel": "טיולים",
    "politics": "פוליטיקה",
    "sports": "ספורט",
    "health": "בריאות",
    "entertainment": "בידור",
    "geography": "גאוגרפיה",
}
IDIOM_SENSES = {"Literal": "מילולית", "Figurative": "מושאלת"}
GRAMMAR_FILES = (
    "simple_agrmt",
    "vp_coord",
    "long_vp_coord",
    "subj_rel",
    "prep_anim",
    "obj_rel_across_anim",
    "obj_rel_within_anim",
)
GRAMMAR_PAIRS = 140  # a phenomenon; the smallest file has as many
SENTIMENT_DEVELOPMENT_ROWS = 1000


def heq(split: str = "test", **_: Any) -> "DatasetDict":
    """Return a split of HeQ v1.1, `test` (reported) or `validation` (for development).

    Raises DataError for another split, and for the v1.0 layout, whose `is_impossible` is a
    string with the opposite sense and whose unanswerable questions carry wrong answers as gold.
    """
    _require_split("hebench_heq", split, ("test", "validation"))
    return splits(test=list(read_heq(fetch("heq", split))), shots=question_documents("shots"))


def heq_paper(split: str = "test", **_: Any) -> "DatasetDict":
    """Return HeQ in the shape of the DictaLM 2.0 paper: three shots from the same passage.

    Only questions whose passage offers three others are kept: 1,435 of the test split (the
    paper says 1,436, which this rule explains up to one). The shots are the first three other
    questions, in file order; a shot without an answer shows the null answer. A shot may hold
    the target's answer: the paper states no rule against it, and none is made up here.
    """
    _require_split("hebench_paper_heq", split, ("test", "validation"))
    by_passage: dict[str, list[Doc]] = defaultdict(list)
    for doc in read_heq(fetch("heq", split)):
        by_passage[doc["cluster"]].append(doc)
    docs = []
    for questions in by_passage.values():
        for doc in questions:
            others = [other for other in questions if other["id"] != doc["id"]][:3]
            if len(others) == 3:
                shown = [{key: other[key] for key in ("question", "target")} for other in others]
                docs.append(doc | {"others": shown})
    return splits(test=docs)


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
                where = f"{path}, question {question['id']}"
                impossible = question["is_impossible"]
                if not isinstance(impossible, bool):
                    raise DataError(
                        f"{where}: expected is_impossible true or false, found {impossible!r}; "
                        "this is the v1.0 layout, use the v1.1 files"
                    )
                texts = [] if impossible else [answer["text"] for answer in question["answers"]]
                answers = [text.strip() for text in texts if text.strip()]
                if not answers and not impossible:
                    raise DataError(f"{where}: expected an answer, found none")
                yield question_document(
                    identity=question["id"],
                    cluster=f"passage-{passage_number:04d}",
                    passage=paragraph["context"],
                    question=question["question"],
                    answers=list(dict.fromkeys(answers)),
                )


def sentiment(split: str = "test", **_: Any) -> "DatasetDict":
    """Return comments with a sentiment, `test` or `validation`.

    Rows are unique texts with one label: repeated rows count once, texts with two labels are
    left out, and so are test texts that stand in the training file (about one in eight; the
    two files share 1,770 rows). `validation` is 1,000 training texts, chosen by hash.
    """
    _require_split("hebench_sentiment", split, ("test", "validation"))
    train = _unambiguous(_read_sentiment(fetch("hebrew-sentiment", "train")))
    if split == "validation":
        ordered = sorted(train, key=lambda text: hashlib.sha256(text.encode()).digest())
        kept = {text: train[text] for text in ordered[:SENTIMENT_DEVELOPMENT_ROWS]}
    else:
        seen = {text for text, _ in _read_sentiment(fetch("hebrew-sentiment", "train"))}
        test = _unambiguous(_read_sentiment(fetch("hebrew-sentiment", "test")))
        kept = {text: label for text, label in test.items() if text not in seen}
    docs = [
        labelled(identity=_identity(text), choices=SENTIMENT_LABELS, label=label, text=text)
        for text, label in kept.items()
    ]
    return splits(test=docs, shots=sentiment_documents("shots"))


def nli(split: str = "test", **_: Any) -> "DatasetDict":
    """Return HebNLI, `test` (scored against the Hebrew label) or `validation`.

    The validation file has the English label only; one of its 2,000 rows has none ("-") and is
    left out. Clusters are premises.
    """
    _require_split("hebench_nli", split, ("test", "validation"))
    field = "hebrew_label" if split == "test" else "original_label"
    docs = []
    columns = {field, "pairID", "promptID", "translation1", "translation2", "genre"}
    for number, row in read_jsonl(fetch("hebnli", split)):
        if missing := columns - set(row):
            raise DataError(
                f"HebNLI {split} line {number}: expected {', '.join(sorted(missing))}, "
                f"found {', '.join(sorted(row))}"
            )
        label = str(row[field]).strip().lower()
        if label == "-":
            continue
        if label not in NLI_LABELS:
            raise DataError(
                f"HebNLI {split} line {number}: expected one of {', '.join(NLI_LABELS)} in "
                f"{field}, found {row[field]!r}"
            )
        docs.append(
            labelled(
                identity=row["pairID"],
                cluster=str(row["promptID"]),
                choices=NLI_LABELS,
                label=label,
                premise=_line(row["translation1"]),
                hypothesis=_line(row["translation2"]),
                genre=row["genre"],
            )
        )
    return splits(test=docs, shots=nli_documents("shots"))


def translation_en_he(**_: Any) -> "DatasetDict":
    """Return NTREX-128, English to Hebrew: 1,997 sentences of 123 documents, the clusters."""
    return _ntrex("en", "he")


def translation_he_en(**_: Any) -> "DatasetDict":
    """Return NTREX-128, Hebrew to English."""
    return _ntrex("he", "en")


def tatoeba_en_he(**_: Any) -> "DatasetDict":
    """Return 1,000 everyday sentences, English to Hebrew."""
    return _parallel("tatoeba", "en", "he", None)


def tatoeba_he_en(**_: Any) -> "DatasetDict":
    """Return 1,000 everyday sentences, Hebrew to English."""
    return _parallel("tatoeba", "he", "en", None)


def topic(split: str = "test", **_: Any) -> "DatasetDict":
    """Return SIB-200 in Hebrew, `test` or `validation`; shots are one training row a topic."""
    _require_split("hebench_topic", split, ("test", "validation"))
    file = {"test": "he_test", "validation": "he_dev"}[split]
    train = _read_topics("he_train")
    shots = [next(doc for doc in train if doc["label"] == label) for label in range(len(TOPICS))]
    return splits(test=_read_topics(file), shots=shots)


def grammar(**_: Any) -> "DatasetDict":
    """Return CLaMS in Hebrew: 140 minimal pairs of each of seven agreement phenomena.

    The files hold up to 11,200 pairs, the words of a few templates in every combination. Pairs
    are chosen by hash: at equal steps they would fall in with the order of the combinations and
    leave most verbs of a template out. The source cuts prefixes off their words ("ה מלצר");
    they are joined again, as Hebrew is written. Clusters are the grammatical sentences.
    """
    docs = []
    for phenomenon in GRAMMAR_FILES:
        pairs = list(_read_pairs(fetch("clams", phenomenon), phenomenon))
        # Not by the hash of the id, which says which sentence of a pair comes first.
        order = sorted(
            range(len(pairs)),
            key=lambda place: hashlib.sha256("\n".join(pairs[place]).encode()).digest(),
        )
        for place in sorted(order[:GRAMMAR_PAIRS]):
            good, bad = pairs[place]
            docs.append(
                minimal_pair(
                    identity=f"{phenomenon}-{place:05d}",
                    cluster=good,
                    phenomenon=phenomenon,
                    good=good,
                    bad=bad,
                )
            )
    return splits(test=round_robin(docs, "phenomenon"))


def idioms(split: str = "test", **_: Any) -> "DatasetDict":
    """Return sentences with an idiom, literal or figurative; clusters are idioms.

    `test` and `validation` hold idioms that the training file has, too; `unseen_idiom_test`
    holds others. The difference is for models that were trained on it.
    """
    _require_split("hebench_idioms", split, ("test", "validation", "unseen_idiom_test"))
    docs = []
    columns = ("id", "sentence", "base_pie", "pie_span", "label_str")
    for row in _read_table(fetch("hebrew-idioms", split), columns):
        if row["label_str"] not in IDIOM_SENSES:
            raise DataError(
                f"hebrew-idioms/{split}, {row['id']}: expected one of {', '.join(IDIOM_SENSES)}, "
                f"found {row['label_str']!r}"
            )
        docs.append(
            labelled(
                identity=row["id"],
                cluster=row["base_pie"],
                choices=IDIOM_SENSES,
                label=row["label_str"],
                sentence=_line(row["sentence"]),
                idiom=_line(row["pie_span"]),
            )
        )
    shots = [
        labelled(
            identity=record["id"],
            choices=IDIOM_SENSES,
            label=record["label"],
            sentence=record["sentence"],
            idiom=record["idiom"],
        )
        for record in mini_records("idioms", "shots")
    ]
    return splits(test=docs, shots=shots)


def nikud(split: str = "test", **_: Any) -> "DatasetDict":
    """Return the Nakdimon test texts line by line, unpointed and pointed; clusters are texts.

    `split` is `test` for all eleven genres or the name of one genre, such as `wiki`.
    """
    files = sources()["nakdimon-test"].files
    genres = sorted({name.split("/")[0] for name in files})
    _require_split("hebench_nikud", split, ("test", *genres))
    docs = []
    for name in files:
        if split not in {"test", name.split("/")[0]}:
            continue
        lines = fetch("nakdimon-test", name).read_text(encoding="utf-8").splitlines()
        docs += [
            {
                "id": f"{name}:{number}",
                "cluster": name,
                "text": strip_marks(_line(line)),
                "target": _line(line),
            }
            for number, line in enumerate(lines, start=1)
            if strip_marks(_line(line)) != _line(line)
        ]
    return splits(test=docs, shots=nikud_documents("shots"))


def hesum(split: str = "test", **_: Any) -> "DatasetDict":
    """Return HeSum, news articles with a sub-heading as summary, `test` or `validation`.

    No licence is stated by its publishers: nothing of it is downloaded until a user asks.
    """
    _require_split("hebench_hesum", split, ("test", "validation"))
    docs = [
        {
            "id": f"hesum-{split}-{number:04d}",
            "cluster": f"hesum-{split}-{number:04d}",
            "title": "",
            "article": row["article"].strip(),
            "target": _line(row["summary"]),
        }
        for number, row in enumerate(
            _read_table(fetch("hesum", split), ("article", "summary")), start=1
        )
    ]
    return splits(test=docs)


def _require_split(task: str, split: str, known: Sequence[str]) -> None:
    if split not in known:
        raise SplitError(f"{task}: expected split {', '.join(known)}, found {split!r}")


def _line(text: str) -> str:
    """Return `text` in one line with single spaces, as prompts need it."""
    return " ".join(text.split())


def _identity(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]


def _read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a CSV or TSV file. Raises DataError unless it has `columns`."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        if path.suffix == ".tsv":
            # A tab-separated file of running text has stray quotation marks, which are text.
            reader = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
        else:
            reader = csv.DictReader(stream)
        missing = set(columns) - set(reader.fieldnames or ())
        if missing:
            raise DataError(
                f"{path}: expected columns {', '.join(columns)}, found "
                f"{', '.join(reader.fieldnames or ())}"
            )
        return list(reader)


def _read_sentiment(path: Path) -> list[tuple[str, str]]:
    """Return (text, label) rows; the file has no header, and 0, 1, 2 for the labels."""
    names = dict(zip("012", SENTIMENT_LABELS, strict=True))
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text, tab, label = line.rpartition("\t")
        if not tab or label not in names:
            raise DataError(
                f"{path} line {number}: expected a text, a tab and 0, 1 or 2, found {line[-40:]!r}"
            )
        rows.append((_line(text), names[label]))
    return rows


def _unambiguous(rows: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return each non-empty text once, without those that carry two labels."""
    labels: dict[str, set[str]] = defaultdict(set)
    for text, label in rows:
        labels[text].add(label)
    return {text: next(iter(found)) for text, found in labels.items() if text and len(found) == 1}


def _read_topics(name: str) -> list[Doc]:
    docs = []
    for row in _read_table(fetch("sib200", name), ("index_id", "category", "text")):
        if row["category"] not in TOPICS:
            raise DataError(
                f"sib200/{name}, {row['index_id']}: expected one of {', '.join(TOPICS)}, "
                f"found {row['category']!r}"
            )
        docs.append(
            labelled(
                identity=row["index_id"],
                choices=TOPICS,
                label=row["category"],
                text=_line(row["text"]),
            )
        )
    return docs


def _read_pairs(path: Path, phenomenon: str) -> Iterator[tuple[str, str]]:
    """Yield (good, bad): each ungrammatical line follows the grammatical one that it spoils."""
    good = ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        verdict, _, sentence = line.partition("\t")
        if verdict == "True":
            good = join_prefixes(sentence)
        elif verdict == "False" and good:
            yield good, join_prefixes(sentence)
        else:
            raise DataError(
                f"clams/{phenomenon} line {number}: expected True or False and a sentence, "
                f"found {line[:40]!r}"
            )


def join_prefixes(sentence: str) -> str:
    """Return a sentence of CLaMS with one-letter prefixes joined to their words.

    >>> join_prefixes("ה מלצר ש ה שומר אוהב רוקד")
    'המלצר שהשומר אוהב רוקד'
    """
    return re.sub(r"(?<!\S)([הובלמשכ]) ", r"\1", sentence.strip())


def _ntrex(source: str, target: str) -> "DatasetDict":
    documents = fetch("ntrex", "documents").read_text(encoding="utf-8").split("\n")
    return _parallel("ntrex", source, target, [line.strip() for line in documents if line.strip()])


def _parallel(name: str, source: str, target: str, clusters: Sequence[str] | None) -> "DatasetDict":
    """Return line-aligned texts. Raises DataError unless all files have as many lines."""
    lines = {
        side: fetch(name, side).read_text(encoding="utf-8").rstrip("\n").split("\n")
        for side in (source, target)
    }
    found = Counter({side: len(texts) for side, texts in lines.items()})
    if clusters is not None:
        found["documents"] = len(clusters)
    if len(set(found.values())) != 1:
        raise DataError(f"{name}: expected as many lines in each file, found {dict(found)}")
    docs = []
    for number, (left, right) in enumerate(zip(lines[source], lines[target], strict=True)):
        identity = f"{name}-{number + 1:04d}"
        docs.append(
            {
                "id": identity,
                "cluster": clusters[number] if clusters else identity,
                "source": _line(left),
                "references": [_line(right)],
                "target": _line(right),
            }
        )
    return splits(test=docs, shots=translation_shots(source, target))
