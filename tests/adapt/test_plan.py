"""A dry run of a whole recipe: every stage in order, as far as it can be known beforehand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hebench.adapt.plan import plan_adapt
from hebench.adapt.recipe import load_recipe
from hebench.adapt.run import adapt
from hebench.errors import CheckpointError, ConfigError, DataError, TaskError
from hebench.models import demo, tiny
from hebench.train.stage import open_stage

TEXTS = ["The old ferry left the harbour at seven in the morning."]


def stages(plan: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {stage["stage"]: stage for stage in plan["stages"]}


@pytest.fixture
def paper(tmp_path: Path) -> list[str]:
    """What the paper's recipe needs: a model and text in two languages."""
    for code in ("he", "en"):
        (tmp_path / "text" / code).mkdir(parents=True)
        (tmp_path / "text" / code / "a.txt").write_text("שלום", encoding="utf-8")
    model = tiny.make(tmp_path / "model", TEXTS)
    return [f"model={model}", f"text={tmp_path / 'text'}"]


def test_the_tiny_recipe_is_planned_in_order_and_nothing_is_written(tmp_path: Path) -> None:
    plan = plan_adapt(load_recipe("tiny"), tmp_path / "run")
    found = stages(plan)
    assert list(found) == ["corpus", "tokenizer", "distil", "calibrate", "pretrain", "sft", "dpo"]
    assert found["pretrain"]["steps"]["steps"] == 8
    assert found["sft"]["inputs"]["data"].endswith("chat_he.jsonl")
    assert plan["selection"]["evaluate"]["tasks"] == ["hebench_mini_nli"]
    # After distillation the model has an untied head and 100 rows more in both tables, of 64.
    grown = found["calibrate"]["parameters"] - found["tokenizer"]["parameters"]
    assert grown >= 2 * 100 * 64
    assert not list(tmp_path.iterdir())


def test_the_papers_recipe_shows_gaudis_arguments_and_what_its_steps_hang_on(
    tmp_path: Path, paper: list[str]
) -> None:
    found = stages(plan_adapt(load_recipe("dictalm2", paper), tmp_path / "run"))
    assert "sft" not in found
    assert found["corpus"]["inputs"]["hebrew"].endswith("he: 1 file, 8e-06 MB")
    pretrain = found["pretrain"]
    assert pretrain["steps"]["tokens_a_step"] == 384 * 4096
    assert pretrain["steps"]["steps"] is None
    assert pretrain["trainer"]["class"] == "optimum.habana.GaudiTrainer"
    assert pretrain["trainer"]["arguments"]["deepspeed"]["train_batch_size"] == 384
    assert "max_steps" not in pretrain["trainer"]["arguments"]


def test_what_an_earlier_stage_has_made_is_looked_at(tmp_path: Path, paper: list[str]) -> None:
    recipe = load_recipe("dictalm2", paper)
    run = tmp_path / "run"
    with open_stage(run / "corpus", "corpus", recipe.corpus) as stage:
        with pytest.raises(KeyError):
            stages(plan_adapt(recipe, run))["tokenizer"]["inputs"]["corpus"]
        stage.finish({})
    with pytest.raises(DataError, match="train/he: expected a file or a folder, found nothing"):
        plan_adapt(recipe, run)


def test_a_model_that_would_be_downloaded_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> Path:
        raise AssertionError("a dry run downloads nothing")

    monkeypatch.setattr(demo, "obtain", refuse)
    monkeypatch.setenv("HEBENCH_CACHE", str(tmp_path / "cache"))
    plan = plan_adapt(load_recipe("tiny", ["model=demo"]), tmp_path / "run")
    assert plan["base_model_is_there"] is False
    assert "gib_a_device" not in stages(plan)["pretrain"]
    assert stages(plan)["pretrain"]["steps"]["steps"] == 8


