"""`data.toml` as a model: what its keys mean, and which combinations are refused."""

import re
from datetime import UTC, date, datetime
from typing import Any

import pytest

from data_prep.config import DataConfig, EntityConfig, FeatureConfig
from recsys.errors import ConfigError
from recsys.toml_config import parse


def feature(**keys: Any) -> dict[str, Any]:
    return {"items": {"features": [{"name": "colour", **keys}]}}


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        parse(DataConfig, values, "data.toml")
    return str(error.value)


def test_all_wrong_keys_are_named_together() -> None:
    features = [{"name": "Genre"}, {"name": "tags", "type": "text", "max_length": "x"}]
    values = {
        "history_length": -1,
        "interactions": {"user": "u"},
        "split": {"rule": "by_moon"},
        "items": {"features": features},
    }
    assert refusal(values) == (
        "data.toml: interactions.user: unknown key, remove it or correct its spelling; "
        "items.features.0.name: string should match pattern '^[a-z][a-z0-9_]*$', received 'Genre'; "
        "items.features.0.type: required, but absent; "
        "items.features.1.max_length: input should be a valid integer, unable to parse string as an integer, "
        "received 'x'; "
        "split.rule: input should be 'temporal', 'leave_one_out', 'random' or 'given', received 'by_moon'; "
        "history_length: input should be greater than or equal to 0, received -1"
    )


@pytest.mark.parametrize(
    ("kind", "foreign"),
    [
        ("categorical", {"max_length": 3, "separator": "|"}),
        ("multi_categorical", {"num_buckets": 3}),
        ("text", {"num_oov": 2}),
        ("numeric", {"max_length": 3}),
        ("timestamp", {"quantiles": 3}),
    ],
)
def test_a_key_that_a_type_does_not_have_is_refused(kind: str, foreign: dict[str, Any]) -> None:
    assert refusal(feature(type=kind, **foreign)) == (
        f'data.toml: items.features.0: type = "{kind}" has no key {", ".join(sorted(foreign))}: '
        "remove it, or choose what has it"
    )


@pytest.mark.parametrize(
    ("split", "foreign"),
    [
        ({"rule": "leave_one_out", "test_fraction": 0.2}, "test_fraction"),
        ({"rule": "random", "test": "t.csv"}, "test"),
        ({"rule": "given", "test": "t.csv", "test_fraction": 0.2}, "test_fraction"),
        ({"validation_start": 1, "test_start": 2, "test_fraction": 0.2}, "test_fraction"),
    ],
)
def test_a_key_that_a_split_rule_does_not_have_is_refused(split: dict[str, Any], foreign: str) -> None:
    rule = split.get("rule", "temporal")
    assert refusal({"split": split}) == (
        f'data.toml: split: rule = "{rule}" has no key {foreign}: remove it, or choose what has it'
    )


@pytest.mark.parametrize("rule", ["temporal", "random"])
def test_fractions_that_leave_no_train_rows_are_refused(rule: str) -> None:
    split = {"rule": rule, "validation_fraction": 0.5, "test_fraction": 0.5}
    assert refusal({"split": split}) == "data.toml: split: validation_fraction + test_fraction must be below 1"


def test_a_given_split_may_validate_on_nearly_all_of_its_train_table() -> None:
    split = {"rule": "given", "test": "test.csv", "validation_fraction": 0.95}
    assert DataConfig.model_validate({"split": split}).split.validation_fraction == 0.95


@pytest.mark.parametrize("key", ["validation_start", "test_start"])
def test_the_moments_of_a_temporal_split_go_together(key: str) -> None:
    assert refusal({"split": {key: 7}}) == "data.toml: split: validation_start and test_start go together"


def test_a_given_split_needs_the_table_that_tests() -> None:
    assert refusal({"split": {"rule": "given"}}) == (
        'data.toml: split: rule = "given" needs test, the table that tests'
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"filters": {"min_label": 3}},
            "the file: filters.min_label needs interactions.label, the column it compares",
        ),
        (
            {"interactions": {"timestamp": False}},
            "the file: a temporal split needs interactions.timestamp; choose another split.rule",
        ),
        (
            {"interactions": {"timestamp": False}, "split": {"rule": "random"}, "filters": {"end": 7}},
            "the file: filters.start and filters.end need interactions.timestamp",
        ),
        (
            {"items": {"id": "sku"}},
            "items: id names a column of source: add source, or name the column in [interactions]",
        ),
        ({"users": {"show": ["name", "name"]}}, "users: show names a column twice"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(values: dict[str, Any], message: str) -> None:
    assert refusal(values) == f"data.toml: {message}"


def test_users_and_items_may_not_share_a_feature_name() -> None:
    """Vocabularies and the features of a batch are found by name alone."""
    entity = {"features": [{"name": "country", "type": "categorical"}]}
    assert refusal({"users": entity, "items": entity}) == (
        "data.toml: the file: feature names must differ from each other and from the dataset's own: country"
    )


@pytest.mark.parametrize(
    "name",
    [
        "item",
        "item_id",
        "item_row",
        "user",
        "user_id",
        "user_row",
        "train_count",
        "history",
        "timestamp",
        "label",
        "weight",
        "show_title",
    ],
)
def test_a_feature_may_not_take_a_name_that_a_dataset_needs(name: str) -> None:
    assert refusal({"items": {"features": [{"name": name, "type": "categorical"}]}}) == (
        f"data.toml: the file: feature names must differ from each other and from the dataset's own: {name}"
    )


def test_moments_keep_their_type() -> None:
    filters = {"start": date(2020, 1, 2), "end": datetime(2020, 1, 2, 3, tzinfo=UTC)}
    found = DataConfig.model_validate({"filters": filters}).filters
    assert (type(found.start), type(found.end)) == (date, datetime)
    assert DataConfig.model_validate({"filters": {"start": 5}}).filters.start == 5


def test_a_feature_reads_the_column_of_its_name_unless_told() -> None:
    genre = FeatureConfig(name="genre", type="categorical")
    words = FeatureConfig(name="words", column="text", type="text")
    assert EntityConfig(features=(genre, words), show=("title",)).columns == {"genre", "text", "title"}


def test_interactions_read_the_columns_that_are_named() -> None:
    values = {"interactions": {"user_id": "u", "timestamp": False, "label": "l", "weight": "w"}}
    config = DataConfig.model_validate(values | {"split": {"rule": "random"}})
    assert config.interactions.columns == {"u", "item_id", "l", "w"}


def test_every_key_of_the_documentation_is_a_key_of_the_model() -> None:
    """The `Attributes` of each docstring name the fields, and nothing else."""
    for model in (FeatureConfig, EntityConfig, DataConfig):
        text = (model.__doc__ or "").split("Attributes:")[1]
        named = {n for line in re.findall(r"^ +([a-z_, ]+):", text, re.MULTILINE) for n in line.split(", ")}
        assert named - {name.strip() for name in model.model_fields} == set()
