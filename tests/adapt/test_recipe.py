import re
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
    for other in (recipe, load_recipe("dictalm2_cuda", [f"text={tmp_path}"])):
        # Sentences' last states of the whole body alone, and nothing done to the head's new rows.
        assert (other.distil.mode, other.distil.shallow_share) == ("sentence", 0)
        assert (other.distil.writing, other.distil.learning_rate) == ("mean", 5e-6)
        assert other.distil.passage_words == 200, "a sentence is not cut"
        assert other.selection is not None
        rule = other.selection.choose.select
        assert (rule.rule, rule.window_steps, rule.lowest) == ("paper", 10_000, 10)
        saves = other.pretrain.training
        assert saves.save_every * saves.keep >= rule.window_steps
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
        (["calibrate.shares={he: 0.5, fr: 0.5}"], r"calibrate.shares: .*\(en, he\), found 'fr'"),
        (["pretrain.shares={fr: 1.0}"], "pretrain.shares: expected languages of the corpus's inp"),
        (
            ["measure.dtype=float33"],
            r"measure: dtype: expected one of \['bfloat16', 'float16', 'fl",
        ),
        (["measure.passage_words=0"], "measure: passage_words: expected at least 1, found 0"),
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
    content["corpus"]["reference"] = "words.tsv"
    content["selection"]["evaluate"]["include"] = ["tasks"]
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    recipe = load_recipe(str(tmp_path / "own.yaml"))
    assert recipe.text == tmp_path / "words"
    assert recipe.chat == tmp_path / "talk.jsonl"
    assert recipe.corpus.reference == tmp_path / "words.tsv"
    assert recipe.selection and recipe.selection.evaluate.include == (tmp_path / "tasks",)
    assert stage_config(str(tmp_path / "own.yaml"), "corpus") == recipe.corpus
    pairs = ["chat=there.jsonl", "corpus.reference=there.tsv"]
    pairs.append("selection.evaluate.include=[there]")
    typed = load_recipe(str(tmp_path / "own.yaml"), pairs)
    assert typed.chat == Path("there.jsonl")
    assert typed.selection and typed.selection.evaluate.include == (Path("there"),)
    assert typed.corpus.reference == Path("there.tsv")


def test_one_stage_is_configured_from_a_recipe_or_from_a_file_with_that_stage_alone(
    tmp_path: Path,
) -> None:
    config = stage_config("tiny", "tokenizer", ["tokenizer.tokens=7"])
    assert config.tokens == 7
    (tmp_path / "part.yaml").write_text("tokenizer: {language: he, tokens: 9}", encoding="utf-8")
    assert stage_config(str(tmp_path / "part.yaml"), "tokenizer").tokens == 9
    with pytest.raises(ConfigError, match="expected a key 'sft'"):
        stage_config(str(tmp_path / "part.yaml"), "sft")


@pytest.mark.parametrize(
    ("stage", "pairs", "expected"),
    [
        ("pretrain", ["pretrian.training.steps=5"], "unknown key 'pretrian'; did you mean 'pretra"),
        ("pretrain", ["training.steps=7"], "training.steps: unknown key 'training'"),
        ("pretrain", ["text=/x"], "text: hebench train pretrain reads pretrain.KEY of a recipe al"),
        ("pretrain", ["sft.training.steps=1"], "sft.training.steps: hebench train pretrain reads"),
        ("corpus", ["chat=x.jsonl"], "chat: hebench train corpus reads corpus.KEY and text of a "),
        ("corpus", ["text=[1]"], "tiny.yaml: text: expected a folder, found [1]"),
    ],
)
def test_a_pair_that_a_stage_would_pass_over_is_refused(
    stage: str, pairs: list[str], expected: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(expected)):
        stage_config("tiny", stage, pairs)


def test_a_part_of_unknown_name_in_a_file_of_ones_own_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("{tokenizer: {language: he}, pretrian: {}}", encoding="utf-8")
    with pytest.raises(ConfigError, match="own.yaml: unknown key 'pretrian'; did you mean"):
        stage_config(str(path), "tokenizer")


def test_the_corpus_stage_alone_finds_its_text_where_the_recipe_says(tmp_path: Path) -> None:
    def paths(name: str, *pairs: str) -> list[Path | None]:
        return [each.path for each in stage_config(name, "corpus", pairs).inputs.values()]

    assert paths("tiny") == [recipes_folder() / "text" / f"{code}.txt" for code in ("he", "en")]
    assert paths("dictalm2", f"text={tmp_path}") == [tmp_path / "he", tmp_path / "en"]
    with pytest.raises(ConfigError, match="dictalm2.yaml does not bring its text: give text="):
        stage_config("dictalm2", "corpus")
    part = "corpus: {language: he, mix: {he: 1.0}, inputs: {a: {language: he, path: x/he}}}"
    (tmp_path / "part.yaml").write_text(part, encoding="utf-8")
    assert paths(str(tmp_path / "part.yaml")) == [Path("x/he")]
