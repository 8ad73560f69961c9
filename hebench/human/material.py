"""What a study is about: items, each with one answer a model, and questions with known answers.

A model's answers are a run folder, as `hebench eval` and lm-eval write it, or JSON Lines:

    {"item": "17", "source": "הספרייה נסגרה אתמול.", "answer": "The library closed yesterday.",
     "prompt": "תרגמו: ...", "reference": "...", "cluster": "library"}

where all after `answer` may be left out. Checks are JSON Lines, too:

    {"kind": "gold", "source": "...", "answers": ["טוב", "רע"], "expected": {"outcome": "first"}}

>>> read_material(load_study(Path("study.yaml"))).items[0].name
'17'
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hebench.errors import DataError, one_line
from hebench.files import read_jsonl
from hebench.human.ballot import check_expected
from hebench.human.masking import is_maskable, mask, storable
from hebench.human.study import Study

MAX_TEXT = 200_000  # characters of one text
CHECK_KINDS = ("gold", "attention")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One model's answer to one item."""

    model: str
    text: str
    shown: str  # with model names masked, but in a review
    masked: bool


@dataclass(frozen=True, kw_only=True)
class Item:
    """One source, and the answers by model."""

    name: str
    source: str
    prompt: str  # as the model got it; the source where only that is known
    reference: str | None
    cluster: str
    answers: dict[str, Answer]


@dataclass(frozen=True, kw_only=True)
class Check:
    """A question whose answer is known: gold, or an attention check."""

    kind: str
    source: str
    answers: tuple[str, ...]  # one, or two in the order in which `expected` names them
    expected: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Material:
    """All texts of a study."""

    items: tuple[Item, ...]
    checks: tuple[Check, ...]
    left_out: dict[str, tuple[str, ...]]  # item -> models that have no answer to it
    unmasked: tuple[str, ...] = ()  # models' names too short to be masked

    @property
    def masked(self) -> int:
        """Return how many answers had a model's name masked."""
        return sum(answer.masked for item in self.items for answer in item.answers.values())


@dataclass(frozen=True, kw_only=True)
class _Row:
    item: str
    source: str
    answer: str
    prompt: str | None
    reference: str | None
    cluster: str | None


def read_material(study: Study) -> Material:
    """Return the texts of a study: the items that every model answered, in a stable order.

    In a review nothing is masked: its texts are what it keeps or corrects. Raises DataError, with
    file and line, for a damaged file, an item that comes twice or whose source differs between
    models, and where no item has all answers.
    """
    rows: dict[str, dict[str, _Row]] = defaultdict(dict)
    for model, source in study.models.items():
        for row, where in _answers(study, source.answers):
            if model in rows[row.item]:
                raise DataError(f"{where}: item {row.item!r} comes twice; keep one answer")
            rows[row.item][model] = row
            first = next(iter(rows[row.item].values()))
            if first.source != row.source:
                raise DataError(
                    f"{where}: item {row.item!r} has another source than for the first model; "
                    "compare answers to the same items"
                )
    complete = {item: found for item, found in rows.items() if len(found) == len(study.models)}
    if not complete:
        raise DataError(
            f"{study.name}: expected items that all of {', '.join(study.models)} answered, found "
            "none; check the item ids"
        )
    names = None if study.type == "review" else _names(study)
    return Material(
        items=tuple(_item(name, complete[name], names) for name in sorted(complete)),
        checks=tuple(_checks(study)),
        left_out={
            item: tuple(model for model in study.models if model not in found)
            for item, found in sorted(rows.items())
            if item not in complete
        },
        unmasked=tuple(name for name in names or () if not is_maskable(name)),
    )


def _names(study: Study) -> tuple[str, ...]:
    """Return what the models may call themselves."""
    return tuple(
        name
        for key, source in study.models.items()
        for name in ((key,) if source.names is None else source.names)
    )


def _item(name: str, rows: dict[str, _Row], names: tuple[str, ...] | None) -> Item:
    """Return an item. names: to mask in the answers; None: not even the common ones are."""
    first = next(iter(rows.values()))
    answers = {}
    for model, row in rows.items():
        shown, masked = row.answer, False
        if names is not None:
            shown, masked = mask(row.answer, first.source, names=names)
        answers[model] = Answer(model=model, text=row.answer, shown=shown, masked=masked)
    return Item(
        name=name,
        source=first.source,
        prompt=first.prompt or first.source,
        reference=first.reference,
        cluster=first.cluster or name,
        answers=answers,
    )


