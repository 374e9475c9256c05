"""Parquet: values keep their types, damaged files and text are refused."""

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.formats import parquet
from data_prep.sources import open_source, read_source
from recsys.errors import SourceError


def test_values_keep_their_types_and_nulls(tmp_path: Path) -> None:
    columns = {"id": pa.array([7, None]), "genres": pa.array([[7, None], None]), "at": pa.array([1.5, None])}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    [batch] = read_source(open_source(f"{tmp_path}/a.parquet"), ["genres", "id", "at"])
    assert batch.table.to_pydict() == {"genres": [[7, None], None], "id": [7, None], "at": [1.5, None]}
    assert batch.table.schema.types == [pa.list_(pa.int64()), pa.int64(), pa.float64()]


def test_text_is_text_however_it_is_stored(tmp_path: Path) -> None:
    stored = [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.dictionary(pa.int8(), pa.string())]
    for number, kind in enumerate(stored):
        table = pa.table(
            {"id": pa.array(["ü", None]).cast(kind), "many": pa.array([["a"], []], pa.list_(pa.large_binary()))}
        )
        pq.write_table(table, tmp_path / f"{number}.parquet")
    batches = list(read_source(open_source(str(tmp_path)), ["id", "many"]))
    assert [batch.table.to_pydict() for batch in batches] == [{"id": ["ü", None], "many": [["a"], []]}] * 5
    assert {str(batch.table.schema.types) for batch in batches} == {str([pa.string(), pa.list_(pa.string())])}


def test_undecodable_text_costs_its_own_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "BATCH_ROWS", 4)
    words: list[list[bytes | None]] = [[b"w"], [b"\xff", None], [], [], [], [], [], []]
    values = [b"a", b"b", b"c", b"d\xe9", b"\xc3\xbc", b"\xff", b"", None]
    # Declared as text, as a careless writer does it.
    text = pa.array(values, pa.binary()).view(pa.string())
    pq.write_table(pa.table({"id": text, "words": words, "n": range(8)}), tmp_path / "a.parquet")
    first, second = read_source(open_source(f"{tmp_path}/a.parquet"), ["id", "words", "n"])
    assert (first.table["id"].to_pylist(), first.positions.tolist()) == (["a", "c"], [0, 2])
    assert (second.table["id"].to_pylist(), second.positions.tolist()) == (["ü", "", None], [4, 6, 7])
    assert [*first.refused.to_pylist(), *second.refused.to_pylist()] == [
        {"position": 1, "text": '{"id": "b", "words": ["\ufffd", null], "n": 1}', "reason": "invalid UTF-8"},
        {"position": 3, "text": '{"id": "d\ufffd", "words": [], "n": 3}', "reason": "invalid UTF-8"},
        {"position": 5, "text": '{"id": "\ufffd", "words": [], "n": 5}', "reason": "invalid UTF-8"},
    ]


def read_error(path: Path) -> str:
    with pytest.raises(SourceError) as error:
        list(read_source(open_source(str(path)), ["user_id"]))
    return str(error.value)


@pytest.mark.parametrize(
    ("other", "kind"),
    [(["x"], "string"), ([True], "bool"), ([date(2020, 1, 1)], "date32[day]"), ([[1]], "list<item: int64>")],
)
def test_files_of_different_types_are_refused(tmp_path: Path, other: list[Any], kind: str) -> None:
    pq.write_table(pa.table({"user_id": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"user_id": other}), tmp_path / "b.parquet")
    assert read_error(tmp_path) == (
        f"{tmp_path}/b.parquet holds user_id as {kind}, {tmp_path}/a.parquet as int64: expected one type in all files"
    )


INT, DOUBLE = pa.int64(), pa.float64()


@pytest.mark.parametrize(
    ("first", "second", "handed_on"),
    [
        (pa.array([7, 8], pa.int32()), pa.array([2**40, None]), INT),
        (pa.array([7], pa.uint8()), pa.array([-1], pa.int16()), INT),
        (pa.array([2**60], pa.int64()), pa.array([5], pa.uint64()), INT),
        (pa.array([2**53, None]), pa.array([1.0, None]), DOUBLE),
        (pa.array([0.5], pa.float32()), pa.array([7], pa.int8()), DOUBLE),
        (pa.array([0.5], pa.float32()), pa.array([0.1]), DOUBLE),
        (pa.nulls(2), pa.array(["a"]), pa.string()),
        (pa.array([7]), pa.nulls(1), INT),
        (pa.array([b"a"]), pa.nulls(1, pa.dictionary(pa.int8(), pa.string())), pa.string()),
        (pa.nulls(1), pa.array([["a", "b"]]), pa.list_(pa.string())),
        (pa.nulls(1), pa.nulls(1), pa.null()),
    ],
)
def test_numbers_of_different_types_are_promoted(
    tmp_path: Path, first: pa.Array, second: pa.Array, handed_on: pa.DataType
) -> None:
    for order in (first, second), (second, first):
        for name, column in zip("ab", order, strict=True):
            pq.write_table(pa.table({"x": column, "n": [1] * len(column)}), tmp_path / f"{name}.parquet")
        batches = list(read_source(open_source(str(tmp_path)), ["n", "x"]))
        assert [batch.table["x"].type for batch in batches] == [handed_on] * 2
        values = [column.cast(pa.string()) if handed_on == pa.string() else column for column in order]
        assert [batch.table["x"].to_pylist() for batch in batches] == [column.to_pylist() for column in values]


@pytest.mark.parametrize(
    ("first", "second", "bad", "why"),
    [
        (pa.array([2**53 + 1]), pa.array([0.5]), "a", "as int64, with values that the double"),
        (pa.array([-5], pa.int8()), pa.array([2**63], pa.uint64()), "b", "as uint64, with values that the int64"),
    ],
)
def test_an_integer_that_would_become_another_is_refused(
    tmp_path: Path, first: pa.Array, second: pa.Array, bad: str, why: str
) -> None:
    for name, column in zip("ab", (first, second), strict=True):
        pq.write_table(pa.table({"user_id": column}), tmp_path / f"{name}.parquet")
    assert read_error(tmp_path) == (
        f"{tmp_path}/{bad}.parquet holds user_id {why} of all files cannot hold: expected one type in all files"
    )


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": pa.array([], pa.string())}), tmp_path / "a.parquet")
    assert read_error(tmp_path / "a.parquet") == f"{tmp_path}/a.parquet is empty: expected at least one row"


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for content, reason in {
        b"garbage " * 5: "Parquet magic bytes not found in footer. Either the file is corrupted or this is not a "
        "parquet file.",
        b"": "Parquet file size is 0 bytes",
    }.items():
        path.write_bytes(content)
        assert read_error(path) == f"{path} is no readable Parquet: {reason}"


def test_a_damaged_page_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"user_id": [f"user {n}" for n in range(999)]}), path, use_dictionary=False)
    damaged = bytearray(path.read_bytes())
    damaged[100:400] = b"\xff" * 300
    path.write_bytes(damaged)
    assert read_error(path).startswith(f"{path} is no readable Parquet: ")
