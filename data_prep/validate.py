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
      interactions: `user` and `item` (text), `timestamp` (int64), and the other columns unchanged.
      quarantine: the refused rows as they came, as text, with a `reason` each.
    """

    interactions: pd.DataFrame
    quarantine: pd.DataFrame

    @property
    def counts(self) -> dict[str, int]:
        """Refused rows by reason."""
        return {str(reason): int(n) for reason, n in self.quarantine["reason"].value_counts().sort_index().items()}


def validate(frame: pd.DataFrame, columns: InteractionsConfig, max_bad_fraction: float) -> Validated:
    """Checks every row's ids and timestamp.

    Raises:
      SourceError: more than `max_bad_fraction` of the rows are refused.
    """
    timestamp = _seconds(frame[columns.timestamp])
    reason = pd.Series("", index=frame.index)
    for name, column in (("user_id", columns.user_id), ("item_id", columns.item_id)):
        text = frame[column].astype("string")
        missing = text.isna() | (text.str.len() == 0)
        # Exported vocabularies are text files with a value per line.
        broken = text.str.contains("[\r\n]", regex=True).fillna(False)
        reason = reason.mask((reason == "") & missing, f"missing {name}")
        reason = reason.mask((reason == "") & broken.astype(bool), f"line break in {name}")
    reason = reason.mask((reason == "") & timestamp.isna(), "unreadable timestamp")

    bad = reason != ""
    if bad.mean() > max_bad_fraction:
        worst = ", ".join(f"{n} × {r}" for r, n in reason[bad].value_counts().items())
        raise SourceError(
            f"{bad.sum()} of {len(frame)} rows are bad ({worst}): expected at most a fraction of {max_bad_fraction}; "
            "mend the source or raise --max-bad-fraction"
        )
    good = frame[~bad].assign(
        user=frame[columns.user_id].astype(str), item=frame[columns.item_id].astype(str), timestamp=timestamp
    )
    good["timestamp"] = good["timestamp"].astype("int64")
    return Validated(good.reset_index(drop=True), frame[bad].astype(str).assign(reason=reason[bad]))


def _seconds(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Reads numbers as they are, and dates (typed or ISO 8601 text) as seconds since 1970; else missing."""
    if pd.api.types.is_numeric_dtype(column):
        numbers = column.astype("float64").astype("Float64")
    elif pd.api.types.is_datetime64_any_dtype(column):
        numbers = _since_1970(column)
    else:
        numbers = pd.to_numeric(column, errors="coerce").astype("Float64")
        dates = pd.to_datetime(column.where(numbers.isna()), errors="coerce", utc=True, format="ISO8601")
        numbers = numbers.fillna(_since_1970(dates))
    in_range = numbers.abs() < 2.0**62
    return numbers.where(in_range).round()


def _since_1970(dates: "pd.Series[Any]") -> "pd.Series[Any]":
    epoch = pd.Timestamp(0, tz=dates.dt.tz)
    return ((dates - epoch) / pd.Timedelta(seconds=1)).astype("Float64")
