"""Row-sparse optimizers against dense ones of single rows, and learning rates against the formula."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from recsys.config import OptimizerConfig, RuntimeConfig
from recsys.distribution import make_strategy
from recsys.optimizers import RowSparse, RowSparseAdagrad, RowSparseAdam, make_optimizer

Doubles = npt.NDArray[np.float64]

ROWS, DIM = 6, 3
SHAPE = tf.constant([ROWS, DIM])


def adam(weights: Doubles, gradients: list[Any], rate: float, decay: float) -> Doubles:
    """Adam with decoupled weight decay, in float64, as in the papers."""
    m, v = np.zeros_like(weights), np.zeros_like(weights)
    for step, gradient in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        moment, scale = m / (1 - 0.9**step), np.sqrt(v / (1 - 0.999**step))
        weights = weights - rate * decay * weights - rate * moment / (scale + 1e-7 / np.sqrt(1 - 0.999**step))
    return weights


def adagrad(weights: Doubles, gradients: list[Any], rate: float, decay: float) -> Doubles:
    """Adagrad with decoupled weight decay, in float64; sums of squares start at 0.1."""
    sums = np.full_like(weights, 0.1)
    for gradient in gradients:
        sums = sums + gradient**2
        weights = weights - rate * decay * weights - rate * gradient / np.sqrt(sums + 1e-7)
    return weights


OPTIMIZERS: dict[str, tuple[type[RowSparse], Callable[..., Doubles]]] = {
    "adam": (RowSparseAdam, adam),
    "adagrad": (RowSparseAdagrad, adagrad),
}
optimizers = pytest.mark.parametrize("name", OPTIMIZERS)


def batches(num_steps: int) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
    """Rows with duplicates and gradients; row 5 never comes, row 4 only in the last batch."""
    rng = np.random.default_rng(0)
    rows = [rng.integers(4, size=5) for _ in range(num_steps)]
    rows[-1][0] = 4
    return [(of_step, rng.normal(size=(5, DIM)).astype(np.float32)) for of_step in rows]


@optimizers
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("static_shapes", [False, True])
def test_each_row_has_an_optimizer_of_its_own(name: str, decay: float, static_shapes: bool) -> None:
    """Which takes one step, with the sum of the row's gradients, in each batch that has the row."""
    ours, by_hand = OPTIMIZERS[name]
    table = tf.Variable(np.random.default_rng(1).normal(size=(ROWS, DIM)), dtype=tf.float32)
    initial = table.numpy().astype(np.float64)
    optimizer = ours(0.05, decay=decay, static_shapes=static_shapes)
    own: dict[int, list[Any]] = {row: [] for row in range(ROWS)}
    for rows, gradients in batches(12):
        optimizer.apply_gradients([(tf.IndexedSlices(gradients, rows, SHAPE), table)])
        for row in np.unique(rows):
            own[int(row)].append(gradients[rows == row].astype(np.float64).sum(axis=0))
    expected = [by_hand(initial[row], own[row], 0.05, decay) for row in range(ROWS)]
    assert (len(own[4]), len(own[5])) == (1, 0)
    np.testing.assert_allclose(table.numpy(), expected, atol=1e-5)
    np.testing.assert_array_equal(table.numpy()[5], initial[5].astype(np.float32))


