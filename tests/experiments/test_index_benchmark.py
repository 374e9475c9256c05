"""`recsys bench index`, small: with NumPy as a peer, right and wrong, and the real ones where they are installed."""

import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from experiments.benchmarks import index as benchmark
from experiments.benchmarks.harness import Report
from experiments.benchmarks.index import Asked, clustered
from experiments.benchmarks.peers.candidate_index import CandidateIndex
from recsys.cli import main
from recsys.config import IndexConfig

Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


def exact_rows(candidates: Vectors, queries: Vectors, k: int) -> Rows:
    return np.argsort(-(queries @ candidates.T), axis=1, kind="stable")[:, :k]


def by_numpy(change: Callable[[Rows], Rows] = lambda rows: rows) -> benchmark.Builder:
    def build(candidates: Vectors) -> CandidateIndex:
        return CandidateIndex(
            "NumPy", candidates.nbytes, lambda queries, k, _: change(exact_rows(candidates, queries, k))
        )

    return build


def measure(monkeypatch: pytest.MonkeyPatch, *builders: benchmark.Builder, num_queries: int = 200) -> Report:
    monkeypatch.setattr(benchmark, "_TUNING_QUERIES", 400)
    return benchmark.measure((3000,), num_queries, 1, IndexConfig(brute_force_below=16), builders)


def test_the_case_is_the_ratio_to_the_best_peer_and_the_tables_tell_recall_and_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def twice(candidates: Vectors) -> CandidateIndex:
        def search(queries: Vectors, k: int, _: Any) -> Rows:
            exact_rows(candidates, queries, k)
            return exact_rows(candidates, queries, k)

        return CandidateIndex("NumPy twice", 0, search)

    report = measure(monkeypatch, by_numpy(), twice)
    throughput, costs = report.tables
    assert list(report.cases) == ["clustered_3k"]
    names, _, _, ratios, _, _ = (list(column.cells) for column in throughput.columns)
    assert names == ["NumPy", "NumPy twice"]
    assert report.ratio == pytest.approx(min(map(float, map(str, ratios))), abs=0.01)
    rows = list(zip(*(column.cells for column in costs.columns), strict=True))
    assert [str(row[0]).split(",")[0] for row in rows] == ["ours", "NumPy", "NumPy twice"]
    assert 0.95 <= float(rows[0][2]) < 1
    assert rows[1][2] == "1.0000"
    assert rows[1][5] == "256"


def test_a_peer_that_finds_others_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError) as error:
        measure(monkeypatch, by_numpy(lambda rows: (rows + 1) % 3000))
    assert re.fullmatch(
        r"NumPy finds 0\.[0-9]{4} of the best 100 at most: expected 0\.9\d\d\d, as we do", str(error.value)
    )


def test_a_peer_that_finds_less_on_unseen_queries_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is right about the 400 queries that it is tuned on only."""
    with pytest.raises(RuntimeError) as error:
        measure(monkeypatch, by_numpy(lambda rows: rows if len(rows) == 400 else rows[::-1]))
    assert re.fullmatch(r"NumPy finds 0\.\d{4} of the best 100: expected 0\.95 or more", str(error.value))


def test_recall_counts_each_found_candidate_once() -> None:
    """Of the first query's best two of three; of the second's, one, which comes three times."""
    asked = Asked(np.zeros((2, 1), np.float32), np.array([[1, 2, 3], [4, 5, 6]]))
    assert asked.recall(np.array([[3, 9, 1], [5, 5, 5]])) == pytest.approx((2 / 3 + 1 / 3) / 2)


def test_a_peer_has_the_least_width_that_suffices_for_each_reordering() -> None:
    recalls = {(3, 1): 0.90, (3, 2): 0.96, (3, 4): 0.97, (2, 2): 0.94, (2, 4): 0.95, (1, 4): 0.80}
    peer = CandidateIndex(
        "peer",
        0,
        lambda queries, k, setting: np.zeros((len(queries), k), np.int64),
        [{"factor": 3}, {"factor": 2}, {"factor": 1}],
        [{"width": 1}, {"width": 2}, {"width": 4}],
    )
    asked = []

    def recall_of(setting: Any) -> float:
        asked.append((setting["factor"], setting["width"]))
        return recalls[asked[-1]]

    assert benchmark._sufficient(peer, recall_of, 0.95) == [{"factor": 3, "width": 2}, {"factor": 2, "width": 4}]
    assert asked == [(3, 1), (3, 2), (2, 2), (2, 4), (1, 4)]


def test_queries_lie_among_the_candidates_and_are_none_of_them() -> None:
    candidates, queries = clustered(2000, 50)
    again, _ = clustered(2000, 50)
    np.testing.assert_array_equal(candidates, again)
    assert (candidates.shape, queries.shape, candidates.dtype, queries.dtype) == (
        (2000, 64),
        (50, 64),
        np.float32,
        np.float32,
    )
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([candidates, queries]), axis=1), 1, atol=1e-5)
    nearest = (queries @ candidates.T).max(axis=1)
    assert 0.5 < np.median(nearest) < nearest.max() < 0.99


@pytest.mark.parametrize("package", ["faiss", "hnswlib"])
def test_installed_peers_find_what_numpy_does(package: str) -> None:
    pytest.importorskip(package, reason=f"{package} is in the extra bench")
    candidates, queries = clustered(4000, 64)
    expected = Asked(queries, exact_rows(candidates, queries, 100))
    for build in benchmark._builders(package):
        peer = build(candidates)
        most = expected.recall(peer.search(queries, 100, {**peer.reorderings[0], **peer.widths[-1]}))
        least = expected.recall(peer.search(queries, 100, {**peer.reorderings[-1], **peer.widths[0]}))
        assert most > 0.99
        assert least < most or not peer.widths[0]
        assert peer.num_bytes >= candidates.nbytes / 2


def test_without_any_peer_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["recsys", "bench", "index"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "recsys: recsys bench index compares with faiss and hnswlib: none is installed; pip install 'recsys[bench]'\n"
    )


def test_a_peer_that_is_not_installed_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "find_spec", lambda name: name == "faiss" or None)
    assert benchmark._installed() == ["faiss"]
    assert capsys.readouterr().err == (
        "recsys bench index: hnswlib is not installed, and left out; pip install 'recsys[bench]'\n"
    )
