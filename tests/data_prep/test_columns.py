"""Raw columns as text and as numbers."""

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.columns import as_numbers, as_text, one_array, texts_fit
from recsys.errors import SourceError

# Pieces of numbers, and of what other readers take for numbers.
NUMERALS = st.one_of(
    st.none(),
    st.floats(width=64).map(repr),
    st.integers(-(10**21), 10**21).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=7).map(str),
    st.text(alphabet="0123456789+-.eExX_ infaNT", max_size=6),
    st.sampled_from(["0x1F", "1_000", "True", "+7", " 8 ", "Infinity", "-inf", "nan", "1e400", "1d5", ".5", "5.", "٣"]),
)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([7, 2**60 + 1, None]), ["7", "1152921504606846977", None]),
        (pa.array([7.0, 0.5, float("nan"), None]), ["7", "0.5", None, None]),
        (pa.array([7.0, 1.5], pa.float32()), ["7", "1.5"]),
        (pa.array([True, False]), ["true", "false"]),
        (pa.array(["007", "", "nan", None]), ["007", "", "nan", None]),
        (pa.array(["b", "a", None, "b"]).dictionary_encode(), ["b", "a", None, "b"]),
        (pa.array([7, 8, 7]).dictionary_encode(), ["7", "8", "7"]),
        (pa.array(["ä".encode(), None]), ["ä", None]),
        (pa.array([None, None]), [None, None]),
    ],
)
def test_values_become_text(column: pa.Array, expected: list[str | None]) -> None:
    text, invalid = as_text(column, "c")
    assert text.type == pa.string()
    assert text.to_pylist() == expected
    assert not invalid.any()


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_bytes_that_are_no_utf8_are_marked_and_the_others_read(kind: pa.DataType) -> None:
    text, invalid = as_text(pa.array([b"a", b"\xff", None, "é".encode(), b"a\x80"], kind), "c")
    assert text.to_pylist() == ["a", None, None, "é", None]
    assert invalid.tolist() == [False, True, False, False, True]


@pytest.mark.parametrize("column", [pa.array([["a"]]), pa.array([{"x": 1}])])
def test_lists_and_records_are_no_single_values(column: pa.Array) -> None:
    for read in (as_text, as_numbers):
        with pytest.raises(SourceError) as error:
            read(column, "tags")
        assert str(error.value) == f"column tags holds {column.type}: expected one value per row"


@pytest.mark.parametrize(
    ("column", "expected", "unreadable"),
    [
        (pa.array([1, None]), [1.0, None], [False, False]),
        (pa.array([True, False]), [1.0, 0.0], [False, False]),
        (pa.array([1.5, float("nan"), float("-inf")]), [1.5, None, None], [False, False, True]),
        (pa.array(["1.5", "", None, "x"]), [1.5, None, None, None], [False, False, False, True]),
        (pa.array([" 8 ", "+7", "-1e2", ".5", "5."]), [8.0, 7.0, -100.0, 0.5, 5.0], [False] * 5),
        (pa.array(["inf", "NaN", "1e400", "0x1F", "1_000", "True", "٣"]), [None] * 7, [True] * 7),
        (pa.array([Decimal("1.25"), None]), [1.25, None], [False, False]),
        (pa.array([b"2", b"\xff"]), [2.0, None], [False, True]),
        (pa.array([2**53 + 2, 2**62], pa.int64()), [2.0**53 + 2, 2.0**62], [False, False]),
        (pa.array([1e38, -1e39]), [1e38, None], [False, True]),
        (pa.array(["1e38", "1e39"]), [1e38, None], [False, True]),
        (pa.array([2**63], pa.uint64()), [2.0**63], [False]),
        (pa.array([None, None]), [None, None], [False, False]),
    ],
)
def test_values_become_numbers(column: pa.Array, expected: list[float | None], unreadable: list[bool]) -> None:
    numbers, bad = as_numbers(column, "c")
    assert numbers.dtype == np.float64
    assert [None if math.isnan(number) else number for number in numbers] == expected
    assert bad.tolist() == unreadable


@settings(deadline=None)
@given(st.lists(NUMERALS, min_size=1, max_size=12))
def test_what_a_number_is_does_not_depend_on_its_neighbours(texts: list[Any]) -> None:
    """Else the sizes of batches would change a dataset."""
    numbers, bad = as_numbers(pa.array(texts, pa.string()), "c")
    for position, text in enumerate(texts):
        alone, bad_alone = as_numbers(pa.array([text], pa.string()), "c")
        assert bad[position] == bad_alone[0]
        np.testing.assert_array_equal(numbers[position], alone[0])


@settings(deadline=None)
@given(st.lists(st.floats(-3e38, 3e38), min_size=1, max_size=9), st.booleans())
def test_written_floats_are_read_exactly(values: list[float], beside_nonsense: bool) -> None:
    numbers, _ = as_numbers(pa.array([repr(v) for v in values] + ["x"] * beside_nonsense), "c")
    assert numbers[: len(values)].tolist() == values


def test_pieces_are_joined() -> None:
    assert one_array(pa.chunked_array([["a"], ["b"]])).to_pylist() == ["a", "b"]
    assert one_array(pa.array(["a"])).to_pylist() == ["a"]


def test_whole_floats_are_written_without_a_point_or_an_exponent() -> None:
    """Ids become floats where pandas met a missing one, and must join a table where they did not."""
    column = pa.array([12345678901254.0, -7.0, 2.0**52 + 1, 0.5, 1e300, None, math.nan])
    assert as_text(column, "id")[0].to_pylist() == [
        "12345678901254",
        "-7",
        "4503599627370497",
        "0.5",
        "1e+300",
        None,
        None,
    ]


def two_columns_in_one() -> None:
    """Of more than 1 GiB each; none of it is touched."""
    size = (1 << 30) + 1
    text = pa.StringArray.from_buffers(
        1, pa.py_buffer(np.array([0, size], np.int32)), pa.py_buffer(np.zeros(size, "B"))
    )
    pa.concat_arrays([text, text])


def a_column_repeated() -> None:
    pc.binary_repeat(pa.array(["x" * 1024]), 1 << 21)


@pytest.mark.parametrize("overflow", [two_columns_in_one, a_column_repeated])
def test_more_text_than_arrow_can_address_is_one_line(overflow: Callable[[], None]) -> None:
    with pytest.raises(SourceError) as error, texts_fit():
        overflow()
    assert str(error.value) == (
        "the ids of all users or items, or one of their columns, are more than 2 GiB of text: expected less on one "
        "machine; use --engine beam"
    )


def test_other_mistakes_with_columns_stay_what_they_are() -> None:
    with pytest.raises(pa.ArrowInvalid, match=r"^Failed to parse string"), texts_fit():
        pa.array(["a"]).cast(pa.int64())
