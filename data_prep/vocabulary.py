"""Vocabularies: which value has which id."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from data_prep.hashing import bucket


@dataclass(frozen=True)
class Vocabulary:
    """Known values by descending frequency in train rows, ties by value.

    Attributes:
      values: the value of id `1 + num_oov + position`.
      counts: its train rows.
      num_oov: ids 1 … `num_oov` that unknown values are hashed into.
    """

    values: "pd.Index[str]"
    counts: npt.NDArray[np.int64]
    num_oov: int

    @property
    def num_ids(self) -> int:
        """Rows of an embedding table for it, padding and out-of-vocabulary rows included."""
        return 1 + self.num_oov + len(self.values)

    def encode(self, values: "pd.Index[str]") -> npt.NDArray[np.int32]:
        """Returns the [len(values)] int32 ids; the empty string is padding."""
        position = self.values.get_indexer(values)
        ids = position + 1 + self.num_oov
        unknown = position < 0
        ids[unknown] = 1 + bucket(values[unknown].tolist(), self.num_oov)
        ids[np.asarray(values == "")] = 0
        return ids.astype(np.int32)

    def table(self) -> pa.Table:
        """The vocabulary as it is stored: value, id, count."""
        ids = np.arange(1 + self.num_oov, self.num_ids, dtype=np.int32)
        return pa.table({"value": pa.array(self.values, pa.string()), "id": ids, "count": self.counts})


def fit_vocabulary(values: pd.Index, num_oov: int) -> Vocabulary:
    """Counts the values of train rows; the empty string is no value."""
    counts = values[values != ""].value_counts().rename_axis("value").reset_index(name="count")
    counts = counts.sort_values(["count", "value"], ascending=[False, True])
    return Vocabulary(pd.Index(counts["value"], dtype=object), counts["count"].to_numpy(np.int64), num_oov)
