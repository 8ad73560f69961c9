"""The page of the method: its sections can be linked to, its formulas stand, its table is true."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hebench.board.build import _render, load_site
from hebench.board.page import Site
from hebench.board.pages import method
from hebench.board.suite import suite
from hebench.catalogue import LANGUAGES, catalogue
from tests.board.made import made_board

FOLDER = Path(method.__file__).parents[1]


class Outline(HTMLParser):
    """The headings, ids and nesting of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.headings: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [found["id"]] if found.get("id") else []
        self.headings += [tag] if re.fullmatch("h[1-6]", tag) else []
        if tag not in {"meta", "link", "br", "mspace", "wbr"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "mspace":
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return load_site(made_board(tmp_path_factory.mktemp("board")))


@pytest.fixture(scope="module", params=LANGUAGES)
def text(request: pytest.FixtureRequest, site: Site) -> str:
    (page,) = method.pages(site)
    return _render(page, site, request.param).decode("utf-8")


def test_every_section_has_an_anchor_a_heading_and_a_line_of_the_contents(text: str) -> None:
    found = Outline(text)
    assert found.open == [] and len(found.ids) == len(set(found.ids))
    for name in (*method.SECTIONS, "references"):
        assert name in found.ids and f'<a href="#{name}">' in text
    assert found.headings == ["h1"] + ["h2"] * (len(method.SECTIONS) + 1)


def test_every_anchor_that_other_pages_link_to_exists() -> None:
    wanted = set()
    for path in [*FOLDER.glob("templates/*.html"), *FOLDER.glob("static/*.js")]:
        wanted |= set(re.findall(r"method\.html#([\w-]+)", path.read_text(encoding="utf-8")))
    assert wanted <= {*method.SECTIONS, "references"}, wanted
    assert {"changes", "votes"} <= wanted


def test_the_formulas_are_mathematics_and_read_from_left_to_right(text: str) -> None:
    formulas = [part for parts in method.SECTIONS.values() for part in parts if part[0] == "="]
    assert text.count('<math display="block">') == len(formulas) == 7
    css = (FOLDER / "static" / "method.css").read_text(encoding="utf-8")
    assert re.search(r"\.formula \{[^}]*direction: ltr", css)
    assert "style=" not in text


def test_the_critical_value_of_every_ranking_is_shown(text: str, site: Site) -> None:
    table = text[text.index("<table>") : text.index("</table>")]
    for ranking in site.board.rankings.values():
        assert f'<td class="num">{ranking.critical:.2f}</td>' in table
    assert table.count("<tr>") == 1 + len(site.board.rankings)


def test_every_headline_metric_of_the_tasks_is_explained() -> None:
    assert {info.headline for info in suite().values()} == set(method.METRICS)


def test_no_paragraph_is_without_a_place_and_none_is_missing() -> None:
    for name, parts in method.SECTIONS.items():
        keys = {f"method.{name}.{part}" for part in parts if part[0] not in "=@"}
        assert keys | {f"method.{name}.title"} <= set(catalogue("hebench.board")), name


def test_sources_are_cited_with_a_year_and_arxiv_ids_are_links(text: str) -> None:
    ids = re.findall(r'href="https://arxiv\.org/abs/(\d{4}\.\d{5})" rel="noopener', text)
    cited = [where for *_, where in method.REFERENCES if where.startswith("arXiv ")]
    assert len(ids) == len(cited) >= 7
    assert all(re.fullmatch(r"(19|20)\d\d", year) for _, year, *_ in method.REFERENCES)
