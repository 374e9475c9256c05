"""Chooses an index and how much of it a query looks at: as little as the recall target allows.

Indices with different numbers of leaves are compared, with different efforts, on half of the queries, and the chosen
one is confirmed on the other half, which it did not see. Both times the lower bound of the recall must meet the target,
and the time of a single query the budget.
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from recsys.config import IndexConfig
from recsys.errors import IndexQualityError
from serving.index import Effort, ExactIndex, Index, ReorderDtype, ScannIndex
from serving.index_quality import Search, least_right_scores, lower_bound, recalls

_REORDER_FACTORS = (32.0, 16.0, 8.0, 4.0, 3.0, 2.0, 1.5, 1.25, 1.0)
_TIMED_QUERIES = 20
# So many of the fastest settings are timed again, so many times.
_IN_TURNS, _ROUNDS = 6, 5
# What float32 numbers find is fastest, and needs no other scores. Both of the others take half of the memory.
_DTYPES: tuple[tuple[ReorderDtype, ...], ...] = (("float32",), ("bfloat16", "int8"))

# Queries [num_queries, embedding_dim], and their `least_right_scores` [num_queries].
_Judged = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


@dataclasses.dataclass(frozen=True)
class Measured:
    """A point of the curve of recall and time.

    Attributes:
      num_leaves, reorder_dtype: of the index.
      leaves, reorder_factor: the effort.
      recall: the mean over the queries.
      recall_low: what it exceeds with 95 % confidence.
      query_ms: the median time of a single query, on this machine.
      batched_query_ms: the median time per query in the batches of 256 that recall is measured in.
    """

    num_leaves: int
    reorder_dtype: ReorderDtype
    leaves: int
    reorder_factor: float
    recall: float
    recall_low: float
    query_ms: float
    batched_query_ms: float


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What was chosen.

    Attributes:
      index: with the chosen effort.
      chosen: as measured on the queries that confirmed it.
      k: of the recall; the catalogue's size where that is smaller than what was configured.
      curve: what was measured on the other queries and is not beaten in both recall and batched time, fastest first.
    """

    index: ScannIndex
    chosen: Measured
    k: int
    curve: tuple[Measured, ...]


def build_indices(exact: ExactIndex, config: IndexConfig) -> list[ScannIndex]:
    """Builds indices to choose from: those that reorder by float32 numbers, or by narrower ones where memory is short.

    Args:
      exact: brute force over the candidates.
      config: the shapes and the budget of memory.

    Raises:
      IndexQualityError: none fits into the budget.
    """
    if exact.num_candidates < config.brute_force_below:
        built = [ScannIndex(exact)]
        if _fitting(built, config):
            return built
        raise _too_large(built, config, "raise index.max_bytes_per_item or lower index.brute_force_below")
    shapes = (round(multiple * math.sqrt(exact.num_candidates)) for multiple in config.leaves_per_sqrt_item)
    num_leaves = sorted({min(max(1, number), exact.num_candidates) for number in shapes})
    for dtypes in _DTYPES:
        built = [ScannIndex(exact, number, reorder_dtype) for reorder_dtype in dtypes for number in num_leaves]
        if fitting := _fitting(built, config):
            return fitting
    raise _too_large(built, config, "raise index.max_bytes_per_item")


def _fitting(built: list[ScannIndex], config: IndexConfig) -> list[ScannIndex]:
    budget = math.inf if config.max_bytes_per_item is None else config.max_bytes_per_item
    return [index for index in built if index.bytes_per_item <= budget]


def _too_large(built: list[ScannIndex], config: IndexConfig, remedy: str) -> IndexQualityError:
    smallest = min(index.bytes_per_item for index in built)
    return IndexQualityError(
        f"no index holds at most {config.max_bytes_per_item} bytes per item beside its embedding: the smallest has "
        f"{smallest:.0f}; {remedy}"
    )


