"""Faiss: brute force, and inverted lists of 4-bit product quantization with refinement by the vectors themselves."""

import math
import os
from collections.abc import Callable, Iterator
from typing import Any

# Threads that wait for work would take time from what is measured next. Read when the library is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import faiss
import numpy as np
import numpy.typing as npt

from experiments.benchmarks.peers.candidate_index import THREADS, CandidateIndex, Setting

# Lists as a multiple of the square root of the candidates: the least of what faiss's guide recommends; faster than 1.
_LISTS_PER_SQRT = 4
_TRAINED_PER_LIST = 39  # faiss's own minimum
_K_FACTORS = (32, 24, 16, 12, 10, 8, 7, 6, 5, 4, 3.5, 3, 2.5, 2, 1.5, 1)
_NPROBES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)


def builders() -> Iterator[Callable[[npt.NDArray[np.float32]], CandidateIndex]]:
    """Yields what builds an index over [num_candidates, embedding_dim] float32 candidates."""
    faiss.omp_set_num_threads(THREADS)
    yield _fast_scan
    yield _flat


def _fast_scan(candidates: npt.NDArray[np.float32]) -> CandidateIndex:
    num_candidates, dim = candidates.shape
    lists = round(min(_LISTS_PER_SQRT * math.sqrt(num_candidates), num_candidates / _TRAINED_PER_LIST))
    factory = f"IVF{lists},PQ{dim // 2}x4fs,RFlat"
    index = _built(factory, candidates)

    def search(queries: npt.NDArray[np.float32], k: int, setting: Setting) -> npt.NDArray[np.int64]:
        probes = faiss.SearchParametersIVF(nprobe=int(setting["nprobe"]))
        how = faiss.IndexRefineSearchParameters(k_factor=setting["k_factor"], base_index_params=probes)
        return index.search(queries, k, params=how)[1]

    return CandidateIndex(
        _name(factory),
        _num_bytes(index),
        search,
        [{"k_factor": factor} for factor in _K_FACTORS],
        [{"nprobe": nprobe} for nprobe in _NPROBES if nprobe < lists] + [{"nprobe": lists}],
    )


def _flat(candidates: npt.NDArray[np.float32]) -> CandidateIndex:
    index = _built("Flat", candidates)
    return CandidateIndex(_name("Flat"), _num_bytes(index), lambda queries, k, _: index.search(queries, k)[1])


def _built(factory: str, candidates: npt.NDArray[np.float32]) -> Any:
    index = faiss.index_factory(candidates.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    index.train(candidates)
    index.add(candidates)
    return index


def _name(factory: str) -> str:
    return f"faiss {faiss.__version__} {factory}"


def _num_bytes(index: Any) -> int:
    return len(faiss.serialize_index(index))