def _answers(study: Study, path: Path) -> Iterator[tuple[_Row, str]]:
    if path.is_dir():
        yield from _run_folder(study, path)
        return
    if not path.is_file():
        raise DataError(f"expected answers at {path}, found nothing; check the path")
    known = ("item", "source", "answer", "prompt", "reference", "cluster")
    for number, line in read_jsonl(path):
        where = f"{path} line {number}"
        if unknown := sorted(set(line) - set(known)):
            raise DataError(f"{where}: unknown keys {unknown}; known are {', '.join(known)}")
        yield (
            _Row(
                item=_text(str(line.get("item", "")), f"{where}: item", 200),
                source=_text(line.get("source", ""), f"{where}: source", MAX_TEXT, empty=True),
                answer=_text(line.get("answer"), f"{where}: answer", MAX_TEXT, empty=True),
                **{
                    key: None if line.get(key) is None else _text(line[key], where, MAX_TEXT)
                    for key in known[3:]
                },
            ),
            where,
        )


def _run_folder(study: Study, folder: Path) -> Iterator[tuple[_Row, str]]:
    """Yield a task's answers from the newest evaluation in a run folder, or one folder below."""
    if study.task is None:
        raise DataError(f"{folder} is a run folder: name its `task` in the study")
    found = [*folder.glob("results_*.json"), *folder.glob("*/results_*.json")]
    if not found:
        raise DataError(f"{folder}: expected a results_*.json, found none; finish the evaluation")
    newest = max(found, key=lambda path: path.name)  # names hold the ISO time
    stem = newest.stem.removeprefix("results_")
    path = newest.with_name(f"samples_{study.task}_{stem}.jsonl")
    if not path.is_file():
        raise DataError(f"expected {path}, found nothing; run {study.task} with samples logged")
    for number, sample in read_jsonl(path):
        where = f"{path} line {number}"
        doc = sample["doc"] if isinstance(sample.get("doc"), dict) else {}
        prompt = _text(_prompt(sample), f"{where}: prompt", MAX_TEXT)
        source = prompt if study.source is None else doc.get(study.source)
        reference = sample.get("target")
        yield (
            _Row(
                item=_text(str(doc.get("id", sample.get("doc_id"))), f"{where}: id", 200),
                source=_text(source, f"{where}: doc field {study.source!r}", MAX_TEXT),
                answer=_text(_response(sample), f"{where}: answer", MAX_TEXT, empty=True).strip(),
                prompt=prompt,
                reference=_text(reference, f"{where}: target", MAX_TEXT)
                if isinstance(reference, str) and reference.strip()
                else None,
                cluster=_text(str(doc["cluster"]), f"{where}: cluster", MAX_TEXT)
                if "cluster" in doc
                else None,
            ),
            where,
        )


def _prompt(sample: dict[str, Any]) -> Any:
    arguments = sample.get("arguments")
    first = arguments.get("gen_args_0") if isinstance(arguments, dict) else None
    prompt = first.get("arg_0") if isinstance(first, dict) else None
    return prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False)


def _response(sample: dict[str, Any]) -> Any:
    value = sample.get("filtered_resps", sample.get("resps"))
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value  # a log-likelihood is no text, and is refused as such


def _checks(study: Study) -> Iterator[Check]:
    if study.checks is None:
        return
    if not study.checks.is_file():
        raise DataError(f"checks: expected a JSON Lines file, found none at {study.checks}")
    count = 2 if study.paired else 1
    found = dict.fromkeys(CHECK_KINDS, 0)
    for number, line in read_jsonl(study.checks):
        where = f"{study.checks} line {number}"
        kind, answers, expected = (line.get(key) for key in ("kind", "answers", "expected"))
        if set(line) != {"kind", "source", "answers", "expected"} or kind not in CHECK_KINDS:
            raise DataError(
                f"{where}: expected kind ({' or '.join(CHECK_KINDS)}), source, answers and "
                f"expected, found {sorted(line)}"
            )
        if not isinstance(answers, list) or len(answers) != count:
            raise DataError(f"{where}: expected {count} answers, found {one_line(answers, 80)}")
        texts = tuple(_text(text, f"{where}: answers", MAX_TEXT) for text in answers)
        found[kind] += 1
        yield Check(
            kind=kind,
            source=_text(line["source"], f"{where}: source", MAX_TEXT, empty=True),
            answers=texts,
            expected=check_expected(study, expected, where),
        )
    for kind, asked in zip(CHECK_KINDS, (study.plan.gold, study.plan.attention), strict=True):
        if found[kind] < asked:
            raise DataError(
                f"{study.checks}: expected at least {asked} of kind {kind}, as plan asks of each "
                f"rater, found {found[kind]}"
            )


def _text(value: Any, where: str, limit: int, *, empty: bool = False) -> str:
    if not isinstance(value, str) or len(value) > limit or not (empty or value.strip()):
        raise DataError(
            f"{where}: expected a text of {'0' if empty else '1'} to {limit:,} characters, found "
            f"{type(value).__name__} {one_line(repr(value), 60)}"
        )
    return storable(value)
