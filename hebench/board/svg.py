"""Charts as SVG text: pure functions, the same input gives the same bytes.

    >>> interval_bar(0.5, 0.4, 0.6)[:45]
    Markup('<svg class="bar" width="100%" height="20" dir')

The site forbids style attributes, so charts carry presentation attributes and classes whose
colours stand in `static/board.css` and `pages.css`. Places along x are percent of the width: a
chart fills its box at any width and its text keeps its size. Only lines, which cannot be given in
percent, are stretched in a nested picture. Charts hold numbers and no words but title and
description: scales run left to right in both languages, and legends, in HTML, follow the page's
direction.

A chart with a title is an image with a name; one without repeats numbers that stand beside it
and is hidden from assistive technology.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from hebench.board.show import bounds, percent

SERIES = 6  # kinds of lines that look different; more repeat them
_HEIGHT = 220  # of a line chart's plot, in pixels
_TICKS = (0, 25, 50, 75, 100)
_MARKERS = (  # around (0, 0): disc, square, triangle, diamond, ring, triangle that points down
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "M-3.5-3.5h7v7h-7z",
    "M0-5L4.5 3.5h-9z",
    "M0-5L5 0L0 5L-5 0z",
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0zM-2 0a2 2 0 1 1 4 0a2 2 0 1 1-4 0z",
    "M0 5L4.5-3.5h-9z",
)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a chart; all sequences have one length, x rising."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()  # the band around the line; none if empty
    high: tuple[float, ...] = ()
    chosen: int | None = None  # place of the point that is marked


@dataclass(frozen=True)
class _Plot:
    """The ranges of a line chart's axes."""

    x: tuple[float, float]
    y: tuple[float, float]

    def across(self, value: float) -> float:
        """Return a place along x in percent."""
        return 100 * (value - self.x[0]) / (self.x[1] - self.x[0])

    def down(self, value: float) -> float:
        """Return a place along y in pixels from the top."""
        return _HEIGHT * (self.y[1] - value) / (self.y[1] - self.y[0])

    def points(self, x: Sequence[float], y: Sequence[float]) -> str:
        """Return points in the nested picture, 1000 wide."""
        return " ".join(
            f"{_n(10 * self.across(a))},{_n(self.down(b))}" for a, b in zip(x, y, strict=True)
        )


def interval_bar(
    mean: float,
    low: float,
    high: float,
    *,
    marks: Mapping[str, float] | None = None,
) -> Markup:
    """Return one interval on a scale from 0 to 1: a band with the mean marked in it.

    marks: further places by the class that draws them (`best`, `floor`). An interval without a
    mean (NaN: nothing was judged) leaves the scale empty. The numbers must stand beside it.
    """
    parts = []
    if not math.isnan(mean):
        left, width = 100 * low, max(0.4, 100 * (high - low))
        parts.append(
            f'<rect class="band" x="{_n(left)}%" y="5" width="{_n(width)}%" height="10" rx="2"/>'
        )
    for name, place in (marks or {}).items():
        parts.append(_vertical(name, place, 20))
    if not math.isnan(mean):
        x = _n(100 * mean)
        parts.append(
            f'<rect class="mark" x="{x}%" y="1" width="3" height="18" transform="translate(-1.5)"/>'
        )
    return _chart("bar", 20, parts)


def scale_axis() -> Markup:
    """Return the labels of the scale from 0 to 100 above a column of interval bars."""
    return _chart("scale", 16, [_tick_label(place, 12, str(place)) for place in _TICKS])


def histogram(counts: Sequence[int], *, title: str, desc: str) -> Markup:
    """Return counts over equal parts of [0, 1] as bars, the count written over each."""
    top = max([*counts, 1])
    width = 100 / len(counts)
    parts = ['<line class="rule" x1="0" x2="100%" y1="150" y2="150"/>']
    for place, count in enumerate(counts):
        height = 128 * count / top
        middle = _n((place + 0.5) * width)
        parts.append(
            f'<rect class="column" x="{_n(place * width + 0.6)}%" y="{_n(150 - height)}" '
            f'width="{_n(width - 1.2)}%" height="{_n(height)}"/>'
        )
        if count:
            parts.append(
                f'<text class="count" x="{middle}%" y="{_n(144 - height)}" '
                f'text-anchor="middle">{count}</text>'
            )
    parts += [_tick_label(place, 168, str(place)) for place in _TICKS]
    return _chart("histogram", 172, parts, title, desc)


