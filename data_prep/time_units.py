"""Dates of a data.toml beside timestamps that are numbers: of which unit these are."""

from datetime import date
from typing import Any

import pyarrow as pa

from data_prep.columns import one_array
from data_prep.config import DataConfig, FiltersConfig, SplitConfig
from data_prep.moments import UNITS_PER_SECOND, Format, Unit, guess_format, guess_unit, to_moment
from data_prep.sources import Source, head
from recsys.errors import ConfigError

_MOMENTS = ("start", "end", "validation_start", "test_start")


def with_dates_as_numbers(config: DataConfig, source: Source) -> DataConfig:
    """Gives the dates of filters and split as numbers in the unit of the timestamps, which keep theirs.

    Args:
      config: whose `timestamp_format` says the unit, or leaves it to the first rows.
      source: the interactions.

    Returns:
      The configuration with these numbers, and the unit as its `timestamp_format`; unchanged where no unit is needed.

    Raises:
      ConfigError: the first rows do not tell the unit.
    """
    column, format_ = config.interactions.timestamp, config.interactions.timestamp_format
    dates = [value for part in (config.filters, config.split) for value in _dates(part).values()]
    if not column or format_ == "iso8601" or (not dates and format_ not in UNITS_PER_SECOND):
        return config
    first = one_array(head(source, [column])[column])
    if pa.types.is_temporal(first.type) or (format_ == "auto" and guess_format(first, column) == "iso8601"):
        return _with_format(config, "iso8601")
    unit = format_ if format_ in UNITS_PER_SECOND else guess_unit(first, column)
    if unit is None:
        raise ConfigError(
            f"{dates[0]} stands beside numbers as timestamps, and the first rows of {column} tell no unit: expected "
            'numbers since 1970; set interactions.timestamp_format to "s", "ms", "us" or "ns", or use a number as they '
            "are in place of the date"
        )
    scaled = config.model_copy(
        update={"filters": _scaled(config.filters, unit), "split": _scaled(config.split, unit)},
    )
    return _with_format(scaled, unit)


def unit_of(config: DataConfig, read_as: Format) -> Unit | None:
    """The unit of a dataset's timestamps; None where nobody needed to know.

    Args:
      config: as `with_dates_as_numbers` returns it.
      read_as: how the timestamps were read; dates become seconds.
    """
    chosen = config.interactions.timestamp_format
    if not config.interactions.timestamp:
        return None
    if chosen in UNITS_PER_SECOND:
        return chosen
    return "s" if "iso8601" in (chosen, read_as) else None


def _dates(part: FiltersConfig | SplitConfig) -> dict[str, date]:
    values = {name: getattr(part, name, None) for name in _MOMENTS}
    return {name: value for name, value in values.items() if isinstance(value, date)}


def _scaled(part: FiltersConfig | SplitConfig, unit: Unit) -> Any:
    update = {name: to_moment(value) * UNITS_PER_SECOND[unit] for name, value in _dates(part).items()}
    return part.model_copy(update=update)


def _with_format(config: DataConfig, format_: str) -> DataConfig:
    interactions = config.interactions.model_copy(update={"timestamp_format": format_})
    return config.model_copy(update={"interactions": interactions})
