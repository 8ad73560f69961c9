"""MinHash deduplication of the corpus stage against the similarity that it estimates."""

import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from datatrove.data import Document

from hebench.config import build
from hebench.train.corpus import CorpusConfig
from hebench.train.corpus.blocks.executors import execute
from hebench.train.corpus.blocks.minhash import Signatures, deduplication, without_duplicates
from hebench.train.corpus.report import chance_found
from hebench.train.corpus.tally import Tally

WORDS = [f"{first}{second}" for first in "אבגדהוזחטיכלמנסעפצקרשת" for second in "אבגדהוזחטי"]


def config(**changes: int) -> CorpusConfig:
    inputs = {"hebrew": {"language": "he", "path": "unused"}}
    return build(CorpusConfig, {"language": "he", "inputs": inputs, **changes}, "test")


def signatures(tmp_path: Path, **changes: int) -> Signatures:
    return Signatures(tmp_path / "signatures", config(**changes))


def shingles(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return set(zip(*(words[place:] for place in range(5)), strict=False))


def jaccard(one: str, other: str) -> float:
    return len(shingles(one) & shingles(other)) / len(shingles(one) | shingles(other))


def near_copy(text: str, share: float, chosen: random.Random) -> str:
    """The text with about `share` of its words replaced."""
    return " ".join(
        chosen.choice(WORDS) if chosen.random() < share else word for word in text.split()
    )


def made_text(chosen: random.Random, words: int = 300) -> str:
    return " ".join(chosen.choices(WORDS, k=words))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.05, 0.1, 1.0])
def test_signatures_agree_as_often_as_the_texts_are_similar(tmp_path: Path, share: float) -> None:
    step, chosen = signatures(tmp_path, bands=60, rows=10), random.Random(5)
    one = made_text(chosen)
    other = near_copy(one, share, chosen)
    rows = [np.ravel(step.get_signature(step.get_shingles(text))) for text in (one, other)]
    # 600 hash functions: the share that agrees is exact to 0.02, one standard deviation.
    assert np.mean(rows[0] == rows[1]) == pytest.approx(jaccard(one, other), abs=0.07)


def test_a_signature_is_the_least_value_of_each_function_in_any_order(tmp_path: Path) -> None:
    step, chosen = signatures(tmp_path, bands=2, rows=3), random.Random(1)
    found = step.get_shingles(made_text(chosen, 5000))  # more than is looked at in one piece
    factors, terms = (each.ravel().tolist() for each in step.parameters)
    expected = [
        min((int(value) * (factor | 1) + term) % 2**64 for value in found.ravel()) >> 32
        for factor, term in zip(factors, terms, strict=True)
    ]
    assert np.ravel(step.get_signature(found)).tolist() == expected
    shuffled = np.random.default_rng(0).permutation(found)
    assert step.get_signature(shuffled) == step.get_signature(found)


def test_points_quotes_and_dashes_do_not_hide_a_duplicate(tmp_path: Path) -> None:
    step = signatures(tmp_path)
    plain = step.get_shingles('ביום שני הגיע צה"ל אל בית הספר שבצפון')
    pointed = step.get_shingles("בְּיוֹם שני, הגיע צה״ל אל בית־הספר שבצפון.")
    assert plain.tolist() == pointed.tolist()


def test_a_text_shorter_than_a_shingle_is_compared_as_a_whole(tmp_path: Path) -> None:
    step = signatures(tmp_path)
    assert len(step.get_shingles("תודה רבה לכולם")) == 1
    assert step.get_shingles("תודה רבה") != step.get_shingles("תודה רבה לכולם")
    assert len(step.get_shingles("… – !")) == 0


def deduplicated(texts: list[str], folder: Path, **changes: int) -> list[str]:
    """The texts that are left of one task's."""
    asked = config(tasks=1, **changes)
    documents = [
        Document(text=text, id=str(place), metadata={"language": "he", "source": "made"})
        for place, text in enumerate(texts)
    ]
    found = folder / "signatures"
    execute(asked, "signatures", [documents, Signatures(found, asked)], 1, folder / "logs")
    for name, steps, tasks in deduplication(asked, found, folder / "pairs", folder / "removed"):
        execute(asked, name, steps, tasks, folder / "logs")
    step = without_duplicates(folder / "removed", Tally())
    return [document.text for document in step.run(iter(documents), 0, 1)]


def test_near_copies_go_and_texts_with_common_phrases_stay(tmp_path: Path) -> None:
    chosen = random.Random(2)
    originals = [made_text(chosen) for _ in range(30)]
    close = [near_copy(text, 0.006, chosen) for text in originals[:10]]
    distant = [near_copy(text, 0.12, chosen) for text in originals[10:20]]
    assert min(map(jaccard, originals[:10], close)) > 0.88
    assert max(map(jaccard, originals[10:20], distant)) < 0.55
    # A pair of 0.88 is missed once in 500, one of 0.55 taken once in 20.
    left = deduplicated([*originals, *close, *distant], tmp_path, bands=20, rows=10)
    assert set(originals[20:]) <= set(left)
    assert len(set(originals[10:20]) & set(left)) + len(set(distant) & set(left)) >= 18
    for pair in zip(originals, close, strict=False):
        assert len(set(pair) & set(left)) == 1


def test_of_many_copies_one_stays(tmp_path: Path) -> None:
    chosen = random.Random(3)
    text, other = made_text(chosen), made_text(chosen)
    left = deduplicated([text, other, text, "תודה רבה", text, "תודה רבה"], tmp_path, bands=2)
    assert sorted(left) == sorted([text, other, "תודה רבה"])


def test_the_chance_of_finding_a_pair_rises_with_its_similarity() -> None:
    chances = [chance_found(share, 20, 10) for share in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)]
    assert all(low < high for low, high in pairwise(chances))
    assert chances[3] == pytest.approx(0.897, abs=0.001)
    assert chances[0] < 0.02
