"""Model pages: what is known, commands that repeat a record, nothing hostile obeyed."""

import dataclasses
import shlex
from pathlib import Path

import pytest

from hebench.board.build import _render, load_site
from hebench.board.page import Page, Site
from hebench.board.pages import checkpoints, models
from hebench.board.pages.models import command
from hebench.board.show import chance, size
from hebench.board.store import read_store, withdraw
from tests.board.made import EVIL, made_board, made_record, made_task, store


@pytest.fixture(scope="module")
def site(leaderboard: Path) -> Site:
    return load_site(leaderboard)


@pytest.fixture(scope="module")
def found(site: Site) -> dict[str, Page]:
    return {page.path: page for page in models.pages(site)}


def html(site: Site, page: Page, language: str = "en") -> str:
    return _render(page, site, language).decode("utf-8")


def test_there_is_a_page_for_every_entry(site: Site, found: dict[str, Page]) -> None:
    assert set(found) == {f"models/{slug}.html" for slug in site.board.models}


def test_a_page_gives_what_is_known_and_says_what_is_not_stated(
    site: Site, found: dict[str, Page]
) -> None:
    first, last = (html(site, found[f"models/model-{name}.html"]) for name in "ad")
    assert "Apache-2.0" in first and "100,000,000" in first
    assert '<a class="ltr" href="https://example.org/model-a" rel="nofollow noopener">' in first
    known = [page[: page.index("Where the numbers come from")] for page in (first, last)]
    assert "not stated" not in known[0] and "not stated" in known[1]
    assert "unknown</span>" in first  # training data: a value of its own


def test_ranks_and_chances_of_every_preset_are_shown(site: Site, found: dict[str, Page]) -> None:
    places = found["models/model-a.html"].context["places"]
    assert [place.preset for place in places] == list(site.board.presets["base"])
    page = html(site, found["models/model-a.html"])
    for place in places:
        standing = place.standing
        assert chance(standing.p_best).replace("<", "&lt;").replace(">", "&gt;") in page
    partial = found["models/model-d.html"].context["places"]
    assert all(place.standing is None for place in partial)
    assert "it lacks" in html(site, found["models/model-d.html"])


def test_baselines_and_unchosen_checkpoints_say_why_they_are_not_ranked(
    site: Site, found: dict[str, Page]
) -> None:
    assert "A baseline" in html(site, found["models/baseline-random.html"])
    assert "was not chosen" in html(site, found["models/run-x-s1-400.html"])
    assert "was chosen" in html(site, found["models/run-x-s0-300.html"])
    assert "קו בסיס: תשובה אקראית" in html(site, found["models/baseline-random.html"], "he")


@pytest.mark.parametrize("language", ["he", "en"])
def test_hostile_text_is_shown_and_not_obeyed(
    site: Site, found: dict[str, Page], language: str
) -> None:
    page = html(site, found["models/hostile.html"], language)
    assert "<script>window" not in page and "&lt;script&gt;window" in page
    assert "\u202e" not in page and "\u2066=" not in page
    assert len(page) < 60_000


@pytest.mark.parametrize("backend", ["prefix", "hf"])
def test_a_source_that_is_a_folder_is_said_to_be_one(tmp_path: Path, backend: str) -> None:
    folder = made_board(tmp_path)
    for item in read_store(folder)[1]:
        if item.record.model == "model-a":
            settings = {"source": "my-model", "weights_sha256": "0" * 64, "backend": backend}
            made = dataclasses.replace(item.record, settings=item.record.settings | settings)
            item.path.unlink()
            store(folder, made)
    site = load_site(folder)
    pages = {page.path: page for page in models.pages(site)}
    said = "is a folder of whoever ran it"
    assert said in html(site, pages["models/model-a.html"])
    assert said not in html(site, pages["models/model-b.html"])  # owner/model-b


@pytest.mark.parametrize(
    ("parameters", "shown"),
    [
        (950, "950"),
        (134_515_008, "135M"),
        (999_885_952, "1B"),
        (1_040_000_000_000, "1.04T"),
        (None, None),
    ],
)
def test_a_size_is_short_and_never_a_power_of_ten(parameters: int | None, shown: str) -> None:
    assert size(parameters) == shown


def record(**settings: object) -> models.RunRecord:
    made = made_record("slug", {"hebench_mini_qa": made_task("hebench_mini_qa", 0.5, 1, limit=3)})
    return dataclasses.replace(made, settings=made.settings | settings)


