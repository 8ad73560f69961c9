"""The site for programs: JSON by its schema, a harmless CSV, BibTeX."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from hebench.board.api import CSV_COLUMNS, bibtex, board_content, files, harmless, model_content
from hebench.board.build import load_site
from hebench.board.page import Site
from tests.board.made import EVIL, made_board

_TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": int | float,
}
_HANDLED = {
    "$schema", "$ref", "$defs", "title", "description", "oneOf", "type", "enum", "const",
    "minimum", "maximum", "pattern", "items", "properties", "required", "additionalProperties",
}  # fmt: skip


def problems(
    value: Any, schema: dict[str, Any], root: dict[str, Any], where: str = ""
) -> list[str]:
    """What the part of JSON Schema that our schema uses finds wrong with a value."""
    assert set(schema) <= _HANDLED, set(schema) - _HANDLED
    found = []
    if "$ref" in schema:
        found += problems(
            value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, where
        )
    if "oneOf" in schema:
        fits = [problems(value, part, root, where) for part in schema["oneOf"]]
        if sum(not wrong for wrong in fits) != 1:
            found.append(f"{where}: not one of {min(fits, key=len)[:3]}")
    if "const" in schema and value != schema["const"]:
        found.append(f"{where}: {value!r} is not {schema['const']!r}")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where}: {value!r} is not of {schema['enum']}")
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        return [*found, f"{where}: {value!r} is no {kinds}"]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        found.append(f"{where}: {value} is out of range")
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        found.append(f"{where}: {value!r} is not {schema['pattern']}")
    if isinstance(value, list) and "items" in schema:
        for place, part in enumerate(value):
            found += problems(part, schema["items"], root, f"{where}[{place}]")
    if isinstance(value, dict):
        found += _object_problems(value, schema, root, where)
    return found


def _is(value: Any, kind: str) -> bool:
    number = kind in {"integer", "number"}
    return isinstance(value, _TYPES[kind]) and not (number and isinstance(value, bool))


def _object_problems(
    value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], where: str
) -> list[str]:
    found = [f"{where}: lacks {key}" for key in schema.get("required", ()) if key not in value]
    own, other = schema.get("properties", {}), schema.get("additionalProperties", True)
    for key, part in value.items():
        if key in own:
            found += problems(part, own[key], root, f"{where}.{key}")
        elif other is False:
            found.append(f"{where}: {key} is not allowed")
        elif other is not True:
            found += problems(part, other, root, f"{where}.{key}")
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return load_site(made_board(tmp_path_factory.mktemp("board"), hostile=True))


@pytest.fixture(scope="module")
def written(site: Site) -> dict[str, bytes]:
    return dict(files(site))


@pytest.fixture(scope="module")
def schema(written: dict[str, bytes]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(written["api/v1/schema.json"])
    return found


def test_every_json_file_is_what_the_schema_says(
    site: Site, written: dict[str, bytes], schema: dict[str, Any]
) -> None:
    names = [f"api/v1/models/{slug}.json" for slug in site.board.models]
    for name in ["api/v1/board.json", *names]:
        assert problems(json.loads(written[name]), schema, schema) == [], name


def test_the_hand_made_check_of_the_schema_finds_what_is_wrong(
    site: Site, schema: dict[str, Any]
) -> None:
    cell = {"low": 2.0}, {"n": "3"}, {"best": 1}, {"record": "../x"}, {"model": "A B"}
    for change in cell:
        content = board_content(site)
        content["cells"][0] |= change
        assert problems(content, schema, schema), change
    for change in ({"kind": "other"}, {"extra": 1}, {"date": "today"}):
        assert problems(board_content(site) | change, schema, schema), change


def test_the_same_records_give_the_same_bytes_and_no_number_is_not_finite(
    site: Site, written: dict[str, bytes]
) -> None:
    assert dict(files(site)) == written
    for name, content in written.items():
        if name.endswith(".json"):
            assert not re.search(rb"NaN|Infinity", content), name


def test_scores_and_rankings_are_those_of_the_board(site: Site) -> None:
    content, board = board_content(site), site.board
    assert {(cell["column"], cell["model"]) for cell in content["cells"]} == set(board.cells)
    for cell in content["cells"]:
        interval = board.cells[cell["column"], cell["model"]].interval
        assert cell["mean"] == pytest.approx(interval.mean, abs=1e-6)
        assert (cell["n"], cell["unscored"]) == (interval.n, interval.unscored)
    for found in content["rankings"]:
        means = [standing["mean"] for standing in found["standings"]]
        assert means == sorted(means, reverse=True)
        assert sum(standing["p_best"] for standing in found["standings"]) == pytest.approx(1)


def test_a_model_has_its_records_with_their_settings(site: Site) -> None:
    content = model_content(site, "model-a")
    assert [cell["model"] for cell in content["cells"]] == ["model-a"] * 6
    (record,) = content["records"]
    assert record["settings"]["dtype"] == "bfloat16" and record["withdrawn"] is None
    assert content["model"]["checkpoint"] is None
    point = model_content(site, "run-x-s0-300")["model"]["checkpoint"]
    assert (point["run"], point["step"], point["chosen"]) == ("run-x", 300, True)


def test_hostile_text_is_bounded_and_on_one_line(site: Site, written: dict[str, bytes]) -> None:
    content = json.loads(written["api/v1/models/hostile.json"])
    texts = [content["model"][key] for key in ("name", "organisation", "licence", "note")]
    for text in texts:
        assert len(text) <= 400 and not re.search("[\u202a-\u202e\u2066-\u2069\n]", text)
    assert EVIL[:8] in texts[0]  # text stays text: JSON needs no escaping of markup


def test_the_csv_has_a_byte_order_mark_and_a_row_a_score(
    site: Site, written: dict[str, bytes]
) -> None:
    content = written["api/v1/scores.csv"]
    assert content.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
    assert tuple(rows[0]) == CSV_COLUMNS and len(rows) == len(site.board.cells)
    for row in rows:
        assert 0 <= float(row["low"]) <= float(row["score"]) <= float(row["high"]) <= 1
        assert row["record"].startswith(f"{row['slug']}/")
        assert not row["model"].startswith(("=", "+", "-", "@"))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "＝1"])
def test_what_a_spreadsheet_takes_for_a_formula_gets_an_apostrophe(text: str) -> None:
    assert harmless(text) == f"'{text}"


def test_other_text_in_the_csv_is_left_alone() -> None:
    for text in ("", "Model A", "דגם", "7B-=", "1"):
        assert harmless(text) == text


def test_the_bibtex_names_this_state_and_the_sets_it_rests_on(site: Site) -> None:
    text = bibtex(site).decode("utf-8")
    assert f"@misc{{hebench-board-{site.version}," in text and site.date in text
    assert rf"hebench\_mini/qa {site.board.columns['hebench_mini_qa'].version}" in text
    keys = re.findall(r"^@misc\{(.+),$", text, flags=re.MULTILINE)
    assert len(keys) == len(set(keys)) and "hebench-mini-winograd" in keys
    plain = re.sub(r"\\.", "", text)
    assert plain.count("{") == plain.count("}") and not re.search(r"[%&#$~^_]", plain)


def test_schema_is_packaged_as_it_is(written: dict[str, bytes]) -> None:
    path = Path(__file__).parents[2] / "hebench" / "board" / "api_schema.json"
    assert written["api/v1/schema.json"] == path.read_bytes()
