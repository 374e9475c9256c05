"""The shipped `data.toml` files on real data give the counts that were published with it."""

from pathlib import Path

import pandas as pd
import pytest

from data_prep.pipeline import prepare
from data_prep.schema_files import load_data_config
from recsys.dataset import Dataset, open_dataset
from recsys.interactions import load_interactions


@pytest.fixture(scope="module")
def gowalla(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepared("gowalla", real_data / "gowalla" / "train.csv.gz", tmp_path_factory)


@pytest.fixture(scope="module")
def beauty(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepared("amazon-beauty", real_data / "amazon-beauty" / "interactions.csv.gz", tmp_path_factory)


def prepared(schema: str, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("published") / schema
    prepare(str(source), load_data_config(Path(schema), str(source)), out)
    return open_dataset(out)


def rows_of(dataset: Dataset) -> pd.DataFrame:
    """What the shards hold, with raw ids."""
    loaded = load_interactions(dataset)
    users, items = dataset.users["user"].to_numpy(), dataset.items["item"].to_numpy()
    columns = {"user": users[loaded.user_row], "item": items[loaded.item_row], "time": loaded.timestamp}
    return pd.DataFrame(columns | {"split": loaded.split})


def test_gowalla_has_its_published_counts(gowalla: Dataset) -> None:
    """29,858 users, 40,981 items, 810,128 train and 217,242 test interactions (He et al., 2020)."""
    manifest = gowalla.manifest
    assert (manifest.statistics["users"], manifest.statistics["items"]) == (29_858, 40_981)
    train, validation = manifest.num_rows("train"), manifest.num_rows("validation")
    assert train + validation == 810_128
    assert validation / 810_128 == pytest.approx(0.02, abs=0.001)
    assert manifest.num_rows("test") == 217_242
    assert (manifest.quarantine, manifest.filtered) == ({}, {})
    assert manifest.statistics["audit"]["test_pairs_in_train"] == 0


def test_gowalla_tests_on_the_given_rows(gowalla: Dataset, real_data: Path) -> None:
    stored = rows_of(gowalla)
    for name, splits in (("train", (0, 1)), ("test", (2,))):
        given = pd.read_csv(real_data / "gowalla" / f"{name}.csv.gz", dtype=str)
        mine = stored.loc[stored["split"].isin(splits), ["user", "item"]]
        ours = mine.sort_values(["user", "item"]).to_numpy()
        assert (ours == given.sort_values(["user_id", "item_id"]).to_numpy()).all()


def test_beauty_has_its_published_counts(beauty: Dataset) -> None:
    """22,363 users, 12,101 items, 198,502 interactions (Zhou et al., 2020)."""
    manifest = beauty.manifest
    found = {name: manifest.statistics[name] for name in ("users", "items", "interactions")}
    assert found == {"users": 22_363, "items": 12_101, "interactions": 198_502}
    assert [manifest.num_rows(name) for name in ("train", "validation", "test")] == [153_776, 22_363, 22_363]
    assert (manifest.quarantine, manifest.filtered) == ({}, {"k-core": 0})


def test_each_user_of_beauty_is_tested_on_the_last_review(beauty: Dataset, real_data: Path) -> None:
    stored = rows_of(beauty)
    raw = pd.read_csv(real_data / "amazon-beauty" / "interactions.csv.gz", dtype={"user_id": str, "item_id": str})
    latest = raw.sort_values("timestamp").groupby("user_id")["item_id"]
    for split, nth in ((2, -1), (1, -2)):
        found = stored[stored["split"] == split].set_index("user")["item"].sort_index()
        assert found.index.is_unique
        assert found.to_dict() == latest.nth(nth).set_axis(raw.loc[latest.nth(nth).index, "user_id"]).to_dict()
