"""The Parquet files of a bundle, a row per item."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.dataset import Dataset
from recsys.schema import ITEM_ID
from serving.bundle import CANDIDATES, ITEMS


def write_items(dataset: Dataset, folder: Path) -> None:
    """Writes what a person sees of each item: `item`, the raw id, and `show_…`."""
    shown = [name for name in dataset.items.column_names if name.startswith("show_")]
    pq.write_table(dataset.items.select(["item", *shown]), folder / ITEMS)


def write_candidates(dataset: Dataset, embeddings: npt.NDArray[np.float32], folder: Path) -> None:
    """Writes what the index holds of each item, for other databases of vectors and for devices.

    `item` is the raw id, `item_id` the int32 id by which histories name it to the query tower, and `embedding` a list
    of `embedding_dim` float32 numbers, whose dot product with a query's is the score.

    Args:
      dataset: whose items.
      embeddings: theirs, [num_items, embedding_dim] float32.
      folder: the bundle's.
    """
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.reshape(-1)), embeddings.shape[1])
    table = dataset.items.select(["item", ITEM_ID]).append_column("embedding", vectors)
    pq.write_table(table, folder / CANDIDATES)
