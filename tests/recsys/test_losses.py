"""The losses against an independent NumPy computation, gradients included."""

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs

from recsys.losses import FullSoftmax, InBatchSoftmax, Negatives, UnseenSoftmax

BATCH, DIM, TEMPERATURE = 6, 4, 0.5
IDS = np.array([3, 1, 3, 2, 5, 1], np.int32)
WEIGHTS = np.array([1, 2, 1, 0.5, 0, 1], np.float32)
PROBABILITIES = np.array([0.3, 1e-9, 0.3, 0.05, 0.2, 1e-9], np.float32)

Floats = npt.NDArray[np.float64]


def embeddings() -> tuple[Floats, Floats]:
    rng = np.random.default_rng(1)
    return rng.normal(size=(BATCH, DIM)), rng.normal(size=(BATCH, DIM))


def softmax_oracle(
    columns: Floats,
    kept: npt.NDArray[np.bool_],
    q: Floats | None = None,
    weights: npt.NDArray[np.float32] = WEIGHTS,
    temperature: float = TEMPERATURE,
) -> tuple[float, Floats, Floats]:
    """Loss and gradients with respect to queries and columns, one query at a time; column i is query i's positive."""
    query, _ = embeddings()
    loss, to_query, to_columns = 0.0, np.zeros_like(query), np.zeros_like(columns)
    for i in range(BATCH):
        logits = columns @ query[i] / temperature - (0 if q is None else np.log(q))
        chosen = kept[i].copy()
        chosen[i] = True
        exponentials = np.where(chosen, np.exp(logits - logits[chosen].max()), 0)
        p = exponentials / exponentials.sum()
        share = float(weights[i]) / float(weights.sum())
        loss += share * -np.log(p[i])
        residual = (p - (np.arange(len(p)) == i)) * share / temperature
        to_query[i] = residual @ columns
        to_columns += np.outer(residual, query[i])
    return loss, to_query, to_columns


@pytest.mark.parametrize("log_q", [False, True])
@pytest.mark.parametrize("remove", [False, True])
@pytest.mark.parametrize("weights", [np.ones(BATCH, np.float32), WEIGHTS])
def test_loss_and_gradients_match_numpy(log_q: bool, remove: bool, weights: npt.NDArray[np.float32]) -> None:
    query, candidate = (tf.constant(e, tf.float32) for e in embeddings())
    with tf.GradientTape() as tape:
        tape.watch([query, candidate])
        loss = InBatchSoftmax(TEMPERATURE)(
            query,
            candidate,
            sample_weight=tf.constant(weights),
            candidate_sampling_probability=tf.constant(PROBABILITIES) if log_q else None,
            candidate_ids=tf.constant(IDS) if remove else None,
        )
    gradients = tape.gradient(loss, [query, candidate])
    kept = (weights > 0) & ~(remove & (IDS[:, None] == IDS))
    q = PROBABILITIES.astype(np.float64) if log_q else None
    expected = softmax_oracle(embeddings()[1], kept, q, weights)
    np.testing.assert_allclose(loss, expected[0], rtol=1e-5)
    np.testing.assert_allclose(gradients[0], expected[1], atol=1e-5)
    np.testing.assert_allclose(gradients[1], expected[2], atol=1e-5)


MORE = np.random.default_rng(2).normal(size=(3, DIM))
MORE_IDS, MORE_PROBABILITIES = np.array([3, 9, 5], np.int32), np.array([0.2, 0.01, 0.4], np.float32)
EVERYTHING, ALL_IDS = np.concatenate([embeddings()[1], MORE]), np.concatenate([IDS, MORE_IDS])
ALL_PROBABILITIES = np.concatenate([PROBABILITIES, MORE_PROBABILITIES])


