"""Search outside of exclusions, against a loop over a NumPy sort. Integer vectors: no rounding anywhere."""

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from partitioned import partitioned

from serving.exclusion import search_allowed
from serving.index import ExactIndex, Index

DIM = 8
FLOAT32_MIN = np.float32(-3.4028234663852886e38)

Vectors = npt.NDArray[np.float32]
Exclusions = list[list[int]]


def integer_vectors(number: int, seed: int) -> Vectors:
    return np.random.default_rng(seed).integers(-1000, 1001, size=(number, DIM)).astype(np.float32)


@cache
def catalogue(num_candidates: int) -> tuple[Vectors, dict[str, Index]]:
    candidates = integer_vectors(num_candidates, seed=num_candidates)
    indices: dict[str, Index] = {
        "exact": ExactIndex(candidates),
        "scann": partitioned(candidates, 1.0, num_candidates),
        "starving": partitioned(candidates, 0.001, 1, leaves_per_sqrt_item=3),
    }
    return candidates, indices


def answers(
    kind: str, num_candidates: int, queries: Vectors, excluded: Exclusions, k: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    candidates, indices = catalogue(num_candidates)
    ragged = tf.ragged.constant(excluded, dtype=tf.int32, ragged_rank=1)
    rows, scores = search_allowed(
        indices[kind].search, ExactIndex(candidates), tf.constant(queries), ragged, tf.constant(k)
    )
    return rows.numpy(), scores.numpy()


def expected_answers(
    num_candidates: int, queries: Vectors, excluded: Exclusions, k: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    products = queries @ catalogue(num_candidates)[0].T
    rows, scores = np.full((len(queries), k), -1, np.int32), np.full((len(queries), k), FLOAT32_MIN)
    for i, barred in enumerate(excluded):
        allowed = [row for row in np.argsort(-products[i], kind="stable") if row not in barred][:k]
        rows[i, : len(allowed)] = allowed
        scores[i, : len(allowed)] = products[i, allowed]
    return rows, scores


@st.composite
def requests(draw: st.DrawFn) -> tuple[int, Vectors, Exclusions, int]:
    """Exclusions of any size up to the whole catalogue, with repeats and with -1, in any order."""
    num_candidates = draw(st.sampled_from([20, 64, 300]))
    seed = draw(st.integers(0, 2**31))
    sizes = st.one_of(st.integers(0, num_candidates), st.sampled_from([0, num_candidates - 1, num_candidates]))
    excluded: Exclusions = []
    for number in range(draw(st.integers(1, 5))):
        rng = np.random.default_rng([seed, number])
        barred = rng.permutation(num_candidates)[: draw(sizes)].tolist()
        excluded.append(barred + barred[: draw(st.integers(0, 3))] + [-1] * draw(st.integers(0, 2)))
    k = draw(st.one_of(st.integers(1, num_candidates), st.sampled_from([1, num_candidates])))
    return num_candidates, integer_vectors(len(excluded), seed), excluded, k


@pytest.mark.slow
@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    num_candidates=st.one_of(st.integers(1, 15), st.integers(16, 50)),  # ScaNN searches 15 by brute force
    magnitude=st.sampled_from([1, 2, 1000]),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_random_catalogues_are_searched_in_the_order_of_brute_force_at_every_k(
    num_candidates: int, magnitude: int, seed: int, data: st.DataObject
) -> None:
    """Exclusions leave all candidates, one, or any number between. Small numbers make many ties, which go by row."""
    rng = np.random.default_rng(seed)
    candidates = rng.integers(-magnitude, magnitude + 1, (num_candidates, DIM)).astype(np.float32)
    queries = rng.integers(-magnitude, magnitude + 1, (4, DIM)).astype(np.float32)
    sizes = [0, num_candidates - 1, *data.draw(st.lists(st.integers(0, num_candidates - 1), min_size=2, max_size=2))]
    excluded = [rng.permutation(num_candidates)[:size].tolist() for size in sizes]
    products = queries.astype(np.float64) @ candidates.T.astype(np.float64)
    in_order = [
        sorted(set(range(num_candidates)) - set(barred), key=lambda row, of_query=of_query: (-of_query[row], row))
        for of_query, barred in zip(products, excluded, strict=True)
    ]
    exact, ragged = ExactIndex(candidates), tf.ragged.constant(excluded, tf.int32, ragged_rank=1)
    asked = tf.constant(queries)
    for index in (exact, partitioned(candidates, 1.0, num_candidates)):
        search = tf.function(lambda k, index=index: search_allowed(index.search, exact, asked, ragged, k))
        for k in range(1, num_candidates + 1):
            rows, scores = (found.numpy() for found in search(tf.constant(k)))
            assert rows.shape == scores.shape == (4, k)
            for i, expected in enumerate(in_order):
                assert rows[i].tolist() == expected[:k] + [-1] * (k - len(expected))
                np.testing.assert_array_equal(scores[i][: len(expected)], products[i][expected[:k]])
                assert (scores[i][len(expected) :] == FLOAT32_MIN).all()


@pytest.mark.parametrize("kind", ["exact", "scann"])
@settings(max_examples=100, deadline=None, derandomize=True)
@given(request=requests())
def test_an_exhaustive_index_answers_like_brute_force(kind: str, request: tuple[int, Vectors, Exclusions, int]) -> None:
    rows, scores = answers(kind, *request)
    expected_rows, expected_scores = expected_answers(*request)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(scores, expected_scores)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(request=requests())
def test_a_starving_index_still_gives_k_allowed_candidates(request: tuple[int, Vectors, Exclusions, int]) -> None:
    num_candidates, queries, excluded, k = request
    rows, scores = answers("starving", *request)
    products = queries @ catalogue(num_candidates)[0].T
    for i, barred in enumerate(excluded):
        found = rows[i][rows[i] >= 0]
        assert len(set(found)) == len(found) == min(k, num_candidates - len(set(barred) - {-1}))
        assert not set(found) & set(barred)
        np.testing.assert_array_equal(scores[i, : len(found)], products[i, found])
        assert (np.diff(scores[i]) <= 0).all()
        assert (scores[i, len(found) :] == FLOAT32_MIN).all()


def test_where_the_index_finds_too_few_the_answer_is_exact() -> None:
    """The starving index reaches one small leaf: 150 of 300 candidates are beyond it."""
    queries, excluded = integer_vectors(8, seed=5), [[], [3], list(range(100))] + [[7, 8]] * 5
    starved, _ = catalogue(300)[1]["starving"].search(tf.constant(queries), tf.constant(150))
    assert (starved.numpy() < 0).any()
    rows, scores = answers("starving", 300, queries, excluded, 150)
    expected_rows, expected_scores = expected_answers(300, queries, excluded, 150)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(scores, expected_scores)


def test_it_works_in_a_graph_with_unknown_sizes() -> None:
    _, indices = catalogue(64)
    exact = ExactIndex(catalogue(64)[0])

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, DIM]),
            tf.RaggedTensorSpec([None, None], tf.int32, ragged_rank=1),
            tf.TensorSpec([], tf.int32),
        ]
    )
    def search(queries: tf.Tensor, excluded: tf.RaggedTensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return search_allowed(indices["scann"].search, exact, queries, excluded, k)

    for excluded, k in [([[]], 1), ([[1, 2], [], [63]], 64)]:
        queries = integer_vectors(len(excluded), seed=k)
        rows, _ = search(tf.constant(queries), tf.ragged.constant(excluded, tf.int32, ragged_rank=1), tf.constant(k))
        np.testing.assert_array_equal(rows, expected_answers(64, queries, excluded, k)[0])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    request=requests(), share=st.sampled_from([0.0, 0.01, 0.2, 0.9, 1.0]), kind=st.sampled_from(["scann", "starving"])
)
def test_only_what_is_asked_for_is_found_and_all_of_it(
    request: tuple[int, Vectors, Exclusions, int], share: float, kind: str
) -> None:
    num_candidates, queries, excluded, k = request
    candidates, indices = catalogue(num_candidates)
    within = np.random.default_rng(k).random((len(queries), num_candidates)) < share
    ragged = tf.ragged.constant(excluded, dtype=tf.int32, ragged_rank=1)
    found, scores = search_allowed(
        indices[kind].search, ExactIndex(candidates), tf.constant(queries), ragged, tf.constant(k), tf.constant(within)
    )
    outside = [[*barred, *np.flatnonzero(~of_row)] for barred, of_row in zip(excluded, within, strict=True)]
    rows, expected_scores = expected_answers(num_candidates, queries, outside, k)
    if kind == "scann":
        np.testing.assert_array_equal(found, rows)
        np.testing.assert_array_equal(scores, expected_scores)
    for got, barred, expected in zip(found.numpy(), outside, rows, strict=True):
        assert not set(got) & set(barred) - {-1}
        assert (got >= 0).sum() == (expected >= 0).sum()


def test_one_row_that_asks_for_too_much_leaves_the_others_to_the_index() -> None:
    """Of 6,000 candidates, one row excludes 5,000, and another asks for what does not exist."""
    candidates, queries = integer_vectors(6000, seed=1), integer_vectors(3, seed=2)
    exact, asked_for = ExactIndex(candidates), []
    excluded = [[7, 8, 9], list(range(5000)), []]
    within = np.ones((3, 6000), bool)
    within[2] = False

    def search(asked: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        asked_for.append((asked.shape[0], int(number)))
        return exact.search(asked, number)

    found, scores = search_allowed(
        search,
        exact,
        tf.constant(queries),
        tf.ragged.constant(excluded, tf.int32),
        tf.constant(20),
        tf.constant(within),
    )
    assert asked_for == [(3, 23)]
    products = queries.astype(np.int64) @ candidates.astype(np.int64).T
    for row, barred in enumerate(excluded[:2]):
        expected = [one for one in np.argsort(-products[row], kind="stable") if one not in set(barred)][:20]
        assert found[row].numpy().tolist() == expected
        np.testing.assert_array_equal(scores[row], products[row, expected])
    assert (found[2].numpy() == -1).all()
