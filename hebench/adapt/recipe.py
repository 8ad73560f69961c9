"""A recipe: what every stage of an adaptation is asked, in one YAML file.

    hebench adapt smollm2_he_cpu text=corpora/ out=runs/he
    hebench adapt my_recipe.yaml model=mistral-7b/ pretrain.training.learning_rate=1e-5

A recipe is named by its file in hebench/train/recipes/, or is a file of one's own. Paths of its
corpus inputs are relative to `text`; `text` and the other paths are relative to the recipe, but for
`model` and what is typed as a pair, which are relative to where the command runs.
A stage that the recipe leaves out (null) is not run.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from hebench.config import build, read_yaml, require_known
from hebench.errors import ConfigError
from hebench.files import expanded
from hebench.selection.choose import ChooseConfig
from hebench.selection.evaluate import EvaluateConfig
from hebench.train.calibrate import CalibrateConfig
from hebench.train.corpus import CorpusConfig
from hebench.train.distil import DistilConfig
from hebench.train.dpo import DpoConfig
from hebench.train.pretrain import PretrainConfig
from hebench.train.sft import SftConfig
from hebench.train.tokenizer import TokenizerConfig

DEMO_MODEL = "demo"  # SmolLM2, as `hebench demo` has it
TINY_MODEL = "tiny"  # random, made on the spot
_CONFIGS: dict[str, type[Any]] = {
    "corpus": CorpusConfig,
    "tokenizer": TokenizerConfig,
    "distil": DistilConfig,
    "calibrate": CalibrateConfig,
    "pretrain": PretrainConfig,
    "sft": SftConfig,
    "dpo": DpoConfig,
}


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """What is measured of the model before, between and after the stages."""

    tasks: tuple[str, ...] = ()  # tasks and groups of hebench; none: bits per byte alone
    limit: int | None = None  # items of a task between the stages; None for all
    limit_at_ends: int | None = None  # items before the first stage and after the last training
    passage_words: int = 60  # whitespace words of a held-out passage
    source_words: int = 1_500  # held-out words read of each source
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"  # of the evaluated weights
    device: str = "cpu"  # as torch names it
    batch_size: int = 8  # requests a forward pass
    threads: int | None = None  # of the CPU; None leaves PyTorch's choice

    def __post_init__(self) -> None:
        """Refuse sizes that are none."""
        names = ("limit", "limit_at_ends", "passage_words", "source_words", "batch_size", "threads")
        for name in names:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}: expected at least 1, found {value}")


@dataclass(frozen=True, kw_only=True)
class SelectionConfig:
    """How one of pre-training's checkpoints is chosen."""

    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    choose: ChooseConfig = field(default_factory=ChooseConfig)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """An adaptation: a model, a language, and the stages between."""

    name: str
    about: str  # one sentence for whoever lists recipes
    language: str  # code in hebench/train/languages.py
    model: str  # a folder with a causal language model; or demo, or tiny
    text: Path | None  # the folder with the corpus inputs; None: has to be given
    chat: Path | None = None  # conversations for SFT, JSON Lines
    preferences: Path | None = None  # pairs for DPO, JSON Lines
    corpus: CorpusConfig
    tokenizer: TokenizerConfig
    distil: DistilConfig
    calibrate: CalibrateConfig
    pretrain: PretrainConfig
    selection: SelectionConfig | None = None  # None: the last checkpoint goes on
    sft: SftConfig | None = None
    dpo: DpoConfig | None = None
    measure: MeasureConfig = field(default_factory=MeasureConfig)

    def __post_init__(self) -> None:
        """Refuse a recipe whose parts do not fit each other."""
        for name in ("corpus", "tokenizer", "distil"):
            code = getattr(self, name).language
            if code != self.language:
                raise ConfigError(
                    f"{name}.language: expected the recipe's {self.language!r}, found {code!r}"
                )
        codes = self.corpus.languages
        for name in ("calibrate", "pretrain"):
            if absent := sorted(set(getattr(self, name).shares) - set(codes)):
                raise ConfigError(
                    f"{name}.shares: expected languages of the corpus's inputs "
                    f"({', '.join(codes)}), found {absent[0]!r}"
                )
        for stage, data in (("sft", "chat"), ("dpo", "preferences")):
            if getattr(self, stage) is not None and getattr(self, data) is None:
                raise ConfigError(
                    f"{stage} needs data: give {data}=FILE, or leave it out: {stage}=null"
                )


_FIELDS = tuple(each.name for each in fields(Recipe))


