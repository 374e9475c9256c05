"""`recsys bench index`: queries/s of the tuned ScaNN index against hnswlib and faiss, all at our recall or better.

Candidates are unit vectors of 64 dimensions. Topics of about a hundred candidates, of very unequal sizes, lie around
areas of about twenty topics. A query lies near one topic and somewhat towards another, as a user has several interests:
it is no candidate, and its scores spread, and its nearest are divided among partitions, as those of towers that were
trained on Gowalla.

Ours is chosen and tuned by `serving.autotune` to a recall@100 of .95 on 2,000 queries, as an export
does it, and searched in a `tf.function`. Of each peer, on the same queries, the fastest setting is taken that finds at
least what ours does there. All are compared on queries that no index was tuned on, in batches of 1,024, with a thread
for each processor. The case of a catalogue is our queries/s as a multiple of the best peer's. A second table, no case,
shows beside it what each finds, what building costs, and how long a query takes that comes alone.
"""

import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from rich.table import Table

from experiments.benchmarks.harness import Report, pairs_table, time_pairs
from experiments.benchmarks.peers.candidate_index import THREADS, CandidateIndex, Setting
from recsys.config import IndexConfig
from recsys.errors import ConfigError
from serving.autotune import build_indices, tune
from serving.index import ExactIndex

K = 100
DIM = 64
_TUNING_QUERIES = 2000
_BATCH = 1024
_SINGLE_QUERIES = 300
_TIMED = 3
_PEERS = {"faiss": "faiss_indices", "hnswlib": "hnswlib_index"}

# Topics: candidates of one, topics of an area, and how far they spread around what they belong to.
_TOPIC, _AREA = 100, 20
_TOPIC_SPREAD, _CANDIDATE_SPREAD, _QUERY_SPREAD = 1.0, 1.0, 0.5
_SECOND_INTEREST = 0.5

Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Builder = Callable[[Vectors], CandidateIndex]
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Asked:
    """Queries [num_queries, DIM], and the rows of their K best candidates, [num_queries, K]."""

    queries: Vectors
    best: Rows

    def recall(self, found: Rows) -> float:
        """The share of the best that is among the rows found, [num_queries, K]."""
        hits = [len(np.intersect1d(*rows)) for rows in zip(self.best, found, strict=True)]
        return float(np.mean(hits)) / self.best.shape[1]


@dataclass(frozen=True)
class Contender:
    """An index with its setting.

    Attributes:
      name, setting: as shown.
      find: queries [batch, DIM] → rows [batch, K].
      build_seconds, tuning_seconds: what it took; ours builds all indices that it chooses from.
      bytes_per_item: what it holds, the candidate's own DIM float32 numbers included.
    """

    name: str
    setting: str
    find: Callable[[Vectors], Rows]
    build_seconds: float
    tuning_seconds: float
    bytes_per_item: float

    def find_all(self, queries: Vectors) -> Rows:
        """Searches in batches."""
        return np.concatenate([self.find(queries[i : i + _BATCH]) for i in range(0, len(queries), _BATCH)])

    def run(self, queries: Vectors) -> int:
        """Searches in batches, and returns the number of queries."""
        return len(self.find_all(queries))


def measure(
    sizes: Sequence[int] = (200_000, 1_000_000),
    num_queries: int = 8192,
    repeats: int = 5,
    config: IndexConfig | None = None,
    builders: Sequence[Builder] | None = None,
) -> Report:
    """Builds, tunes and compares indices over so many candidates each; with all peers that are installed, when None.

    Raises:
      ConfigError: none is installed.
      RuntimeError: a peer cannot be tuned to our recall, or an index finds less than our target on unseen queries.
    """
    config = IndexConfig() if config is None else config
    if builders is None:
        builders = [builder for name in _installed() for builder in _builders(name)]
    cases, tables = {}, []
    for size in sizes:
        case = f"clustered_{size // 10**6}m" if size % 10**6 == 0 else f"clustered_{size // 1000}k"
        cases[case], *more = _compare(size, num_queries, repeats, config, builders)
        tables += more
        gc.collect()
    return Report(cases, tables)


def _installed() -> list[str]:
    installed = [name for name in _PEERS if find_spec(name) is not None]
    install = "pip install 'recsys[bench]'"
    if not installed:
        raise ConfigError(f"recsys bench index compares with {' and '.join(_PEERS)}: none is installed; {install}")
    for name in _PEERS.keys() - set(installed):
        print(f"recsys bench index: {name} is not installed, and left out; {install}", file=sys.stderr)
    return installed


def _builders(name: str) -> Iterator[Builder]:
    return import_module(f"experiments.benchmarks.peers.{_PEERS[name]}").builders()


def _compare(
    size: int, num_queries: int, repeats: int, config: IndexConfig, builders: Sequence[Builder]
) -> tuple[float, Table, Table]:
    """The ratio to the best peer, and the tables of throughput and of what it costs."""
    candidates, queries = clustered(size, _TUNING_QUERIES + num_queries)
    exact = ExactIndex(candidates)
    best = _best(exact, queries)
    tuning, unseen = (Asked(queries[part], best[part]) for part in np.split(np.arange(len(queries)), [_TUNING_QUERIES]))
    ours = _ours(exact, tuning, config)
    peers = [_tuned(builder, candidates, tuning, tuning.recall(ours.find_all(tuning.queries))) for builder in builders]
    found = {one.name: unseen.recall(one.find_all(unseen.queries)) for one in (ours, *peers)}
    for name, recall in found.items():
        if recall < config.recall_target:
            raise RuntimeError(f"{name} finds {recall:.4f} of the best {K}: expected {config.recall_target} or more")
    pairs = time_pairs(
        partial(ours.run, unseen.queries), {peer.name: partial(peer.run, unseen.queries) for peer in peers}, repeats
    )
    conditions = f"{size:,} × {DIM}, k = {K}, {THREADS} threads"
    title = f"{conditions}: batches of {_BATCH:,}, {num_queries:,} queries a run, {repeats} pairs"
    return (
        min(pair.ratio for pair in pairs.values()),
        pairs_table(title, "queries", pairs),
        _costs(f"{conditions}: recall on the same queries, and a query alone", (ours, *peers), found, unseen.queries),
    )


