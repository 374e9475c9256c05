"""What holds for every source, whatever its format; and how sources are found."""

import gzip
import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep import synthetic
from data_prep.formats import byte_files, generated, parquet, tfds
from data_prep.sources import (
    Part,
    RawBatch,
    Source,
    check_columns,
    fingerprint,
    head,
    open_source,
    read_part,
    read_source,
)
from recsys.errors import SourceError

# TFDS reads its own files so.
pytestmark = pytest.mark.filterwarnings(r"ignore:label\(\) is deprecated:DeprecationWarning")

COLUMNS = ["item_id", "timestamp", "user_id"]
ROWS = [(f"u{n % 7}", ["NA", "007", "ü", "a b"][n % 4], str(1000 + n)) for n in range(60)]
Rows = Sequence[tuple[str, str, str]]


def delimited(separator: str) -> Callable[[Path, Rows], None]:
    def write(path: Path, rows: Rows) -> None:
        lines = [separator.join(row) for row in [("user_id", "item_id", "timestamp"), *rows]]
        write_text(path, "\n".join(lines))

    return write


def json_lines(path: Path, rows: Rows) -> None:
    records = [{"user_id": user, "item_id": item, "timestamp": int(time)} for user, item, time in rows]
    write_text(path, "".join(json.dumps(record) + "\n" for record in records))


def write_parquet(path: Path, rows: Rows) -> None:
    users, items, times = zip(*rows, strict=True)
    pq.write_table(pa.table({"user_id": users, "item_id": items, "timestamp": [int(time) for time in times]}), path)


def write_text(path: Path, text: str) -> None:
    path.write_bytes(gzip.compress(text.encode(), 1) if path.suffix == ".gz" else text.encode())


WRITERS: dict[str, Callable[[Path, Rows], None]] = {
    ".csv": delimited(","),
    ".csv.gz": delimited(","),
    ".tsv": delimited("\t"),
    ".tsv.gz": delimited("\t"),
    ".jsonl": json_lines,
    ".jsonl.gz": json_lines,
    ".ndjson": json_lines,
    ".parquet": write_parquet,
}


@dataclass(frozen=True)
class Sample:
    """A source of several batches, and one that differs; `rows` as text where they are known."""

    spec: str
    other: str
    rows: Rows | None


def file_sample(folder: Path, suffix: str) -> Sample:
    WRITERS[suffix](folder / f"a{suffix}", ROWS)
    WRITERS[suffix](folder / f"other{suffix}", ROWS[:-1])
    return Sample(f"{folder}/a{suffix}", f"{folder}/other{suffix}", ROWS)


def folder_sample(folder: Path, suffix: str) -> Sample:
    for name, rows in {"b": ROWS[25:50], "a": ROWS[:25], "c": ROWS[50:]}.items():
        WRITERS[suffix](folder / f"{name}{suffix}", rows)
    for other in ("_SUCCESS", "_old.csv", ".hidden", f".a{suffix}.crc", "a.CRC", "SHA.sha256", "data.toml"):
        (folder / other).write_text("not a table")
    return Sample(str(folder), f"{folder}/[ab]{suffix}", ROWS)


def store_in_tfds(folder: Path, name: str, rows: list[dict[str, Any]], features: dict[str, Any]) -> str:
    import tensorflow_datasets

    tensorflow_datasets.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.0.0",
        features=tensorflow_datasets.features.FeaturesDict(features),
        split_datasets={"train": list(enumerate(rows))},
        data_dir=folder,
        disable_shuffling=True,
    )
    return f"tfds:{name}"


def tfds_sample(folder: Path) -> Sample:
    from tensorflow_datasets import features

    columns = {"user_id": features.Text(), "item_id": features.Text(), "timestamp": features.Scalar(np.int64)}
    rows = [{"user_id": user, "item_id": item, "timestamp": int(time)} for user, item, time in ROWS]
    return Sample(
        store_in_tfds(folder, "sample", rows, columns), store_in_tfds(folder, "other", rows[:-1], columns), ROWS
    )


SYNTHETIC = "synthetic:users=9,items=12,interactions=150,shortlist=3"
SAMPLES: dict[str, Callable[[Path], Sample]] = {
    **{suffix: lambda folder, suffix=suffix: file_sample(folder, suffix) for suffix in WRITERS},
    **{f"folder of {suffix}": lambda folder, suffix=suffix: folder_sample(folder, suffix) for suffix in WRITERS},
    "tfds": tfds_sample,
    "synthetic": lambda folder: Sample(SYNTHETIC, f"{SYNTHETIC},seed=1", None),
}


@pytest.fixture(params=SAMPLES)
def sample(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sample:
    """With batches so small that every source has several."""
    monkeypatch.setattr(byte_files, "BLOCK_BYTES", 100)
    monkeypatch.setattr(parquet, "BATCH_ROWS", 20)
    monkeypatch.setattr(tfds, "BATCH_ROWS", 20)
    for module in (synthetic, generated):
        monkeypatch.setattr(module, "CHUNK_ROWS", 16)
    monkeypatch.setattr(generated, "CHUNKS_PER_PART", 3)
    if request.param == "tfds":
        monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(tmp_path))
    return SAMPLES[request.param](tmp_path)


