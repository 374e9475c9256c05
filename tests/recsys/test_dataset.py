"""Opening a DATASET: what is there, and what damaged ones say."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.dataset import Dataset, open_dataset
from recsys.errors import DatasetError


@pytest.fixture
def copy(tiny_dataset: Dataset, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_dataset.path, tmp_path / "copy"))


def refusal(path: Path) -> str:
    with pytest.raises(DatasetError) as error:
        open_dataset(path)
    return str(error.value)


def test_bags_are_padded_to_a_static_width(tiny_dataset: Dataset) -> None:
    lists = pq.read_table(tiny_dataset.path / "items" / "items.parquet")["title_words"].to_pylist()
    expected = [row + [0] * (4 - len(row)) for row in lists]
    assert min(map(len, lists)) < 4
    np.testing.assert_array_equal(tiny_dataset.item_features["title_words"], expected)
    assert {v.dtype for v in tiny_dataset.item_features.values()} == {np.dtype(np.int32)}
    assert {name: v.shape[1:] for name, v in tiny_dataset.item_features.items()} == {
        "item_id": (),
        "category": (),
        "genres": (3,),
        "title_words": (4,),
    }


def test_a_vocabulary_stands_in_the_order_of_ids(tiny_dataset: Dataset) -> None:
    feature = tiny_dataset.schema.item_id
    ids = dict(zip(tiny_dataset.items["item"].to_pylist(), tiny_dataset.item_features["item_id"], strict=True))
    values = tiny_dataset.vocabulary("item_id")
    assert [ids[value] for value in values] == list(range(2, 2 + len(values)))
    assert feature.num_ids == 2 + len(values)


def test_the_fingerprint_is_that_of_the_manifest(tiny_dataset: Dataset) -> None:
    content = (tiny_dataset.path / "manifest.json").read_bytes()
    assert tiny_dataset.fingerprint == hashlib.sha256(content).hexdigest()


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == (
        f"{tmp_path} is no dataset: expected {tmp_path}/manifest.json; make one with `recsys prepare`"
    )


@pytest.mark.parametrize("version", [1, None])
def test_another_format_version_is_refused(copy: Path, version: int | None) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"format_version": version, "new_key": 1}))
    assert refusal(copy) == (f"{copy} has format version {version}: expected 2; prepare it again with this release")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"format_version": 2,', "Expecting property name enclosed in double quotes: line 1 column 22 (char 21)"),
        (b'{"format_version": 2}', "13 validation errors for Manifest"),
        (b"[1]", "'list' object has no attribute 'get'"),
        (b"\xff", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ],
)
def test_a_damaged_manifest_is_refused(copy: Path, content: bytes, reason: str) -> None:
    (copy / "manifest.json").write_bytes(content)
    assert refusal(copy) == f"{copy}/manifest.json is damaged ({reason}); prepare the dataset again"


def test_a_missing_shard_is_refused(copy: Path) -> None:
    dataset = open_dataset(copy)
    shard = dataset.shard_paths("train")[-1]
    shard.unlink()
    with pytest.raises(DatasetError) as error:
        dataset.shard_paths("train")
    assert str(error.value) == (f"{shard} is missing: expected the shards that manifest.json lists; prepare it again")


def test_a_missing_table_is_refused(copy: Path) -> None:
    table = copy / "items" / "items.parquet"
    table.unlink()
    with pytest.raises(DatasetError) as error:
        _ = open_dataset(copy).items
    assert str(error.value) == f"{table} cannot be read ({table}); prepare the dataset again"


def test_a_table_cut_short_is_refused(copy: Path) -> None:
    table = copy / "users" / "users.parquet"
    table.write_bytes(table.read_bytes()[:100])
    with pytest.raises(DatasetError) as error:
        _ = open_dataset(copy).users
    assert str(error.value) == (
        f"{table} cannot be read (Could not open Parquet input source '{table}': Parquet magic bytes not found in "
        "footer. Either the file is corrupted or this is not a parquet file.); prepare the dataset again"
    )


def test_a_table_with_a_damaged_page_is_refused(copy: Path) -> None:
    table = copy / "users" / "users.parquet"
    content = bytearray(table.read_bytes())
    content[4:100] = bytes(96)
    table.write_bytes(content)
    with pytest.raises(DatasetError) as error:
        _ = open_dataset(copy).users
    assert str(error.value).startswith(f"{table} cannot be read (")
    assert str(error.value).endswith("); prepare the dataset again")


@pytest.mark.parametrize(("folder", "kind"), [("items", "item"), ("users", "user")])
def test_an_id_that_comes_twice_is_refused(copy: Path, folder: str, kind: str) -> None:
    file = copy / folder / f"{folder}.parquet"
    table = pq.read_table(file)
    twice = table[kind][5].as_py()
    pq.write_table(pa.concat_tables([table.slice(0, 20), table.slice(5, 1), table.slice(20)]), file)
    with pytest.raises(DatasetError) as error:
        getattr(open_dataset(copy), folder)
    assert str(error.value) == f"{file} holds the {kind} {twice} twice: expected each once; prepare it again"
