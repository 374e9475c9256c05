"""Raw columns of items to ids, worked out by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from data_prep.config import EntityConfig, FeatureConfig
from data_prep.encode import Entities, encode_entities


def encode(raw: dict[str, list[Any]], train_ids: list[str], *features: FeatureConfig, **config: Any) -> Entities:
    entity = EntityConfig(features=features, **config)
    return encode_entities(
        "item", pd.DataFrame(raw).set_index("id"), pd.Series(train_ids, dtype=object), entity, seed=0
    )


def by_item(entities: Entities, column: str) -> dict[str, Any]:
    return dict(zip(entities.table["item"].to_pylist(), entities.table[column].to_pylist(), strict=True))


def test_ids_and_counts_come_from_train() -> None:
    entities = encode({"id": ["a", "b", "c"]}, ["b", "a", "b"])
    assert by_item(entities, "item_id") == {"a": 3, "b": 2, "c": 1}
    assert by_item(entities, "train_count") == {"a": 1, "b": 2, "c": 0}
    assert [f.name for f in entities.features] == ["item_id"]
    assert (entities.features[0].num_ids, entities.features[0].num_oov) == (4, 1)


def test_rows_find_their_ids_whatever_the_order_of_the_source() -> None:
    ids = [f"i{n}" for n in range(30)]
    forwards, backwards = encode({"id": ids}, ["i3"]), encode({"id": ids[::-1]}, ["i3"])
    assert forwards.table.equals(backwards.table)
    assert forwards.rows.tolist() == forwards.table["item"].to_pylist() != ids


def test_a_categorical_vocabulary_is_fitted_on_entities_of_train() -> None:
    raw = {"id": ["a", "b", "c", "d", "e"], "colour": ["red", "blue", "blue", "green", None]}
    entities = encode(raw, ["a", "a", "b", "c", "e"], FeatureConfig(name="colour", type="categorical"))
    # blue has two items in train, red one although it was taken twice, green none; None is padding.
    assert by_item(entities, "colour") == {"a": 3, "b": 2, "c": 2, "d": 1, "e": 0}
    assert entities.features[1].model_dump() == {
        "name": "colour",
        "type": "categorical",
        "num_ids": 4,
        "num_oov": 1,
        "max_length": 1,
    }
    assert entities.vocabularies["colour"].table()["value"].to_pylist() == ["blue", "red"]


@pytest.mark.parametrize(
    ("separator", "genres"),
    [
        ("|", ["x|y|z", "y|x", "", None, "y||w"]),
        (None, [["x", "y", "z"], np.array(["y", "x"]), [], None, ["y", "", None, "w"]]),
    ],
)
def test_several_values_are_divided_and_cut_to_max_length(separator: str | None, genres: list[Any]) -> None:
    feature = FeatureConfig(name="genres", type="multi_categorical", separator=separator, max_length=2)
    entities = encode({"id": list("abcde"), "genres": genres}, list("abcd"), feature)
    # Train holds x, y | y, x: z is cut off, w is not in train.
    assert by_item(entities, "genres") == {"a": [2, 3], "b": [3, 2], "c": [], "d": [], "e": [3, 1]}
    assert entities.features[1].max_length == 2


def test_a_value_without_separator_is_one_value() -> None:
    feature = FeatureConfig(name="genres", type="multi_categorical")
    assert by_item(encode({"id": ["a"], "genres": ["x|y"]}, ["a"], feature), "genres") == {"a": [2]}


def test_words_are_lower_cased_and_hashed() -> None:
    feature = FeatureConfig(name="words", column="title", type="text", num_buckets=1000, max_length=3)
    raw = {"id": ["a", "b", "c"], "title": ["The ÉTÉ: 1999 (again)", "thE", None]}
    entities = encode(raw, ["a"], feature)
    the, summer, year = (1 + tf.strings.to_hash_bucket_fast(["the", "été", "1999"], 1000)).numpy().tolist()
    assert by_item(entities, "words") == {"a": [the, summer, year], "b": [the], "c": []}
    assert (entities.features[1].num_ids, entities.features[1].num_oov) == (1001, 0)
    assert "words" not in entities.vocabularies


def test_shown_columns_are_kept_as_text() -> None:
    entities = encode({"id": ["a", "b"], "title": ["Ä 1", None], "year": [1999, 2000]}, ["a"], show=("title", "year"))
    assert by_item(entities, "show_title") == {"a": "Ä 1", "b": ""}
    assert by_item(entities, "show_year") == {"a": "1999", "b": "2000"}
    assert len(entities.features) == 1
