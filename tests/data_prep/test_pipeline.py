"""`prepare` from a CSV to a DATASET, against pandas."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.config import DataConfig, load_data_config
from data_prep.pipeline import prepare
from recsys.dataset import Dataset, open_dataset
from recsys.errors import OutputExistsError, SourceError
from recsys.interactions import load_interactions
from recsys.schema import Manifest

SYNTHETIC = "synthetic:users=60,items=90,interactions=3000"
CATEGORY = {"name": "category", "type": "categorical"}


def random_rows() -> pd.DataFrame:
    """Users and items that appear late, repeats, and ties in time; no row is bad."""
    rng = np.random.default_rng(5)
    time = np.sort(rng.integers(400, size=1500))
    frame = pd.DataFrame(
        {
            "user_id": [f"u{n}" for n in rng.integers(5 + time // 20)],
            "item_id": [f"i{n}" for n in rng.integers(10 + time // 10)],
            "timestamp": time,
        }
    )
    return frame.assign(category="c" + frame["item_id"].str[-1])


def prepared(folder: Path, rows: pd.DataFrame, **config: Any) -> Dataset:
    folder.mkdir(exist_ok=True)
    rows.to_csv(folder / "rows.csv", index=False)
    prepare(str(folder / "rows.csv"), DataConfig.model_validate(config), folder / "dataset")
    return open_dataset(folder / "dataset")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepared(tmp_path_factory.mktemp("prepared"), random_rows(), items={"features": [CATEGORY]})


def files_of(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def train_rows(manifest: Manifest) -> pd.DataFrame:
    rows = random_rows()
    return rows[rows["timestamp"] < manifest.split_rule.validation_start]


def test_every_interaction_is_in_the_split_of_its_time(dataset: Dataset) -> None:
    loaded = load_interactions(dataset)
    users, items = dataset.users["user"].to_numpy(), dataset.items["item"].to_numpy()
    found = zip(users[loaded.user_row], items[loaded.item_row], loaded.timestamp, loaded.split, strict=True)
    rows, cuts = random_rows(), dataset.manifest.split_rule
    split = [int(t >= cuts.validation_start) + int(t >= cuts.test_start) for t in rows["timestamp"]]
    assert sorted(found) == sorted(zip(rows["user_id"], rows["item_id"], rows["timestamp"], split, strict=True))
    assert [dataset.manifest.num_rows(name) for name in ("train", "validation", "test")] == np.bincount(split).tolist()


def test_statistics_match_pandas(dataset: Dataset) -> None:
    rows, train = random_rows(), train_rows(dataset.manifest)
    test_users = set(rows.loc[rows["timestamp"] >= dataset.manifest.split_rule.test_start, "user_id"])
    assert dataset.manifest.statistics == {
        "interactions": 1500,
        "users": rows["user_id"].nunique(),
        "items": rows["item_id"].nunique(),
        "first_timestamp": rows["timestamp"].min(),
        "last_timestamp": rows["timestamp"].max(),
        "test_users": len(test_users),
        "test_users_seen_in_train": len(test_users & set(train["user_id"])),
        "items_without_train_interaction": rows["item_id"].nunique() - train["item_id"].nunique(),
    }
    assert dataset.manifest.statistics["items_without_train_interaction"] > 0


def test_vocabularies_and_counts_come_from_train_rows(dataset: Dataset) -> None:
    train = train_rows(dataset.manifest)
    for kind in ("user", "item"):
        counts = train[f"{kind}_id"].value_counts().to_dict()
        stored = pq.read_table(dataset.path / "vocabulary" / f"{kind}_id.parquet").to_pydict()
        assert dict(zip(stored["value"], stored["count"], strict=True)) == counts
        assert stored["value"] == sorted(counts, key=lambda value: (-counts[value], value))
    expected = [train["item_id"].value_counts().get(item, 0) for item in dataset.items["item"].to_pylist()]
    assert dataset.train_counts.tolist() == expected
    categories = train.drop_duplicates("item_id")["category"].value_counts()
    stored = pq.read_table(dataset.path / "vocabulary" / "category.parquet").to_pydict()
    assert dict(zip(stored["value"], stored["count"], strict=True)) == categories.to_dict()


def test_the_manifest_describes_every_file(dataset: Dataset) -> None:
    manifest = dataset.manifest
    listed = [manifest.items, manifest.users, *manifest.vocabularies.values(), *sum(manifest.splits.values(), ())]
    assert {shard.name for shard in listed} | {"manifest.json", "statistics.json"} == set(files_of(dataset.path))
    assert (manifest.quarantine, manifest.seed) == ({}, 0)


def test_bad_rows_are_quarantined_and_counted(tmp_path: Path) -> None:
    rows = random_rows().drop(columns="category").astype(str)
    rows.loc[3, "user_id"] = ""
    rows.loc[[4, 9], "timestamp"] = "soon"
    made = prepared(tmp_path, rows)
    kept_apart = pq.read_table(made.path / "quarantine" / "interactions.parquet").to_pandas()
    assert kept_apart[["user_id", "timestamp", "reason"]].to_numpy().tolist() == [
        ["", rows.loc[3, "timestamp"], "missing user_id"],
        [rows.loc[4, "user_id"], "soon", "unreadable timestamp"],
        [rows.loc[9, "user_id"], "soon", "unreadable timestamp"],
    ]
    assert made.manifest.quarantine == {"missing user_id": 1, "unreadable timestamp": 2}
    assert made.manifest.statistics["interactions"] == 1497


def test_the_seed_changes_the_order_of_items_only(tmp_path: Path, dataset: Dataset) -> None:
    other = prepared(tmp_path, random_rows(), items={"features": [CATEGORY]}, seed=1)
    ours, theirs = dataset.items["item"].to_pylist(), other.items["item"].to_pylist()
    assert ours != theirs
    assert sorted(ours) == sorted(theirs)
    assert dataset.vocabulary("item_id") == other.vocabulary("item_id")


def test_an_items_table_adds_items_that_nobody_took(tmp_path: Path) -> None:
    table = pd.DataFrame({"sku": ["i1", "never", "i2"], "kind": ["a", "b", "a"]})
    table.to_csv(tmp_path / "items.csv", index=False)
    feature = {"name": "kind", "type": "categorical"}
    made = prepared(
        tmp_path, random_rows(), items={"source": str(tmp_path / "items.csv"), "id": "sku", "features": [feature]}
    )
    items = dict(zip(made.items["item"].to_pylist(), made.items["kind"].to_pylist(), strict=True))
    assert set(items) == set(random_rows()["item_id"]) | {"never"}
    # `a` is in train, `b` is not, and what the table does not list has no kind.
    assert (items["i1"], items["i2"], items["never"], items["i3"]) == (2, 2, 1, 0)


def test_an_integer_column_stays_as_written_beside_unlisted_items(tmp_path: Path) -> None:
    pq.write_table(pa.table({"item_id": ["i1", "i2"], "year": [1995, 1996]}), tmp_path / "items.parquet")
    feature = {"name": "year", "type": "categorical"}
    items = {"source": str(tmp_path / "items.parquet"), "features": [feature], "show": ["year"]}
    made = prepared(tmp_path, random_rows(), items=items)
    assert made.vocabulary("year") == ["1995", "1996"]
    assert set(made.items["show_year"].to_pylist()) == {"1995", "1996", ""}


def test_an_items_table_with_an_id_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id\ni1\ni2\ni1\n")
    with pytest.raises(SourceError) as error:
        prepared(tmp_path, random_rows(), items={"source": str(tmp_path / "items.csv")})
    assert str(error.value) == f"{tmp_path}/items.csv names item_id i1 twice: expected one row per item"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["items.csv", "rows.csv"]


@pytest.mark.parametrize("item_id", [None, "", "a\nb"])
def test_an_items_table_with_an_unusable_id_is_refused(tmp_path: Path, item_id: str | None) -> None:
    """It would become a candidate named "None", or one that shares the padding id."""
    pq.write_table(pa.table({"item_id": ["i1", item_id]}), tmp_path / "items.parquet")
    with pytest.raises(SourceError) as error:
        prepared(tmp_path, random_rows(), items={"source": str(tmp_path / "items.parquet")})
    reason = "line break in item_id" if item_id else "missing item_id"
    assert str(error.value) == (f"{tmp_path / 'items.parquet'}: {reason} in row 2: expected one usable id per item")


@pytest.mark.parametrize("column", ["item", "user", "id"])
def test_any_name_may_be_that_of_a_content_column(tmp_path: Path, column: str) -> None:
    rows = random_rows().rename(columns={"category": column})
    made = prepared(tmp_path, rows, items={"show": [column]})
    shown = dict(zip(made.items["item"].to_pylist(), made.items[f"show_{column}"].to_pylist(), strict=True))
    assert shown == dict(zip(rows["item_id"], rows[column], strict=True))


def test_a_failing_run_leaves_nothing_behind(tmp_path: Path) -> None:
    rows = random_rows().assign(timestamp=7)
    with pytest.raises(SourceError) as error:
        prepared(tmp_path, rows)
    assert str(error.value) == (
        "the temporal split leaves a part empty (train 0, validation 0, test 1500): "
        "expected more rows or distinct timestamps"
    )
    assert [file.name for file in tmp_path.iterdir()] == ["rows.csv"]


def test_an_existing_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "dataset"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(OutputExistsError) as error:
        prepare(SYNTHETIC, load_data_config(None, SYNTHETIC), out)
    assert str(error.value) == f"{out} exists: expected a new directory; choose another name or remove it first"
    assert files_of(tmp_path) == {"dataset/mine.txt": b"keep"}


# Forks once per preparation, so that the seconds of importing TensorFlow are spent once. The first is left to finish,
# the others are killed as soon as so many files of theirs are seen.
KILLER = """
import os, signal, sys
from pathlib import Path
import data_prep.pipeline, data_prep.config

