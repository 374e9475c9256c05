"""Exact evaluation: every query against the whole catalogue, ids compared, ties broken by item row.

Item rows stand in the order of a hash of the item's id, so that a model which scores all candidates alike gets about
k / num_items instead of the credit of whatever the catalogue is sorted by.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from recsys import metrics
from recsys.dataset import Dataset
from recsys.errors import RequestError
from recsys.feature_tables import FeatureTables
from recsys.queries import Queries
from recsys.towers import Towers

_QUERIES_PER_BATCH = 512
_CANDIDATES_PER_BATCH = 4096


class Scorer(Protocol):
    """Whatever gives every candidate a score for every query."""

    def __call__(self, queries: Queries, start: int, stop: int) -> tf.Tensor:
        """Returns [stop - start, num_items] float32 for queries `start` … `stop - 1`; more is better."""


class TwoTowerScorer:
    """Dot products of query and candidate embeddings.

    Attributes:
      candidates: [num_items, embedding_dim] float32, the catalogue's embeddings as of the latest `refresh`.
    """

    def __init__(self, towers: Towers, dataset: Dataset) -> None:
        """Embeds the catalogue once."""
        self._tables = FeatureTables(dataset)
        self._history_length = towers.history_length
        self._num_items = dataset.items.num_rows
        self._embed_query = tf.function(towers.embed_query, reduce_retracing=True)
        self._embed_candidate = tf.function(towers.embed_candidate, reduce_retracing=True)
        self.refresh()

    def refresh(self) -> None:
        """Embeds the catalogue with the towers' present weights, in batches."""
        rows = np.arange(self._num_items, dtype=np.int32)
        batches = np.split(rows, range(_CANDIDATES_PER_BATCH, self._num_items, _CANDIDATES_PER_BATCH))
        embedded = [self._embed_candidate(self._tables.candidate(tf.constant(batch))) for batch in batches]
        self.candidates = tf.concat(embedded, axis=0)

    def __call__(self, queries: Queries, start: int, stop: int) -> tf.Tensor:
        """Returns [stop - start, num_items] float32."""
        return tf.matmul(self.embed(queries, start, stop), self.candidates, transpose_b=True)

    def embed(self, queries: Queries, start: int, stop: int) -> tf.Tensor:
        """Returns the embeddings of queries `start` … `stop - 1`, [stop - start, embedding_dim] float32."""
        history = queries.history(start, stop, self._history_length)
        return self._embed_query(self._tables.query(tf.constant(queries.user_row[start:stop]), tf.constant(history)))


def rank(scorer: Scorer, queries: Queries, k: int) -> npt.NDArray[np.int32]:
    """Returns each query's best unseen candidates, [num_queries, k] int32 item rows, best first.

    Where fewer than `k` unseen candidates exist, -1 fills up.

    Raises:
      RequestError: there are no queries, or `k` is beyond the catalogue.
    """
    require_rankable(queries, k)
    ranked = [
        _best_unseen(
            scorer(queries, start, min(start + _QUERIES_PER_BATCH, len(queries))),
            tf.constant(queries.seen_pairs(start, min(start + _QUERIES_PER_BATCH, len(queries)))),
            k,
        ).numpy()
        for start in range(0, len(queries), _QUERIES_PER_BATCH)
    ]
    return np.concatenate(ranked)


def require_rankable(queries: Queries, k: int) -> None:
    """Raises `RequestError` when there are no queries, or `k` is beyond the catalogue."""
    if not len(queries):
        raise RequestError("there is no query to rank for: expected a held-out item that its user had not taken before")
    if k > queries.num_items:
        raise RequestError(f"k = {k} is larger than the catalogue: expected at most {queries.num_items}")


@tf.function(reduce_retracing=True)
def _best_unseen(scores: tf.Tensor, seen: tf.Tensor, k: int) -> tf.Tensor:
    never = tf.fill([tf.shape(seen)[0]], -float("inf"))
    best = tf.math.top_k(tf.tensor_scatter_nd_update(scores, seen, never), k)
    return tf.where(tf.math.is_inf(best.values), -1, best.indices)


@dataclass(frozen=True)
class Outcome:
    """What one scorer reached on one set of queries.

    Attributes:
      names: of the metrics.
      values: [num_queries, num_metrics] float64, one row per query.
      coverage: by k, the share of the catalogue that was recommended to anybody.
    """

    names: tuple[str, ...]
    values: npt.NDArray[np.float64]
    coverage: dict[int, float]

    def mean(self, name: str) -> float:
        """The mean of a metric over queries."""
        return float(self.values[:, self.names.index(name)].mean())


def evaluate(scorer: Scorer, queries: Queries, names: Sequence[str]) -> Outcome:
    """Ranks the catalogue for every query and computes the named metrics, for example `recall@20`."""
    depths = sorted({metrics.split_name(name)[1] for name in names})
    ranked = rank(scorer, queries, depths[-1])
    hits = _hits(ranked, queries)
    num_relevant = queries.num_relevant
    values = np.stack([metrics.per_query(name, hits, num_relevant) for name in names], axis=1)
    covered = {k: metrics.coverage(ranked[:, :k], queries.num_items) for k in depths}
    return Outcome(tuple(names), values, covered)


def summarize(outcome: Outcome, queries: Queries, seed: int) -> dict[str, Any]:
    """Returns `{metric: {"mean", "low", "high"}}` with 95 % bootstrap intervals over users, and `coverage@k`."""
    low, high = metrics.bootstrap_interval(outcome.values, queries.user_row, seed)
    summary: dict[str, Any] = {
        name: {"mean": outcome.mean(name), "low": float(low[i]), "high": float(high[i])}
        for i, name in enumerate(outcome.names)
    }
    return summary | {f"coverage@{k}": share for k, share in outcome.coverage.items()}


def _hits(ranked: npt.NDArray[np.int32], queries: Queries) -> npt.NDArray[np.bool_]:
    query = np.arange(len(queries))[:, None]
    keys = np.where(ranked >= 0, query * queries.num_items + ranked, -1)
    return np.isin(keys, queries.relevant_query * queries.num_items + queries.relevant_item)
