"""Exact evaluation: every query against the whole catalogue, ids compared, ties broken by item row.

Item rows stand in the order of a hash of the item's id, so that a model which scores all candidates alike gets about
k / num_items instead of the credit of whatever the catalogue is sorted by.

Rankings are lists of item rows, and what is relevant is found in them by row, never by score: candidates that share an
embedding are told apart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from recsys import beyond_accuracy, metrics
from recsys.dataset import Dataset
from recsys.errors import RequestError
from recsys.feature_tables import FeatureTables
from recsys.queries import Queries
from recsys.top_k import best_of_each_row
from recsys.towers import Towers

# 16 MB at once: on a CPU, batches of more scores take longer, by the memory that they are written to.
_SCORES_PER_BATCH = 2**22
_MIN_QUERIES_PER_BATCH, _MAX_QUERIES_PER_BATCH = 64, 512
_CANDIDATES_PER_BATCH = 4096


class Scorer(Protocol):
    """Whatever gives every candidate a score for every query."""

    def __call__(self, queries: Queries, start: int, stop: int) -> tf.Tensor:
        """Returns [stop - start, num_items] float32 for queries `start` … `stop - 1`; more is better."""


class TwoTowerScorer:
    """Dot products of query and candidate embeddings, both as of the towers' weights at the latest `refresh`."""

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
        # Queries are multiplied faster with columns: [embedding_dim, num_items].
        self._columns = tf.transpose(tf.concat(embedded, axis=0))

    @property
    def candidates(self) -> tf.Tensor:
        """[num_items, embedding_dim] float32, the catalogue's embeddings."""
        return tf.transpose(self._columns)

    def __call__(self, queries: Queries, start: int, stop: int) -> tf.Tensor:
        """Returns [stop - start, num_items] float32."""
        return tf.matmul(self.embed(queries, start, stop), self._columns)

    def embed(self, queries: Queries, start: int, stop: int) -> tf.Tensor:
        """Returns the embeddings of queries `start` … `stop - 1`, [stop - start, embedding_dim] float32."""
        return self._embed_query(self.features(queries, start, stop))

    def features(self, queries: Queries, start: int, stop: int) -> dict[str, tf.Tensor]:
        """Returns the features by which the query tower sees queries `start` … `stop - 1`."""
        history = queries.history(start, stop, self._history_length)
        return self._tables.query(tf.constant(queries.user_row[start:stop]), tf.constant(history))


