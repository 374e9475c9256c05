"""CSV and TSV as they come in the wild: every row is read or refused, and none is lost or swallowed.

Three oracles: Python's csv module for files in order; `read_slowly`, which walks a file byte by byte, for any bytes;
and markers, one per row, that must all come out again.
"""

import contextlib
import csv
import gzip
import io
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_prep.formats import byte_files, row_ends
from data_prep.sources import open_source, read_source
from recsys.errors import SourceError

ARITY, UNCLOSED, UTF8 = "wrong number of columns", "unclosed quote", "invalid UTF-8"
SPAN = 60  # bytes that a quoted value may reach in these tests
ROOMY = 1 << 20


class Row(NamedTuple):
    number: int
    values: tuple[str, ...] | None
    text: str | None = None
    reason: str | None = None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("delimited")


def read(path: Path, block_bytes: int = ROOMY, span: int = SPAN) -> list[Row]:
    """All rows of a file, in the order of their positions."""
    rows: list[Row] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(byte_files, "BLOCK_BYTES", block_bytes)
        patch.setattr(row_ends, "MAX_SPAN_BYTES", span)
        source = open_source(str(path))
        for batch in read_source(source, source.columns):
            values = zip(*batch.table.to_pydict().values(), strict=True)
            rows += [Row(number, row) for number, row in zip(batch.positions.tolist(), values, strict=True)]
            rows += [Row(r["position"], None, r["text"], r["reason"]) for r in batch.refused.to_pylist()]
    return sorted(rows)


def rows_of(folder: Path, content: bytes, name: str = "a.csv", **limits: int) -> list[Row]:
    path = folder / name
    path.write_bytes(gzip.compress(content, 1) if name.endswith(".gz") else content)
    return read(path, **limits)


def divided(row: bytes, separator: bytes, strict: bool) -> list[bytes] | None:
    """The columns of a row, byte by byte; None when its end lies within quotes or, if strict, a quote is astray."""
    columns, state = [b""], "start"
    for place in range(len(row)):
        byte = row[place : place + 1]
        if state == "skip":
            state = "quoted"
        elif state == "quoted":
            if byte != b'"':
                columns[-1] += byte
            elif row[place + 1 : place + 2] == b'"':
                columns[-1] += b'"'
                state = "skip"
            else:
                state = "closed"
        elif byte == separator:
            columns.append(b"")
            state = "start"
        elif state == "start" and byte == b'"':
            state = "quoted"
        elif strict and (state == "closed" or byte in b'"\r\n'):
            return None
        else:
            columns[-1] += byte
            state = "plain" if state == "start" else state
    return None if state in ("quoted", "skip") else columns


def read_slowly(body: bytes, separator: bytes, num_columns: int) -> Iterator[Row]:
    """The rows behind the header, by the rule that `row_ends` documents, tried out end by end."""
    numbers = itertools.count()
    while body := body.lstrip(b"\r\n"):
        ends = [place for place, byte in enumerate(body) if byte in b"\r\n"] + [len(body)]
        row = body[: ends[0]]
        columns = divided(row, separator, strict=False)
        reason = None
        if columns is None:
            reason = UNCLOSED
            for end in ends[1:]:
                if end >= SPAN:
                    break
                longer = divided(body[:end], separator, strict=True)
                if longer is not None and body[:end].rstrip(b"\r\n") == body[:end]:
                    if len(longer) == num_columns:
                        row, columns, reason = body[:end], longer, None
                    break
        body = body[len(row) :]
        text = row.decode("utf-8", "replace")
        if reason is None and text.encode() != row:
            reason = UTF8
        if reason is None and columns is not None and len(columns) != num_columns:
            reason = ARITY
        if reason is None and columns is not None:
            yield Row(next(numbers), tuple(column.decode() for column in columns))
        else:
            yield Row(next(numbers), None, text, reason)


