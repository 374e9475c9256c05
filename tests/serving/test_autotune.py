"""Tuning to a recall target, judged on queries that it was not given, against NumPy."""

import dataclasses
import math
import re
from collections.abc import Callable
from itertools import chain, pairwise, repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from recsys.config import IndexConfig
from recsys.errors import IndexQualityError
from serving import autotune
from serving.autotune import Measured, Tuned, build_indices, tune
from serving.index import ExactIndex, ScannIndex

DIM = 32
Vectors = npt.NDArray[np.float32]


def unit(vectors: npt.NDArray[np.float64]) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def drawn(kind: str, number: int, seed: int) -> Vectors:
    """Unit vectors all around, or around a hundred centers."""
    rng = np.random.default_rng(seed)
    spread = rng.normal(size=(number, DIM))
    if kind == "uniform":
        return unit(spread)
    centers = np.random.default_rng(7).normal(size=(100, DIM))
    return unit(centers[rng.integers(100, size=number)] + 0.5 * spread)


def tuned(candidates: Vectors, kind: str, config: IndexConfig, num_queries: int = 1000) -> Tuned:
    exact = ExactIndex(candidates)
    return tune(build_indices(exact, config), exact, drawn(kind, num_queries, seed=1), config)


def numpy_recall(index: ScannIndex, candidates: Vectors, queries: Vectors, k: int) -> float:
    found = index.search(tf.constant(queries), tf.constant(k))[0].numpy()
    best = np.argpartition(-(queries @ candidates.T), k - 1, axis=1)[:, :k]
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(best, found, strict=True)]))


@pytest.mark.parametrize("kind", ["uniform", "clustered"])
@pytest.mark.parametrize("target", [0.8, 0.95])
def test_the_target_is_met_on_queries_it_has_not_seen_without_searching_every_leaf(kind: str, target: float) -> None:
    candidates = drawn(kind, 3000, seed=0)
    config = IndexConfig(brute_force_below=16, recall_target=target)
    outcome = tuned(candidates, kind, config)
    queries = drawn(kind, 2000, seed=2)
    for k in (100, 10):
        assert numpy_recall(outcome.index, candidates, queries, k) >= target
    assert outcome.chosen.leaves < outcome.index.num_leaves
    assert outcome.k == 100
    assert outcome.chosen.recall_low >= target
    assert outcome.curve[-1].recall >= target
    times = [measured.batched_query_ms for measured in outcome.curve]
    assert times == sorted(times)


def test_a_small_catalogue_is_searched_exactly_and_recall_is_measured_at_its_size() -> None:
    candidates = drawn("uniform", 60, seed=0)
    config = IndexConfig(recall_target=1.0)
    outcome = tuned(candidates, "uniform", config)
    assert (outcome.k, outcome.chosen.recall, outcome.chosen.recall_low) == (60, 1, 1)


