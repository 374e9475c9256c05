"""Shards as `recsys.blocks` reads them, against histories by brute force."""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from data_prep.sequences import Sequences, build_sequences
from data_prep.shards import write_shards
from recsys.blocks import decode_rows, decode_rows_and_history, read_blocks

NUM_USERS, NUM_ITEMS = 9, 200


def interactions(num_rows: int, num_moments: int, length: int) -> Sequences:
    """Few users and many ties in time."""
    rng = np.random.default_rng(num_rows)
    user = rng.choice(NUM_USERS, size=num_rows, p=np.arange(1, 10) / 45).astype(np.int32)
    item = rng.integers(NUM_ITEMS, size=num_rows).astype(np.int32)
    time = rng.integers(num_moments, size=num_rows) + 2**40
    return build_sequences(user, item, time, (time > 2**40 + 0.8 * num_moments).astype(np.int8), length)


def histories(
    user: npt.NDArray[np.int32], item: npt.NDArray[np.int32], time: npt.NDArray[np.int64], length: int
) -> npt.NDArray[np.int32]:
    """[num_rows, length]: for each row the latest strictly earlier items of the user, oldest first, then -1."""
    found = np.full((len(user), length), -1, np.int32)
    for row in range(len(user)):
        earlier = np.flatnonzero((user == user[row]) & (time < time[row]))
        latest = item[earlier[np.lexsort((item[earlier], time[earlier]))]][-length:]
        found[row, : len(latest)] = latest
    return found


@pytest.mark.parametrize("blocks_at_once", [1, 3])
@pytest.mark.parametrize("length", [1, 20])
def test_rows_and_histories_survive_a_round_trip(tmp_path: Path, length: int, blocks_at_once: int) -> None:
    made = interactions(3500, 700, length)
    expected = histories(made.user_row, made.item_row, made.timestamp, length)
    for number, name in enumerate(["train", "validation"]):
        rows = np.flatnonzero(made.split == number)
        shards = write_shards(tmp_path, name, made, rows)
        blocks = read_blocks([tmp_path / shard.name for shard in shards]).batch(blocks_at_once)
        decoded = [decode_rows_and_history(block, length) for block in blocks]
        read = {column: np.concatenate([part[column] for part in decoded]) for column in decoded[0]}
        np.testing.assert_array_equal(read["user_row"], made.user_row[rows])
        np.testing.assert_array_equal(read["item_row"], made.item_row[rows])
        np.testing.assert_array_equal(read["timestamp"], made.timestamp[rows])
        np.testing.assert_array_equal(read["history"], expected[rows])
        assert set(decode_rows(next(iter(blocks)))) == {"user_row", "item_row", "timestamp"}


def test_a_block_without_any_history_is_read(tmp_path: Path) -> None:
    made = build_sequences(
        np.arange(5, dtype=np.int32), np.arange(5, dtype=np.int32), np.zeros(5, np.int64), np.zeros(5, np.int8), 3
    )
    (shard,) = write_shards(tmp_path, "train", made, np.arange(5))
    (block,) = read_blocks([tmp_path / shard.name]).batch(1)
    np.testing.assert_array_equal(decode_rows_and_history(block, 3)["history"], np.full((5, 3), -1))


def test_shards_hold_all_rows_and_none_is_empty(tmp_path: Path) -> None:
    made = interactions(10_000, 3000, 5)
    shards = write_shards(tmp_path, "train", made, np.arange(10_000))
    assert [shard.name for shard in shards] == [f"interactions/train-{n:05d}-of-00008.tfrecord" for n in range(8)]
    assert sum(shard.num_rows for shard in shards) == 10_000
    for shard in shards:
        rows = [decode_rows(tf.stack([block])) for block in read_blocks([tmp_path / shard.name])]
        assert sum(len(part["user_row"]) for part in rows) == shard.num_rows > 0
        assert max(len(part["user_row"]) for part in rows) <= 1024
        assert shard.sha256 == hashlib.sha256((tmp_path / shard.name).read_bytes()).hexdigest()


def test_a_users_history_is_stored_once_per_block(tmp_path: Path) -> None:
    """A window of 100 items at each of 2000 rows would be 200,000 values; overlapping windows are one run."""
    length = 100
    made = interactions(2000, 2000, length)
    shards = write_shards(tmp_path, "train", made, np.arange(2000))
    stored = 0
    for block in read_blocks([tmp_path / shard.name for shard in shards]):
        buffers = tf.train.Example.FromString(block.numpy()).features.feature
        stored += len(buffers["history/values"].bytes_list.value[0]) // 4
    # A user continued from the block before brings at most one window along.
    assert 1000 < stored <= 2000 + length
