"""The rules that every item of the sets written for hebench is held to."""

import ast
import itertools
import json
import operator
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from hebench.data import load
from hebench.hebrew import strip_marks, words

FOLDER = Path(load.__file__).parent / "mini"
FILES = sorted(FOLDER.glob("*/*.jsonl"))
CARDS = Path(__file__).parents[2] / "data_cards"
CAPABILITIES = (
    "qa",
    "sentiment",
    "winograd",
    "translation",
    "summarization",
    "nli",
    "trivia",
    "grammar",
    "math",
    "nikud",
    "instructions",
)
SHOTS = {
    "qa": 3,
    "sentiment": 9,
    "winograd": 5,
    "translation": 3,
    "nli": 3,
    "trivia": 3,
    "math": 4,
    "nikud": 3,
}
# Words that writers of Hebrew are at two minds about: one spelling for all sets (ktiv male).
FORBIDDEN = {
    "מייד": r"[ושה]{0,2}מיד",
    "אי־אפשר": r"[ושה]{0,2}אי אפשר",
    "חנייה": r"[והבלמשכ]{0,3}חניה",
    "כינרת": r"[והבלמשכ]{0,3}כנרת",
    "דאלית אל־כרמל": r"[והבלמשכ]{0,2}(?:דלית|דליית|דאליית)[ ־]אל",
}
CANARY = re.compile(r"hebench-mini canary [0-9a-f]{8}-[0-9a-f-]{27}")

Record = dict[str, Any]


def strings(value: Any) -> Iterator[str]:
    """Every string of a record, keys aside."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for child in value.values():
            yield from strings(child)
    elif isinstance(value, list):
        for child in value:
            yield from strings(child)


def hebrew_strings(capability: str) -> Iterator[tuple[str, str]]:
    """(id, text) of every string in Hebrew, shots included."""
    for part in ("items", "shots"):
        if part == "shots" and capability not in SHOTS:
            continue
        for record in load.mini_records(capability, part):
            for text in strings(record):
                if re.search("[א-ת]", text):
                    yield record["id"], text


def main_text(capability: str, record: Record) -> str:
    field = {
        "qa": "passage",
        "sentiment": "text",
        "winograd": "sentence",
        "translation": "en",
        "summarization": "article",
        "nli": "hypothesis",
        "trivia": "question",
        "grammar": "good",
        "math": "question",
        "nikud": "text",
        "instructions": "instruction",
    }
    value = record[field[capability]]
    return value[0] if isinstance(value, list) else value


def is_chance(right: int, n: int, chance: float) -> bool:
    """Whether chance lies in the exact 95 % interval of a guesser's score."""
    interval = binomtest(right, n).proportion_ci(0.95)
    return interval.low <= chance <= interval.high


# ------------------------------------------------------------------------------- every set


