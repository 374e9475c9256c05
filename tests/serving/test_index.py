"""One suite for every index, against a NumPy sort; then what is ScaNN's own.

Vectors of small integers have dot products that float32 holds exactly, so ids are compared without tolerance.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from partitioned import partitioned

from serving import chunks
from serving.index import Effort, ExactIndex, Index, ReorderDtype, ScannIndex

DIM = 16
FLOAT32_MIN = -3.4028234663852886e38

Vectors = npt.NDArray[np.float32]


def integer_vectors(number: int, seed: int, largest: int = 900) -> Vectors:
    drawn = np.random.default_rng(seed).integers(-largest, largest + 1, size=(number, DIM))
    return drawn.astype(np.float32)


def build(kind: str, candidates: Vectors) -> Index:
    if kind == "exact":
        return ExactIndex(candidates)
    if kind == "scann brute force":
        return ScannIndex(ExactIndex(candidates))
    return partitioned(candidates, 1.0, len(candidates))


def numpy_search(candidates: Vectors, queries: Vectors, k: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    products = queries.astype(np.int64) @ candidates.astype(np.int64).T
    rows = np.argsort(-products, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(products, rows, axis=1)


def all_but_one(candidates: Vectors, k: int) -> float:
    """The `reorder_factor` of a search that is nearly exhaustive, and so by partitions and codes all the same."""
    return (len(candidates) - 1.5) / k


def assert_finds(index: Index, candidates: Vectors, queries: Vectors, k: int, reorder_factor: float = 0) -> None:
    rows, scores = index.search(tf.constant(queries), tf.constant(k), 0, reorder_factor)
    expected_rows, expected_scores = numpy_search(candidates, queries, k)
    assert (rows.dtype, scores.dtype) == (tf.int32, tf.float32)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(scores, expected_scores)


class Searcher(tf.Module):
    def __init__(self, index: Index) -> None:
        super().__init__()
        self.index = index

    @tf.function(input_signature=[tf.TensorSpec([None, DIM]), tf.TensorSpec([], tf.int32)])
    def search(self, queries: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self.index.search(queries, k)


@pytest.mark.parametrize("num_candidates", [1, 10, 50, 300, 5000])
@pytest.mark.parametrize("kind", ["exact", "scann", "scann brute force"])
def test_search_equals_a_numpy_sort(kind: str, num_candidates: int) -> None:
    candidates = integer_vectors(num_candidates, seed=num_candidates)
    index = build(kind, candidates)
    assert index.num_candidates == num_candidates
    for k in sorted({1, min(7, num_candidates), min(100, num_candidates), num_candidates}):
        for batch in (1, 64):
            assert_finds(index, candidates, integer_vectors(batch, seed=k), k)
            if 3 * k <= num_candidates:
                assert_finds(index, candidates, integer_vectors(batch, seed=k), k, all_but_one(candidates, k))


@pytest.mark.parametrize("seed", range(5))
def test_scann_of_all_leaves_equals_a_numpy_sort_on_random_catalogues(seed: int) -> None:
    rng = np.random.default_rng(seed)
    candidates, k = integer_vectors(int(rng.integers(60, 2000)), seed), int(rng.integers(2, 17))
    index, queries = build("scann", candidates), integer_vectors(16, seed + 99)
    for reorder_factor in (0, all_but_one(candidates, k)):
        assert_finds(index, candidates, queries, k, reorder_factor)


@pytest.mark.parametrize("k", [1, 2, 7, 30])
def test_equal_scores_that_partitions_find_are_ordered_by_row(k: int) -> None:
    """Of those that are tied for the last place, any may be found."""
    candidates, queries = integer_vectors(60, seed=1, largest=1), integer_vectors(64, seed=2, largest=1)
    index = build("scann", candidates)
    expected_rows, expected_scores = numpy_search(candidates, queries, k)
    found = index.search(tf.constant(queries), tf.constant(k), 0, all_but_one(candidates, k))
    rows, scores = (answer.numpy() for answer in found)
    np.testing.assert_array_equal(scores, expected_scores)
    np.testing.assert_array_equal(np.take_along_axis(queries @ candidates.T, rows, axis=1), scores)
    is_surely_found = expected_scores > expected_scores[:, -1:]
    np.testing.assert_array_equal(rows[is_surely_found], expected_rows[is_surely_found])
    assert (np.diff(rows, axis=1)[np.diff(scores, axis=1) == 0] > 0).all()


@pytest.mark.parametrize("k", [1, 2, 7, 60])
@pytest.mark.parametrize("kind", ["exact", "scann", "scann brute force"])
def test_equal_vectors_are_ordered_by_row(kind: str, k: int) -> None:
    half = integer_vectors(30, seed=1)
    candidates = np.concatenate([half, half])
    assert_finds(build(kind, candidates), candidates, integer_vectors(64, seed=2), k)


@pytest.mark.parametrize("k", [1, 2, 7, 60])
@pytest.mark.parametrize("kind", ["exact", "scann", "scann brute force"])
def test_equal_scores_are_ordered_by_row(kind: str, k: int) -> None:
    """Of -1, 0 and 1 only: nearly every score is shared by several candidates, also the last one that is returned."""
    candidates = integer_vectors(60, seed=1, largest=1)
    assert_finds(build(kind, candidates), candidates, integer_vectors(64, seed=2, largest=1), k)


@pytest.mark.parametrize("kind", ["exact", "scann", "scann brute force"])
def test_search_is_the_same_in_a_graph_and_after_save_and_load(kind: str, tmp_path: Path) -> None:
    candidates = integer_vectors(200, seed=3)
    module = Searcher(build(kind, candidates))
    tf.saved_model.save(module, str(tmp_path), options=tf.saved_model.SaveOptions(namespace_whitelist=["Scann"]))
    loaded = tf.saved_model.load(str(tmp_path))
    for k, batch in [(1, 64), (9, 1), (200, 5)]:
        queries = integer_vectors(batch, seed=k)
        expected_rows, expected_scores = numpy_search(candidates, queries, k)
        for answers in (module, loaded):
            rows, scores = answers.search(tf.constant(queries), tf.constant(k))
            np.testing.assert_array_equal(rows, expected_rows)
            np.testing.assert_array_equal(scores, expected_scores)


def clustered(number: int, dim: int, seed: int) -> Vectors:
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(7).normal(size=(100, dim))
    vectors = centers[rng.integers(100, size=number)] + 0.5 * rng.normal(size=(number, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def numpy_recall(candidates: Vectors, queries: Vectors, found: npt.NDArray[np.int32]) -> float:
    k = found.shape[1]
    best = np.argpartition(-(queries @ candidates.T), k - 1, axis=1)[:, :k]
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(best, found, strict=True)]))


def test_where_fewer_than_k_are_found_minus_one_fills_up() -> None:
    candidates, queries = clustered(1000, DIM, seed=0), clustered(20, DIM, seed=1)
    index = partitioned(candidates, 0.05, 2)
    rows, scores = (answer.numpy() for answer in index.search(tf.constant(queries), tf.constant(500)))
    missing = rows == -1
    assert rows.shape == scores.shape == (20, 500)
    assert missing.any(axis=1).all()
    assert (scores[missing] == np.float32(FLOAT32_MIN)).all()
    for query, found_rows, found_scores in zip(queries, rows, scores, strict=True):
        found = found_rows[found_rows >= 0]
        assert 0 < len(found) == len(set(found))
        np.testing.assert_allclose(found_scores[: len(found)], candidates[found] @ query, atol=1e-5)
        assert (np.diff(found_scores) <= 0).all()


def num_found(fraction_of_leaves: float, leaves_per_sqrt_item: float = 1.0) -> float:
    """How many of 1000 candidates are reached at all: the size of the searched leaves."""
    index = partitioned(clustered(1000, DIM, seed=0), fraction_of_leaves, 10, leaves_per_sqrt_item)
    rows, _ = index.search(tf.constant(clustered(50, DIM, seed=1)), tf.constant(1000))
    return float((rows.numpy() >= 0).sum(axis=1).mean())


def test_a_larger_fraction_of_leaves_reaches_more_candidates() -> None:
    few, many, all_of_them = (num_found(fraction) for fraction in (0.1, 0.4, 1.0))
    assert few < many < all_of_them == 1000


def test_more_leaves_are_smaller_leaves() -> None:
    coarse, fine = (num_found(0.001, leaves_per_sqrt_item=number) for number in (0.25, 3.0))
    assert fine < coarse / 3


def test_reordering_more_candidates_finds_more_of_the_best() -> None:
    candidates, queries = clustered(2000, 32, seed=0), clustered(200, 32, seed=1)
    found = [partitioned(candidates, 1.0, f).search(tf.constant(queries), tf.constant(10))[0].numpy() for f in (1, 20)]
    little, much = (numpy_recall(candidates, queries, rows) for rows in found)
    assert little + 0.02 < much
    assert much > 0.999


def test_an_effort_of_a_search_replaces_that_of_the_index() -> None:
    candidates, queries = clustered(3000, DIM, seed=0), clustered(30, DIM, seed=1)
    little, much = partitioned(candidates, 0.01, 1), partitioned(candidates, 1.0, 3000)
    asked, k = tf.constant(queries), tf.constant(20)
    expected = much.search(asked, k)[0].numpy()
    assert (little.search(asked, k)[0].numpy() != expected).any()
    for leaves in (little.num_leaves, 10**6):
        np.testing.assert_array_equal(little.search(asked, k, leaves, 3000)[0], expected)
    np.testing.assert_array_equal(little.search(asked, k, 0, 0)[0], little.search(asked, k)[0])


# Per candidate: what is saved and what ScaNN makes of it, each with numbers of 4 or 1 bytes for 16 dimensions. Those of
# 2 bytes are not saved, and neither is an order of the candidates.
@pytest.mark.parametrize(
    ("reorder_dtype", "saved_bytes"), [("bfloat16", 2 * 4 * DIM - 2 * DIM + 4), ("int8", 2 * 3 * DIM)]
)
def test_an_index_of_narrow_numbers_is_smaller_and_its_scores_are_exact(
    reorder_dtype: ReorderDtype, saved_bytes: int, tmp_path: Path
) -> None:
    candidates, queries = clustered(3000, DIM, seed=0), clustered(30, DIM, seed=1)
    exact = ExactIndex(candidates)
    wide, narrow = ScannIndex(exact, 50), ScannIndex(exact, 50, reorder_dtype)
    assert wide.bytes_per_item - narrow.bytes_per_item == pytest.approx(saved_bytes, abs=0.1)
    narrow.effort = Effort(40, 2, 100)
    module = Searcher(narrow)
    tf.saved_model.save(module, str(tmp_path), options=tf.saved_model.SaveOptions(namespace_whitelist=["Scann"]))
    for answers in (module, tf.saved_model.load(str(tmp_path))):
        rows, scores = (answer.numpy() for answer in answers.search(tf.constant(queries), tf.constant(20)))
        products = np.take_along_axis(queries @ candidates.T, rows, axis=1)
        np.testing.assert_allclose(scores, products, atol=1e-6)
        assert (np.diff(scores) <= 0).all()
        assert numpy_recall(candidates, queries, rows) > 0.95


def test_scores_of_narrow_numbers_are_made_exact_a_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    candidates, queries = clustered(3000, DIM, seed=0), clustered(30, DIM, seed=1)
    index = ScannIndex(ExactIndex(candidates), 50, "int8")
    index.effort = Effort(40, 2, 100)
    at_once = [answer.numpy() for answer in index.search(tf.constant(queries), tf.constant(20))]
    monkeypatch.setattr(chunks, "_SCORES_AT_ONCE", 7 * 20 * DIM)  # of seven queries
    for whole, in_parts in zip(at_once, index.search(tf.constant(queries), tf.constant(20)), strict=True):
        np.testing.assert_array_equal(in_parts, whole)
