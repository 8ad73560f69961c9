"""`hebench human` as its owner types it."""

import json
import re
from pathlib import Path

import pytest

from hebench import cli
from hebench.human.access import enter
from hebench.human.database import open_database
from hebench.human.publish import stored_study
from hebench.human.quality import exclusions
from hebench.human.store import Ballot, claim, vote
from tests.human.made_study import ballot, joined, vote_all


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["hebench", "human", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
    printed = capsys.readouterr()
    return int(end.value.code or 0), printed.out, printed.err


def attentive(source: str, answers: tuple[str, ...], checks: Path) -> str:
    """Return what somebody who reads the checks says, and elsewhere that the first is better."""
    for line in checks.read_text(encoding="utf-8").splitlines():
        check = json.loads(line)
        if check["source"] == source:
            word = str(check["expected"]["outcome"])
            if word in ("first", "second"):
                right = check["answers"][("first", "second").index(word)]
                return ("first", "second")[answers.index(right)]
            return word
    return "first"


def test_a_study_goes_from_init_to_board_votes_pairs_and_evidence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = str(tmp_path / "study" / "study.yaml")
    assert run(capsys, "init", str(tmp_path / "study"))[0] == 0
    code, printed, _ = run(capsys, "check", study)
    assert (code, "3 models, 12 items" in printed) == (0, True)
    assert run(capsys, "publish", study)[0] == 0
    code, printed, _ = run(capsys, "invite", study, "--address", "https://rate.example.org/")
    token = re.fullmatch(r"https://rate\.example\.org/rate/(\S+)\n", printed)
    assert token

    database = open_database(str(tmp_path / "study" / "example-translations.sqlite"))
    consent = stored_study(database, "example-translations").consent.version
    rater = enter(database, token[1], consent=consent).person.rater
    for number in range(10):
        page = claim(database, rater).assignments[0]
        identity = f"00000000-0000-4000-8000-{number:012d}"
        answer = {"outcome": attentive(page.source, page.answers, tmp_path / "study/checks.jsonl")}
        vote(database, rater, Ballot(id=identity, slot=page.slot, answer=answer, seconds=90.0))
    database.close()

    code, printed, _ = run(capsys, "status", study)
    assert (code, "votes of 1 raters" in printed) == (0, True)
    code, _, problem = run(capsys, "export", study, "--out", str(tmp_path / "early.jsonl"))
    assert (code, "close it first" in problem) == (2, True)
    assert run(capsys, "close", study)[0] == 0
    for what in ("votes", "raw", "preferences", "evidence"):
        out = tmp_path / f"{what}.out"
        code, _, problem = run(capsys, "export", study, "--what", what, "--out", str(out))
        assert code == 0, problem
        assert out.read_text(encoding="utf-8").strip()
    header = json.loads((tmp_path / "votes.out").read_text(encoding="utf-8").splitlines()[0])
    assert header["study"] == "example-translations"
    code, _, problem = run(capsys, "report", study, "--out", str(tmp_path / "votes.out"))
    assert (code, "is there already" in problem) == (2, True)
    assert run(capsys, "report", study, "--out", str(tmp_path / "card.md"))[0] == 0
    assert run(capsys, "backup", study, "--out", str(tmp_path / "copy.sqlite"))[0] == 0
    live = tmp_path / "study" / "example-translations.sqlite"
    code, _, problem = run(capsys, "backup", study, "--out", str(live))
    assert (code, "is there already" in problem) == (2, True)


def test_check_names_what_is_too_short_to_be_masked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "study.yaml"
    run(capsys, "init", str(tmp_path))
    assert "too short" not in run(capsys, "check", str(study))[1]
    text = study.read_text(encoding="utf-8").replace("SmolLM2, SmolLM]", "SmolLM2, o1, go]")
    study.write_text(text, encoding="utf-8")
    assert "not masked in answers, since too short: go\n" in run(capsys, "check", str(study))[1]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["status", "no-such-study"], "--db"),
        (["check", "absent.yaml"], "expected a YAML file"),
        (["init", "new", "--example", "poems"], "translations, summaries"),
        (["invite", "name", "--db", "x.sqlite", "--role", "king"], "expected rater"),
        (["export", "name", "--db", "x.sqlite", "--what", "all", "--out", "y"], "expected raw"),
        (["status", "name", "--db", "mysql://there/x"], "postgresql"),
        (["backup", "name", "--db", "mistyped.sqlite", "--out", "y"], "found none at mistyped"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, problem = run(capsys, *arguments)
    assert code == 2
    assert expected in problem
    assert problem.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_status_hides_models_until_the_end_and_keeps_why_it_named_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = str(tmp_path / "study.yaml")
    run(capsys, "init", str(tmp_path))
    run(capsys, "publish", study)
    database = open_database(str(tmp_path / "example-translations.sqlite"))
    vote_all(database, joined(database, "example-translations"))
    database.close()
    _, printed, _ = run(capsys, "status", study)
    assert all(f"votes  model {number}\n" in printed for number in (1, 2, 3))
    assert "smollm2" not in printed and "translator" not in printed
    code, _, problem = run(capsys, "status", study, "--names", " ")
    assert (code, "expected the reason" in problem) == (2, True)
    _, printed, _ = run(capsys, "status", study, "--names", "a model seems broken")
    assert "votes  smollm2\n" in printed and "model 1" not in printed
    assert "models could be told after" in printed and "status, by command line" in printed
    run(capsys, "close", study)
    _, printed, _ = run(capsys, "status", study)
    assert "model 1" not in printed


def test_an_export_of_an_open_study_excludes_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, out = str(tmp_path / "study.yaml"), str(tmp_path / "out")
    run(capsys, "init", str(tmp_path))
    run(capsys, "publish", study)
    with open_database(str(tmp_path / "example-translations.sqlite")) as database:
        rater = joined(database, "example-translations")
        vote(database, rater, ballot(claim(database, rater).assignments[0], seconds=0.01))
        for command in (("export", study, "--out", out), ("report", study, "--out", out)):
            assert run(capsys, *command)[0] == 2
            assert exclusions(database, "example-translations") == ()
        assert run(capsys, "close", study)[0] == 0
        assert [one.reason for one in exclusions(database, "example-translations")] == ["too_fast"]


def test_notes_leave_a_study_only_among_the_raw_rows_and_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = str(tmp_path / "study.yaml")
    run(capsys, "init", str(tmp_path))
    run(capsys, "publish", study)
    with open_database(str(tmp_path / "example-translations.sqlite")) as database:
        rater = joined(database, "example-translations")
        page = claim(database, rater).assignments[0]
        vote(database, rater, ballot(page, note="התשובה השנייה קטועה"))
    run(capsys, "close", study)
    for options, there in (((), False), (("--notes",), True)):
        out = tmp_path / f"raw{there}.jsonl"
        run(capsys, "export", study, "--what", "raw", "--out", str(out), *options)
        assert ("קטועה" in out.read_text(encoding="utf-8")) is there
    code, _, problem = run(capsys, "export", study, "--notes", "--out", str(tmp_path / "votes"))
    assert (code, "expected --what raw" in problem) == (2, True)


def test_a_file_that_was_changed_after_publishing_is_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hebench.human.serve.serve", lambda **_: None)
    study = tmp_path / "here" / "study.yaml"
    run(capsys, "init", str(study.parent))
    assert run(capsys, "serve", str(study))[2] == ""
    assert run(capsys, "serve", str(study))[2] == ""
    moved = tmp_path / "there" / "study.yaml"
    study.parent.rename(moved.parent)
    assert run(capsys, "serve", str(moved))[2] == "", "a study may move"
    text = moved.read_text(encoding="utf-8")
    text = text.replace("rule: all", "rule: votes\n  votes: 9").replace("seed: ", "seed: 9")
    moved.write_text(text, encoding="utf-8")
    code, _, problem = run(capsys, "serve", str(moved))
    assert code == 0
    assert "seed, stop;" in problem and "a new `name`" in problem and problem.count("\n") == 1
