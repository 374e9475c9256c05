"""Raw columns of items to a table of ids and numbers, worked out by hand or by pandas."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow as tf

from data_prep.config import EntityConfig, FeatureConfig
from data_prep.encode import Entities, encode_entities
from recsys.errors import SourceError


def encode(raw: dict[str, Any], train_count: list[int], *features: FeatureConfig, **config: Any) -> Entities:
    """`raw` has the ids as `id`."""
    table = pa.table(raw)
    entity = EntityConfig(features=features, **config)
    ids, columns = table["id"].combine_chunks(), table.drop_columns(["id"])
    return encode_entities("item", ids, columns, np.array(train_count, np.int64), entity, seed=0)


def by_item(entities: Entities, column: str) -> dict[str, Any]:
    return dict(zip(entities.table["item"].to_pylist(), entities.table[column].to_pylist(), strict=True))


def test_ids_and_counts_come_from_train() -> None:
    entities = encode({"id": ["a", "b", "c"]}, [1, 2, 0])
    assert by_item(entities, "item_id") == {"a": 3, "b": 2, "c": 1}
    assert by_item(entities, "train_count") == {"a": 1, "b": 2, "c": 0}
    assert [f.model_dump(exclude_defaults=True) for f in entities.features] == [
        {"name": "item_id", "type": "id", "num_ids": 4, "num_oov": 1}
    ]


def test_items_without_train_rows_share_the_oov_ids_and_keep_their_features() -> None:
    colour = FeatureConfig(name="colour", type="categorical")
    raw = {"id": ["a", "x", "y"], "colour": ["red", "red", "blue"]}
    entities = encode(raw, [4, 0, 0], colour, num_oov=5)
    buckets = tf.strings.to_hash_bucket_fast(["x", "y"], 5).numpy().tolist()
    assert by_item(entities, "item_id") == {"a": 6, "x": 1 + buckets[0], "y": 1 + buckets[1]}
    assert by_item(entities, "colour") == {"a": 2, "x": 2, "y": 1}


def test_rows_find_their_ids_whatever_the_order_of_the_source() -> None:
    ids = [f"i{n}" for n in range(30)]
    counts = list(range(30))
    forwards, backwards = encode({"id": ids}, counts), encode({"id": ids[::-1]}, counts[::-1])
    assert forwards.table.equals(backwards.table)
    stored = forwards.table["item"].to_pylist()
    assert stored != ids
    assert [stored[row] for row in forwards.row] == ids
    assert [stored[row] for row in backwards.row] == ids[::-1]


def test_a_categorical_vocabulary_is_fitted_on_entities_of_train() -> None:
    raw = {"id": ["a", "b", "c", "d", "e"], "colour": ["red", "blue", "blue", "green", None]}
    entities = encode(raw, [2, 1, 1, 0, 1], FeatureConfig(name="colour", type="categorical"))
    # blue has two items in train, red one although it was taken twice, green none; None is padding.
    assert by_item(entities, "colour") == {"a": 3, "b": 2, "c": 2, "d": 1, "e": 0}
    assert entities.vocabularies["colour"].table().to_pydict() == {
        "value": ["blue", "red"],
        "id": [2, 3],
        "count": [2, 1],
    }
    assert entities.coverage == {"colour": 0.8}


def test_several_values_become_lists_of_ids() -> None:
    feature = FeatureConfig(name="genres", type="multi_categorical", separator="|", max_length=2)
    raw = {"id": list("abcde"), "genres": ["x|y|z", "y|x", "", None, "y||w"]}
    entities = encode(raw, [1, 1, 1, 1, 0], feature)
    # Train holds x, y | y, x: z is cut off, w is not in train.
    assert by_item(entities, "genres") == {"a": [2, 3], "b": [3, 2], "c": [], "d": [], "e": [3, 1]}
    assert entities.features[1].max_length == 2
    assert entities.coverage == {"genres": 0.6}


def test_words_are_hashed() -> None:
    feature = FeatureConfig(name="words", column="title", type="text", num_buckets=1000, max_length=4, max_ngram=2)
    raw = {"id": ["a", "b", "c"], "title": ["The ÉTÉ: 1999 (again)", "thE", None]}
    entities = encode(raw, [1, 0, 0], feature)
    the, summer, year, again = (
        (1 + tf.strings.to_hash_bucket_fast(["the", "été", "1999", "again"], 1000)).numpy().tolist()
    )
    assert by_item(entities, "words") == {"a": [the, summer, year, again], "b": [the], "c": []}
    assert (entities.features[1].num_ids, entities.features[1].num_oov) == (1001, 0)
    assert "words" not in entities.vocabularies
    assert entities.coverage["words"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("text", [True, False])
def test_numbers_are_standardized_by_entities_of_train(text: bool) -> None:
    rng = np.random.default_rng(0)
    price = pd.Series(rng.normal(50, 20, size=400)).mask(rng.random(400) < 0.1)
    count = rng.integers(3, size=400)
    column = price.map(repr).where(price.notna(), "") if text else price
    raw = {"id": [f"i{n}" for n in range(400)], "price": pa.array(column, from_pandas=True)}
    entities = encode(raw, count.tolist(), FeatureConfig(name="price", type="numeric"))
    train = price[count > 0]
    fit = entities.numeric_fits["price"]
    assert fit.mean == pytest.approx(train.mean(), rel=1e-12)
    assert fit.standard_deviation == pytest.approx(train.std(ddof=0), rel=1e-9)
    expected = ((price - train.mean()) / train.std(ddof=0)).fillna(0)
    stored = entities.table["price"].to_numpy()[entities.row]
    assert stored.dtype == np.float32
    np.testing.assert_allclose(stored, expected, atol=1e-5)
    assert entities.coverage["price"] == pytest.approx(price.notna().mean())
    assert (entities.features[1].type, entities.features[1].num_ids) == ("numeric", 0)


def test_numbers_are_bucketed_by_entities_of_train() -> None:
    raw = {"id": list("abcdefg"), "price": [1.0, 2.0, 3.0, 4.0, None, 99.0, -9.0]}
    entities = encode(raw, [1, 1, 1, 1, 1, 0, 0], FeatureConfig(name="price", type="numeric", quantiles=2))
    # Of 1, 2, 3, 4 the upper half begins at 3; ids are 1 below and 2 from there on.
    assert entities.numeric_fits["price"].boundaries == (3.0,)
    assert by_item(entities, "price") == {"a": 1, "b": 1, "c": 2, "d": 2, "e": 0, "f": 2, "g": 1}
    assert (entities.features[1].type, entities.features[1].num_ids) == ("bucketized", 3)


def test_moments_become_four_numbers() -> None:
    raw = {"id": ["a", "b"], "released": ["1970-01-01T06:00:00Z", None]}  # a Thursday
    entities = encode(raw, [1, 0], FeatureConfig(name="released", type="timestamp"))
    points = by_item(entities, "released")
    np.testing.assert_allclose(points["a"], [1, 0, math.sin(6 * math.pi / 7), math.cos(6 * math.pi / 7)], atol=1e-6)
    assert points["b"] == [0, 0, 0, 0]
    assert entities.coverage == {"released": 0.5}
    assert (entities.features[1].type, entities.features[1].max_length) == ("timestamp", 4)


def test_shown_columns_are_kept_as_text() -> None:
    raw = {"id": ["a", "b"], "title": ["Ä 1", None], "year": [1999, 2000]}
    entities = encode(raw, [1, 0], show=("title", "year"))
    assert by_item(entities, "show_title") == {"a": "Ä 1", "b": ""}
    assert by_item(entities, "show_year") == {"a": "1999", "b": "2000"}
    assert len(entities.features) == 1


def test_a_column_of_lists_needs_a_feature_of_several_values() -> None:
    raw = {"id": ["a"], "colour": [["red"]]}
    with pytest.raises(SourceError) as error:
        encode(raw, [1], FeatureConfig(name="colour", type="categorical"))
    assert str(error.value) == "column colour holds list<item: string>: expected one value per row"