def clustered(num_candidates: int, num_queries: int) -> tuple[Vectors, Vectors]:
    """Returns candidates and queries, unit vectors [number, DIM]; always the same of one size."""
    rng = np.random.default_rng(0)

    def around(centers: Vectors, spread: float) -> Vectors:
        noise = rng.standard_normal(centers.shape, np.float32)
        return _unit(centers + np.float32(spread / DIM**0.5) * noise)

    num_topics = num_candidates // _TOPIC
    areas = _unit(rng.standard_normal((max(1, num_topics // _AREA), DIM), np.float32))
    topics = around(areas[rng.integers(len(areas), size=num_topics)], _TOPIC_SPREAD)
    weights = rng.lognormal(size=num_topics)

    def drawn(number: int) -> Vectors:
        return topics[rng.choice(num_topics, number, p=weights / weights.sum())]

    candidates = around(drawn(num_candidates), _CANDIDATE_SPREAD)
    interests = drawn(num_queries) + np.float32(_SECOND_INTEREST) * drawn(num_queries)
    return candidates, around(_unit(interests), _QUERY_SPREAD)


def _unit(vectors: Vectors) -> Vectors:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _best(exact: ExactIndex, queries: Vectors) -> Rows:
    batches = (tf.constant(queries[i : i + _BATCH // 8]) for i in range(0, len(queries), _BATCH // 8))
    return np.concatenate([exact.search(batch, tf.constant(K))[0].numpy() for batch in batches])


def _ours(exact: ExactIndex, tuning: Asked, config: IndexConfig) -> Contender:
    built, indices = _timed(lambda: build_indices(exact, config))
    tuned_in, tuned = _timed(lambda: tune(indices, exact, tuning.queries, config))
    index = tuned.index
    search = tf.function(index.search, input_signature=[tf.TensorSpec([None, DIM]), tf.TensorSpec([], tf.int32)])
    k = tf.constant(K)
    return Contender(
        f"ours, {index.num_leaves:,} leaves",
        f"leaves {index.effort.leaves}, reorder_factor {index.effort.reorder_factor:g}",
        lambda queries: search(tf.constant(queries), k)[0].numpy(),
        built,
        tuned_in,
        index.bytes_per_item,
    )


def _tuned(builder: Builder, candidates: Vectors, tuning: Asked, recall: float) -> Contender:
    """The peer with the fastest of its settings that find so much."""
    built, peer = _timed(lambda: builder(candidates))

    def with_setting(setting: Setting, tuned_in: float) -> Contender:
        shown = ", ".join(f"{name} {value}" for name, value in setting.items())
        bytes_per_item = peer.num_bytes / len(candidates)
        return Contender(peer.name, shown, lambda x: peer.search(x, K, setting), built, tuned_in, bytes_per_item)

    def recall_of(setting: Setting) -> float:
        return tuning.recall(with_setting(setting, 0).find_all(tuning.queries))

    def seconds(setting: Setting) -> float:
        return min(_timed(lambda: with_setting(setting, 0).run(tuning.queries))[0] for _ in range(_TIMED))

    tuned_in, setting = _timed(lambda: min(_sufficient(peer, recall_of, recall), key=seconds))
    return with_setting(setting, tuned_in)


def _sufficient(peer: CandidateIndex, recall_of: Callable[[Setting], float], recall: float) -> list[Setting]:
    """For each reordering the least width that finds so much: the less is reordered, the wider it has to be.

    Raises:
      RuntimeError: no setting does.
    """
    enough: list[Setting] = []
    width, found = 0, 0.0
    for reordering in peer.reorderings:
        while width < len(peer.widths):
            found = recall_of({**reordering, **peer.widths[width]})
            if found >= recall:
                enough.append({**reordering, **peer.widths[width]})
                break
            width += 1
    if not enough:
        raise RuntimeError(f"{peer.name} finds {found:.4f} of the best {K} at most: expected {recall:.4f}, as we do")
    return enough


def _timed(work: Callable[[], _Result]) -> tuple[float, _Result]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def _costs(title: str, contenders: Sequence[Contender], found: dict[str, float], queries: Vectors) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("index", "setting"):
        table.add_column(heading)
    for heading in (f"recall@{K}", "build s", "tuning s", "bytes/vector", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="right")
    for one in contenders:
        milliseconds = sorted(
            1000 * _timed(partial(one.find, query[np.newaxis]))[0] for query in queries[:_SINGLE_QUERIES]
        )
        costs = f"{one.build_seconds:,.1f}", f"{one.tuning_seconds:,.1f}", f"{one.bytes_per_item:,.0f}"
        alone = f"{statistics.median(milliseconds):.2f}", f"{milliseconds[int(0.99 * len(milliseconds))]:.2f}"
        table.add_row(one.name, one.setting, f"{found[one.name]:.4f}", *costs, *alone)
    return table
