"""`recsys evaluate`: the model beside its baselines, by both protocols, with slices of users and items."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.baselines import learn_baselines
from experiments.slices import Masks, make_slices, require_categorical
from recsys import metrics
from recsys.artifacts import write_json
from recsys.errors import RequestError
from recsys.evaluation import Outcome, Scorer, TwoTowerScorer, evaluate, require_rankable, summarize
from recsys.interactions import load_interactions
from recsys.queries import Protocol, Queries, make_queries
from recsys.run import Run

PROTOCOLS: tuple[Protocol, ...] = ("event", "user")
MODEL = "two_tower"


def evaluate_run(run: Run, split: str, ks: tuple[int, ...], slice_by: Sequence[str] = ()) -> dict[str, Any]:
    """Evaluates a run on a split and adds the result to its `metrics.json`.

    Returns:
      `{"split", "ks", "skipped", "protocols": {protocol: {"queries", "users", "repeats_left_out", "rows", "slices"}}}`,
      where `skipped` says why of each baseline that could not be had, `rows` maps the model and each baseline to its
      metrics with 95 % intervals, and `slices` maps a slice to its query count and to the means.

    Raises:
      ConfigError: a name of `slice_by` is no categorical feature of the dataset.
      RequestError: a k is beyond the catalogue, or nothing validates.
    """
    if split == "validation" and not run.dataset.manifest.split_rule.validation:
        raise RequestError(
            f"{run.dataset.path} was prepared without validation: expected --split test, or a run that was trained "
            "on a dataset with validation"
        )
    require_categorical(run.dataset, slice_by)
    interactions = load_interactions(run.dataset)
    seed = run.config.train.seed
    asked = {protocol: make_queries(interactions, split, protocol) for protocol in PROTOCOLS}
    for queries in asked.values():
        require_rankable(queries, max(ks))
    baselines = learn_baselines(interactions, split, seed)
    model = TwoTowerScorer(run.towers, run.dataset)
    protocols = {}
    for protocol, queries in asked.items():
        slices = make_slices(queries, run.dataset, protocol, slice_by)
        scorers = {MODEL: model, **baselines.scorers(protocol)}
        protocols[protocol] = _by_protocol(scorers, queries, slices, run.dataset.train_counts, ks, seed)
    result = {"split": split, "ks": list(ks), "skipped": baselines.skipped, "protocols": protocols}
    file = run.path / "metrics.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    write_json(file, known | {split: result})
    return result


def _by_protocol(
    scorers: Mapping[str, Scorer],
    queries: Queries,
    slices: Masks,
    train_counts: npt.NDArray[np.int64],
    ks: tuple[int, ...],
    seed: int,
) -> dict[str, Any]:
    names = [f"{name}@{k}" for k in ks for name in metrics.NAMES]
    outcomes = {name: evaluate(scorer, queries, names) for name, scorer in scorers.items()}
    return {
        "queries": len(queries),
        "users": len(np.unique(queries.user_row)),
        "repeats_left_out": queries.num_repeats,
        "rows": {name: summarize(outcome, queries, train_counts, seed) for name, outcome in outcomes.items()},
        "slices": {
            label: {
                "queries": int(chosen.sum()),
                "rows": {name: _means(outcome, chosen) for name, outcome in outcomes.items()},
            }
            for label, chosen in slices.items()
        },
    }


def _means(outcome: Outcome, chosen: npt.NDArray[np.bool_]) -> dict[str, float]:
    return dict(zip(outcome.names, outcome.values[chosen].mean(axis=0).tolist(), strict=True))
