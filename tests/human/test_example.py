"""The example that a newcomer starts from is a study that can be published as it is."""

from pathlib import Path

import pytest

from hebench.errors import ConfigError
from hebench.human.access import enter, invite
from hebench.human.collected import collected
from hebench.human.database import Database
from hebench.human.example import write_example
from hebench.human.masking import MASK
from hebench.human.material import read_material
from hebench.human.power import power
from hebench.human.publish import publish
from hebench.human.results import study_results
from hebench.human.store import claim, vote
from hebench.human.study import load_study
from tests.human.made_study import ballot


def test_the_example_is_complete_and_masks_nothing_by_mistake(tmp_path: Path) -> None:
    study = load_study(write_example(tmp_path / "mine"))
    material = read_material(study)
    assert len(material.items) == 12 and material.left_out == {} and material.masked == 0
    assert MASK not in repr(material)
    found = power(study, material)
    assert found.short_by == 0 and found.votes == 35


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = write_example(tmp_path)
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="there already"):
        write_example(tmp_path)
    assert path.read_text(encoding="utf-8") == "mine"


def test_one_newcomer_can_click_through_a_whole_seat(database: Database, tmp_path: Path) -> None:
    study = load_study(write_example(tmp_path))
    publish(database, study, read_material(study))
    rater = enter(database, invite(database, study.name).token, consent="1").person.rater
    pages = 0
    while assignments := claim(database, rater).assignments:
        vote(database, rater, ballot(assignments[0], "tie"))
        pages += 1
    assert pages in (12, 13)  # 8 or 9 of the plan, a repeat, two gold questions, a check
    results = study_results(collected(database, study.name))
    assert results.counts.votes == pages - 4
