"""Towers of a small schema: parameters counted by hand, outputs recomputed in NumPy, every option seen to work."""

import re
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from recsys.config import ModelConfig
from recsys.errors import ConfigError
from recsys.schema import Feature, Schema
from recsys.towers import Towers, build_towers

SCHEMA = Schema(
    user_features=(
        Feature(name="user_id", type="id", num_ids=7, num_oov=2),
        Feature(name="segment", type="categorical", num_ids=4, num_oov=1),
    ),
    item_features=(
        Feature(name="item_id", type="id", num_ids=9, num_oov=1),
        Feature(name="genres", type="multi_categorical", num_ids=5, num_oov=1, max_length=3),
    ),
    history_length=4,
)
USERS = {
    "user_id": np.array([3, 0, 6], np.int32),
    "segment": np.array([1, 0, 2], np.int32),
    "history": np.array([[2, 8, 0, 0], [0, 0, 0, 0], [5, 5, 3, 4]], np.int32),
}
ITEMS = {
    "item_id": np.array([2, 8], np.int32),
    "genres": np.array([[1, 4, 0], [0, 0, 0]], np.int32),
}


def towers_of(**options: Any) -> Towers:
    tf.keras.utils.set_random_seed(0)
    return build_towers(SCHEMA, ModelConfig.model_validate({"embedding_dim": 3} | options))


def num_parameters(towers: Towers) -> int:
    variables = {variable.ref(): variable for tower in (towers.query, towers.candidate) for variable in tower.weights}
    return sum(int(np.prod(variable.shape)) for variable in variables.values())


def table(tower: tf.keras.Model, layer: str) -> np.ndarray:
    values: np.ndarray = tower.get_layer(layer).table.numpy()
    return values


def test_towers_are_functional_models_with_an_input_per_feature() -> None:
    towers = towers_of()
    assert {name: tensor.shape.as_list() for name, tensor in towers.query.input.items()} == {
        "user_id": [None],
        "segment": [None],
        "history": [None, 4],
    }
    assert {name: tensor.shape.as_list() for name, tensor in towers.candidate.input.items()} == {
        "item_id": [None],
        "genres": [None, 3],
    }
    assert {tensor.dtype for tower in (towers.query, towers.candidate) for tensor in tower.input.values()} == {tf.int32}
    assert sorted(towers.query_inputs) == ["history", "segment", "user_id"]
    assert sorted(towers.candidate_inputs) == ["genres", "item_id"]
    assert towers.query.output_shape == towers.candidate.output_shape == (None, 3)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 3 * (7 + 4 + 9 + 5)),
        ({"embedding_dim": 8}, 8 * (7 + 4 + 9 + 5)),
        ({"history": {"share_item_table": False}}, 3 * (7 + 4 + 9 + 5 + 9)),
        ({"query": {"use_id": False}}, 3 * (4 + 9 + 5)),
        ({"query": {"content_features": False}}, 3 * (7 + 9 + 5)),
        ({"candidate": {"content_features": False}}, 3 * (7 + 4 + 9)),
        ({"candidate": {"use_id": False}, "history": {"share_item_table": False}}, 3 * (7 + 4 + 9 + 5)),
        ({"candidate": {"pooling": "attention"}}, 3 * (7 + 4 + 9 + 5) + 3),
        ({"query": {"hidden_units": (5, 2)}}, 3 * (7 + 4 + 9 + 5) + (3 * 5 + 5) + (5 * 2 + 2) + (2 * 3 + 3)),
        ({"candidate": {"hidden_units": (5,)}}, 3 * (7 + 4 + 9 + 5) + (3 * 5 + 5) + (5 * 3 + 3)),
    ],
)
def test_parameters_are_those_counted_by_hand(options: dict[str, Any], expected: int) -> None:
    assert num_parameters(towers_of(**options)) == expected


def test_without_hidden_layers_a_tower_sums_embeddings_and_scales_to_length_one() -> None:
    towers = towers_of()
    users, segments = table(towers.query, "user_id_embedding"), table(towers.query, "segment_embedding")
    items, genres = table(towers.candidate, "item_id_embedding"), table(towers.candidate, "genres_embedding")
    sums = [
        users[3] + segments[1] + (items[2] + items[8]) / 2,
        np.zeros(3),
        users[6] + segments[2] + (2 * items[5] + items[3] + items[4]) / 4,
    ]
    expected = [row / max(np.linalg.norm(row), 1e-12) for row in sums]
    np.testing.assert_allclose(towers.embed_query(USERS), expected, atol=1e-6)
    expected = [row / np.linalg.norm(row) for row in (items[2] + (genres[1] + genres[4]) / 2, items[8])]
    np.testing.assert_allclose(towers.embed_candidate(ITEMS), expected, atol=1e-6)