def rank(scorer: Scorer, queries: Queries, k: int) -> npt.NDArray[np.int32]:
    """Returns each query's best unseen candidates, [num_queries, k] int32 item rows, best first.

    Where fewer than `k` unseen candidates exist, -1 fills up.

    Raises:
      RequestError: there are no queries, `k` is beyond the catalogue, or the scores are of another shape or NaN.
    """
    require_rankable(queries, k)
    size = min(max(_SCORES_PER_BATCH // queries.num_items, _MIN_QUERIES_PER_BATCH), _MAX_QUERIES_PER_BATCH)
    ranked = np.empty((len(queries), k), np.int32)
    for start in range(0, len(queries), size):
        stop = min(start + size, len(queries))
        ranked[start:stop] = _best_unseen(scorer, queries, start, stop, k)
    return ranked


def require_rankable(queries: Queries, k: int) -> None:
    """Raises `RequestError` when there are no queries, or `k` is beyond the catalogue."""
    if not len(queries):
        raise RequestError("there is no query to rank for: expected a held-out item that its user had not taken before")
    if k > queries.num_items:
        raise RequestError(f"k = {k} is larger than the catalogue: expected at most {queries.num_items}")


def _best_unseen(scorer: Scorer, queries: Queries, start: int, stop: int, k: int) -> npt.NDArray[np.int32]:
    scores = scorer(queries, start, stop)
    if tuple(scores.shape) != (stop - start, queries.num_items):
        raise RequestError(
            f"the scores of queries {start} to {stop - 1} are of shape {list(scores.shape)}: expected "
            f"{[stop - start, queries.num_items]}, one for each candidate of the catalogue"
        )
    ranked, any_nan = _compiled_search(queries.num_items, k)(scores, tf.constant(queries.seen_pairs(start, stop)))
    if any_nan:
        raise RequestError(f"scores of queries {start} to {stop - 1} are NaN: expected numbers; has training diverged?")
    return np.asarray(ranked)


@cache
def _compiled_search(num_items: int, k: int) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """`best_of_each_row`, traced once for batches of any size."""
    signature = [tf.TensorSpec([None, num_items], tf.float32), tf.TensorSpec([None, 2], tf.int64)]
    return tf.function(partial(best_of_each_row, k=k), input_signature=signature)


@dataclass(frozen=True)
class Outcome:
    """What one set of rankings reached on one set of queries.

    Attributes:
      names: of the metrics.
      values: [num_queries, num_metrics] float64, one row per query.
      ranked: [num_queries, k] int32 item rows, best first, -1 where there was none.
    """

    names: tuple[str, ...]
    values: npt.NDArray[np.float64]
    ranked: npt.NDArray[np.int32]

    def mean(self, name: str) -> float:
        """The mean of a metric over queries."""
        return float(self.values[:, self.names.index(name)].mean())


def evaluate(scorer: Scorer, queries: Queries, names: Sequence[str]) -> Outcome:
    """Ranks the catalogue for every query and computes the named metrics, for example `recall@20`.

    What several queries ask is ranked once: where interactions have no times, a user asks the same for each of them.

    Raises:
      ConfigError: a metric is unknown.
      RequestError: as `rank` and `evaluate_rankings` do.
    """
    asked, of_query = queries.distinct()
    return evaluate_rankings(rank(scorer, asked, _depths(names)[-1])[of_query], queries, names)


def evaluate_rankings(ranked: npt.NDArray[np.int32], queries: Queries, names: Sequence[str]) -> Outcome:
    """Computes the named metrics of rankings, wherever they are from.

    Args:
      ranked: [num_queries, k] int32 item rows, best first; -1 fills up at the end.
      queries: what was asked.
      names: of metrics, none deeper than k.

    Raises:
      ConfigError: a metric is unknown.
      RequestError: a ranking holds an item twice, or a query has an item twice among the relevant ones.
    """
    _refuse_duplicates(ranked, queries)
    hits = _hits(ranked, queries)
    num_relevant = queries.num_relevant
    values = np.stack([metrics.per_query(name, hits, num_relevant) for name in names], axis=1)
    return Outcome(tuple(names), values, ranked)


def _depths(names: Sequence[str]) -> list[int]:
    return sorted({metrics.split_name(name)[1] for name in names})


def summarize(
    outcome: Outcome, queries: Queries, train_counts: npt.NDArray[np.int64], seed: int
) -> dict[str, dict[str, float] | float | None]:
    """Sums up what one set of rankings reached.

    Args:
      outcome: of `evaluate`.
      queries: the same.
      train_counts: [num_items] int64, how often each candidate was taken in train.
      seed: of the bootstrap.

    Returns:
      `{metric: {"mean", "low", "high"}}` with 95 % bootstrap intervals over users, and at every k of the metrics the
      four of `beyond_accuracy`, such as `coverage@k`.
    """
    low, high = metrics.bootstrap_interval(outcome.values, queries.user_row, seed)
    summary: dict[str, dict[str, float] | float | None] = {
        name: {"mean": outcome.mean(name), "low": float(low[i]), "high": float(high[i])}
        for i, name in enumerate(outcome.names)
    }
    for k in _depths(outcome.names):
        figures = beyond_accuracy.measure(outcome.ranked[:, :k], queries, train_counts)
        summary |= {f"{name}@{k}": figure for name, figure in figures.items()}
    return summary


def _hits(ranked: npt.NDArray[np.int32], queries: Queries) -> npt.NDArray[np.bool_]:
    hits = np.zeros(ranked.shape, dtype=bool)
    pair, place = np.nonzero(ranked[queries.relevant_query] == queries.relevant_item[:, None])
    hits[queries.relevant_query[pair], place] = True
    return hits


def _refuse_duplicates(ranked: npt.NDArray[np.int32], queries: Queries) -> None:
    ordered = np.sort(ranked, axis=1)
    twice = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)
    if twice.any():
        raise RequestError(f"the ranking of query {twice.argmax()} holds an item twice: expected each at most once")
    key = np.sort(queries.relevant_query * queries.num_items + queries.relevant_item)
    again = key[1:] == key[:-1]
    if again.any():
        query = key[1:][again][0] // queries.num_items
        raise RequestError(f"query {query} has an item twice among the relevant ones: expected each once")
