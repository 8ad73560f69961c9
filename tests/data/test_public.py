"""The public sets on the mirrored files: counts, ids, and what is refused."""

import json
from pathlib import Path

import pytest

from hebench.data import public
from hebench.data.fetch import fetch
from hebench.data.load import NLI_LABELS, NULL_ANSWER, SENTIMENT_LABELS
from hebench.errors import DataError
from hebench.harness.tasks import prompts


def labels(docs: list[dict[str, object]]) -> list[int]:
    """How many documents each label has, in the order of the choices."""
    return [sum(doc["label"] == label for doc in docs) for label in range(len(docs[0]["choices"]))]  # type: ignore[arg-type]


def test_heq_validation(mirror: Path) -> None:
    found = public.heq(split="validation")
    docs = found["test"]
    assert len(docs) == 1501
    assert sum(doc["golds"] == [NULL_ANSWER] for doc in docs) == 443
    assert len(set(docs["id"])) == 1501 and len(set(docs["cluster"])) == 239
    assert docs[0]["id"] == "b226c4ed-f1ed-4ba5-a0a8-7440f3ad4e7b"
    assert docs[0]["golds"] == ["רבי אלעזר"]
    assert len(found["shots"]) == 3


def test_heq_in_the_papers_shape(mirror: Path) -> None:
    docs = public.heq_paper(split="validation")["test"]
    whole = public.heq(split="validation")["test"]
    by_passage: dict[str, int] = {}
    for cluster in whole["cluster"]:
        by_passage[cluster] = by_passage.get(cluster, 0) + 1
    assert len(docs) == sum(count for count in by_passage.values() if count >= 4) == 1417
    for doc in docs:
        assert len(doc["others"]) == 3
        assert doc["question"] not in [other["question"] for other in doc["others"]]


def test_sentiment_development_rows(mirror: Path) -> None:
    docs = public.sentiment(split="validation")["test"].to_list()
    assert len(docs) == len({doc["text"] for doc in docs}) == 1000
    assert docs[0]["choices"] == list(SENTIMENT_LABELS.values())
    assert labels(docs) == [698, 276, 26]
    again = public.sentiment(split="validation")["test"].to_list()
    assert again == docs