def test_a_summary_names_what_becomes_of_each_feature() -> None:
    """Layer by layer, with its parameters as counted by hand, and whose output it takes."""
    towers = build_towers(
        SCHEMA,
        ModelConfig.model_validate(
            {"embedding_dim": 3, "history": {"content_features": True}, "query": {"hidden_units": (5,)}}
        ),
        CATALOGUE,
    )
    assert summary_of(towers.candidate) == {
        "item_id": ("InputLayer", 0, []),
        "item_id_dropout": ("IdDropout", 0, ["item_id"]),
        "item_id_embedding": ("EmbeddingTable", 27, ["item_id_dropout"]),
        "genres": ("InputLayer", 0, []),
        "genres_embedding": ("MeanBag", 15, ["genres"]),
        "candidate_features": ("Add", 0, ["item_id_embedding", "genres_embedding"]),
        "candidate_normalization": ("UnitNormalization", 0, ["candidate_features"]),
    }
    query = summary_of(towers.query)
    assert query["user_id_embedding"] == ("EmbeddingTable", 21, ["user_id_dropout"])
    assert query["segment_embedding"] == ("EmbeddingTable", 12, ["segment"])
    assert query["history_genres"] == ("ItemContent", 27, ["history"])
    assert query["history_features"] == ("Add", 0, ["item_id_embedding", "genres_embedding"])
    assert query["query_features"] == ("Add", 0, ["history_encoder", "user_id_embedding", "segment_embedding"])
    assert query["query_hidden_0"] == ("Dense", 3 * 5 + 5, ["query_features"])
    assert query["query_projection"] == ("Dense", 5 * 3 + 3, ["query_dropout_0"])


def summary_of(tower: tf.keras.Model) -> dict[str, tuple[str, int, list[str]]]:
    """Reads the table that `summary` prints: by layer its kind, parameters, and the layers before it."""
    lines: list[str] = []
    tower.summary(line_length=200, positions=[0.35, 0.5, 0.6, 1.0], print_fn=lines.append)
    found: dict[str, tuple[str, int, list[str]]] = {}
    for line in lines[lines.index("=" * 200) + 1 :]:
        if line.startswith("="):
            break
        before = re.findall(r"'(\w+)\[", line)
        if layer := re.match(r"(\S+) \((\w+)\) .*? (\d+) +\[", line.strip()):
            name = layer[1]
            found[name] = (layer[2], int(layer[3]), before)
        elif before:
            found[name][2].extend(before)
    return found


@pytest.mark.parametrize("pooling", ["mean", "sum", "attention"])
def test_pooling_is_an_option_of_each_tower(pooling: str) -> None:
    towers = towers_of(normalize=False, candidate={"use_id": False, "pooling": pooling})
    layer = towers.candidate.get_layer("genres_embedding")
    if pooling == "attention":
        layer.query.assign(tf.ones(3))
    one, four = layer.table.numpy()[[1, 4]]
    attention = 1 / (1 + np.exp(four.sum() - one.sum()))
    weights = {"mean": (0.5, 0.5), "sum": (1, 1), "attention": (attention, 1 - attention)}[pooling]
    found = towers.embed_candidate({"genres": np.array([[1, 4, 0]], np.int32)}).numpy()[0]
    np.testing.assert_allclose(found, weights[0] * one + weights[1] * four, atol=1e-6)


def test_hidden_layers_are_relu_and_the_projection_is_linear() -> None:
    towers = towers_of(normalize=False, candidate={"hidden_units": (5, 4)})
    for variable in towers.candidate.weights:  # biases start at zero, which would hide them
        variable.assign_add(tf.random.stateless_normal(variable.shape, [1, 2]))
    items, genres = table(towers.candidate, "item_id_embedding"), table(towers.candidate, "genres_embedding")
    output = np.stack([items[2] + (genres[1] + genres[4]) / 2, items[8]])
    for name in ("candidate_hidden_0", "candidate_hidden_1"):
        kernel, bias = towers.candidate.get_layer(name).get_weights()
        output = np.maximum(output @ kernel + bias, 0)
    kernel, bias = towers.candidate.get_layer("candidate_projection").get_weights()
    np.testing.assert_allclose(towers.embed_candidate(ITEMS), output @ kernel + bias, atol=1e-5)


def test_normalization_is_an_option() -> None:
    lengths = [np.linalg.norm(towers_of(normalize=n).embed_candidate(ITEMS), axis=1) for n in (True, False)]
    np.testing.assert_allclose(lengths[0], 1, atol=1e-6)
    assert (np.abs(lengths[1] - 1) > 0.1).all()


