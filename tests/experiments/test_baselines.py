"""Baselines against counts by pandas and by hand."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import scipy.sparse as sp
import tensorflow as tf

from experiments.baselines import SETTINGS, learn_baselines, skipped_baselines
from experiments.baselines.als import ImplicitAls
from experiments.baselines.chance import RandomScorer
from experiments.baselines.ease import Ease
from experiments.baselines.fold_in import Floats, FoldInScorer
from experiments.baselines.item_knn import ItemKnn
from experiments.baselines.past import matrix_before
from experiments.baselines.popularity import popularity, recent_popularity
from experiments.evaluate import PROTOCOLS
from recsys.dataset import Dataset
from recsys.interactions import Interactions, load_interactions
from recsys.queries import Queries, make_queries

# By user and time. Train: items 0, 1, 1, 2; validation: 3, 3; test: 0.
BY_HAND = Interactions(
    user_row=np.array([0, 0, 0, 1, 1, 1, 1], np.int32),
    item_row=np.array([0, 1, 3, 1, 2, 3, 0], np.int32),
    timestamp=np.array([10, 40, 50, 20, 30, 60, 70], np.int64),
    split=np.array([0, 0, 1, 0, 0, 1, 2], np.int8),
    user_start=np.array([0, 3, 7], np.int64),
    num_items=5,
)


def queries_of(interactions: Interactions, split: str = "test") -> Queries:
    return make_queries(interactions, split, "event")


@pytest.fixture(scope="module")
def interactions(tiny_dataset: Dataset) -> Interactions:
    return load_interactions(tiny_dataset)


@pytest.fixture(scope="module")
def table(interactions: Interactions) -> pd.DataFrame:
    columns = {name: getattr(interactions, name) for name in ("user_row", "item_row", "timestamp", "split")}
    return pd.DataFrame(columns)


@pytest.mark.parametrize(("split", "counts"), [("validation", [1, 2, 1, 0, 0]), ("test", [1, 2, 1, 2, 0])])
def test_popularity_counts_what_came_before_the_split(split: str, counts: list[int]) -> None:
    scores = popularity(BY_HAND, split)(queries_of(BY_HAND), 0, 1)
    assert scores.numpy().tolist() == [counts]


@pytest.mark.parametrize(
    ("split", "fraction", "counts"),
    [
        ("validation", 0.5, [0, 1, 1, 0, 0]),  # of 10, 20, 30, 40 the last two: item 2 at 30, item 1 at 40
        ("test", 0.5, [0, 1, 0, 2, 0]),  # and of six the last three
        ("test", 0.01, [0, 0, 0, 1, 0]),  # one at least
        ("test", 1.0, [1, 2, 1, 2, 0]),
    ],
)
def test_recent_popularity_counts_the_latest_of_it(split: str, fraction: float, counts: list[int]) -> None:
    scores = recent_popularity(BY_HAND, split, fraction)(queries_of(BY_HAND), 0, 1)
    assert scores.numpy().tolist() == [counts]


@pytest.mark.parametrize(("split", "before"), [("validation", 1), ("test", 2)])
def test_popularity_equals_pandas(interactions: Interactions, table: pd.DataFrame, split: str, before: int) -> None:
    counts = table[table["split"] < before].groupby("item_row").size()
    expected = counts.reindex(range(interactions.num_items), fill_value=0).to_numpy()
    scores = popularity(interactions, split)(queries_of(interactions), 3, 8).numpy()
    np.testing.assert_array_equal(scores, np.tile(expected, (5, 1)))


def test_recent_popularity_equals_pandas(interactions: Interactions, table: pd.DataFrame) -> None:
    earlier = table[table["split"] < 2].sort_values("timestamp", kind="stable")
    counts = earlier.tail(round(0.2 * len(earlier))).groupby("item_row").size()
    expected = counts.reindex(range(interactions.num_items), fill_value=0).to_numpy()
    scores = recent_popularity(interactions, "test")(queries_of(interactions), 0, 1).numpy()
    np.testing.assert_array_equal(scores[0], expected)


def test_random_scores_are_even_and_the_same_for_one_seed(interactions: Interactions) -> None:
    queries = queries_of(interactions)
    scores = RandomScorer(3)(queries, 0, 200).numpy()
    assert scores.shape == (200, 293)
    np.testing.assert_array_equal(RandomScorer(3)(queries, 0, 200), scores)
    assert np.abs(RandomScorer(4)(queries, 0, 200).numpy() - scores).max() > 0.5
    assert np.abs(RandomScorer(3)(queries, 200, 400).numpy() - scores).max() > 0.5
    best = np.bincount(scores.argmax(axis=1), minlength=293)
    assert best.max() <= 6  # 200 draws from 293


def random_taken() -> npt.NDArray[np.float32]:
    """[80, 30] ones, items of very different popularity; nobody took item 7."""
    rng = np.random.default_rng(5)
    taken = (rng.random((80, 30)) < np.linspace(0.05, 0.6, 30)).astype(np.float32)
    taken[:, 7] = 0
    return taken


def random_seen() -> npt.NDArray[np.float32]:
    return (np.random.default_rng(6).random((11, 30)) < 0.2).astype(np.float32)


def test_item_knn_sums_similarities_of_nearest_items() -> None:
    taken, seen, neighbours, shrink = random_taken(), random_seen(), 4, 3.0
    expected = np.zeros((11, 30))
    for candidate in range(30):
        mine = set(np.flatnonzero(taken[:, candidate]))
        similarities = []
        for other in range(30):
            users = set(np.flatnonzero(taken[:, other]))
            common = len(mine & users)
            if other != candidate and common:
                similarities.append((-common / (np.sqrt(len(mine) * len(users)) + shrink), other))
        for negative, other in sorted(similarities)[:neighbours]:
            expected[:, candidate] -= negative * seen[:, other]
    scores = ItemKnn(sp.csr_array(taken), neighbours, shrink)(sp.csr_array(seen))
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert scores[:, 7].tolist() == [0] * 11


def test_item_knn_finds_neighbours_beyond_its_block_of_items() -> None:
    """2,500 items in pairs that the same two users took, 1,250 rows apart."""
    users = np.repeat(np.arange(2500), 2)
    items = np.stack([np.arange(2500), (np.arange(2500) + 1250) % 2500], axis=1).ravel()
    taken = sp.csr_array((np.ones(5000, np.float32), (users, items)))
    seen = sp.csr_array((np.ones(3, np.float32), ([0, 1, 2], [3, 1249, 2400])), shape=(3, 2500))
    assert ItemKnn(taken, 10, 0)(seen).argmax(axis=1).tolist() == [1253, 2499, 1150]


def test_ease_minimizes_its_loss_under_a_zero_diagonal() -> None:
    """Column by column: ridge regression of an item on all others, by least squares in double precision."""
    taken, seen, l2 = random_taken().astype(np.float64), random_seen(), 7.0
    weights = np.zeros((30, 30))
    for item in range(30):
        others = np.delete(np.arange(30), item)
        rows = np.concatenate([taken[:, others], np.sqrt(l2) * np.eye(29)])
        weights[others, item] = np.linalg.lstsq(rows, np.append(taken[:, item], np.zeros(29)), rcond=None)[0]
    scores = Ease(sp.csr_array(taken.astype(np.float32)), l2)(sp.csr_array(seen))
    np.testing.assert_allclose(scores, seen @ weights, atol=1e-4)


def test_als_folds_in_by_the_regularized_least_squares_solution() -> None:
    """A query's embedding solves (YᵀCY + reg I) x = YᵀC p, with confidence alpha in what was seen and 1 elsewhere."""
    pytest.importorskip("implicit", reason="implicit is in the extra bench")
    seen, alpha, regularization = random_seen(), 5.0, 2.0
    model = ImplicitAls(sp.csr_array(random_taken()), 6, regularization, alpha, iterations=3, seed=0)
    items = model.item_embeddings.astype(np.float64)
    expected = []
    for row in seen:
        confidence = np.where(row > 0, alpha, 1)
        gram = items.T @ (confidence[:, None] * items) + regularization * np.eye(6)
        expected.append(items @ np.linalg.solve(gram, items.T @ (confidence * row)))
    np.testing.assert_allclose(model(sp.csr_array(seen)), expected, atol=1e-3)


