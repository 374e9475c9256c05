"""Dates beside timestamps of any unit: what is kept, and where the cuts fall."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.config import DataConfig
from data_prep.moments import guess_unit
from data_prep.pipeline import prepare
from recsys.dataset import Dataset, open_dataset
from recsys.errors import ConfigError
from recsys.interactions import load_interactions

DAYS = pd.date_range("2022-12-01", periods=60, tz="UTC")
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
DATES = {
    "filters": {"start": date(2022, 12, 5), "end": datetime(2023, 1, 25, 12)},
    "split": {"validation_start": date(2023, 1, 10), "test_start": date(2023, 1, 20)},
}


def numbers(unit: str) -> list[int]:
    """One row a day, by the standard library's calendar, and not at midnight."""
    return [round(day.timestamp()) * PER_SECOND[unit] + 7 for day in DAYS.to_pydatetime()]


def prepared(folder: Path, timestamps: Any, config: dict[str, Any]) -> Dataset:
    ids = [f"u{n % 7}" for n in range(len(timestamps))]
    table = pa.table({"user_id": ids, "item_id": ids, "timestamp": timestamps})
    pq.write_table(table, folder / "rows.parquet")
    prepare(str(folder / "rows.parquet"), DataConfig.model_validate(config), folder / "dataset")
    return open_dataset(folder / "dataset")


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("unit", PER_SECOND)
def test_dates_mean_the_same_in_every_unit(tmp_path: Path, unit: str, as_text: bool) -> None:
    timestamps = numbers(unit)
    made = prepared(tmp_path, list(map(str, timestamps)) if as_text else timestamps, DATES)
    days = [day.date() for day in DAYS.to_pydatetime()]
    kept = [n for n, day in enumerate(days) if date(2022, 12, 5) <= day <= date(2023, 1, 25)]
    split = [int(days[n] >= date(2023, 1, 10)) + int(days[n] >= date(2023, 1, 20)) for n in kept]
    found = load_interactions(made)
    assert sorted(zip(found.timestamp.tolist(), found.split.tolist(), strict=True)) == [
        (timestamps[n], part) for n, part in zip(kept, split, strict=True)
    ]
    assert made.manifest.timestamp_unit == unit
    cut = round(datetime(2023, 1, 20, tzinfo=UTC).timestamp()) * PER_SECOND[unit]
    assert made.manifest.split_rule.test_start == cut


def test_a_named_unit_goes_before_what_the_rows_look_like(tmp_path: Path) -> None:
    """Milliseconds of 1970 look like seconds of any time."""
    config = {
        "interactions": {"timestamp_format": "ms"},
        "filters": {"start": date(1970, 1, 3)},
        "split": {"validation_start": datetime(1970, 1, 5), "test_start": datetime(1970, 1, 6)},
    }
    made = prepared(tmp_path, [day * 86_400_000 for day in range(10)], config)
    assert made.manifest.filtered == {"time window": 2}
    assert [made.manifest.num_rows(split) for split in ("train", "validation", "test")] == [2, 1, 5]
    assert made.manifest.timestamp_unit == "ms"


def test_numbers_of_the_configuration_are_never_scaled(tmp_path: Path) -> None:
    timestamps = numbers("ms")
    config = {"filters": {"start": timestamps[3], "end": date(2023, 1, 25)}}
    made = prepared(tmp_path, timestamps, config)
    assert made.manifest.filtered == {"time window": 3 + len(timestamps) - 55}


def test_dates_as_timestamps_are_seconds(tmp_path: Path) -> None:
    config = DATES | {"interactions": {"timestamp_format": "ms"}}
    for number, timestamps in enumerate([pa.array(DAYS.to_pydatetime()), [str(day) for day in DAYS]]):
        (tmp_path / str(number)).mkdir()
        made = prepared(tmp_path / str(number), timestamps, config if number == 0 else DATES)
        assert made.manifest.timestamp_unit == "s"
        assert made.manifest.split_rule.test_start == datetime(2023, 1, 20, tzinfo=UTC).timestamp()


def test_no_unit_is_told_where_none_is_needed(tmp_path: Path) -> None:
    assert prepared(tmp_path, numbers("ms"), {}).manifest.timestamp_unit is None


def test_numbers_that_are_no_moments_cannot_be_compared_with_dates(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        prepared(tmp_path, list(range(60)), DATES)
    assert str(error.value) == (
        "2022-12-05 stands beside numbers as timestamps, and the first rows of timestamp tell no unit: expected "
        'numbers since 1970; set interactions.timestamp_format to "s", "ms", "us" or "ns", or use a number as they '
        "are in place of the date"
    )


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([10**8], "s"),
        ([10**8 - 1], None),
        ([10**11 - 1, -(10**11) + 1], "s"),
        ([10**11], "ms"),
        ([10**14], "us"),
        ([10**17], "ns"),
        ([0, 1_700_000_000_000, 1_700_000_000_001], "ms"),
        ([None, 1_700_000_000.5], "s"),
        ([None], None),
        ([0, 0, 1_700_000_000], None),
        ([0, 1_700_000_000], "s"),
        (["soon", "1700000000000000", ""], "us"),
    ],
)
def test_the_unit_is_that_of_half_of_the_numbers(values: list[Any], unit: str | None) -> None:
    assert guess_unit(pa.array(values), "at") == unit


def test_ties_of_a_millisecond_are_not_made(tmp_path: Path) -> None:
    """Timestamps are not rounded to seconds."""
    timestamps = np.array(numbers("ms"))
    found = load_interactions(prepared(tmp_path, timestamps, {"filters": {"end": date(2024, 1, 1)}}))
    assert sorted(found.timestamp.tolist()) == timestamps.tolist()
