import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hebench.metrics import text

sentences = st.text(st.sampled_from("אבגדהוימנש  ,.־״"), max_size=40)

HYPOTHESES = ["הילד אכל תפוח ירוק בגינה.", "אתמול ירד גשם כבד בצפון הארץ", ""]
REFERENCES = [
    "הילד אכל תפוח ירוק בחצר.",
    "אמש ירד גשם כבד בצפון.",
    "הרכבת מאחרת בעשר דקות.",
]


def test_identical_hebrew_scores_one() -> None:
    sentence = "ד״ר לוי לימדה בבית־ספר בחיפה."
    assert text.chrf(sentence, [sentence]) == pytest.approx(1)
    assert text.bleu(sentence, [sentence]) == pytest.approx(1)
    assert text.rouge(sentence, sentence) == dict.fromkeys(text.ROUGE_TYPES, pytest.approx(1))


def test_rouge_counts_words_as_a_hebrew_reader_does() -> None:
    found = text.rouge('ראש צה"ל דיבר', "ראש צה״ל דיבר.")
    assert found["rouge1"] == pytest.approx(1)
    by_whitespace = text.rouge('ראש צה"ל דיבר', "ראש צה״ל דיבר.", tokenizer="whitespace")
    assert by_whitespace["rouge1"] == pytest.approx(1 / 3)


def test_a_second_reference_can_only_help() -> None:
    prediction = "תלמדי היטב למבחן"
    one = text.chrf(prediction, ["תלמד היטב למבחן"])
    two = text.chrf(prediction, ["תלמד היטב למבחן", "תלמדי היטב למבחן"])
    assert one < two == pytest.approx(1)


def test_corpus_scores_take_varying_numbers_of_references() -> None:
    pairs = [("תפוח ירוק", ["תפוח ירוק", "תפוח בצבע ירוק"]), ("גשם כבד", ["גשם כבד"])]
    assert text.corpus_chrf(pairs) == pytest.approx(1)


@pytest.mark.parametrize("score", [text.chrf, text.bleu])
def test_no_reference_is_misuse(score: object) -> None:
    with pytest.raises(ValueError, match="at least one reference"):
        score("שלום", [])  # type: ignore[operator]
    with pytest.raises(ValueError, match="at least one reference"):
        score("שלום", "שלום")  # type: ignore[operator]


@pytest.mark.parametrize("score", [text.corpus_chrf, text.corpus_bleu])
def test_an_empty_corpus_is_misuse(score: object) -> None:
    with pytest.raises(ValueError, match="at least one"):
        score([])  # type: ignore[operator]


@given(prediction=sentences, reference=sentences)
def test_scores_stay_in_range(prediction: str, reference: str) -> None:
    values = [text.chrf(prediction, [reference]), text.bleu(prediction, [reference])]
    values += text.rouge(prediction, reference).values()
    assert all(0 <= value <= 1 for value in values)


@pytest.mark.parametrize(
    ("metric", "options", "score"),
    [("chrf", ["--chrf-word-order", "2"], text.corpus_chrf), ("bleu", [], text.corpus_bleu)],
)
def test_corpus_scores_equal_sacrebleus_own_command(
    tmp_path: Path, metric: str, options: list[str], score: object
) -> None:
    hypothesis, reference = tmp_path / "hyp.txt", tmp_path / "ref.txt"
    hypothesis.write_text("\n".join(HYPOTHESES) + "\n", encoding="utf-8")
    reference.write_text("\n".join(REFERENCES) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", str(reference), "-i", str(hypothesis)]
    command += ["-m", metric, *options, "--score-only", "--width", "8"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    pairs = [(left, [right]) for left, right in zip(HYPOTHESES, REFERENCES, strict=True)]
    assert 100 * score(pairs) == pytest.approx(float(printed), abs=1e-7)  # type: ignore[operator]


def test_signatures_name_version_and_options() -> None:
    found = text.signatures()
    assert "nw:2" in found["chrf"] and "version:" in found["chrf"]
    assert "tok:13a" in found["bleu"]
    assert "tok:hebrew" in found["rouge"]


def test_adapters_for_the_harness() -> None:
    doc = {"references": ["תפוח ירוק"], "target": "תפוח ירוק"}
    translated = text.process_translation(doc, [" תפוח ירוק "])
    assert translated["score"] == pytest.approx(1)
    assert translated["chrf_corpus"] == ("תפוח ירוק", ["תפוח ירוק"])
    assert text.process_summary(doc, [""])["score"] == 0.0


def test_every_reference_vector_agrees(shared: Path) -> None:
    """67 summaries scored by rouge-score with the whitespace tokenizer of mrl_eval."""
    lines = (shared / "vectors" / "rouge_whitespace.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 67
    for line in lines:
        vector = json.loads(line)
        found = text.rouge(vector["prediction"], vector["reference"], tokenizer="whitespace")
        for name in text.ROUGE_TYPES:
            assert found[name] == pytest.approx(vector[name], abs=1e-9), vector["id"]


def test_rows_of_counts_are_what_the_corpus_scores_add_up() -> None:
    """An empty answer has no n-gram to count; its reference still has."""
    pairs = [("הילד אכל תפוח ירוק", ["הילד אכל תפוח", "הילד אכל תפוח ירוק"]), ("", ["גשם כבד"])]
    bleu, chrf = text.bleu_statistics(pairs), text.chrf_statistics(pairs)
    assert bleu.tolist() == [[4, 4, 4, 3, 2, 1, 4, 3, 2, 1], [0, 2, 0, 0, 0, 0, 0, 0, 0, 0]]
    assert chrf.shape == (2, 24)
    assert chrf[0, :3].tolist() == [15, 15, 15]
    assert chrf[1, :3].tolist() == [0, 6, 0]
