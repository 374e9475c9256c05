"""Reads a TOML file into a frozen pydantic model, and names every wrong field at once."""

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from recsys.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


def load_toml(model: type[Model], path: Path, overrides: tuple[str, ...] = ()) -> Model:
    """Reads `path` as `model`.

    Args:
      model: the pydantic model that states the keys, types and defaults.
      path: a TOML file.
      overrides: `dotted.key=value` each, applied last; the value is read as TOML, or else as a string.

    Raises:
      ConfigError: the file is missing or no TOML, an override has no `=`, or fields are unknown or wrong.
    """
    if not path.is_file():
        raise ConfigError(f"{path} is missing: expected a TOML file")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error
    for override in overrides:
        _apply(values, override)
    return parse(model, values, str(path))


def overridden(config: Model, overrides: tuple[str, ...]) -> Model:
    """Returns `config` with `dotted.key=value` overrides applied.

    Raises:
      ConfigError: an override has no `=`, or its field is unknown or wrong.
    """
    values = config.model_dump(mode="json")
    for override in overrides:
        _apply(values, override)
    return parse(type(config), values, "--set")


def parse(model: type[Model], values: dict[str, Any], origin: str) -> Model:
    """Validates `values` as `model`; `origin` names them in the error.

    Raises:
      ConfigError: fields are unknown, missing or wrong; all of them are named, with their dotted names.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        wrong = "; ".join(_describe(detail, values) for detail in error.errors())
        raise ConfigError(f"{origin}: {wrong}") from error


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns what nested tables hold, by dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _describe(detail: Any, values: dict[str, Any]) -> str:
    name = ".".join(_written(detail["loc"], values, detail["type"] == "missing")) or "the file"
    if detail["type"] == "extra_forbidden":
        return f"{name}: unknown key, remove it or correct its spelling"
    if detail["type"] == "missing":
        return f"{name}: required, but absent"
    if detail["type"] == "value_error":  # of our own validators, which say all there is to say
        return f"{name}: {detail['ctx']['error']}"
    return f"{name}: {detail['msg'][0].lower()}{detail['msg'][1:]}, received {detail['input']!r}"


def _written(location: tuple[int | str, ...], values: Any, may_end_outside: bool) -> list[str]:
    """The parts of a location that stand in the file; pydantic also names the member of a union that was meant."""
    parts = []
    for number, part in enumerate(location):
        inside = part in values if isinstance(values, dict) else isinstance(values, list)
        if inside:
            values = values[part]
        if inside or (may_end_outside and number == len(location) - 1):
            parts.append(str(part))
    return parts


def _apply(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set {override!r}: expected key=value, for example --set train.epochs=5")
    *tables, leaf = key.strip().split(".")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override!r}: {table} is a value, not a table of keys")
    try:
        values[leaf] = tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        values[leaf] = text.strip()