def test_all_sets_are_there() -> None:
    expected = {f"{name}/items.jsonl" for name in CAPABILITIES}
    expected |= {f"{name}/shots.jsonl" for name in SHOTS}
    expected.add("idioms/shots.jsonl")  # the public set's shots
    assert {path.relative_to(FOLDER).as_posix() for path in FILES} == expected


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_each_file_opens_with_licence_version_and_canary(path: Path) -> None:
    head = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    assert head["licence"] == "CC BY 4.0"
    assert head["set"] == f"hebench_mini/{path.parent.name}"
    assert CANARY.search(head["canary"])
    if path.parent.name == "idioms":  # shots of a public set
        return
    card = CARDS / f"mini-{path.parent.name}.md"
    text = card.read_text(encoding="utf-8")
    assert f"`hebench/data/mini/{path.parent.name}/`, version {head['version']}. " in text
    assert f": {head['set']} {head['version']}." in text


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_text_is_plain(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == unicodedata.normalize("NFC", text)
    for char in set(text):
        category = unicodedata.category(char)
        assert char == "\n" or category not in {"Cc", "Cf", "Co", "Cn", "Zl", "Zp"}, hex(ord(char))
        assert char == " " or category != "Zs", hex(ord(char))
    for line in text.splitlines()[1:]:
        for value in strings(json.loads(line)):
            assert value == value.strip() and "  " not in value and " \n" not in value, value
            assert strip_marks(value) == value or path.parent.name == "nikud", value


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_hebrew_uses_its_own_punctuation(capability: str) -> None:
    if capability == "instructions":
        return  # examples may be JSON or lists; metrics/test_instructions.py reads them
    for identity, text in hebrew_strings(capability):
        assert not re.search("[א-ת][\"'`’”-]|[\"'`“„-][א-ת]", text), (identity, text)
        acronyms = len(re.findall("[א-ת]״[א-ת](?:ית|ים|ות)?(?![א-ת״])", text))
        assert (text.count("״") - acronyms) % 2 == 0, (identity, text)
        assert not re.search(" [,.;:!?]|,[א-ת]", text), (identity, text)


@pytest.mark.parametrize(("spelling", "variant"), FORBIDDEN.items())
def test_a_word_is_spelled_one_way_in_all_sets(spelling: str, variant: str) -> None:
    pattern = re.compile(rf"(?<![א-ת]){variant}(?![א-ת])")
    assert not pattern.search(spelling)
    for capability in CAPABILITIES:
        for identity, text in hebrew_strings(capability):
            assert not pattern.search(text), (identity, f"write {spelling}")


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_ids_are_unique_and_stable_in_form(capability: str) -> None:
    form = {
        "qa": r"qa-\d{3}",
        "sentiment": r"se-\d{3}",
        "winograd": r"wg-\d{3}[ab]",
        "translation": r"tr-\d{3}",
        "summarization": r"su-\d{3}",
        "nli": r"nli-\d{3}[abc]",
        "trivia": r"tv-\d{3}",
        "grammar": r"gr-\d{3}",
        "math": r"ma-\d{3}",
        "nikud": r"nk-\d{3}",
        "instructions": r"in-\d{3}",
    }[capability]
    records = load.mini_records(capability)
    identities = [record["id"] for record in records]
    assert len(set(identities)) == len(identities)
    assert all(re.fullmatch(form, identity) for identity in identities)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_no_two_items_are_alike(capability: str) -> None:
    """No pair shares half of its five-word sequences (items of one schema or premise aside)."""
    records = load.mini_records(capability)
    if capability in SHOTS:
        records = records + load.mini_records(capability, "shots")
    shingles = {}
    for record in records:
        found = words(main_text(capability, record))
        shingles[record["id"]] = {tuple(found[i : i + 5]) for i in range(max(1, len(found) - 4))}
    for (left, a), (right, b) in itertools.combinations(shingles.items(), 2):
        if capability in {"winograd", "nli"} and left[:-1] == right[:-1]:
            continue
        assert len(a & b) / min(len(a), len(b)) < 0.5, (left, right)


@pytest.mark.parametrize("capability", sorted(SHOTS))
def test_shots_are_as_many_as_promised_and_not_in_the_set(capability: str) -> None:
    shots = load.mini_records(capability, "shots")
    assert len(shots) == SHOTS[capability]
    items = {main_text(capability, record) for record in load.mini_records(capability)}
    assert not items & {main_text(capability, record) for record in shots}


# ----------------------------------------------------------------------------- questions


def test_passages_and_questions_are_as_promised() -> None:
    records = load.mini_records("qa")
    questions = [question for record in records for question in record["questions"]]
    assert len(records) >= 40
    assert len(questions) >= 140
    assert len({record["domain"] for record in records}) >= 10
    assert all(80 <= len(record["passage"].split()) <= 160 for record in records)
    assert len({question["question"] for question in questions}) == len(questions)
    unanswerable = sum(not question["answers"] for question in questions)
    assert 0.15 <= unanswerable / len(questions) <= 0.25


def test_spans_are_found_verbatim() -> None:
    for part in ("items", "shots"):
        for record in load.mini_records("qa", part):
            for question in record["questions"]:
                where = question["id"]
                assert question["id"].startswith(record["id"] + "-")
                assert question["question"].endswith("?"), where
                spans = question["answers"] or [question["wrong_span"]]
                assert all(span and span in record["passage"] for span in spans), where
                assert bool(question["answers"]) == (question["wrong_span"] is None), where
                assert len(set(question["answers"])) == len(question["answers"]), where
                assert all(len(span.split()) <= 12 for span in spans), where


def test_the_place_of_an_answer_is_not_given_away() -> None:
    places = [
        record["passage"].index(question["answers"][0]) / len(record["passage"])
        for record in load.mini_records("qa")
        for question in record["questions"]
        if question["answers"]
    ]
    thirds = np.histogram(places, bins=(0, 1 / 3, 2 / 3, 1))[0] / len(places)
    assert thirds.min() > 0.22 and thirds.max() < 0.45


def test_which_question_is_unanswerable_is_not_given_away() -> None:
    """Neither its place among the passage's questions nor its length tells."""
    records = [
        record
        for record in load.mini_records("qa")
        if any(not question["answers"] for question in record["questions"])
    ]
    first = sum(not record["questions"][0]["answers"] for record in records)
    last = sum(not record["questions"][-1]["answers"] for record in records)
    expected = float(np.mean([1 / len(record["questions"]) for record in records]))
    assert is_chance(first, len(records), expected) and is_chance(last, len(records), expected)
    longest = sum(
        not max(record["questions"], key=lambda question: len(question["question"]))["answers"]
        for record in records
    )
    assert is_chance(longest, len(records), expected)


# ----------------------------------------------------------------------------- sentiment


def test_sentiment_is_balanced() -> None:
    records = load.mini_records("sentiment")
    assert Counter(record["label"] for record in records) == dict.fromkeys(
        ("positive", "negative", "neutral"), 50
    )
    assert len({record["domain"] for record in records}) >= 8
    assert len({record["register"] for record in records}) >= 8
    wanted = {"negation", "sarcasm", "mixed", "slang"}
    assert wanted <= {name for record in records for name in record["phenomena"]}
    shots = Counter(record["label"] for record in load.mini_records("sentiment", "shots"))
    assert set(shots.values()) == {3}


def test_length_does_not_give_the_sentiment_away() -> None:
    lengths: dict[str, list[int]] = {}
    for record in load.mini_records("sentiment"):
        lengths.setdefault(record["label"], []).append(len(record["text"].split()))
    means = [float(np.mean(values)) for values in lengths.values()]
    assert max(means) / min(means) < 1.15


def test_labels_are_shuffled_over_the_ids() -> None:
    """Guessing each label from the item before scores like chance."""
    labels = [record["label"] for record in load.mini_records("sentiment")]
    repeats = sum(left == right for left, right in itertools.pairwise(labels))
    assert is_chance(repeats, len(labels) - 1, 1 / 3)


# ------------------------------------------------------------------------------ winograd


def test_winograd_pairs_flip() -> None:
    pairs: dict[str, list[Record]] = {}
    for record in load.mini_records("winograd"):
        assert record["id"][:-1] == record["pair"]
        pairs.setdefault(record["pair"], []).append(record)
    assert len(pairs) == 75
    for name, (a, b) in pairs.items():
        assert a["options"] == b["options"], name
        assert {a["label"], b["label"]} == {0, 1}, name
        left, right = a["sentence"].split(), b["sentence"].split()
        prefix = next(
            (i for i, (x, y) in enumerate(zip(left, right, strict=False)) if x != y), len(left)
        )
        suffix = next(
            i for i, (x, y) in enumerate(zip(left[::-1], right[::-1], strict=False)) if x != y
        )
        assert max(len(left), len(right)) - prefix - suffix <= 5, name


def test_winograd_guessers_are_at_chance() -> None:
    records = load.mini_records("winograd")
    n = len(records)
    first = sum(record["label"] == 0 for record in records)
    longest = sum(
        len(record["options"][record["label"]]) > len(record["options"][1 - record["label"]])
        for record in records
    )
    unequal = sum(len(record["options"][0]) != len(record["options"][1]) for record in records)
    assert first == n / 2
    assert longest == unequal / 2
    # The order of the options follows the order of first mention in half of the pairs.
    in_order = sum(_mentioned_first(record) == 0 for record in records)
    assert is_chance(in_order, n, 0.5)
    # Among the first items of the pairs, which a small --limit takes, labels are balanced, too.
    assert is_chance(sum(r["label"] for r in records if r["id"].endswith("a")), n // 2, 0.5)


def _mentioned_first(record: Record) -> int:
    """The option that the sentence mentions first, by its last word (prefixes may be glued on)."""
    places = []
    for option in record["options"]:
        last = option.split()[-1]
        place = record["sentence"].find(last)
        if place < 0:
            place = record["sentence"].find(last.removeprefix("ה"))
        places.append(place if place >= 0 else len(record["sentence"]))
    return int(places[1] < places[0])


def test_winograd_options_are_of_a_kind() -> None:
    for record in load.mini_records("winograd"):
        lengths = sorted(len(option) for option in record["options"])
        assert lengths[1] <= 2 * lengths[0], record["id"]
        assert record["question"].endswith("?"), record["id"]
        assert 10 <= len(record["sentence"].split()) <= 36, record["id"]


# --------------------------------------------------------------------------- translation


def test_translation_is_as_promised() -> None:
    records = load.mini_records("translation")
    assert len(records) >= 120
    assert len({record["register"] for record in records}) >= 12
    tags = Counter(name for record in records for name in record["phenomena"])
    for name, least in {
        "idiom": 20,
        "number": 15,
        "name": 20,
        "gendered_address": 15,
        "plural_address": 8,
    }.items():
        assert tags[name] >= least, name
    assert sum(len(record["he"]) + len(record["en"]) > 2 for record in records) >= 40
    for record in records:
        assert 1 <= len(record["en"]) <= 2 and 1 <= len(record["he"]) <= 2, record["id"]
        assert len(set(record["he"])) == len(record["he"]), record["id"]
        for text in record["en"] + record["he"]:
            assert 5 <= len(text.split()) <= 50, record["id"]
        assert not any(re.search("[א-ת]", text) for text in record["en"]), record["id"]
        assert all(re.search("[א-ת]", text) for text in record["he"]), record["id"]
        assert not any(
            re.search("[\u2018\u2019\u201c\u201d\u2013\u2014]", text) for text in record["en"]
        ), record["id"]


# ------------------------------------------------------------------------- summarization


def test_summaries_are_as_promised() -> None:
    records = load.mini_records("summarization")
    assert len(records) >= 30
    for record in records:
        where = record["id"]
        assert 250 <= len(record["article"].split()) <= 400, where
        assert 5 <= len(record["facts"]) <= 8, where
        assert len(set(record["facts"])) == len(record["facts"]), where
        sentences = re.split(r"(?<=[.!?])\s+(?=\S)", record["summary"])
        assert 4 <= len(sentences) <= 5, where
        article, summary = words(record["article"]), words(record["summary"])
        copied = {tuple(article[i : i + 8]) for i in range(len(article) - 7)}
        assert not copied & {tuple(summary[i : i + 8]) for i in range(len(summary) - 7)}, where


def test_summaries_state_only_numbers_of_their_article() -> None:
    """A number in a summary or fact stands in the article.

    Checked by hand: two sums, and two numbers that the article writes in words.
    """
    sums = {"su-003": {"24"}, "su-009": {"12,000"}, "su-011": {"10"}, "su-016": {"600"}}
    for record in load.mini_records("summarization"):
        stated = {
            number
            for text in [record["summary"], *record["facts"]]
            for number in re.findall(r"\d[\d,.:]*\d|\d", text)
        }
        known = set(re.findall(r"\d[\d,.:]*\d|\d", record["article"] + record["title"]))
        assert stated <= known | sums.get(record["id"], set()), record["id"]


# ----------------------------------------------------------------------------- inference


def test_inference_is_balanced_and_not_guessable_by_form() -> None:
    records = load.mini_records("nli")
    triples: dict[str, set[str]] = {}
    for record in records:
        triples.setdefault(record["pair"], set()).add(record["label"])
    assert len(records) >= 120
    assert set(map(frozenset, triples.values())) == {frozenset(load.NLI_LABELS)}
    assert len(records) == 3 * len(triples)
    lengths = {
        label: float(np.mean([len(r["hypothesis"]) for r in records if r["label"] == label]))
        for label in load.NLI_LABELS
    }
    assert max(lengths.values()) / min(lengths.values()) < 1.1
    negations = Counter(
        record["label"]
        for record in records
        if set(words(record["hypothesis"])) & {"לא", "אין", "בלי", "אף", "מעולם", "אינו", "אינה"}
    )
    assert max(negations.values(), default=0) <= 6
    for identity in ("a", "b", "c"):
        counted = Counter(r["label"] for r in records if r["id"].endswith(identity))
        assert max(counted.values()) <= 0.5 * sum(counted.values())


def test_a_hypothesis_only_guesser_is_near_chance() -> None:
    """Naive Bayes on the words of hypotheses, leaving out one premise at a time."""
    records = load.mini_records("nli")
    right = 0
    for held in sorted({record["pair"] for record in records}):
        counts = {label: Counter[str]() for label in load.NLI_LABELS}
        for record in records:
            if record["pair"] != held:
                counts[record["label"]].update(words(record["hypothesis"]))
        size = len(set().union(*counts.values()))
        for record in (record for record in records if record["pair"] == held):
            scores = {
                label: sum(
                    np.log((found[word] + 1) / (found.total() + size))
                    for word in words(record["hypothesis"])
                )
                for label, found in counts.items()
            }
            right += max(scores, key=lambda label: scores[label]) == record["label"]
    assert right / len(records) < 0.43


# -------------------------------------------------------------------------------- trivia


def test_trivia_is_balanced() -> None:
    records = load.mini_records("trivia")
    assert len(records) >= 200
    n = len(records)
    for label in range(4):
        assert is_chance(sum(record["label"] == label for record in records), n, 0.25)
    for pick in (max, min):
        right = 0.0
        for record in records:
            lengths = [len(option) for option in record["options"]]
            extreme = [i for i, length in enumerate(lengths) if length == pick(lengths)]
            right += (record["label"] in extreme) / len(extreme)
        assert is_chance(round(right), n, 0.25), pick
    for record in records:
        assert len(set(record["options"])) == 4, record["id"]
        answer = record["options"][record["label"]]
        assert answer not in record["question"], record["id"]


# --------------------------------------------------------------------------------- cards


def sizes() -> Iterator[tuple[str, str]]:
    """Yield what each card says of its set's size, counted anew."""

    def spread(texts: list[str]) -> str:
        counts = [len(text.split()) for text in texts]
        return f"{min(counts)}-{max(counts)} words"

    qa = load.mini_records("qa")
    questions = [question for record in qa for question in record["questions"]]
    answers = [answer for question in questions for answer in question["answers"]]
    yield "qa", f"{len(qa)} passages of {spread([record['passage'] for record in qa])}"
    yield "qa", f"{len(questions)} questions, {sum(not q['answers'] for q in questions)} of them"
    yield "qa", f"exact spans of the passage, {spread(answers)}"
    found = load.mini_records("summarization")
    yield "summarization", f"{len(found)} articles of {spread([r['article'] for r in found])}"
    yield "summarization", f"summary of {spread([r['summary'] for r in found])}"
    yield "summarization", f"({sum(len(r['facts']) for r in found)} in all)"
    found = load.mini_records("nli")
    premises = {record["pair"]: record["premise"] for record in found}
    yield "nli", f"{len(found)} items: {len(premises)} premises of {spread([*premises.values()])}"
    found = load.mini_records("grammar")
    counts = Counter(record["phenomenon"] for record in found)
    least, most = min(counts.values()), max(counts.values())
    yield "grammar", f"{len(found)} pairs over {len(counts)} phenomena, {least}-{most} each"
    found = load.mini_records("nikud")
    yield "nikud", f"{len(found)} sentences of {spread([record['text'] for record in found])}"


@pytest.mark.parametrize(("capability", "stated"), list(sizes()))
def test_cards_state_the_sizes_that_the_files_have(capability: str, stated: str) -> None:
    card = (CARDS / f"mini-{capability}.md").read_text(encoding="utf-8")
    assert stated in " ".join(card.split())


# ------------------------------------------------------------------------------- grammar


def test_grammar_pairs_differ_in_one_word() -> None:
    records = load.mini_records("grammar")
    counts = Counter(record["phenomenon"] for record in records)
    assert len(records) >= 400 and len(counts) >= 12 and min(counts.values()) >= 12
    assert len({record["good"] for record in records}) == len(records)
    bad = {record["bad"] for record in records}
    assert not bad & {record["good"] for record in records}
    for record in records:
        left, right = record["good"].split(), record["bad"].split()
        assert len(left) == len(right), record["id"]
        assert sum(a != b for a, b in zip(left, right, strict=True)) == 1, record["id"]


def test_length_does_not_give_the_grammatical_sentence_away() -> None:
    records = load.mini_records("grammar")
    longer = sum(len(record["good"]) > len(record["bad"]) for record in records)
    unequal = sum(len(record["good"]) != len(record["bad"]) for record in records)
    assert is_chance(longer, unequal, 0.5)


# ---------------------------------------------------------------------------------- math


def value_of(expression: str) -> Fraction:
    """The exact value of an arithmetic expression, by its syntax tree and nothing else."""
    operations = {
        ast.Add: operator.add,
        ast.Sub: operator.sub,
        ast.Mult: operator.mul,
        ast.Div: operator.truediv,
        ast.FloorDiv: operator.floordiv,
        ast.Mod: operator.mod,
        ast.Pow: operator.pow,
    }

    def value(node: ast.expr) -> Fraction:
        if isinstance(node, ast.BinOp):
            return Fraction(operations[type(node.op)](value(node.left), value(node.right)))
        assert isinstance(node, ast.Constant) and isinstance(node.value, int | float), expression
        return Fraction(str(node.value))

    return value(ast.parse(expression, mode="eval").body)


def test_word_problems_work_out() -> None:
    for part in ("items", "shots"):
        for record in load.mini_records("math", part):
            assert value_of(record["expression"]) == record["answer"], record["id"]
            assert isinstance(record["answer"], int) and 0 <= record["answer"] <= 100_000
            assert record["question"].endswith("?"), record["id"]
            stated = f"{record['answer']:,}"
            assert record["solution"].endswith(
                (f"התשובה: {stated}.", f"התשובה: {record['answer']}.")
            ), record["id"]
    assert len(load.mini_records("math")) >= 120


# --------------------------------------------------------------------------------- nikud


def test_points_change_no_letter() -> None:
    for part in ("items", "shots"):
        for record in load.mini_records("nikud", part):
            assert strip_marks(record["pointed"]) == record["text"] != record["pointed"]
            pointed = [word for word in record["pointed"].split() if strip_marks(word) != word]
            assert len(pointed) >= 0.8 * len(record["text"].split()), record["id"]
    assert len(load.mini_records("nikud")) >= 60


# -------------------------------------------------------------------------- instructions


def test_instructions_are_as_many_as_promised() -> None:
    records = load.mini_records("instructions")
    assert len(records) >= 60
    assert all(1 <= len(record["checks"]) <= 3 for record in records)
    assert len({check["kind"] for record in records for check in record["checks"]}) >= 15
