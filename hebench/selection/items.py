"""From the samples of a task, written or in memory, to the scores that checkpoints compare by.

Beside the score of an item stand two measures where there are choices, from the log-likelihoods
l (nats) of the whole answers. They move while accuracy still sits at chance (Schaeffer et al. 2024,
arXiv 2406.04391).

* Its margin, the probability of the right choice among the choices, exp(l_right) / sum exp(l).
  Whoever guesses has the same expected value in it as in the score.
* Its answer, the geometric mean probability of a byte of the right choice, exp(l_right / bytes) =
  2 ** -(bits per byte), as tasks of running text are scored. It looks at no other choice: it also
  rises when a model merely learns the form of an answer, and nobody knows what a guesser has.

    >>> items_of([{"score": 1.0, "doc": {"choices": ["כן", "לא"], "label": 0}, ...}], "1.0").chance
    0.5
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hebench.board.read import newest_results, read_results, samples_path
from hebench.errors import DataError
from hebench.files import read_jsonl, sha256_of_json
from hebench.metrics.likelihood import bits_per_byte
from hebench.selection.log import TaskItems

Sample = dict[str, Any]


def read_items(folder: Path) -> dict[str, TaskItems]:
    """Return the items of every task in a run folder. Raises DataError as `read_run` does."""
    results = newest_results(folder)
    content = read_results(results)
    found = {}
    for name in content["configs"]:
        path = samples_path(results, name)
        if not path.is_file():
            raise DataError(f"expected {path}, found nothing; evaluate the checkpoint anew")
        samples = [sample for _, sample in read_jsonl(path)]
        version = str(content.get("versions", {}).get(name, "unknown"))
        found[name] = items_of(samples, version, str(path))
    return found


def items_of(samples: Sequence[Sample], version: str, where: str = "samples") -> TaskItems:
    """Return a task's items from lm-eval's samples, in the order of the documents.

    where: opens messages. Raises DataError where a score is not a number in [0, 1] or NaN.
    """
    docs = [sample.get("doc") or {} for sample in samples]
    scores = [_score(sample, f"{where}, item {place}") for place, sample in enumerate(samples)]
    names = [
        str(doc.get("cluster", doc.get("id", sample.get("doc_id"))))
        for doc, sample in zip(docs, samples, strict=True)
    ]
    codes: dict[str, int] = {}
    clusters = tuple(codes.setdefault(name, len(codes)) for name in names)
    margins, answers = (
        [measure(sample, doc) for sample, doc in zip(samples, docs, strict=True)]
        for measure in (_margin, _answer)
    )
    counts = [len(doc["choices"]) for doc in docs if isinstance(doc.get("choices"), list)]
    whole = len(counts) == len(docs) and all(counts)
    return TaskItems(
        version=version,
        prompt_sha256=sha256_of_json([sample.get("prompt_hash") for sample in samples]),
        data_sha256=sha256_of_json([sample.get("doc_hash") for sample in samples]),
        scores=np.array(scores, dtype=np.float32),
        margins=None if None in margins else np.array(margins, dtype=np.float32),
        answers=None if None in answers else np.array(answers, dtype=np.float32),
        clusters=clusters if len(codes) < len(clusters) else None,
        chance=sum(1 / count for count in counts) / len(counts) if whole else None,
    )


def _score(sample: Sample, where: str) -> float:
    value = sample.get("score", sample.get("acc"))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(
            f"{where}: expected a number in 'score', found {value!r}; only tasks that emit `score` "
            "or `acc` can be selected by"
        )
    if not (math.isnan(value) or 0 <= value <= 1):
        raise DataError(f"{where}: expected a score in [0, 1], found {value}")
    return float(value)


def _margin(sample: Sample, doc: Sample) -> float | None:
    """Return the probability of the right choice among the choices, NaN if one is no number.

    None where the answers are not the log-likelihoods of the document's choices.
    """
    values = _loglikelihoods(sample, doc)
    if values is None:
        return None
    if np.isnan(values).any() or not np.isfinite(values.max()):
        return math.nan
    likelihoods = np.exp(values - values.max())
    return float(likelihoods[doc["label"]] / likelihoods.sum())


def _answer(sample: Sample, doc: Sample) -> float | None:
    """Return 2 ** -(bits per byte) of the right choice, NaN if its log-likelihood is no number.

    The bytes are those of what was asked, with the space before the choice: its bits are in the
    log-likelihood, too. None as for `_margin`, and where the sample does not say what was asked.
    """
    values, asked = _loglikelihoods(sample, doc), sample.get("arguments")
    if values is None or not asked or len(asked) != len(values):
        return None
    # In memory a (prompt, answer) a request; lm-eval writes them as gen_args_<n>.arg_<m>.
    if isinstance(asked, dict):
        text = asked[f"gen_args_{doc['label']}"]["arg_1"]
    else:
        text = asked[doc["label"]][1]
    right = float(values[doc["label"]])
    if not math.isfinite(right):
        return math.nan
    return min(1.0, float(2 ** -bits_per_byte(right, text)))  # a sure one may round to just above


def _loglikelihoods(sample: Sample, doc: Sample) -> NDArray[np.float64] | None:
    """Return the choices' log-likelihoods, (choices,), None where the answers are none.

    None, too, where the label is no choice's place: which one is right, it does not say then.
    """
    choices, label, answers = doc.get("choices"), doc.get("label"), sample.get("filtered_resps")
    if not isinstance(choices, list) or not isinstance(label, int) or not answers:
        return None
    if len(answers) != len(choices) or not all(
        isinstance(answer, list | tuple) and len(answer) == 2 for answer in answers
    ):
        return None
    if not 0 <= label < len(choices):
        return None
    return np.array([float(answer[0]) for answer in answers])
