"""Small checks of untrusted values, for the readers of the board's files."""

import math
from datetime import date
from typing import Any

from hebench.errors import DataError


def require(condition: object, message: str) -> None:
    """Raise DataError with `message` unless `condition` holds."""
    if not condition:
        raise DataError(message)


def is_finite(value: Any) -> bool:
    """Return whether a value is a finite number (True and False are none)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_date(value: Any) -> bool:
    """Return whether a value is an ISO date, such as 2026-11-25."""
    try:
        # 20261125 is ISO, too, but sorts wrong.
        return date.fromisoformat(value).isoformat() == str(value)
    except (TypeError, ValueError):
        return False
