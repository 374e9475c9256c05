"""Row-sparse Adam against dense Adams of single rows, and learning rates against the formula."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from recsys.config import OptimizerConfig, RuntimeConfig
from recsys.distribution import make_strategy
from recsys.optimizers import RowSparseAdam, make_optimizer

ROWS, DIM = 6, 3
SHAPE = tf.constant([ROWS, DIM])


def adam(weights: npt.NDArray[np.float64], gradients: list[Any], rate: float, decay: float) -> npt.NDArray[np.float64]:
    """Adam with decoupled weight decay, in float64, as in the papers."""
    m, v = np.zeros_like(weights), np.zeros_like(weights)
    for step, gradient in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        moment, scale = m / (1 - 0.9**step), np.sqrt(v / (1 - 0.999**step))
        weights = weights - rate * decay * weights - rate * moment / (scale + 1e-7 / np.sqrt(1 - 0.999**step))
    return weights


def batches(num_steps: int) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
    """Rows with duplicates and gradients; row 5 never comes, row 4 only in the last batch."""
    rng = np.random.default_rng(0)
    rows = [rng.integers(4, size=5) for _ in range(num_steps)]
    rows[-1][0] = 4
    return [(of_step, rng.normal(size=(5, DIM)).astype(np.float32)) for of_step in rows]


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_each_row_is_an_adam_of_its_own(decay: float) -> None:
    table = tf.Variable(np.random.default_rng(1).normal(size=(ROWS, DIM)), dtype=tf.float32)
    initial = table.numpy().astype(np.float64)
    optimizer = RowSparseAdam(0.05, decay=decay)
    own: dict[int, list[Any]] = {row: [] for row in range(ROWS)}
    for rows, gradients in batches(12):
        optimizer.apply_gradients([(tf.IndexedSlices(gradients, rows, SHAPE), table)])
        for row in np.unique(rows):
            own[int(row)].append(gradients[rows == row].astype(np.float64).sum(axis=0))
    expected = [adam(initial[row], own[row], 0.05, decay) for row in range(ROWS)]
    assert (len(own[4]), len(own[5])) == (1, 0)
    np.testing.assert_allclose(table.numpy(), expected, atol=1e-5)
    np.testing.assert_array_equal(table.numpy()[5], initial[5].astype(np.float32))


def test_a_dense_gradient_takes_the_stock_step() -> None:
    ours, stock = tf.Variable([[1.0, 2.0], [3.0, 4.0]]), tf.Variable([[1.0, 2.0], [3.0, 4.0]])
    optimizers = RowSparseAdam(0.1, decay=0.2), tf.keras.optimizers.Adam(0.1, weight_decay=0.2)
    for number in range(5):
        gradient = tf.constant([[0.3, -0.1], [0.0, number - 2.0]])
        for optimizer, variable in zip(optimizers, (ours, stock), strict=True):
            optimizer.apply_gradients([(gradient, variable)])
    np.testing.assert_allclose(ours.numpy(), stock.numpy(), rtol=1e-6)


def test_replicas_with_the_same_rows_take_one_step_with_the_sum() -> None:
    strategy = make_strategy(RuntimeConfig(strategy="mirrored", logical_cpus=2))
    with strategy.scope():
        table = tf.Variable(tf.ones([ROWS, DIM]))
        optimizer = RowSparseAdam(0.05)
        optimizer.build([table])
    rows = np.array([[0, 1, 1], [1, 2, 0]])
    gradients = np.random.default_rng(2).normal(size=(2, 3, DIM)).astype(np.float32)

    @tf.function
    def step() -> None:
        def of_replica() -> None:
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            mine = tf.IndexedSlices(tf.gather(gradients, replica), tf.gather(rows, replica), SHAPE)
            optimizer.apply_gradients([(mine, table)])

        strategy.run(of_replica)

    step()
    summed = np.zeros((ROWS, DIM))
    np.add.at(summed, rows.ravel(), gradients.reshape(-1, DIM))
    expected = [adam(np.ones(DIM), [summed[row]] if row < 3 else [], 0.05, 0.0) for row in range(ROWS)]
    for replica in strategy.experimental_local_results(table):
        np.testing.assert_allclose(replica.numpy(), expected, rtol=1e-5)


def test_saved_slots_go_on_where_they_were(tmp_path: Any) -> None:
    def trained(steps: list[Any], table: tf.Variable, optimizer: RowSparseAdam) -> npt.NDArray[np.float32]:
        for rows, gradients in steps:
            optimizer.apply_gradients([(tf.IndexedSlices(gradients, rows, SHAPE), table)])
        return table.numpy()

    first, second = tf.Variable(tf.ones([ROWS, DIM])), tf.Variable(tf.zeros([ROWS, DIM]))
    one, other = RowSparseAdam(0.05), RowSparseAdam(0.05)
    trained(batches(6), first, one)
    path = tf.train.Checkpoint(table=first, optimizer=one).write(str(tmp_path / "checkpoint"))
    other.build([second])
    tf.train.Checkpoint(table=second, optimizer=other).read(path).assert_consumed()
    np.testing.assert_array_equal(trained(batches(4), first, one), trained(batches(4), second, other))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({}, [0.2] * 6),
        ({"warmup_steps": 3}, [0.05, 0.1, 0.15, 0.2, 0.2, 0.2]),
        ({"decay": "cosine"}, [0.1 * (1 + math.cos(math.pi * step / 6)) for step in range(6)]),
        ({"warmup_steps": 1, "decay": "cosine"}, [0.1, *(0.1 * (1 + math.cos(math.pi * s / 5)) for s in range(5))]),
    ],
)
@pytest.mark.parametrize("name", ["adam", "adagrad"])
def test_the_learning_rate_follows_its_schedule(name: str, schedule: dict[str, Any], expected: list[float]) -> None:
    config = OptimizerConfig.model_validate({name: {"learning_rate": 0.2}, "schedule": schedule})
    optimizer = make_optimizer(config, num_steps=6)
    variable = tf.Variable([1.0])
    rates = []
    for _ in range(6):
        rates.append(float(optimizer.learning_rate))
        optimizer.apply_gradients([(tf.constant([1.0]), variable)])
        rates[-1] = float(optimizer.learning_rate)
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_options_reach_the_optimizer() -> None:
    adagrad = make_optimizer(OptimizerConfig.model_validate({"adagrad": {"initial_accumulator": 0.5}}), 1)
    assert (type(adagrad), adagrad.initial_accumulator_value) == (tf.keras.optimizers.Adagrad, 0.5)
    assert OptimizerConfig().adagrad is not None
    sparse = make_optimizer(OptimizerConfig.model_validate({"adam": {"beta_1": 0.5, "beta_2": 0.6}}), 1)
    assert (type(sparse), sparse.beta_1, sparse.beta_2) == (RowSparseAdam, 0.5, 0.6)
    variable = tf.Variable([1.0])
    decaying = make_optimizer(OptimizerConfig.model_validate({"adam": {"learning_rate": 0.1, "weight_decay": 0.5}}), 1)
    decaying.apply_gradients([(tf.constant([0.0]), variable)])
    assert variable.numpy() == pytest.approx([0.95])


def test_a_scalar_does_not_decay() -> None:
    scalar, optimizer = tf.Variable(1.0), RowSparseAdam(0.1, decay=0.5)
    optimizer.apply_gradients([(tf.constant(0.0), scalar)])
    assert scalar.numpy() == 1
    optimizer.apply_gradients([(tf.constant(3.0), scalar)])
    assert scalar.numpy() < 1
