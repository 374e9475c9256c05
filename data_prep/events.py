"""Interactions in memory: small integers in columns, about 20 bytes each."""

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

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


@dataclass
class EventCollector:
    """Gathers valid batches. Ids are turned into integers batch by batch, so that no text of a row stays."""

    _batches: list[ValidBatch] = field(default_factory=list)
    _in_test: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    _ids: dict[str, list[pa.DictionaryArray]] = field(default_factory=lambda: {"user": [], "item": []})

    def add(self, batch: ValidBatch, in_test: bool) -> None:
        """Takes a batch."""
        for kind in self._ids:
            self._ids[kind].append(getattr(batch, kind).dictionary_encode())
        self._in_test.append(np.full(len(batch.timestamp), in_test))
        nothing, no_text = pa.table({}), pa.array([], pa.string())
        self._batches.append(replace(batch, user=no_text, item=no_text, table=nothing, quarantine=nothing))

    def events(self) -> Events:
        """Everything that was gathered."""
        user_ids, user = unified(self._ids["user"])
        item_ids, item = unified(self._ids["item"])
        return Events(
            user_ids=user_ids,
            item_ids=item_ids,
            user=user,
            item=item,
            timestamp=np.concatenate([batch.timestamp for batch in self._batches]),
            position=np.concatenate([batch.position for batch in self._batches]),
            in_test=np.concatenate(self._in_test),
            label=_joined([batch.label for batch in self._batches]),
            weight=_joined([batch.weight for batch in self._batches]),
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
