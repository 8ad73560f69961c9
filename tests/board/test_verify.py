"""`board build`, `board verify` and `board serve` over a made-up leaderboard."""

import gzip
import re
import shutil
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from hebench.board.build import build_site
from hebench.board.serve import HEADERS, site_server
from hebench.board.verify import verify
from hebench.errors import ConfigError, DataError
from tests.board.made import made_board


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = made_board(tmp_path_factory.mktemp("verify"))
    build_site(folder, folder / "site")
    return folder


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "board"))


def test_an_honest_site_is_verified(built: Path) -> None:
    files, scores = verify(built, built / "site")
    assert files > 100 and scores == 13 * 6 + 2 * 2


def test_a_second_build_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    again = build_site(built, tmp_path / "again")
    first = {p.relative_to(built / "site"): p.read_bytes() for p in (built / "site").rglob("*.*")}
    assert first == {p.relative_to(again): p.read_bytes() for p in again.rglob("*.*")}


@pytest.mark.parametrize(
    "page", ["he/index.html", "en/models/model-a.html", "he/tasks/hebench_mini_qa.html"]
)
def test_one_changed_digit_is_found_and_named(copy: Path, page: str) -> None:
    path = copy / "site" / page
    text = path.read_text(encoding="utf-8")
    number = re.search(r">(\d\d\.\d)<", text) or re.search(r"(\d\d\.\d)", text)
    assert number is not None
    start, stop = number.span(1)
    wrong = f"{(float(number[1]) + 11) % 90 + 10:.1f}"
    path.write_text(text[:start] + wrong + text[stop:], encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(page)) as caught:
        verify(copy, copy / "site")
    assert number[1] in str(caught.value) and wrong in str(caught.value)


def test_a_changed_table_of_scores_is_found_without_the_builder(copy: Path) -> None:
    table = copy / "site" / "api" / "v1" / "scores.csv"
    lines = table.read_text(encoding="utf-8-sig").splitlines()
    place = lines[0].split(",").index("score")
    cells = lines[3].split(",")
    cells[place] = "0.999"
    lines[3] = ",".join(cells)
    table.write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 4: the record gives 0\.\d+ of \d+ items, the table"):
        verify(copy, copy / "site")


def test_a_record_is_unpacked_once_for_all_its_scores(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    real = gzip.open

    def counted(path: Path) -> object:
        opened.append(path)
        return real(path)

    monkeypatch.setattr("hebench.board.verify.gzip.open", counted)
    verify(built, built / "site")
    assert sorted(opened) == sorted(built.glob("results/*/*.json.gz"))


def test_a_missing_page_an_extra_page_and_other_records_are_found(copy: Path) -> None:
    extra = copy / "site" / "he" / "extra.html"
    extra.write_text("<p>90.0</p>", encoding="utf-8")
    with pytest.raises(DataError, match="no record accounts for this file"):
        verify(copy, copy / "site")
    extra.unlink()
    (copy / "site" / "en" / "method.html").unlink()
    with pytest.raises(DataError, match=r"method\.html: expected this page, found nothing"):
        verify(copy, copy / "site")
    with pytest.raises(DataError, match="run hebench board build"):
        verify(copy, copy / "nothing")


def test_a_site_takes_the_place_of_a_site_and_of_nothing_else(built: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(ConfigError, match="expected an empty folder or an earlier site"):
        build_site(built, mine)
    assert (mine / "thesis.txt").read_text(encoding="utf-8") == "years of work"
    site = build_site(built, tmp_path / "site")
    (site / "stale.html").write_text("old", encoding="utf-8")
    build_site(built, site)
    assert not (site / "stale.html").exists() and not list(tmp_path.glob(".site*"))


def test_an_empty_leaderboard_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="hebench board add"):
        build_site(tmp_path, tmp_path / "site")


def test_the_server_is_local_and_stays_in_its_folder(built: Path) -> None:
    with site_server(built / "site", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert server.server_address[0] == "127.0.0.1"
        root = f"http://127.0.0.1:{server.server_port}"
        with urllib.request.urlopen(f"{root}/he/index.html") as answer:
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
            assert all(answer.headers[name] == value for name, value in HEADERS.items())
        for path in ("/../models.yaml", "/%2e%2e/models.yaml"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(root + path)
        with pytest.raises(ConfigError, match="cannot listen on port"):
            site_server(built / "site", server.server_port)
        server.shutdown()
    with pytest.raises(ConfigError, match="run hebench board build"):
        site_server(built, 0)