def line_chart(  # noqa: PLR0913 (each is named at the call)
    lines: Sequence[Line],
    *,
    title: str,
    desc: str,
    levels: Mapping[str, float] | None = None,
    below: Mapping[float, str] | None = None,
    share: bool = True,
) -> Markup:
    """Return lines over steps, each with its band, its own marker and dashes.

    levels: horizontal lines by their class (`level-chance`, `level-floor`). below: a second row
    of labels under the axis, by x (tokens under steps). share: y is a share, printed in percent.
    Raises ValueError for no point.
    """
    plot, marks = _ranges(lines, levels or {}, share)
    parts = []
    for mark in marks:
        y = _n(plot.down(mark))
        parts.append(f'<line class="grid" x1="0" x2="100%" y1="{y}" y2="{y}"/>')
        label = compact(100 * mark if share else mark)
        parts.append(f'<text x="-8" y="{y}" dy="4" text-anchor="end">{label}</text>')
    parts += _x_axis(plot, lines, below or {})
    parts.append(_stretched(plot, lines))
    for name, level in (levels or {}).items():
        y = _n(plot.down(level))
        parts.append(f'<line class="{name}" x1="0" x2="100%" y1="{y}" y2="{y}"/>')
    for number, line in enumerate(lines):
        parts += _markers(plot, line, number % SERIES, share)
    return _chart("lines", _HEIGHT + (42 if below else 26), parts, title, desc)


def swatch(number: int) -> Markup:
    """Return a piece of the line of that number, for a legend in HTML."""
    kind = number % SERIES
    parts = [
        f'<line class="series-{kind}" x1="0" x2="32" y1="8" y2="8"/>',
        _marker(kind, "16", 8, f"point-{kind}"),
    ]
    return _chart("swatch", 16, parts, width="32")


def sample(name: str) -> Markup:
    """Return a piece of what a class draws (`band`, `mark`, `best`, `floor`, ...), for a legend."""
    if name == "band":
        part = '<rect class="band" x="0" y="3" width="32" height="10" rx="2"/>'
    elif name == "mark":
        part = '<rect class="mark" x="14.5" y="1" width="3" height="14"/>'
    elif name == "chosen":
        part = _marker(0, "16", 8, "point-0") + '<circle class="chosen" cx="16" cy="8" r="7"/>'
    elif name.startswith("level"):
        part = f'<line class="{name}" x1="0" x2="32" y1="8" y2="8"/>'
    else:
        part = f'<line class="{name}" x1="16" x2="16" y1="1" y2="15"/>'
    return _chart("swatch", 16, [part], width="32")


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers within [low, high], a step of 1, 2 or 5 times a power of ten apart."""
    if high <= low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * size for size in (1, 2, 5, 10) if power * size >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


def compact(value: float) -> str:
    """Return a number of an axis in short: 0.25, 300, 12k, 1.5M."""
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= unit:
            return f"{value / (1e3 if name == 'k' else unit):.4g}{name}"
    return f"{value:.4g}"


def _ranges(
    lines: Sequence[Line], levels: Mapping[str, float], share: bool
) -> tuple[_Plot, list[float]]:
    """Return the axes' ranges, y widened to round numbers, and those numbers."""
    x = [value for line in lines for value in line.x]
    y = [*levels.values()]
    for line in lines:
        y += [*line.y, *line.low, *line.high]
    if not x:
        raise ValueError("expected at least one point, found none")
    low, high = min(y), max(y)
    gap = max(high - low, 1e-3) / 5
    marks = ticks(low - gap, high + gap, 6)
    if share:
        marks = [mark for mark in marks if 0 <= mark <= 1]
    # A level that lies lowest must not hide in the axis; below 0 there is no share.
    bottom, top = min(low - gap / 4, marks[0]), max(high, marks[-1])
    bottom = max(bottom, 0.0) if share else bottom
    left, right = (min(x), max(x)) if max(x) > min(x) else (min(x) - 1, max(x) + 1)
    return _Plot((left, right), (bottom, top)), marks


