"""The Parquet files of a bundle, as others read them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from oracle import Oracle

from recsys.run import Run


def test_candidates_are_what_the_index_holds_by_raw_id(tiny_run: Run, tiny_models: Path) -> None:
    path = tiny_models / "tiny" / "1"
    frame = pd.read_parquet(path / "assets.extra" / "candidates.parquet")
    oracle, items = Oracle(tiny_run), tiny_run.dataset.items
    assert frame.columns.tolist() == ["item", "item_id", "embedding"]
    assert frame["item"].tolist() == oracle.items
    assert frame["item_id"].tolist() == items["item_id"].to_pylist()
    found = np.stack(frame["embedding"].tolist())
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, oracle.candidates, atol=1e-6)
    stored = tf.train.load_variable(
        str(path / "variables" / "variables"), "_exact/candidates/.ATTRIBUTES/VARIABLE_VALUE"
    )
    np.testing.assert_array_equal(found, stored)


def test_candidates_have_vectors_of_a_fixed_length(tiny_models: Path) -> None:
    schema = pq.read_schema(tiny_models / "tiny" / "1" / "assets.extra" / "candidates.parquet")
    assert schema.field("embedding").type.list_size == 16
    assert (schema.field("item").type, schema.field("item_id").type) == (pa.string(), pa.int32())


def test_a_twin_has_no_second_copy_of_them(tiny_models: Path) -> None:
    names = {file.name for file in (tiny_models / "tiny" / "exact" / "1" / "assets.extra").iterdir()}
    assert names == {"bundle.json", "items.parquet", "tf_serving_warmup_requests"}
