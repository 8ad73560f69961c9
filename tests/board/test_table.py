"""The main page's tables and the data that their column picker computes with."""

import base64
import json
import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hebench.board import tabledata
from hebench.board.build import _render, load_site
from hebench.board.page import Site
from hebench.board.pages.table import pages, track_table, withdrawn
from hebench.board.show import chance
from hebench.board.store import withdraw
from tests.board.made import CHAT, EVIL, MINI, made_board, made_record, made_task, store


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A board with everything on it, a hostile model and a model that was withdrawn."""
    folder = tmp_path_factory.mktemp("table") / "leaderboard"
    made_board(folder, hostile=True)
    task = made_task("hebench_mini_nli", 0.5, 3)
    path = store(folder, made_record("gone", {"hebench_mini_nli": task}))
    entries = folder / "models.yaml"
    entries.write_text(
        entries.read_text("utf-8") + "gone: {name: Gone, kind: model, track: base}\n", "utf-8"
    )
    withdraw(folder, f"gone/{path.name.removesuffix('.json.gz')}", "בטעות", on="2026-11-20")
    return load_site(folder)


class Table(HTMLParser):
    """A page's tracks: heads and rows as lists of texts, and the text outside of isolates."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.track = ""
        self.heads: dict[str, list[str]] = {}
        self.rows: dict[str, dict[str, list[str]]] = {}
        self.kinds: dict[str, list[str]] = {}
        self.loose = ""
        self._cells: list[str] | None = None
        self._stack: list[bool] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        classes = found.get("class", "").split()
        if tag not in {"meta", "link", "input", "br"}:
            isolated = {"ltr", "num"} & set(classes) or tag in {"bdi", "title", "script", "option"}
            self._stack.append(bool(isolated))
        if "track" in classes:
            self.track = found["id"]
            self.rows[self.track], self.kinds[self.track] = {}, []
        if tag == "thead":
            self._cells = self.heads[self.track] = []
        if tag == "tbody":
            self.kinds[self.track].append(found["data-kind"])
        if "data-slug" in found:
            self._cells = self.rows[self.track][found["data-slug"]] = []
        elif tag == "template" or "label" in classes:
            self._cells = None
        if tag in {"td", "th"} and self._cells is not None:
            self._cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self._stack.pop()

    def handle_data(self, data: str) -> None:
        if self._cells:
            self._cells[-1] += data
        if not any(self._stack):
            self.loose += data


@pytest.fixture(scope="module", params=["he", "en"])
def html(made: Site, request: pytest.FixtureRequest) -> str:
    (page,) = pages(made)
    return _render(page, made, request.param).decode("utf-8")


@pytest.fixture(scope="module")
def table(html: str) -> Table:
    return Table(html)


def test_tracks_are_never_mixed_in_one_table(table: Table, made: Site) -> None:
    assert list(table.rows) == ["base", "chat"]
    assert set(table.rows["chat"]) == {"chat-a", "chat-b"}
    for track, rows in table.rows.items():
        assert set(rows) == {entry.slug for entry in made.board.rows(track)}


def test_rows_stand_by_mean_and_kinds_apart(table: Table, made: Site) -> None:
    assert table.kinds == {"base": ["model", "checkpoint", "baseline"], "chat": ["model"]}
    slugs = list(table.rows["base"])
    preset = next(iter(made.board.presets["base"]))
    ranked = list(made.board.rankings["base", preset].standings)
    assert slugs[: len(ranked)] == ranked
    assert slugs[-1] == "baseline-random"
    checkpoints = [float(table.rows["base"][slug][2].split()[0]) for slug in slugs[6:-1]]
    assert checkpoints == sorted(checkpoints, reverse=True) and len(checkpoints) == 7


def test_every_row_has_a_cell_under_every_head(table: Table) -> None:
    for track, keys in (("base", MINI), ("chat", CHAT)):
        assert len(table.heads[track]) == 8 + len(keys)
        assert {len(cells) for cells in table.rows[track].values()} == {8 + len(keys)}


def test_numbers_are_those_of_the_board(table: Table, made: Site) -> None:
    found = made.board.rankings["base", "all"].standings["model-a"]
    cells = table.rows["base"]["model-a"]
    ends = [found.low] if found.low == found.high else [found.low, found.high]
    assert cells[0] == "–".join(map(str, ends))
    mean = found.mean
    assert cells[2] == f"{100 * mean.mean:.1f} [{100 * mean.low:.1f}, {100 * mean.high:.1f}]"
    assert cells[3] == chance(found.p_best)
    texts = {re.sub(r"^●|\s+", " ", cell).strip() for cell in cells[8:]}
    wanted = {made.board.cells[key, "model-a"].interval.text() for key in MINI}
    assert texts == wanted


def test_a_chance_is_sorted_by_its_value_and_not_by_the_digits_it_shows(
    html: str, made: Site
) -> None:
    for slug, standing in made.board.rankings["base", "all"].standings.items():
        row = html.partition(f'<tr data-slug="{slug}"')[2].partition("</tr>")[0]
        shown = chance(standing.p_best).replace("<", "&lt;").replace(">", "&gt;")
        assert f'<td class="num" data-v="{standing.p_best:.6f}">{shown}</td>' in row


def test_a_model_without_a_mean_says_what_it_lacks(html: str, table: Table, made: Site) -> None:
    partial, hostile = table.rows["base"]["model-d"], table.rows["base"]["hostile"]
    assert partial[0] == hostile[0] == "–"
    assert partial[2] in {"חסרה משימה אחת", "lacks 1 task"}
    assert hostile[2] in {"חסרות 5 משימות", "lacks 5 tasks"}
    (cell,) = [cell for cell in partial[8:] if "n=50" in cell]
    assert made.board.cells["hebench_mini_qa", "model-d"].interval.text().split()[0] in cell
    assert html.count(" partial") >= 1


