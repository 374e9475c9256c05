"""Interactions in memory: small integers in columns, about 20 bytes each."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.threads import in_threads
from data_prep.validate import ValidBatch

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Events:
    """Usable interactions in the order of their source.

    Attributes:
      user_ids, item_ids: the distinct raw ids.
      user, item: [num_rows] int32 positions in them.
      timestamp, position: [num_rows] int64.
      in_test: [num_rows] bool: from the table that tests, where the split is given.
      label, weight: [num_rows] float32, where the source has them.
    """

    user_ids: pa.StringArray
    item_ids: pa.StringArray
    user: Int32s
    item: Int32s
    timestamp: Int64s
    position: Int64s
    in_test: npt.NDArray[np.bool_]
    label: Float32s | None
    weight: Float32s | None

    def __len__(self) -> int:
        return len(self.user)

    def take(self, chosen: npt.NDArray[np.bool_] | Int64s) -> "Events":
        """The rows that a mask or positions choose; the ids stay."""
        columns: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)[2:]}
        taken: dict[str, Any] = {name: None if c is None else c[chosen] for name, c in columns.items()}
        return replace(self, **taken)

    def compacted(self) -> "Events":
        """The same rows, without ids that no row has."""
        user_ids, user = _compacted(self.user_ids, self.user)
        item_ids, item = _compacted(self.item_ids, self.item)
        return replace(self, user_ids=user_ids, user=user, item_ids=item_ids, item=item)


@dataclass(frozen=True)
class EventBatch:
    """Some interactions, whose ids are integers batch by batch, so that no text of a row stays.

    Attributes:
      user, item: [num_rows] ids, each distinct one once as text.
      timestamp, position, in_test, label, weight: as of `Events`.
    """

    user: pa.DictionaryArray
    item: pa.DictionaryArray
    timestamp: Int64s
    position: Int64s
    in_test: npt.NDArray[np.bool_]
    label: Float32s | None
    weight: Float32s | None

    @classmethod
    def of(cls, batch: ValidBatch, in_test: bool) -> "EventBatch":
        """The interactions of a batch of one table."""
        return cls(
            user=batch.user.dictionary_encode(),
            item=batch.item.dictionary_encode(),
            timestamp=batch.timestamp,
            position=batch.position,
            in_test=np.full(len(batch.timestamp), in_test),
            label=batch.label,
            weight=batch.weight,
        )


def joined(batches: Sequence[EventBatch]) -> Events:
    """The interactions of all batches."""
    ids = ([getattr(batch, kind) for batch in batches] for kind in ("user", "item"))
    (user_ids, user), (item_ids, item) = in_threads(unified, ids)
    return Events(
        user_ids=user_ids,
        item_ids=item_ids,
        user=user,
        item=item,
        timestamp=np.concatenate([batch.timestamp for batch in batches]),
        position=np.concatenate([batch.position for batch in batches]),
        in_test=np.concatenate([batch.in_test for batch in batches]),
        label=_joined([batch.label for batch in batches]),
        weight=_joined([batch.weight for batch in batches]),
    )


def unified(chunks: list[pa.DictionaryArray]) -> tuple[pa.StringArray, Int32s]:
    """The distinct values of all chunks, and [num_rows] int32 positions in them."""
    column = pa.chunked_array(chunks).unify_dictionaries()
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in column.chunks])
    return column.chunk(0).dictionary, codes.astype(np.int32, copy=False)


def _joined(parts: list[Float32s | None]) -> Float32s | None:
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if present else None


def _compacted(ids: pa.StringArray, codes: Int32s) -> tuple[pa.StringArray, Int32s]:
    used = np.bincount(codes, minlength=len(ids)) > 0
    if used.all():
        return ids, codes
    return pc.filter(ids, pa.array(used)), (np.cumsum(used, dtype=np.int32) - 1)[codes]