def test_a_target_that_cannot_be_met_is_refused_with_what_was_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of hashed scores alone, some of the best are left out, however many leaves are searched."""
    monkeypatch.setattr(autotune, "_REORDER_FACTORS", (1.0,))
    candidates = drawn("uniform", 5000, seed=0)
    config = IndexConfig(brute_force_below=16, recall_target=0.999)
    with pytest.raises(IndexQualityError) as error:
        tuned(candidates, "uniform", config)
    assert re.fullmatch(
        r"no setting of the index finds recall@100 0\.999 with 95 % confidence: 0\.[6-9]\d+ ± 0\.00\d\d is "
        r"reached when all (71|141) leaves are searched; lower index\.recall_target",
        str(error.value),
    )


def test_a_budget_that_no_setting_keeps_is_refused_with_the_fastest() -> None:
    candidates = drawn("uniform", 500, seed=0)
    config = IndexConfig(max_query_ms=1e-6)
    with pytest.raises(IndexQualityError) as error:
        tuned(candidates, "uniform", config)
    assert "within 1e-06 ms per query: the fastest takes " in str(error.value)


@pytest.fixture
def confirmed_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tuned]:
    """Tunes an index to 2 ms, where single queries take 1 ms, and those that confirm these times; their recall is 1."""
    candidates = drawn("clustered", 3000, seed=0)
    config = IndexConfig(brute_force_below=16, leaves_per_sqrt_item=(1.0,), max_query_ms=2.0)
    measure = autotune._Tuner._measure

    def tune_so(*milliseconds: float) -> Tuned:
        times = chain(milliseconds[:-1], repeat(milliseconds[-1]))

        def measured(tuner: Any, index: Any, effort: Any, judged: Any) -> Measured:
            point = measure(tuner, index, effort, judged)
            if judged is tuner._seen:
                return dataclasses.replace(point, query_ms=1.0)
            return dataclasses.replace(point, query_ms=next(times), recall_low=1.0)

        monkeypatch.setattr(autotune._Tuner, "_measure", measured)
        return tuned(candidates, "clustered", config)

    return tune_so


@pytest.mark.parametrize(
    ("milliseconds", "chosen"), [((1.5, 0.5), 1.5), ((2.0, 0.5), 2.0), ((2.01, 1.5, 0.5), 1.5), ((9.0, 5.0, 0.5), 0.5)]
)
def test_a_setting_is_confirmed_within_the_budget_of_time(
    confirmed_in: Callable[..., Tuned], milliseconds: tuple[float, ...], chosen: float
) -> None:
    assert confirmed_in(*milliseconds).chosen.query_ms == chosen


def test_settings_that_exceed_the_budget_when_they_are_confirmed_are_refused(
    confirmed_in: Callable[..., Tuned],
) -> None:
    with pytest.raises(IndexQualityError) as error:
        confirmed_in(5.0, 2.5, 4.0)
    assert str(error.value) == (
        "no setting of the index finds recall@100 0.95 with 95 % confidence on queries it was not tuned on within "
        "2.0 ms per query: the fastest takes 2.50 ms; raise index.max_query_ms or lower index.recall_target"
    )


def test_too_few_queries_are_refused() -> None:
    candidates = drawn("uniform", 500, seed=0)
    config = IndexConfig()
    with pytest.raises(IndexQualityError, match="expected 4 or more, received 3"):
        tuned(candidates, "uniform", config, num_queries=3)


def test_the_curve_has_no_point_that_another_beats() -> None:
    candidates = drawn("clustered", 5000, seed=0)
    config = IndexConfig(brute_force_below=16)
    curve = tuned(candidates, "clustered", config).curve
    assert len(curve) > 1
    for before, after in pairwise(curve):
        assert before.batched_query_ms <= after.batched_query_ms
        assert before.recall < after.recall


@pytest.mark.parametrize(("budget", "dtypes"), [(None, {"float32"}), (370, {"float32"}), (340, {"bfloat16", "int8"})])
def test_the_widest_numbers_within_the_budget_are_taken(budget: float | None, dtypes: set[str]) -> None:
    """32 codes, twice as bytes and once as half ones, two numbers of rows, twice 32 float32: 348; and codebooks."""
    candidates = drawn("clustered", 3000, seed=0)
    config = IndexConfig(brute_force_below=16, leaves_per_sqrt_item=(1.0,), max_bytes_per_item=budget)
    outcome = tuned(candidates, "clustered", config, num_queries=400)
    assert outcome.index.reorder_dtype in dtypes
    assert {measured.reorder_dtype for measured in outcome.curve} <= dtypes
    assert outcome.index.bytes_per_item < (math.inf if budget is None else budget)
    assert numpy_recall(outcome.index, candidates, drawn("clustered", 500, seed=2), k=100) >= 0.95


def test_the_fastest_of_the_shapes_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are as if each leaf there is took a millisecond, and searching it a microsecond."""
    candidates = drawn("clustered", 3000, seed=0)
    config = IndexConfig(brute_force_below=16, leaves_per_sqrt_item=(2.0, 0.5, 1.0))
    measure = autotune._Tuner._measure

    def measured(tuner: Any, index: Any, effort: Any, judged: Any) -> Measured:
        point = measure(tuner, index, effort, judged)
        return dataclasses.replace(point, batched_query_ms=point.num_leaves + effort.leaves / 1000)

    monkeypatch.setattr(autotune._Tuner, "_measure", measured)
    outcome = tuned(candidates, "clustered", config)
    assert outcome.index.num_leaves == outcome.chosen.num_leaves == round(0.5 * 3000**0.5)
    assert outcome.index.effort.leaves == outcome.chosen.leaves


def test_a_budget_of_memory_that_no_index_keeps_is_refused() -> None:
    exact = ExactIndex(drawn("uniform", 3000, seed=0))
    with pytest.raises(IndexQualityError) as error:
        build_indices(exact, IndexConfig(brute_force_below=16, max_bytes_per_item=5))
    assert re.fullmatch(
        r"no index holds at most 5\.0 bytes per item beside its embedding: the smallest has 1[45]\d; "
        r"raise index\.max_bytes_per_item",
        str(error.value),
    )