def test_the_best_of_a_column_are_marked_by_weight_and_sign(html: str, made: Site) -> None:
    best = sum(cell.best for cell in made.board.cells.values())
    assert html.count('<span class="dot">●</span><b>') == best > 0
    assert html.count('class="num best') == best


def test_heads_name_metric_and_items_and_lead_to_the_task(html: str, table: Table) -> None:
    for key in MINI:
        assert f'<th scope="col" data-key="{key}" class="num"' in html
        assert f'href="tasks/{key}.html"' in html
    assert "TLNLS" in table.heads["base"][8] and "n=187" in table.heads["base"][8]
    assert html.count('aria-sort="descending"') == 2, "one in each track"


def test_a_withdrawn_model_is_listed_with_its_reason(html: str, made: Site) -> None:
    ((entry, stone),) = withdrawn(made.board)
    assert (entry.slug, stone.date, stone.reason) == ("gone", "2026-11-20", "בטעות")
    assert "<bdi>Gone</bdi>" in html and "2026-11-20" in html and "בטעות" in html
    assert 'data-slug="gone"' not in html


def test_no_number_of_the_hebrew_page_stands_loose(html: str, table: Table) -> None:
    if 'lang="he" dir="rtl"' in html.split("\n")[1]:
        assert re.findall(r".{0,20}\d.{0,20}", table.loose) == []


def test_hostile_text_stays_text(html: str) -> None:
    assert "<script>window" not in html and EVIL not in html
    assert "\u202e" not in html
    assert len(html) < 100_000
    assert not re.search(r"\sstyle=|\son[a-z]+=|javascript:", html.replace("&", ""))


def test_the_page_loads_its_scripts_and_no_data(html: str) -> None:
    scripts = re.findall(r'<script src="([^"]+)"', html)
    assert scripts == ["../assets/core.js", "../assets/packed.js", "../assets/table.js"]


def test_presets_name_columns_that_the_table_has(made: Site) -> None:
    for track in made.board.tracks:
        table = track_table(made.board, track)
        keys = {column.key for column in table.columns}
        for name, places in table.presets.items():
            assert set(table.keys(places).split(",")) == set(made.board.presets[track][name])
            assert set(table.keys(places).split(",")) <= keys
        assert table.counted == tuple(range(len(table.counted))), "counted columns come first"
        assert 0 <= table.scale[0] < table.scale[1] <= 1.1


@given(st.floats(0, 1))
def test_a_chance_is_never_certain_and_never_nothing(share: float) -> None:
    text = chance(share)
    assert text in {"<1%", ">99%"} or abs(float(text[:-1]) / 100 - share) <= 0.005 + 1e-9


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "<1%"), (0.0049, "<1%"), (0.005, "1%"), (0.125, "13%"), (0.995, ">99%"), (1, ">99%")],
)
def test_chances_are_rounded_as_in_the_browser(share: float, text: str) -> None:
    assert chance(share) == text


# ------------------------------------------------------------------- data of the column picker


@pytest.fixture(scope="module")
def data(made: Site) -> dict[str, object]:
    return dict(_calls(made))


def _calls(site: Site) -> Iterator[tuple[str, object]]:
    for path, content in tabledata.files(site):
        match = re.fullmatch(r'hebenchData\("([^"]+)",(.*)\)\n', content.decode("ascii"), re.S)
        assert match and path == f"data/{match[1]}.js"
        yield match[1], json.loads(match[2])


def test_the_browser_gets_the_unrounded_numbers(data: dict[str, object], made: Site) -> None:
    board = made.board
    payload = data["board"]
    assert isinstance(payload, dict) and list(payload) == ["base", "chat"]
    base = payload["base"]
    assert base["columns"] == list(MINI)
    assert base["units"] == [board.columns[key].units for key in MINI]
    slugs = [slug for slug, _, _ in base["rows"]]
    assert slugs == [slug for slug in board.models if slug in slugs], "the order of models.yaml"
    for slug, ranked, packed in base["rows"]:
        numbers = np.frombuffer(base64.b64decode(packed), "<f8").reshape(len(MINI), 3)
        assert ranked == (slug in {"model-a", "model-b", "model-c", "model-d", "hostile"}
                          or slug == "run-x-s0-300")  # fmt: skip
        for key, (mean, error, units) in zip(MINI, numbers, strict=True):
            cell = board.cell(key, slug)
            if cell is None or cell.partial:
                assert math.isnan(mean)
            else:
                interval = cell.interval
                assert (mean, error, units) == (
                    interval.mean, interval.standard_error, interval.clusters
                )  # fmt: skip


def test_the_browser_gets_the_variances_of_all_pairs(data: dict[str, object], made: Site) -> None:
    for key in (*MINI, *CHAT):
        payload = data[f"pairs/{key}"]
        assert isinstance(payload, dict)
        assert payload["models"] == made.board.ranked(key)
        upper = np.frombuffer(base64.b64decode(payload["v"]), "<f4").astype(np.float64)
        count = len(payload["models"])
        full = np.zeros((count, count))
        full[np.triu_indices(count, k=1)] = upper
        assert (full + full.T == made.board.variances[key]).all(), "the same 32 bits"


def test_the_same_records_give_the_same_bytes(made: Site, tmp_path: Path) -> None:
    again = load_site(made_board(tmp_path / "leaderboard", hostile=True))
    (page,) = pages(again)
    assert _render(page, again, "he") == _render(page, again, "he")
    assert (
        dict(tabledata.files(again))["data/board.js"]
        == dict(tabledata.files(made))["data/board.js"]
    )
