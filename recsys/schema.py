"""What a dataset holds: features, id conventions and the manifest. Imports no TensorFlow.

In every table of ids, 0 is padding, 1 … `num_oov` are out-of-vocabulary buckets, and known values follow.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

FORMAT_VERSION = 2
PADDING_ID = 0

USER_ID = "user_id"
ITEM_ID = "item_id"
HISTORY = "history"

SPLITS = ("train", "validation", "test")

FeatureType = Literal["id", "categorical", "multi_categorical", "text", "bucketized", "numeric", "timestamp"]


class Frozen(BaseModel):
    """The base of every record here: immutable, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Feature(Frozen):
    """One feature of a user or an item, as the towers see it.

    Attributes:
      name: the key in a batch of features.
      type: `id`, `categorical` and `bucketized` are one integer per row; `multi_categorical` and `text` are
        `max_length` integers per row, padded with 0; `numeric` and `timestamp` are `max_length` floats.
      num_ids: rows of its embedding table, padding and out-of-vocabulary rows included; 0 for floats.
      num_oov: out-of-vocabulary rows, at ids 1 … `num_oov`; 0 where every value has a row, as in hashed text.
      max_length: the static width of a row; 1 for single-valued features.
      column: what it was read from; None for ids, and in datasets of releases that did not record it.
      separator: what divided the values of a `multi_categorical` text.
      max_ngram: how long the word sequences of a `text` are.
    """

    name: str
    type: FeatureType
    num_ids: int
    num_oov: int
    max_length: int = 1
    column: str | None = None
    separator: str | None = None
    max_ngram: int = 1

    @property
    def is_dense(self) -> bool:
        """Whether a row is float32 numbers, not ids."""
        return self.type in ("numeric", "timestamp")

    @property
    def is_bag(self) -> bool:
        """Whether a row holds several ids."""
        return self.type in ("multi_categorical", "text")

    @property
    def first_known_id(self) -> int:
        """The id of the most frequent known value."""
        return 1 + self.num_oov


class Schema(Frozen):
    """The features of users and items, ids first, and what an interaction holds.

    Attributes:
      user_features, item_features: the id first.
      history_length: how many of a user's latest items precede an interaction; 0 for none.
      label, weight: whether interactions have these float32 columns.
    """

    user_features: tuple[Feature, ...]
    item_features: tuple[Feature, ...]
    history_length: int
    label: bool = False
    weight: bool = False

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
    """How interactions were divided, and where the cuts fell.

    Attributes:
      rule: by time, by each user's last two, at random, or as given by the source.
      validation: whether some rows validate; otherwise they train.
      seed: of the random choice, and of the hash that orders what has equal timestamps.
      validation_fraction, test_fraction: where the rule has them.
      validation_start, test_start: the first timestamps behind the cuts of a temporal split.
      order: what "earlier" means: the timestamps, or the order of the rows where there are none.
      ties: what becomes of equal timestamps.
    """

    rule: Literal["temporal", "leave_one_out", "random", "given"]
    validation: bool = True
    seed: int
    validation_fraction: float | None = None
    test_fraction: float | None = None
    validation_start: int | None = None
    test_start: int | None = None
    order: Literal["timestamp", "row"]
    ties: str


class NumericFit(Frozen):
    """What was learned of a number: its mean and standard deviation, or its buckets' boundaries.

    It is learned from users or items with a train interaction, each of which counts once. `quantiles` is how many
    buckets were asked for; equal boundaries are one.
    """

    mean: float = 0.0
    standard_deviation: float = 1.0
    quantiles: int | None = None
    boundaries: tuple[float, ...] = ()


class Source(Frozen):
    """Where rows came from."""

    spec: str
    fingerprint: str


class Manifest(Frozen):
    """The content of a dataset's `manifest.json`.

    `splits` maps a split to its shards of interactions; `items` and `users` are the tables that interactions point
    into by row; `vocabularies` map a feature to its file; `numeric_fits` map a number to what was learned of it;
    `quarantine` counts refused rows by reason and `filtered` rows that a filter left out; `sources` are the tables
    that were read: `interactions`, where they are of their own `test`, `items` and `users`, and as `extends` the name
    and fingerprint of the dataset whose ids are kept. `timestamp_unit` is what timestamps count since 1970, where
    that is known.
    """

    format_version: int
    schema_: Schema
    splits: dict[str, tuple[Shard, ...]]
    items: Shard
    users: Shard
    vocabularies: dict[str, Shard]
    numeric_fits: dict[str, NumericFit]
    split_rule: SplitRule
    quarantine: dict[str, int]
    filtered: dict[str, int]
    statistics: dict[str, Any]
    seed: int
    sources: dict[str, Source]
    tool_versions: dict[str, str]
    timestamp_unit: Literal["s", "ms", "us", "ns"] | None = None

    def num_rows(self, split: str) -> int:
        """Interactions in a split."""
        return sum(shard.num_rows for shard in self.splits[split])