def table_of(batches: Sequence[RawBatch]) -> pa.Table:
    return pa.concat_tables([batch.table for batch in batches])


def as_text(table: pa.Table) -> list[tuple[str, ...]]:
    return [tuple(map(str, row)) for row in zip(*table.to_pydict().values(), strict=True)]


def test_the_asked_columns_come_in_the_asked_order(sample: Sample) -> None:
    source = open_source(sample.spec)
    batches = list(read_source(source, COLUMNS))
    assert set(COLUMNS) <= set(source.columns)
    assert len(batches) > 2
    assert all(batch.table.schema.equals(batches[0].table.schema) for batch in batches)
    assert batches[0].table.column_names == COLUMNS
    if sample.rows is not None:
        assert as_text(table_of(batches)) == [(item, time, user) for user, item, time in sample.rows]


def test_positions_number_the_rows_of_each_part(sample: Sample) -> None:
    source = open_source(sample.spec)
    found = [position for batch in read_source(source, COLUMNS) for position in batch.positions.tolist()]
    expected = []
    for number, part in enumerate(source.parts):
        assert part.number == number
        rows = sum(batch.table.num_rows for batch in read_part(part, COLUMNS))
        expected += [number * 2**40 + row for row in range(rows)]
    assert found == expected
    assert len(found) == (150 if sample.rows is None else len(sample.rows))


def test_a_part_travels_to_a_worker_and_is_read_alone_in_any_order(sample: Sample) -> None:
    source = open_source(sample.spec)
    whole = table_of(list(read_source(source, COLUMNS)))
    travelled = [pickle.loads(pickle.dumps(part)) for part in source.parts[::-1]]  # noqa: S301
    tables = {part.number: table_of(list(read_part(part, COLUMNS))) for part in travelled}
    assert pa.concat_tables([tables[number] for number in sorted(tables)]).equals(whole)


def test_one_column_alone_is_what_it_is_beside_others(sample: Sample) -> None:
    source = open_source(sample.spec)
    together = table_of(list(read_source(source, COLUMNS)))
    for name in COLUMNS:
        assert table_of(list(read_source(source, [name]))).equals(together.select([name]))


def test_nothing_is_refused_without_reason(sample: Sample) -> None:
    for batch in read_source(open_source(sample.spec), COLUMNS):
        assert batch.refused.num_rows == 0
        assert batch.refused.schema.names == ["position", "text", "reason"]


@pytest.mark.parametrize("num_rows", [0, 1, 33, 1000])
def test_the_head_is_the_first_rows(sample: Sample, num_rows: int) -> None:
    source = open_source(sample.spec)
    assert head(source, COLUMNS, num_rows).equals(table_of(list(read_source(source, COLUMNS))).slice(0, num_rows))


def test_an_absent_column_is_refused_before_anything_is_read(sample: Sample) -> None:
    source = open_source(sample.spec)
    for act in (check_columns, read_source, head):
        with pytest.raises(SourceError, match=r"lacks the columns stars: it has .*item_id.*timestamp.*user_id"):
            act(source, ["user_id", "stars"])


def test_the_fingerprint_follows_the_content(sample: Sample) -> None:
    first = fingerprint(open_source(sample.spec))
    assert first == fingerprint(open_source(sample.spec))
    assert first != fingerprint(open_source(sample.other))


