"""The examples that a newcomer starts from are studies that can be published as they are."""

from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from hebench.data.load import mini_records
from hebench.errors import ConfigError
from hebench.human.access import enter, invite
from hebench.human.collected import collected
from hebench.human.database import Database
from hebench.human.example import EXAMPLES, write_example
from hebench.human.masking import MASK
from hebench.human.material import read_material
from hebench.human.power import power
from hebench.human.publish import publish
from hebench.human.results import study_results
from hebench.human.store import claim, vote
from hebench.human.study import load_study
from tests.human.made_study import ballot

SCALES = ("relevance", "coherence", "consistency", "fluency")
ANSWERS: dict[str, dict[str, Any]] = {
    "translations": {"outcome": "tie"},
    "summaries": {"scores": dict.fromkeys(SCALES, 3)},
}


@pytest.mark.parametrize(
    ("example", "items", "votes"), [("translations", 12, 35), ("summaries", 8, 31)]
)
def test_an_example_is_complete_and_masks_nothing_by_mistake(
    tmp_path: Path, example: str, items: int, votes: int
) -> None:
    study = load_study(write_example(tmp_path / "mine", example))
    material = read_material(study)
    assert len(material.items) == items and material.left_out == {} and material.masked == 0
    assert MASK not in repr(material)
    found = power(study, material)
    assert found.short_by == 0 and found.votes == votes


def test_summaries_stand_beside_their_articles_and_the_sets_own_summaries(tmp_path: Path) -> None:
    study = load_study(write_example(tmp_path, "summaries"))
    assert tuple(axis.name for axis in study.axes) == SCALES
    records = {record["id"]: record for record in mini_records("summarization")}
    for item in read_material(study).items:
        record = records[item.name]
        assert item.source == f"{record['title']}\n\n{record['article']}"
        assert item.answers["editor"].text == record["summary"]
        assert record["article"].startswith(item.answers["first-sentence"].text)
        assert len({answer.text for answer in item.answers.values()}) == 4


def test_what_is_shipped_is_small() -> None:
    root = Path(str(resources.files("hebench.human.example")))
    assert sum(path.stat().st_size for path in root.rglob("*.jsonl")) < 60_000


def test_nothing_is_overwritten_and_no_other_example_made_up(tmp_path: Path) -> None:
    path = write_example(tmp_path)
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="there already"):
        write_example(tmp_path)
    assert path.read_text(encoding="utf-8") == "mine"
    with pytest.raises(ConfigError, match="translations, summaries"):
        write_example(tmp_path / "other", "../translations")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("example", EXAMPLES)
def test_one_newcomer_can_click_through_a_whole_seat(
    database: Database, tmp_path: Path, example: str
) -> None:
    study = load_study(write_example(tmp_path, example))
    publish(database, study, read_material(study))
    rater = enter(database, invite(database, study.name).token, consent="1").person.rater
    pages = 0
    while assignments := claim(database, rater).assignments:
        vote(database, rater, ballot(assignments[0], answer=ANSWERS[example]))
        pages += 1
    assert pages in (11, 12, 13)  # 7 to 9 of the plan, a repeat, two gold questions, a check
    results = study_results(collected(database, study.name))
    assert results.counts.votes == pages - 4
