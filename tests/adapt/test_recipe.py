from pathlib import Path

import pytest
import yaml

from hebench.adapt.recipe import load_recipe, recipes_folder, stage_config
from hebench.errors import ConfigError

RECIPES = sorted(path.stem for path in recipes_folder().glob("*.yaml"))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_read_and_says_what_it_is(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, [f"text={tmp_path}"])
    assert recipe.name == name
    assert recipe.about
    assert all(
        each.path is None or each.path.is_relative_to(tmp_path)
        for each in recipe.corpus.inputs.values()
    )


def test_the_papers_recipe_has_the_papers_numbers(tmp_path: Path) -> None:
    recipe = load_recipe("dictalm2", [f"text={tmp_path}"])
    training = recipe.pretrain.training
    assert training.backend == "gaudi"
    assert (training.world_size, training.global_rows, training.row_tokens) == (48, 384, 4096)
    assert (training.learning_rate, training.warmup_steps, training.zero_stage) == (5e-6, 1000, 2)
    assert training.accumulated == 1
    assert recipe.tokenizer.tokens == 1000
    assert recipe.pretrain.shares == {"he": 0.5, "en": 0.5}
    aligned = load_recipe("dictalm2_cuda", [f"text={tmp_path}"])
    assert aligned.sft is not None
    assert aligned.dpo is not None
    assert aligned.sft.lora is not None
    assert (aligned.sft.lora.rank, aligned.sft.lora.alpha) == (64, 16)
    assert (aligned.dpo.beta, aligned.dpo.training.learning_rate) == (0.01, 5e-7)


def test_tiny_recipes_bring_their_own_text_in_two_languages() -> None:
    for name, language in (("tiny", "he"), ("tiny_el", "el")):
        recipe = load_recipe(name)
        assert recipe.language == language
        for each in recipe.corpus.inputs.values():
            assert each.path is not None
            assert each.path.is_file()


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (["pretrain.training.learning_rat=1"], "did you mean 'learning_rate'"),
        (["distill.steps=3"], "did you mean 'distil'"),
        (["language=en"], "corpus.language|language"),
        (["chat=null"], "sft needs data"),
        (["pretrain.training.steps=many"], "expected int"),
        (["novalue"], "expected key=value"),
    ],
)
def test_a_recipe_that_does_not_fit_is_one_line(pairs: list[str], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        load_recipe("tiny", pairs)
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"tiny.*found 'tinny'"):
        load_recipe("tinny")


def test_a_recipe_without_its_text_says_what_to_give() -> None:
    with pytest.raises(ConfigError, match="give text=FOLDER"):
        load_recipe("dictalm2")


def test_paths_of_a_file_of_ones_own_are_relative_to_it(tmp_path: Path) -> None:
    content = yaml.safe_load((recipes_folder() / "tiny.yaml").read_text(encoding="utf-8"))
    content |= {"text": "words", "chat": "talk.jsonl"}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    recipe = load_recipe(str(tmp_path / "own.yaml"))
    assert recipe.text == tmp_path / "words"
    assert recipe.chat == tmp_path / "talk.jsonl"
    typed = load_recipe(str(tmp_path / "own.yaml"), ["chat=there.jsonl"])
    assert typed.chat == Path("there.jsonl")


def test_one_stage_is_configured_from_a_recipe_or_from_a_file_with_that_stage_alone(
    tmp_path: Path,
) -> None:
    config = stage_config("tiny", "tokenizer", ["tokenizer.tokens=7"])
    assert config.tokens == 7
    (tmp_path / "part.yaml").write_text("tokenizer: {language: he, tokens: 9}", encoding="utf-8")
    assert stage_config(str(tmp_path / "part.yaml"), "tokenizer").tokens == 9
    with pytest.raises(ConfigError, match="expected a key 'sft'"):
        stage_config(str(tmp_path / "part.yaml"), "sft")