@pytest.mark.parametrize("normalize", [True, False])
def test_an_item_s_bias_adds_to_every_score(normalize: bool) -> None:
    """The last unit of items is scaled alone; that of queries is 1, and all there is of an unknown one."""
    towers, plain = (towers_of(normalize=n, item_bias=b) for n, b in ((normalize, True), (False, False)))
    for one, two in zip((towers.query, towers.candidate), (plain.query, plain.candidate), strict=True):
        two.set_weights(one.get_weights())
    for embed, embed_plain, of_queries in (
        (towers.embed_query, plain.embed_query, True),
        (towers.embed_candidate, plain.embed_candidate, False),
    ):
        features = USERS if of_queries else ITEMS
        found, units = embed(features).numpy(), embed_plain(features).numpy()
        length = np.linalg.norm(units[:, :-1], axis=1, keepdims=True) if normalize else 1
        np.testing.assert_allclose(found[:, :-1] * length, units[:, :-1], rtol=1e-5)
        np.testing.assert_allclose(found[:, -1], 1 if of_queries else 0.1 * units[:, -1], rtol=1e-6)
    unknown = towers_of(item_bias=True, query={"use_id": False, "content_features": False}).embed_query(
        {"history": np.zeros_like(USERS["history"])}
    )
    np.testing.assert_array_equal(unknown, np.eye(unknown.shape[1])[[-1] * len(unknown)])


def test_fresh_embeddings_spread_as_asked() -> None:
    """Of 64 columns and at least 5 rows: four standard errors are 0.16 of a deviation."""
    for options, expected in (({}, 0.1), ({"initial_stddev": 2.0}, 2.0)):
        towers = towers_of(embedding_dim=64, **options)
        for tower, layer in ((towers.query, "user_id_embedding"), (towers.candidate, "genres_embedding")):
            assert table(tower, layer).std() == pytest.approx(expected, rel=0.16)


def test_use_id_decides_whether_ids_are_an_input() -> None:
    assert sorted(towers_of(query={"use_id": False}).query_inputs) == ["history", "segment"]
    assert towers_of(candidate={"use_id": False}).candidate_inputs == ["genres"]


def test_content_features_decides_whether_what_is_beside_the_id_is_an_input() -> None:
    assert sorted(towers_of(query={"content_features": False}).query_inputs) == ["history", "user_id"]
    assert towers_of(candidate={"content_features": False}).candidate_inputs == ["item_id"]


def test_a_shared_item_table_is_one_variable_of_both_towers() -> None:
    for share in (True, False):
        towers = towers_of(history={"share_item_table": share})
        towers.candidate.get_layer("item_id_embedding").table.assign_add(tf.ones([9, 3]))
        before = towers_of(history={"share_item_table": share}).embed_query(USERS).numpy()
        changed = np.abs(towers.embed_query(USERS).numpy() - before).max(axis=1) > 1e-3
        assert changed.tolist() == [share, False, share]


@pytest.mark.parametrize(
    ("options", "random_rows"),
    [
        ({}, [False, False, False]),
        ({"query": {"id_dropout": 0.5}}, [True, False, True]),
        ({"history": {"id_dropout": 0.5}}, [True, False, True]),
        ({"query": {"id_dropout": 0, "hidden_units": (8,), "dropout": 0.5}}, [True, False, True]),
    ],
)
def test_dropout_shows_in_training_only(options: dict[str, Any], random_rows: list[bool]) -> None:
    """The second user is all padding, of which nothing can be dropped."""
    without = {"query": {"id_dropout": 0}, "history": {"id_dropout": 0}}
    towers = towers_of(**without | options)
    plain = towers.embed_query(USERS).numpy()
    draws = np.stack([towers.embed_query(USERS, training=True).numpy() for _ in range(30)])
    assert (np.ptp(draws, axis=0).max(axis=1) > 1e-3).tolist() == random_rows
    np.testing.assert_array_equal(towers.embed_query(USERS), plain)


def test_candidate_id_dropout_leaves_the_content() -> None:
    towers = towers_of(candidate={"id_dropout": 0.99}, normalize=False)
    items, genres = table(towers.candidate, "item_id_embedding"), table(towers.candidate, "genres_embedding")
    unknown = items[1] + (genres[1] + genres[4]) / 2
    draws = [towers.embed_candidate(ITEMS, training=True).numpy()[0] for _ in range(50)]
    assert sum(np.allclose(draw, unknown, atol=1e-6) for draw in draws) >= 45


