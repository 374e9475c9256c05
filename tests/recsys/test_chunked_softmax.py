"""The chunked cross-entropy over several chunks, the last of them short, against NumPy in float64."""

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from recsys import chunked_softmax
from recsys.chunked_softmax import cross_entropy

# 1,300 × 2,000 logits are three chunks of 524 rows and less.
BATCH, NUM_CANDIDATES, DIM = 1_300, 2_000, 8

Arrays = dict[str, npt.NDArray[np.float64]]


def inputs() -> Arrays:
    rng = np.random.default_rng(0)
    bias = rng.normal(size=NUM_CANDIDATES)
    bias[::50] = -np.inf
    return {
        "query": rng.normal(size=(BATCH, DIM)),
        "positive_logit": 3 * rng.normal(size=BATCH),
        "candidates": rng.normal(size=(NUM_CANDIDATES, DIM)),
        "bias": bias,
        "query_ids": rng.integers(300, size=BATCH),
        "candidate_ids": rng.integers(300, size=NUM_CANDIDATES),
        "weight": rng.uniform(size=BATCH) * (rng.uniform(size=BATCH) > 0.1),
    }


def oracle(
    a: Arrays, left_out: npt.NDArray[np.bool_] | None = None, num_hardest: int | None = None, decoupled: bool = False
) -> list[npt.NDArray[np.float64]]:
    """The loss, each row's, and the gradients to query, positive logits and candidates."""
    logits = a["query"] @ a["candidates"].T + a["bias"]
    if left_out is not None:
        logits[left_out] = -np.inf
    logits[a["query_ids"][:, None] == a["candidate_ids"]] = -np.inf
    if num_hardest is not None:
        smallest_kept = np.sort(logits, axis=1)[:, -num_hardest, None]
        logits[logits < smallest_kept] = -np.inf
    positive = a["positive_logit"]
    own = np.zeros(BATCH) if decoupled else np.exp(positive)
    total = np.exp(logits).sum(axis=1) + own
    weight = np.where(total > 0, a["weight"], 0)
    total = np.where(total > 0, total, 1)
    losses = np.log(total) - positive
    residual = np.exp(logits) / total[:, None] * weight[:, None]
    return [
        np.asarray((losses * weight).sum()),
        np.where(weight > 0, losses, 0),
        residual @ a["candidates"],
        (own / total - 1) * weight,
        residual.T @ a["query"],
    ]


def traced(jit_compile: bool) -> tf.types.experimental.ConcreteFunction:
    """Loss, losses and gradients as one compiled function of static shapes."""
    arrays = inputs()
    dtypes = {name: tf.int32 if name.endswith("ids") else tf.float32 for name in arrays}
    names = list(arrays)

    @tf.function(
        jit_compile=jit_compile, input_signature=[tf.TensorSpec(arrays[name].shape, dtypes[name]) for name in names]
    )
    def run(*tensors: tf.Tensor) -> tuple[tf.Tensor, ...]:
        learned = tensors[:3]
        with tf.GradientTape() as tape:
            tape.watch(learned)
            loss, losses = cross_entropy(**dict(zip(names, tensors, strict=True)))
        return loss, losses, *tape.gradient(loss, learned)

    return run.get_concrete_function()


@pytest.mark.parametrize("jit_compile", [False, True])
def test_several_chunks_equal_one_softmax(jit_compile: bool) -> None:
    arrays = inputs()
    tensors = [tf.constant(a, tf.int32 if name.endswith("ids") else tf.float32) for name, a in arrays.items()]
    for found, expected in zip(traced(jit_compile)(*tensors), oracle(arrays), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("num_hardest", "decoupled"), [(None, False), (20, False), (None, True)])
def test_columns_that_are_left_out_of_rows_have_no_weight(num_hardest: int | None, decoupled: bool) -> None:
    """Many, few and no columns of a row, in every chunk; all columns of one, so that a decoupled positive has no other
    to be compared with. Of what is left all or the largest stay.
    """
    arrays = inputs()
    rng = np.random.default_rng(1)
    left_out = rng.uniform(size=(BATCH, NUM_CANDIDATES)) < np.where(rng.uniform(size=(BATCH, 1)) < 0.5, 0.1, 0)
    left_out[700] = True
    columns = tf.RaggedTensor.from_row_lengths(np.nonzero(left_out)[1].astype(np.int32), left_out.sum(axis=1))
    tensors = {name: tf.constant(a, tf.int32 if name.endswith("ids") else tf.float32) for name, a in arrays.items()}
    learned = [tensors[name] for name in ("query", "positive_logit", "candidates")]

    @tf.function
    def run() -> tuple[tf.Tensor, ...]:
        with tf.GradientTape() as tape:
            tape.watch(learned)
            loss, losses = cross_entropy(**tensors, left_out=columns, num_hardest=num_hardest, decoupled=decoupled)
        return loss, losses, *tape.gradient(loss, learned)

    for found, expected in zip(run(), oracle(arrays, left_out, num_hardest, decoupled), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert abs(oracle(arrays)[0] - oracle(arrays, left_out)[0]) > 1


def test_no_tensor_has_a_row_per_query_and_a_column_per_candidate() -> None:
    """Memory is linear in the batch: the largest tensor is a chunk of the logits, not all of them."""
    definition = traced(jit_compile=False).graph.as_graph_def(add_shapes=True)
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    shapes = [shape for node in nodes for shape in node.attr["_output_shapes"].list.shape]
    largest = max(np.prod([dimension.size for dimension in shape.dim]) for shape in shapes)
    assert largest == 524 * NUM_CANDIDATES
    assert largest < BATCH * NUM_CANDIDATES / 2


def test_chunks_of_rows_without_weight_are_left_out() -> None:
    """Half of the rows weigh nothing, here and there: the trip count is that of the others, and results are exact."""
    arrays = inputs()
    arrays["weight"] *= np.random.default_rng(1).uniform(size=BATCH) < 0.3
    few = int((arrays["weight"] > 0).sum())
    assert few < 524
    tensors = {name: tf.constant(a, tf.int32 if name.endswith("ids") else tf.float32) for name, a in arrays.items()}
    chunks: list[None] = []
    counted = tf.function(lambda: cross_entropy(**tensors)[0])
    original = chunked_softmax._chunk

    def counting(*args: tf.Tensor) -> tuple[tf.Tensor, ...]:
        tf.numpy_function(lambda: chunks.append(None), [], [], stateful=True)
        return original(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunked_softmax, "_chunk", counting)
        loss = counted()
    assert len(chunks) == 1
    np.testing.assert_allclose(loss, oracle(arrays)[0], rtol=1e-4)


def test_a_batch_without_weight_has_no_loss_and_no_gradient() -> None:
    arrays = inputs() | {"weight": np.zeros(BATCH)}
    tensors = [tf.constant(a, tf.int32 if name.endswith("ids") else tf.float32) for name, a in arrays.items()]
    for found in traced(jit_compile=False)(*tensors):
        assert not np.any(found)
