"""`--extend` from end to end: what was trained on keeps its ids and fits."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from data_prep.config import DataConfig
from data_prep.pipeline import prepare
from recsys.dataset import Dataset, open_dataset
from recsys.errors import ConfigError, DatasetError

FEATURES = [
    {"name": "category", "type": "categorical", "num_oov": 2},
    {"name": "tags", "type": "multi_categorical", "separator": "|"},
    {"name": "price", "type": "numeric"},
    {"name": "size", "type": "numeric", "quantiles": 4},
    {"name": "title", "type": "text", "num_buckets": 50},
]
CONFIG: dict[str, Any] = {
    "items": {"features": FEATURES},
    "users": {"features": [{"name": "country", "type": "categorical"}]},
    "split": {"rule": "leave_one_out"},
}


def rows(num_rows: int) -> pd.DataFrame:
    """Later rows bring new users, items and values, and other prices; what was rare becomes frequent."""
    rng = np.random.default_rng(5)
    time = np.arange(num_rows)
    item = rng.integers(10 + time // 15)
    user = rng.integers(5 + time // 30)
    return pd.DataFrame(
        {
            "user_id": [f"u{n}" for n in user],
            "item_id": [f"i{n}" for n in item],
            "timestamp": time,
            "country": [f"l{n // 7}" for n in user],
            "category": [f"c{n // 9}" for n in item],
            "tags": [f"t{n // 8}|t{n % 5}" for n in item],
            "price": item * 1.5,
            "size": item % 40,
            "title": [f"thing {n}" for n in item],
        }
    )


def prepared(folder: Path, frame: pd.DataFrame, extend: Path | None = None, **config: Any) -> Dataset:
    folder.mkdir()
    frame.to_csv(folder / "rows.csv", index=False)
    prepare(str(folder / "rows.csv"), DataConfig.model_validate(CONFIG | config), folder / "dataset", extend=extend)
    return open_dataset(folder / "dataset")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepared(tmp_path_factory.mktemp("old") / "old", rows(600))


@pytest.fixture(scope="module")
def grown(old: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepared(tmp_path_factory.mktemp("grown") / "grown", rows(1500), old.path)


VOCABULARIES = ["user_id", "item_id", "country", "category", "tags"]


@pytest.mark.parametrize("feature", VOCABULARIES)
def test_old_values_keep_their_ids_and_new_ones_follow_by_frequency(old: Dataset, grown: Dataset, feature: str) -> None:
    before, after = (pq.read_table(d.path / "vocabulary" / f"{feature}.parquet").to_pydict() for d in (old, grown))
    num_old = len(before["value"])
    assert after["value"][:num_old] == before["value"]
    assert after["id"][:num_old] == before["id"]
    first = before["id"][0]
    assert after["id"] == list(range(first, first + len(after["value"])))
    new = list(zip(after["value"], after["count"], strict=True))[num_old:]
    assert len(new) > 1
    assert new == sorted(new, key=lambda pair: (-pair[1], pair[0]))
    (description,) = (f for f in (*grown.schema.user_features, *grown.schema.item_features) if f.name == feature)
    assert description.num_ids == after["id"][-1] + 1


def test_what_items_were_is_what_they_are(old: Dataset, grown: Dataset) -> None:
    columns = ["category", "tags", "price", "size", "title"]
    before, after = (d.items.to_pandas().set_index("item") for d in (old, grown))
    known = before.index[before["train_count"] > 0]
    assert len(known) > 20
    assert (before.loc[known, "item_id"] == after.loc[known, "item_id"]).all()
    for column in columns:
        for item in known:
            assert np.array_equal(before.loc[item, column], after.loc[item, column]), (item, column)
    assert set(before.index) < set(after.index)


def test_what_was_learned_of_numbers_stays(old: Dataset, grown: Dataset, tmp_path: Path) -> None:
    anew = prepared(tmp_path / "anew", rows(1500))
    assert grown.manifest.numeric_fits == old.manifest.numeric_fits
    assert set(grown.manifest.numeric_fits) == {"price", "size"}
    assert anew.manifest.numeric_fits["price"] != old.manifest.numeric_fits["price"]
    assert anew.vocabulary("item_id") != grown.vocabulary("item_id")
    assert set(anew.vocabulary("item_id")) == set(grown.vocabulary("item_id"))


def test_counts_are_those_of_the_new_rows(old: Dataset, tmp_path: Path) -> None:
    """A value that is gone keeps its id with a count of 0."""
    frame = rows(600)
    gone = old.vocabulary("item_id")[0]
    shrunk = prepared(tmp_path / "shrunk", frame[frame["item_id"] != gone], old.path)
    stored = pq.read_table(shrunk.path / "vocabulary" / "item_id.parquet").to_pydict()
    assert (stored["value"][0], stored["count"][0]) == (gone, 0)
    assert gone not in shrunk.items["item"].to_pylist()
    counts = dict(zip(shrunk.items["item"].to_pylist(), shrunk.train_counts.tolist(), strict=True))
    assert dict(zip(stored["value"], stored["count"], strict=True)) == {
        value: counts.get(value, 0) for value in stored["value"]
    }


def test_a_dataset_extended_by_its_own_rows_stays_as_it_is(old: Dataset, tmp_path: Path) -> None:
    same = prepared(tmp_path / "same", rows(600), old.path)
    for file in ["items/items.parquet", "users/users.parquet", *(f"vocabulary/{v}.parquet" for v in VOCABULARIES)]:
        assert (same.path / file).read_bytes() == (old.path / file).read_bytes()
    assert same.manifest.splits == old.manifest.splits


@pytest.mark.parametrize(
    ("kind", "features", "received"),
    [
        ("users", [], "user_id (id, 1 out of vocabulary)"),
        (
            "users",
            [{"name": "country", "type": "categorical", "num_oov": 3}],
            "user_id (id, 1 out of vocabulary); country (categorical, 3 out of vocabulary)",
        ),
        (
            "items",
            [FEATURES[0], FEATURES[4] | {"num_buckets": 60}],
            "item_id (id, 1 out of vocabulary); category (categorical, 2 out of vocabulary); "
            "title (text × 16, 60 buckets)",
        ),
    ],
)
def test_other_features_cannot_extend(
    old: Dataset, tmp_path: Path, kind: str, features: list[dict[str, Any]], received: str
) -> None:
    theirs = {
        "users": "user_id (id, 1 out of vocabulary); country (categorical, 1 out of vocabulary)",
        "items": "item_id (id, 1 out of vocabulary); category (categorical, 2 out of vocabulary); "
        "tags (multi_categorical × 16, 1 out of vocabulary, separated by '|'); price (numeric); size (bucketized); "
        "title (text × 16, 50 buckets)",
    }
    with pytest.raises(ConfigError) as error:
        prepared(tmp_path / "other", rows(600), old.path, **{kind: {"features": features}})
    assert str(error.value) == (
        f"{old.path} has the features {theirs[kind]}: expected the same to extend it, received {received}; "
        "use its data.toml, or prepare without --extend and train anew"
    )
    assert [file.name for file in (tmp_path / "other").iterdir()] == ["rows.csv"]


@pytest.mark.parametrize(
    ("changed", "other", "received"),
    [
        ({"name": "tags", "separator": ";"}, 1, "tags (multi_categorical × 16, 1 out of vocabulary, separated by ';')"),
        ({"name": "tags", "separator": None}, 1, "tags (multi_categorical × 16, 1 out of vocabulary)"),
        ({"name": "title", "max_ngram": 2}, 4, "title (text × 16, 50 buckets, up to 2 words)"),
        ({"name": "price", "column": "size"}, 2, "price (numeric, of column size)"),
        ({"name": "category", "column": "title"}, 0, "category (categorical, 2 out of vocabulary, of column title)"),
    ],
)
def test_features_that_are_read_otherwise_cannot_extend(
    old: Dataset, tmp_path: Path, changed: dict[str, Any], other: int, received: str
) -> None:
    """The ids would stay, and mean something else."""
    features = [feature | changed if feature["name"] == changed["name"] else feature for feature in FEATURES]
    theirs = [
        "item_id (id, 1 out of vocabulary)",
        "category (categorical, 2 out of vocabulary)",
        "tags (multi_categorical × 16, 1 out of vocabulary, separated by '|')",
        "price (numeric)",
        "size (bucketized)",
        "title (text × 16, 50 buckets)",
    ]
    ours = [received if number == other + 1 else line for number, line in enumerate(theirs)]
    with pytest.raises(ConfigError) as error:
        prepared(tmp_path / "other", rows(600), old.path, items={"features": features})
    assert str(error.value) == (
        f"{old.path} has the features {'; '.join(theirs)}: expected the same to extend it, received {'; '.join(ours)}; "
        "use its data.toml, or prepare without --extend and train anew"
    )


def test_what_an_old_manifest_does_not_say_is_not_compared(old: Dataset, tmp_path: Path) -> None:
    """Datasets of former releases can still be extended."""
    shutil.copytree(old.path, tmp_path / "former")
    file = tmp_path / "former" / "manifest.json"
    manifest = json.loads(file.read_text())
    for kind in ("user_features", "item_features"):
        for feature in manifest["schema_"][kind]:
            for key in ("column", "separator", "max_ngram"):
                del feature[key]
    file.write_text(json.dumps(manifest))
    grown = prepared(tmp_path / "grown", rows(700), tmp_path / "former")
    assert [feature.separator for feature in grown.schema.item_features] == [None, None, "|", None, None, None]


def test_the_former_dataset_is_recorded_by_name_and_digest(old: Dataset, grown: Dataset) -> None:
    recorded = grown.manifest.sources["extends"]
    digest = hashlib.sha256((old.path / "manifest.json").read_bytes()).hexdigest()
    assert (recorded.spec, recorded.fingerprint) == ("dataset", digest)
    assert set(old.manifest.sources) == {"interactions"}


@pytest.mark.parametrize("quantiles", [None, 5])
def test_other_buckets_cannot_extend(old: Dataset, tmp_path: Path, quantiles: int | None) -> None:
    """The old boundaries would be kept, and the key would change nothing."""
    size = {"name": "size", "type": "numeric"} | ({} if quantiles is None else {"quantiles": quantiles})
    features = [size if feature["name"] == "size" else feature for feature in FEATURES]
    with pytest.raises(ConfigError) as error:
        prepared(tmp_path / "other", rows(600), old.path, items={"features": features})
    assert str(error.value) == (
        f"{old.path} has size with quantiles = 4: expected the same to extend it, received {quantiles}; "
        "use its data.toml, or prepare without --extend and train anew"
    )


def test_what_is_no_dataset_cannot_be_extended(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as error:
        prepared(tmp_path / "new", rows(100), tmp_path / "nothing")
    assert str(error.value) == (
        f"{tmp_path / 'nothing'} is no dataset: expected {tmp_path / 'nothing' / 'manifest.json'}; "
        "make one with `recsys prepare`"
    )