PIECES = [b"a", b"b1", b",", b",", b"\t", b'"', b'""', b'","', b"\n", b"\n", b"\r", b"\r\n", b'"\n', b",\n"]
STRANGE = ["é".encode(), b"\xff", b"\xe9", b"\0", b"\xef\xbb\xbf", b"x" * 50, b" ", b"'", b"\\"]
SEEDS = [
    b'x,y\n"x\ny",z,w\n",q\n1,"2\n3"\n',  # a span of the wrong width, whose second line opens another
    b'1,"2,3\n4,5\n',
    b'1,5"\n3,"a\nb"\n4,5"\n6,"a\nb"c\n',
    b'1,"a\n2,"b"\n3,c\n',
    b'1,2"\n3,"4 5" 6\n7,"8""\n9,10\n',
    b'"' + b"y" * (2 * SPAN) + b'",1\n',
    b'1,"' + b"y\n" * SPAN + b'"\n',
    b'1,"' + b"z" * (SPAN - 10) + b'\n2345"\n',
    b'1,"' + b"z" * (SPAN - 10) + b'\n23456"\n',
    b'1,"' + b"z" * (SPAN - 10) + b'\n234567"\n',
    b'1,"' + b"z" * (SPAN - 9) + b'\n2345"',
    b"\xff,1\n2,3\n\xe9\n",
    b"1,2\n\xef\xbb\xbf3,4\n\xef\xbb\xbf5,6",
    b'1,"\r\n"\r\n\r\n3,"4\r5"\r6,7',
]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES) | st.sampled_from(STRANGE), max_size=40).map(b"".join) | st.sampled_from(SEEDS),
    st.integers(1, 3),
    st.sampled_from([1, 2, 3, 5, 8, 13, 30, ROOMY]),
    st.sampled_from(["a.csv", "a.tsv", "a.csv.gz"]),
)
def test_any_bytes_are_read_as_the_rule_says(
    folder: Path, body: bytes, num_columns: int, block_bytes: int, name: str
) -> None:
    separator = b"\t" if "tsv" in name else b","
    header = separator.join([b"c1", b"c2", b"c3"][:num_columns]) + b"\n"
    expected = list(read_slowly(body, separator, num_columns))
    if not expected:
        with pytest.raises(SourceError, match="is empty: expected at least one row"):
            rows_of(folder, header + body, name, block_bytes=block_bytes)
    else:
        assert rows_of(folder, header + body, name, block_bytes=block_bytes) == expected


@pytest.mark.parametrize("body", SEEDS)
@pytest.mark.parametrize("block_bytes", [1, *range(7, 19), ROOMY])
def test_the_fixed_corpus_is_read_as_the_rule_says(folder: Path, body: bytes, block_bytes: int) -> None:
    assert rows_of(folder, b"a,b\n" + body, block_bytes=block_bytes) == list(read_slowly(body, b",", 2))


CELL = st.text(alphabet="ab \",\n\r\t'\\\0é€\ufeff𝄞", max_size=8)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=12),
    st.sampled_from([",", "\t"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.sampled_from([1, 4, 17, ROOMY]),
)
def test_a_file_in_order_is_read_as_pythons_csv_reads_it(
    folder: Path, rows: list[tuple[str, str, str]], separator: str, line_end: str, all_quoted: bool, block_bytes: int
) -> None:
    made = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if all_quoted or line_end != "\r\n" else csv.QUOTE_MINIMAL
    csv.writer(made, delimiter=separator, lineterminator=line_end, quoting=quoting).writerows([("a", "b", "c"), *rows])
    [_, *expected] = csv.reader(io.StringIO(made.getvalue(), newline=""), delimiter=separator)
    name = "a.csv" if separator == "," else "a.tsv"
    found = rows_of(folder, made.getvalue().encode(), name, block_bytes=block_bytes, span=ROOMY)
    assert found == [Row(number, tuple(row)) for number, row in enumerate(expected)]


DAMAGE = st.sampled_from([b'"', b'"', b'""', b",", b"\n", b"\r", b"\0", b"\xff\xfe", b'"\n', b'",', b"z" * 99])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(CELL, st.lists(DAMAGE, max_size=2)), min_size=1, max_size=15), st.sampled_from([3, 40, ROOMY])
)
def test_every_marker_comes_out_once(folder: Path, rows: list[tuple[str, list[bytes]]], block_bytes: int) -> None:
    """Whatever happens to the bytes around it, the name of a row is in the table or among the refused."""
    content = b"id,title,n\n"
    for number, (title, damage) in enumerate(rows):
        quoted = '"' + title.replace('"', '""') + '"'
        parts = [b"", f"<{number}>".encode(), b",", quoted.encode(), b",", b"1", b"\n"]
        for place, bytes_ in enumerate(damage):
            parts.insert((number + 3 * place) % 6, bytes_)
        content += b"".join(parts)
    found = rows_of(folder, content, block_bytes=block_bytes)
    assert [row.number for row in found] == list(range(len(found)))
    everything = "\n".join(text for row in found for text in row.values or (row.text or "",))
    assert [everything.count(f"<{number}>") for number in range(len(rows))] == [1] * len(rows)