def recipes_folder() -> Path:
    """Return the folder of the recipes that hebench brings."""
    return Path(str(resources.files("hebench"))) / "train" / "recipes"


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of that name, or of that file, with `key=value` pairs put over it.

    Raises ConfigError for an unknown name or key, and if a path that it needs is not given.
    """
    path = _file(name)
    content = read_yaml(path, overrides)
    given = {pair.partition("=")[0] for pair in overrides}
    recipe = build(Recipe, content, path.name)
    corpus = _with_reference(recipe.corpus, path, given)
    text = _text(recipe.text, corpus, path, typed="text" in given)
    return replace(
        recipe,
        text=text,
        chat=_located(recipe.chat, path.parent, typed="chat" in given),
        preferences=_located(recipe.preferences, path.parent, typed="preferences" in given),
        corpus=_with_text(corpus, text),
        selection=_with_include(recipe.selection, path, given),
    )


def stage_config(name: str, stage: str, overrides: Sequence[str] = ()) -> Any:
    """Return the configuration of one stage: the part of that name in a recipe or YAML file.

    Of a file of one's own other parts may be absent; without `text` the paths of a corpus's
    inputs are what they say. Raises ConfigError as `load_recipe` does, and for a pair that the
    stage does not read.
    """
    path = _file(name)
    given = {pair.partition("=")[0] for pair in overrides}
    _require_read(given, stage)
    content = read_yaml(path, overrides)
    require_known(content, _FIELDS, path.name)
    if content.get(stage) is None:
        raise ConfigError(f"{name}: expected a key {stage!r} with the stage's settings, found none")
    config = build(_CONFIGS[stage], content[stage], f"{name}: {stage}")
    if stage != "corpus" or "text" not in content:
        return config
    text = content["text"]
    if not isinstance(text, str | None):
        raise ConfigError(f"{path.name}: text: expected a folder, found {text!r}")
    folder = None if text is None else expanded(text)
    config = _with_reference(config, path, given)
    return _with_text(config, _text(folder, config, path, typed="text" in given))


def _require_read(given: Collection[str], stage: str) -> None:
    """Refuse pairs for other parts of a recipe: the stage would pass over them in silence."""
    for key in sorted(given):
        part = key.partition(".")[0]
        require_known([part], _FIELDS, key)
        if part != stage and (stage, key) != ("corpus", "text"):
            read = f"{stage}.KEY and text" if stage == "corpus" else f"{stage}.KEY"
            raise ConfigError(
                f"{key}: hebench train {stage} reads {read} of a recipe alone; leave it out"
            )


def _file(name: str) -> Path:
    path = Path(name) if name.endswith((".yaml", ".yml")) else recipes_folder() / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in recipes_folder().glob("*.yaml")))
        raise ConfigError(f"expected a recipe ({known}) or a YAML file, found {name!r}")
    return path


def _text(given: Path | None, corpus: CorpusConfig, recipe: Path, *, typed: bool) -> Path:
    """Return the folder of the corpus inputs. Raises ConfigError if none is given."""
    if given is None:
        raise ConfigError(
            f"{recipe.name} does not bring its text: give text=FOLDER, with "
            + ", ".join(str(each.path) for each in corpus.inputs.values() if each.path)
        )
    # What stands in the recipe is relative to it; what was typed, to where it was typed.
    return given if typed else recipe.parent / given


def _located(path: Path | None, folder: Path, *, typed: bool) -> Path | None:
    return path if path is None or typed else folder / path


def _with_reference(corpus: CorpusConfig, recipe: Path, given: Collection[str]) -> CorpusConfig:
    typed = bool({"corpus", "corpus.reference"} & set(given))
    return replace(corpus, reference=_located(corpus.reference, recipe.parent, typed=typed))


def _with_include(
    selection: SelectionConfig | None, recipe: Path, given: Collection[str]
) -> SelectionConfig | None:
    """Return the selection with its task folders beside the recipe, but for those typed."""
    if selection is None:
        return None
    parts = {}
    for name in ("evaluate", "choose"):
        part, key = getattr(selection, name), f"selection.{name}"
        if not {"selection", key, f"{key}.include"} & set(given):
            part = replace(part, include=tuple(recipe.parent / one for one in part.include))
        parts[name] = part
    return replace(selection, **parts)


def _with_text(corpus: CorpusConfig, text: Path) -> CorpusConfig:
    inputs = {
        name: each if each.path is None else replace(each, path=text / each.path)
        for name, each in corpus.inputs.items()
    }
    return replace(corpus, inputs=inputs)