def test_the_past_is_a_matrix_of_ones() -> None:
    assert matrix_before(BY_HAND, "validation").toarray().tolist() == [[1, 1, 0, 0, 0], [0, 1, 1, 0, 0]]
    assert matrix_before(BY_HAND, "test").toarray().tolist() == [[1, 1, 0, 1, 0], [0, 1, 1, 1, 0]]


# Query 0 saw the items 2, 0 and 2 again; query 1 nothing; query 2 only 4.
FEW = Queries(
    user_row=np.arange(3, dtype=np.int32),
    seen_start=np.array([0, 3, 3]),
    seen_end=np.array([3, 3, 4]),
    relevant_query=np.arange(3),
    relevant_item=np.array([1, 1, 1], np.int32),
    items=np.array([2, 0, 2, 4], np.int32),
    num_items=5,
    num_repeats=0,
)


def ten_times_seen_but_for_item_4(seen: sp.csr_array) -> Floats:
    return np.asarray(seen.toarray() * [10, 10, 10, 10, 0], np.float32)


@pytest.mark.parametrize(
    ("latest", "first"), [(None, [10, 0, 10, 0, 0]), (2, [10, 0, 10, 0, 0]), (1, [0, 0, 10, 0, 0])]
)
def test_the_latest_items_are_folded_in_and_silence_is_answered_otherwise(
    latest: int | None, first: list[float]
) -> None:
    def otherwise(queries: Queries, start: int, stop: int) -> tf.Tensor:
        return tf.ones([stop - start, 5]) * tf.range(start, stop, dtype=tf.float32)[:, tf.newaxis]

    scorer = FoldInScorer(ten_times_seen_but_for_item_4, latest, otherwise)
    assert scorer(FEW, 0, 3).numpy().tolist() == [first, [1] * 5, [2] * 5]
    assert scorer(FEW, 0, 1).numpy().tolist() == [first]


