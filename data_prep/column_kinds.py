"""What the values of a column look like: numbers, times, categories, lists of them, or text."""

import math
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import pyarrow as pa

# Of the values that are there, the share that must be readable: a few bad rows are for the quarantine.
_READABLE = 0.9
# A separator must stand in this share of the values, and (but for "|") each piece come twice on average.
_SEPARATED = 0.2
# Below so many values nothing is known of how often they repeat.
_FEW = 20
_CODES = ("id", "code", "type", "class", "category", "zip", "group")

KindType = Literal["categorical", "multi_categorical", "text", "numeric"]


@dataclass(frozen=True)
class Kind:
    """A feature type, or None where none fits, why, and what separates the values of one row.

    `is_readable` says whether a person can read the values as they are.
    """

    type: KindType | None
    reason: str
    separator: str | None = None
    is_readable: bool = False


def text(column: pa.ChunkedArray) -> list[str | None]:
    """The values as text, missing and empty ones as None."""
    return [None if value is None or value in ("", []) else str(value) for value in column.to_pylist()]


def numbers(column: pa.ChunkedArray) -> list[float]:
    """The values as numbers; nothing unless nearly all that are there can be read as such."""
    known = [value for value in text(column) if value is not None]
    found = [number for number in map(as_number, known) if number is not None]
    return found if found and len(found) >= _READABLE * len(known) else []


def as_number(value: str | None) -> float | None:
    """The finite number that a text is; None where it is none or missing."""
    if value is None:
        return None
    if not re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", value, re.ASCII | re.IGNORECASE):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def moments(column: pa.ChunkedArray) -> Literal["number", "iso8601", "typed"] | None:
    """How the values can be read as moments, if nearly all of them can."""
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return "typed"
    if numbers(column):
        return "number"
    known = [value for value in text(column) if value is not None]
    return "iso8601" if known and sum(map(_is_iso8601, known)) >= _READABLE * len(known) else None


def _is_iso8601(value: str) -> bool:
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def classify(name: str, column: pa.ChunkedArray) -> Kind:
    """Guesses the feature type of a column.

    Args:
      name: its name, in lower case with underscores; some tell that a number is a code.
      column: one value of each item or user.
    """
    if pa.types.is_temporal(column.type):
        return Kind(None, 'a time; type = "timestamp" would keep its hour and weekday')
    if pa.types.is_nested(column.type):
        return _classify_nested(column)
    known = [value for value in text(column) if value is not None]
    if not known:
        return Kind(None, "empty in these rows")
    if len(known) > 1 and len(set(known)) == 1:
        return Kind(None, "the same in all these rows")
    if found := numbers(column):
        return _classify_numbers(name, known, found)
    return _classify_text(known)


def _classify_nested(column: pa.ChunkedArray) -> Kind:
    is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    if is_list and not pa.types.is_floating(column.type.value_type) and not pa.types.is_nested(column.type.value_type):
        longest = max((len(value) for value in column.to_pylist() if value is not None), default=0)
        return Kind("multi_categorical", f"lists of up to {longest} values")
    return Kind(None, f"of type {column.type}, which no feature type reads")


def _classify_numbers(name: str, known: list[str], found: list[float]) -> Kind:
    distinct = len(set(known))
    if name in _CODES or name.endswith(tuple(f"_{code}" for code in _CODES)):
        return Kind("categorical", f"numbers, but by its name a code; {distinct} distinct")
    if any(re.match(r"0\d", value) for value in known):
        return Kind("categorical", f"numbers with leading zeros, so a code; {distinct} distinct")
    return Kind("numeric", f"numbers from {min(found):g} to {max(found):g}, {distinct} distinct")


def _classify_text(known: list[str]) -> Kind:
    if all(value[0] in "[{" for value in known):
        return Kind(None, "lists or records written as text, which no feature type reads")
    if all(re.match(r"https?://", value) for value in known):
        return Kind(None, "addresses on the web")
    if separator := _separator(known):
        longest = max(len(value.split(separator)) for value in known)
        return Kind("multi_categorical", f"up to {longest} values, separated", separator, is_readable=True)
    distinct, words = len(set(known)), sum(len(value.split()) for value in known) / len(known)
    counts = f"{distinct} distinct among {len(known)}"
    if 2 * distinct <= len(known):
        return Kind("categorical", counts, is_readable=True)
    if words >= 2:
        return Kind("text", f"{counts}, of {words:.1f} words on average", is_readable=True)
    if len(known) < _FEW:
        return Kind("categorical", f"{counts}, which is little to go by", is_readable=True)
    return Kind(None, f"{counts}: rather names or ids than categories", is_readable=True)


def _separator(known: list[str]) -> str | None:
    for separator in ("|", ";", ", ", ","):
        separated = sum(separator in value for value in known)
        if separated < _SEPARATED * len(known):
            continue
        pieces = [piece for value in known for piece in value.split(separator)]
        if separator == "|" or (2 * len(set(pieces)) <= len(pieces) and _are_short(pieces)):
            return separator
    return None


def _are_short(pieces: list[str]) -> bool:
    return sum(len(piece.split()) for piece in pieces) <= 3 * len(pieces)
