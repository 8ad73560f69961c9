"""The study file: what it may say, and what is refused with a hint."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hebench.config import build, plain
from hebench.errors import ConfigError
from hebench.human.study import Study, load_study
from tests.human.made_study import made_study

BOTH = {"he": "תקצירים", "en": "Summaries"}
SMALLEST: dict[str, Any] = {
    "name": "s-1",
    "type": "pairwise",
    "title": BOTH,
    "instructions": BOTH,
    "question": BOTH,
    "consent": {"version": "1", "text": BOTH},
    "models": {"a-1": {"answers": "a.jsonl"}, "b-1": {"answers": "runs/b"}},
    "plan": {"raters": 3, "votes_each": 5},
    "seed": 1,
}
AXIS = {"name": "fluent", "title": BOTH, "low": BOTH, "high": BOTH}


def written(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return path


def test_a_study_is_read_with_paths_beside_its_file(tmp_path: Path) -> None:
    study = load_study(written(tmp_path, SMALLEST))
    assert study.models["a-1"].answers == tmp_path / "a.jsonl"
    assert study.paired
    assert study.plan.most == 5
    assert study.checks is None


def test_a_study_survives_being_stored_as_json() -> None:
    study = made_study(type="likert")
    again = build(Study, json.loads(json.dumps(plain(study))), "stored")
    assert plain(again) == plain(study)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"titel": BOTH}, "did you mean 'title'"),
        ({"plan": {"raters": 3, "votes_each": 5, "overlp": 2}}, "did you mean 'overlap'"),
        ({"plan": {"raters": 2, "votes_each": 5}}, "overlap: expected at most one vote of each"),
        ({"plan": {"raters": 3, "votes_each": 5, "most_each": 4}}, "most_each"),
        ({"plan": {"raters": 3, "votes_each": 5, "overlap_share": 1.5}}, "overlap_share"),
        ({"plan": {"raters": 3, "votes_each": 5, "gold": 1}}, "checks: expected the file"),
        ({"title": {"he": "תקצירים"}}, "title: expected a text in each of he, en"),
        ({"title": {"he": "ת" * 201, "en": "S"}}, "at most 200 characters"),
        ({"name": "Summaries 1"}, "name: expected 1 to 64 of a-z"),
        ({"models": {"a-1": {"answers": "a.jsonl"}}}, "models: expected 2 to 200"),
        ({"models": {"a/1": {"answers": "x"}, "b": {"answers": "y"}}}, "models: expected 1 to 64"),
        ({"outcomes": ["first", "tie"]}, "outcomes: expected first, second"),
        ({"outcomes": ["first", "second", "draw"]}, "outcomes: expected first, second"),
        ({"type": "ranking"}, "type: expected one of"),
        ({"type": "likert"}, "axes: type likert has axes"),
        ({"axes": [AXIS]}, "axes: type pairwise has none"),
        ({"type": "likert", "axes": [AXIS, AXIS]}, "different names"),
        ({"type": "likert", "axes": [AXIS | {"steps": 1}]}, "steps: expected 2 to 11"),
        ({"type": "likert", "axes": [AXIS | {"low": {}}]}, "axes: fluent: low"),
        ({"stop": {"rule": "votes"}}, "votes belongs to"),
        ({"stop": {"rule": "all", "half_width": 0.1}}, "half_width belongs to"),
        ({"stop": {"rule": "votes", "votes": 0}}, "expected a positive number"),
        ({"quality": {"gold_share": 2}}, "gold_share: expected 0 to 1"),
        ({"seed": "seven"}, "seed: expected int"),
        ({"seed": -3}, "seed: expected 0 to"),
    ],
)
def test_a_contradiction_is_refused_with_its_place(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_study(written(tmp_path, SMALLEST | change))
    assert "\n" not in str(caught.value)
    assert "study.yaml" in str(caught.value)


def test_one_model_is_enough_where_answers_are_judged_singly(tmp_path: Path) -> None:
    models = {"a-1": {"answers": "a.jsonl"}}
    study = load_study(written(tmp_path, SMALLEST | {"type": "review", "models": models}))
    assert not study.paired
