"""Reading CSV, Parquet and synthetic tables; `tfds:` has tests of its own."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.sources import read_table
from recsys.errors import SourceError

COLUMNS = {"user_id", "item_id", "timestamp"}
CSV = "user_id,other,item_id,timestamp\n007,x,NA,1\n,y,null,2\nü,z,1.0,\n"


def write_csv(path: Path, text: str) -> str:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def write_parquet(path: Path, user_id: list[int | None]) -> None:
    count = len(user_id)
    pq.write_table(pa.table({"user_id": user_id, "item_id": ["NA"] * count, "timestamp": range(count)}), path)


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz"])
def test_csv_values_stay_as_written(tmp_path: Path, name: str) -> None:
    frame = read_table(write_csv(tmp_path / name, CSV), COLUMNS).frame
    assert frame.to_dict("list") == {
        "user_id": ["007", "", "ü"],
        "item_id": ["NA", "null", "1.0"],
        "timestamp": ["1", "2", ""],
    }


def test_a_trailing_comma_shifts_no_column(tmp_path: Path) -> None:
    frame = read_table(write_csv(tmp_path / "a.csv", "user_id,item_id,timestamp\nu,i,5,\n"), COLUMNS).frame
    assert frame.to_dict("list") == {"user_id": ["u"], "item_id": ["i"], "timestamp": ["5"]}


def test_a_parquet_folder_is_its_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    write_parquet(tmp_path / "b.parquet", [3, 4])
    write_parquet(tmp_path / "a.parquet", [1, 2])
    (tmp_path / "notes.txt").write_text("not a table")
    assert read_table(str(tmp_path), COLUMNS).frame["user_id"].tolist() == [1, 2, 3, 4]
    assert read_table(str(tmp_path / "a.parquet"), COLUMNS).frame["user_id"].tolist() == [1, 2]


def test_an_integer_beside_a_null_stays_an_integer(tmp_path: Path) -> None:
    """As a float it would be the id "7.0"."""
    write_parquet(tmp_path / "a.parquet", [7, None])
    values = read_table(str(tmp_path / "a.parquet"), COLUMNS).frame["user_id"].tolist()
    assert values == [7, None]
    assert str(values[0]) == "7"


def test_an_integer_beside_a_null_in_a_list_stays_an_integer(tmp_path: Path) -> None:
    pq.write_table(pa.table({"genres": [[7, None], [8]]}), tmp_path / "a.parquet")
    assert [list(row) for row in read_table(str(tmp_path / "a.parquet"), {"genres"}).frame["genres"]] == [
        [7, None],
        [8],
    ]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_fingerprint_follows_the_content(tmp_path: Path, suffix: str) -> None:
    def fingerprint(name: str, user: int) -> str:
        path = tmp_path / f"{name}{suffix}"
        if suffix == ".csv":
            write_csv(path, f"user_id\n{user}\n")
        else:
            write_parquet(path, [user])
        return read_table(str(path), {"user_id"}).fingerprint

    assert fingerprint("a", 1) == fingerprint("b", 1) != fingerprint("c", 2)


def test_a_synthetic_source_has_the_asked_rows_and_columns() -> None:
    frame = read_table("synthetic:users=20,items=50,interactions=100", {"title", "user_id"}).frame
    assert sorted(frame.columns) == ["title", "user_id"]
    assert 0 < len(frame) <= 100


def gz_with_a_damaged_middle() -> bytes:
    damaged = bytearray(
        gzip.compress(b"user_id,item_id,timestamp\n" + b"".join(b"u%d,i%d,%d\n" % (n, n * 7, n) for n in range(999)))
    )
    damaged[50:200] = bytes(150)
    return bytes(damaged)


HEADER = b"user_id,item_id,timestamp\n"
UNREADABLE = {
    "header_only.csv": (HEADER, "is empty: expected at least one row"),
    "empty.csv": (b"", "is empty: expected a header row"),
    "columns.csv": (b"user_id,b,a\n1,2,3\n", "lacks the columns item_id, timestamp: it has a, b, user_id"),
    "quote.csv": (
        HEADER + b'"u,i,1\n',
        "is no readable CSV: Error tokenizing data. C error: EOF inside string starting at row 1",
    ),
    "latin1.csv": (
        HEADER + b"u\xff,i,3\n",
        "is no readable CSV: 'utf-8' codec can't decode byte 0xff in position 27: invalid start byte",
    ),
    "plain.csv.gz": (HEADER, "is no readable CSV: Not a gzipped file (b'us')"),
    "cut.csv.gz": (
        gzip.compress(HEADER + b"u,i,3\n" * 999)[:40],
        "is no readable CSV: Compressed file ended before the end-of-stream marker was reached",
    ),
    "damaged.csv.gz": (
        gz_with_a_damaged_middle(),
        "is no readable CSV: Error -3 while decompressing data: invalid distances set",
    ),
    "garbage.parquet": (
        b"garbage " * 5,
        "is no readable Parquet: Parquet magic bytes not found in footer. Either the file is corrupted or this is not "
        "a parquet file.",
    ),
    "empty.parquet": (b"", "is no readable Parquet: Parquet file size is 0 bytes"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_unusable_file_is_refused(tmp_path: Path, name: str) -> None:
    content, message = UNREADABLE[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceError) as error:
        read_table(str(path), COLUMNS)
    assert str(error.value) == f"{path} {message}"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as error:
        read_table(str(tmp_path / "a.csv"), COLUMNS)
    assert str(error.value) == f"{tmp_path}/a.csv is missing: expected a CSV or Parquet file, tfds:NAME or synthetic:"


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_text("x")
    with pytest.raises(SourceError) as error:
        read_table(str(tmp_path / "a.xlsx"), COLUMNS)
    assert str(error.value) == (
        f"{tmp_path}/a.xlsx: expected a name that ends in .csv, .csv.gz or .parquet, or a folder of .parquet files"
    )


def test_a_folder_without_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as error:
        read_table(str(tmp_path), COLUMNS)
    assert str(error.value) == f"{tmp_path} holds no .parquet file"


def test_a_parquet_file_names_its_missing_columns(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [1])
    pq.write_table(pa.table({"user_id": [1]}), tmp_path / "b.parquet")
    with pytest.raises(SourceError) as error:
        read_table(str(tmp_path), COLUMNS)
    assert str(error.value) == f"{tmp_path}/b.parquet lacks the columns item_id, timestamp: it has user_id"


def test_a_parquet_file_without_rows_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": pa.array([], pa.string())}), tmp_path / "a.parquet")
    with pytest.raises(SourceError) as error:
        read_table(str(tmp_path / "a.parquet"), {"user_id"})
    assert str(error.value) == f"{tmp_path}/a.parquet is empty: expected at least one row"


def test_parquet_files_of_different_types_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"user_id": ["x"]}), tmp_path / "b.parquet")
    with pytest.raises(SourceError) as error:
        read_table(str(tmp_path), {"user_id"})
    assert str(error.value) == (
        f"{tmp_path} is no readable Parquet: Schema at index 1 was different: user_id: int64 vs user_id: string"
    )
