"""Slices against loops over queries."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_prep.config import DataConfig
from data_prep.pipeline import prepare
from experiments.slices import by_popularity, make_slices
from recsys.dataset import Dataset, open_dataset
from recsys.errors import ConfigError
from recsys.interactions import load_interactions
from recsys.queries import Protocol, Queries, make_queries


@pytest.fixture(scope="module", params=["event", "user"])
def protocol(request: pytest.FixtureRequest) -> Protocol:
    return request.param


@pytest.fixture(scope="module")
def queries(tiny_dataset: Dataset, protocol: Protocol) -> Queries:
    return make_queries(load_interactions(tiny_dataset), "test", protocol)


def test_history_lengths_divide_the_queries(tiny_dataset: Dataset, protocol: Protocol, queries: Queries) -> None:
    slices = make_slices(queries, tiny_dataset, protocol)
    length = queries.seen_end - queries.seen_start
    expected = {}
    for name, least, most in [
        ("0", 0, 0),
        ("1–5", 1, 5),
        ("6–20", 6, 20),
        ("21–100", 21, 100),
        ("101 or more", 101, 10**9),
    ]:
        chosen = [least <= n <= most for n in length.tolist()]
        if any(chosen):
            expected[f"history length {name}"] = chosen
    found = {label: chosen.tolist() for label, chosen in slices.items() if label.startswith("history")}
    assert found == expected
    assert len(found) >= 3


def test_popularity_deciles_are_tenths_of_the_catalogue() -> None:
    counts = np.array([5, 5, 0, 1, 2, 3, 4, 9, 9, 9])
    slices = by_popularity(np.array([7, 0, 1, 2, 8, 7], np.int32), counts)
    assert [(label, np.flatnonzero(chosen).tolist()) for label, chosen in slices.items()] == [
        ("popularity decile 8 (9 in train)", [0, 4, 5]),
        ("popularity decile 6 (5 in train)", [1, 2]),
        ("popularity decile 5 (4 in train)", []),
        ("popularity decile 4 (3 in train)", []),
        ("popularity decile 3 (2 in train)", []),
        ("popularity decile 2 (1 in train)", []),
        ("popularity decile 1 (0 in train)", [3]),
    ]


def test_deciles_of_a_catalogue_hold_every_query_once(tiny_dataset: Dataset) -> None:
    queries = make_queries(load_interactions(tiny_dataset), "test", "event")
    slices = make_slices(queries, tiny_dataset, "event")
    parts = [chosen for label, chosen in slices.items() if "decile" in label]
    assert len(parts) > 5
    assert (np.sum(parts, axis=0) == 1).all()
    assert "decile" not in "".join(make_slices(queries, tiny_dataset, "user"))


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Users with a city or none, items with one of 50 makers, tags and a price, or none of them."""
    folder = tmp_path_factory.mktemp("features")
    rng = np.random.default_rng(1)
    rows = {"user_id": rng.integers(60, size=4000), "item_id": rng.integers(200, size=4000), "timestamp": range(4000)}
    pd.DataFrame(rows).to_parquet(folder / "rows.parquet")
    city = rng.choice(["Bern", "Lima", ""], 60)
    pd.DataFrame({"user_id": range(60), "city": city}).to_csv(folder / "users.csv", index=False)
    items = {
        "item_id": range(200),
        "maker": [f"m{min(n % 70, 49)}" for n in range(200)],
        "tags": rng.choice(["old", "old|red", "red", ""], 200),
        "price": rng.choice([1.0, 2.0, 7.5, np.nan], 200),
    }
    pd.DataFrame(items).to_csv(folder / "items.csv", index=False)
    features = [
        {"name": "maker", "type": "categorical"},
        {"name": "tags", "type": "multi_categorical", "separator": "|"},
        {"name": "price", "type": "numeric", "quantiles": 3},
        {"name": "cost", "column": "price", "type": "numeric"},
    ]
    config = DataConfig.model_validate(
        {
            "items": {"source": str(folder / "items.csv"), "features": features},
            "users": {"source": str(folder / "users.csv"), "features": [{"name": "city", "type": "categorical"}]},
        }
    )
    prepare(str(folder / "rows.parquet"), config, folder / "dataset")
    return folder