def test_baselines_are_shown_as_many_items_as_their_protocol_asks_for(interactions: Interactions) -> None:
    baselines = learn_baselines(interactions, "test", seed=0)
    queries = queries_of(interactions)
    length = queries.seen_end - queries.seen_start
    long = int(length.argmax())
    assert length[long] > 20
    for protocol in PROTOCOLS:
        scorers = baselines.scorers(protocol)
        assert list(scorers)[-3:] == ["recent popularity", "popularity", "random"]
        for name, model in baselines.models.items():
            latest = SETTINGS[name].latest[protocol]
            seen = np.zeros((1, interactions.num_items), np.float32)
            seen[0, queries.items[queries.seen_start[long] : queries.seen_end[long]][-latest:]] = 1
            np.testing.assert_allclose(scorers[name](queries, long, long + 1), model(sp.csr_array(seen)), atol=1e-6)
    assert all(setting.latest["event"] < setting.latest["user"] for setting in SETTINGS.values())


def test_what_cannot_be_had_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.baselines.find_spec", lambda name: None)
    als = {"implicit ALS": "the package implicit is missing: pip install 'recsys[bench]'"}
    assert skipped_baselines(20_000) == als
    ease = "it inverts a matrix of 20,001 × 20,001: expected at most 20,000 items"
    assert skipped_baselines(20_001) == {"EASE^R": ease} | als
    monkeypatch.setattr("experiments.baselines.find_spec", lambda name: object())
    assert skipped_baselines(20_000) == {}
