"""The best items of every user of a bundle, in one Parquet file."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from recsys.artifacts import new_file
from recsys.stages import stage
from serving.bundle import Bundle
from serving.recommend import require_k

_COLUMNS = pa.schema(
    [("user_id", pa.string()), ("rank", pa.int32()), ("item_id", pa.string()), ("score", pa.float32())]
)
_ROWS_PER_GROUP = 2**17
_USERS_PER_CALL = 512


def recommend_all(bundle: Bundle, k: int, out: Path) -> int:
    """Writes what the bundle's `recommend` answers to each of its users, in the order in which it holds them.

    The columns are `user_id`, `rank` (from 1), `item_id` and `score`: up to `k` rows for each user, best first; fewer
    where fewer items are left. Memory does not grow with the users. `out` appears when it is complete.

    Args:
      bundle: what to ask.
      k: how many items.
      out: the file, which must not exist.

    Returns:
      The number of users.

    Raises:
      RequestError: `k` is out of range.
      OutputError: `out` exists or cannot be written.
    """
    require_k(bundle, k)
    calls_per_group = max(1, _ROWS_PER_GROUP // (_USERS_PER_CALL * k))
    calls = _batches(bundle.users(), _USERS_PER_CALL)
    total = sum(1 for _ in bundle.users())
    with (
        new_file(out) as partial,
        stage("recommending", total, "users") as progress,
        pq.ParquetWriter(partial, _COLUMNS) as writer,
    ):
        while group := list(islice(calls, calls_per_group)):
            writer.write_table(pa.concat_tables([_answer(bundle, users, k) for users in group]))
            progress.advance(sum(map(len, group)))
    return total


def _batches(users: Iterator[str], size: int) -> Iterator[list[str]]:
    while batch := list(islice(users, size)):
        yield batch


def _answer(bundle: Bundle, users: list[str], k: int) -> pa.Table:
    nothing = tf.fill([len(users), 0], "")
    answer = bundle.model.signatures["recommend"](
        user_id=tf.constant(users), history=nothing, exclude=nothing, k=tf.constant(k)
    )
    items, scores = answer["item_ids"].numpy(), answer["scores"].numpy()
    row, rank = np.nonzero(items != b"")
    columns = [
        pa.array(users).take(pa.array(row)),
        pa.array(rank + 1, pa.int32()),
        pa.array(items[row, rank], pa.binary()).cast(pa.string()),
        pa.array(scores[row, rank]),
    ]
    return pa.table(columns, _COLUMNS)
