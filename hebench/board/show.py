"""How values look on a page: bounded, escaped, isolated.

>>> shown("Model\u202e 7B" + "x" * 500)[-3:]
'xx…'
"""

import math
import unicodedata
from typing import Any

from markupsafe import Markup, escape

from hebench.catalogue import ltr
from hebench.hebrew import strip_bidi_controls
from hebench.stats.intervals import Interval

MAX_NAME = 120  # characters of a name, licence or setting that are shown
MAX_ANSWER = 1_000  # characters of an answer that are shown
_KEPT_CONTROLS = "\n\t"


def shown(text: Any, limit: int = MAX_NAME) -> str:
    """Return text from a file as one bounded line without characters that reorder it."""
    line = " ".join(strip_bidi_controls(str(text)).split())
    line = "".join(char for char in line if unicodedata.category(char) not in {"Cc", "Cs"})
    return line if len(line) <= limit else line[: limit - 1] + "…"


def visible(text: str, limit: int = MAX_ANSWER) -> Markup:
    """Return a model's answer as HTML, with control characters shown and not obeyed.

    A character that would reorder or hide text stands as its code point in a box.
    """
    cut = text[:limit]
    html = str(escape(cut))
    for char in sorted(set(cut) - set(_KEPT_CONTROLS)):
        if unicodedata.category(char) in {"Cc", "Cf", "Co", "Cs"}:
            html = html.replace(char, f'<span class="control">U+{ord(char):04X}</span>')
    return Markup(html + ("…" if len(text) > limit else ""))


def percent(share: float) -> str:
    """Return a share in [0, 1] as percent with one decimal, without the sign."""
    return f"{100 * share:.1f}"


def bounds(low: float, high: float) -> str:
    """Return an interval in percent, `[12.3, 45.6]`."""
    return f"[{percent(low)}, {percent(high)}]"


def interval(found: Interval) -> Markup:
    """Return a mean with its interval as one left-to-right run; a dash if nothing was judged."""
    if math.isnan(found.mean):
        return Markup("–")
    return Markup('<span class="ltr"><b>{}</b> <span class="ci">{}</span></span>').format(
        percent(found.mean), bounds(found.low, found.high)
    )


def ranks(low: int, high: int) -> Markup:
    """Return a set of ranks, `1–4`, as a left-to-right run."""
    return ltr(str(low) if low == high else f"{low}–{high}")


def chance(share: float) -> str:
    """Return a chance of being first in whole percent; never 0 or 100, which no draw can show."""
    whole = math.floor(100 * share + 0.5 + 1e-9)  # halves go up, as in table.js
    return "<1%" if whole < 1 else ">99%" if whole > 99 else f"{whole}%"


def size(parameters: int | None) -> str | None:
    """Return a number of parameters in short: 135M, 7B; None if it is unknown."""
    if parameters is None:
        return None
    rounded = float(f"{parameters:.3g}")  # before a unit is chosen: 999,885,952 is 1B
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if rounded >= unit:
            return f"{rounded / unit:g}{name}"
    return str(parameters)