def loss_with_negatives(
    log_q: bool, remove: bool, known_positives: tf.RaggedTensor | None = None, num_hardest: int | None = None
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Loss and gradients of each query against the batch and three more, one of which is its item."""
    embedded = [tf.constant(e, tf.float32) for e in (*embeddings(), MORE)]
    with tf.GradientTape() as tape:
        tape.watch(embedded)
        loss = InBatchSoftmax(TEMPERATURE, num_hardest=num_hardest)(
            embedded[0],
            embedded[1],
            sample_weight=tf.constant(WEIGHTS),
            candidate_sampling_probability=tf.constant(PROBABILITIES) if log_q else None,
            candidate_ids=tf.constant(IDS) if remove else None,
            negatives=Negatives(embedded[2], tf.constant(MORE_PROBABILITIES) if log_q else None, tf.constant(MORE_IDS)),
            known_positives=known_positives,
        )
    return loss, tape.gradient(loss, embedded)


def require_equal(found: tuple[tf.Tensor, list[tf.Tensor]], expected: tuple[float, Floats, Floats]) -> None:
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    wanted = (expected[1], expected[2][:BATCH], expected[2][BATCH:])
    for gradient, oracle in zip(found[1], wanted, strict=True):
        np.testing.assert_allclose(gradient, oracle, atol=1e-5)


@pytest.mark.parametrize("log_q", [False, True])
@pytest.mark.parametrize("remove", [False, True])
def test_further_negatives_join_the_softmax(log_q: bool, remove: bool) -> None:
    kept = np.concatenate([WEIGHTS > 0, [True] * 3]) & ~(remove & (IDS[:, None] == ALL_IDS))
    q = ALL_PROBABILITIES.astype(np.float64) if log_q else None
    require_equal(loss_with_negatives(log_q, remove), softmax_oracle(EVERYTHING, kept, q))


def test_known_positives_have_softmax_weight_exactly_zero() -> None:
    """Items of the batch, some of which stand there twice, a drawn one, one that is not there, and none at all."""
    known = [[1, 5], [], [3, 9, 7], [2, 3], [5], [9, 1, 2]]
    kept = np.concatenate([WEIGHTS > 0, [True] * 3]) & (IDS[:, None] != ALL_IDS)
    for row, items in enumerate(known):
        kept[row] &= ~np.isin(ALL_IDS, items)
    found = loss_with_negatives(True, True, tf.ragged.constant(known, dtype=tf.int32))
    require_equal(found, softmax_oracle(EVERYTHING, kept, ALL_PROBABILITIES.astype(np.float64)))
    assert abs(float(found[0]) - float(loss_with_negatives(True, True)[0])) > 0.01


def test_known_positives_need_ids() -> None:
    """Keras names the layer before the line, and its arguments after it."""
    with pytest.raises(ValueError, match="known_positives") as error:
        loss_with_negatives(True, False, tf.ragged.constant([[1]] * BATCH, dtype=tf.int32))
    expected = "known_positives are found by id: expected candidate_ids, received None; pass both"
    assert expected in str(error.value).splitlines()


@pytest.mark.parametrize("number", [1, 3, 50])
def test_only_the_hardest_negatives_count(number: int) -> None:
    """Of all that is not masked, those with the largest logits as corrected; all of them where there are fewer."""
    kept = np.concatenate([WEIGHTS > 0, [True] * 3]) & (IDS[:, None] != ALL_IDS)
    logits = embeddings()[0] @ EVERYTHING.T / TEMPERATURE - np.log(ALL_PROBABILITIES.astype(np.float64))
    hardest = np.argsort(np.where(kept, -logits, np.inf), axis=1)[:, :number]
    chosen = np.zeros_like(kept)
    np.put_along_axis(chosen, hardest, True, axis=1)
    assert (chosen & kept).sum() < kept.sum() or number == 50
    found = loss_with_negatives(True, True, num_hardest=number)
    require_equal(found, softmax_oracle(EVERYTHING, chosen & kept, ALL_PROBABILITIES.astype(np.float64)))


@pytest.mark.parametrize("log_q", [False, True])
def test_negatives_of_a_query_alone_join_its_softmax_only(log_q: bool) -> None:
    """Two for each query, of which some are none: columns that are kept in one row of the oracle."""
    own = np.random.default_rng(3).normal(size=(BATCH, 2, DIM))
    ids = np.array([[7, 8], [-1, 3], [5, 5], [-1, -1], [2, 6], [9, -1]], np.int32)
    own_q = np.random.default_rng(4).uniform(0.01, 0.2, size=(BATCH, 2)).astype(np.float32)
    embedded = [tf.constant(e, tf.float32) for e in (*embeddings(), own)]
    metric = tf.keras.metrics.Mean()
    with tf.GradientTape() as tape:
        tape.watch(embedded)
        loss = InBatchSoftmax(TEMPERATURE, [metric])(
            *embedded[:2],
            sample_weight=tf.constant(WEIGHTS),
            candidate_sampling_probability=tf.constant(PROBABILITIES) if log_q else None,
            candidate_ids=tf.constant(IDS),
            own_negatives=Negatives(embedded[2], tf.constant(own_q) if log_q else None, tf.constant(ids)),
        )
    found = tape.gradient(loss, embedded)
    kept = np.zeros((BATCH, BATCH, 2), bool)
    kept[np.arange(BATCH), np.arange(BATCH)] = ids >= 0
    kept = np.concatenate([(WEIGHTS > 0) & (IDS[:, None] != IDS), kept.reshape(BATCH, -1)], axis=1)
    columns = np.concatenate([embeddings()[1], own.reshape(-1, DIM)])
    q = np.concatenate([PROBABILITIES.astype(np.float64), own_q.astype(np.float64).ravel()]) if log_q else None
    expected = softmax_oracle(columns, kept, q)
    np.testing.assert_allclose(loss, expected[0], rtol=1e-5)
    np.testing.assert_allclose(metric.result(), expected[0], rtol=1e-5)
    wanted = (expected[1], expected[2][:BATCH], expected[2][BATCH:].reshape(own.shape))
    for gradient, oracle in zip(found, wanted, strict=True):
        np.testing.assert_allclose(gradient, oracle, atol=1e-5)


def test_plain_options_equal_the_stock_task() -> None:
    """Without log-Q and masks it is `tfrs.tasks.Retrieval`, which sums where this takes the mean."""
    query, candidate = (tf.constant(e, tf.float32) for e in embeddings())
    stock = tfrs.tasks.Retrieval(temperature=TEMPERATURE)(query, candidate, compute_metrics=False)
    ours = InBatchSoftmax(TEMPERATURE)(query, candidate, sample_weight=tf.ones(BATCH))
    np.testing.assert_allclose(ours, stock / BATCH, rtol=1e-6)


@pytest.mark.parametrize("full", [False, True])
def test_a_learned_temperature_has_the_gradient_of_its_logarithm(full: bool) -> None:
    """Against the slope of the oracle's loss, which a fixed temperature has as well, but no variable."""
    tasks = [(FullSoftmax if full else InBatchSoftmax)(TEMPERATURE, learn_temperature=learn) for learn in (True, False)]
    query, candidate = (tf.constant(e, tf.float32) for e in embeddings())
    inputs = {"item_row": tf.range(BATCH)} if full else {"candidate_ids": tf.constant(IDS)}
    assert len(tasks[0].trainable_weights) == 1
    assert not tasks[1].trainable_weights
    with tf.GradientTape() as tape:
        tape.watch([query, candidate])
        loss, fixed = (task(query, candidate, sample_weight=tf.constant(WEIGHTS), **inputs) for task in tasks)
    found = tape.gradient(loss, [query, candidate, *tasks[0].trainable_weights])
    kept = np.ones((BATCH, BATCH), bool) if full else (WEIGHTS > 0) & (IDS[:, None] != IDS)

    def expected(temperature: float) -> tuple[float, Floats, Floats]:
        return softmax_oracle(embeddings()[1], kept, temperature=temperature)

    slope = (expected(TEMPERATURE * np.exp(1e-4))[0] - expected(TEMPERATURE * np.exp(-1e-4))[0]) / 2e-4
    assert abs(slope) > 0.1
    for ours, oracle in zip((loss, *found), (*expected(TEMPERATURE), slope), strict=True):
        np.testing.assert_allclose(ours, oracle, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(loss, fixed, rtol=1e-6)


def test_the_hardest_negatives_are_those_of_the_stock_task() -> None:
    query, candidate = (tf.constant(e, tf.float32) for e in embeddings())
    stock = tfrs.tasks.Retrieval(temperature=TEMPERATURE, num_hard_negatives=2)(query, candidate, compute_metrics=False)
    ours = InBatchSoftmax(TEMPERATURE, num_hardest=2)(query, candidate, sample_weight=tf.ones(BATCH))
    np.testing.assert_allclose(ours, stock / BATCH, rtol=1e-6)


def test_an_accidental_hit_has_softmax_weight_exactly_zero() -> None:
    """Query 0 and candidate 2 share an item, so query 0's loss must not depend on candidate 2 at all."""
    query, candidate = (tf.constant(e, tf.float32) for e in embeddings())
    only_first = tf.one_hot(0, BATCH) + 1e-30 * tf.ones(BATCH)
    with tf.GradientTape() as tape:
        tape.watch(candidate)
        loss = InBatchSoftmax(TEMPERATURE)(query, candidate, sample_weight=only_first, candidate_ids=tf.constant(IDS))
    assert np.abs(tape.gradient(loss, candidate)[2]).max() < 1e-25


def test_log_q_lowers_the_logit_of_a_popular_candidate() -> None:
    """The sign of the correction: a candidate that is often a negative is pushed away less."""
    query, candidate = (tf.constant(e, tf.float32) for e in embeddings())

    def push(probability: float) -> float:
        q = tf.tensor_scatter_nd_update(tf.fill([BATCH], 0.1), [[1]], [probability])
        with tf.GradientTape() as tape:
            tape.watch(candidate)
            loss = InBatchSoftmax(TEMPERATURE)(
                query, candidate, tf.one_hot(0, BATCH) + 1e-6, candidate_sampling_probability=q
            )
        return float(tf.norm(tape.gradient(loss, candidate)[1]))

    assert push(0.9) < push(0.1) < push(0.001)


def test_loss_metrics_receive_the_weighted_mean_of_examples() -> None:
    metric = tf.keras.metrics.Mean(name="loss")
    task = InBatchSoftmax(TEMPERATURE, loss_metrics=[metric])
    query, candidate = (tf.constant(e, tf.float32) for e in embeddings())
    loss = task(query, candidate, sample_weight=tf.constant(WEIGHTS))
    np.testing.assert_allclose(metric.result(), loss, rtol=1e-6)


def test_rows_that_fill_up_a_batch_change_nothing() -> None:
    """They are zeros, and may stand for an item that is never sampled: log 0 must not reach the others."""
    query, candidate = (tf.constant(e, tf.float32) for e in embeddings())

    def loss_and_gradients(filler: int) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            tape.watch([query, candidate])
            loss = InBatchSoftmax(TEMPERATURE)(
                *(tf.pad(embedded, [[0, filler], [0, 0]]) for embedded in (query, candidate)),
                sample_weight=tf.pad(tf.constant(WEIGHTS), [[0, filler]]),
                candidate_sampling_probability=tf.pad(tf.constant(PROBABILITIES), [[0, filler]]),
                candidate_ids=tf.pad(tf.constant(IDS), [[0, filler]]),
            )
        return loss, tape.gradient(loss, [query, candidate])

    whole, filled = loss_and_gradients(0), loss_and_gradients(3)
    np.testing.assert_allclose(filled[0], whole[0], rtol=1e-6)
    for ours, expected in zip(filled[1], whole[1], strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-7)


def test_the_softmax_over_unseen_items_and_its_gradients_match_numpy() -> None:
    """Four queries, one without a target, and one that took every negative; nine items, of which five are drawn."""
    rng = np.random.default_rng(3)
    query, target, negative = (rng.normal(size=(number, DIM)) for number in (4, 6, 5))
    query_of_target, weights = np.array([0, 3, 0, 3, 3, 2]), np.array([1, 2, 0.5, 1, 1, 1.5])
    taken = [[1], [], [0, 1, 2, 3, 4], [4, 0]]

    loss, to_query, to_target, to_negative = 0.0, *(np.zeros_like(array) for array in (query, target, negative))
    for number, (i, weight) in enumerate(zip(query_of_target, weights, strict=True)):
        unseen = np.setdiff1d(np.arange(5), taken[i])
        if not len(unseen):
            continue
        share = weight / weights.sum()
        exponentials = np.exp(negative[unseen] @ query[i] / TEMPERATURE)
        loss += share * (np.log(9 / 5 * exponentials.sum()) - target[number] @ query[i] / TEMPERATURE)
        p = exponentials / exponentials.sum()
        to_query[i] += share / TEMPERATURE * (p @ negative[unseen] - target[number])
        to_target[number] -= share / TEMPERATURE * query[i]
        to_negative[unseen] += share / TEMPERATURE * np.outer(p, query[i])

    embedded = [tf.constant(array, tf.float32) for array in (query, target, negative)]
    with tf.GradientTape() as tape:
        tape.watch(embedded)
        found = UnseenSoftmax(TEMPERATURE)(
            embedded[0],
            embedded[1],
            query_of_target=tf.constant(query_of_target),
            sample_weight=tf.constant(weights, tf.float32),
            negative_embeddings=embedded[2],
            known_positives=tf.ragged.constant(taken, tf.int32),
            num_items=9,
        )
    np.testing.assert_allclose(found, loss, rtol=1e-5)
    for gradient, oracle in zip(tape.gradient(found, embedded), (to_query, to_target, to_negative), strict=True):
        np.testing.assert_allclose(gradient, oracle, atol=1e-5)
