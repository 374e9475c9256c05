"""Embedding tables against NumPy, and the dropout of ids by its statistics."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from recsys.embeddings import AttentionBag, EmbeddingTable, IdDropout, ItemContent, MeanBag, SharedMean, SumBag
from recsys.schema import Feature

Doubles = npt.NDArray[np.float64]

FEATURE = Feature(name="color", type="id", num_ids=10, num_oov=3)


BAGS: dict[str, type[EmbeddingTable]] = {"mean": MeanBag, "sum": SumBag, "attention": AttentionBag}
IDS = [[3, 5, 0], [0, 0, 7], [0, 0, 0], [2, 2, 8]]
QUERY = np.array([1.5, -2.0, 0.5, 3.0])

pools = pytest.mark.parametrize("pooling", BAGS)
both_formulations = pytest.mark.parametrize("static_shapes", [False, True], ids=["fused", "static shapes"])


def pooled(pooling: str, table: Doubles, query: Doubles, ids: Any) -> Doubles:
    """What a bag of ids is, in float64, one row at a time."""
    ids = np.asarray(ids)
    output = np.zeros((*ids.shape[:-1], table.shape[1]))
    for place in np.ndindex(*ids.shape[:-1]):
        embedded = table[ids[place][ids[place] > 0]]
        if len(embedded):
            weight = np.ones(len(embedded))
            if pooling == "attention":
                score = embedded @ query
                weight = np.exp(score - score.max())
            output[place] = weight @ embedded / (1 if pooling == "sum" else weight.sum())
    return output


def bag_of(
    pooling: str, ids: Any, static_shapes: bool = False
) -> tuple[EmbeddingTable, Doubles, npt.NDArray[np.float32]]:
    """A bag of 10 rows, its table in float64, and what it gives."""
    bag = BAGS[pooling](10, 4, 0.5, "bag", static_shapes)
    ids = tf.constant(ids, tf.int32)
    bag(ids)
    if isinstance(bag, AttentionBag):
        bag.query.assign(QUERY)
    return bag, bag.table.numpy().astype(np.float64), bag(ids).numpy()


def test_a_single_id_gives_its_row_and_padding_gives_zeros() -> None:
    layer = EmbeddingTable(10, 4, 0.1, name="table")
    for ids in ([3, 0, 9], [[3, 0], [9, 3]]):
        output = layer(tf.constant(ids, tf.int32))
        table = layer.table.numpy()
        expected = np.where(np.expand_dims(ids, -1) == 0, 0, table[ids])
        np.testing.assert_array_equal(output, expected)
    assert table.shape == (10, 4)


@pools
@pytest.mark.parametrize("ids", [IDS, [IDS, IDS[::-1]]], ids=["bags", "sequences of bags"])
@both_formulations
def test_a_bag_pools_the_ids_that_are_not_padding(pooling: str, ids: Any, static_shapes: bool) -> None:
    _, table, output = bag_of(pooling, ids, static_shapes)
    np.testing.assert_allclose(output, pooled(pooling, table, QUERY, ids), atol=1e-6)


@pools
@both_formulations
def test_the_gradients_of_a_bag_are_those_of_its_differences(pooling: str, static_shapes: bool) -> None:
    """Of the function in float64, by central differences."""
    bag, table, _ = bag_of(pooling, IDS, static_shapes)
    direction = np.random.default_rng(0).normal(size=(4, 4))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(bag(tf.constant(IDS)) * direction.astype(np.float32))
    to_table, *to_query = tape.gradient(loss, bag.trainable_variables)

    def differences(of: Doubles, other: Doubles, table_first: bool) -> Doubles:
        slopes = np.zeros_like(of)
        for place in np.ndindex(*of.shape):
            values = []
            for step in (1e-6, -1e-6):
                moved = of.copy()
                moved[place] += step
                both = (moved, other) if table_first else (other, moved)
                values.append((pooled(pooling, *both, IDS) * direction).sum())
            slopes[place] = (values[0] - values[1]) / 2e-6
        return slopes

    np.testing.assert_allclose(tf.convert_to_tensor(to_table), differences(table, QUERY, True), atol=1e-5)
    assert len(to_query) == (pooling == "attention")
    for gradient in to_query:
        np.testing.assert_allclose(gradient, differences(QUERY, table, False), atol=1e-5)


@pools
def test_more_padding_changes_no_bit(pooling: str) -> None:
    bag, _, output = bag_of(pooling, IDS)
    np.testing.assert_array_equal(bag(tf.constant([[0, *ids, 0, 0, 0] for ids in IDS])), output)


@pytest.mark.parametrize("training", [True, False])
def test_a_shared_mean_is_a_mean_of_another_layer_s_rows(training: bool) -> None:
    """In training by sums and elsewhere by gathering: both have the values and the gradient of the mean."""
    shared = EmbeddingTable(10, 4, 0.5, name="table")
    shared(tf.constant(IDS))
    table = shared.table.numpy().astype(np.float64)
    direction = np.random.default_rng(0).normal(size=(4, 4))
    with tf.GradientTape() as tape:
        output = SharedMean(shared, name="mean")(tf.constant(IDS), training=training)
        loss = tf.reduce_sum(output * direction.astype(np.float32))
    np.testing.assert_allclose(output, pooled("mean", table, QUERY, IDS), atol=1e-6)
    expected = np.zeros_like(table)
    for ids, along in zip(IDS, direction, strict=True):
        present = [number for number in ids if number]
        for number in present:
            expected[number] += along / len(present)
    np.testing.assert_allclose(tf.convert_to_tensor(tape.gradient(loss, shared.table)), expected, atol=1e-6)


def test_attention_begins_as_the_mean() -> None:
    bag = AttentionBag(10, 4, 0.5, name="bag")
    output = bag(tf.constant(IDS))
    np.testing.assert_allclose(output, pooled("mean", bag.table.numpy(), QUERY, IDS), atol=1e-6)


@both_formulations
def test_attention_is_exact_for_scores_far_apart(static_shapes: bool) -> None:
    """exp(-1000), and so its part of a sum over all rows, is 0 in float32."""
    bag, table, _ = bag_of("attention", IDS, static_shapes)
    for score, row in [(1000, 7), (-1000, 3), (-1001, 5)]:
        table[row] = score * QUERY / (QUERY @ QUERY)
    bag.table.assign(table)
    np.testing.assert_allclose(bag(tf.constant(IDS)), pooled("attention", table, QUERY, IDS), rtol=1e-3)


def test_an_item_s_content_is_found_by_its_id() -> None:
    """Items 0 and 2 of the catalogue share an out-of-vocabulary id, so nothing is known of either."""
    ids, values = np.array([2, 9, 2, 4]), np.array([[1, 2], [3, 0], [5, 6], [7, 8]], np.int32)
    content = ItemContent(FEATURE, ids, values, name="content")
    found = content(tf.constant([[9, 4, 0], [2, 5, 9]]))
    np.testing.assert_array_equal(found, [[[3, 0], [7, 8], [0, 0]], [[0, 0], [0, 0], [3, 0]]])
    assert content.trainable_variables == []


@pools
def test_the_gradient_touches_only_the_rows_that_were_read(pooling: str) -> None:
    """As an `IndexedSlices`: the cost of a step does not grow with the table. Padding learns nothing."""
    bag, _, _ = bag_of(pooling, [[3, 5, 0], [3, 0, 0]])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(bag(tf.constant([[3, 5, 0], [3, 0, 0]])))
    gradient = tape.gradient(loss, bag.table)
    assert isinstance(gradient, tf.IndexedSlices)
    assert set(gradient.indices.numpy()) == {3, 5}


def test_dropout_makes_the_share_of_ids_unknown_and_leaves_padding() -> None:
    tf.keras.utils.set_random_seed(0)
    ids = np.tile(np.array([0, 4, 9], np.int32), (20_000, 1))
    dropped = IdDropout(FEATURE, 0.25, name="dropout")(tf.constant(ids), training=True).numpy()
    assert dropped.dtype == np.int32
    assert (dropped[:, 0] == 0).all()
    changed = dropped != ids
    np.testing.assert_allclose(changed[:, 1:].mean(), 0.25, atol=0.01)
    counts = np.bincount(dropped[changed], minlength=10)
    assert counts[[1, 2, 3]].sum() == counts.sum()
    np.testing.assert_allclose(counts[1:4] / counts.sum(), 1 / 3, atol=0.02)


def test_dropout_changes_nothing_outside_of_training_or_at_rate_zero() -> None:
    ids = tf.constant([[4, 0, 9, 1]] * 100)
    for layer, training in [(IdDropout(FEATURE, 0.9, "a"), False), (IdDropout(FEATURE, 0.0, "b"), True)]:
        np.testing.assert_array_equal(layer(ids, training=training), ids)
    np.testing.assert_array_equal(IdDropout(FEATURE, 0.9, "c")(ids), ids)