def tune(indices: Sequence[ScannIndex], exact: Index, queries: npt.NDArray[np.float32], config: IndexConfig) -> Tuned:
    """Finds the index and the effort that meet the recall target with the least work: fastest in batches.

    Args:
      indices: to choose from, with different numbers of leaves; the chosen one gets its effort.
      exact: brute force over the same candidates.
      queries: [num_queries, embedding_dim] float32, four or more, independent of each other; every other one confirms.
      config: the target and the budget of time.

    Raises:
      IndexQualityError: there are too few queries, or no index meets the target within the budget.
    """
    if len(queries) < 4:
        raise IndexQualityError(
            f"an index is tuned on held-out queries: expected 4 or more, received {len(queries)}; "
            "prepare the dataset with more held-out users"
        )
    return _Tuner(indices, exact, queries, config).run()


class _Tuner:
    def __init__(
        self, indices: Sequence[ScannIndex], exact: Index, queries: npt.NDArray[np.float32], config: IndexConfig
    ) -> None:
        self._config = config
        self._k = min(config.recall_k, exact.num_candidates)
        self._seen, self._unseen = (
            (half, least_right_scores(exact, half, self._k)) for half in (queries[::2], queries[1::2])
        )
        self._indices = {(index.num_leaves, index.reorder_dtype): index for index in indices}
        vectors, number = tf.TensorSpec([None, queries.shape[1]]), tf.TensorSpec([], tf.int32)
        signature = [vectors, number, number, tf.TensorSpec([])]
        self._searches = {
            shape: tf.function(index.search, input_signature=signature) for shape, index in self._indices.items()
        }

    def run(self) -> Tuned:
        by_factor = [points for index in self._indices.values() for points in self._points(index)]
        # Those with the fewest leaves first. What searches more comes after all of these: it is surer to be confirmed.
        least, more = [points[0] for points in by_factor], [point for points in by_factor for point in points[1:]]
        in_turns = self._in_turns(self._sufficient(least)[:_IN_TURNS])
        least = [in_turns.get(point, point) for point in least]
        curve = _unbeaten([*least, *more])
        sufficient = [*self._sufficient(least), *self._sufficient(more)]
        refused = f"no setting of the index finds recall@{self._k} {self._config.recall_target} with 95 % confidence"
        if not sufficient:
            best = max(least, key=lambda measured: measured.recall_low)
            raise IndexQualityError(
                f"{refused}: {best.recall:.4f} ± {best.recall - best.recall_low:.4f} is reached when all "
                f"{best.leaves} leaves are searched; lower index.recall_target"
            )
        affordable = list(filter(self._is_affordable, sufficient))
        if not affordable:
            raise self._too_slow(refused, sufficient)
        confirmed = []
        for measured in affordable:
            index = self._indices[measured.num_leaves, measured.reorder_dtype]
            effort = Effort(measured.leaves, measured.reorder_factor, self._k)
            confirmed.append(self._measure(index, effort, self._unseen))
            if self._meets_target(confirmed[-1]) and self._is_affordable(confirmed[-1]):
                index.effort = effort
                return Tuned(index, confirmed[-1], self._k, curve)
        refused = f"{refused} on queries it was not tuned on"
        if too_slow := self._sufficient(confirmed):
            raise self._too_slow(refused, too_slow)
        best = max(confirmed, key=lambda measured: measured.recall_low)
        raise IndexQualityError(
            f"{refused}: {best.recall:.4f} ± {best.recall - best.recall_low:.4f} is "
            "reached; lower index.recall_target, or prepare the dataset with more held-out users"
        )

    def _points(self, index: ScannIndex) -> list[list[Measured]]:
        """What is measured of an index for each reorder factor, the most reordered first; see `_fewest_leaves`."""
        self._search_once(index)
        by_factor: list[list[Measured]] = []
        too_few = 0
        for factor in _REORDER_FACTORS[-1:] if index.is_brute_force else _REORDER_FACTORS:
            by_factor.append(self._fewest_leaves(index, factor, too_few))
            least = by_factor[-1][0]
            if not self._meets_target(least):  # with all leaves; nor would a smaller factor
                break
            too_few = least.leaves - 1  # for smaller factors, too
        return by_factor

    def _search_once(self, index: ScannIndex) -> None:
        """Has the search traced and the index loaded, which no measurement of time should contain."""
        queries = tf.constant(self._seen[0][:1])
        self._searches[index.num_leaves, index.reorder_dtype](
            queries, tf.constant(self._k), tf.constant(1), tf.constant(1.0)
        )

    def _fewest_leaves(self, index: ScannIndex, factor: float, too_few: int) -> list[Measured]:
        """The fewest leaves that meet the target, or all where none do, and then what else is measured on the way.

        Recall grows with the leaves: they are doubled until they suffice, and then bisected.
        """
        enough = self._measure(index, Effort(too_few + 1, factor), self._seen)
        others = []
        while not self._meets_target(enough) and enough.leaves < index.num_leaves:
            others.append(enough)
            too_few = enough.leaves
            enough = self._measure(index, Effort(min(2 * too_few, index.num_leaves), factor), self._seen)
        while self._meets_target(enough) and enough.leaves - too_few > 1:
            measured = self._measure(index, Effort((too_few + enough.leaves) // 2, factor), self._seen)
            if self._meets_target(measured):
                others.append(enough)
                enough = measured
            else:
                too_few = measured.leaves
                others.append(measured)
        if enough.leaves < index.num_leaves:
            others.append(self._measure(index, Effort(min(2 * enough.leaves, index.num_leaves), factor), self._seen))
        return [enough, *others]

    def _sufficient(self, points: list[Measured]) -> list[Measured]:
        """Those that meet the target, fastest first."""
        return sorted(filter(self._meets_target, points), key=lambda measured: measured.batched_query_ms)

    def _in_turns(self, points: list[Measured]) -> dict[Measured, Measured]:
        """Times points again, one after the other and over again: what was timed minutes apart differs by chance."""
        rounds = [[self._measure_again(point) for point in points] for _ in range(_ROUNDS)]
        return {
            point: dataclasses.replace(
                point,
                query_ms=statistics.median(one.query_ms for one in again),
                batched_query_ms=statistics.median(one.batched_query_ms for one in again),
            )
            for point, again in zip(points, zip(*rounds, strict=True), strict=True)
        }

    def _measure_again(self, point: Measured) -> Measured:
        index = self._indices[point.num_leaves, point.reorder_dtype]
        return self._measure(index, Effort(point.leaves, point.reorder_factor), self._seen)

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

    def _measure(self, index: ScannIndex, effort: Effort, judged: _Judged) -> Measured:
        search, (queries, least_right) = self._with(index, effort), judged
        batched, single = _Timed(search), _Timed(search)
        found = recalls(batched, least_right, queries, self._k)
        for query in queries[:_TIMED_QUERIES]:
            single(tf.constant(query[np.newaxis]), tf.constant(self._k))
        return Measured(
            num_leaves=index.num_leaves,
            reorder_dtype=index.reorder_dtype,
            leaves=effort.leaves,
            reorder_factor=effort.reorder_factor,
            recall=float(found.mean()),
            recall_low=lower_bound(found),
            query_ms=single.query_ms,
            batched_query_ms=batched.query_ms,
        )

    def _with(self, index: ScannIndex, effort: Effort) -> Search:
        search = self._searches[index.num_leaves, index.reorder_dtype]
        leaves, factor = tf.constant(effort.leaves), tf.constant(effort.reorder_factor, tf.float32)
        return lambda queries, k: search(queries, k, leaves, factor)


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
    for point in sorted(points, key=lambda measured: (measured.batched_query_ms, -measured.recall)):
        if not front or point.recall > front[-1].recall:
            front.append(point)
    return tuple(front)
