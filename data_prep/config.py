"""`data.toml`: which column is what, what to keep, and how to split."""

from datetime import date, datetime
from typing import Any, Literal

from pydantic import Field, model_validator

from recsys.schema import Frozen

_RESERVED = (
    "item", "item_id", "item_row", "user", "user_id", "user_row",
    "train_count", "history", "timestamp", "label", "weight",
)  # fmt: skip
Moment = int | date | datetime


def _refuse_foreign(config: Frozen, own: set[str], of: str) -> None:
    """Refuses keys that would change nothing: what was set must be among a type's or rule's own."""
    foreign: list[Any] = sorted(config.model_fields_set - own)
    if foreign:
        raise ValueError(f"{of} has no key {', '.join(foreign)}: remove it, or choose what has it")


def _is_reserved(name: str) -> bool:
    """Whether a dataset's columns, or the layers of the towers, have such names."""
    return (
        name in _RESERVED
        or name.startswith(("show_", "query_", "candidate_", "history_"))
        or name.endswith(("_embedding", "_dropout"))
    )


class FeatureConfig(Frozen):
    """A content feature of users or items.

    Attributes:
      name: its name in the dataset.
      column: the column it is read from; the name itself when absent.
      type: `categorical` (one value), `multi_categorical` (several), `text` (hashed words), `numeric` (a number) or
        `timestamp` (a moment, of which the hour and the weekday are kept as points on circles).
      separator: what divides the values of a `multi_categorical` string; a list column needs none.
      max_length: how many values or words of a row are kept.
      num_buckets: rows that the words of a `text` are hashed into.
      max_ngram: word sequences of a `text` up to this length are hashed, too.
      num_oov: out-of-vocabulary rows of a categorical feature.
      quantiles: buckets of equal size that a `numeric` is divided into; standardized when absent.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    type: Literal["categorical", "multi_categorical", "text", "numeric", "timestamp"]
    column: str | None = None
    separator: str | None = None
    max_length: int = Field(default=16, ge=1)
    num_buckets: int = Field(default=16_384, ge=1)
    max_ngram: int = Field(default=1, ge=1)
    num_oov: int = Field(default=1, ge=1)
    quantiles: int | None = Field(default=None, ge=2)

    @property
    def source_column(self) -> str:
        """The column to read."""
        return self.name if self.column is None else self.column

    @model_validator(mode="after")
    def _keys_fit_the_type(self) -> "FeatureConfig":
        own = {
            "categorical": {"num_oov"},
            "multi_categorical": {"num_oov", "separator", "max_length"},
            "text": {"max_length", "num_buckets", "max_ngram"},
            "numeric": {"quantiles"},
            "timestamp": set(),
        }
        _refuse_foreign(self, own[self.type] | {"name", "type", "column"}, f'type = "{self.type}"')
        return self


class EntityConfig(Frozen):
    """A user or item table.

    Attributes:
      source: a table of its own, as `recsys prepare` takes it; the interactions when absent.
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

    @model_validator(mode="after")
    def _keys_change_something(self) -> "EntityConfig":
        if self.id is not None and self.source is None:
            raise ValueError("id names a column of source: add source, or name the column in [interactions]")
        if len(set(self.show)) < len(self.show):
            raise ValueError("show names a column twice")
        return self


class InteractionsConfig(Frozen):
    """The columns of the interactions table.

    Attributes:
      user_id, item_id: the ids.
      timestamp: dates, seconds since 1970 or any growing integer; false when the rows stand in order of time.
      timestamp_format: how text is read: as `number` or as `iso8601`; `auto` looks at the first rows. Numbers may be
        `s`, `ms`, `us` or `ns` since 1970, in which dates of filters and split are compared with them; otherwise the
        first rows tell the unit.
      label: a number to learn or to filter by, such as a rating.
      weight: how much a row counts in training.
    """

    user_id: str = "user_id"
    item_id: str = "item_id"
    timestamp: str | Literal[False] = "timestamp"
    timestamp_format: Literal["auto", "number", "iso8601", "s", "ms", "us", "ns"] = "auto"
    label: str | None = None
    weight: str | None = None

    @property
    def columns(self) -> set[str]:
        """The columns to read."""
        names = (self.user_id, self.item_id, self.timestamp, self.label, self.weight)
        return {name for name in names if name}


