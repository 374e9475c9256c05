"""Embedding tables against NumPy, and the dropout of ids by its statistics."""

from typing import Any

import numpy as np
import tensorflow as tf

from recsys.embeddings import EmbeddingBag, EmbeddingTable, IdDropout, ItemContent
from recsys.schema import Feature

FEATURE = Feature(name="color", type="id", num_ids=10, num_oov=3)


def bag_of(ids: Any) -> tuple[EmbeddingBag, np.ndarray, np.ndarray]:
    """A table of 10 rows, itself as NumPy, and what it gives."""
    bag = EmbeddingBag(10, 4, 0.1, name="bag")
    output = bag(tf.constant(ids, tf.int32)).numpy()
    return bag, bag.table.numpy(), output


def test_a_single_id_gives_its_row_and_padding_gives_zeros() -> None:
    layer = EmbeddingTable(10, 4, 0.1, name="table")
    for ids in ([3, 0, 9], [[3, 0], [9, 3]]):
        output = layer(tf.constant(ids, tf.int32))
        table = layer.table.numpy()
        expected = np.where(np.expand_dims(ids, -1) == 0, 0, table[ids])
        np.testing.assert_array_equal(output, expected)
    assert table.shape == (10, 4)


def test_several_ids_give_the_mean_of_those_that_are_not_padding() -> None:
    ids = [[3, 5, 0], [0, 0, 7], [0, 0, 0], [2, 2, 8]]
    _, table, output = bag_of(ids)
    expected = [
        (table[3] + table[5]) / 2,
        table[7],
        np.zeros(4),
        (2 * table[2] + table[8]) / 3,
    ]
    np.testing.assert_allclose(output, expected, atol=1e-7)


def test_a_sequence_of_bags_is_a_sequence_of_means() -> None:
    ids = np.array([[[3, 5, 0], [0, 0, 0]], [[1, 0, 0], [2, 2, 8]]])
    _, table, output = bag_of(ids.tolist())
    expected = [[(table[3] + table[5]) / 2, np.zeros(4)], [table[1], (2 * table[2] + table[8]) / 3]]
    np.testing.assert_allclose(output, expected, atol=1e-7)


def test_an_item_s_content_is_found_by_its_id() -> None:
    """Items 0 and 2 of the catalogue share an out-of-vocabulary id, so nothing is known of either."""
    ids, values = np.array([2, 9, 2, 4]), np.array([[1, 2], [3, 0], [5, 6], [7, 8]], np.int32)
    content = ItemContent(FEATURE, ids, values, name="content")
    found = content(tf.constant([[9, 4, 0], [2, 5, 9]]))
    np.testing.assert_array_equal(found, [[[3, 0], [7, 8], [0, 0]], [[0, 0], [0, 0], [3, 0]]])
    assert content.trainable_variables == []


def test_the_gradient_touches_only_the_rows_that_were_read() -> None:
    """As an `IndexedSlices`: the cost of a step does not grow with the table. Padding learns nothing."""
    bag, table, _ = bag_of([[3, 5, 0], [3, 0, 0]])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(bag(tf.constant([[3, 5, 0], [3, 0, 0]])))
    gradient = tape.gradient(loss, bag.table)
    assert isinstance(gradient, tf.IndexedSlices)
    expected = np.zeros_like(table)
    expected[3], expected[5] = 1 / 2 + 1, 1 / 2
    np.testing.assert_allclose(tf.convert_to_tensor(gradient), expected, atol=1e-7)


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
