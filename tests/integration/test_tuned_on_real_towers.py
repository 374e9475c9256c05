"""The index over towers that were trained on real data, judged by NumPy on queries that it was not tuned on."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from data_prep.pipeline import prepare
from data_prep.schema_files import load_data_config
from recsys.config import ExperimentConfig, RuntimeConfig
from recsys.dataset import open_dataset
from recsys.evaluation import TwoTowerScorer
from recsys.interactions import load_interactions
from recsys.queries import make_queries
from recsys.run import Run, open_run
from recsys.toml_config import load_toml
from recsys.training import train
from serving.autotune import build_indices, tune
from serving.index import ExactIndex

CONFIGS = Path(__file__).parents[2] / "experiments" / "configs"
K, TARGET = 100, 0.95


def trained(name: str, source: Path, folder: Path, *overrides: str) -> Run:
    prepare(str(source), load_data_config(Path(name), str(source)), folder / "data")
    config = load_toml(ExperimentConfig, CONFIGS / f"{name}.toml", overrides)
    train(config, RuntimeConfig(), open_dataset(folder / "data"), folder / "run")
    return open_run(folder / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "source", "overrides"),
    [
        ("gowalla", "gowalla/train.csv.gz", ("train.epochs=3",)),
        # So few items are searched by brute force, if nobody says otherwise.
        ("amazon-beauty", "amazon-beauty/interactions.csv.gz", ("train.epochs=1", "index.brute_force_below=16")),
    ],
)
def test_the_target_is_met_without_searching_everything(
    real_data: Path, tmp_path: Path, name: str, source: str, overrides: tuple[str, ...]
) -> None:
    run = trained(name, real_data / source, tmp_path, *overrides)
    scorer = TwoTowerScorer(run.towers, run.dataset)
    queries = make_queries(load_interactions(run.dataset), "validation", "event").latest_of_users()
    for_tuning = np.isin(np.arange(len(queries)), np.random.default_rng(0).choice(len(queries), 2000, replace=False))
    asked, others = (
        scorer.embed(part, 0, len(part)).numpy() for part in (queries.subset(for_tuning), queries.subset(~for_tuning))
    )
    candidates = scorer.candidates.numpy()
    exact = ExactIndex(candidates)
    tuned = tune(build_indices(exact, run.config.index), exact, asked, run.config.index)
    index = tuned.index
    assert (tuned.k, tuned.chosen.recall_low >= TARGET) == (K, True)
    assert tuned.chosen.leaves < index.num_leaves / 2

    found = []
    for start in range(0, 5000, 500):
        batch = others[start : start + 500]
        best = np.argpartition(-(batch @ candidates.T), K - 1, axis=1)[:, :K]
        rows = index.search(tf.constant(batch), tf.constant(K))[0].numpy()
        found += [len(np.intersect1d(*both)) / K for both in zip(best, rows, strict=True)]
    print(f"{name}: recall@{K} {np.mean(found):.4f} on {len(found):,} other queries; tuned to {tuned.chosen}")
    assert np.mean(found) + 3 * np.std(found) / np.sqrt(len(found)) >= TARGET
