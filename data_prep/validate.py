"""Separates rows that can be used from rows that cannot; nothing is dropped silently."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from data_prep.config import InteractionsConfig
from recsys.errors import SourceError


@dataclass(frozen=True)
class Validated:
    """Interactions divided into usable and refused rows.

    Attributes:
      interactions: the usable rows' `user` and `item` (text) and `timestamp` (int64).
      raw: all columns of the usable rows as they came, in the same order.
      quarantine: the refused rows as they came, as text, with a `reason` each.
    """

    interactions: pd.DataFrame
    raw: pd.DataFrame
    quarantine: pd.DataFrame

    @property
    def counts(self) -> dict[str, int]:
        """Refused rows by reason."""
        return {str(reason): int(n) for reason, n in self.quarantine["reason"].value_counts().sort_index().items()}


def validate(frame: pd.DataFrame, columns: InteractionsConfig, max_bad_fraction: float) -> Validated:
    """Checks every row's ids and timestamp.

    Raises:
      SourceError: more than `max_bad_fraction` of the rows are refused, or all of them.
    """
    timestamp = _seconds(frame[columns.timestamp])
    reason = unusable_id(frame[columns.user_id], "user_id")
    reason = reason.mask(reason == "", unusable_id(frame[columns.item_id], "item_id"))
    reason = reason.mask((reason == "") & timestamp.isna(), "unreadable timestamp")

    bad = reason != ""
    if bad.all() or bad.mean() > max_bad_fraction:
        worst = ", ".join(f"{n} × {r}" for r, n in reason[bad].value_counts().items())
        raise SourceError(
            f"{bad.sum()} of {len(frame)} rows are bad ({worst}): expected at most a fraction of {max_bad_fraction}; "
            "mend the source or raise --max-bad-fraction"
        )
    good = frame[~bad].reset_index(drop=True)
    interactions = pd.DataFrame(
        {
            "user": good[columns.user_id].astype(str),
            "item": good[columns.item_id].astype(str),
            "timestamp": timestamp[~bad].astype("int64").to_numpy(),
        }
    )
    return Validated(interactions, good, frame[bad].astype(str).assign(reason=reason[bad]))


def unusable_id(column: "pd.Series[Any]", name: str) -> "pd.Series[str]":
    """Says of each id why it cannot be used; the empty string where it can."""
    text = column.astype("string")
    reason = pd.Series("", index=column.index)
    # Exported vocabularies are text files with a value per line.
    reason = reason.mask(text.str.contains("[\r\n]", regex=True).fillna(False).astype(bool), f"line break in {name}")
    return reason.mask(text.isna() | (text.str.len() == 0), f"missing {name}")


def _seconds(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Reads integers as they are, fractions rounded, and dates as seconds since 1970; else missing.

    Text is read as numbers when at least half of it is numbers, else as ISO 8601 dates: never as a mix of both.
    """
    if pd.api.types.is_datetime64_any_dtype(column):
        return _since_1970(column)
    numbers = pd.to_numeric(column, errors="coerce")
    if pd.api.types.is_integer_dtype(numbers):
        return numbers.astype("Int64")
    if numbers.notna().mean() < 0.5:
        dates = pd.to_datetime(column.astype("string"), errors="coerce", utc=True, format="ISO8601")
        return _since_1970(dates)
    numbers = numbers.astype("Float64")
    return numbers.where(numbers.abs() < 2.0**62).round()


def _since_1970(dates: "pd.Series[Any]") -> "pd.Series[Any]":
    epoch = pd.Timestamp(0, tz=dates.dt.tz)
    return ((dates - epoch) / pd.Timedelta(seconds=1)).astype("Float64").round()
