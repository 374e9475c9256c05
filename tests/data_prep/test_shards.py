"""Shards as `recsys.blocks` reads them, against histories by brute force."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from data_prep import shards as shards_module
from data_prep.sequences import Sequences, build_sequences
from data_prep.shards import write_shards
from recsys.blocks import decode_rows, decode_windows, read_blocks, runs, take_history
from recsys.schema import Shard

COLUMNS = ("user_row", "item_row", "timestamp")
NUM_USERS, NUM_ITEMS = 9, 200
SPLITS = ("train", "validation", "test")


def interactions(num_rows: int, num_moments: int, length: int, users: Any = None, labelled: bool = False) -> Sequences:
    """Few users and many ties in time; three splits, of which later ones hold earlier times too."""
    rng = np.random.default_rng(num_rows)
    if users is None:
        users = rng.choice(NUM_USERS, size=num_rows, p=np.arange(1, 10) / 45)
    item = rng.integers(NUM_ITEMS, size=num_rows).astype(np.int32)
    time = rng.integers(num_moments, size=num_rows) + 2**40
    label = weight = None
    if labelled:
        label, weight = (rng.random(num_rows).astype(np.float32) for _ in range(2))
    split = rng.choice(3, size=num_rows, p=[0.6, 0.2, 0.2]).astype(np.int8)
    return build_sequences(np.asarray(users, np.int32), item, time, split, label, weight, length)


def write_all(folder: Path, made: Sequences) -> dict[str, tuple[Shard, ...]]:
    return {
        name: write_shards(folder, name, made, np.flatnonzero(made.split == number))
        for number, name in enumerate(SPLITS)
    }


def brute_force(made: Sequences, length: int) -> npt.NDArray[np.int32]:
    """[num_rows, length]: what the user did before, oldest first, then -1."""
    found = np.full((len(made.user_row), length), -1, np.int32)
    for user in np.unique(made.user_row):
        mine = np.flatnonzero(made.user_row == user)
        split, time, item = made.split[mine], made.timestamp[mine], made.item_row[mine]
        for row, own_split, own_time in zip(mine, split, time, strict=True):
            before = np.flatnonzero((split < own_split) | ((split == own_split) & (time < own_time)))
            latest = item[before[np.lexsort((item[before], time[before], split[before]))]]
            latest = latest[max(0, len(latest) - length) :]
            found[row, : len(latest)] = latest
    return found


def raw_blocks(folder: Path, shards: tuple[Shard, ...]) -> list[dict[str, bytes]]:
    return [
        {name: feature.bytes_list.value[0] for name, feature in tf.train.Example.FromString(r).features.feature.items()}
        for r in read_blocks([folder / shard.name for shard in shards]).as_numpy_iterator()
    ]


def with_history(blocks: tf.Tensor, length: int) -> dict[str, npt.NDArray[Any]]:
    """The columns of blocks, and item rows as the history, -1 where there is none."""
    rows, values = decode_windows(blocks, COLUMNS)
    taken = take_history(rows, runs(values + 1, length), length)
    return {name: column.numpy() for name, column in (taken | {"history": taken["history"] - 1}).items()}


@pytest.mark.parametrize(("blocks_at_once", "block_rows"), [(1, 1024), (3, 1024), (3, 64)])
@pytest.mark.parametrize("length", [0, 1, 10, 23])
def test_rows_and_histories_survive_a_round_trip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int, blocks_at_once: int, block_rows: int
) -> None:
    """Also of shards that hold several blocks."""
    monkeypatch.setattr(shards_module, "BLOCK_ROWS", block_rows)
    made = interactions(5000, 700, length)
    expected = brute_force(made, length)
    for number, (name, shards) in enumerate(write_all(tmp_path, made).items()):
        rows = np.flatnonzero(made.split == number)
        blocks = read_blocks([tmp_path / shard.name for shard in shards]).batch(blocks_at_once)
        decoded = [with_history(block, length) for block in blocks]
        read = {column: np.concatenate([part[column] for part in decoded]) for column in decoded[0]}
        assert all(shard.name.startswith(f"interactions/{name}-") for shard in shards)
        np.testing.assert_array_equal(read["user_row"], made.user_row[rows])
        np.testing.assert_array_equal(read["item_row"], made.item_row[rows])
        np.testing.assert_array_equal(read["timestamp"], made.timestamp[rows])
        np.testing.assert_array_equal(read["history"], expected[rows])
        assert set(decode_rows(next(iter(blocks)))) == {"user_row", "item_row", "timestamp"}


def test_labels_and_weights_stand_beside_their_rows(tmp_path: Path) -> None:
    made = interactions(3000, 100, 2, labelled=True)
    for number, shards in enumerate(write_all(tmp_path, made).values()):
        blocks = raw_blocks(tmp_path, shards)
        for name, column in (("label", made.label), ("weight", made.weight)):
            assert column is not None
            read = np.concatenate([np.frombuffer(block[name], "<f4") for block in blocks])
            np.testing.assert_array_equal(read, column[made.split == number])


def test_a_source_without_labels_stores_none(tmp_path: Path) -> None:
    shards = write_all(tmp_path, interactions(100, 10, 2))["train"]
    (block,) = raw_blocks(tmp_path, shards)
    windows = {"history/values", "history/starts", "history/lengths"}
    assert set(block) == {"user_row", "item_row", "timestamp"} | windows


def test_without_histories_a_block_stores_none(tmp_path: Path) -> None:
    shards = write_all(tmp_path, interactions(3000, 100, 0))["test"]
    assert [block["history/values"] for block in raw_blocks(tmp_path, shards)] == [b""] * len(shards)


def test_a_block_without_any_history_is_read(tmp_path: Path) -> None:
    codes = np.arange(5, dtype=np.int32)
    made = build_sequences(codes, codes, np.zeros(5, np.int64), np.zeros(5, np.int8), None, None, 3)
    (shard,) = write_shards(tmp_path, "train", made, np.arange(5))
    (block,) = read_blocks([tmp_path / shard.name]).batch(1)
    np.testing.assert_array_equal(with_history(block, 3)["history"], np.full((5, 3), -1))


@pytest.mark.parametrize("giant", [None, 0, 150, 299])
def test_blocks_hold_whole_users_and_shards_all_rows(tmp_path: Path, giant: int | None) -> None:
    """Also when one user has nearly all rows."""
    num_rows = 20_000
    rng = np.random.default_rng(1)
    users = rng.integers(300, size=num_rows)
    if giant is not None:
        users[rng.random(num_rows) < 0.97] = giant
    made = interactions(num_rows, 3000, 5, users)
    for number, (name, shards) in enumerate(write_all(tmp_path, made).items()):
        rows = np.flatnonzero(made.split == number)
        names = [f"interactions/{name}-{n:05d}-of-{len(shards):05d}.tfrecord" for n in range(len(shards))]
        assert [shard.name for shard in shards] == names
        assert (
            sorted(str(file.relative_to(tmp_path)) for file in (tmp_path / "interactions").glob(f"{name}-*")) == names
        )
        owners: list[int] = []
        for shard in shards:
            users_of_blocks = [np.frombuffer(b["user_row"], "<i4") for b in raw_blocks(tmp_path, (shard,))]
            assert sum(map(len, users_of_blocks)) == shard.num_rows > 0
            owners += [int(user) for block in users_of_blocks for user in np.unique(block)]
            # A block ends with the user who stands at its 1024th row.
            for block in users_of_blocks:
                assert len(block) - (block == block[-1]).sum() < 1024
            assert shard.sha256 == hashlib.sha256((tmp_path / shard.name).read_bytes()).hexdigest()
        assert len(owners) == len(set(owners))
        assert owners == np.unique(made.user_row[rows]).tolist()
        assert sum(shard.num_rows for shard in shards) == len(rows)


def test_many_rows_are_spread_evenly_over_eight_shards(tmp_path: Path) -> None:
    made = interactions(60_000, 3000, 0, np.random.default_rng(1).integers(5000, size=60_000))
    sizes = [shard.num_rows for shard in write_all(tmp_path, made)["train"]]
    assert len(sizes) == 8
    assert max(sizes) - min(sizes) < 2 * 1100  # one block more or less, and the last is not full


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_all(tmp_path / folder, interactions(4000, 300, 7, labelled=True))
    files = [file.relative_to(tmp_path / "a") for file in (tmp_path / "a").rglob("*.tfrecord")]
    assert len(files) == 5
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_overlapping_histories_are_stored_once(tmp_path: Path) -> None:
    """A window of 100 items at each of 2000 rows would be 200,000 values; overlapping windows are one run."""
    length = 100
    made = interactions(2000, 2000, length)
    stored = 0
    for number, shards in enumerate(write_all(tmp_path, made).values()):
        rows = int((made.split == number).sum())
        values = sum(len(block["history/values"]) // 4 for block in raw_blocks(tmp_path, shards))
        # Each of nine users brings at most one window from the splits before.
        assert 0.5 * rows < values <= rows + NUM_USERS * length
        stored += values
    assert stored < 5000
