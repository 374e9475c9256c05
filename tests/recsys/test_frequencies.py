"""How often items stand in a batch, against sums over occurrences one by one."""

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from recsys.config import RuntimeConfig
from recsys.distribution import make_strategy
from recsys.frequencies import StreamingFrequencies, TrainShares

Batches = list[tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]]


def random_batches(number: int, size: int, num_items: int) -> Batches:
    """Long-tailed, so that some items stand several times in most batches; a tenth of the rows weighs nothing."""
    rng = np.random.default_rng(0)
    items = np.minimum(rng.geometric(0.2, size=(number, size)) - 1, num_items - 2).astype(np.int32)
    weights = (rng.uniform(size=(number, size)) > 0.1).astype(np.float32)
    return list(zip(items, weights, strict=True))


def gaps_one_by_one(batches: Batches, num_items: int, rate: float) -> npt.NDArray[np.float64]:
    """Algorithm 2 for each occurrence: a plain mean at first, then a moving one."""
    gap, last, seen = np.zeros(num_items), np.zeros(num_items), np.zeros(num_items)
    for step, (items, weights) in enumerate(batches, start=1):
        for item, number in zip(*np.unique(items[weights > 0], return_counts=True), strict=True):
            plain, moving = gap[item], gap[item]
            shared = (step - last[item]) / number
            for _ in range(number):
                seen[item] += 1
                plain += (shared - plain) / seen[item]
                moving = (1 - rate) * moving + rate * shared
            is_plain = number / seen[item] > 1 - (1 - rate) ** number
            gap[item] = plain if is_plain else moving
            last[item] = step
    return gap


def observed(estimate: StreamingFrequencies, batches: Batches) -> None:
    observe = tf.function(estimate.observe)
    for items, weights in batches:
        observe(tf.constant(items), tf.constant(weights))


@pytest.mark.parametrize("rate", [0.5, 0.05])
def test_the_mean_gap_is_that_of_occurrences_one_by_one(rate: float) -> None:
    batches = random_batches(40, 16, 30)
    estimate = StreamingFrequencies(30, rate)
    observed(estimate, batches)
    gaps = gaps_one_by_one(batches, 30, rate)
    assert (gaps == 0).any()
    expected = np.divide(1, gaps, out=np.zeros(30), where=gaps > 0)
    assert expected.max() > 2
    np.testing.assert_allclose(estimate.expected(tf.range(30), tf.constant(16.0)), expected, rtol=1e-5)


def test_the_estimate_comes_to_the_mean_and_follows_it_when_it_changes() -> None:
    """The most popular item stands in a batch three times, the least in one of ten; then they change places."""
    rng = np.random.default_rng(1)
    probability = np.array([0.3, 0.19, 0.5, 0.01])
    estimate = StreamingFrequencies(4, 0.02)
    for share in (probability, probability[::-1]):
        drawn = rng.choice(4, p=share, size=(2_000, 10)).astype(np.int32)
        observed(estimate, [(batch, np.ones(10, np.float32)) for batch in drawn])
        np.testing.assert_allclose(estimate.expected(tf.range(4), tf.constant(10.0)), 10 * share, rtol=0.4)


def test_two_replicas_share_one_estimate() -> None:
    batches = random_batches(5, 16, 30)
    alone = StreamingFrequencies(30, 0.1)
    observed(alone, batches)
    strategy = make_strategy(RuntimeConfig(strategy="mirrored", logical_cpus=2))
    with strategy.scope():
        shared = StreamingFrequencies(30, 0.1)

    @tf.function
    def step(items: tf.Tensor, weights: tf.Tensor) -> None:
        strategy.run(shared.observe, (items, weights))

    for batch in batches:
        step(
            *(
                strategy.experimental_distribute_values_from_function(
                    lambda context, column=column: tf.constant(np.split(column, 2)[context.replica_id_in_sync_group])
                )
                for column in batch
            )
        )
    for one, two in zip(alone.variables, shared.variables, strict=True):
        for copy in strategy.experimental_local_results(two):
            np.testing.assert_array_equal(copy, one)


def test_train_shares_are_the_probabilities_of_a_position() -> None:
    counts = np.array([6, 0, 3, 1])
    np.testing.assert_allclose(TrainShares(counts).expected(tf.constant([2, 0, 1]), tf.constant(20.0)), [6, 12, 0])


def test_what_comes_to_a_batch_for_the_first_time_is_expected_least() -> None:
    """Of 10 train rows it is one; in a stream it comes in the step after 40, which is its gap."""
    assert float(TrainShares(np.array([6, 0, 3, 1])).least(tf.constant(20.0))) == pytest.approx(2)
    estimate = StreamingFrequencies(30, 0.05)
    assert float(estimate.least(tf.constant(16.0))) == 1
    observed(estimate, random_batches(40, 16, 30))
    assert float(estimate.least(tf.constant(16.0))) == pytest.approx(1 / 41)
