"""Download pinned files once, check them, and keep them in the user's cache.

Every file is named in `sources.toml` by repository, commit, path and SHA-256. The network is
asked only for what the cache lacks; HEBENCH_MIRROR (a folder or a URL, laid out
`<owner>/<repository>/<commit>/<path>`) stands in for it.

    >>> fetch("heq", "validation")
    PosixPath('/home/noa/.cache/hebench/data/NNLP-IL/.../val v1.1.json')

A file in the cache is checked each time it is used. One that is damaged is set aside, never
read and never deleted, and the next call downloads it afresh.
"""

import os
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from hebench.errors import DataError
from hebench.files import cache_folder, sha256_of

UPSTREAM = "https://raw.githubusercontent.com"


@dataclass(frozen=True, kw_only=True)
class PinnedFile:
    """One file of a source, as `sources.toml` pins it."""

    source: str
    name: str
    title: str
    licence: str
    repository: str
    commit: str
    path: str
    sha256: str
    bytes: int

    @property
    def relative(self) -> PurePosixPath:
        """Where the file lies below a mirror or the cache."""
        return PurePosixPath(self.repository, self.commit, self.path)


@cache
def sources() -> Mapping[str, Mapping[str, PinnedFile]]:
    """Return every pinned file, by source and file name."""
    text = resources.files("hebench.data").joinpath("sources.toml").read_text(encoding="utf-8")
    return {
        source: {
            name: PinnedFile(
                source=source,
                name=name,
                title=entry["title"],
                licence=entry["licence"],
                repository=entry["repository"],
                commit=entry["commit"],
                path=file["path"],
                sha256=file["sha256"],
                bytes=file["bytes"],
            )
            for name, file in entry["files"].items()
        }
        for source, entry in tomllib.loads(text).items()
    }


def fetch(source: str, name: str) -> Path:
    """Return the local path of a pinned file, downloaded and checked.

    Raises DataError if the source or file is unknown, cannot be had, or fails its checksum.
    """
    file = _lookup(source, name)
    target = cache_folder("data", *file.relative.parts)
    if target.exists():
        found = sha256_of(target)
        if found == file.sha256:
            return target
        aside = target.with_name(f"{target.name}.damaged-{found[:8]}")
        target.replace(aside)
        raise DataError(
            f"{target}: expected SHA-256 {file.sha256}, found {found}; the damaged file was set "
            f"aside as {aside.name}, run the command again to download it afresh"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        _obtain(file, partial)
        _check(file, partial, target)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _lookup(source: str, name: str) -> PinnedFile:
    try:
        return sources()[source][name]
    except KeyError:
        known = ", ".join(f"{key}/{file}" for key, files in sources().items() for file in files)
        raise DataError(f"expected one of {known}, found {source}/{name}") from None


def _obtain(file: PinnedFile, partial: Path) -> None:
    """Copy or download `file` to `partial`, unchecked."""
    mirror = os.environ.get("HEBENCH_MIRROR", "")
    described = (
        f"{file.source}/{file.name} ({file.title}, {file.licence}, {file.bytes / 1e6:.1f} MB)"
    )
    if mirror and "://" not in mirror:
        origin = Path(mirror).expanduser().joinpath(*file.relative.parts)
        if not origin.is_file():
            raise DataError(
                f"{described} is not in HEBENCH_MIRROR: expected {origin}; unset HEBENCH_MIRROR "
                "to download it, or add the file to the mirror"
            )
        shutil.copyfile(origin, partial)
        return
    url = f"{(mirror or UPSTREAM).rstrip('/')}/{quote(str(file.relative))}"
    import pooch
    import requests

    downloader = pooch.HTTPDownloader(progressbar=True, timeout=60)
    try:
        downloader(url, str(partial), None)
    except (requests.RequestException, OSError) as error:
        raise DataError(
            f"cannot download {described} from {url}: {_reason(error)}; connect to the network, "
            "or set HEBENCH_MIRROR to a folder that holds it"
        ) from error


def _check(file: PinnedFile, partial: Path, target: Path) -> None:
    found = sha256_of(partial)
    if found != file.sha256:
        aside = target.with_name(f"{target.name}.refused-{found[:8]}")
        partial.replace(aside)
        raise DataError(
            f"{file.source}/{file.name}: expected SHA-256 {file.sha256}, received {found}; the "
            f"file was refused and kept as {aside}; check the mirror or try again"
        )


def _reason(error: Exception) -> str:
    """Return the innermost cause in a line: 'Connection refused' instead of a stack of wrappers."""
    while isinstance(error.__context__, Exception):
        error = error.__context__
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:200]
