"""Files: atomic writes, checksums, and where the cache is.

A reader never sees a half-written file: text goes to a neighbour with a temporary name,
is flushed to the disk and renamed over the target.

    >>> write_atomically(Path("/tmp/x.json"), "{}")
"""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Collection, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import platformdirs

from hebench.errors import ConfigError, DataError, one_line


def write_atomically(path: Path, text: str) -> None:
    """Write UTF-8 text so that `path` holds either its old content or all of the new one.

    Raises OSError (disk full, read-only folder); the temporary file is then removed.
    """
    write_bytes_atomically(path, text.encode("utf-8"))


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write bytes as `write_atomically` writes text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:  # Ctrl-C too: leave no temporary file behind, then let it pass
        temporary.unlink(missing_ok=True)
        raise


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_files(paths: Collection[Path], title: str) -> str:
    """Return one SHA-256 that stands for files and their names; a bar where it takes long."""
    from concurrent.futures import ThreadPoolExecutor

    from tqdm import tqdm  # a quarter of what `hebench --help` takes

    size = sum(path.stat().st_size for path in paths)
    # Shards at once, on a core each: hashing lets go of the interpreter's lock.
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    found = {}
    with tqdm(
        total=size, desc=title, unit="B", unit_scale=True, delay=2, leave=False, disable=None
    ) as bar:
        try:
            for path, digest in zip(paths, pool.map(sha256_of, paths), strict=True):
                found[path.name] = digest
                bar.update(path.stat().st_size)
        finally:  # interrupted, only the shards that are being read are waited for
            pool.shutdown(cancel_futures=True)
    return sha256_of_json(found)


def sha256_of_json(value: Any) -> str:
    """Return the SHA-256 of a JSON value in canonical form (sorted keys, UTF-8)."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def finite(value: Any) -> Any:
    """Return a value for JSON, which has no NaN and no infinity: those are null."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def encodable(text: str) -> str:
    """Return `text` with lone surrogates, which JSON can carry and UTF-8 cannot, as "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) for each non-empty line of a JSON Lines file.

    Raises DataError naming file and line where a line is not a JSON object.
    """
    with path.open("rb") as stream:  # bytes: a line that is no UTF-8 is named, too
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{path} line {number}: expected JSON, found {error.msg} at column "
                    f"{error.colno}; restore the file"
                ) from error
            except (ValueError, RecursionError) as error:
                found = one_line(error)
                raise DataError(
                    f"{path} line {number}: expected JSON, found {found}; restore the file"
                ) from error
            if not isinstance(value, dict):
                raise DataError(
                    f"{path} line {number}: expected a JSON object, found "
                    f"{type(value).__name__}; restore the file"
                )
            yield number, value


def packaged_folder(name: str) -> Path:
    """Return `tasks` or `data_cards`: inside the wheel, or at the top of a checkout."""
    package = Path(str(resources.files("hebench")))
    packaged = package / f"_{name}"
    return packaged if packaged.is_dir() else package.parent / name


def cache_folder(*parts: str) -> Path:
    """Return hebench's cache folder (HEBENCH_CACHE, or the user's own), joined with `parts`."""
    root = os.environ.get("HEBENCH_CACHE") or platformdirs.user_cache_dir("hebench")
    return expanded(root).joinpath(*parts)


def expanded(path: str) -> Path:
    """Return a path with the home folder that `~` or `~name` stands for.

    Raises ConfigError if there is none: a folder called `~name` is hardly what was meant.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"{path}: expected a user's home folder, found none for {Path(path).parts[0]}; write "
            "the path in full, or ./ before a name that begins with ~"
        ) from error


def require_writable(folder: Path) -> None:
    """Make `folder` if need be and prove that a file can be written there.

    Raises ConfigError with the system's own reason (read-only, no space, not a folder).
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
    except OSError as error:
        raise ConfigError(
            f"cannot write to {folder}: {error.strerror}; choose another folder"
        ) from error
