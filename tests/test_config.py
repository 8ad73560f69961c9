from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hebench.config import build, plain, read_yaml
from hebench.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    rate: float  # per step
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ConfigError(f"rate: expected more than 0, found {self.rate}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    name: str
    optimiser: Optimiser
    mode: Literal["word", "sentence"] = "word"
    threads: int | None = None
    out: Path | None = None
    packed: bool = True
    sources: tuple[str, ...] = ()
    parts: tuple[Optimiser, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    extra: Any = None


LEAST = {"name": "tiny", "optimiser": {"rate": 0.1}}


def test_defaults_fill_what_is_not_named() -> None:
    assert build(Recipe, LEAST, "r") == Recipe(name="tiny", optimiser=Optimiser(rate=0.1))


@pytest.mark.parametrize(
    ("given", "name", "expected"),
    [
        ({"mode": "sentence"}, "mode", "sentence"),
        ({"threads": 2}, "threads", 2),
        ({"threads": None}, "threads", None),
        ({"out": "runs/x"}, "out", Path("runs/x")),
        ({"out": "~/x"}, "out", Path("~/x").expanduser()),
        ({"packed": False}, "packed", False),
        ({"sources": ["law", "news"]}, "sources", ("law", "news")),
        ({"parts": [{"rate": 1}]}, "parts", (Optimiser(rate=1.0),)),
        ({"weights": {"law": 2}}, "weights", {"law": 2.0}),
        ({"extra": [1, "a"]}, "extra", [1, "a"]),
        ({"optimiser": {"rate": "5e-6"}}, "optimiser", Optimiser(rate=5e-6)),
    ],
)
def test_values_come_out_in_the_type_of_their_field(
    given: dict[str, Any], name: str, expected: Any
) -> None:
    value = getattr(build(Recipe, LEAST | given, "r"), name)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({**LEAST, "naem": "x"}, "r.yaml: unknown key 'naem'; did you mean 'name'?"),
        ({**LEAST, "zzz": 1}, "r.yaml: unknown key 'zzz'; known are name, optimiser, mode"),
        ({"name": "tiny"}, "r.yaml: expected a key 'optimiser', found none; add it"),
        (
            {"name": "tiny", "optimiser": {"rat": 1}},
            "r.yaml: optimiser: unknown key 'rat'; did you mean 'rate'?",
        ),
        ({**LEAST, "optimiser": 3}, "r.yaml: optimiser: expected keys and values, found int 3"),
        ({**LEAST, "optimiser": {"rate": "fast"}}, "optimiser: rate: expected float, found str"),
        ({**LEAST, "optimiser": {"rate": True}}, "optimiser: rate: expected float, found bool"),
        ({**LEAST, "optimiser": {"rate": 0}}, "r.yaml: optimiser: rate: expected more than 0"),
        ({**LEAST, "name": 7}, "r.yaml: name: expected str, found int 7"),
        ({**LEAST, "name": None}, "r.yaml: name: expected str, found NoneType None"),
        ({**LEAST, "threads": 2.5}, "r.yaml: threads: expected int, found float 2.5"),
        ({**LEAST, "threads": True}, "r.yaml: threads: expected int, found bool True"),
        ({**LEAST, "threads": "2"}, "r.yaml: threads: expected int, found str '2'"),
        ({**LEAST, "packed": 1}, "r.yaml: packed: expected bool, found int 1"),
        ({**LEAST, "mode": "line"}, r"mode: expected one of \['word', 'sentence'\], found str"),
        ({**LEAST, "sources": "law"}, "sources: expected a list, found str 'law'"),
        ({**LEAST, "sources": ["law", 3]}, r"sources\[1\]: expected str, found int 3"),
        ({**LEAST, "parts": [{"rate": 1}, {}]}, r"parts\[1\]: expected a key 'rate', found none"),
        ({**LEAST, "weights": ["law"]}, "weights: expected keys and values, found list"),
        ({**LEAST, "weights": {"law": "much"}}, r"weights.law: expected float, found str 'much'"),
        (
            {**LEAST, "weights": {False: 1.0}},
            "weights: expected a text as key, found bool False; q",
        ),
        (
            {**LEAST, "out": "~no-such-user/x"},
            "r.yaml: out: ~no-such-user/x: expected a user's home folder, found none for ~no-such",
        ),
        ([1], "r.yaml: expected keys and values, found list"),
    ],
)
def test_a_wrong_key_or_value_is_refused_with_its_place(content: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build(Recipe, content, "r.yaml")
    assert "\n" not in str(caught.value)


def test_plain_values_build_the_same_configuration_again() -> None:
    config = Recipe(
        name="tiny",
        optimiser=Optimiser(rate=1e-5, warmup_steps=3),
        out=Path("runs/x"),
        sources=("law",),
        parts=(Optimiser(rate=2.0),),
        weights={"law": 0.5},
    )
    values = plain(config)
    assert values["out"] == "runs/x"
    assert values["parts"] == [{"rate": 2.0, "warmup_steps": 0}]
    assert build(Recipe, values, "r") == config


@given(
    st.builds(
        Recipe,
        name=st.text(),
        optimiser=st.builds(
            Optimiser, rate=st.floats(1e-9, 10), warmup_steps=st.integers(0, 10**6)
        ),
        mode=st.sampled_from(["word", "sentence"]),
        threads=st.none() | st.integers(1, 64),
        packed=st.booleans(),
        sources=st.lists(st.text(), max_size=3).map(tuple),
        weights=st.dictionaries(st.text(), st.floats(0, 9), max_size=3),
    )
)
def test_every_configuration_survives_its_plain_form(config: Recipe) -> None:
    assert build(Recipe, plain(config), "r") == config


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


RECIPE = "name: tiny\nlanguage: he\ndistil:\n  seconds: 60\n  rate: 3e-3\n"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], {"name": "tiny", "language": "he", "distil": {"seconds": 60, "rate": "3e-3"}}),
        (["distil.seconds=5"], {"distil": {"seconds": 5, "rate": "3e-3"}}),
        (["sft.lora.r=64"], {"sft": {"lora": {"r": 64}}}),
        (["name='1000'"], {"name": "1000"}),
        (["name=1000"], {"name": 1000}),
        (["name="], {"name": None}),
        (["name=a=b"], {"name": "a=b"}),
        (["sources=[law, news]"], {"sources": ["law", "news"]}),
        (["distil={seconds: 1}"], {"distil": {"seconds": 1}}),
        (["name=x", "name=y"], {"name": "y"}),
    ],
)
def test_pairs_are_put_over_the_file(
    overrides: list[str], expected: Mapping[str, Any], tmp_path: Path
) -> None:
    content = read_yaml(write(tmp_path, RECIPE), overrides)
    assert {key: content[key] for key in expected} == expected
    assert content["language"] == "he"


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("distil", "expected key=value, found 'distil'"),
        ("=5", "expected key=value, found '=5'"),
        ("name.first=x", "name.first: name is one value and has no parts"),
        ("name=[1", r"name=\[1: expected a YAML value"),
        ("name=2026-13-01", "name=2026-13-01: expected a YAML value, found month must be in 1..12"),
        ("name=" + "[" * 1200, "expected a YAML value, found"),
    ],
)
def test_a_pair_that_cannot_be_put_is_refused(pair: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read_yaml(write(tmp_path, RECIPE), [pair])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "expected a mapping of keys, found list"),
        ("", "expected a mapping of keys, found NoneType"),
        ("a: [1\n", "expected YAML, found"),
        ("a: !!python/object/apply:os.getcwd []\n", "expected YAML, found"),
        ("a: " + "[" * 1200, "expected YAML, found"),
        ("revision: 2026-13-01\n", "expected YAML, found month must be in 1..12"),
        ("# " + "x" * 1_000_001, "expected at most 1,000,000 bytes"),
        (
            "a: 1\nsft:\n  rate: 1\n  steps: 5\n  'rate': 2\n",
            r"recipe.yaml: expected YAML, found the key 'rate' again after line 3.* line 5, column",
        ),
        ("a: [{b: 1, b: 1}]\n", "the key 'b' again after line 1"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_in_one_line(
    text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_yaml(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_an_override_with_a_key_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a YAML value, found the key 'he' again"):
        read_yaml(write(tmp_path, "mix: {}\n"), ["mix={he: 0.5, he: 0.9}"])


def test_a_key_may_stand_over_the_one_that_it_inherits(tmp_path: Path) -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: {x: 4}\n"
    content = read_yaml(write(tmp_path, text))
    assert content["b"] == {"x": 3, "y": 2} and content["c"] == {"x": 4}


def test_a_file_that_is_absent_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.yaml: expected a YAML file, found No such file"):
        read_yaml(tmp_path / "none.yaml")
    path = tmp_path / "bytes.yaml"
    path.write_bytes(b"name: \xff\n")
    with pytest.raises(ConfigError, match="expected YAML"):
        read_yaml(path)