def words(text: str) -> list[str]:
    return shlex.split(text.replace("\\\n", " "))


def test_the_command_has_every_setting_that_a_score_depends_on() -> None:
    text = command(record(source="owner/model", revision="abc", limit=3, max_tokens=512))
    assert words(text) == [
        *("hebench", "eval", "owner/model", "--tasks", "hebench_mini_qa"),
        *("--revision", "abc", "--dtype", "bfloat16", "--batch-size", "8", "--device", "cpu"),
        *("--seed", "1234", "--limit", "3", "--max-tokens", "512"),
        *("--backend", "hf", "--track", "base", "--out", "runs/slug"),
    ]


@pytest.mark.parametrize("backend", ["prefix", "hf", "vllm"])
def test_the_command_names_the_backend_which_need_not_be_the_default(backend: str) -> None:
    found = words(command(record(source="owner/model", backend=backend)))
    assert found[found.index("--backend") + 1] == backend
    baseline = command(record(source="baseline:random", backend="baseline"))
    assert "--backend" not in words(baseline)


def test_hostile_settings_stay_one_word_of_the_shell() -> None:
    evil = "x'; rm -rf ~ #\n$(id) `id` \u202e"
    found = words(command(record(source=evil, device=evil)))
    assert found[2] == "x'; rm -rf ~ # $(id) `id`"
    assert found[found.index("--device") + 1] == found[2]


def test_a_plain_run_is_repeated_with_the_plain_command() -> None:
    text = command(record(source="owner/model", backend="lm_eval", dtype=None))
    found = words(text)
    assert found[:4] == ["lm_eval", "run", "--model", "hf"]
    assert "pretrained=owner/model" in found and "--batch_size" in found
    assert '--include_path "$(hebench tasks path)"' in text
    assert "--dtype" not in found and "--track" not in found
    assert "--apply_chat_template" not in found
    chat = dataclasses.replace(record(source="owner/model", backend="lm_eval"), track="chat")
    assert "--apply_chat_template" in words(command(chat))


def test_a_server_and_a_split_are_part_of_the_command() -> None:
    task = dataclasses.replace(made_task("hebench_mini_qa", 0.5, 1, limit=3), split="validation")
    made = made_record("slug", {"hebench_mini_qa.validation": task}, track="chat")
    served = dataclasses.replace(
        made, settings=made.settings | {"backend": "openai", "revision": "he-1-2026-11-01"}
    )
    assert '--backend openai --base-url "$BASE_URL"' in command(served)
    assert "--split validation" in command(served) and "--track chat" in command(served)
    assert "--revision" not in command(served)  # which the server chose
    plain = dataclasses.replace(made, settings=made.settings | {"backend": "lm_eval"})
    assert '{"split": "validation"}' in words(command(plain))


def test_a_whole_group_is_named_instead_of_its_tasks() -> None:
    names = (
        "hebench_mini_grammar",
        "hebench_mini_sentiment",
        "hebench_mini_nli",
        "hebench_select_bpb",
    )
    task = made_task("hebench_mini_qa", 0.5, 1, limit=3)
    assert "--tasks hebench_select" in command(made_record("slug", dict.fromkeys(names, task)))


def test_a_run_whose_records_are_all_withdrawn_is_named_and_no_link(tmp_path: Path) -> None:
    folder = made_board(tmp_path)
    for item in read_store(folder)[1]:
        if item.record.model.startswith("run-x"):
            withdraw(folder, item.name, "of another version")
    site = load_site(folder)
    page = next(p for p in models.pages(site) if p.path == "models/run-x-s0-300.html")
    shown = html(site, page)
    assert list(checkpoints.pages(site)) == []
    assert '<code class="ltr">run-x</code>' in shown and "runs/" not in shown
    assert "is therefore ranked" not in shown


def test_withdrawn_records_stay_with_their_reason(tmp_path: Path) -> None:
    folder = made_board(tmp_path)
    name = next(item.name for item in read_store(folder)[1] if item.record.model == "model-c")
    withdraw(folder, name, "Trained on the test set " + EVIL, on="2026-11-20")
    site = load_site(folder)
    page = next(p for p in models.pages(site) if p.path == "models/model-c.html")
    shown = html(site, page)
    assert name in shown and "2026-11-20" in shown and "Trained on the test set" in shown
    assert "no scores on the board" in shown and "no live record" in shown
    assert "<script>window" not in shown
