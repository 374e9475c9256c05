"""Ranking metrics of each query, from which of its first candidates are relevant."""

import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from recsys.errors import ConfigError

Floats = npt.NDArray[np.float64]
Hits = npt.NDArray[np.bool_]
Int64s = npt.NDArray[np.int64]


def recall(hits: Hits, num_relevant: Int64s) -> Floats:
    """The share of relevant candidates that are among the first k.

    Args:
      hits: [num_queries, k] bool; whether the candidate at each rank, best first, is relevant.
      num_relevant: [num_queries] int64, at least 1 each.

    Returns:
      [num_queries] float64, as all functions here.
    """
    return np.asarray(hits.sum(axis=1) / num_relevant)


def hit_rate(hits: Hits, num_relevant: Int64s) -> Floats:
    """1 when a relevant candidate is among the first k, else 0."""
    del num_relevant
    return np.asarray(hits.any(axis=1), dtype=np.float64)


def mrr(hits: Hits, num_relevant: Int64s) -> Floats:
    """1 / rank of the first relevant candidate; 0 when none is among the first k."""
    del num_relevant
    return np.where(hits.any(axis=1), 1 / (1 + hits.argmax(axis=1)), 0.0)


def ndcg(hits: Hits, num_relevant: Int64s) -> Floats:
    """Discounted gain, 1 / log2(1 + rank) per relevant candidate, divided by the best that is possible in k ranks.

    Source: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002, with binary gains.
    """
    k = hits.shape[1]
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discount)[np.minimum(num_relevant, k) - 1]
    return np.asarray((hits * discount).sum(axis=1) / ideal)


def precision(hits: Hits, num_relevant: Int64s) -> Floats:
    """The share of the first k places that hold a relevant candidate; places that stay empty count too."""
    del num_relevant
    return np.asarray(hits.mean(axis=1))


def average_precision(hits: Hits, num_relevant: Int64s) -> Floats:
    """Σ precision@rank over the ranks ≤ k of relevant candidates, divided by the number of relevant candidates.

    Its mean over queries is MAP. The divisor is not cut at k, so with more than k relevant candidates it stays below 1.
    Source: Buckley and Voorhees, "Evaluating evaluation measure stability", 2000; `map_cut` of trec_eval.
    """
    precision_at_rank = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return np.asarray((hits * precision_at_rank).sum(axis=1) / num_relevant)


_METRICS: dict[str, Callable[[Hits, Int64s], Floats]] = {
    "recall": recall,
    "ndcg": ndcg,
    "hit_rate": hit_rate,
    "mrr": mrr,
    "map": average_precision,
    "precision": precision,
}
NAMES = tuple(_METRICS)


def split_name(name: str) -> tuple[str, int]:
    """Reads `recall@20` as its parts.

    Raises:
      ConfigError: the name has another form or the metric is unknown.
    """
    match = re.fullmatch(r"(\w+)@([1-9]\d*)", name)
    if match is None or match[1] not in _METRICS:
        raise ConfigError(f"metric {name!r}: expected one of {', '.join(NAMES)}, then @k, for example recall@20")
    return match[1], int(match[2])


def per_query(name: str, hits: Hits, num_relevant: Int64s) -> Floats:
    """Computes the metric `name`, for example `recall@20`, of each query; `hits` has at least that many ranks."""
    metric, k = split_name(name)
    return _METRICS[metric](hits[:, :k], num_relevant)


def bootstrap_interval(
    values: Floats, clusters: npt.NDArray[np.int32], seed: int, resamples: int = 1000
) -> tuple[Floats, Floats]:
    """The 95 % percentile bootstrap interval of means, drawing whole clusters: a user's queries are not independent.

    Args:
      values: [num_queries, num_metrics] float64.
      clusters: [num_queries] int32; the user of each query.
      seed: of the draws.
      resamples: draws.

    Returns:
      Lower and upper bounds, [num_metrics] float64 each.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13; of clusters, Davison and
    Hinkley, "Bootstrap Methods and their Application", 1997.
    """
    rng = np.random.default_rng(seed)
    _, cluster = np.unique(clusters, return_inverse=True)
    sizes = np.bincount(cluster)
    sums = np.stack([np.bincount(cluster, weights=column) for column in values.T], axis=1)
    even = np.full(len(sizes), 1 / len(sizes))
    draws = (rng.multinomial(len(sizes), even) for _ in range(resamples))
    means = np.stack([(times @ sums) / (times @ sizes) for times in draws])
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return low, high
