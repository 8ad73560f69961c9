"""Small checks of untrusted files and values, for the readers of the board's files."""

from datetime import date
from pathlib import Path
from typing import Any

from hebench.errors import DataError

LARGEST = 1e100  # of a number: sums of squares of such numbers are finite, too
MOST = 10**15  # of a whole number: a browser counts so far exactly


def require(condition: object, message: str) -> None:
    """Raise DataError with `message` unless `condition` holds."""
    if not condition:
        raise DataError(message)


def require_keys(value: dict[str, Any], expected: set[str], where: str) -> None:
    """Raise DataError unless an object has exactly the expected keys."""
    missing, unknown = expected - set(value), set(value) - expected
    require(
        not missing and not unknown,
        f"{where}: keys missing: {sorted(missing)}, unknown: "
        f"{sorted(key[:40] for key in unknown)[:9]}",
    )


def read_plain(path: Path, most: int) -> bytes:
    """Return the content of a file of a leaderboard.

    Raises DataError for more than `most` bytes, for what cannot be read, and for a link or a
    device: in a stranger's folder a link may name any file of this machine, or one without an
    end. Raises FileNotFoundError where there is nothing.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise DataError(f"{path}: expected a plain file, found a link or a folder; replace it")
    try:
        with path.open("rb") as stream:
            content = stream.read(most + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    require(len(content) <= most, f"{path}: expected at most {most:,} bytes, found more")
    return content


def is_finite(value: Any) -> bool:
    """Return whether a value is a number that can be computed with (True and False are none)."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and -LARGEST < value < LARGEST


def is_whole(value: Any, least: int = 0) -> bool:
    """Return whether a value is a whole number from `least` to MOST."""
    return type(value) is int and least <= value <= MOST


def is_text(value: Any, limit: int) -> bool:
    """Return whether a value is a text of 1 to `limit` characters, not all white space."""
    if not isinstance(value, str) or not value.strip() or len(value) > limit:
        return False
    # Half of a surrogate pair is JSON and YAML, but no text that a page can hold.
    return not any("\ud800" <= char <= "\udfff" for char in value)


def is_date(value: Any) -> bool:
    """Return whether a value is an ISO date, such as 2026-11-25."""
    try:
        # 20261125 is ISO, too, but sorts wrong.
        return date.fromisoformat(value).isoformat() == str(value)
    except (TypeError, ValueError):
        return False
