"""Moments as integers: seconds since 1970, or any growing integer."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.columns import Mask, as_text, parse_numbers
from data_prep.config import Moment

Unit = Literal["s", "ms", "us", "ns"]
# Numbers of a known unit are read as all others: they keep it.
Format = Literal["number", "iso8601"] | Unit
_INTEGER = r"^(?P<sign>[+-]?)0*(?P<digits>[0-9]{1,19})$"
_LIMIT = 2**62
UNITS_PER_SECOND: dict[Unit, int] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
# March 1973, and the year 5138: three powers of ten, as between two units, so that these do not overlap.
_EARLIEST_SECOND, _LATEST_SECOND = 10**8, 10**11


def guess_format(column: pa.Array, name: str) -> Format:
    """Text is numbers when at least half of its values are, else ISO 8601 dates: never a mix of both."""
    if pa.types.is_temporal(column.type):
        return "iso8601"
    return "iso8601" if Reading.by(count_moments(column, name)).dates_first else "number"


def guess_unit(column: pa.Array, name: str) -> Unit | None:
    """The unit in which at least half of the numbers lie between 1973 and 5138; None where they do in none."""
    return _unit(count_moments(column, name))


def count_moments(column: pa.Array, name: str) -> Counter[str]:
    """What `Reading.by` needs to know of a column; the counts of several may be added.

    Returns:
      How many `values` there are, how many of them are `numbers`, and how many of these lie between 1973 and 5138 in
      each unit.
    """
    text = as_text(column, name)[0]
    present = text.filter(pc.fill_null(pc.not_equal(text, ""), False))
    numbers = np.abs(parse_numbers(present))
    counts = Counter(values=len(present), numbers=int((~np.isnan(numbers)).sum()))
    for unit, per_second in UNITS_PER_SECOND.items():
        counts[unit] = int(((numbers >= _EARLIEST_SECOND * per_second) & (numbers < _LATEST_SECOND * per_second)).sum())
    return counts


def _unit(counts: Mapping[str, int]) -> Unit | None:
    unit = max(UNITS_PER_SECOND, key=lambda unit: counts[unit])
    return unit if counts[unit] and 2 * counts[unit] >= counts["numbers"] else None


@dataclass(frozen=True)
class Reading:
    """How a feature is read whose moments may be numbers, dates, or some of both.

    Attributes:
      dates_first: what may be either, such as 20240101, is a date.
      unit: what numbers count since 1970.
    """

    dates_first: bool = False
    unit: Unit = "s"

    @classmethod
    def by(cls, counts: Mapping[str, int]) -> "Reading":
        """As most values are written, which `count_moments` has counted."""
        unit = _unit(counts)
        return cls(counts["numbers"] < 0.5 * counts["values"], "s" if unit is None else unit)


def read_moments(column: pa.Array, name: str, reading: Reading) -> tuple[npt.NDArray[np.int64], Mask]:
    """[num_rows] int64 seconds since 1970, rounded down, and [num_rows] bool: where there is no moment."""
    numbers, no_number, beyond = to_seconds(column, name, "number")
    if pa.types.is_temporal(column.type):
        return numbers, no_number | beyond
    no_number |= beyond
    may_be_date = pa.array(no_number | reading.dates_first)
    dates, no_date, _ = _from_iso8601(pc.if_else(may_be_date, as_text(column, name)[0], None))
    return np.where(no_date, numbers // UNITS_PER_SECOND[reading.unit], dates), no_number & no_date


def to_seconds(column: pa.Array, name: str, format_: Format) -> tuple[npt.NDArray[np.int64], Mask, Mask]:
    """Reads integers as they are, whatever their unit, fractions rounded, and dates as seconds since 1970.

    Args:
      column: integers, floats, dates, or text of one of them.
      name: the column's, for errors.
      format_: how text is read.

    Returns:
      [num_rows] int64, and two [num_rows] bool: what cannot be read, and what is beyond ± 2**62. Both are 0.
    """
    if pa.types.is_temporal(column.type):
        return _from_dates(column)
    if pa.types.is_integer(column.type) and not pa.types.is_uint64(column.type) and not column.null_count:
        return _checked(column.cast(pa.int64()).to_numpy())
    text, _ = as_text(column, name)
    if format_ == "iso8601":
        return _from_iso8601(text)
    if _is_digits(text):
        try:
            return _checked(text.cast(pa.int64()).to_numpy(zero_copy_only=True))
        except pa.ArrowInvalid:  # also where a value is null
            pass
    return _from_mixed_text(text)


def unreadable_moments(column: pa.Array, name: str) -> Mask:
    """[num_rows] bool: there is a value, but it is a moment in no format, or one beyond ± 2**62."""
    if pa.types.is_temporal(column.type):
        _, unreadable, beyond = _from_dates(column)
        return (unreadable | beyond) & column.is_valid().to_numpy(zero_copy_only=False)
    text, undecodable = as_text(column, name)
    present = pc.fill_null(pc.not_equal(text, ""), False).to_numpy(zero_copy_only=False)
    _, no_number, beyond = to_seconds(column, name, "number")
    _, no_date, _ = _from_iso8601(text)
    return undecodable | (present & (no_number | beyond) & no_date)


def to_moment(value: Moment) -> int:
    """A moment of a configuration file; dates begin at midnight UTC."""
    if isinstance(value, datetime):
        return round((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())
    if isinstance(value, date):
        return round(datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp())
    return value


def _is_digits(text: pa.StringArray) -> bool:
    """Whether there are digits and minus signs alone: Arrow would take "0x1f" for an integer, too."""
    data = text.buffers()[2]
    codes = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return bool(((codes - np.uint8(ord("0")) < 10) | (codes == ord("-"))).all())


def _from_mixed_text(text: pa.StringArray) -> tuple[npt.NDArray[np.int64], Mask, Mask]:
    """Integers exactly, for nanoseconds do not fit a float; what is left as rounded floats."""
    found = pc.extract_regex(pc.ascii_trim_whitespace(text), _INTEGER)
    is_integer = found.is_valid().to_numpy(zero_copy_only=False)
    digits = pc.fill_null(pc.struct_field(found, "digits"), "0")
    magnitude = digits.cast(pa.uint64()).to_numpy(zero_copy_only=False)  # 19 digits fit
    exact = np.where(magnitude > _LIMIT, 0, magnitude).astype(np.int64)
    exact *= np.where(pc.fill_null(pc.equal(pc.struct_field(found, "sign"), "-"), False), -1, 1)
    floats = np.where(is_integer, 0, parse_numbers(text))
    unreadable = np.isnan(floats)
    beyond = (magnitude > _LIMIT) | (np.abs(floats) > _LIMIT)
    rounded = np.where(unreadable | beyond, 0, floats).round().astype(np.int64)
    return np.where(is_integer, exact, rounded), unreadable, beyond


def _checked(values: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], Mask, Mask]:
    beyond = (values > _LIMIT) | (values < -_LIMIT)
    return (np.where(beyond, 0, values) if beyond.any() else values), np.zeros(len(values), dtype=bool), beyond


def _from_iso8601(text: pa.StringArray) -> tuple[npt.NDArray[np.int64], Mask, Mask]:
    # Pandas would take "now" for the moment of the preparation.
    written = pc.if_else(pc.match_substring_regex(text, "^[0-9]"), text, None)
    dates = pd.to_datetime(written.to_pandas(), errors="coerce", utc=True, format="ISO8601")
    seconds = (dates - pd.Timestamp(0, tz=UTC)) / pd.Timedelta(seconds=1)
    missing = seconds.isna().to_numpy()
    whole = np.where(missing, 0, seconds.to_numpy(np.float64)).round().astype(np.int64)
    return whole, missing, np.zeros(len(whole), dtype=bool)


def _from_dates(column: pa.Array) -> tuple[npt.NDArray[np.int64], Mask, Mask]:
    """Dates and timestamps of any unit and year; durations and times of day are no moments."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("s"))
    if not pa.types.is_timestamp(column.type):
        return np.zeros(len(column), np.int64), np.ones(len(column), bool), np.zeros(len(column), bool)
    units = pc.fill_null(column.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    whole, rest = np.divmod(units, UNITS_PER_SECOND[column.type.unit])
    twice = 2 * rest - UNITS_PER_SECOND[column.type.unit]
    seconds, _, beyond = _checked(whole + ((twice > 0) | ((twice == 0) & (whole % 2 == 1))))
    return seconds, column.is_null().to_numpy(zero_copy_only=False), beyond