def _x_axis(plot: _Plot, lines: Sequence[Line], below: Mapping[float, str]) -> list[str]:
    """Return the rule at the bottom with its labels: the points' own places if they are few."""
    own = sorted({value for line in lines for value in line.x})
    places = own if len(own) <= 6 else ticks(*plot.x)
    bottom = _HEIGHT
    parts = [f'<line class="rule" x1="0" x2="100%" y1="{bottom}" y2="{bottom}"/>']
    for place in places:
        across = plot.across(place)
        x = _n(across)
        parts.append(f'<line class="rule" x1="{x}%" x2="{x}%" y1="{bottom}" y2="{bottom + 5}"/>')
        parts.append(_tick_label(across, bottom + 19, compact(place)))
        if place in below:
            parts.append(_tick_label(across, bottom + 35, below[place], "second"))
    return parts


def _stretched(plot: _Plot, lines: Sequence[Line]) -> str:
    """Return bands and lines in a picture that stretches with the chart's width."""
    bands, paths = "", ""
    for number, line in enumerate(lines):
        kind = number % SERIES
        if line.low and len(line.x) > 1:
            edge = plot.points(line.x, line.high), plot.points(line.x[::-1], line.low[::-1])
            bands += f'<polygon class="area-{kind}" points="{" ".join(edge)}"/>'
        paths += (
            f'<polyline class="series-{kind}" vector-effect="non-scaling-stroke" '
            f'points="{plot.points(line.x, line.y)}"/>'
        )
    return (
        f'<svg width="100%" height="{_HEIGHT}" viewBox="0 0 1000 {_HEIGHT}" '
        f'preserveAspectRatio="none">{bands}{paths}</svg>'
    )


def _markers(plot: _Plot, line: Line, kind: int, share: bool) -> list[str]:
    parts = []
    for place, (x, y) in enumerate(zip(line.x, line.y, strict=True)):
        left, top = f"{_n(plot.across(x))}%", plot.down(y)
        said = percent(y) if share else f"{y:.3f}"
        if line.low and share:
            said += f" {bounds(line.low[place], line.high[place])}"
        hint = f"<title>{compact(x)}: {said}</title>"
        if place == line.chosen:
            parts.append(f'<circle class="chosen" cx="{left}" cy="{_n(top)}" r="8"/>')
        parts.append(_marker(kind, left, top, f"point-{kind}", hint))
    return parts


def _marker(kind: int, x: str, y: float, name: str, hint: str = "") -> str:
    return (
        f'<svg x="{x}" y="{_n(y)}" overflow="visible">'
        f'<path class="{name}" fill-rule="evenodd" d="{_MARKERS[kind]}">{hint}</path></svg>'
    )


def _vertical(name: str, place: float, height: int) -> str:
    x = _n(100 * place)
    return f'<line class="{name}" x1="{x}%" x2="{x}%" y1="1" y2="{height - 1}"/>'


def _tick_label(across: float, y: int, text: str, name: str = "") -> str:
    """Return a label below a place; at the ends it stays inside the chart."""
    anchor = "start" if across < 1 else "end" if across > 99 else "middle"
    kind = f' class="{name}"' if name else ""
    return f'<text{kind} x="{_n(across)}%" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _chart(  # noqa: PLR0913 (what a chart is)
    kind: str,
    height: int,
    parts: Sequence[str],
    title: str = "",
    desc: str = "",
    *,
    width: str = "100%",
) -> Markup:
    named = f"<title>{escape(title)}</title>" if title else ""
    named += f"<desc>{escape(desc)}</desc>" if desc else ""
    role = 'role="img"' if title else 'aria-hidden="true"'
    return Markup(
        f'<svg class="{kind}" width="{width}" height="{height}" direction="ltr" '
        f"{role}>{named}{''.join(parts)}</svg>"
    )


def _n(value: float) -> str:
    """Return a coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
