"""History encoders against NumPy, position by position; causality and padding."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from recsys.config import HistoryConfig
from recsys.history_encoders import HistoryEncoder, make_history_encoder

DIM, LENGTH = 4, 6
# Full, part, a single item, nothing.
LENGTHS = np.array([6, 3, 1, 0])
PRESENT = np.arange(LENGTH) < LENGTHS[:, None]

Array = npt.NDArray[Any]
ENCODERS: list[dict[str, Any]] = [
    {"name": "mean"},
    {"name": "recency", "half_life": 2.0},
    {"name": "gru"},
    {"name": "self_attention", "blocks": 2, "heads": 2},
]
each_encoder = pytest.mark.parametrize("options", ENCODERS, ids=lambda options: options["name"])


def embedded() -> Array:
    values = np.random.default_rng(0).normal(size=(len(LENGTHS), LENGTH, DIM)).astype(np.float32)
    return values * PRESENT[..., None]


def make(options: dict[str, Any]) -> HistoryEncoder:
    """With weights far from where they start: biases and scales would hide in zeros and ones."""
    tf.keras.utils.set_random_seed(0)
    encoder = make_history_encoder(HistoryConfig.model_validate({"encoder": options}), DIM)
    encoder(embedded(), tf.constant(PRESENT))
    for variable in encoder.weights:
        variable.assign_add(0.3 * tf.random.stateless_normal(variable.shape, [1, 2]))
    return encoder


def everywhere(encoder: HistoryEncoder, values: Array, present: Array = PRESENT) -> Array:
    output: Array = encoder(values, tf.constant(present), every_position=True).numpy()
    return output


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def weighted_means(items: Array, decay: float) -> list[Array]:
    return [
        np.average(items[: t + 1], axis=0, weights=[decay ** (t - s) for s in range(t + 1)]) for t in range(len(items))
    ]


def gru_states(items: Array, kernel: Array, recurrent: Array, bias: Array) -> list[Array]:
    """Cho et al., 2014, in Keras's order of gates: update, reset, candidate; the reset follows the product."""
    state, states = np.zeros(DIM), []
    for item in items:
        of_item = np.split(item @ kernel + bias[0], 3)
        of_state = np.split(state @ recurrent + bias[1], 3)
        update, reset = (sigmoid(of_item[gate] + of_state[gate]) for gate in (0, 1))
        state = update * state + (1 - update) * np.tanh(of_item[2] + reset * of_state[2])
        states.append(state)
    return states


def layer_norm(x: Array, scale: Array, offset: Array) -> Array:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-6) * scale + offset


def attention(
    inputs: Array, q: Array, qb: Array, k: Array, kb: Array, v: Array, vb: Array, o: Array, ob: Array
) -> Array:
    """Multi-head attention of each position to itself and those before, in loops; kernels are [dim, heads, width]."""
    outputs = []
    for t in range(len(inputs)):
        output = ob.copy()
        for head in range(q.shape[1]):
            query = inputs[t] @ q[:, head] + qb[head]
            keys = inputs[: t + 1] @ k[:, head] + kb[head]
            values = inputs[: t + 1] @ v[:, head] + vb[head]
            weight = np.exp(keys @ query / np.sqrt(len(query)))
            output += weight @ values / weight.sum() @ o[head]
        outputs.append(output)
    return np.array(outputs)


def attended(items: Array, encoder: Any) -> Array:
    def of(layer: tf.keras.layers.Layer) -> list[Array]:
        return [variable.numpy().astype(np.float64) for variable in layer.weights]

    hidden = items * np.sqrt(DIM) + encoder.positions.numpy()[: len(items)]
    for block in encoder._blocks:
        normalized = np.array([layer_norm(x, *of(block._before_attention)) for x in hidden])
        hidden = hidden + attention(normalized, *of(block._attention))
        (inner, inner_bias), (outer, outer_bias) = of(block._inner), of(block._outer)
        normalized = np.array([layer_norm(x, *of(block._before_dense)) for x in hidden])
        hidden = hidden + np.maximum(normalized @ inner + inner_bias, 0) @ outer + outer_bias
    return np.array([layer_norm(x, *of(encoder._normalization)) for x in hidden])


