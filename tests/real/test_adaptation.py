"""Distillation and calibration of the demo model on the shared training text, two minutes."""

import gzip
import json
from pathlib import Path

import pytest

from hebench.models import demo
from hebench.train import calibrate, distil, heads, tokenizer

pytestmark = pytest.mark.slow

SOURCES = {"he": ("wikipedia", "knesset"), "en": ("standardebooks",)}


@pytest.fixture(scope="module")
def corpus(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some documents of three sources, in the form that the corpus stage leaves."""
    folder = tmp_path_factory.mktemp("corpus")
    for code, names in SOURCES.items():
        for name in names:
            path = shared / "data" / f"corpus-{code}" / f"{name}.jsonl.gz"
            if not path.is_file():
                pytest.skip(f"needs the training text: no {path}")
            with gzip.open(path, "rt", encoding="utf-8") as stream:
                texts = [json.loads(next(stream))["text"][:4000] for _ in range(60)]
            for part, some in (("train", texts[:50]), ("heldout", texts[50:])):
                target = folder / part / code / f"{name}.jsonl"
                target.parent.mkdir(parents=True, exist_ok=True)
                lines = [json.dumps({"text": text}) for text in some]
                target.write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_a_real_model_reads_new_pieces_like_old_ones_and_then_writes_them(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "_STUDENT_STATES", 2000)  # to be done in two minutes
    monkeypatch.setattr(heads, "_OTHER_STATES", 600)
    base = demo.obtain()
    extension = tokenizer.TokenizerConfig(language="he", tokens=300, curve_tokens=300)
    tokenizer.run(extension, model=base, corpus=corpus, out=tmp_path / "tokenizer")
    distilled = distil.run(
        distil.DistilConfig(
            language="he",
            passages=250,
            steps=36,
            shallow_share=0.8,
            heldout_words=100,
            threads=1,
        ),
        model=base,
        tokenizer=tmp_path / "tokenizer" / tokenizer.FOLDER,
        corpus=corpus,
        out=tmp_path / "distil",
    ).metrics
    assert distilled["relative_error"] < 0.8 * distilled["relative_error_initial"]
    assert distilled["bits_per_byte"] < distilled["bits_per_byte_mean_rows"]
    calibrated = calibrate.run(
        calibrate.CalibrateConfig(
            shares={"he": 0.8, "en": 0.2},
            passages=100,
            steps=8,
            head_steps=16,
            head_language="he",
            heldout_words=100,
            threads=1,
        ),
        model=tmp_path / "distil" / distil.MODEL,
        corpus=corpus,
        out=tmp_path / "calibrate",
    ).metrics
    assert calibrated["bits_per_byte.he"] < 0.95 * calibrated["bits_per_byte_before.he"]
    assert calibrated["bits_per_byte.en"] < 1.1 * calibrated["bits_per_byte_before.en"]
