"""Strategies, and what replicas exchange, on two logical CPUs."""

import numpy as np
import pytest
import tensorflow as tf

from recsys.config import RuntimeConfig
from recsys.distribution import first_global_row, gather_across_replicas, make_strategy, sum_across_replicas
from recsys.errors import ConfigError


@pytest.fixture(scope="module")
def mirrored() -> tf.distribute.Strategy:
    return make_strategy(RuntimeConfig(strategy="mirrored", logical_cpus=2))


def per_replica(strategy: tf.distribute.Strategy, values: list[list[float]]) -> tf.Tensor:
    return strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(values[context.replica_id_in_sync_group])
    )


def test_one_device_is_one_replica() -> None:
    assert make_strategy(RuntimeConfig()).num_replicas_in_sync == 1


def test_mirrored_has_a_replica_per_logical_cpu(mirrored: tf.distribute.Strategy) -> None:
    assert isinstance(mirrored, tf.distribute.MirroredStrategy)
    assert mirrored.num_replicas_in_sync == 2


@pytest.mark.parametrize("number", [1, 3])
def test_a_cpu_in_use_is_not_divided_again(number: int) -> None:
    tf.config.list_logical_devices()  # TensorFlow is in use from here on
    with pytest.raises(ConfigError) as error:
        make_strategy(RuntimeConfig(strategy="mirrored", logical_cpus=number))
    assert str(error.value) == (
        f"logical_cpus = {number}: the CPU was already set up as 2 devices in this process; start a new one"
    )


def test_values_are_gathered_in_the_order_of_replicas(mirrored: tf.distribute.Strategy) -> None:
    values = per_replica(mirrored, [[1.0, 2.0], [3.0, 4.0]])
    gathered = mirrored.experimental_local_results(mirrored.run(tf.function(gather_across_replicas), (values,)))
    assert [part.numpy().tolist() for part in gathered] == [[1, 2, 3, 4]] * 2


def test_values_are_summed_over_replicas(mirrored: tf.distribute.Strategy) -> None:
    values = per_replica(mirrored, [[1.0, 2.0], [3.0, 4.0]])
    summed = mirrored.experimental_local_results(mirrored.run(tf.function(sum_across_replicas), (values,)))
    assert [part.numpy().tolist() for part in summed] == [[4, 6]] * 2


def test_each_replica_knows_its_first_row(mirrored: tf.distribute.Strategy) -> None:
    first = mirrored.run(tf.function(lambda: first_global_row(tf.constant(5))))
    assert [int(part) for part in mirrored.experimental_local_results(first)] == [0, 5]


def test_the_gradient_of_what_is_gathered_sums_over_its_readers(mirrored: tf.distribute.Strategy) -> None:
    """Replica r's loss is r + 1 times Σ (position + 1) · value², so d/dvalue sums to 3 · 2 · (position + 1) · value."""

    @tf.function
    def gradient(value: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(value)
            everything = gather_across_replicas(value)
            share = tf.cast(1 + first_global_row(tf.constant(1)), tf.float32)
            loss = share * tf.reduce_sum(tf.constant([1.0, 2.0, 3.0, 4.0]) * everything**2)
        return tape.gradient(loss, value)

    values = per_replica(mirrored, [[1.0, 1.0], [1.0, 10.0]])
    parts = mirrored.experimental_local_results(mirrored.run(gradient, (values,)))
    np.testing.assert_allclose(np.concatenate(parts), [6, 12, 18, 240])


def test_outside_of_replicas_a_value_stays_what_it_is() -> None:
    value = tf.constant([1.0, 2.0])
    np.testing.assert_array_equal(gather_across_replicas(value), [1, 2])
    np.testing.assert_array_equal(sum_across_replicas(value), [1, 2])
    assert int(first_global_row(tf.constant(5))) == 0
