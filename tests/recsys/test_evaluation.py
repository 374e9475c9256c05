"""Full-catalogue ranking against a full sort in NumPy."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from recsys.config import ModelConfig
from recsys.dataset import Dataset
from recsys.errors import RequestError
from recsys.evaluation import TwoTowerScorer, evaluate, evaluate_rankings, rank, summarize
from recsys.interactions import load_interactions
from recsys.queries import Queries, make_queries
from recsys.towers import build_towers

# More than two of the batches that `rank` makes.
NUM_QUERIES, NUM_ITEMS = 1100, 30

Floats = npt.NDArray[np.float32]
Scorer = Callable[[Queries, int, int], tf.Tensor]


def random_queries(max_seen: int = 12) -> Queries:
    """Each query has 0 … `max_seen` seen items (some of them twice) and one or two relevant unseen ones."""
    rng = np.random.default_rng(0)
    items: list[int] = []
    bounds: list[tuple[int, int]] = []
    relevant: list[tuple[int, int]] = []
    for query in range(NUM_QUERIES):
        seen = rng.integers(NUM_ITEMS - 2, size=rng.integers(max_seen + 1)).tolist()
        bounds.append((len(items), len(items) + len(seen)))
        items += seen
        fresh = np.setdiff1d(np.arange(NUM_ITEMS), seen)
        relevant += [(query, int(item)) for item in rng.choice(fresh, size=1 + query % 2, replace=False)]
    return Queries(
        user_row=np.arange(NUM_QUERIES, dtype=np.int32) % (NUM_QUERIES // 3),
        seen_start=np.array([start for start, _ in bounds]),
        seen_end=np.array([end for _, end in bounds]),
        relevant_query=np.array([query for query, _ in relevant]),
        relevant_item=np.array([item for _, item in relevant], np.int32),
        items=np.array(items, np.int32),
        num_items=NUM_ITEMS,
        num_repeats=0,
    )


def score_table() -> Floats:
    """Scores with many ties."""
    return np.random.default_rng(1).integers(6, size=(NUM_QUERIES, NUM_ITEMS)).astype(np.float32)


def from_table(table: Floats) -> Scorer:
    return lambda queries, start, stop: tf.constant(table[start:stop])


def full_sort(table: Floats, queries: Queries, k: int) -> list[list[int]]:
    ranked = []
    for query, scores in enumerate(table):
        seen = set(queries.items[queries.seen_start[query] : queries.seen_end[query]].tolist())
        order = sorted((item for item in range(NUM_ITEMS) if item not in seen), key=lambda item: (-scores[item], item))
        ranked.append((order + [-1] * k)[:k])
    return ranked


@pytest.mark.parametrize("k", [1, 7, NUM_ITEMS])
def test_ranking_is_a_full_sort_without_seen_items(k: int) -> None:
    """Ties stand by item row, and -1 fills up where items run out."""
    queries, table = random_queries(), score_table()
    expected = full_sort(table, queries, k)
    assert rank(from_table(table), queries, k).tolist() == expected
    assert any(-1 in row for row in expected) == (k == NUM_ITEMS)


def test_k_beyond_the_catalogue_is_refused() -> None:
    with pytest.raises(RequestError) as error:
        rank(from_table(score_table()), random_queries(), 31)
    assert str(error.value) == "k = 31 is larger than the catalogue: expected at most 30"


def test_metrics_match_brute_force() -> None:
    queries, table = random_queries(), score_table()
    outcome = evaluate(from_table(table), queries, ["recall@5", "ndcg@7", "recall@1"])
    ranked = full_sort(table, queries, 7)
    recall, ndcg, first = [], [], []
    for query in range(NUM_QUERIES):
        relevant = set(queries.relevant_item[queries.relevant_query == query].tolist())
        recall.append(len(relevant & set(ranked[query][:5])) / len(relevant))
        first.append(len(relevant & set(ranked[query][:1])) / len(relevant))
        gains = [1 / math.log2(position + 2) for position, item in enumerate(ranked[query]) if item in relevant]
        ndcg.append(sum(gains) / sum(1 / math.log2(position + 2) for position in range(len(relevant))))
    np.testing.assert_allclose(outcome.values, np.stack([recall, ndcg, first], axis=1))
    assert outcome.mean("ndcg@7") == pytest.approx(np.mean(ndcg))
    assert outcome.ranked.tolist() == ranked


def test_what_is_asked_several_times_is_ranked_once() -> None:
    """Three queries of a user at one moment, then the same user later, then somebody else at that place."""
    queries = Queries(
        user_row=np.array([4, 4, 4, 4, 5], np.int32),
        seen_start=np.array([0, 0, 0, 0, 0]),
        seen_end=np.array([1, 1, 1, 2, 2]),
        relevant_query=np.arange(5),
        relevant_item=np.array([2, 1, 3, 2, 3], np.int32),
        items=np.array([0, 1], np.int32),
        num_items=4,
        num_repeats=0,
    )
    asked = []

    def scorer(distinct: Queries, start: int, stop: int) -> tf.Tensor:
        asked.extend(zip(distinct.user_row[start:stop].tolist(), distinct.seen_end[start:stop].tolist(), strict=True))
        return tf.constant([[9.0, 1, 3, 2]] * (stop - start))

    outcome = evaluate(scorer, queries, ["mrr@3"])
    assert asked == [(4, 1), (4, 2), (5, 2)]
    assert outcome.ranked.tolist() == [[2, 3, 1], [2, 3, 1], [2, 3, 1], [2, 3, -1], [2, 3, -1]]
    assert outcome.values[:, 0].tolist() == [1, 1 / 3, 1 / 2, 1, 1 / 2]


def test_a_summary_has_means_intervals_and_what_is_recommended() -> None:
    queries, table = random_queries(), score_table()
    outcome = evaluate(from_table(table), queries, ["recall@5", "ndcg@7"])
    summary = summarize(outcome, queries, np.arange(NUM_ITEMS), seed=0)
    catalogue = {f"{name}@{k}" for name in ("coverage", "gini", "novelty", "popularity_lift") for k in (5, 7)}
    assert set(summary) == {"recall@5", "ndcg@7"} | catalogue
    for number, name in enumerate(["recall@5", "ndcg@7"]):
        row = summary[name]
        assert isinstance(row, dict)
        assert set(row) == {"mean", "low", "high"}
        assert row["mean"] == pytest.approx(outcome.values[:, number].mean())
        assert row["low"] < row["mean"] < row["high"]
    ranked = full_sort(table, queries, 5)
    assert summary["coverage@5"] == len({item for row in ranked for item in row}) / NUM_ITEMS
    bits = [math.log2(NUM_ITEMS * (NUM_ITEMS - 1) / 2 / max(item, 1)) for row in ranked for item in row]
    assert summary["novelty@5"] == pytest.approx(np.mean(bits))


def test_a_ranking_that_holds_an_item_twice_is_refused() -> None:
    queries = random_queries()
    ranked = np.tile(np.array([3, 1, 2, -1, -1], np.int32), (NUM_QUERIES, 1))
    assert evaluate_rankings(ranked, queries, ["recall@5"]).ranked is ranked
    ranked[77] = [5, 9, 5, 1, -1]
    with pytest.raises(RequestError) as error:
        evaluate_rankings(ranked, queries, ["recall@5"])
    assert str(error.value) == "the ranking of query 77 holds an item twice: expected each at most once"


def test_an_item_that_is_relevant_twice_is_refused() -> None:
    queries = random_queries()
    twice = replace(
        queries,
        relevant_query=np.append(queries.relevant_query, 400),
        relevant_item=np.append(queries.relevant_item, queries.relevant_item[queries.relevant_query == 400][:1]),
    )
    with pytest.raises(RequestError) as error:
        evaluate(from_table(score_table()), twice, ["recall@5"])
    assert str(error.value) == "query 400 has an item twice among the relevant ones: expected each once"


def test_scores_of_another_catalogue_are_refused() -> None:
    with pytest.raises(RequestError) as error:
        rank(from_table(score_table()[:, 1:]), random_queries(), 5)
    assert str(error.value) == (
        "the scores of queries 0 to 511 are of shape [512, 29]: expected [512, 30], one for each candidate of the "
        "catalogue"
    )


def test_scores_that_are_no_numbers_are_refused() -> None:
    table = score_table()
    table[700, 29] = np.nan  # never seen
    with pytest.raises(RequestError) as error:
        rank(from_table(table), random_queries(), 5)
    assert str(error.value) == "scores of queries 512 to 1023 are NaN: expected numbers; has training diverged?"


def test_candidates_with_one_embedding_are_told_apart() -> None:
    """By score alone, each of three equal candidates would be found at rank 1."""
    queries = Queries(
        user_row=np.arange(3, dtype=np.int32),
        seen_start=np.zeros(3, np.int64),
        seen_end=np.zeros(3, np.int64),
        relevant_query=np.arange(3),
        relevant_item=np.arange(3, dtype=np.int32),
        items=np.zeros(0, np.int32),
        num_items=3,
        num_repeats=0,
    )
    outcome = evaluate(from_table(np.ones((3, 3), np.float32)), queries, ["recall@1", "mrr@3"])
    assert outcome.values.tolist() == [[1, 1], [0, 1 / 2], [0, 1 / 3]]


def test_scoring_everything_alike_earns_no_more_than_chance(tiny_dataset: Dataset) -> None:
    """Popularity is skewed, so a catalogue in the order of anything popular would reward ties."""
    queries = make_queries(load_interactions(tiny_dataset), "test", "event")
    num_items = tiny_dataset.items.num_rows

    def constant(queries: Queries, start: int, stop: int) -> tf.Tensor:
        return tf.zeros([stop - start, num_items])

    def popularity(queries: Queries, start: int, stop: int) -> tf.Tensor:
        return tf.tile(tf.constant(tiny_dataset.train_counts, tf.float32)[tf.newaxis], [stop - start, 1])

    for k in (20, 60):
        chance = np.mean(k / (num_items - (queries.seen_end - queries.seen_start)))
        assert evaluate(constant, queries, [f"recall@{k}"]).mean(f"recall@{k}") == pytest.approx(chance, rel=0.35)
        assert evaluate(popularity, queries, [f"recall@{k}"]).mean(f"recall@{k}") > 1.5 * chance


def test_an_evaluation_without_queries_says_so(tiny_dataset: Dataset) -> None:
    queries = random_queries()
    with pytest.raises(RequestError) as error:
        evaluate(from_table(score_table()), queries.subset(np.zeros(NUM_QUERIES, bool)), ["recall@5"])
    assert str(error.value) == (
        "there is no query to rank for: expected a held-out item that its user had not taken before"
    )


def test_two_towers_score_by_dot_product(tiny_dataset: Dataset) -> None:
    towers = build_towers(tiny_dataset.schema, ModelConfig(embedding_dim=8))
    queries = make_queries(load_interactions(tiny_dataset), "test", "event")
    item_id = np.append(tiny_dataset.item_features["item_id"], 0)  # row -1 is padding
    query = {
        "user_id": tiny_dataset.user_features["user_id"][queries.user_row[5:25]],
        "history": item_id[queries.history(5, 25, tiny_dataset.schema.history_length)],
    }
    embedded = towers.embed_query({name: tf.constant(values) for name, values in query.items()}).numpy()
    candidates = towers.embed_candidate(dict(tiny_dataset.item_features)).numpy()
    scores = TwoTowerScorer(towers, tiny_dataset)(queries, 5, 25)
    np.testing.assert_allclose(scores, embedded @ candidates.T, atol=1e-5)
