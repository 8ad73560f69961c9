"""From a study to the board: an export of votes joins, and a site of votes alone is whole."""

from pathlib import Path

import pytest
import yaml

from hebench import cli
from hebench.board.build import _render, load_site
from hebench.board.models_file import read_models
from hebench.board.pages import table
from hebench.board.store import add_votes
from hebench.board.verify import verify
from hebench.board.votes import read_votes
from hebench.catalogue import LANGUAGES
from hebench.errors import DataError
from hebench.human.access import enter
from hebench.human.database import open_database
from hebench.human.publish import stored_study
from hebench.human.store import claim
from hebench.human.store import vote as cast
from tests.board.made import made_board
from tests.board.made_votes import MODELS, header, made_votes, vote, write_votes
from tests.human.made_study import ballot
from tests.human.test_cli import attentive

STUDY = "example-translations"
TRANSLATORS = ("smollm2", "translator-1", "translator-2")


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["hebench", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
    printed = capsys.readouterr()
    return int(end.value.code or 0), printed.out, printed.err


def tracks(folder: Path, **found: str) -> Path:
    """Write a `models.yaml` of models in these tracks."""
    folder.mkdir()
    entries = {
        name: {"name": name, "kind": "model", "track": track} for name, track in found.items()
    }
    (folder / "models.yaml").write_text(yaml.safe_dump(entries), encoding="utf-8")
    return folder


def test_the_bundled_study_goes_from_its_export_to_a_new_board_and_its_site(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "study" / "study.yaml"
    assert run(capsys, "human", "init", study.parent)[0] == 0
    assert run(capsys, "human", "publish", study)[0] == 0
    link = run(capsys, "human", "invite", study, "--address", "https://rate.example.org/")[1]
    with open_database(str(study.parent / f"{STUDY}.sqlite")) as database:
        consent = stored_study(database, STUDY).consent.version
        token = link.strip().rpartition("/")[2]
        rater = enter(database, token, consent=consent).person.rater
        while pages := claim(database, rater).assignments:
            answer = attentive(pages[0].source, pages[0].answers, study.parent / "checks.jsonl")
            cast(database, rater, ballot(pages[0], outcome=answer, seconds=90.0))
    assert run(capsys, "human", "close", study)[0] == 0
    votes, board = tmp_path / f"{STUDY}.jsonl", tmp_path / "board"
    assert run(capsys, "human", "export", study, "--out", votes)[0] == 0

    code, printed, said = run(capsys, "board", "add", votes, "--board", board)
    assert (code, printed) == (0, f"{board / 'votes' / votes.name}\n"), said
    assert "new entries: smollm2, translator-1, translator-2;" in said
    entries = read_models(board)
    assert tuple(entries) == TRANSLATORS
    assert {(entry.kind, entry.track) for entry in entries.values()} == {("model", "base")}
    assert run(capsys, "board", "add", votes, "--board", board)[1:] == (printed, ""), "once more"

    code, _, said = run(capsys, "board", "build", "--board", board)
    assert code == 0, said
    assert verify(board, board / "site")[1] == 0
    for language in LANGUAGES:
        home = board / "site" / language
        for page in ("index.html", "compare.html"):
            text = (home / page).read_text("utf-8")
            assert 'class="note"' in text and 'href="votes.html"' in text
            assert "<script" not in text, "there is nothing for it to work on"
        ranking = (home / "votes.html").read_text("utf-8")
        for name in TRANSLATORS:
            assert f'href="models/{name}.html"' in ranking
            assert (home / "models" / f"{name}.html").is_file()
    closed = read_votes(board, entries)[0].closed
    assert closed in (board / "site" / "en" / "index.html").read_text("utf-8")


def test_votes_join_the_models_and_the_scores_that_are_there(tmp_path: Path) -> None:
    board = made_board(tmp_path / "board")
    before = (board / "models.yaml").read_bytes()
    assert add_votes(board, write_votes(tmp_path, made_votes()))[1] == ()
    assert (board / "models.yaml").read_bytes() == before
    site = load_site(board)
    assert [study.models for study in site.votes] == [MODELS] and site.date == "2026-12-01"
    (page,) = table.pages(site)
    assert b'class="note"' not in _render(page, site, "en")


def test_a_new_model_is_of_the_track_of_its_rivals(tmp_path: Path) -> None:
    board = tracks(tmp_path / "board", **{"model-b": "chat"})
    assert add_votes(board, write_votes(tmp_path, [vote()]))[1] == ("model-a",)
    assert read_models(board)["model-a"].track == "chat"


def test_votes_already_in_their_place_only_get_their_entries(tmp_path: Path) -> None:
    path = write_votes(tmp_path / "board", made_votes(40))
    content = path.read_bytes()
    with pytest.raises(DataError, match=f"hebench board add {path} appends its entry"):
        read_votes(tmp_path / "board", {})
    assert add_votes(tmp_path / "board", path) == (path, MODELS)
    assert path.read_bytes() == content


def test_refused_votes_leave_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board, path = tmp_path / "board", write_votes(tmp_path, [vote(outcome="third")])
    code, _, said = run(capsys, "board", "add", path, "--board", board)
    assert code == 2 and "line 2: expected an outcome" in said and not board.exists()
    code, _, said = run(capsys, "board", "add", tmp_path / "no.jsonl", "--board", board)
    assert code == 2 and "expected people's votes, found nothing" in said
    write_votes(tmp_path, [vote()])
    code, _, said = run(capsys, "board", "add", path, "--board", board, "--model", "x")
    assert code == 2 and "omit --model" in said

    mixed = tracks(board, **{"model-a": "base", "model-b": "chat"})
    with pytest.raises(DataError, match=r"tracks \['base', 'chat'\]"):
        add_votes(mixed, path)
    assert not (mixed / "votes").exists()


def test_other_votes_of_a_study_do_not_take_its_place_unasked(tmp_path: Path) -> None:
    kept, _ = add_votes(tmp_path / "board", write_votes(tmp_path, [vote()]))
    first = kept.read_bytes()
    later = write_votes(tmp_path, [vote(), vote(first="model-c", item="i1")])
    with pytest.raises(DataError, match="other votes of study summaries-1 already; remove"):
        add_votes(tmp_path / "board", later)
    assert kept.read_bytes() == first and "model-c" not in read_models(tmp_path / "board")
    kept.unlink()
    add_votes(tmp_path / "board", later)
    assert kept.read_bytes() == later.read_bytes()


def test_votes_are_named_as_their_study(tmp_path: Path) -> None:
    path = write_votes(tmp_path, [vote()], first=header("pairs"))
    with pytest.raises(DataError, match="expected the study to be named as its file"):
        add_votes(tmp_path / "board", path.rename(path.with_name("votes.jsonl")))
