"""Metrics against numbers worked out by hand."""

import math

import numpy as np
import pytest

from recsys import metrics
from recsys.errors import ConfigError

# Query 0 finds two of its three relevant items, at ranks 1 and 3; query 1 finds nothing.
HITS = np.array([[True, False, True, False], [False, False, False, False]])
NUM_RELEVANT = np.array([3, 1])


def test_recall_is_the_found_share() -> None:
    np.testing.assert_allclose(metrics.per_query("recall@4", HITS, NUM_RELEVANT), [2 / 3, 0])


def test_hit_rate_counts_queries_with_a_hit() -> None:
    np.testing.assert_allclose(metrics.per_query("hit_rate@4", HITS, NUM_RELEVANT), [1, 0])


def test_mrr_is_the_inverse_rank_of_the_first_hit() -> None:
    later = np.array([[False, False, True, True]])
    np.testing.assert_allclose(metrics.per_query("mrr@4", later, np.array([2])), [1 / 3])


def test_ndcg_divides_by_the_ideal_order() -> None:
    gained = 1 / math.log2(2) + 1 / math.log2(4)
    ideal = 1 / math.log2(2) + 1 / math.log2(3) + 1 / math.log2(4)
    np.testing.assert_allclose(metrics.per_query("ndcg@4", HITS, NUM_RELEVANT), [gained / ideal, 0])


def test_ndcg_is_one_when_more_are_relevant_than_ranks_exist() -> None:
    np.testing.assert_allclose(metrics.per_query("ndcg@2", np.array([[True, True]]), np.array([9])), [1])


def test_only_the_first_k_ranks_count() -> None:
    np.testing.assert_allclose(metrics.per_query("recall@2", HITS, NUM_RELEVANT), [1 / 3, 0])


def test_precision_counts_empty_places_too() -> None:
    np.testing.assert_allclose(metrics.per_query("precision@4", HITS, NUM_RELEVANT), [2 / 4, 0])


def test_map_averages_precision_over_all_relevant() -> None:
    """Precision 1/1 and 2/3 at the hits, of three relevant ones."""
    np.testing.assert_allclose(metrics.per_query("map@4", HITS, NUM_RELEVANT), [(1 + 2 / 3) / 3, 0])


def test_map_is_cut_at_k_but_its_divisor_is_not() -> None:
    np.testing.assert_allclose(metrics.per_query("map@2", np.array([[True, True]]), np.array([9])), [2 / 9])


@pytest.mark.parametrize("name", ["recall", "recall@0", "auc@10", "ndcg@x"])
def test_an_unknown_metric_is_refused(name: str) -> None:
    with pytest.raises(ConfigError) as error:
        metrics.split_name(name)
    known = "recall, ndcg, hit_rate, mrr, map, precision"
    assert str(error.value) == f"metric {name!r}: expected one of {known}, then @k, for example recall@20"


def test_bootstrap_of_one_value_per_cluster_matches_the_normal_approximation() -> None:
    values = np.random.default_rng(0).normal(size=(400, 1))
    low, high = metrics.bootstrap_interval(values, np.arange(400, dtype=np.int32), seed=0)
    expected = 2 * 1.96 * values.std() / math.sqrt(400)
    assert high[0] - low[0] == pytest.approx(expected, rel=0.1)


def test_bootstrap_draws_users_not_queries() -> None:
    """Ten users whose 40 queries each agree are ten observations, not 400."""
    users = np.repeat(np.arange(10), 40).astype(np.int32)
    values = np.random.default_rng(0).normal(size=10)[users][:, None]
    low, high = metrics.bootstrap_interval(values, users, seed=0)
    low_if_independent, high_if_independent = metrics.bootstrap_interval(values, np.arange(400, dtype=np.int32), seed=0)
    assert (high - low)[0] > 4 * (high_if_independent - low_if_independent)[0]