def test_compiled_updates_are_those_by_hand() -> None:
    """What XLA is given: an optimizer of static shapes, and rows that come twice."""
    for ours, by_hand in OPTIMIZERS.values():
        table = tf.Variable(tf.ones([ROWS, DIM]))
        optimizer = ours(0.05, decay=0.1, static_shapes=True)
        optimizer.build([table])

        @tf.function(jit_compile=True)
        def step(rows: tf.Tensor, gradients: tf.Tensor, optimizer: Any, table: tf.Variable) -> None:
            optimizer.apply_gradients([(tf.IndexedSlices(gradients, rows, SHAPE), table)])

        rows, gradients = np.array([3, 0, 3]), np.array([[1.0] * 3, [2.0] * 3, [-4.0] * 3], np.float32)
        step(tf.constant(rows), tf.constant(gradients), optimizer, table)
        own = {0: [gradients[1]], 3: [gradients[0] + gradients[2]]}
        expected = [by_hand(np.ones(DIM), own.get(row, []), 0.05, 0.1) for row in range(ROWS)]
        np.testing.assert_allclose(table.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("static_shapes", [False, True])
def test_where_moments_fade_by_all_steps_rows_without_momentum_take_the_steps_of_stock_adam(
    static_shapes: bool,
) -> None:
    """Rows that come always, now and then, only in the end and never, against the whole table's dense gradient."""
    ours, stock = (tf.Variable(np.random.default_rng(1).normal(size=(ROWS, DIM)), dtype=tf.float32) for _ in range(2))
    sparse = RowSparseAdam(0.05, 0.0, 0.9, static_shapes=static_shapes, moments_fade_by_all_steps=True)
    dense = tf.keras.optimizers.Adam(0.05, 0.0, 0.9)
    for rows, gradients in batches(30):
        sparse.apply_gradients([(tf.IndexedSlices(gradients, rows, SHAPE), ours)])
        whole = np.zeros((ROWS, DIM), np.float32)
        np.add.at(whole, rows, gradients)
        dense.apply_gradients([(tf.constant(whole), stock)])
    np.testing.assert_allclose(ours.numpy(), stock.numpy(), rtol=1e-5, atol=1e-6)


def make_built(config: OptimizerConfig, table: tf.Variable) -> list[tf.Variable]:
    optimizer = make_optimizer(config, 1)
    optimizer.build([table])
    variables: list[tf.Variable] = optimizer.variables
    return variables


def test_momentum_fades_by_all_steps_where_it_shall() -> None:
    """A row of every batch takes the steps of stock Adam; of one that comes now and then, it is a weighted mean."""
    table, stock = tf.Variable(tf.ones([ROWS, DIM])), tf.Variable(tf.ones([DIM]))
    ours = RowSparseAdam(0.05, 0.9, 0.8, moments_fade_by_all_steps=True)
    dense = tf.keras.optimizers.Adam(0.05, 0.9, 0.8)
    gradients = np.random.default_rng(3).normal(size=(31, 2, DIM)).astype(np.float32)
    seen, expected = [1, 2, 5, 6, 30], np.ones(DIM)
    for step in range(1, 31):
        rows = [2, 0] if step in seen else [2, 1]
        ours.apply_gradients([(tf.IndexedSlices(gradients[step], rows, SHAPE), table)])
        dense.apply_gradients([(tf.constant(gradients[step, 0]), stock)])
        if step in seen:
            past = [number for number in seen if number <= step]
            mean = np.average(gradients[past, 1], axis=0, weights=[0.9 ** (step - number) for number in past])
            v = sum(0.2 * 0.8 ** (step - number) * gradients[number, 1].astype(np.float64) ** 2 for number in past)
            expected = expected - 0.05 * mean / np.sqrt(v / (1 - 0.8**step))
    np.testing.assert_allclose(table.numpy()[0], expected, rtol=1e-5)
    np.testing.assert_allclose(table.numpy()[2], stock.numpy(), rtol=1e-5)
    # And a configuration can ask for it.
    by_own, by_all = ({"adam": {"moments_fade_by": steps}} for steps in ("own_steps", "all_steps"))
    of_own, of_all = (make_built(OptimizerConfig.model_validate(values), table) for values in (by_own, by_all))
    assert len(of_all) == len(of_own) + 1


@optimizers
def test_a_dense_gradient_takes_the_stock_step(name: str) -> None:
    stocks = {"adam": tf.keras.optimizers.Adam, "adagrad": tf.keras.optimizers.Adagrad}
    ours, stock = tf.Variable([[1.0, 2.0], [3.0, 4.0]]), tf.Variable([[1.0, 2.0], [3.0, 4.0]])
    pair = OPTIMIZERS[name][0](0.1, decay=0.2), stocks[name](0.1, weight_decay=0.2)
    for number in range(5):
        gradient = tf.constant([[0.3, -0.1], [0.0, number - 2.0]])
        for optimizer, variable in zip(pair, (ours, stock), strict=True):
            optimizer.apply_gradients([(gradient, variable)])
    np.testing.assert_allclose(ours.numpy(), stock.numpy(), rtol=1e-6)


@optimizers
def test_replicas_with_the_same_rows_take_one_step_with_the_sum(name: str) -> None:
    ours, by_hand = OPTIMIZERS[name]
    strategy = make_strategy(RuntimeConfig(strategy="mirrored", logical_cpus=2))
    with strategy.scope():
        table = tf.Variable(tf.ones([ROWS, DIM]))
        optimizer = ours(0.05, decay=0.1)
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
    expected = [by_hand(np.ones(DIM), [summed[row]] if row < 3 else [], 0.05, 0.1) for row in range(ROWS)]
    for replica in strategy.experimental_local_results(table):
        np.testing.assert_allclose(replica.numpy(), expected, rtol=1e-5)


@optimizers
def test_saved_slots_go_on_where_they_were(name: str, tmp_path: Path) -> None:
    def trained(steps: list[Any], table: tf.Variable, optimizer: RowSparse) -> npt.NDArray[np.float32]:
        for rows, gradients in steps:
            optimizer.apply_gradients([(tf.IndexedSlices(gradients, rows, SHAPE), table)])
        return table.numpy()

    first, second = tf.Variable(tf.ones([ROWS, DIM])), tf.Variable(tf.zeros([ROWS, DIM]))
    options = {"moments_fade_by_all_steps": True} if name == "adam" else {}
    one, other = (OPTIMIZERS[name][0](0.05, **options) for _ in range(2))
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
@optimizers
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
    assert (type(adagrad), adagrad.initial_accumulator_value) == (RowSparseAdagrad, 0.5)
    assert OptimizerConfig().adagrad is not None
    adam = make_optimizer(OptimizerConfig.model_validate({"adam": {"beta_1": 0.5, "beta_2": 0.6}}), 1)
    assert (type(adam), adam.beta_1, adam.beta_2) == (RowSparseAdam, 0.5, 0.6)


@optimizers
def test_weight_decay_reaches_the_optimizer(name: str) -> None:
    variable = tf.Variable([1.0])
    optimizer = make_optimizer(OptimizerConfig.model_validate({name: {"learning_rate": 0.1, "weight_decay": 0.5}}), 1)
    optimizer.apply_gradients([(tf.constant([0.0]), variable)])
    assert variable.numpy() == pytest.approx([0.95])


@optimizers
def test_a_scalar_does_not_decay(name: str) -> None:
    scalar, optimizer = tf.Variable(1.0), OPTIMIZERS[name][0](0.1, decay=0.5)
    optimizer.apply_gradients([(tf.constant(0.0), scalar)])
    assert scalar.numpy() == 1
    optimizer.apply_gradients([(tf.constant(3.0), scalar)])
    assert scalar.numpy() < 1
