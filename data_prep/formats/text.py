"""Columns of bytes or text as UTF-8 strings; rows that are none are refused."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from data_prep.formats.batch import Part, RawBatch, Refused, raw_batch
from data_prep.formats.row_ends import INVALID_UTF8


def plain_type(kind: pa.DataType, text: pa.DataType | None = None) -> pa.DataType:
    """The type that values are handed on with: text and bytes as strings, dictionaries decoded, lists of these.

    Args:
      kind: as stored.
      text: what text and bytes become, when not strings.
    """
    text = pa.string() if text is None else text
    if pat.is_dictionary(kind):
        return plain_type(kind.value_type, text)
    if pat.is_list(kind) or pat.is_large_list(kind) or pat.is_fixed_size_list(kind):
        return pa.list_(plain_type(kind.value_type, text))
    is_text = pat.is_string(kind) or pat.is_large_string(kind) or pat.is_string_view(kind)
    is_bytes = pat.is_binary(kind) or pat.is_large_binary(kind) or pat.is_binary_view(kind)
    return text if is_text or is_bytes else kind


def text_batch(part: Part, table: pa.Table, first_row: int) -> RawBatch:
    """Makes a batch whose text columns are valid strings, without the rows where they cannot be."""
    target = pa.schema(
        [(name, plain_type(kind)) for name, kind in zip(table.schema.names, table.schema.types, strict=True)]
    )
    bad = _undecodable(table, target, 0)
    kept = np.delete(np.arange(table.num_rows), bad)
    refused = [Refused(row, _as_json(table.take([row])), INVALID_UTF8) for row in bad]
    return raw_batch(part, table.take(kept).cast(target) if bad else table.cast(target), kept, refused, first_row)


def _undecodable(table: pa.Table, target: pa.Schema, first_row: int) -> list[int]:
    """Finds the bad rows by halving."""
    try:
        table.cast(target).validate(full=True)
    except pa.ArrowInvalid:
        middle = table.num_rows // 2
        if middle == 0:
            return [first_row]
        # Copies: a cast would look at all values of a list column, whichever rows are sliced.
        lower, upper = table.take(np.arange(middle)), table.take(np.arange(middle, table.num_rows))
        return _undecodable(lower, target, first_row) + _undecodable(upper, target, first_row + middle)
    return []


def _as_json(row: pa.Table) -> str:
    raw = pa.schema(
        [(name, plain_type(kind, pa.binary())) for name, kind in zip(row.schema.names, row.schema.types, strict=True)]
    )
    return json.dumps(row.cast(raw).to_pylist()[0], default=_readable, ensure_ascii=False)


def _readable(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
