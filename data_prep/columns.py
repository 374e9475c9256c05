"""Raw columns of any type as text and as numbers."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys.errors import SourceError

_LARGEST = np.finfo(np.float32).max
Mask = npt.NDArray[np.bool_]
# Below it every whole number is a float64.
_EXACT = 2.0**53
_NUMBER = r"^(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$|^(?i:inf(?:inity)?)$"


@contextmanager
def texts_fit() -> Iterator[None]:
    """Raises `SourceError` where a column in one piece would hold more text than the 2 GiB that Arrow can address."""
    try:
        yield
    except (pa.ArrowCapacityError, pa.ArrowInvalid) as error:
        if isinstance(error, pa.ArrowInvalid) and not str(error).startswith("offset overflow"):
            raise
        raise SourceError(
            "the ids of all users or items, or one of their columns, are more than 2 GiB of text: expected less on one "
            "machine; use --engine beam"
        ) from error


def one_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column in one piece."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def as_text(column: pa.Array, name: str) -> tuple[pa.StringArray, Mask]:
    """Reads values as text: 7 and 7.0 as "7".

    Returns:
      [num_rows] strings, null where the value is or is NaN, and [num_rows] bool: bytes that are no UTF-8, null too.

    Raises:
      SourceError: the column holds lists or records.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return _decoded(column)
    if pa.types.is_nested(column.type):
        raise SourceError(f"column {name} holds {column.type}: expected one value per row")
    if pa.types.is_floating(column.type):
        return _from_floats(column), np.zeros(len(column), dtype=bool)
    return column.cast(pa.string()), np.zeros(len(column), dtype=bool)


def _from_floats(column: pa.Array) -> pa.StringArray:
    """Whole numbers without a point or an exponent: ids become floats where pandas met a missing one."""
    numbers = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    whole = (np.abs(numbers) < _EXACT) & (np.floor(numbers) == numbers)
    integers = pa.array(np.where(whole, numbers, 0).astype(np.int64)).cast(pa.string())
    others = pc.if_else(pc.is_nan(column), None, column).cast(pa.string())
    return pc.if_else(pa.array(whole), integers, others)


def _decoded(column: pa.Array) -> tuple[pa.StringArray, Mask]:
    invalid = np.zeros(len(column), dtype=bool)
    try:
        return column.cast(pa.string()), invalid
    except pa.ArrowInvalid:
        values: list[str | None] = []
        for row, value in enumerate(column.to_pylist()):
            try:
                values.append(None if value is None else value.decode())
            except UnicodeDecodeError:
                values.append(None)
                invalid[row] = True
        return pa.array(values, pa.string()), invalid


def as_numbers(column: pa.Array, name: str) -> tuple[npt.NDArray[np.float64], Mask]:
    """Reads values as numbers.

    Returns:
      [num_rows] float64, NaN where there is none, and [num_rows] bool: there is a value, but it is no number, or
      none that a float32 can hold.

    Raises:
      SourceError: the column holds lists or records.
    """
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
        # Integers beyond 2**53 are rounded.
        numbers = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        unreadable = np.abs(numbers) > _LARGEST
    else:
        text, invalid = as_text(column, name)
        empty = pc.fill_null(pc.equal(text, ""), True).to_numpy(zero_copy_only=False)
        numbers = parse_numbers(text)
        unreadable = invalid | (~(np.abs(numbers) <= _LARGEST) & ~empty)
    return np.where(unreadable, np.nan, numbers), unreadable


def parse_numbers(text: pa.StringArray) -> npt.NDArray[np.float64]:
    """[num_rows] float64: decimal numbers, NaN where there is none. What a text means depends on it alone."""
    try:
        numbers = text.cast(pa.float64())
    except pa.ArrowInvalid:
        bare = pc.ascii_trim_whitespace(text)
        sign = pc.starts_with(bare, "-")
        magnitude = pc.replace_substring_regex(bare, r"^[+-]", "")
        parsed = pc.if_else(pc.match_substring_regex(magnitude, _NUMBER), magnitude, None).cast(pa.float64())
        numbers = pc.if_else(sign, pc.negate(parsed), parsed)
    return np.asarray(numbers.to_numpy(zero_copy_only=False), np.float64)