def test_features_that_a_tower_does_not_use_are_ignored() -> None:
    towers = towers_of(candidate={"content_features": False})
    more = {**ITEMS, "weight": np.ones(2)}
    np.testing.assert_array_equal(towers.embed_candidate(more), towers.embed_candidate({"item_id": ITEMS["item_id"]}))


def test_numbers_enter_a_tower_through_a_linear_map() -> None:
    """A tower of numbers alone is its map, so the output is a product of matrices."""
    numbers = (
        Feature(name="price", type="numeric", num_ids=0, num_oov=0),
        Feature(name="released", type="timestamp", num_ids=0, num_oov=0, max_length=4),
    )
    schema = SCHEMA.model_copy(update={"item_features": (SCHEMA.item_features[0], *numbers)})
    config = ModelConfig.model_validate({"embedding_dim": 3, "normalize": False, "candidate": {"use_id": False}})
    candidate = build_towers(schema, config).candidate
    values = {"price": np.array([[0.5], [-2.0]], np.float32), "released": np.eye(2, 4, dtype=np.float32)}
    maps = {name: candidate.get_layer(name + "_embedding").kernel.numpy() for name in values}
    expected = values["price"] @ maps["price"] + values["released"] @ maps["released"]
    np.testing.assert_allclose(candidate(values), expected, rtol=1e-6)
    assert {name: (tensor.dtype, tensor.shape.as_list()) for name, tensor in candidate.input.items()} == {
        "price": (tf.float32, [None, 1]),
        "released": (tf.float32, [None, 4]),
    }


def test_without_histories_the_query_tower_has_no_such_input() -> None:
    schema = SCHEMA.model_copy(update={"history_length": 0})
    towers = build_towers(schema, ModelConfig(embedding_dim=3))
    assert towers.query_inputs == ["user_id", "segment"]


CATALOGUE = {
    "item_id": np.array([1, 2, 5, 8, 1], np.int32),
    "genres": np.array([[4, 0, 0], [1, 4, 0], [0, 0, 0], [3, 0, 0], [2, 0, 0]], np.int32),
}


def test_a_history_sees_content_as_the_candidate_tower_does() -> None:
    """Items 2 and 8; items of id 1, out of vocabulary, have no content in common."""
    config = ModelConfig.model_validate(
        {
            "embedding_dim": 3,
            "normalize": False,
            "history": {"content_features": True},
            "query": {"use_id": False, "content_features": False},
        }
    )
    towers = build_towers(SCHEMA, config, CATALOGUE)
    items, genres = table(towers.candidate, "item_id_embedding"), table(towers.candidate, "genres_embedding")
    seen = [items[2] + (genres[1] + genres[4]) / 2, items[8] + genres[3], items[1]]
    found = towers.embed_query({"history": np.array([[2, 8, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], np.int32)})
    np.testing.assert_allclose(found, [np.mean(seen, axis=0), items[1], np.zeros(3)], atol=1e-6)
    sharing = {variable.ref() for variable in towers.query.trainable_variables}
    assert sharing == {variable.ref() for variable in towers.candidate.trainable_variables}


def test_history_length_is_an_option_up_to_the_dataset_s() -> None:
    for wanted, length in [(2, 2), (4, 4), (9, 4), (None, 4)]:
        towers = towers_of(history={"length": wanted})
        assert towers.history_length == towers.query.input["history"].shape[1] == length


@pytest.mark.parametrize("name", ["mean", "recency", "gru", "self_attention"])
def test_every_position_is_the_query_of_the_history_that_ends_there(name: str) -> None:
    """Through user features, hidden layers and normalization."""
    options: dict[str, Any] = {
        "embedding_dim": 4,
        "history": {"encoder": {"name": name}},
        "query": {"hidden_units": (5,)},
    }
    towers = towers_of(**options)
    everywhere = towers.embed_positions(USERS).numpy()
    assert everywhere.shape == (3, 4, 4)
    for end in range(1, 5):
        cut = {**USERS, "history": np.where(np.arange(4) < end, USERS["history"], 0)}
        here = USERS["history"][:, end - 1] > 0
        np.testing.assert_allclose(everywhere[here, end - 1], towers.embed_query(cut).numpy()[here], atol=1e-5)


def test_without_histories_there_are_no_positions() -> None:
    towers = build_towers(SCHEMA.model_copy(update={"history_length": 0}), ModelConfig(embedding_dim=3))
    with pytest.raises(ConfigError) as error:
        towers.embed_positions(USERS)
    assert str(error.value) == ("the dataset has no histories: expected history_length above 0; prepare it again")