def oracle(encoder: Any, options: dict[str, Any], items: Array) -> Any:
    """What is known after each of one user's items."""
    match options["name"]:
        case "mean":
            return weighted_means(items, 1.0)
        case "recency":
            return weighted_means(items, np.sqrt(0.5))
        case "gru":
            return gru_states(items, *(variable.numpy().astype(np.float64) for variable in encoder.weights))
        case _:
            return attended(items, encoder)


@each_encoder
def test_every_position_is_what_numpy_says(options: dict[str, Any]) -> None:
    encoder, values = make(options), embedded()
    found = everywhere(encoder, values)
    assert found.shape == (len(LENGTHS), LENGTH, DIM)
    for row, length in enumerate(LENGTHS):
        if length:
            expected = oracle(encoder, options, values[row, :length].astype(np.float64))
            np.testing.assert_allclose(found[row, :length], expected, rtol=1e-4, atol=1e-5)


@each_encoder
def test_the_query_is_the_last_present_position_and_zeros_without_history(options: dict[str, Any]) -> None:
    encoder, values = make(options), embedded()
    positions, query = everywhere(encoder, values), encoder(values, tf.constant(PRESENT)).numpy()
    expected = [positions[row, length - 1] if length else np.zeros(DIM) for row, length in enumerate(LENGTHS)]
    np.testing.assert_allclose(query, expected, rtol=1e-5, atol=1e-6)


@each_encoder
def test_a_later_item_changes_nothing_before_it(options: dict[str, Any]) -> None:
    encoder, values = make(options), embedded()
    changed = values.copy()
    changed[0, 4] += [1, -2, 0, 3]  # not the same for all: normalization would take that away
    before, after = everywhere(encoder, values)[0], everywhere(encoder, changed)[0]
    np.testing.assert_array_equal(after[:4], before[:4])
    assert (np.abs(after[4:] - before[4:]).max(axis=1) > 1e-3).all()


@each_encoder
def test_padding_has_no_effect(options: dict[str, Any]) -> None:
    """A longer row of padding, and even other values in it, leave what is known as it was."""
    encoder, values = make(options), embedded()
    filled = np.where(PRESENT[..., None], values, 7).astype(np.float32)
    np.testing.assert_array_equal(everywhere(encoder, filled)[1, :3], everywhere(encoder, values)[1, :3])
    np.testing.assert_allclose(
        encoder(embedded(), tf.constant(PRESENT))[1], everywhere(encoder, filled)[1, 2], rtol=1e-5, atol=1e-6
    )


@each_encoder
def test_the_order_of_items_matters_to_all_but_the_mean(options: dict[str, Any]) -> None:
    encoder, values = make(options), embedded()
    swapped = values.copy()
    swapped[0, [1, 4]] = values[0, [4, 1]]
    distance = np.abs(everywhere(encoder, swapped)[0, 5] - everywhere(encoder, values)[0, 5]).max()
    assert (distance < 1e-6) == (options["name"] == "mean")


@pytest.mark.parametrize("name", ["gru", "self_attention"])
def test_dropout_shows_in_training_only(name: str) -> None:
    values, present = embedded(), tf.constant(PRESENT)
    for rate in (0.0, 0.5):
        encoder = make({"name": name, "dropout": rate})
        draws = np.stack([encoder(values, present, training=True).numpy() for _ in range(5)])
        assert (np.ptp(draws, axis=0).max() > 1e-3) == (rate > 0)
        np.testing.assert_array_equal(encoder(values, present), encoder(values, present))


def test_blocks_and_heads_are_options() -> None:
    one, two = (make({"name": "self_attention", "blocks": blocks}) for blocks in (1, 2))
    per_block = 4 * (DIM * DIM + DIM) + 2 * (DIM * DIM + DIM) + 2 * 2 * DIM
    sizes = [sum(int(np.prod(v.shape)) for v in encoder.weights) for encoder in (one, two)]
    assert sizes == [LENGTH * DIM + 2 * DIM + number * per_block for number in (1, 2)]
    outputs = [everywhere(make({"name": "self_attention", "heads": heads}), embedded()) for heads in (1, 2)]
    assert np.abs(outputs[0] - outputs[1])[PRESENT].max() > 1e-2
