"""The choice within an adaptation: made once, for what was asked, and again if it was cut off."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hebench.adapt import pick
from hebench.adapt.recipe import SelectionConfig, load_recipe
from hebench.errors import ConfigError


@pytest.fixture
def config() -> SelectionConfig:
    selection = load_recipe("tiny").selection
    assert selection is not None
    return selection


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the list of what was exported, without a model in it."""
    exported: list[Path] = []

    def export(choice: Any, target: Path) -> None:
        exported.append(target)
        target.mkdir(parents=True)

    decision = SimpleNamespace(chosen="checkpoint-4", reasons=("it is the best",))
    monkeypatch.setattr(pick, "watch", lambda *_: 1)
    monkeypatch.setattr(pick, "choose", lambda *_: SimpleNamespace(decision=decision))
    monkeypatch.setattr(pick, "export", export)
    return exported


def test_a_choice_is_made_once_and_another_one_is_refused(
    tmp_path: Path, config: SelectionConfig, made: list[Path]
) -> None:
    out, said = tmp_path / "chosen", list[str]()
    (out / "model").mkdir(parents=True)  # left by a run that was killed
    first = pick.selected(tmp_path, config, out, said.append)
    assert said == ["chosen: checkpoint-4; it is the best"]
    on_another = dataclasses.replace(
        config,
        evaluate=dataclasses.replace(config.evaluate, device="cuda", batch_size=1),
        choose=dataclasses.replace(config.choose, device="cuda"),
    )
    assert pick.selected(tmp_path, on_another, out) == first
    assert made == [out / "model"]
    rule = dataclasses.replace(config.choose.select, rule="best")
    other = dataclasses.replace(config, choose=dataclasses.replace(config.choose, select=rule))
    with pytest.raises(ConfigError, match="rule was confident, is best"):
        pick.selected(tmp_path, other, out)