@pytest.mark.parametrize(
    ("pairs", "error", "expected"),
    [
        (["model=nowhere"], CheckpointError, "nowhere: expected a model folder"),
        (["text=nowhere"], DataError, "nowhere/he.txt: expected a file or a folder"),
        (["corpus.reference=nowhere"], DataError, "nowhere: expected a word list or a corpus"),
    ],
)
def test_an_adaptation_that_could_not_start_is_refused(
    tmp_path: Path, pairs: list[str], error: type[Exception], expected: str
) -> None:
    with pytest.raises(error, match=expected):
        plan_adapt(load_recipe("tiny", pairs), tmp_path / "run")


BAD = '{"prompt": "?"}\n'


@pytest.mark.parametrize("starts", [plan_adapt, adapt])
@pytest.mark.parametrize(
    ("pair", "error", "expected"),
    [
        ("chat=nowhere", DataError, "nowhere: expected a JSON Lines file"),
        ("chat={}/bad.jsonl", DataError, "bad.jsonl line 1: expected a key 'messages'"),
        ("preferences={}/bad.jsonl", DataError, "bad.jsonl line 1: expected keys prompt, ch"),
        ("measure.tasks=[hebench_mimi_qa]", TaskError, "unknown task hebench_mimi_qa; did you m"),
        ("selection.evaluate.tasks=[hebench_selekt]", TaskError, "did you mean hebench_select"),
        ("selection.choose.report=[hebench_x]", TaskError, "choose.report: unknown task hebench"),
    ],
)
def test_what_a_late_stage_would_refuse_is_refused_before_the_first(
    tmp_path: Path, pair: str, error: type[Exception], expected: str, starts: Callable[..., Any]
) -> None:
    (tmp_path / "bad.jsonl").write_text(BAD, encoding="utf-8")
    with pytest.raises(error, match=expected):
        starts(load_recipe("tiny", [pair.format(tmp_path)]), tmp_path / "run")
    assert not (tmp_path / "run" / "corpus").exists()


@pytest.mark.parametrize("starts", [plan_adapt, adapt])
def test_more_processes_than_one_stage_was_asked_for_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, starts: Callable[..., Any]
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    pairs = ["pretrain.training.world_size=2", "pretrain.training.micro_rows=2"]
    with pytest.raises(ConfigError, match="world_size: expected 1 processes, found 2"):
        starts(load_recipe("tiny", pairs), tmp_path / "run")
    assert not (tmp_path / "run" / "corpus").exists()


def test_a_lone_process_that_would_see_several_gpus_is_refused_before_the_first_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for stage in ("pretrain", "sft"):
        pairs = [f"{stage}.training.backend=cuda", f"{stage}.training.precision=fp32"]
        recipe = load_recipe("tiny", pairs)
        with pytest.raises(ConfigError, match="one device for each process, found 2 for one"):
            adapt(recipe, tmp_path / "run")
        assert not (tmp_path / "run" / "corpus").exists()
        plan = stages(plan_adapt(recipe, tmp_path / "run"))  # which may be for another machine
        assert plan[stage]["trainer"]["this_machine_lacks"]


def test_a_run_that_was_cut_off_while_it_chose_can_go_on(tmp_path: Path) -> None:
    recipe = load_recipe("tiny")
    out = tmp_path / "run"
    with open_stage(out / "pretrain", "pretrain", recipe.pretrain) as stage:
        stage.finish({})
    assert "model" not in stages(plan_adapt(recipe, out))["sft"]["inputs"]
    with open_stage(out / "pretrain" / "chosen", "selection", recipe.selection) as stage:
        stage.finish({})
    with pytest.raises(CheckpointError, match="pretrain/chosen/model: expected a model folder"):
        plan_adapt(recipe, out)


def test_a_recipe_that_is_refused_does_not_pass_for_what_the_folder_was_asked(
    tmp_path: Path,
) -> None:
    recipe, out = load_recipe("tiny"), tmp_path / "run"
    other = load_recipe("tiny", ["corpus.seed=5"])
    with open_stage(out / "corpus", "corpus", other.corpus) as stage:
        (stage.folder / "documents").mkdir()
    (out / "recipe.json").write_text("the other's", encoding="utf-8")
    with pytest.raises(ConfigError, match="corpus: holds a stage that was asked for otherwise"):
        adapt(recipe, out)
    assert (out / "recipe.json").read_text("utf-8") == "the other's"
