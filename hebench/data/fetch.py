"""Download pinned files once, check them, and keep them in the user's cache.

Every file is named in `sources.toml` by repository, commit, path and checksum. The network is
asked only for what the cache lacks; HEBENCH_MIRROR (a folder or a URL, laid out
`<owner>/<repository>/<commit>/<path>`) stands in for it.

    hebench data get heq          # from the command line
    >>> fetch("heq", "validation")
    PosixPath('/home/noa/.cache/hebench/data/NNLP-IL/.../val v1.1.json')

A file in the cache is checked each time it is used. One that is damaged is set aside, never
read and never deleted, and the next call downloads it afresh. An interrupted download goes on
where it was, if the server can; two processes that want one file download it once.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from hebench.errors import DataError, one_line
from hebench.files import cache_folder, expanded, require_writable, sha256_of

UPSTREAM = "https://raw.githubusercontent.com"
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class PinnedFile:
    """One file of a source, as `sources.toml` pins it."""

    source: str
    name: str
    repository: str
    commit: str
    path: str
    sha256: str | None  # either this ...
    git_blob: str | None  # ... or the SHA-1 that git gives the content
    bytes: int | None

    @property
    def relative(self) -> PurePosixPath:
        """Where the file lies below a mirror or the cache."""
        return PurePosixPath(self.repository, self.commit, self.path)

    @property
    def cached(self) -> Path:
        """Where the file lies, or will lie, in the user's cache."""
        return cache_folder("data", *self.relative.parts)

    @property
    def checksum(self) -> str:
        """The pinned checksum with its kind, as messages print it."""
        return f"SHA-256 {self.sha256}" if self.sha256 else f"git blob {self.git_blob}"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A public data set: where it comes from and on what terms."""

    name: str
    title: str
    licence: str
    noncommercial: bool
    note: str
    files: Mapping[str, PinnedFile]


@cache
def sources() -> Mapping[str, Source]:
    """Return every source of `sources.toml`, by name."""
    text = resources.files("hebench.data").joinpath("sources.toml").read_text(encoding="utf-8")
    return {
        source: Source(
            name=source,
            title=entry["title"],
            licence=entry["licence"],
            noncommercial=entry.get("noncommercial", False),
            note=entry.get("note", ""),
            files={
                name: PinnedFile(
                    source=source,
                    name=name,
                    repository=entry["repository"],
                    commit=entry["commit"],
                    path=file["path"],
                    sha256=file.get("sha256"),
                    git_blob=file.get("git_blob"),
                    bytes=file.get("bytes"),
                )
                for name, file in entry["files"].items()
            },
        )
        for source, entry in tomllib.loads(text).items()
    }


def fetch(source: str, name: str) -> Path:
    """Return the local path of a pinned file, downloaded and checked.

    Raises DataError if the source or file is unknown, cannot be had, or fails its checksum;
    ConfigError if the cache folder cannot be written or a `~name` is nobody's.
    """
    file = lookup(source, name)
    target = file.cached
    if _is_intact(file):
        return target
    require_writable(target.parent)
    partial = target.with_name(f".{target.name}.part")
    with _locked(target.with_name(f".{target.name}.lock")):
        if target.exists():  # another process was faster, or it is damaged
            return _require_intact(file)
        _obtain(file, partial)
        found = checksum_of(file, partial)
        if found != file.checksum:
            aside = target.with_name(f"{target.name}.refused-{found.split()[-1][:8]}")
            partial.replace(aside)
            raise DataError(
                f"{source}/{name}: expected {file.checksum}, received {found}; the file was "
                f"refused and kept as {aside}; check the mirror or try again"
            )
        partial.replace(target)
    return target


def lookup(source: str, name: str) -> PinnedFile:
    """Return what is pinned under a source and file name. Raises DataError listing the known."""
    if source not in sources():
        raise DataError(f"unknown data set {source}; expected one of {', '.join(sources())}")
    files = sources()[source].files
    if name not in files:
        known = ", ".join(list(files)[:8])
        raise DataError(f"unknown file {source}/{name}; expected one of {known}")
    return files[name]


def select(names: Sequence[str]) -> list[PinnedFile]:
    """Return the pinned files of sets (`heq`) and of single files (`heq/validation`).

    Raises DataError for a name that is neither.
    """
    found = []
    for name in names:
        source, _, file = name.partition("/")
        if file:
            found.append(lookup(source, file))
        elif source in sources():
            found += sources()[source].files.values()
        else:
            lookup(source, "")
    return found


def checksum_of(file: PinnedFile, path: Path) -> str:
    """Return the checksum of the bytes at `path`, of the kind that `file` is pinned by."""
    if file.sha256:
        return f"SHA-256 {sha256_of(path)}"
    content = path.read_bytes()
    header = f"blob {len(content)}\0".encode()
    return f"git blob {hashlib.sha1(header + content).hexdigest()}"


def _is_intact(file: PinnedFile) -> bool:
    try:
        return file.cached.exists() and checksum_of(file, file.cached) == file.checksum
    except FileNotFoundError:  # another process has just set it aside
        return False


def _require_intact(file: PinnedFile) -> Path:
    """Return where a cached file lies. Raises DataError, and sets it aside, if it is damaged.

    Called under the file's lock: else what another process has just downloaded could go.
    """
    target = file.cached
    found = checksum_of(file, target)
    if found == file.checksum:
        return target
    aside = target.with_name(f"{target.name}.damaged-{found.split()[-1][:8]}")
    target.replace(aside)
    raise DataError(
        f"{target}: expected {file.checksum}, found {found}; the damaged file was set aside as "
        f"{aside.name}, run the command again to download it afresh"
    )


def _describe(file: PinnedFile) -> str:
    source = sources()[file.source]
    size = f"{file.bytes / 1e6:.1f} MB" if file.bytes else "size unknown"
    return f"{file.source}/{file.name} ({source.title}; licence: {source.licence}; {size})"


def _obtain(file: PinnedFile, partial: Path) -> None:
    """Copy or download `file` to `partial`, unchecked."""
    mirror = os.environ.get("HEBENCH_MIRROR", "")
    if mirror and "://" not in mirror:
        origin = expanded(mirror).joinpath(*file.relative.parts)
        if not origin.is_file():
            raise DataError(
                f"{_describe(file)} is not in HEBENCH_MIRROR: expected {origin}; unset "
                "HEBENCH_MIRROR to download it, or add the file to the mirror"
            )
        shutil.copyfile(origin, partial)
        return
    if os.environ.get("HEBENCH_OFFLINE"):
        raise DataError(
            f"{_describe(file)} is not in the cache and HEBENCH_OFFLINE is set; run "
            f"`hebench data get {file.source}`"
        )
    url = f"{(mirror or UPSTREAM).rstrip('/')}/{quote(str(file.relative))}"
    import requests

    try:
        _download(url, partial, f"{file.source}/{file.name}")
    except (requests.RequestException, OSError) as error:
        raise DataError(
            f"cannot download {_describe(file)} from {url}: {_reason(error)}; connect to the "
            f"network and run `hebench data get {file.source}`, or set HEBENCH_MIRROR to a "
            "folder that holds it"
        ) from error


def _download(url: str, partial: Path, label: str) -> None:
    """Download `url` to `partial`, going on from what an interrupted download left there."""
    import requests
    from tqdm import tqdm

    begun = partial.stat().st_size if partial.exists() else 0
    # Uncompressed, or the bytes that are there would be others than the server goes on from.
    headers = {"Accept-Encoding": "identity"}
    if begun:
        headers["Range"] = f"bytes={begun}-"
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing is left to fetch; the checksum decides
        response.raise_for_status()
        resumed = response.status_code == requests.codes.partial_content
        left = int(response.headers.get("Content-Length", 0))
        with (
            partial.open("ab" if resumed else "wb") as stream,
            tqdm(
                total=(begun if resumed else 0) + left or None,
                initial=begun if resumed else 0,
                desc=label,
                unit="B",
                unit_scale=True,
                disable=not sys.stderr.isatty(),
            ) as bar,
        ):
            for block in response.iter_content(1 << 16):
                stream.write(block)
                bar.update(len(block))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; the file stays, since removing it would race."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _reason(error: Exception) -> str:
    """Return the innermost cause: 'Connection refused' instead of a stack of wrappers."""
    while isinstance(error.__context__, Exception):
        error = error.__context__
    return str(getattr(error, "strerror", None) or one_line(error))