TITLE = st.text(alphabet='ab "é', max_size=6).map(lambda text: "t" + text) | st.sampled_from(["", "t\nu", "t,u"])


@settings(max_examples=100, deadline=None)
@given(st.lists(TITLE, min_size=2, max_size=12), st.data(), st.sampled_from([5, 50, ROOMY]))
def test_a_stray_quote_costs_its_own_row_only(
    folder: Path, titles: list[str], data: st.DataObject, block_bytes: int
) -> None:
    broken = data.draw(st.integers(0, len(titles) - 1))
    lines = [f'{n},"{title.replace(chr(34), chr(34) * 2)}",{n}' for n, title in enumerate(titles)]
    lines[broken] = f'{broken},title,"{broken}'
    found = rows_of(folder, ("id,title,n\n" + "\n".join(lines) + "\n").encode(), block_bytes=block_bytes)
    expected = [Row(n, (str(n), title, str(n))) for n, title in enumerate(titles)]
    expected[broken] = Row(broken, None, lines[broken], UNCLOSED)
    assert found == expected


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.sampled_from(["a.csv", "a.tsv.gz", "a.jsonl"]), st.booleans())
@example(b"\xff\xfea\0,\0b\0\n\0", "a.csv", False)
def test_arbitrary_bytes_never_end_in_a_traceback(folder: Path, content: bytes, name: str, is_plain: bool) -> None:
    (folder / name).write_bytes(content if is_plain or not name.endswith("gz") else gzip.compress(content, 1))
    refused = pytest.raises(SourceError, match=r"^[^\n]*$")
    with contextlib.suppress(pytest.fail.Exception), refused:
        assert read(folder / name)


def test_values_stay_as_written(folder: Path) -> None:
    body = b'user,item\r\n007,NA\r\n,null\n \xc3\xbc ,1.0\n"a ""b""",nan\nq\0r,""'
    assert [row.values for row in rows_of(folder, body)] == [
        ("007", "NA"),
        ("", "null"),
        (" ü ", "1.0"),
        ('a "b"', "nan"),
        ("q\0r", ""),
    ]


def test_refused_rows_keep_their_number_and_text(folder: Path) -> None:
    body = b'a,b\n1,2\n\n3\n"4,5\n6,\xff7\n8,9,10\n11,"12\n13"\n14,15,\n'
    assert rows_of(folder, body) == [
        Row(0, ("1", "2")),
        Row(1, None, "3", ARITY),
        Row(2, None, '"4,5', UNCLOSED),
        Row(3, None, "6,\ufffd7", UTF8),
        Row(4, None, "8,9,10", ARITY),
        Row(5, ("11", "12\n13")),
        Row(6, None, "14,15,", ARITY),  # a trailing comma is a column that the header lacks
    ]


def test_a_trailing_comma_in_the_header_too_is_a_column_without_name(folder: Path) -> None:
    assert [row.values for row in rows_of(folder, b"a,b,\n1,2,\n")] == [("1", "2", "")]


def test_fields_of_megabytes_are_read(folder: Path) -> None:
    huge = "é" * (3 << 20)
    content = f'a,b\n1,{huge}\n2,"{huge},"\n3,"{huge}\n4,5\n'.encode()
    found = rows_of(folder, content, block_bytes=1 << 16, span=1 << 18)
    assert [row.values for row in found] == [("1", huge), ("2", f"{huge},"), None, ("4", "5")]
    assert found[2] == Row(2, None, f'3,"{huge}', UNCLOSED)


