"""Hnswlib: a hierarchical graph of near neighbours."""

from collections.abc import Callable, Iterator
from importlib.metadata import version

import hnswlib
import numpy as np
import numpy.typing as npt

from experiments.benchmarks.peers.candidate_index import THREADS, CandidateIndex, Setting

# What its documentation calls reasonable for most work, and what its examples take.
_M, _EF_CONSTRUCTION = 16, 200
_EFS = (100, 120, 140, 170, 200, 250, 300, 400, 500, 700, 1000, 1500, 2000, 3000)


def builders() -> Iterator[Callable[[npt.NDArray[np.float32]], CandidateIndex]]:
    """Yields what builds an index over [num_candidates, embedding_dim] float32 candidates."""
    yield _graph


def _graph(candidates: npt.NDArray[np.float32]) -> CandidateIndex:
    index = hnswlib.Index(space="ip", dim=candidates.shape[1])
    index.init_index(max_elements=len(candidates), M=_M, ef_construction=_EF_CONSTRUCTION)
    index.set_num_threads(THREADS)
    index.add_items(candidates)

    def search(queries: npt.NDArray[np.float32], k: int, setting: Setting) -> npt.NDArray[np.int64]:
        index.set_ef(int(setting["ef"]))
        return index.knn_query(queries, k)[0].astype(np.int64)

    name = f"hnswlib {version('hnswlib')} M={_M}, ef_construction={_EF_CONSTRUCTION}"
    return CandidateIndex(name, index.index_file_size(), search, widths=[{"ef": ef} for ef in _EFS])
