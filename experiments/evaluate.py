"""`recsys evaluate`: the model beside its baselines, by both protocols, with cold users and items apart."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments import baselines
from recsys import metrics
from recsys.artifacts import write_json
from recsys.dataset import Dataset
from recsys.evaluation import Scorer, TwoTowerScorer, evaluate, summarize
from recsys.interactions import Interactions, load_interactions
from recsys.queries import Protocol, Queries, make_queries
from recsys.run import Run
from recsys.schema import ITEM_ID, USER_ID

PROTOCOLS: tuple[Protocol, ...] = ("event", "user")
MODEL = "two_tower"


def evaluate_run(run: Run, split: str, ks: tuple[int, ...]) -> dict[str, Any]:
    """Evaluates a run on a split and adds the result to its `metrics.json`.

    Returns:
      `{"split", "ks", "protocols": {protocol: {"queries", "users", "repeats_left_out", "rows", "slices"}}}`, where
      `rows` maps the model and each baseline to its metrics with 95 % intervals, and `slices` maps a slice to its
      query count and to the means.

    Raises:
      RequestError: a k is beyond the catalogue.
    """
    interactions = load_interactions(run.dataset)
    seed = run.config.train.seed
    scorers: dict[str, Scorer] = {
        MODEL: TwoTowerScorer(run.towers, run.dataset),
        "recent popularity": baselines.recent_popularity(interactions, split),
        "popularity": baselines.popularity(interactions, split),
        "random": baselines.RandomScorer(seed),
    }
    protocols = {p: _by_protocol(scorers, interactions, run.dataset, split, p, ks, seed) for p in PROTOCOLS}
    result = {"split": split, "ks": list(ks), "protocols": protocols}
    file = run.path / "metrics.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    write_json(file, known | {split: result})
    return result


def _by_protocol(
    scorers: dict[str, Scorer],
    interactions: Interactions,
    dataset: Dataset,
    split: str,
    protocol: Protocol,
    ks: tuple[int, ...],
    seed: int,
) -> dict[str, Any]:
    queries = make_queries(interactions, split, protocol)
    names = [f"{name}@{k}" for k in ks for name in metrics.NAMES]
    outcomes = {name: evaluate(scorer, queries, names) for name, scorer in scorers.items()}
    slices = {
        label: {
            "queries": int(chosen.sum()),
            "rows": {
                name: dict(zip(names, outcome.values[chosen].mean(axis=0).tolist(), strict=True))
                for name, outcome in outcomes.items()
            },
        }
        for label, chosen in _slices(queries, dataset, protocol).items()
        if chosen.any()
    }
    return {
        "queries": len(queries),
        "users": len(np.unique(queries.user_row)),
        "repeats_left_out": queries.num_repeats,
        "rows": {name: summarize(outcome, queries, seed) for name, outcome in outcomes.items()},
        "slices": slices,
    }


def _slices(queries: Queries, dataset: Dataset, protocol: Protocol) -> dict[str, npt.NDArray[np.bool_]]:
    """[num_queries] masks: users, and for one relevant item per query items, with and without train interactions."""
    schema = dataset.schema
    cold_user = dataset.user_features[USER_ID][queries.user_row] < schema.user_id.first_known_id
    slices = {"users seen in train": ~cold_user, "cold users": cold_user}
    if protocol == "event":
        cold_item = dataset.item_features[ITEM_ID][queries.relevant_item] < schema.item_id.first_known_id
        slices |= {"items seen in train": ~cold_item, "cold items": cold_item}
    return slices