class FiltersConfig(Frozen):
    """Which interactions are kept; applied in this order, and what each leaves out is counted.

    Attributes:
      start, end: the time window, `start` included and `end` not.
      min_label: the smallest label that counts as an interaction.
      duplicates: of one user and item keep `all`, the `first`, the `last`, or the last with the `sum` of the weights.
      min_user_interactions, min_item_interactions: left out until every user and item has so many (k-core).
    """

    start: Moment | None = None
    end: Moment | None = None
    min_label: float | None = None
    duplicates: Literal["all", "first", "last", "sum"] = "all"
    min_user_interactions: int = Field(default=1, ge=1)
    min_item_interactions: int = Field(default=1, ge=1)


class SplitConfig(Frozen):
    """Which interactions test and which validate.

    Attributes:
      rule: `temporal`: the newest test, those before them validate. `leave_one_out`: of every user with three or
        more, the last tests and the one before validates. `random`: by chance. `given`: `test` is a table of its
        own, and train rows validate by chance.
      validation_fraction, test_fraction: shares of all interactions; in a `given` split of the train table.
      validation_start, test_start: moments in place of the fractions of a temporal split.
      test: the table that tests.
      validation: false lets what would validate train: for a last run, when all is chosen. Test stays as it is.
    """

    rule: Literal["temporal", "leave_one_out", "random", "given"] = "temporal"
    validation: bool = True
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    test_fraction: float = Field(default=0.1, gt=0, lt=1)
    validation_start: Moment | None = None
    test_start: Moment | None = None
    test: str | None = None

    @model_validator(mode="after")
    def _keys_fit_the_rule(self) -> "SplitConfig":
        fractions, moments = {"validation_fraction", "test_fraction"}, {"validation_start", "test_start"}
        own: dict[str, set[str]] = {
            "temporal": moments if self.model_fields_set & moments else fractions,
            "leave_one_out": set(),
            "random": fractions,
            "given": {"validation_fraction", "test"},
        }
        _refuse_foreign(self, own[self.rule] | {"rule", "validation"}, f'rule = "{self.rule}"')
        if "test_fraction" in own[self.rule] and self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction + test_fraction must be below 1")
        if (self.validation_start is None) != (self.test_start is None):
            raise ValueError("validation_start and test_start go together")
        if (self.rule == "given") != (self.test is not None):
            raise ValueError('rule = "given" needs test, the table that tests')
        return self


class DataConfig(Frozen):
    """The whole file.

    Attributes:
      matches: the source that this file describes when none is named, `{variant}` being any text without `/`.
      history_length: how many of a user's latest items precede each interaction; 0 for none.
      seed: of the hash that orders users and items, and so rows of one user with equal timestamps, and of chance.
    """

    matches: str | None = None
    interactions: InteractionsConfig = InteractionsConfig()
    items: EntityConfig = EntityConfig()
    users: EntityConfig = EntityConfig()
    filters: FiltersConfig = FiltersConfig()
    split: SplitConfig = SplitConfig()
    history_length: int = Field(default=50, ge=0)
    seed: int = 0

    def without_validation(self) -> "DataConfig":
        """The same, but that what would validate trains."""
        return self.model_copy(update={"split": self.split.model_copy(update={"validation": False})})

    @property
    def beside(self) -> dict[str, EntityConfig]:
        """`user` and `item`, as far as they have content that stands in columns beside the interactions."""
        entities = {"user": self.users, "item": self.items}
        return {kind: entity for kind, entity in entities.items() if entity.source is None and entity.columns}

    @model_validator(mode="after")
    def _names_are_free(self) -> "DataConfig":
        names = [feature.name for feature in (*self.items.features, *self.users.features)]
        taken = {name for name in names if _is_reserved(name) or names.count(name) > 1}
        if taken:
            raise ValueError(
                f"feature names must differ from each other and from the dataset's own: {', '.join(sorted(taken))}"
            )
        return self

    @model_validator(mode="after")
    def _parts_fit_each_other(self) -> "DataConfig":
        if self.filters.min_label is not None and self.interactions.label is None:
            raise ValueError("filters.min_label needs interactions.label, the column it compares")
        if self.interactions.timestamp is False:
            if self.split.rule == "temporal":
                raise ValueError("a temporal split needs interactions.timestamp; choose another split.rule")
            if self.filters.start is not None or self.filters.end is not None:
                raise ValueError("filters.start and filters.end need interactions.timestamp")
        return self
