"""The item explorer: texts, answers and difficulty of each item, readable without scripts."""

import dataclasses
import re
from pathlib import Path

import pytest

from hebench.board.build import _render, load_site
from hebench.board.packed import PAGE
from hebench.board.page import Page, Site
from hebench.board.pages.items import SHOWN_MODELS, _groups, item_path, pages
from hebench.board.show import MAX_ANSWER
from tests.board.made import EVIL, made_board, made_record, made_task, store


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return load_site(made_board(tmp_path_factory.mktemp("items"), hostile=True))


@pytest.fixture(scope="module")
def found(site: Site) -> dict[str, Page]:
    return {page.path: page for page in pages(site)}


def html(site: Site, page: Page, language: str = "he") -> str:
    return _render(page, site, language).decode("utf-8")


def test_every_item_of_every_column_has_its_place(site: Site, found: dict[str, Page]) -> None:
    for column in site.board.columns.values():
        for place in (0, PAGE - 1, PAGE, len(column.items) - 1):
            path, _, anchor = item_path(column, place).partition("#")
            (item,) = [item for item in found[path].context["items"] if item.anchor == anchor]
            assert item.name == column.items[place]


@pytest.mark.parametrize("language", ["he", "en"])
def test_all_pages_render_with_one_heading_and_linked_neighbours(
    site: Site, found: dict[str, Page], language: str
) -> None:
    for path, page in found.items():
        text = html(site, page, language)
        assert text.count("<h1>") == 1
        for link in re.findall(r'rel="(?:prev|next)" href="([^"]+)"', text):
            assert f"{path.rpartition('/')[0]}/{link}" in found


def test_an_item_shows_its_text_the_right_choice_and_all_answers(
    site: Site, found: dict[str, Page]
) -> None:
    text = html(site, found["items/hebench_mini_nli/1.html"], "en")
    first = text.partition('id="item-1"')[2].partition("</article>")[0]
    for label in ("Premise", "Hypothesis", "Choices"):
        assert f"<dt>{label}</dt>" in first
    assert first.count("right answer") == 1
    for name in ("Model A", "Model D", "Run X, seed 1, step 400"):
        assert name in first
    assert 'dir="auto"' in first


def test_answers_are_grouped_best_first() -> None:
    given = [
        ("לא", 0.0, "a"),
        ("כן", 1.0, "b"),
        ("לא", 0.0, "c"),
        ("לא", None, "d"),
        (None, 0.5, "e"),
    ]
    groups = _groups(given, ())
    assert [(group.text, group.score, group.slugs) for group in groups] == [
        ("כן", 1.0, ("b",)),
        (None, 0.5, ("e",)),
        ("לא", 0.0, ("a", "c")),
        ("לא", None, ("d",)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "choices", "text", "choice", "nats"),
    [
        ((-2.0, -1.0), ("א", "ב"), "ב", 2, None),
        ((-1.0, -1.0), ("א", "ב"), "א", 1, None),
        ((-2.0, -1.0), (), None, 2, None),
        ((-12.5,), (), None, None, -12.5),
        ("<b>", (), "&lt;b&gt;", None, None),
        ("", (), "", None, None),
        (None, (), None, None, None),
    ],
)
def test_an_answer_is_what_the_model_said_or_chose(
    answer: str | tuple[float, ...] | None,
    choices: tuple[str, ...],
    text: str | None,
    choice: int | None,
    nats: float | None,
) -> None:
    (group,) = _groups([(answer, 1.0, "a")], choices)
    assert (group.text, group.choice, group.nats) == (text, choice, nats)


