"""Charts: well-formed, deterministic, free of styles and scripts, and where they should be."""

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from hebench.board import svg
from tests.board.made import EVIL

LINE = svg.Line(
    x=(100, 200, 300), y=(0.3, 0.5, 0.4), low=(0.2, 0.4, 0.3), high=(0.4, 0.6, 0.5), chosen=1
)
CHARTS = {
    "interval_bar": lambda: svg.interval_bar(0.5, 0.4, 0.6, marks={"floor": 0.25, "best": 0.7}),
    "no mean": lambda: svg.interval_bar(math.nan, 0, 1),
    "scale_axis": svg.scale_axis,
    "histogram": lambda: svg.histogram((0, 3, 5), title=EVIL, desc=EVIL),
    "line_chart": lambda: svg.line_chart(
        [LINE, svg.Line(x=(), y=())],
        title=EVIL,
        desc=EVIL,
        levels={"level-chance": 0.25},
        below={100: "1M", 200: EVIL},
    ),
    "swatch": lambda: svg.swatch(7),
    "sample": lambda: svg.sample("chosen"),
}


def parsed(chart: Markup) -> ElementTree.Element:
    return ElementTree.fromstring(str(chart))


def shares(chart: Markup, name: str, attribute: str) -> list[float]:
    """Places in percent of the parts of one class."""
    found = parsed(chart).findall(f".//*[@class='{name}']")
    return [float(part.attrib[attribute].rstrip("%")) for part in found]


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_well_formed_the_same_twice_and_without_style_or_script(name: str) -> None:
    chart = CHARTS[name]()
    root = parsed(chart)
    assert chart == CHARTS[name]()
    assert root.attrib["direction"] == "ltr"
    assert not any(part.tag in {"script", "style"} for part in root.iter())
    names = {attribute for part in root.iter() for attribute in part.attrib}
    assert "style" not in names and not any(attribute.startswith("on") for attribute in names)


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_a_named_image_or_hidden(name: str) -> None:
    root = parsed(CHARTS[name]())
    named = root.find("title") is not None and root.find("desc") is not None
    assert named == (root.get("role") == "img") == (root.get("aria-hidden") is None)


def test_an_interval_stands_at_its_numbers() -> None:
    chart = svg.interval_bar(0.5, 0.4, 0.65, marks={"floor": 0.25})
    assert shares(chart, "band", "x") == [40]
    assert shares(chart, "band", "width") == [25]
    assert shares(chart, "mark", "x") == [50]
    assert shares(chart, "floor", "x1") == [25]


def test_an_interval_that_was_not_judged_draws_nothing_but_the_references() -> None:
    chart = svg.interval_bar(math.nan, 0.0, 1.0, marks={"floor": 0.25})
    assert [part.attrib["class"] for part in parsed(chart)] == ["floor"]


def test_columns_of_a_histogram_are_as_high_as_their_counts() -> None:
    root = parsed(svg.histogram((2, 0, 8), title="t", desc="d"))
    heights = [float(part.attrib["height"]) for part in root.findall("rect")]
    assert heights == pytest.approx([32, 0, 128])
    assert [part.text for part in root.findall("text[@class='count']")] == ["2", "8"]


def test_a_line_chart_marks_the_chosen_point_and_names_each_value() -> None:
    root = parsed(svg.line_chart([LINE], title="t", desc="d", below={200: "2M"}))
    chosen = root.findall("circle[@class='chosen']")
    assert [part.attrib["cx"] for part in chosen] == ["50%"]
    hints = [part.text for part in root.iter("title")]
    assert "200: 50.0 [40.0, 60.0]" in hints
    assert [part.text for part in root.findall("text[@class='second']")] == ["2M"]


def test_losses_are_printed_as_they_are() -> None:
    chart = svg.line_chart([svg.Line(x=(1, 2), y=(3.25, -1.0))], title="t", desc="d", share=False)
    assert "1: 3.250" in chart
    assert ">-1<" in chart


def test_series_differ_in_marker_and_class() -> None:
    swatches = [svg.swatch(number) for number in range(svg.SERIES)]
    paths = [re.search(r' d="([^"]*)"', chart) for chart in swatches]
    assert len({found[1] for found in paths if found}) == svg.SERIES
    assert svg.swatch(svg.SERIES) == swatches[0]


def test_a_chart_without_points_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        svg.line_chart([svg.Line(x=(), y=())], title="t", desc="d")


SHARES = st.floats(0, 1, allow_nan=False)


@given(
    st.dictionaries(st.integers(0, 10**7), SHARES, min_size=1, max_size=12),
    st.dictionaries(st.sampled_from(["level-chance", "level-floor"]), SHARES),
)
def test_points_levels_and_labels_stay_within_the_plot(
    points: dict[int, float], levels: dict[str, float]
) -> None:
    steps = sorted(points)
    line = svg.Line(x=tuple(steps), y=tuple(points[step] for step in steps))
    root = parsed(svg.line_chart([line], title="t", desc="d", levels=levels))
    places = [part for part in root.findall("svg") if "x" in part.attrib]
    assert len(places) == len(points)
    across = [float(part.attrib["x"].rstrip("%")) for part in places]
    assert across == sorted(across) and min(across) >= 0 and max(across) <= 100
    down = [float(part.attrib["y"]) for part in places]
    down += [float(part.attrib["y1"]) for part in root.findall("line")]
    assert all(-0.01 <= place <= 225.01 for place in down)


@given(st.floats(0, 1e6), st.floats(1e-6, 1e6), st.integers(2, 10))
def test_ticks_are_round_rising_and_inside(low: float, width: float, most: int) -> None:
    found = svg.ticks(low, low + width, most)
    step = width / most
    assert len(found) <= most + 1
    assert found == sorted(found)
    assert all(low - 1e-6 * step <= tick <= low + width + 1e-6 * (low + width) for tick in found)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (100, 400, [100, 200, 300, 400]), (5, 5, [5])],
)
def test_ticks_of_usual_ranges(low: float, high: float, expected: list[float]) -> None:
    assert svg.ticks(low, high) == expected


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.25, "0.25"), (300, "300"), (9999, "9999"), (12000, "12k"), (1.5e6, "1.5M"), (15e12, "15T")],
)
def test_numbers_of_an_axis_are_short(number: float, text: str) -> None:
    assert svg.compact(number) == text