def test_sentiment_drops_test_rows_that_stand_in_training(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test file is not mirrored; the rule is shown on files of its form."""
    train, test = tmp_path / "train.tsv", tmp_path / "test.tsv"
    train.write_text("יופי של נאום\t0\nבושה וחרפה\t1\n", encoding="utf-8")
    rows = ["יופי  של נאום\t0", "כל הכבוד\t0", "כל הכבוד\t0", "לא יודע\t0", "לא יודע\t1", "מתי?\t2"]
    test.write_text("\n".join(rows) + "\n", encoding="utf-8")
    files = {"train": train, "test": test}
    monkeypatch.setattr(public, "fetch", lambda source, name: files[name])
    docs = public.sentiment()["test"].to_list()
    assert [doc["text"] for doc in docs] == ["כל הכבוד", "מתי?"]
    assert [doc["label"] for doc in docs] == [0, 2]
    test.write_text("בלי תווית\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 1: expected a text, a tab and 0, 1 or 2"):
        public.sentiment()


def test_nli_validation_leaves_out_the_row_without_a_label(mirror: Path) -> None:
    docs = public.nli(split="validation")["test"].to_list()
    assert len(docs) == len({doc["id"] for doc in docs}) == 1999
    assert labels(docs) == [654, 657, 688]
    assert docs[0]["choices"] == list(NLI_LABELS.values())


def test_nli_is_scored_against_the_hebrew_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"pairID": "1e", "promptID": 1, "translation1": "א", "translation2": "ב", "genre": "x"}
    path = tmp_path / "test.jsonl"
    full = row | {"original_label": "Entailment", "hebrew_label": "Contradiction"}
    path.write_text(json.dumps(full) + "\n", encoding="utf-8")
    monkeypatch.setattr(public, "fetch", lambda source, name: path)
    (doc,) = public.nli()["test"].to_list()
    assert doc["choices"][doc["label"]] == NLI_LABELS["contradiction"]
    path.write_text(json.dumps(row | {"original_label": "neutral"}) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 1: expected hebrew_label"):
        public.nli()
    path.write_text(json.dumps(row | {"hebrew_label": "maybe"}) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="expected one of entailment.*found 'maybe'"):
        public.nli()
    path.write_text(json.dumps({"hebrew_label": "neutral", "pairID": "1e"}), encoding="utf-8")
    with pytest.raises(DataError, match="line 1: expected genre, promptID, translation1"):
        public.nli()


@pytest.mark.parametrize("loader", [public.translation_en_he, public.translation_he_en])
def test_ntrex_is_clustered_by_document(mirror: Path, loader: object) -> None:
    found = loader()  # type: ignore[operator]
    assert len(found["test"]) == 1997 and len(set(found["test"]["cluster"])) == 123
    assert len(found["shots"]) == 3


def test_both_directions_are_the_same_pairs(mirror: Path) -> None:
    there = public.tatoeba_en_he()["test"].to_list()
    back = public.tatoeba_he_en()["test"].to_list()
    assert len(there) == 1000
    assert [(doc["source"], doc["target"]) for doc in there] == [
        (doc["target"], doc["source"]) for doc in back
    ]


def test_files_of_unequal_length_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "en").write_text("one\ntwo\n", encoding="utf-8")
    (tmp_path / "he").write_text("אחת\n", encoding="utf-8")
    monkeypatch.setattr(public, "fetch", lambda source, name: tmp_path / name)
    with pytest.raises(DataError, match="as many lines"):
        public.tatoeba_en_he()


def test_topics(mirror: Path) -> None:
    found = public.topic(split="validation")
    docs = found["test"].to_list()
    assert len(docs) == 99 and labels(docs) == [25, 20, 14, 12, 11, 9, 8]
    assert [doc["label"] for doc in found["shots"]] == list(range(7))


def test_grammar_pairs_differ_in_one_word(mirror: Path) -> None:
    docs = public.grammar()["test"].to_list()
    assert len(docs) == 7 * 140 == len({(doc["id"]) for doc in docs})
    for doc in docs:
        good, bad = (choice.split() for choice in doc["choices"])
        assert len(good) == len(bad)
        assert sum(left != right for left, right in zip(good, bad, strict=True)) == 1
        assert not any(word in "הובלמשכ" for word in good), doc["choices"]
    assert 440 < sum(doc["label"] for doc in docs) < 540  # which sentence comes first is mixed


def test_grammar_keeps_every_pair_of_words_of_a_phenomenon(mirror: Path) -> None:
    """The files list words in a grid; a choice at equal steps fell in with it and lost most."""

    def words(good: str, bad: str) -> tuple[str, str]:
        return next(
            (left, right)
            for left, right in zip(good.split(), bad.split(), strict=True)
            if left != right
        )

    chosen: dict[str, set[tuple[str, str]]] = {}
    for doc in public.grammar()["test"].to_list():
        good, bad = doc["choices"][doc["label"]], doc["choices"][1 - doc["label"]]
        chosen.setdefault(doc["phenomenon"], set()).add(words(good, bad))
    for phenomenon in public.GRAMMAR_FILES:
        sentences = [
            public.join_prefixes(line.partition("\t")[2])
            for line in fetch("clams", phenomenon).read_text(encoding="utf-8").splitlines()
        ]
        pairs = zip(sentences[::2], sentences[1::2], strict=True)
        assert chosen[phenomenon] == {words(good, bad) for good, bad in pairs}, phenomenon


@pytest.mark.parametrize(
    ("cut", "joined"),
    [
        ("ה מלצר ש ה שומר אוהב רוקד", "המלצר שהשומר אוהב רוקד"),
        ("ה מלצר דובר חמש שפות ו גר ב מרכז ה עיר", "המלצר דובר חמש שפות וגר במרכז העיר"),
        ("אב ו בן", "אב ובן"),
    ],
)
def test_prefixes_are_joined_to_their_words(cut: str, joined: str) -> None:
    assert public.join_prefixes(cut) == joined


def test_idioms(mirror: Path) -> None:
    found = public.idioms(split="validation")
    docs = found["test"].to_list()
    assert len(docs) == 432 and labels(docs) == [216, 216]
    assert len({doc["cluster"] for doc in docs}) == 54
    shown = {doc["idiom"] for doc in found["shots"]}
    assert len(found["shots"]) == 4 and not shown & {doc["idiom"] for doc in docs}


def test_nikud_lines_of_a_genre(mirror: Path) -> None:
    docs = public.nikud(split="wiki")["test"].to_list()
    assert len(docs) == 53 and len({doc["cluster"] for doc in docs}) == 10
    assert docs[0]["text"].startswith("העבודה נחשבת לאחת")
    with pytest.raises(DataError, match="is not in HEBENCH_MIRROR"):
        public.nikud()


@pytest.mark.parametrize(
    ("loader", "split"),
    [
        (public.heq, "train"),
        (public.nli, "dev"),
        (public.topic, "he_dev"),
        (public.idioms, "seen"),
        (public.nikud, "poems"),
        (public.sentiment, "train"),
        (public.hesum, "dev"),
    ],
)
def test_an_unknown_split_names_the_known_ones(loader: object, split: str) -> None:
    with pytest.raises(DataError, match=f"expected split .*test.*found '{split}'"):
        loader(split=split)  # type: ignore[operator]


def test_heq_v10_is_refused_for_its_inverted_flag(mirror: Path) -> None:
    (old,) = mirror.rglob("data v1.0/val.json")
    with pytest.raises(DataError, match=r"v1\.0|version"):
        list(public.read_heq(old))


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"answers": [], "is_impossible": "FALSE"}, "question q.*v1.0 layout"),
        ({"answers": [], "is_impossible": False}, "expected an answer"),
        ({"answers": [{"text": " "}], "is_impossible": False}, "expected an answer"),
    ],
)
def test_a_question_that_contradicts_itself_is_refused(
    tmp_path: Path, question: dict[str, object], message: str
) -> None:
    question = {"id": "q", "question": "מי?", **question}
    content = {
        "version": "v1.1",
        "data": [{"paragraphs": [{"context": "קטע", "qas": [question]}]}],
    }
    path = tmp_path / "heq.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        list(public.read_heq(path))


def test_summaries_with_other_columns_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "test.csv"
    path.write_text('summary,article\n"תקציר","כתבה,\nארוכה"\n', encoding="utf-8")
    monkeypatch.setattr(public, "fetch", lambda source, name: path)
    (doc,) = public.hesum()["test"].to_list()
    assert (doc["target"], doc["article"]) == ("תקציר", "כתבה,\nארוכה")
    path.write_text("text,title\na,b\n", encoding="utf-8")
    with pytest.raises(DataError, match="expected columns article, summary"):
        public.hesum()


def test_idioms_without_their_span_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "test.csv"
    path.write_text("id,sentence,base_pie,label_str\n1,א,ב,Literal\n", encoding="utf-8")
    monkeypatch.setattr(public, "fetch", lambda source, name: path)
    with pytest.raises(DataError, match="expected columns .*pie_span"):
        public.idioms()


def test_a_sub_heading_is_asked_for_and_no_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "test.csv"
    path.write_text("summary,article\nתקציר,כתבה ארוכה\n", encoding="utf-8")
    monkeypatch.setattr(public, "fetch", lambda source, name: path)
    (prompt,) = prompts("hebench_hesum", 1)
    assert prompt == (
        "כתבו לכתבה כותרת משנה של משפט אחד או שניים.\n\nכתבה: כתבה ארוכה\n\nכותרת משנה:"
    )