@pytest.mark.parametrize("suffix", WRITERS)
def test_equal_files_have_one_fingerprint_wherever_they_lie(tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        WRITERS[suffix](tmp_path / name / f"rows{suffix}", ROWS)
    assert fingerprint(open_source(str(tmp_path / "a"))) == fingerprint(open_source(f"{tmp_path}/b/*"))


def opened_error(spec: Path | str) -> str:
    with pytest.raises(SourceError) as error:
        open_source(str(spec))
    return str(error.value)


def test_a_glob_finds_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    sample = folder_sample(tmp_path, ".csv.gz")
    source: Source = open_source(f"{tmp_path}/*.csv.gz")
    assert [Path(part.location).name for part in source.parts] == ["a.csv.gz", "b.csv.gz", "c.csv.gz"]
    assert as_text(table_of(list(read_source(source, ["user_id"])))) == [(user,) for user, _, _ in sample.rows or ()]


def test_a_source_that_cannot_be_found_is_refused(tmp_path: Path) -> None:
    kinds = ".csv, .tsv, .jsonl (plain or .gz) or .parquet"
    for missing in (f"{tmp_path}/a.csv", f"{tmp_path}/*.csv"):
        assert opened_error(missing) == (
            f"{missing} is missing: expected a file ({kinds}), a folder, a glob, tfds:NAME or synthetic:"
        )
    assert opened_error(tmp_path) == f"{tmp_path} holds no file whose name ends in {kinds}"
    (tmp_path / "a.xlsx").write_text("x")
    assert opened_error(tmp_path / "a.xlsx") == (
        f"{tmp_path}/a.xlsx: expected a name that ends in {kinds}, or a folder or glob of such files"
    )


@pytest.mark.parametrize(
    ("others", "named"), [(["notes.txt"], "notes.txt"), (["z.csv.bz2", "part-00007"], "part-00007")]
)
def test_a_file_in_a_folder_that_cannot_be_read_is_named(tmp_path: Path, others: list[str], named: str) -> None:
    """It may hold rows, which would be missing."""
    folder_sample(tmp_path, ".csv")
    for name in others:
        (tmp_path / name).write_text("x")
    assert opened_error(tmp_path) == (
        f"{tmp_path} holds {named}, whose name does not end in .csv, .tsv, .jsonl (plain or .gz) or .parquet: expected "
        "tables alone; move it elsewhere, or name the tables by a glob"
    )
    assert len(open_source(f"{tmp_path}/[abc].csv").parts) == 3


def test_a_folder_in_a_folder_is_named(tmp_path: Path) -> None:
    """Tables by day, say, would be missing."""
    folder_sample(tmp_path, ".csv")
    (tmp_path / "_temporary").mkdir()
    assert len(open_source(str(tmp_path)).parts) == 3
    (tmp_path / "day=1").mkdir()
    WRITERS[".csv"](tmp_path / "day=1" / "a.csv", ROWS)
    assert opened_error(tmp_path) == (
        f"{tmp_path} holds the folder day=1, which may hold tables, too: expected files alone; move it elsewhere, or "
        f'name the tables by a glob, for example "{tmp_path}/*/*.parquet"'
    )
    assert len(open_source(f"{tmp_path}/*/*.csv").parts) == 1


def test_files_of_different_formats_are_refused(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv.gz", "c.tsv"):
        (tmp_path / name).write_text("x")
    assert opened_error(tmp_path) == f"{tmp_path} mixes csv, tsv: expected files of one format"


@pytest.mark.parametrize("suffix", [".csv", ".tsv.gz", ".parquet"])
def test_the_file_that_lacks_a_column_is_named(tmp_path: Path, suffix: str) -> None:
    WRITERS[suffix](tmp_path / f"a{suffix}", ROWS)
    if suffix == ".parquet":
        pq.write_table(pa.table({"user_id": ["u"]}), tmp_path / f"b{suffix}")
    else:
        write_text(tmp_path / f"b{suffix}", "user_id\nu\n")
    source = open_source(str(tmp_path))
    message = f"{tmp_path}/b{suffix} lacks the columns item_id, timestamp: it has user_id"
    with pytest.raises(SourceError) as error:
        read_source(source, COLUMNS)
    assert str(error.value) == message
    with pytest.raises(SourceError) as error:
        list(read_part(source.parts[1], COLUMNS))
    assert str(error.value) == message


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_source_of_refused_rows_only_is_not_empty(tmp_path: Path, suffix: str) -> None:
    text = "a,b\n1\n" if suffix == ".csv" else '{"a": "x", "b": {}}\n'
    write_text(tmp_path / f"a{suffix}", text)
    [batch] = read_source(open_source(f"{tmp_path}/a{suffix}"), ["a", "b"])
    assert (batch.table.num_rows, batch.table.column_names, batch.refused.num_rows) == (0, ["a", "b"], 1)


def test_tfds_values_become_text_names_and_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorflow_datasets import features

    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(tmp_path))
    columns = {
        "title": features.Text(),
        "kind": features.ClassLabel(names=["film", "series"]),
        "genres": features.Sequence(features.ClassLabel(names=["crime", "drama"])),
        "words": features.Sequence(features.Text()),
        "place": features.Tensor(shape=(2,), dtype=np.int32),
    }
    rows = [
        {"title": "ü", "kind": 1, "genres": [1, 0], "words": ["a", "é"], "place": [3, 4]},
        {"title": b"\xff\xe9", "kind": 0, "genres": [], "words": [], "place": [5, 6]},
        {"title": "", "kind": 0, "genres": [1], "words": [], "place": [7, 8]},
    ]
    [batch] = read_source(open_source(store_in_tfds(tmp_path, "odd", rows, columns)), list(columns))
    assert batch.table.to_pydict() == {
        "title": ["ü", ""],
        "kind": ["series", "film"],
        "genres": [["drama", "crime"], ["drama"]],
        "words": [["a", "é"], []],
        "place": [[3, 4], [7, 8]],
    }
    assert batch.positions.tolist() == [0, 2]
    assert batch.refused.to_pylist() == [
        {
            "position": 1,
            "text": '{"title": "\ufffd\ufffd", "kind": "film", "genres": [], "words": [], "place": [5, 6]}',
            "reason": "invalid UTF-8",
        }
    ]


def test_an_unknown_tfds_builder_is_refused() -> None:
    assert opened_error("tfds:no_such_thing") == (
        "tfds:no_such_thing: no such TensorFlow Datasets builder; `tfds.list_builders()` names them"
    )


def test_a_tfds_part_that_a_worker_cannot_see_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as error:
        list(read_part(Part("tfds", str(tmp_path / "gone"), 0), ["a"]))
    assert str(error.value) == (
        f"{tmp_path}/gone holds no prepared TensorFlow dataset: expected a folder that every worker can read"
    )
