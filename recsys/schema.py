"""What a dataset holds: features, id conventions and the manifest. Imports no TensorFlow.

In every table of ids, 0 is padding, 1 … `num_oov` are out-of-vocabulary buckets, and known values follow.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

FORMAT_VERSION = 1
PADDING_ID = 0

USER_ID = "user_id"
ITEM_ID = "item_id"
HISTORY = "history"

SPLITS = ("train", "validation", "test")

FeatureType = Literal["id", "categorical", "multi_categorical", "text"]


class Frozen(BaseModel):
    """The base of every record here: immutable, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Feature(Frozen):
    """One feature of a user or an item, as the towers see it.

    Attributes:
      name: the key in a batch of features.
      type: `id` and `categorical` are one integer per row; `multi_categorical` and `text` are `max_length` integers
        per row, padded with 0.
      num_ids: rows of its embedding table, padding and out-of-vocabulary rows included.
      num_oov: out-of-vocabulary rows, at ids 1 … `num_oov`; 0 for hashed text, where every value has a row.
      max_length: the static width of a row; 1 for single-valued features.
    """

    name: str
    type: FeatureType
    num_ids: int
    num_oov: int
    max_length: int = 1

    @property
    def is_bag(self) -> bool:
        """Whether a row holds several ids."""
        return self.type in ("multi_categorical", "text")

    @property
    def first_known_id(self) -> int:
        """The id of the most frequent known value."""
        return 1 + self.num_oov


class Schema(Frozen):
    """The features of users and items, ids first, and the width of histories."""

    user_features: tuple[Feature, ...]
    item_features: tuple[Feature, ...]
    history_length: int

    @property
    def user_id(self) -> Feature:
        """The user id feature."""
        return self.user_features[0]

    @property
    def item_id(self) -> Feature:
        """The item id feature."""
        return self.item_features[0]


class Shard(Frozen):
    """One file: its name inside the dataset, its rows and the SHA-256 of its bytes."""

    name: str
    num_rows: int
    sha256: str


class SplitRule(Frozen):
    """How interactions were divided, and where the cuts fell."""

    rule: Literal["temporal"]
    validation_fraction: float
    test_fraction: float
    validation_start: int
    test_start: int
    ties: str


class Source(Frozen):
    """Where the rows came from."""

    spec: str
    fingerprint: str


class Manifest(Frozen):
    """The content of a dataset's `manifest.json`.

    `splits` maps a split to its shards of interactions; `items` and `users` are the tables that interactions point
    into by row; `vocabularies` map a feature to its file; `quarantine` counts refused rows by reason.
    """

    format_version: int
    schema_: Schema
    splits: dict[str, tuple[Shard, ...]]
    items: Shard
    users: Shard
    vocabularies: dict[str, Shard]
    split_rule: SplitRule
    quarantine: dict[str, int]
    statistics: dict[str, Any]
    seed: int
    source: Source
    tool_versions: dict[str, str]

    def num_rows(self, split: str) -> int:
        """Interactions in a split."""
        return sum(shard.num_rows for shard in self.splits[split])
