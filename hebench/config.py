"""Configuration: a YAML file and `key=value` pairs, made into one frozen dataclass.

A key that is unknown, missing or of another type is refused with its place and, where one is
near, the name that was probably meant. Nested dataclasses are nested mappings, reached from the
command line with dots.

    >>> build(Corpus, {"min_hebrew_share": 0.5}, "recipe.yaml: corpus")
    Corpus(min_hebrew_share=0.5)
    >>> read_yaml(Path("recipe.yaml"), ["distil.seconds=60", "out=runs/x"])["distil"]["seconds"]
    60
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from hebench.errors import ConfigError, one_line
from hebench.files import expanded

T = TypeVar("T")
_MAX_BYTES = 1_000_000  # a configuration is written by hand
# ValueError: not UTF-8, or a date such as 2026-13-01.
_NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)


def read_yaml(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the mapping that a YAML file holds, with `a.b=value` pairs put over it.

    Values of pairs are read as YAML: `n=1000` is a number, `n='1000'` a text. Raises ConfigError,
    also for a key that stands twice in one mapping.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path}: expected at most {_MAX_BYTES:,} bytes of YAML")
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise ConfigError(f"{path}: expected a YAML file, found {error.strerror}") from error
    except _NOT_YAML as error:
        raise ConfigError(f"{path}: expected YAML, found {one_line(error)}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of keys, found {type(content).__name__}")
    for pair in overrides:
        _put(content, pair)
    return content


def require_single_keys(path: Path) -> None:
    """Raise YAMLError if a key stands twice in one mapping of a YAML file, whatever its tags."""
    with path.open(encoding="utf-8") as file:  # whose name an error then gives
        yaml.compose(file, Loader=_Loader)


class _Loader(yaml.SafeLoader):
    """YAML's own safe loader, but of two values for one key it does not keep the last unasked."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Return the keys and values of one mapping. Raises YAMLError for a key set twice."""
        node = super().compose_mapping_node(anchor)
        found: dict[tuple[str, str], int] = {}  # key -> line
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                name, line = (key.tag, key.value), key.start_mark.line + 1
                if name in found:
                    reason = f"the key {key.value!r} again after line {found[name]}; keep one"
                    raise yaml.MarkedYAMLError(problem=reason, problem_mark=key.start_mark)
                found[name] = line
        return node


def _put(content: dict[str, Any], pair: str) -> None:
    key, equals, text = pair.partition("=")
    if not equals or not key:
        raise ConfigError(f"expected key=value, found {pair!r}")
    *parents, last = key.split(".")
    for name in parents:
        content = content.setdefault(name, {})
        if not isinstance(content, dict):
            raise ConfigError(f"{key}: {name} is one value and has no parts; set it as a whole")
    try:
        content[last] = yaml.load(text, Loader=_Loader)
    except _NOT_YAML as error:
        raise ConfigError(f"{pair}: expected a YAML value, found {one_line(error)}") from error


def build(cls: type[T], content: Mapping[str, Any], where: str) -> T:
    """Return the dataclass `cls` made from a mapping; `where` opens every message.

    Raises ConfigError for a key that is unknown, missing or of another type, and for what
    `__post_init__` of the class refuses.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where}: expected keys and values, found {_named(content)}")
    require_known(content, fields, where)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in content:
            values[name] = _typed(hints[name], content[name], f"{where}: {name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{where}: expected a key {name!r}, found none; add it")
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def require_known(keys: Iterable[str], known: Collection[str], where: str) -> None:
    """Raise ConfigError for the first key that is not known, with the one probably meant."""
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise ConfigError(f"{where}: unknown key {key!r}; {hint}")


def plain(config: Any) -> Any:
    """Return a dataclass as plain mappings, lists, numbers and texts, fit for JSON and YAML."""
    if dataclasses.is_dataclass(config):
        return {f.name: plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {str(key): plain(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [plain(value) for value in config]
    return str(config) if isinstance(config, Path) else config


def _typed(hint: Any, value: Any, where: str) -> Any:
    """Return `value` as the type `hint` says, or refuse it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        # One type beside None: that is all that our configurations need.
        inner = next(argument for argument in arguments if argument is not types.NoneType)
        return None if value is None else _typed(inner, value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{where}: expected one of {list(arguments)}, found {_named(value)}")
        return value
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type[Any], hint), value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where}: expected a list, found {_named(value)}")
        return tuple(_typed(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected keys and values, found {_named(value)}")
        for key in value:
            if not isinstance(key, str):  # YAML reads no, on and 2024 as something else
                raise ConfigError(f"{where}: expected a text as key, found {_named(key)}; quote it")
        return {key: _typed(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    return _scalar(hint, value, where)


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is Path and isinstance(value, str):
        try:
            return expanded(value)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
    if hint is float and isinstance(value, str):
        # YAML reads 5e-6, which has no point, as a text.
        try:
            return float(value)
        except ValueError:
            pass
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Any or (isinstance(value, hint) and not (hint is int and isinstance(value, bool))):
        return value
    raise ConfigError(f"{where}: expected {hint.__name__}, found {_named(value)}")


def _named(value: Any) -> str:
    return f"{type(value).__name__} {one_line(repr(value), 80)}"
