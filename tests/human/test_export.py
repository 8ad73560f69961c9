"""What leaves a study is what its readers take: the board, preference training, selection."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from hebench.board.votes import read_votes
from hebench.errors import ConfigError, DataError
from hebench.human.blinding import close_study, reopen_study, reveal
from hebench.human.card import study_card
from hebench.human.collected import collected
from hebench.human.database import Database, open_database
from hebench.human.export import (
    backup,
    evidence_json,
    preference_jsonl,
    raw_jsonl,
    review_jsonl,
    settle,
    votes_jsonl,
)
from hebench.human.publish import study_state
from hebench.human.quality import apply_rules, exclusions
from hebench.human.results import study_results
from hebench.human.store import claim, undo, vote
from hebench.records import ModelEntry
from hebench.selection.rules import read_evidence
from tests.human.made_study import (
    MODELS,
    ballot,
    joined,
    made_collected,
    new_id,
    published,
    simulated,
    vote_all,
)

STUDY = "summaries-1"
STRENGTHS = {"aleph": 1.0, "bet": 0.0, "gimel": -1.0}
ENTRIES = {name: ModelEntry(slug=name, name=name, kind="model", track="base") for name in MODELS}


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_board_reads_the_votes_as_they_were_cast(database: Database, tmp_path: Path) -> None:
    published(database, plan={"gold": 1})
    raters = [joined(database) for _ in range(3)]
    for rater in raters[:2]:
        vote_all(database, rater, "first")
    vote(database, raters[2], ballot(claim(database, raters[2]).assignments[0], seconds=0.01))
    apply_rules(database, STUDY)
    close_study(database, STUDY)
    found = collected(database, STUDY)
    (tmp_path / "votes").mkdir()
    (tmp_path / "votes" / f"{STUDY}.jsonl").write_text(votes_jsonl(found), encoding="utf-8")
    (read,) = read_votes(tmp_path, ENTRIES)
    main = [v for v in found.votes if v.kind == "main"]
    assert len(read.votes) == len(main) == 9
    assert [v.outcome for v in read.votes] == ["first"] * 9
    assert [(v.first, v.second, v.rater) for v in read.votes] == [(*v.shown, v.rater) for v in main]
    assert [v.excluded for v in read.votes][-1] == "too_fast"
    assert len(read.counted) == 8


def test_a_slots_second_vote_is_not_among_the_boards_votes() -> None:
    votes = simulated(STRENGTHS, raters=2, votes_each=3)
    votes.append(votes[0] | {"rater": "r-late", "excluded": ("slot_taken",)})
    votes.append(votes[1] | {"rater": "r-late", "excluded": ("after_close",)})
    _, *exported = rows(votes_jsonl(made_collected(votes)))
    assert [row["excluded"] for row in exported] == [None] * 6 + ["after_close"]


def test_the_board_reads_how_often_names_were_seen_before_the_end(
    database: Database, tmp_path: Path
) -> None:
    published(database)
    vote_all(database, joined(database))
    (tmp_path / "votes").mkdir()
    path = tmp_path / "votes" / f"{STUDY}.jsonl"
    close_study(database, STUDY)
    path.write_text(votes_jsonl(collected(database, STUDY)), encoding="utf-8")
    assert read_votes(tmp_path, ENTRIES)[0].unblinded is None
    reopen_study(database, STUDY)
    vote_all(database, joined(database))
    for _ in range(300):  # however often: a line of the board's has an end
        reveal(database, STUDY, what="status", why="a model seems broken" * 20)
    close_study(database, STUDY)
    path.write_text(votes_jsonl(collected(database, STUDY)), encoding="utf-8")
    found = read_votes(tmp_path, ENTRIES)[0].unblinded
    assert found is not None
    assert (found.times, found.votes) == (301, 4)


def test_settling_an_open_study_excludes_nothing_and_a_closed_one_by_its_rules(
    database: Database,
) -> None:
    published(database)
    rater = joined(database)
    vote(database, rater, ballot(claim(database, rater).assignments[0], seconds=0.01))
    with pytest.raises(DataError, match="close it"):
        settle(database, STUDY)
    assert exclusions(database, STUDY) == ()
    close_study(database, STUDY)
    settle(database, STUDY)
    assert [row.reason for row in exclusions(database, STUDY)] == ["too_fast"]


def test_an_open_study_names_no_models(database: Database) -> None:
    published(database)
    vote_all(database, joined(database))
    found = collected(database, STUDY)
    for export in (votes_jsonl, preference_jsonl, evidence_json, review_jsonl):
        with pytest.raises(DataError, match="close it"):
            export(found)
    with pytest.raises(DataError, match="close it"):
        raw_jsonl(database, STUDY)
    with pytest.raises(DataError, match="close it"):
        study_card(found, study_results(found))


def test_raw_rows_hold_every_revision_and_no_note_unless_asked(database: Database) -> None:
    published(database)
    rater = joined(database)
    page = claim(database, rater).assignments[0]
    vote(database, rater, ballot(page, "first", note="שמי דנה"))
    vote(database, rater, ballot(page, "tie"))
    undo(database, rater, id=new_id())
    close_study(database, STUDY)
    text = raw_jsonl(database, STUDY)
    header, *votes = rows(text)
    assert header["study"]["models"] == list(MODELS)
    assert [(v["revision"], v["answer"]) for v in votes] == [
        (1, {"outcome": "first"}),
        (2, {"outcome": "tie"}),
        (3, None),
    ]
    assert {v["first"] for v in votes} | {v["second"] for v in votes} <= set(MODELS)
    assert "דנה" not in text and ".jsonl" not in text
    assert rows(raw_jsonl(database, STUDY, notes=True))[1]["note"] == "שמי דנה"


def test_pairs_for_training_hold_what_more_raters_preferred() -> None:
    def pair(item: str, rater: str, outcome: str, **more: Any) -> dict[str, Any]:
        answer = {"outcome": outcome}
        row = {"item": item, "rater": rater, "models": ("aleph", "bet"), "answer": answer}
        return row | more

    votes = [pair("i", "a", "first"), pair("i", "b", "first"), pair("i", "c", "both_bad")]
    votes += [pair("j", "a", "second", swapped=True)]
    votes += [pair("k", "a", "first"), pair("k", "b", "second")]  # undecided
    votes += [pair("m", "a", "first", texts=("זהה", "זהה "))]  # nothing to learn
    votes += [pair("n", "a", "first", texts=("", "משהו"))]
    votes += [pair("o", "a", "first", excluded=("gold",))]
    first, second = rows(preference_jsonl(made_collected(votes)))
    assert (first["prompt"], first["chosen"], first["rejected"]) == (
        "סכמו: i",
        "תשובת aleph",
        "תשובת bet",
    )
    assert (first["votes"], first["margin"]) == (3, 0.6667)
    assert (second["chosen_model"], second["margin"]) == ("bet", 1.0)


def test_preference_training_reads_the_pairs(tmp_path: Path) -> None:
    preferences = pytest.importorskip("hebench.train.preferences")
    path = tmp_path / "pairs.jsonl"
    text = preference_jsonl(made_collected(simulated(STRENGTHS, raters=2)))
    path.write_text(text, encoding="utf-8")
    read = list(preferences.read_preferences(path))
    assert [pair.chosen for pair in read] == [row["chosen"] for row in rows(text)]


def test_selection_reads_the_evidence(tmp_path: Path) -> None:
    found = made_collected(simulated(STRENGTHS))
    path = tmp_path / "evidence.json"
    path.write_text(evidence_json(found), encoding="utf-8")
    assert read_evidence(path) == {"aleph": 1, "bet": 2, "gimel": 3}
    evidence = json.loads(path.read_text(encoding="utf-8"))
    best = evidence["models"][0]
    assert best["strength_low"] < best["strength"] < best["strength_high"]
    assert (evidence["votes"], evidence["raters"]) == (360, 12)


def test_evidence_of_one_rater_has_no_interval_and_is_still_json() -> None:
    evidence = json.loads(evidence_json(made_collected(simulated(STRENGTHS, raters=1))))
    assert evidence["models"][0]["strength_low"] is None
    assert "one_cluster" in evidence["notes"]


def test_evidence_has_no_rank_for_a_model_that_nobody_could_judge(tmp_path: Path) -> None:
    votes = simulated({"aleph": 1.0, "bet": 0.0})
    unjudged = {"models": ("bet", "gimel"), "answer": {"outcome": "cannot_judge"}}
    votes.append({"item": "i", "rater": "r-0"} | unjudged)
    collected = made_collected(votes)
    assert "| - | gimel | - [-, -] |" in study_card(collected, study_results(collected))
    path = tmp_path / "evidence.json"
    path.write_text(evidence_json(collected), encoding="utf-8")
    found = {row["model"]: row for row in json.loads(path.read_text("utf-8"))["models"]}
    assert found["gimel"]["win_rate"] is None
    assert found["gimel"]["win_rate_low"] is None and found["gimel"]["win_rate_high"] is None
    assert found["gimel"]["rank_low"] is None and found["gimel"]["rank_high"] is None
    assert read_evidence(path) == {"aleph": 1, "bet": 2}


REVIEW = [
    ("kept", ["accept", "accept", "reject"], None),
    ("fixed", ["fix", "fix", "accept"], None),
    ("level", ["accept", "reject"], None),
    ("settled", ["accept", "reject"], "fix"),
    ("overruled", ["accept", "accept", "reject"], "reject"),
]


def reviewed(item: str, rater: str, verdict: str, **more: Any) -> dict[str, Any]:
    answer = {"verdict": verdict}
    if verdict != "accept":
        answer["reason"] = f"{rater}: לא מדויק"
    if verdict == "fix":
        answer["text"] = f"נוסח של {rater}"
    return {"item": item, "rater": rater, "models": ("set",), "answer": answer} | more


def test_a_review_says_what_becomes_of_each_item() -> None:
    votes = []
    for item, verdicts, settled in REVIEW:
        votes += [reviewed(item, f"r{n}", verdict) for n, verdict in enumerate(verdicts)]
        votes.append(reviewed(item, "out", "reject", excluded=("gold",)))
        if settled:
            votes.append(reviewed(item, "judge", settled, kind="adjudication"))
    found = {row["item"]: row for row in rows(review_jsonl(made_collected(votes, type="review")))}
    assert list(found) == [item for item, *_ in REVIEW]
    assert {
        item: (row["verdict"], row["text"], row["adjudicated"]) for item, row in found.items()
    } == {
        "kept": ("accept", "תשובת set", False),
        "fixed": ("fix", "נוסח של r0", False),
        "level": ("undecided", None, False),
        "settled": ("fix", "נוסח של judge", True),
        "overruled": ("reject", None, True),
    }
    assert found["fixed"]["votes"] == {"accept": 1, "fix": 2, "reject": 0}
    assert found["settled"]["reasons"] == ["r1: לא מדויק", "judge: לא מדויק"]
    assert found["kept"]["model"] == "set"


def test_the_correction_that_most_wrote_is_a_reviews_text() -> None:
    votes = [reviewed("i", f"r{n}", "fix") for n in range(3)]
    for late in votes[1:]:
        late["answer"]["text"] = "הנוסח של שניים"
    (row,) = rows(review_jsonl(made_collected(votes, type="review")))
    assert row["text"] == "הנוסח של שניים"


def test_only_a_review_with_votes_exports_one() -> None:
    for found in (made_collected(simulated(STRENGTHS)), made_collected([], type="review")):
        with pytest.raises(DataError):
            review_jsonl(found)


@pytest.mark.parametrize("export", [votes_jsonl, preference_jsonl, evidence_json])
def test_a_study_without_votes_or_of_single_answers_exports_no_pairs(export: Any) -> None:
    with pytest.raises(DataError):
        export(made_collected([]))
    with pytest.raises(DataError):
        export(made_collected([], type="likert"))


def test_the_card_tells_who_what_when_and_what_came_out() -> None:
    votes = simulated(STRENGTHS)
    votes[0]["excluded"] = ("gold",)
    found = made_collected(votes)
    card = study_card(found, study_results(found))
    for part in (
        "12 voted",
        "359 on 359 items",
        "gold 1",
        "2027-01-15T08:00:00",
        "| aleph |",
        "undefined: no question was rated twice".replace("question", "unit"),
        "Ranking with the excluded votes",
        "votes taken as independent",
        "aleph and bet are told apart",
        "Consent, version 1",
        "> איזה תקציר טוב יותר?",
    ):
        assert part in card, part
    assert "nan" not in card.lower()


@pytest.mark.parametrize("kind", ["likert", "spans", "review"])
def test_the_card_of_single_answers_has_their_tables(kind: str) -> None:
    answers: dict[str, dict[str, Any]] = {
        "likert": {"scores": {"fluent": 4, "faithful": None}},
        "spans": {"spans": [{"start": 0, "end": 1}]},
        "review": {"verdict": "accept"},
    }
    votes = [
        {"item": f"i-{n}", "rater": f"r-{n % 2}", "models": ("aleph",), "answer": answers[kind]}
        for n in range(4)
    ]
    found = made_collected(votes, type=kind)
    card = study_card(found, study_results(found))
    title = {"likert": "## Scale", "spans": "unsupported claim", "review": "accepted as they are"}
    assert title[kind] in card and "aleph" in card
    assert ("Texts were shown as they are" in card) == (kind == "review")
    assert ("names were masked" in card) == (kind != "review")


def test_a_backup_made_during_use_opens_as_a_study(
    database: Database, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    published(database)
    rater = joined(database)
    vote(database, rater, ballot(claim(database, rater).assignments[0]))
    target = tmp_path / "copies" / "backup.sqlite"
    if database.postgres:
        with pytest.raises(ConfigError, match="pg_dump -Fc"):
            backup(database, target)
        return
    with database.begin():  # a writer at work does not stand in the way
        backup(database, target)
    vote(database, rater, ballot(claim(database, rater).assignments[0]))
    with open_database(str(target)) as copy:
        assert study_state(copy, STUDY).answered == 1
    assert [path.name for path in target.parent.iterdir() if path.suffix == ".tmp"] == []
    for taken in (target, Path(str(database.engine.url.database))):
        with pytest.raises(ConfigError, match="is there already"):
            backup(database, taken)
    with pytest.raises(ConfigError, match="cannot write /proc/b.sqlite"):
        backup(database, Path("/proc/b.sqlite"))
    assert study_state(database, STUDY).answered == 2, "the votes since the copy are there"
    with sqlite3.connect(target) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    plain.close()
