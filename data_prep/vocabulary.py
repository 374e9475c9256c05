"""Vocabularies: which value has which id."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.hashing import bucket

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Vocabulary:
    """Known values by descending train count, ties by value; after those of an extended dataset.

    Attributes:
      values: the value of id `1 + num_oov + position`.
      counts: of a user's or item's id its train interactions, of a feature's value the users or items with a train
        interaction that have it.
      num_oov: ids 1 … `num_oov` that unknown values are hashed into.
    """

    values: pa.StringArray
    counts: Int64s
    num_oov: int

    @property
    def num_ids(self) -> int:
        """Rows of an embedding table for it, padding and out-of-vocabulary rows included."""
        return 1 + self.num_oov + len(self.values)

    def encode(self, values: pa.StringArray) -> npt.NDArray[np.int32]:
        """Returns the [len(values)] int32 ids; the empty string is padding."""
        position = pc.index_in(values, value_set=self.values)
        ids = pc.fill_null(position, -1).to_numpy().astype(np.int32) + np.int32(1 + self.num_oov)
        unknown = position.is_null().to_numpy(zero_copy_only=False)
        if unknown.any():
            ids[unknown] = unknown_ids(values.filter(pa.array(unknown)), self.num_oov)
        return ids

    def table(self) -> pa.Table:
        """The vocabulary as it is stored: value, id, count."""
        ids = np.arange(1 + self.num_oov, self.num_ids, dtype=np.int32)
        return pa.table({"value": self.values, "id": ids, "count": self.counts})


def unknown_ids(values: pa.StringArray, num_oov: int) -> npt.NDArray[np.int32]:
    """[len(values)] int32 ids of values that no vocabulary holds: 1 … `num_oov`, and 0 for the empty string."""
    texts = values.to_numpy(zero_copy_only=False)
    return np.where(texts == "", 0, 1 + bucket(texts, num_oov)).astype(np.int32)


def fit_vocabulary(
    values: pa.StringArray, counts: Int64s, num_oov: int, old: pa.StringArray | None = None
) -> Vocabulary:
    """Gives ids to the values that have a train count; the empty string is no value.

    Args:
      values: distinct values.
      counts: [len(values)] int64, their train counts as of `Vocabulary`; a value of 0 is unknown.
      num_oov: out-of-vocabulary ids.
      old: the values of a dataset that is extended, in the order of their ids, which they keep.
    """
    table = pa.table({"value": values, "count": pa.array(counts, pa.int64())})
    known = table.filter((pc.field("count") > 0) & (pc.field("value") != ""))
    new = known if old is None else known.filter(pc.invert(pc.is_in(known["value"], value_set=old)))
    new = new.sort_by([("count", "descending"), ("value", "ascending")])
    if old is None:
        return Vocabulary(_whole(new["value"]), new["count"].to_numpy(), num_oov)
    kept = pc.fill_null(table["count"].take(pc.index_in(old, value_set=table["value"])), 0).to_numpy()
    return Vocabulary(pa.concat_arrays([old, *new["value"].chunks]), np.r_[kept, new["count"].to_numpy()], num_oov)


def count_values(values: pa.StringArray) -> tuple[pa.StringArray, Int64s]:
    """The distinct values, and how often each comes."""
    counted = pc.value_counts(values)
    return counted.field("values"), counted.field("counts").to_numpy()


def _whole(column: pa.ChunkedArray) -> pa.StringArray:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.string())
