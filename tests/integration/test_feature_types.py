"""A dataset with a feature of every type trains, and its bundle answers known and unknown users."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_prep.config import DataConfig
from data_prep.pipeline import prepare
from recsys.config import ExperimentConfig, RuntimeConfig
from recsys.dataset import open_dataset
from recsys.run import open_run
from recsys.training import train
from serving.bundle import open_bundle
from serving.export import export
from serving.recommend import recommend

CONTENT = [
    {"name": "kind", "type": "categorical"},
    {"name": "tags", "type": "multi_categorical", "separator": ";"},
    {"name": "title", "type": "text", "max_ngram": 2, "num_buckets": 64},
    {"name": "price", "type": "numeric"},
    {"name": "price_class", "column": "price", "type": "numeric", "quantiles": 4},
    {"name": "listed", "type": "timestamp"},
]


def write_tables(folder: Path) -> None:
    rng = np.random.default_rng(0)
    pd.DataFrame(
        {
            "user_id": rng.choice([f"u{n}" for n in range(40)], 2000),
            "item_id": rng.choice([f"i{n}" for n in range(60)], 2000),
            "timestamp": np.arange(2000),
            "stars": rng.integers(1, 6, 2000),
            "share": rng.random(2000),
        }
    ).to_csv(folder / "rows.tsv", sep="\t", index=False)
    things = pd.DataFrame(
        {
            "kind": rng.choice(["a", "b"], 60),
            "tags": rng.choice(["x;y", "y", ""], 60),
            "title": rng.choice(["the red door", "a blue sea"], 60),
            "price": rng.choice([1.5, 2.0, 7.25, np.nan], 60),
            "listed": pd.date_range("2024-01-01", periods=60, freq="7h").astype(str),
        }
    )
    things.assign(item_id=[f"i{n}" for n in range(60)]).to_json(folder / "items.jsonl", orient="records", lines=True)
    things[:40].assign(user_id=[f"u{n}" for n in range(40)]).to_parquet(folder / "users.parquet")


@pytest.mark.slow
@pytest.mark.parametrize("history_length", [0, 5])
def test_every_feature_type_goes_from_a_table_to_an_answer(tmp_path: Path, history_length: int) -> None:
    write_tables(tmp_path)
    items = {"source": str(tmp_path / "items.jsonl"), "features": CONTENT, "show": ["title"]}
    people = [
        feature | {"name": f"user_{feature['name']}", "column": feature.get("column", feature["name"])}
        for feature in CONTENT
    ]
    config = DataConfig.model_validate(
        {
            "interactions": {"label": "stars", "weight": "share"},
            "items": items,
            "users": {"source": str(tmp_path / "users.parquet"), "features": people},
            "filters": {"min_label": 2},
            "history_length": history_length,
        }
    )
    prepare(str(tmp_path / "rows.tsv"), config, tmp_path / "dataset")
    experiment = ExperimentConfig.model_validate(
        {
            "model": {"embedding_dim": 8, "candidate": {"pooling": "attention"}, "query": {"pooling": "sum"}},
            "train": {"batch_size": 256, "epochs": 1},
        }
    )
    train(experiment, RuntimeConfig(), open_dataset(tmp_path / "dataset"), tmp_path / "run")
    towers = open_run(tmp_path / "run").towers
    assert {feature["name"] for feature in CONTENT} < set(towers.candidate_inputs)
    assert {feature["name"] for feature in people} < set(towers.query_inputs)
    export(open_run(tmp_path / "run"), tmp_path / "models", "all")
    for user, known in (("u3", True), ("nobody", False)):
        answer = recommend(open_bundle(tmp_path / "models" / "all"), user, 5)
        assert answer["known"] is known
        assert len(answer["items"]) == 5
        assert np.isfinite([item["score"] for item in answer["items"]]).all()