source, folder = sys.argv[1], Path(sys.argv[2])

def start(name):
    child = os.fork()
    if child == 0:
        data_prep.pipeline.prepare(source, data_prep.config.load_data_config(None, source), folder / name)
        os._exit(0)
    return child

def files_written(prefix):
    # os.walk passes over what is renamed while it walks.
    return sum(len(files) for path, _, files in os.walk(folder) if Path(path).relative_to(folder).parts[:1]
               and Path(path).relative_to(folder).parts[0].startswith(prefix))

assert os.waitpid(start("whole"), 0)[1] == 0
for trial in range(12):
    child = start(f"killed-{trial}")
    while files_written(f".killed-{trial}.partial-") < 3 * trial:
        if os.waitpid(child, os.WNOHANG)[0]:
            break
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
"""


def test_a_killed_process_leaves_a_whole_dataset_or_none(tmp_path: Path) -> None:
    """And another process, whose sets have another order, writes the same bytes."""
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    subprocess.run([sys.executable, "-c", KILLER, SYNTHETIC, str(tmp_path)], check=True, env=environment, timeout=100)
    here = tmp_path / "here"
    prepare(SYNTHETIC, load_data_config(None, SYNTHETIC), here)
    whole = files_of(here)
    assert len(whole) > 8
    assert files_of(tmp_path / "whole") == whole
    for path in tmp_path.glob("killed-*"):
        assert files_of(path) == whole
    interrupted = list(tmp_path.glob(".killed-*.partial-*"))
    assert len(interrupted) >= 3
    assert all(not (tmp_path / path.name[1:].partition(".")[0]).exists() for path in interrupted)
