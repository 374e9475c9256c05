"""`recsys evaluate` on a tiny run, against a ranking written as a loop over interactions."""

import copy
import io
import json
import re
import shutil
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from experiments.evaluate import evaluate_run
from experiments.tables import print_evaluation
from recsys.errors import RequestError
from recsys.interactions import load_interactions
from recsys.queries import make_queries
from recsys.run import Run, open_run

METRICS = [f"{name}@{k}" for k in (5, 20) for name in ("recall", "ndcg", "hit_rate", "mrr", "map", "precision")]
CATALOGUE = [f"{name}@{k}" for k in (5, 20) for name in ("coverage", "gini", "novelty", "popularity_lift")]
ALS = ["implicit ALS"] if find_spec("implicit") else []
ROWS = ["two_tower", "EASE^R", "item-kNN", *ALS, "recent popularity", "popularity", "random"]


@pytest.fixture(scope="module")
def run(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A copy, which may be written to."""
    path = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(tiny_run.path, path)
    return open_run(path)


@pytest.fixture(scope="module")
def result(run: Run) -> dict[str, Any]:
    return evaluate_run(run, "test", (5, 20))


def ranks_by_hand(run: Run) -> tuple[list[int], list[int]]:
    """The 0-based rank of each test event's item among the items its user had not taken, and the user's row."""
    everything = load_interactions(run.dataset)
    items = run.towers.candidate(run.dataset.item_features).numpy()
    item_ids = np.array(run.dataset.items["item_id"].to_pylist())
    user_ids = np.array(run.dataset.users["user_id"].to_pylist())
    ranks, users = [], []
    for user in range(len(user_ids)):
        mine = np.flatnonzero(everything.user_row == user)
        rows = sorted(mine, key=lambda r: (everything.timestamp[r], everything.item_row[r]))
        for number, row in enumerate(rows):
            item = everything.item_row[row]
            if everything.split[row] != 2 or item in everything.item_row[rows[:number]]:
                continue
            seen = [everything.item_row[r] for r in rows if everything.timestamp[r] < everything.timestamp[row]]
            latest = item_ids[seen[-30:]].tolist() if seen else []
            history = np.array([latest + [0] * (30 - len(latest))], np.int32)
            query = run.towers.query({"user_id": user_ids[[user]].astype(np.int32), "history": history}).numpy()[0]
            scores = items @ query
            scores[seen] = -np.inf
            better = (scores > scores[item]) | ((scores == scores[item]) & (np.arange(len(scores)) < item))
            ranks.append(int(better.sum()))
            users.append(user)
    return ranks, users


def test_the_result_has_a_row_per_ranking_and_metric(result: dict[str, Any]) -> None:
    assert (result["split"], result["ks"], list(result["protocols"])) == ("test", [5, 20], ["event", "user"])
    for part in result["protocols"].values():
        assert list(part) == ["queries", "users", "repeats_left_out", "rows", "slices"]
        assert list(part["rows"]) == ROWS
        for row in part["rows"].values():
            assert sorted(row) == sorted([*METRICS, *CATALOGUE])
            for name in METRICS:
                assert 0 <= row[name]["low"] <= row[name]["mean"] <= row[name]["high"] <= 1
    assert result["protocols"]["user"]["queries"] == result["protocols"]["user"]["users"]


def test_the_model_s_row_equals_a_ranking_by_hand(run: Run, result: dict[str, Any]) -> None:
    ranks, users = ranks_by_hand(run)
    part = result["protocols"]["event"]
    assert (part["queries"], part["users"]) == (len(ranks), len(set(users)))
    for k in (5, 20):
        found = [rank if rank < k else None for rank in ranks]
        expected = {
            f"recall@{k}": np.mean([rank is not None for rank in found]),
            f"hit_rate@{k}": np.mean([rank is not None for rank in found]),
            f"ndcg@{k}": np.mean([0 if rank is None else 1 / np.log2(rank + 2) for rank in found]),
            f"map@{k}": np.mean([0 if rank is None else 1 / (rank + 1) for rank in found]),
            f"precision@{k}": np.mean([rank is not None for rank in found]) / k,
            f"mrr@{k}": np.mean([0 if rank is None else 1 / (rank + 1) for rank in found]),
        }
        row = {name: part["rows"]["two_tower"][name]["mean"] for name in expected}
        assert row == pytest.approx(expected, rel=1e-9)


def test_slices_add_up_to_all_queries(result: dict[str, Any]) -> None:
    for protocol, pairs in [
        ("event", [("users seen in train", "cold users"), ("items seen in train", "cold items")]),
        ("user", [("users seen in train", "cold users")]),
    ]:
        part = result["protocols"][protocol]
        for pair in pairs:
            pieces = [part["slices"][label] for label in pair if label in part["slices"]]
            assert sum(piece["queries"] for piece in pieces) == part["queries"]
            for ranking in ROWS:
                sums = {name: sum(p["queries"] * p["rows"][ranking][name] for p in pieces) for name in METRICS}
                means = {name: part["rows"][ranking][name]["mean"] * part["queries"] for name in METRICS}
                assert sums == pytest.approx(means)


def test_cold_slices_hold_who_and_what_train_does_not_know(run: Run, result: dict[str, Any]) -> None:
    everything = load_interactions(run.dataset)
    train, test = everything.split == 0, everything.split == 2
    fresh: set[tuple[int, int]] = set()
    seen = set(zip(everything.user_row[~test].tolist(), everything.item_row[~test].tolist(), strict=True))
    for user, item in zip(everything.user_row[test].tolist(), everything.item_row[test].tolist(), strict=True):
        if (user, item) not in seen:
            fresh.add((user, item))
    cold = {
        "cold users": sum(user not in everything.user_row[train] for user, _ in fresh),
        "cold items": sum(item not in everything.item_row[train] for _, item in fresh),
    }
    slices = result["protocols"]["event"]["slices"]
    assert {label: slices.get(label, {"queries": 0})["queries"] for label in cold} == cold
    assert sum(cold.values()) > 0


def test_slices_are_means_over_their_queries(run: Run, result: dict[str, Any]) -> None:
    """Of the model, by the ranks of test events whose history is long."""
    ranks, _ = ranks_by_hand(run)
    everything = load_interactions(run.dataset)
    queries = make_queries(everything, "test", "event")
    length = queries.seen_end - queries.seen_start
    long = (length > 20) & (length <= 100)
    part = result["protocols"]["event"]["slices"]["history length 21–100"]
    assert part["queries"] == long.sum() > 0
    expected = np.mean([rank < 20 for rank, chosen in zip(ranks, long, strict=True) if chosen])
    assert part["rows"]["two_tower"]["recall@20"] == pytest.approx(expected)


def test_a_baseline_that_cannot_be_had_is_named(result: dict[str, Any]) -> None:
    missing = {"implicit ALS": "the package implicit is missing: pip install 'recsys[bench]'"}
    assert result["skipped"] == ({} if ALS else missing)


def test_the_tables_show_every_figure_and_what_is_missing(result: dict[str, Any]) -> None:
    shown = Console(width=160, record=True, file=io.StringIO())
    nothing_seen = copy.deepcopy(result) | {"skipped": {"EASE^R": "too large"}}
    nothing_seen["protocols"]["user"]["rows"]["random"]["popularity_lift@20"] = None
    print_evaluation(shown, nothing_seen)
    text = shown.export_text()
    for name in ("recall", "hit rate", "map", "precision", "coverage", "gini", "novelty", "popularity lift"):
        assert re.search(rf" {name}\s", text)
    assert "EASE^R left out: too large" in text
    random = [line.split() for line in text.splitlines() if line.startswith("random ")]
    assert random[-1][-1] == "–"
    row = result["protocols"]["event"]["rows"]["popularity"]
    assert any(f"{row['map@5']['mean']:.4f}" in line for line in text.splitlines() if line.startswith("popularity "))


def test_metrics_json_keeps_each_split_s_latest_result(run: Run, result: dict[str, Any]) -> None:
    file = run.path / "metrics.json"
    assert json.loads(file.read_text(encoding="utf-8")) == {"test": result}
    validation = evaluate_run(run, "validation", (5,))
    assert json.loads(file.read_text(encoding="utf-8")) == {"test": result, "validation": validation}


def test_a_k_beyond_the_catalogue_is_refused_and_writes_nothing(run: Run, result: dict[str, Any]) -> None:
    before = (run.path / "metrics.json").read_bytes()
    with pytest.raises(RequestError) as error:
        evaluate_run(run, "test", (5, 294))
    assert str(error.value) == "k = 294 is larger than the catalogue: expected at most 293"
    assert (run.path / "metrics.json").read_bytes() == before


def test_slices_by_a_feature_are_added(run: Run) -> None:
    part = evaluate_run(run, "validation", (5,), ["category"])["protocols"]["event"]
    categories = [piece for label, piece in part["slices"].items() if label.startswith("category: ")]
    assert sum(piece["queries"] for piece in categories) == part["queries"]
    assert len(categories) > 1