def members(tables: Path, name: str, protocol: Protocol = "event") -> tuple[dict[str, list[int]], pd.DataFrame]:
    """The queries of each slice by a feature, and a row of the raw tables for each query."""
    dataset = open_dataset(tables / "dataset")
    queries = make_queries(load_interactions(dataset), "test", protocol)
    fresh = {*make_slices(queries, dataset, protocol, [name])} - {*make_slices(queries, dataset, protocol)}
    slices = make_slices(queries, dataset, protocol, [name])
    items, users = (pd.read_csv(tables / f"{kind}.csv", keep_default_na=kind == "items") for kind in ("items", "users"))
    asked = users.set_index("user_id").loc[[int(u) for u in dataset.users["user"].take(queries.user_row).to_pylist()]]
    if protocol == "event":
        wanted = [int(item) for item in dataset.items["item"].take(queries.relevant_item).to_pylist()]
        asked = asked.reset_index(drop=True).join(items.set_index("item_id").loc[wanted].reset_index(drop=True))
    return {label: np.flatnonzero(slices[label]).tolist() for label in slices if label in fresh}, asked


def where(chosen: pd.Series) -> list[int]:
    return np.flatnonzero(chosen.to_numpy()).tolist()


@pytest.mark.parametrize("protocol", ["event", "user"])
def test_a_feature_of_users_slices_both_protocols(tables: Path, protocol: Protocol) -> None:
    slices, asked = members(tables, "city", protocol)
    assert slices == {
        "city: Bern": where(asked["city"] == "Bern"),
        "city: Lima": where(asked["city"] == "Lima"),
        "city, no value": where(asked["city"] == ""),
    }


def test_a_query_is_in_the_slice_of_each_value_of_its_item(tables: Path) -> None:
    slices, asked = members(tables, "tags")
    tags = asked["tags"].fillna("")
    assert slices == {
        "tags: old": where(tags.str.contains("old")),
        "tags: red": where(tags.str.contains("red")),
        "tags, no value": where(tags == ""),
    }
    assert set(slices["tags: old"]) & set(slices["tags: red"])


def test_buckets_are_named_by_their_ends(tables: Path) -> None:
    slices, asked = members(tables, "price")
    dataset = open_dataset(tables / "dataset")
    ends = dataset.manifest.numeric_fits["price"].boundaries
    assert len(ends) == 2
    expected = {
        f"price: below {ends[0]:g}": where(asked["price"] < ends[0]),
        f"price: from {ends[0]:g} below {ends[1]:g}": where((asked["price"] >= ends[0]) & (asked["price"] < ends[1])),
        f"price: from {ends[1]:g}": where(asked["price"] >= ends[1]),
        "price, no value": where(asked["price"].isna()),
    }
    assert slices == {label: chosen for label, chosen in expected.items() if chosen}


def test_rare_values_are_put_together(tables: Path) -> None:
    slices, asked = members(tables, "maker")
    counts = asked["maker"].value_counts()
    labels = list(slices)
    assert len(labels) == 31
    sizes = [len(slices[label]) for label in labels]
    assert sizes[:30] == sorted(counts, reverse=True)[:30]
    shown = [label.removeprefix("maker: ") for label in labels[:30]]
    assert labels[30] == f"maker, {len(counts) - 30} rarer values"
    assert slices[labels[30]] == where(~asked["maker"].isin(shown))


def test_items_features_do_not_slice_queries_with_many_relevant_items(tables: Path) -> None:
    assert members(tables, "maker", "user")[0] == {}


def test_a_feature_that_is_not_categorical_is_refused(tables: Path, tiny_dataset: Dataset) -> None:
    dataset = open_dataset(tables / "dataset")
    queries = make_queries(load_interactions(dataset), "test", "event")
    for name in ("cost", "colour", "item_id"):
        with pytest.raises(ConfigError) as error:
            make_slices(queries, dataset, "event", ["maker", name])
        assert str(error.value) == (
            f"--slice-by {name}: expected a categorical feature of users or items, one of city, maker, tags, price"
        )
