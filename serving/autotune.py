"""Chooses how much of an index a query looks at: as little as its recall target allows.

The settings are compared on half of the queries, and the chosen one is confirmed on the other half, which it did not
see. Both times the lower bound of the recall must meet the target, and the time of a single query the budget.
"""

import statistics
import time
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from recsys.config import IndexConfig
from recsys.errors import IndexQualityError
from serving.index import Effort, ExactIndex, Index, ReorderDtype, ScannIndex
from serving.index_quality import Search, least_right_scores, lower_bound, recalls

_REORDER_FACTORS = (64, 32, 16, 8, 6, 4, 3, 2, 1)
_TIMED_QUERIES = 50

# Queries [num_queries, embedding_dim], and their `least_right_scores` [num_queries].
_Judged = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Measured:
    """A point of the curve of recall and time.

    Attributes:
      leaves, reorder_factor: the effort.
      recall: the mean over the queries.
      recall_low: what it exceeds with 95 % confidence.
      query_ms: the median time of a single query, on this machine.
      batched_query_ms: the median time per query in the batches of 256 that recall is measured in.
    """

    leaves: int
    reorder_factor: int
    recall: float
    recall_low: float
    query_ms: float
    batched_query_ms: float

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
      curve: what was measured on the other queries and is not beaten in both recall and batched time, fastest first.
    """

    chosen: Measured
    k: int
    curve: tuple[Measured, ...]


def build_tuned(exact: ExactIndex, queries: npt.NDArray[np.float32], config: IndexConfig) -> tuple[ScannIndex, Tuned]:
    """Builds an index within the budget of memory, and tunes it.

    Args:
      exact: brute force over the candidates.
      queries: [num_queries, embedding_dim] float32, four or more; every other one confirms.
      config: the shape, the target and the budgets.

    Raises:
      IndexQualityError: there are too few queries, or no index meets the target within the budgets.
    """
    sizes = []
    for reorder_dtype in get_args(ReorderDtype):
        index = ScannIndex(exact, config, reorder_dtype)
        sizes.append(index.bytes_per_item)
        if config.max_bytes_per_item is None or sizes[-1] <= config.max_bytes_per_item:
            tuned = tune(index, exact, queries, config)
            index.effort = tuned.chosen.effort
            return index, tuned
    raise IndexQualityError(
        f"no index holds at most {config.max_bytes_per_item} bytes per item beside its embedding: the smallest has "
        f"{min(sizes):.0f}; raise index.max_bytes_per_item"
    )


def tune(index: ScannIndex, exact: Index, queries: npt.NDArray[np.float32], config: IndexConfig) -> Tuned:
    """Finds the effort that meets the recall target with the least work: fastest in batches.

    Args:
      index: what to tune; it stays as it is.
      exact: brute force over the same candidates.
      queries: [num_queries, embedding_dim] float32, four or more; every other one confirms.
      config: the target and the budget of time.

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
        self._index, self._config = index, config
        self._k = min(config.recall_k, index.num_candidates)
        self._seen, self._unseen = (
            (half, least_right_scores(exact, half, self._k)) for half in (queries[::2], queries[1::2])
        )
        vectors, number = tf.TensorSpec([None, queries.shape[1]]), tf.TensorSpec([], tf.int32)
        self._search = tf.function(index.search, input_signature=[vectors, number, number, number])

    def run(self) -> Tuned:
        by_factor = self._points()
        curve = _unbeaten([measured for points in by_factor for measured in points])
        # Those with the fewest leaves first. What searches more is tried after all of these: it is slower, and surer to
        # be confirmed.
        least, more = [points[0] for points in by_factor], [point for points in by_factor for point in points[1:]]
        sufficient = [*self._sufficient(least), *self._sufficient(more)]
        refused = f"no setting of the index finds recall@{self._k} {self._config.recall_target} with 95 % confidence"
        if not sufficient:
            best = least[0]
            raise IndexQualityError(
                f"{refused}: {best.recall:.4f} ± {best.recall - best.recall_low:.4f} is reached when all "
                f"{best.leaves} leaves are searched; lower index.recall_target"
            )
        affordable = list(filter(self._is_affordable, sufficient))
        if not affordable:
            raise self._too_slow(refused, sufficient)
        confirmed = []
        for measured in affordable:
            confirmed.append(self._measure(measured.effort, self._unseen))
            if self._meets_target(confirmed[-1]) and self._is_affordable(confirmed[-1]):
                return Tuned(confirmed[-1], self._k, curve)
        refused = f"{refused} on queries it was not tuned on"
        if too_slow := self._sufficient(confirmed):
            raise self._too_slow(refused, too_slow)
        best = max(confirmed, key=lambda measured: measured.recall_low)
        raise IndexQualityError(
            f"{refused}: {best.recall:.4f} ± {best.recall - best.recall_low:.4f} is "
            "reached; lower index.recall_target, or prepare the dataset with a larger validation split"
        )

    def _points(self) -> list[list[Measured]]:
        """What is measured for each reorder factor, the most reordered first; see `_fewest_leaves`."""
        by_factor: list[list[Measured]] = []
        too_few = 0
        for factor in _REORDER_FACTORS[-1:] if self._index.is_brute_force else _REORDER_FACTORS:
            by_factor.append(self._fewest_leaves(factor, too_few))
            least = by_factor[-1][0]
            if not self._meets_target(least):  # with all leaves; nor would a smaller factor
                break
            too_few = least.leaves - 1  # for smaller factors, too
        return by_factor

    def _fewest_leaves(self, factor: int, too_few: int) -> list[Measured]:
        """The fewest leaves that meet the target, or all where none do, and then what else is measured on the way.

        Recall grows with the leaves: they are doubled until they suffice, and then bisected.
        """
        enough = self._measure(Effort(too_few + 1, factor), self._seen)
        others = []
        while not self._meets_target(enough) and enough.leaves < self._index.num_leaves:
            others.append(enough)
            too_few = enough.leaves
            enough = self._measure(Effort(min(2 * too_few, self._index.num_leaves), factor), self._seen)
        while self._meets_target(enough) and enough.leaves - too_few > 1:
            measured = self._measure(Effort((too_few + enough.leaves) // 2, factor), self._seen)
            if self._meets_target(measured):
                others.append(enough)
                enough = measured
            else:
                too_few = measured.leaves
                others.append(measured)
        if enough.leaves < self._index.num_leaves:
            others.append(self._measure(Effort(min(2 * enough.leaves, self._index.num_leaves), factor), self._seen))
        return [enough, *others]

    def _sufficient(self, points: list[Measured]) -> list[Measured]:
        """Those that meet the target, fastest first."""
        return sorted(filter(self._meets_target, points), key=lambda measured: measured.batched_query_ms)

    def _meets_target(self, measured: Measured) -> bool:
        return measured.recall_low >= self._config.recall_target

    def _is_affordable(self, measured: Measured) -> bool:
        return self._config.max_query_ms is None or measured.query_ms <= self._config.max_query_ms

    def _too_slow(self, refused: str, sufficient: list[Measured]) -> IndexQualityError:
        fastest = min(measured.query_ms for measured in sufficient)
        return IndexQualityError(
            f"{refused} within {self._config.max_query_ms} ms per query: the fastest takes {fastest:.2f} ms; "
            "raise index.max_query_ms or lower index.recall_target"
        )

    def _measure(self, effort: Effort, judged: _Judged) -> Measured:
        search, (queries, least_right) = self._with(effort), judged
        batched, single = _Timed(search), _Timed(search)
        found = recalls(batched, least_right, queries, self._k)
        for query in queries[:_TIMED_QUERIES]:
            single(tf.constant(query[np.newaxis]), tf.constant(self._k))
        recall, low = float(found.mean()), lower_bound(found)
        return Measured(effort.leaves, effort.reorder_factor, recall, low, single.query_ms, batched.query_ms)

    def _with(self, effort: Effort) -> Search:
        leaves, factor = tf.constant(effort.leaves), tf.constant(effort.reorder_factor)
        return lambda queries, k: self._search(queries, k, leaves, factor)


class _Timed:
    """A search that takes the time of each of its calls."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._milliseconds: list[float] = []

    def __call__(self, queries: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        start = time.perf_counter()
        rows, scores = self._search(queries, k)
        scores.numpy()  # waits for them
        self._milliseconds.append(1000 * (time.perf_counter() - start) / len(queries))
        return rows, scores

    @property
    def query_ms(self) -> float:
        """The median per query."""
        return statistics.median(self._milliseconds)


def _unbeaten(points: list[Measured]) -> tuple[Measured, ...]:
    """The Pareto front: of each point, no other is both faster and of at least the same recall; fastest first."""
    front: list[Measured] = []
    for point in sorted(points, key=lambda measured: (measured.batched_query_ms, -measured.recall_low)):
        if not front or point.recall_low > front[-1].recall_low:
            front.append(point)
    return tuple(front)
