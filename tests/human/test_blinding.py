"""Models that could be told before the end: who, when, why, and after how many votes."""

import json

import pytest

from hebench.errors import ConfigError, DataError
from hebench.human.access import enter, forget, invite
from hebench.human.blinding import (
    COMMAND_LINE,
    MAX_WHY,
    close_study,
    reopen_study,
    reveal,
)
from hebench.human.card import study_card
from hebench.human.collected import collected
from hebench.human.database import Database
from hebench.human.export import evidence_json, raw_jsonl
from hebench.human.results import study_results
from hebench.human.store import claim, vote
from tests.human.made_study import Clock, ballot, joined, published

STUDY = "summaries-1"
WHY = "מודל אחד נראה שבור"


def owner_of(database: Database) -> int:
    return enter(database, invite(database, STUDY, role="owner").token, consent="1").person.rater


def vote_once(database: Database, rater: int) -> None:
    vote(database, rater, ballot(claim(database, rater).assignments[0]))


def test_a_reveal_holds_who_when_why_and_after_how_many_votes(
    database: Database, clock: Clock
) -> None:
    published(database)
    assert collected(database, STUDY).reveals == ()
    rater, owner = joined(database), owner_of(database)
    for _ in range(2):
        vote_once(database, rater)
    reveal(database, STUDY, what="dashboard", why=f" {WHY}\n\0 ", rater=owner)
    clock.now += 60
    vote_once(database, rater)
    reveal(database, STUDY, what="status", why="כפי שהוחלט")
    first, second = collected(database, STUDY).reveals
    assert (first.what, first.votes, first.why) == ("dashboard", 2, f"{WHY} ␀")
    assert first.by.startswith("r-") and first.link is not None
    assert (second.what, second.votes, second.by, second.link) == ("status", 3, COMMAND_LINE, None)
    assert second.at - first.at == 60


@pytest.mark.parametrize("why", ["", " \n ", "א" * (MAX_WHY + 1)])
def test_names_are_not_given_without_a_reason(database: Database, why: str) -> None:
    published(database)
    with pytest.raises(ConfigError, match="expected the reason"):
        reveal(database, STUDY, what="dashboard", why=why)
    with pytest.raises(DataError, match="found no"):
        reveal(database, "other", what="dashboard", why=WHY)
    assert collected(database, STUDY).reveals == ()


def test_the_end_of_a_study_is_no_reveal_and_its_reopening_is_one(
    database: Database, clock: Clock
) -> None:
    published(database)
    rater, owner = joined(database), owner_of(database)
    reopen_study(database, STUDY)  # it is open: nothing happens
    vote_once(database, rater)
    close_study(database, STUDY)
    reveal(database, STUDY, what="dashboard", why="", rater=owner)
    assert collected(database, STUDY).reveals == ()
    clock.now += 1
    reopen_study(database, STUDY, rater=owner)
    (found,) = collected(database, STUDY).reveals
    assert (found.what, found.votes, found.why, found.at) == ("reopened", 1, "", clock.now)
    assert found.link is not None


def test_deleting_an_owners_data_takes_the_words_and_leaves_the_fact(database: Database) -> None:
    published(database)
    owner = owner_of(database)
    reveal(database, STUDY, what="dashboard", why="לבקשת דנה", rater=owner)
    reveal(database, STUDY, what="status", why="של אחרים")
    forget(database, owner)
    first, second = collected(database, STUDY).reveals
    assert (first.what, first.why, second.why) == ("dashboard", "", "של אחרים")


def test_readers_of_the_results_learn_of_it(database: Database, clock: Clock) -> None:
    published(database)
    rater, owner = joined(database), owner_of(database)
    vote_once(database, rater)
    clock.now += 1
    reveal(database, STUDY, what="dashboard", why="a | b", rater=owner)
    clock.now += 1
    vote_once(database, joined(database))
    close_study(database, STUDY)
    found = collected(database, STUDY)
    card = study_card(found, study_results(found))
    (row,) = [line for line in card.splitlines() if "names were shown on the dashboard" in line]
    by = found.reveals[0].by
    assert row.startswith("| 2027-01-15T08:00:01+00:00 | 1 |") and row.endswith("| a / b |")
    assert f"owner {by} (link " in row
    assert "Of the votes that count, 1 came after the first time." in card
    header = json.loads(raw_jsonl(database, STUDY).splitlines()[0])
    for unblinded in (header["unblinded"], json.loads(evidence_json(found))["unblinded"]):
        (kept,) = unblinded
        assert (kept["what"], kept["votes"], kept["by"]) == ("dashboard", 1, by)
        assert (kept["why"], kept["at"]) == ("a | b", "2027-01-15T08:00:01+00:00")


def test_a_study_that_stayed_blind_says_so(database: Database) -> None:
    published(database)
    vote_once(database, joined(database))
    close_study(database, STUDY)
    found = collected(database, STUDY)
    assert "Nobody was shown the models' names" in study_card(found, study_results(found))
    assert json.loads(evidence_json(found))["unblinded"] == []
