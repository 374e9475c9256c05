"""The tables that a data.toml names, from files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.config import DataConfig, EntityConfig
from data_prep.events import EventBatch
from data_prep.formats import parquet
from data_prep.sources import open_source
from data_prep.tables import RawEntities, columns_of, open_tables, read_entities, read_interactions
from data_prep.validate import Quarantine
from recsys.errors import SourceError


def config(**values: Any) -> DataConfig:
    return DataConfig.model_validate(values)


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "rows.csv").write_text("user_id,item_id,timestamp,kind\na,x,1,k\nb,,2,l\nb,y,3,m\n")
    return str(tmp_path / "rows.csv")


def test_interactions_are_read_with_the_columns_of_entities_without_a_table(source: str) -> None:
    named = config(items={"features": [{"name": "kind", "type": "categorical"}]})
    assert columns_of("interactions", named) == ["item_id", "kind", "timestamp", "user_id"]
    quarantine = Quarantine("interactions")
    (read,) = read_interactions(open_tables(source, named, None), "interactions", named, quarantine)
    assert (read.user.to_pylist(), read.position.tolist()) == (["a", "b"], [0, 2])
    assert (quarantine.num_rows, dict(quarantine.counts)) == (3, {"missing item_id": 1})


def test_columns_of_a_table_of_its_own_are_not_looked_for_among_interactions(source: str) -> None:
    items = {"source": "items.csv", "features": [{"name": "kind", "type": "categorical"}]}
    assert columns_of("interactions", config(items=items)) == ["item_id", "timestamp", "user_id"]


def test_a_missing_column_is_named(source: str) -> None:
    named = config(interactions={"user_id": "who"})
    with pytest.raises(SourceError) as error:
        list(read_interactions(open_tables(source, named, None), "interactions", named, Quarantine("interactions")))
    assert str(error.value) == f"{source} lacks the columns who: it has item_id, kind, timestamp, user_id"


def test_a_missing_table_is_found_when_tables_are_opened(source: str) -> None:
    with pytest.raises(SourceError) as error:
        open_tables(source, config(users={"source": "nowhere.csv"}), None)
    assert str(error.value) == (
        "nowhere.csv is missing: expected a file (.csv, .tsv, .jsonl (plain or .gz) or .parquet), a folder, a glob, "
        "tfds:NAME or synthetic:"
    )


@pytest.mark.parametrize(("second", "format_"), [("2020-01-01", "iso8601"), ("7", "number")])
def test_the_format_of_timestamps_is_that_of_the_first_rows(tmp_path: Path, second: str, format_: str) -> None:
    rows = "\n".join(["user_id,item_id,timestamp", "a,x,soon", f"a,x,{second}", f"a,x,{second}"])
    (tmp_path / "rows.csv").write_text(rows)
    assert open_tables(str(tmp_path / "rows.csv"), config(), None).timestamp_format == format_


def test_the_format_of_timestamps_may_be_said(source: str) -> None:
    said = config(interactions={"timestamp_format": "iso8601"})
    assert open_tables(source, said, None).timestamp_format == "iso8601"


@pytest.mark.parametrize("timed", [True, False])
def test_rows_of_the_table_that_tests_come_after_all_others(tmp_path: Path, source: str, timed: bool) -> None:
    (tmp_path / "test.csv").write_text("user_id,item_id,timestamp\na,z,0\n")
    named = config(
        interactions={} if timed else {"timestamp": False}, split={"rule": "given", "test": str(tmp_path / "test.csv")}
    )
    tables = open_tables(source, named, None)

    def read(name: str) -> Iterator[EventBatch]:
        return read_interactions(tables, name, named, Quarantine(name))

    (train,), (test,) = read("interactions"), read("test")
    assert test.position[0] > train.position.max()
    assert test.timestamp.tolist() == ([0] if timed else test.position.tolist())
    assert (train.in_test.tolist(), test.in_test.tolist()) == ([False, False], [True])


def test_of_an_entity_the_first_usable_row_counts(tmp_path: Path) -> None:
    table = {"sku": ["a", "b", "a", None], "price": ["1", "x", "3", "4"], "other": [1, 2, 3, 4]}
    pq.write_table(pa.table(table), tmp_path / "items.parquet")
    path = str(tmp_path / "items.parquet")
    items = {"source": path, "id": "sku", "features": [{"name": "price", "type": "numeric"}]}
    (tmp_path / "rows.csv").write_text("user_id,item_id,timestamp\n")
    named, quarantine = config(items=items), Quarantine("items")
    tables = open_tables(
        str(tmp_path / "rows.csv"), config(items=items, interactions={"timestamp_format": "number"}), None
    )
    found = read_entities(tables.sources["items"], "sku", named.items, quarantine)
    assert found.ids.to_pylist() == ["a"]
    assert found.table.to_pydict() == {"price": ["1"]}
    assert dict(quarantine.counts) == {"unreadable price": 1, "repeated sku": 1, "missing sku": 1}
    assert quarantine.num_rows == 4


def test_ids_repeat_across_batches_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of two rows, of which the second to last holds nothing new, and the last one is bad."""
    monkeypatch.setattr(parquet, "BATCH_ROWS", 2)
    table = {"sku": ["b", "a", "a", "c", "c", "b", None], "kind": [1, 2, 3, 4, 5, 6, 7]}
    pq.write_table(pa.table(table), tmp_path / "items.parquet")
    items = EntityConfig(show=("kind",))
    quarantine = Quarantine("items")
    found = read_entities(open_source(str(tmp_path / "items.parquet")), "sku", items, quarantine)
    assert found.of(pa.array(["a", "b", "c"])).to_pydict() == {"kind": [2, 1, 4]}
    assert quarantine.num_rows == 7
    assert quarantine.table().select(["position", "reason", "kind"]).to_pydict() == {
        "position": [2, 4, 5, 6],
        "reason": ["repeated sku", "repeated sku", "repeated sku", "missing sku"],
        "kind": ["3", "5", "6", "7"],
    }


def test_entities_are_given_in_any_order_and_unknown_ones_have_nothing() -> None:
    known = RawEntities(pa.array(["a", "b"]), pa.table({"kind": [1, 2]}))
    assert known.of(pa.array(["b", "x", "a", "b"])).to_pydict() == {"kind": [2, None, 1, 2]}
