"""MinHash-LSH deduplication: datatrove's phases, with signatures that need no model.

Two documents are duplicates if all rows of one band of their signatures agree: of a pair with
Jaccard similarity j that happens with chance 1 - (1 - j^rows)^bands.

Shapes: N shingles of a document, H = bands x rows hashes of its signature.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.utils.hashing import HashConfig
from datatrove.utils.word_tokenizers import WhitespaceTokenizer

from hebench.data.overlap import hebrew_words
from hebench.train.corpus.blocks.rules import Removals
from hebench.train.corpus.config import CorpusConfig
from hebench.train.corpus.tally import Tally

_SHINGLE_WORDS = 5
_SHINGLES_AT_A_TIME = 2048  # 2048 x 200 hashes are 3 MB, which the processor's cache holds
_MOST_CACHED_WORDS = 500_000
_RECORDS_READ = 4096  # of a file of signatures at a time


class _WordHashes(dict[str, int]):
    """A 64-bit hash of each word, the same in every process."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _MOST_CACHED_WORDS:
            self.clear()
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self[word] = int.from_bytes(digest, "little")
        return self[word]


class Signatures(MinhashDedupSignature):  # type: ignore[misc]
    """datatrove's signatures, of shingles of 5 words as a Hebrew reader would compare them."""

    def __init__(self, folder: Path, config: CorpusConfig) -> None:
        """folder: for the signatures."""
        # The tokenizer is never asked: get_shingles does the splitting. The default needs spaCy.
        super().__init__(str(folder), minhash_config(config), language=WhitespaceTokenizer())
        self.word_hashes = _WordHashes()

    def get_shingles(self, text: str) -> Any:
        """Return the hashes of all runs of five words, uint64 (N, 1); a shorter text is one run."""
        words = hebrew_words(text)
        if not words:
            return np.zeros((0, 1), dtype=np.uint64)
        hashes = np.fromiter(map(self.word_hashes.__getitem__, words), np.uint64, len(words))
        runs = hashes[: max(len(words) - _SHINGLE_WORDS + 1, 1)]
        for place in range(1, min(_SHINGLE_WORDS, len(words))):
            runs = runs * np.uint64(0x9E3779B97F4A7C15) + hashes[place : place + len(runs)]
        # Mixed well in all bits, so that one multiplication can reorder them.
        runs = (runs ^ (runs >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
        return (runs ^ (runs >> np.uint64(32))).reshape(-1, 1)

    def get_signature(self, shingles: Any) -> list[list[int]]:
        """Return the smallest value of each hash function, by band.

        Function i is the upper half of a_i x + b_i modulo 2^64, with a_i odd.
        """
        factors, terms = (each.ravel() for each in self.parameters)
        factors = factors | np.uint64(1)
        least = np.full(self.num_hashes, np.iinfo(np.uint64).max, dtype=np.uint64)
        for start in range(0, len(shingles), _SHINGLES_AT_A_TIME):
            values = shingles[start : start + _SHINGLES_AT_A_TIME] * factors
            values += terms
            np.minimum(least, values.min(axis=0), out=least)
        bands: list[list[int]] = (
            (least >> np.uint64(32)).reshape(self.config.num_buckets, -1).tolist()
        )
        return bands


def minhash_config(config: CorpusConfig) -> Any:
    """Return datatrove's MinHash settings."""
    return MinhashConfig(
        n_grams=_SHINGLE_WORDS,
        num_buckets=config.bands,
        hashes_per_bucket=config.rows,
        seed=config.seed + 1,
        # The functions are our own; `sha1` only keeps datatrove from asking for xxhash.
        hash_config=HashConfig(precision=32, hash_fc="sha1"),
    )


def deduplication(config: CorpusConfig, signatures: Path, pairs: Path, removed: Path) -> list[Any]:
    """Return (name, steps, tasks) of the phases between the signatures and the filter."""
    settings = minhash_config(config)
    buckets = MinhashDedupBuckets(
        str(signatures), str(pairs), config=settings, lines_to_buffer=_RECORDS_READ
    )
    clusters = MinhashDedupCluster(
        str(pairs), str(removed), config=settings, lines_to_buffer=_RECORDS_READ
    )
    return [("pairs", [buckets], config.bands), ("clusters", [clusters], 1)]


def without_duplicates(removed: Path, tally: Tally) -> Any:
    """Return the step that drops what the clusters say."""
    return MinhashDedupFilter(str(removed), exclusion_writer=Removals("duplicate", tally))
