"""Content beside the interactions that changes from row to row, in files that begin with the newest row."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from data_prep import beside
from data_prep.config import DataConfig
from data_prep.formats import byte_files
from data_prep.pipeline import prepare
from recsys.dataset import Dataset, open_dataset
from recsys.interactions import load_interactions

NEWEST_FIRST = """\
timestamp,user_id,item_id,kind,price,plan,stars
9,a,x,future,100,gold,5
8,b,z,new,50,gold,5
6,a,z,mid,40,silver,5
4,b,x,late,3,free,5
3,a,y,plain,5,free,5
2,a,x,early,1,trial,1
"""
CONTENT: dict[str, Any] = {
    "items": {
        "features": [{"name": "kind", "type": "categorical"}, {"name": "price", "type": "numeric"}],
        "show": ["kind"],
    },
    "users": {"features": [{"name": "plan", "type": "categorical"}]},
    "split": {"rule": "temporal", "validation_start": 5, "test_start": 7},
}
TIMES_PER_SPLIT = 1 << 58  # what times of rows without timestamps are counted from, by split


def prepared(folder: Path, text: str, **config: Any) -> Dataset:
    (folder / "rows.csv").write_text(text)
    prepare(str(folder / "rows.csv"), DataConfig.model_validate(config), folder / "dataset")
    return open_dataset(folder / "dataset")


def values_of(table: Any, key: str, name: str) -> dict[str, Any]:
    return dict(zip(table[key].to_pylist(), table[name].to_pylist(), strict=True))


def vocabulary(made: Dataset, name: str) -> list[str]:
    stored = pq.read_table(made.path / "vocabulary" / f"{name}.parquet")
    return stored["value"].to_pylist()  # type: ignore[no-any-return]


def test_content_is_that_of_the_earliest_train_row(tmp_path: Path) -> None:
    made = prepared(tmp_path, NEWEST_FIRST, **CONTENT)
    assert vocabulary(made, "kind") == ["early", "plain"]
    assert vocabulary(made, "plan") == ["free", "trial"]
    # Of 1 and 5 the mean is 3 and the standard deviation 2; z, which no train row has, is told by that of validation.
    assert (made.manifest.numeric_fits["price"].mean, made.manifest.numeric_fits["price"].standard_deviation) == (3, 2)
    assert values_of(made.items, "item", "price") == {"x": -1, "y": 1, "z": 18.5}
    assert values_of(made.items, "item", "kind") == {"x": 2, "y": 3, "z": 1}
    assert values_of(made.items, "item", "show_kind") == {"x": "early", "y": "plain", "z": "mid"}
    assert values_of(made.users, "user", "plan") == {"a": 3, "b": 2}


@pytest.mark.parametrize("filters", [{"start": 3}, {"min_label": 2}, {"duplicates": "last"}])
def test_a_row_that_is_left_out_tells_nothing(tmp_path: Path, filters: dict[str, Any]) -> None:
    made = prepared(tmp_path, NEWEST_FIRST, filters=filters, interactions={"label": "stars"}, **CONTENT)
    assert vocabulary(made, "kind") == ["late", "plain"]
    assert vocabulary(made, "plan") == ["free"]
    assert (made.manifest.numeric_fits["price"].mean, made.manifest.numeric_fits["price"].standard_deviation) == (4, 1)
    assert values_of(made.items, "item", "price") == {"x": -1, "y": 1, "z": 36}


def many_rows() -> pd.DataFrame:
    """Newest first, with ties in time; each row says where it stands."""
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({
        "user_id": [f"u{n}" for n in rng.integers(40, size=900)],
        "item_id": [f"i{n}" for n in rng.integers(60, size=900) ** 2 // 12],
        "timestamp": np.sort(rng.integers(200, size=900))[::-1],
    })  # fmt: skip
    return frame.drop_duplicates(ignore_index=True).assign(row=lambda rows: [f"r{n}" for n in range(len(rows))])


def split_of(made: Dataset) -> dict[tuple[str, str, int], int]:
    loaded = load_interactions(made)
    users, items = made.users["user"].to_numpy(), made.items["item"].to_numpy()
    keys = zip(users[loaded.user_row], items[loaded.item_row], loaded.timestamp.tolist(), strict=True)
    return dict(zip(keys, loaded.split.tolist(), strict=True))


def require_earliest(made: Dataset, rows: pd.DataFrame) -> None:
    """Compares with pandas, by the split that each row was put into."""
    splits = split_of(made)
    keys = zip(rows["user_id"], rows["item_id"], rows["timestamp"], strict=True)
    ordered = rows.assign(split=[splits[key] for key in keys]).sort_values(["split", "timestamp"], kind="stable")
    for kind, table in (("user", made.users), ("item", made.items)):
        expected = ordered.drop_duplicates(f"{kind}_id").set_index(f"{kind}_id")["row"].to_dict()
        assert values_of(table, kind, "show_row") == expected


@pytest.mark.parametrize("split", [{"rule": "random", "test_fraction": 0.5}, {"rule": "leave_one_out"}])
def test_of_any_split_train_goes_before_what_is_earlier_but_held_out(
    tmp_path: Path, split: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(byte_files, "BLOCK_BYTES", 1 << 10)  # many batches
    rows = many_rows()
    shown = {"items": {"show": ["row"]}, "users": {"show": ["row"]}}
    require_earliest(prepared(tmp_path, rows.to_csv(index=False), split=split, **shown), rows)


def test_without_times_rows_stand_in_order(tmp_path: Path) -> None:
    rows = many_rows().drop(columns="timestamp").drop_duplicates(["user_id", "item_id"], ignore_index=True)
    rows["row"] = [f"r{n}" for n in range(len(rows))]
    config = {"interactions": {"timestamp": False}, "items": {"show": ["row"]}, "users": {"show": ["row"]}}
    made = prepared(tmp_path, rows.to_csv(index=False), split={"rule": "random", "test_fraction": 0.5}, **config)
    by_split = {(user, item): split for (user, item, _), split in split_of(made).items()}
    splits = np.array([by_split[key] for key in zip(rows["user_id"], rows["item_id"], strict=True)])
    require_earliest(made, rows.assign(timestamp=np.arange(len(rows)) + TIMES_PER_SPLIT * splits))


def test_a_table_that_tests_tells_nothing(tmp_path: Path) -> None:
    """Though its rows are older, and one has a column of that name; validation is told from."""
    train = [f"{time},u{time % 5},i{time % 7},k{time}" for time in range(90, 50, -1)]
    (tmp_path / "test.csv").write_text(
        "timestamp,user_id,item_id,kind\n1,u1,i1,leak\n2,u2,new,leak\n3,stranger,i3,leak\n"
    )
    split = {"rule": "given", "test": str(tmp_path / "test.csv"), "validation_fraction": 0.5}
    feature = {"name": "kind", "type": "categorical"}
    text = "\n".join(["timestamp,user_id,item_id,kind", *train])
    made = prepared(tmp_path, text, split=split, items={"features": [feature], "show": ["kind"]})
    shown = values_of(made.items, "item", "show_kind")
    assert set(shown) == {*(f"i{n}" for n in range(7)), "new"}
    assert shown.pop("new") == ""
    assert values_of(made.items, "item", "kind")["new"] == 0
    splits = {(user, item, time): split for (user, item, time), split in split_of(made).items() if time > 3}
    for item, kind in shown.items():
        own = [(split, time) for (_, of, time), split in splits.items() if of == item]
        assert kind == f"k{min(own)[1]}"


@pytest.mark.parametrize("own_table", [True, False])
def test_the_interactions_are_read_once_more_only_for_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_table: bool
) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(beside, "read_source", fail)
    (tmp_path / "items.csv").write_text("item_id,kind\nx,early\n")
    items = {"source": str(tmp_path / "items.csv"), "show": ["kind"]} if own_table else {}
    assert prepared(tmp_path, NEWEST_FIRST, items=items, split=CONTENT["split"]).manifest.num_rows("train") == 3
