import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from data_prep.beam.k_core import ROUNDS_PER_STAGE, Minimum, k_core
from data_prep.beam.stages import Stages, StoredTables, open_stages


def kept_rows(stages: Stages, folder: Path, pairs: list[tuple[str, str]], min_user: int, min_item: int) -> list[int]:
    """The rows that pipelines keep, in order."""
    users, items = zip(*pairs, strict=True)
    table = pa.table({"user": users, "item": items, "row": np.arange(len(pairs))})
    pq.write_table(table, folder / "rows.parquet", row_group_size=5)
    rows = StoredTables(str(folder / "rows"), table.schema)
    minimums = [Minimum("user", min_user), Minimum("item", min_item)]
    rows, num_rows = k_core(stages, rows, minimums, num_partitions=3)
    prefix = Path(rows.prefix)
    kept = sorted(pq.read_table(sorted(prefix.parent.glob(f"{prefix.name}*")))["row"].to_pylist())
    assert len(kept) == num_rows
    return kept


def k_core_in_pandas(pairs: list[tuple[str, str]], min_user: int, min_item: int) -> list[int]:
    frame = pd.DataFrame(pairs, columns=["user", "item"])
    while True:
        per_user = frame.groupby("user")["user"].transform("size")
        per_item = frame.groupby("item")["item"].transform("size")
        enough = (per_user >= min_user) & (per_item >= min_item)
        if enough.all():
            return frame.index.tolist()
        frame = frame[enough]


@settings(max_examples=3, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    pairs=st.lists(st.tuples(st.sampled_from("abcdefg"), st.sampled_from("tuvwxyz")), min_size=1, max_size=60),
    min_user=st.integers(1, 4),
    min_item=st.integers(1, 4),
)
def test_the_k_core_is_that_of_pandas(pairs: list[tuple[str, str]], min_user: int, min_item: int) -> None:
    with tempfile.TemporaryDirectory() as folder, open_stages([]) as stages:
        assert kept_rows(stages, Path(folder), pairs, min_user, min_item) == k_core_in_pandas(pairs, min_user, min_item)


def test_rounds_go_on_over_several_pipelines(stages: Stages, tmp_path: Path) -> None:
    # A chain u0-i0-u1-i1-…-uN: each round takes one user and one item from its end; a square of two and two stays.
    length = 2 * ROUNDS_PER_STAGE + 1
    chain = [pair for n in range(length) for pair in ((f"u{n}", f"i{n}"), (f"u{n + 1}", f"i{n}"))]
    square = [("v", "x"), ("v", "y"), ("w", "x"), ("w", "y")]
    assert kept_rows(stages, tmp_path, chain + square, 2, 2) == [len(chain) + n for n in range(4)]
    assert k_core_in_pandas(chain + square, 2, 2) == [len(chain) + n for n in range(4)]
