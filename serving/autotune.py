"""Chooses how much of an index a query looks at: as little as its recall target allows.

The settings are compared on half of the queries, and the chosen one is confirmed on the other half, which it did not
see. Both times the lower bound of the recall must meet the target.
"""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from recsys.config import IndexConfig
from recsys.errors import IndexQualityError
from serving.index import Effort, Index, ScannIndex
from serving.index_quality import Search, lower_bound, recalls

_REORDER_FACTORS = (1, 2, 4, 8, 16, 32, 64)
_TIMED_QUERIES = 50


@dataclass(frozen=True)
class Measured:
    """A point of the curve of recall and time.

    Attributes:
      leaves, reorder_factor: the effort.
      recall: the mean over the queries.
      recall_low: what it exceeds with 95 % confidence.
      query_ms: the median time of a single query, on this machine.
    """

    leaves: int
    reorder_factor: int
    recall: float
    recall_low: float
    query_ms: float

    @property
    def effort(self) -> Effort:
        """The setting that was measured."""
        return Effort(self.leaves, self.reorder_factor)


@dataclass(frozen=True)
class Tuned:
    """What was chosen.

    Attributes:
      chosen: as measured on the queries that confirmed it.
      k: of the recall; the catalogue's size where that is smaller than what was configured.
      curve: the least effort that meets the target for each reorder factor, fastest first, on the other queries.
    """

    chosen: Measured
    k: int
    curve: tuple[Measured, ...]


def tune(index: ScannIndex, exact: Index, queries: npt.NDArray[np.float32], config: IndexConfig) -> Tuned:
    """Finds the fastest effort that meets the recall target.

    Args:
      index: what to tune; it stays as it is.
      exact: brute force over the same candidates.
      queries: [num_queries, embedding_dim] float32, four or more; every other one confirms.
      config: the target and the budget.

    Raises:
      IndexQualityError: there are too few queries, or no effort meets the target within the budget.
    """
    if len(queries) < 4:
        raise IndexQualityError(
            f"an index is tuned on held-out queries: expected 4 or more, received {len(queries)}; "
            "prepare the dataset with a larger validation split"
        )
    return _Tuner(index, exact, queries, config).run()


class _Tuner:
    def __init__(self, index: ScannIndex, exact: Index, queries: npt.NDArray[np.float32], config: IndexConfig) -> None:
        self._index, self._exact, self._config = index, exact, config
        self._seen, self._unseen = queries[::2], queries[1::2]
        self._k = min(config.recall_k, index.num_candidates)
        self._search = tf.function(index.search, reduce_retracing=True)

    def run(self) -> Tuned:
        curve = tuple(sorted(self._least_efforts(), key=lambda measured: measured.query_ms))
        refused = f"no setting of the index finds recall@{self._k} {self._config.recall_target} with 95 % confidence"
        if not curve:
            best = self._measure(Effort(self._index.num_leaves, _REORDER_FACTORS[-1]), self._seen)
            raise IndexQualityError(
                f"{refused}: {best.recall:.4f} ± {best.recall - best.recall_low:.4f} is reached when all "
                f"{best.leaves} leaves are searched; lower index.recall_target"
            )
        budget = self._config.max_query_ms
        affordable = [measured for measured in curve if budget is None or measured.query_ms <= budget]
        if not affordable:
            raise IndexQualityError(
                f"{refused} within {budget} ms per query: the fastest takes {curve[0].query_ms:.2f} ms; "
                "raise index.max_query_ms or lower index.recall_target"
            )
        confirmed = []
        for measured in affordable:
            confirmed.append(self._measure(measured.effort, self._unseen))
            if confirmed[-1].recall_low >= self._config.recall_target:
                return Tuned(confirmed[-1], self._k, curve)
        best = max(confirmed, key=lambda measured: measured.recall_low)
        raise IndexQualityError(
            f"{refused} on queries it was not tuned on: {best.recall:.4f} ± {best.recall - best.recall_low:.4f} is "
            "reached; lower index.recall_target, or prepare the dataset with a larger validation split"
        )

    def _least_efforts(self) -> Iterator[Measured]:
        """The fewest leaves that meet the target, for each reorder factor with which all leaves do."""
        factors = [1] if self._index.is_brute_force else _REORDER_FACTORS
        for factor in factors:
            too_few, enough = 0, self._index.num_leaves
            if not self._meets_target(Effort(enough, factor)):
                continue
            while enough - too_few > 1:
                middle = (too_few + enough) // 2
                if self._meets_target(Effort(middle, factor)):
                    enough = middle
                else:
                    too_few = middle
            yield self._measure(Effort(enough, factor), self._seen)

    def _meets_target(self, effort: Effort) -> bool:
        found = recalls(self._with(effort), self._exact, self._seen, self._k)
        return lower_bound(found) >= self._config.recall_target

    def _measure(self, effort: Effort, queries: npt.NDArray[np.float32]) -> Measured:
        search = self._with(effort)
        found = recalls(search, self._exact, queries, self._k)
        milliseconds = []
        for query in queries[:_TIMED_QUERIES]:
            asked, k = tf.constant(query[np.newaxis]), tf.constant(self._k)
            start = time.perf_counter()
            search(asked, k)[0].numpy()
            milliseconds.append(1000 * (time.perf_counter() - start))
        median = statistics.median(milliseconds)
        return Measured(effort.leaves, effort.reorder_factor, float(found.mean()), lower_bound(found), median)

    def _with(self, effort: Effort) -> Search:
        leaves, factor = tf.constant(effort.leaves), tf.constant(effort.reorder_factor)
        return lambda queries, k: self._search(queries, k, leaves, factor)