@pytest.mark.parametrize("kind", ["model", "baseline"])
def test_a_part_of_the_credit_is_no_check_mark_whoever_got_it(tmp_path: Path, kind: str) -> None:
    task = made_task("hebench_mini_qa", 0.5, 1, limit=3)
    for slug, scores in (("graded", (0.625, 1.0, None)), ("right", (1.0, 0.0, 1.0))):
        metrics: dict[str, tuple[float | None, ...]] = {"score": scores}
        record = made_record(slug, {"hebench_mini_qa": dataclasses.replace(task, metrics=metrics)})
        store(tmp_path, record)
    (tmp_path / "models.yaml").write_text(
        "graded: {name: G, kind: baseline, track: base}\n"
        f"right: {{name: R, kind: {kind}, track: base}}\n"
    )
    site = load_site(tmp_path)
    (page,) = [page for page in pages(site) if page.path.endswith("/1.html")]
    text = html(site, page)
    assert "✓" not in text and "✗" not in text and ">62.5<" in text


def test_a_column_of_right_and_wrong_has_check_marks(site: Site, found: dict[str, Page]) -> None:
    text = html(site, found["items/hebench_mini_nli/1.html"])
    assert '<span aria-hidden="true" class="good">✓</span> 100' in text


def test_a_partial_run_is_counted_and_not_shown_as_wrong(found: dict[str, Page]) -> None:
    items = found["items/hebench_mini_qa/2.html"].context["items"]
    assert all(item.not_run == 1 for item in items)
    assert not any("model-d" in group.slugs for item in items for group in item.groups)


def test_an_answer_is_bounded_and_shown_not_obeyed(site: Site, found: dict[str, Page]) -> None:
    text = html(site, found["items/hebench_mini_qa/1.html"])
    assert EVIL not in text and "<script>window" not in text and "\u202e" not in text
    assert '<span class="control">U+202E</span>' in text
    assert "א" * 200 in text and "א" * (MAX_ANSWER + 1) not in text


def test_the_first_page_can_search_and_the_others_lead_to_it(
    site: Site, found: dict[str, Page]
) -> None:
    first, second = (found[f"items/hebench_mini_qa/{number}.html"] for number in (1, 2))
    assert 'id="explore"' in html(site, first) and first.scripts
    assert 'id="explore"' not in html(site, second) and not second.scripts
    assert 'href="1.html"' in html(site, second)


def test_a_public_set_shows_ids_and_answers_and_where_its_texts_are(tmp_path: Path) -> None:
    task = made_task("hebench_mini_nli", 0.5, 1)
    store(tmp_path, made_record("m", {"hebench_nli": task}))
    (tmp_path / "models.yaml").write_text("m: {name: M, kind: model, track: base}\n")
    site = load_site(tmp_path)
    page = next(page for page in pages(site) if page.path.endswith("/1.html"))
    text = html(site, page, "en")
    assert "not republished" in text and "<dl" not in text
    assert re.search("choice .*[123]", text) and task.items[0] in text


def test_of_many_models_the_first_stand_in_the_page_and_the_rest_are_counted(
    tmp_path: Path,
) -> None:
    count = SHOWN_MODELS + 3
    task = dataclasses.replace(made_task("hebench_mini_nli", 0.5, 0, limit=60), total=60)
    names = []
    for number in range(count):
        slug = f"m{number:02}"
        store(tmp_path, made_record(slug, {"hebench_mini_nli": task}))
        names.append(f"{slug}: {{name: Name {number}, kind: model, track: base}}\n")
    (tmp_path / "models.yaml").write_text("".join(names))
    site = load_site(tmp_path)
    page = next(page for page in pages(site) if page.path.endswith("/2.html"))
    assert all(
        sum(len(group.slugs) for group in item.groups) == SHOWN_MODELS
        for item in page.context["items"]
    )
    text = html(site, page, "en")
    assert re.search("3.*more models are not shown", text) and "api/v1/board.json" in text


def test_the_list_of_columns_says_where_texts_are_and_what_is_suspected(
    site: Site, found: dict[str, Page]
) -> None:
    text = html(site, found["items/index.html"], "en")
    for key in site.board.columns:
        assert f'href="../items/{key}/1.html"' in text
    assert "shown here" in text and "too few models" in text
