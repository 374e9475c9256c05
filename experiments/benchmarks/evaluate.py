"""`recsys bench evaluate`: users/s of our exact evaluation against `tfrs.metrics.FactorizedTopK`.

Both are given the same query and candidate embeddings, so that no tower is timed, and the id of each user's one
relevant item; nothing was seen, for FactorizedTopK excludes nothing. All their figures must agree.

The case `factorized_top_k` is FactorizedTopK as TFRS documents it: made from a data set of candidates in batches of
128. The second table, which is no case, shows it by hand: with larger batches, and with the index `BruteForce`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_recommenders as tfrs

from experiments.benchmarks.harness import Report, Way, pairs_table, time_pairs
from recsys.evaluation import evaluate
from recsys.queries import Queries

KS = (1, 5, 10, 50, 100)
EMBEDDING_DIM = 64
USERS_PER_BATCH = 4096
_DOCUMENTED_BATCH, _LARGER_BATCH = 128, 4096
# So much noise on the relevant item's embedding leaves about half of them among the best 100.
_NOISE = 2.6


@dataclass(frozen=True)
class _Task:
    """[num_users, dim] and [num_items, dim] float32 embeddings, and [num_users] int32 the relevant items."""

    users: tf.Tensor
    items: tf.Tensor
    relevant: tf.Tensor


def measure(users: int = 8192, items: int = 40_000, repeats: int = 3) -> Report:
    """Evaluates random embeddings by either way, at several k at once."""
    task = _random_task(users, items)
    ours = _Ours(task)
    pairs = time_pairs(ours, {"factorized_top_k": _checked(ours, _by_batches(task, _DOCUMENTED_BATCH))}, repeats)
    other = {
        f"batches of {_LARGER_BATCH:,}": _checked(ours, _by_batches(task, _LARGER_BATCH)),
        "BruteForce": _checked(ours, _by_brute_force(task)),
    }
    title = (
        f"{users:,} users, {items:,} items, {EMBEDDING_DIM} dimensions, k = {', '.join(map(str, KS))}, "
        f"{repeats} pairs; FactorizedTopK takes {USERS_PER_BATCH:,} users at once, "
    )
    tables = [
        pairs_table(f"{title}candidates in batches of {_DOCUMENTED_BATCH}", "users", pairs),
        pairs_table(f"{title}candidates otherwise", "users", time_pairs(ours, other, repeats)),
    ]
    return Report({name: pair.ratio for name, pair in pairs.items()}, tables)


def _random_task(users: int, items: int) -> _Task:
    rng = np.random.default_rng(0)
    candidates = rng.normal(size=(items, EMBEDDING_DIM)).astype(np.float32)
    relevant = rng.integers(items, size=users, dtype=np.int32)
    noise = _NOISE * rng.normal(size=(users, EMBEDDING_DIM)).astype(np.float32)
    return _Task(tf.constant(candidates[relevant] + noise), tf.constant(candidates), tf.constant(relevant))


class _Ours:
    """Ranks and computes recall at every k.

    Attributes:
      num_users: in the task.
      figures: [len(KS)] float64, what the latest run found.
    """

    def __init__(self, task: _Task) -> None:
        self._users, self._columns = task.users, tf.transpose(task.items)
        self.num_users = len(task.users)
        nothing = np.zeros(self.num_users, np.int64)
        self._queries = Queries(
            user_row=np.arange(self.num_users, dtype=np.int32),
            seen_start=nothing,
            seen_end=nothing,
            relevant_query=np.arange(self.num_users),
            relevant_item=task.relevant.numpy(),
            items=np.zeros(0, np.int32),
            num_items=len(task.items),
            num_repeats=0,
        )
        self.figures: npt.NDArray[np.float64] = np.zeros(len(KS))

    def __call__(self) -> int:
        self.figures = evaluate(self._scores, self._queries, [f"recall@{k}" for k in KS]).values.mean(axis=0)
        return self.num_users

    def _scores(self, queries: Queries, start: int, stop: int) -> tf.Tensor:
        return tf.matmul(self._users[start:stop], self._columns)


_Peer = Callable[[], npt.NDArray[np.float64]]


def _by_batches(task: _Task, batch_size: int) -> _Peer:
    ids = tf.range(len(task.items))
    candidates = tf.data.Dataset.from_tensor_slices((ids, task.items)).batch(batch_size)
    return _peer(task, tfrs.metrics.FactorizedTopK(candidates, ks=KS))


def _by_brute_force(task: _Task) -> _Peer:
    index = tfrs.layers.factorized_top_k.BruteForce(k=max(KS)).index(task.items, tf.range(len(task.items)))
    return _peer(task, tfrs.metrics.FactorizedTopK(index, ks=KS))


def _peer(task: _Task, metric: tfrs.metrics.FactorizedTopK) -> _Peer:
    """Feeds the metric in a graph, as `evaluate` of a TFRS model does."""

    @tf.function(reduce_retracing=True)
    def update(users: tf.Tensor, relevant: tf.Tensor) -> None:
        metric.update_state(users, tf.gather(task.items, relevant), true_candidate_ids=relevant)

    def run() -> npt.NDArray[np.float64]:
        metric.reset_states()
        for start in range(0, len(task.users), USERS_PER_BATCH):
            batch = slice(start, start + USERS_PER_BATCH)
            update(task.users[batch], task.relevant[batch])
        return np.array([float(result) for result in metric.result()])

    return run


def _checked(ours: _Ours, peer: _Peer) -> Way:
    """A way that fails when the peer's figures are not those of our latest run."""

    def way() -> int:
        figures = peer()
        if not np.allclose(figures, ours.figures, rtol=0, atol=1e-6):
            raise RuntimeError(f"FactorizedTopK finds {figures.tolist()}: expected {ours.figures.tolist()}, as we do")
        return ours.num_users

    return way
