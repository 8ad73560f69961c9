import contextlib
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from hebench.data.fetch import checksum_of, fetch, lookup, sources
from hebench.errors import ConfigError, DataError
from hebench.files import cache_folder, sha256_of

FILE = sources()["heq"].files["validation"]


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A real HTTP server over an empty folder: (its URL, the folder)."""
    root = tmp_path / "served"
    root.mkdir()
    handler = partial(QuietHandler, directory=str(root))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", root
        running.shutdown()
        thread.join()


def test_a_mirror_folder_stands_in_for_the_network(mirror: Path) -> None:
    path = fetch("heq", "validation")
    assert path.is_relative_to(cache_folder())
    assert sha256_of(path) == FILE.sha256
    assert path.stat().st_size == FILE.bytes
    assert [other.name for other in path.parent.glob(".*")] == [f".{path.name}.lock"]


def test_what_the_cache_holds_is_not_fetched_again(
    mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fetch("heq", "validation")
    monkeypatch.setenv("HEBENCH_MIRROR", "/nowhere")
    assert fetch("heq", "validation") == first


def test_a_mirror_url_is_read_with_its_spaces(
    mirror: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, root = server
    target = root.joinpath(*FILE.relative.parts)
    target.parent.mkdir(parents=True)
    shutil.copyfile(mirror.joinpath(*FILE.relative.parts), target)
    monkeypatch.setenv("HEBENCH_MIRROR", url)
    assert sha256_of(fetch("heq", "validation")) == FILE.sha256


def test_a_file_that_the_server_lacks_is_one_line(
    server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEBENCH_MIRROR", server[0])
    monkeypatch.setenv("HEBENCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(
        DataError, match=r"cannot download heq/validation .*CC BY 4.0.*404.*hebench data get heq"
    ) as info:
        fetch("heq", "validation")
    assert "\n" not in str(info.value)
    assert not [path for path in files_of_the_cache() if path.suffix != ".lock"]


def test_other_bytes_than_pinned_are_refused_and_kept_aside(
    server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url, root = server
    served = root.joinpath(*FILE.relative.parts)
    served.parent.mkdir(parents=True)
    served.write_text("<html>rate limited</html>")
    monkeypatch.setenv("HEBENCH_MIRROR", url)
    monkeypatch.setenv("HEBENCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match="refused") as info:
        fetch("heq", "validation")
    assert FILE.sha256 in str(info.value) and sha256_of(served) in str(info.value)
    (kept,) = [path for path in files_of_the_cache() if path.suffix != ".lock"]
    assert ".refused-" in kept.name


@pytest.mark.parametrize("damage", [b"", b"{}", None])
def test_a_damaged_cached_file_is_set_aside_and_then_fetched_again(
    mirror: Path, damage: bytes | None
) -> None:
    path = fetch("heq", "validation")
    path.write_bytes(path.read_bytes()[:-1] if damage is None else damage)
    with pytest.raises(DataError, match="set aside"):
        fetch("heq", "validation")
    assert sha256_of(fetch("heq", "validation")) == FILE.sha256
    assert list(path.parent.glob("*.damaged-*"))


@pytest.mark.parametrize("mended", [True, False])
def test_a_damaged_file_that_another_process_saw_to_is_not_set_aside(
    mirror: Path, monkeypatch: pytest.MonkeyPatch, mended: bool
) -> None:
    path = fetch("heq", "validation")
    content = path.read_bytes()
    path.write_bytes(b"{}")

    @contextlib.contextmanager
    def waited(_: Path) -> Iterator[None]:
        """Another process had the lock first: it set the file aside, or downloaded it, too."""
        path.unlink()
        if mended:
            path.write_bytes(content)
        yield

    monkeypatch.setattr("hebench.data.fetch._locked", waited)
    assert sha256_of(fetch("heq", "validation")) == FILE.sha256
    assert not list(path.parent.glob("*.damaged-*"))


@pytest.mark.parametrize("variable", ["HEBENCH_CACHE", "HEBENCH_MIRROR"])
def test_a_home_folder_of_nobody_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv("HEBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv(variable, "~no-such-user/x")
    with pytest.raises(ConfigError, match="~no-such-user/x: expected a user's home folder"):
        fetch("heq", "validation")


def test_an_unmirrored_file_names_the_set_and_what_to_do(mirror: Path) -> None:
    with pytest.raises(DataError, match="heq/test .* is not in HEBENCH_MIRROR.*unset"):
        fetch("heq", "test")


def test_an_unknown_file_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match="expected one of validation, test"):
        fetch("heq", "train_v0")
    with pytest.raises(DataError, match="expected one of heq, hebnli"):
        fetch("herq", "test")


def test_pins_are_full() -> None:
    for source in sources().values():
        assert source.licence and source.title and source.files
        for file in source.files.values():
            assert len(file.commit) == 40
            assert len(file.sha256 or "") == 64 or len(file.git_blob or "") == 40


def test_a_git_blob_id_is_gits_own(tmp_path: Path) -> None:
    """`printf 'שלום' | git hash-object --stdin`"""
    path = tmp_path / "text"
    path.write_text("שלום", encoding="utf-8")
    pinned = lookup("hesum", "test")
    assert pinned.sha256 is None
    printed = subprocess.run(
        ["git", "hash-object", str(path)], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert checksum_of(pinned, path) == f"git blob {printed}"


class RangeHandler(QuietHandler):
    """Serves byte ranges, which the standard handler does not; counts what it was asked."""

    asked: ClassVar[list[tuple[str | None, str | None]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.headers["Range"], self.headers["Accept-Encoding"]))
        content = Path(self.translate_path(self.path)).read_bytes()
        start = int((self.headers["Range"] or "bytes=0-")[6:-1])
        self.send_response(206 if self.headers["Range"] else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:])


def test_an_interrupted_download_goes_on_where_it_was(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = partial(RangeHandler, directory=str(mirror))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever).start()
        monkeypatch.setenv("HEBENCH_MIRROR", f"http://127.0.0.1:{running.server_port}")
        begun = FILE.cached.with_name(f".{FILE.cached.name}.part")
        begun.parent.mkdir(parents=True)
        whole = mirror.joinpath(*FILE.relative.parts).read_bytes()
        begun.write_bytes(whole[:300_000])
        assert sha256_of(fetch("heq", "validation")) == FILE.sha256
        assert RangeHandler.asked == [("bytes=300000-", "identity")]
        running.shutdown()


def files_of_the_cache() -> list[Path]:
    return [path for path in cache_folder("data").rglob("*") if path.is_file()]
