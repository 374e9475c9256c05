"""JSON lines: what becomes of each kind of value, and which lines are refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.formats import byte_files
from data_prep.sources import RawBatch, open_source, read_source
from recsys.errors import SourceError


def read(path: Path, content: str | bytes, *columns: str) -> RawBatch:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    source = open_source(str(path))
    [batch] = read_source(source, columns or source.columns)
    return batch


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("json") / "a.jsonl"


def test_scalars_become_their_text(path: Path) -> None:
    values = [
        "7",
        "-12345678901234567890123",
        "1.50",
        "1e5",
        "true",
        "false",
        '"NA"',
        '"\\u00fc\\u0000"',
        "null",
        "NaN",
    ]
    batch = read(path, "".join(f'{{"a": {value}}}\n' for value in values) + '{"b": 1}\n', "a")
    assert batch.table["a"].to_pylist() == [
        *("7", "-12345678901234567890123", "1.50", "1e5", "true", "false", "NA", "ü\0", None, None),
        None,
    ]


def test_a_column_whose_first_value_is_a_list_holds_lists(path: Path) -> None:
    batch = read(path, '{"a": null}\n{"a": ["x", 7, null]}\n{"a": []}\n{"a": "y"}\n{}\n', "a")
    assert batch.table["a"].to_pylist() == [None, ["x", "7", None], [], ["y"], None]


def test_lists_are_lists_in_every_file(tmp_path: Path) -> None:
    for name, text in {"a": '{"u": 1}', "b": '{"g": ["x"]}', "c": '{"u": 2, "g": null}'}.items():
        (tmp_path / f"{name}.jsonl").write_text(text)
    source = open_source(str(tmp_path))
    assert source.columns == ("u", "g")
    batches = list(read_source(source, ["g", "u"]))
    assert [batch.table.to_pydict() for batch in batches] == [
        {"g": [None], "u": ["1"]},
        {"g": [["x"]], "u": [None]},
        {"g": [None], "u": ["2"]},
    ]
    assert len({str(batch.table.schema) for batch in batches}) == 1


def test_lines_that_are_no_rows_are_refused(path: Path) -> None:
    lines = [
        b'{"a": "1", "g": ["x"]}',
        b"{",
        b"[1]",
        b"",
        b'{"a": "\xff"}',
        b'{"a": {"b": 1}}',
        b'{"a": ["1"]}',
        b'{"g": [["x"]]}',
        b'{"a": "\\ud800"}',
        b'{"a": "2"}\r',
        b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": "3", "other": {"b": 1}}',
        b'{"a": "4", "g": null, "a": "5"}',
        b'{"a": "4", "other": [{"b": 1, "b": 1}]}',
        b'{"\\ud800": 1, "\\ud800": 2}',
        b'{"a": "6", "other": {"a": 1}}',
    ]
    batch = read(path, b"\n".join(lines) + b"\n", "a", "g")
    assert batch.table.to_pydict() == {"a": ["1", "2", "9" * 5000, "3", "6"], "g": [["x"], None, None, None, None]}
    assert batch.positions.tolist() == [0, 8, 10, 11, 15]  # an empty line is no row
    refused = batch.refused.to_pydict()
    assert refused["position"] == [1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 14]
    assert refused["reason"] == [
        "no JSON object",
        "no JSON object",
        "invalid UTF-8",
        "nested value in a",
        "nested value in a",
        "nested value in g",
        "half a surrogate pair in a",
        "no JSON object",
        "repeated key",
        "repeated key",
        "repeated key",
    ]
    assert refused["text"][:3] == ["{", "[1]", '{"a": "\ufffd"}']


SCALAR = st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from("ab"), SCALAR), min_size=1, max_size=9), st.sampled_from([1, 9, 1 << 20])
)
def test_rows_are_those_of_pythons_json(path: Path, records: list[dict[str, Any]], block_bytes: int) -> None:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in [{"a": 0, "b": 0}, *records]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(byte_files, "BLOCK_BYTES", block_bytes)
        batches = list(read_source(open_source(str(path)), ["b", "a"]))
    rows = [(row["b"], row["a"]) for batch in batches for row in batch.table.to_pylist()]

    def text(value: Any) -> str | None:
        return str(value).lower() if isinstance(value, bool) else None if value is None else str(value)

    assert rows == [("0", "0"), *((text(record.get("b")), text(record.get("a"))) for record in records)]


@pytest.mark.parametrize("content", ["", "\n\n", "no\n[1]\n"])
def test_a_file_without_objects_is_refused(path: Path, content: str) -> None:
    with pytest.raises(SourceError) as error:
        read(path, content)
    assert str(error.value) == (f"{path} holds no JSON object in the first 1000 lines: expected one on each line")