def test_a_value_of_many_lines_may_cross_blocks(folder: Path) -> None:
    lines = "line\n" * 1000
    content = b"a,b\n" + f'1,"{lines}"\n'.encode() * 20
    found = rows_of(folder, content, block_bytes=999, span=1 << 13)
    assert found == [Row(number, ("1", lines)) for number in range(20)]


def test_a_byte_order_mark_is_no_part_of_the_first_name(folder: Path) -> None:
    (folder / "a.csv").write_bytes(b"\xef\xbb\xbfa,b\n1,2\n")
    assert open_source(str(folder / "a.csv")).columns == ("a", "b")


def test_a_row_without_end_does_not_fill_the_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_files, "MAX_ROW_BYTES", 1 << 20)
    with pytest.raises(SourceError) as error:
        rows_of(folder, b"a,b\n1," + b"2" * (2 << 20), block_bytes=1 << 16)
    assert str(error.value) == (f"{folder}/a.csv has a row of more than 1 MiB: expected rows that end in a line break")


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_a_header_without_end_is_refused_at_once(folder: Path, name: str) -> None:
    content = b"a" * (48 << 20)
    started = time.monotonic()
    with pytest.raises(SourceError) as error:
        rows_of(folder, content, name)
    assert str(error.value) == (
        f"{folder}/{name} has a first line of more than 1 MiB: expected a header row, the columns' names and a "
        "line break"
    )
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("too_long", [False, True])
def test_a_header_has_at_most_one_mebibyte(folder: Path, too_long: bool) -> None:
    names = [f"c{number:06d}" for number in range(131_072)]
    header = ",".join(names).encode() + b"\n"
    assert len(header) == 1 << 20
    (folder / "a.csv").write_bytes((b"x" if too_long else b"") + header + b"1," * 99)
    if too_long:
        with pytest.raises(SourceError, match="has a first line of more than 1 MiB"):
            open_source(str(folder / "a.csv"))
    else:
        assert list(open_source(str(folder / "a.csv")).columns) == names


GZIPPED = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(999)))
UNREADABLE = {
    "header_only.csv": (b"a,b\n\n", "is empty: expected at least one row"),
    "empty.csv": (b"", "is empty: expected a header row"),
    "blank.csv": (b"\n\r\n", "is empty: expected a header row"),
    "empty.csv.gz": (b"", "is empty: expected a header row"),
    "columns.csv": (b"a,b,a,b,c\n1,2,3,4,5\n", "names columns twice: a, b; expected distinct names"),
    "quote.csv": (
        b'a,"b\n1,2\n',
        "has an unreadable header (unexpected end of data): expected names in UTF-8",
    ),
    "latin1.csv": (
        b"a,\xe9\n1,2\n",
        "has an unreadable header ('utf-8' codec can't decode byte 0xe9 in position 2: unexpected end of data): "
        "expected names in UTF-8",
    ),
    "utf16.csv": ("a,b\n1,2\n".encode("utf-16"), "is UTF-16: expected UTF-8; convert it, for example by iconv"),
    "utf16_without_mark.csv": (
        "a,b\n1,2\n".encode("utf-16-le"),
        "has NUL bytes in its header: expected UTF-8 text, no binary file or UTF-16",
    ),
    "plain.csv.gz": (b"a,b\n1,2\n", "is not readable: Not a gzipped file (b'a,')"),
    "cut.csv.gz": (GZIPPED[:-900], "is cut short: its gzip stream has no end, so rows are missing"),
    "damaged.csv.gz": (
        GZIPPED[:50] + bytes(150) + GZIPPED[200:],
        "is not readable: Error -3 while decompressing data: invalid distance too far back",
    ),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_unusable_file_is_refused_in_one_line(folder: Path, name: str) -> None:
    content, message = UNREADABLE[name]
    (folder / name).write_bytes(content)
    with pytest.raises(SourceError) as error:
        read(folder / name)
    assert str(error.value) == f"{folder / name} {message}"


@pytest.mark.parametrize("cut", range(2, len(GZIPPED), 211))
def test_a_gzip_file_that_is_cut_short_anywhere_is_refused(folder: Path, cut: int) -> None:
    (folder / "cut.csv.gz").write_bytes(GZIPPED[:cut])
    with pytest.raises(SourceError, match="is cut short: its gzip stream has no end"):
        read(folder / "cut.csv.gz", block_bytes=100)
