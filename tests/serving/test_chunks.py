"""Answers chunk by chunk, against NumPy on the whole batch; borders fall anywhere, and a chunk is never too large."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from recsys.interactions import load_interactions
from recsys.run import Run
from serving import chunks
from serving.bundle import open_bundle
from serving.categories import Categories
from serving.exclusion import search_allowed
from serving.index import ExactIndex
from serving.popularity import RecentPopularity
from serving.recommender import Parts, Recommender
from serving.user_states import UserStates

DIM, NUM_CANDIDATES, BATCH, K = 8, 300, 8, 150
FLOAT32_MIN = np.float32(-3.4028234663852886e38)

Vectors = npt.NDArray[np.float32]


def integer_vectors(number: int, seed: int) -> Vectors:
    return np.random.default_rng(seed).integers(-1000, 1001, size=(number, DIM)).astype(np.float32)


def allow(monkeypatch: pytest.MonkeyPatch, rows: int, num_candidates: int) -> None:
    """Lets so many rows be compared with the catalogue at once: not one more fits."""
    monkeypatch.setattr(chunks, "_SCORES_AT_ONCE", (rows + 1) * num_candidates - 1)


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many queries were compared with the catalogue, call by call; of calls in a graph nothing is known."""
    numbers: list[int] = []
    scores = ExactIndex.scores

    def noted(index: ExactIndex, queries: tf.Tensor) -> tf.Tensor:
        numbers.append(queries.shape[0])
        return scores(index, queries)

    monkeypatch.setattr(ExactIndex, "scores", noted)
    return numbers


@pytest.mark.parametrize(
    ("rows", "sizes"), [(1, [1] * 8), (3, [3, 3, 2]), (4, [4, 4]), (7, [7, 1]), (8, [8]), (9, [8]), (0, [1] * 8)]
)
def test_exact_search_equals_a_numpy_sort(
    monkeypatch: pytest.MonkeyPatch, compared: list[int], rows: int, sizes: list[int]
) -> None:
    """A single row is compared as a whole, however many candidates there are."""
    allow(monkeypatch, rows, NUM_CANDIDATES)
    candidates, queries = integer_vectors(NUM_CANDIDATES, seed=1), integer_vectors(BATCH, seed=2)
    found, scores = ExactIndex(candidates).search(tf.constant(queries), tf.constant(K))
    products = queries @ candidates.T
    np.testing.assert_array_equal(found, np.argsort(-products, axis=1, kind="stable")[:, :K])
    np.testing.assert_array_equal(scores, -np.sort(-products, axis=1)[:, :K])
    assert compared == sizes


@pytest.mark.parametrize("rows", [1, 3, 4, 7, 8])
@pytest.mark.parametrize("share", [None, 0.1])
def test_what_an_index_does_not_find_is_searched_for_like_by_brute_force(
    monkeypatch: pytest.MonkeyPatch, compared: list[int], rows: int, share: float | None
) -> None:
    """Of an index that finds nothing at all; every row has exclusions and wishes of its own."""
    allow(monkeypatch, rows, NUM_CANDIDATES)
    candidates, queries = integer_vectors(NUM_CANDIDATES, seed=3), integer_vectors(BATCH, seed=4)
    rng = np.random.default_rng(5)
    excluded = [rng.permutation(NUM_CANDIDATES)[: 40 * number].tolist() for number in range(BATCH)]
    within = None if share is None else rng.random((BATCH, NUM_CANDIDATES)) < share
    exact = ExactIndex(candidates)

    def finds_nothing(asked: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        shape = [tf.shape(asked)[0], k]
        return tf.fill(shape, -1), tf.fill(shape, tf.float32.min)

    def search(asked: tf.Tensor, barred: tf.RaggedTensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        wishes = None if within is None else tf.constant(within)
        return search_allowed(finds_nothing, exact, asked, barred, k, wishes)

    asked = tf.constant(queries), tf.ragged.constant(excluded, tf.int32, ragged_rank=1), tf.constant(K)
    answers = [search(*asked)]
    assert compared == [rows] * (BATCH // rows) + [BATCH % rows] * (BATCH % rows > 0)
    vectors, ints = tf.TensorSpec([None, DIM]), tf.RaggedTensorSpec([None, None], tf.int32, ragged_rank=1)
    answers.append(tf.function(search, input_signature=[vectors, ints, tf.TensorSpec([], tf.int32)])(*asked))
    products = queries @ candidates.T
    for row, barred in enumerate(excluded):
        order = np.argsort(-products[row], kind="stable")
        best = [item for item in order if item not in barred and (within is None or within[row, item])][:K]
        for found, scores in answers:
            assert found[row].numpy().tolist() == best + [-1] * (K - len(best))
            np.testing.assert_array_equal(scores[row][: len(best)], products[row, best])
            assert (scores[row][len(best) :].numpy() == FLOAT32_MIN).all()


def test_an_empty_batch_has_no_rows_of_k() -> None:
    found, scores = ExactIndex(integer_vectors(NUM_CANDIDATES, seed=1)).search(tf.zeros([0, DIM]), tf.constant(7))
    assert found.shape == scores.shape == (0, 7)


@pytest.mark.parametrize("rows", [1, 4, 8])
def test_categories_are_marked_for_a_chunk_at_a_time(
    monkeypatch: pytest.MonkeyPatch, tiny_run: Run, tiny_models: Path, tmp_path: Path, rows: int
) -> None:
    """A row of each kind; what the bundle answers to the whole batch is compared with NumPy where it is tested."""
    dataset, marked, items = tiny_run.dataset, [], Categories.items
    allow(monkeypatch, rows, dataset.items.num_rows)

    def noted(categories: Categories, names: tf.Tensor) -> tf.Tensor:
        marked.append(names.shape[0])
        return items(categories, names)

    monkeypatch.setattr(Categories, "items", noted)
    interactions = load_interactions(dataset)
    exact = ExactIndex(tiny_run.towers.candidate(dataset.item_features).numpy())
    parts = Parts(
        tiny_run.towers, dataset, UserStates(interactions), RecentPopularity(interactions), Categories(dataset), exact
    )
    users = [*dataset.users["user"].to_pylist()[:6], "somebody new", "somebody else"]
    genres = [f"genres={genre}" for genre in dataset.vocabulary("genres")[:5]]
    nothing = tf.fill([BATCH, 0], "")
    asked = {
        "user_id": tf.constant(users),
        "history": nothing,
        "exclude": nothing,
        "categories": tf.constant([*genres, "", genres[0], "genres=nothing known"])[:, tf.newaxis],
        "k": tf.constant(K),
        "leaves": tf.constant(0),
        "reorder_factor": tf.constant(0.0),
    }
    answer = Recommender(parts, exact, tmp_path).recommend_with_options(**asked)
    assert marked == [rows] * (BATCH // rows)
    expected = open_bundle(tiny_models / "tiny").model.signatures["recommend_with_options"](**asked)
    assert answer.keys() == expected.keys()
    for name, values in answer.items():
        if name == "scores":
            np.testing.assert_allclose(values, expected[name], atol=1e-5)
        else:
            np.testing.assert_array_equal(values, expected[name])
    assert len(set(answer["num_items"].numpy().tolist())) > 4
