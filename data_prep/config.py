"""`data.toml`: which column is what, and how to split."""

import re
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from recsys.errors import ConfigError
from recsys.schema import Frozen
from recsys.toml_config import load_toml

_VARIANT = "{variant}"
_RESERVED = ("item", "item_id", "item_row", "user", "user_id", "user_row", "train_count", "history", "weight")


class FeatureConfig(Frozen):
    """A content feature of users or items.

    Attributes:
      name: its name in the dataset.
      column: the column it is read from; the name itself when absent.
      type: `categorical` (one value), `multi_categorical` (several) or `text` (hashed words).
      separator: what divides the values of a `multi_categorical` string; a list column needs none.
      max_length: how many values or words of a row are kept.
      num_buckets: rows that the words of a `text` are hashed into.
      num_oov: out-of-vocabulary rows of a categorical feature.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    type: Literal["categorical", "multi_categorical", "text"]
    column: str | None = None
    separator: str | None = None
    max_length: int = Field(default=16, ge=1)
    num_buckets: int = Field(default=16_384, ge=1)
    num_oov: int = Field(default=1, ge=1)

    @property
    def source_column(self) -> str:
        """The column to read."""
        return self.name if self.column is None else self.column


class EntityConfig(Frozen):
    """A user or item table.

    Attributes:
      source: a table of its own, a path beside this file or a `tfds:` builder; the interactions when absent.
      id: the id column in that table; the interactions' id column when absent.
      features: content features.
      show: columns that a person sees beside an answer, the title first. Kept as text, never trained on.
      num_oov: out-of-vocabulary rows of the id.
    """

    source: str | None = None
    id: str | None = None
    features: tuple[FeatureConfig, ...] = ()
    show: tuple[str, ...] = ()
    num_oov: int = Field(default=1, ge=1)

    @property
    def columns(self) -> set[str]:
        """The columns to read beside the id."""
        return {f.source_column for f in self.features} | set(self.show)


class InteractionsConfig(Frozen):
    """The columns of the interactions table; timestamps are dates, seconds since 1970, or any growing integer."""

    user_id: str = "user_id"
    item_id: str = "item_id"
    timestamp: str = "timestamp"


class SplitConfig(Frozen):
    """A global temporal split: the newest interactions test, those before them validate."""

    rule: Literal["temporal"] = "temporal"
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    test_fraction: float = Field(default=0.1, gt=0, lt=1)

    @model_validator(mode="after")
    def _leaves_train_rows(self) -> "SplitConfig":
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction + test_fraction must be below 1")
        return self


class DataConfig(Frozen):
    """The whole file.

    Attributes:
      matches: the source that this file describes when none is named, `{variant}` being any text without `/`.
      history_length: how many of a user's latest items precede each interaction.
      seed: of the hash that orders users and items, and so rows of one user with equal timestamps.
    """

    matches: str | None = None
    interactions: InteractionsConfig = InteractionsConfig()
    items: EntityConfig = EntityConfig()
    users: EntityConfig = EntityConfig()
    split: SplitConfig = SplitConfig()
    history_length: int = Field(default=50, ge=1)
    seed: int = 0

    @model_validator(mode="after")
    def _names_are_free(self) -> "DataConfig":
        names = [feature.name for feature in (*self.items.features, *self.users.features)]
        taken = {name for name in names if name in _RESERVED or name.startswith("show_") or names.count(name) > 1}
        if taken:
            raise ValueError(
                f"feature names must differ from each other and from the dataset's own: {', '.join(sorted(taken))}"
            )
        return self


def load_data_config(path: Path | None, source: str) -> DataConfig:
    """Reads `path`, or the shipped file whose `matches` fits `source`.

    Relative sources of users and items are resolved against the file's folder, `{variant}` by the source's own.

    Raises:
      ConfigError: the file is wrong, or no shipped file describes the source.
    """
    if path is not None:
        own = load_toml(DataConfig, path)
        return _resolve(own, path.parent, _variant(own, source) or "")
    for shipped in sorted(Path(str(resources.files("data_prep") / "schemas")).glob("*.toml")):
        config = load_toml(DataConfig, shipped)
        variant = _variant(config, source)
        if variant is not None:
            return _resolve(config, shipped.parent, variant)
    raise ConfigError(f"no schema is known for {source}: say which column is what in a file, --schema data.toml")


def _variant(config: DataConfig, source: str) -> str | None:
    """What stands for `{variant}` in a source that `matches` describes; None when it describes another."""
    pattern = re.escape(config.matches or "").replace(re.escape(_VARIANT), "([^/]*)")
    match = re.fullmatch(pattern, source)
    return "".join(match.groups()) if match else None


def _resolve(config: DataConfig, folder: Path, variant: str) -> DataConfig:
    def located(entity: EntityConfig) -> EntityConfig:
        if entity.source is None or entity.source.startswith("tfds:"):
            source = None if entity.source is None else entity.source.replace(_VARIANT, variant)
        else:
            source = str(folder / entity.source)
        return entity.model_copy(update={"source": source})

    return config.model_copy(update={"items": located(config.items), "users": located(config.users)})
