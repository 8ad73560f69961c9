import math
from dataclasses import replace
from typing import Any

import pytest

from hebench.adapt.report import Report, Row, picture, table
from hebench.files import finite


def made(low: float, high: float) -> Report:
    """Return the report of a base model and one stage; the bounds are relative to the figure."""

    def row(name: str, seconds: float | None, bits: float) -> Row:
        measured: dict[str, Any] = {
            "bits_per_byte": bits,
            "bits_per_byte_low": bits + low,
            "bits_per_byte_high": bits + high,
            "tokens_per_word": 2.0,
        }
        change = {"mean": bits - 2.0, "low": bits - 2.0 + low, "high": bits - 2.0 + high}
        return Row(
            name=name,
            seconds=seconds,
            languages={"he": measured},
            from_base={"he": change},
            tasks={},
        )

    rows = (row("base", None, 2.0), row("pretrain", 60.0, 1.5))
    return Report(recipe="tiny", language="he", rows=rows, ends=None, last="pretrain")


@pytest.mark.parametrize(
    ("low", "high", "cell"),
    [
        (-0.125, 0.125, "1.500, -0.500 [-0.625, -0.375]"),
        (math.nan, math.nan, "1.500, -0.500 [interval unknown]"),
    ],
)
def test_an_interval_is_printed_and_drawn_where_it_is_known(
    low: float, high: float, cell: str
) -> None:
    report = made(low, high)
    assert f"| pretrain | {cell} |" in table(report)
    assert picture(report).startswith(b"\x89PNG")
    # As the numbers come back from stage.json, where what is unknown is null.
    again = replace(report, rows=tuple(replace(row, **finite(vars(row))) for row in report.rows))
    assert picture(again) == picture(report)
