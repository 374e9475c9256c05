"""Moments as integers, against the standard library's calendar."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.moments import Format, guess_format, to_moment, to_seconds

TEXTS = st.one_of(
    st.none(),
    st.integers(-(10**20), 10**20).map(str),
    st.integers(-(2**62) - 2, 2**62 + 2).map(lambda n: f"{n:020d}"),
    st.floats().map(repr),
    st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1)).map(datetime.isoformat),
    st.dates().map(date.isoformat),
    st.text(alphabet="0123456789-+:TZ. xe", max_size=12),
    st.sampled_from(["now", "today", "NaT", "0x1A", "+5", " 12 ", "1e3", "1970-W01-1", "19700102", "-inf", "1_0"]),
)


def read(column: pa.Array, format_: Format = "number") -> list[int | str]:
    seconds, unreadable, beyond = to_seconds(column, "t", format_)
    assert not (unreadable & beyond).any()
    assert seconds.dtype == "int64"
    assert not seconds[unreadable | beyond].any()
    flags = zip(seconds.tolist(), unreadable, beyond, strict=True)
    return ["unreadable" if bad else "beyond" if far else second for second, bad, far in flags]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["7", "-3", "0"], [7, -3, 0]),
        (["nan", "9", "12.6", "2020-01-01", "", None], ["unreadable", 9, 13, "unreadable", "unreadable", "unreadable"]),
        (["inf", "1e400", "-inf", "4611686018427387905"], ["beyond"] * 4),
        (["99999999999999999999", "9223372036854775807", "x"], ["beyond", "beyond", "unreadable"]),
        (["4611686018427387904", "-4611686018427387904", ""], [2**62, -(2**62), "unreadable"]),
        (["+5", " 12 ", "1e3", "-007"], [5, 12, 1000, -7]),
        (["0x1A", "1_000", "True", "٣"], ["unreadable"] * 4),
        (["0x1A"], ["unreadable"]),
    ],
)
def test_text_is_read_as_numbers(texts: list[str | None], expected: list[int | str]) -> None:
    assert read(pa.array(texts, pa.string())) == expected


@pytest.mark.parametrize("neighbour", ["8", "", None, "soon", "1.5"])
def test_large_integers_stay_exact_whatever_stands_beside_them(neighbour: str | None) -> None:
    """Nanoseconds do not fit a float: neighbours must not become ties."""
    moments = [1_700_000_000_000_000_001, 1_700_000_000_000_000_003]
    assert read(pa.array([*map(str, moments), neighbour]))[:2] == moments


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["1970-01-02", "1970-01-01T00:00:07Z", "1970-01-01 01:00:00+01:00", "12.6"], [86_400, 7, 0, "unreadable"]),
        (["1969-12-31T23:59:58.4", "1970-01-01T00:00:01.6"], [-2, 2]),
        (["1970-02-30", "now", "today", "NaT", "", None], ["unreadable"] * 6),
    ],
)
def test_text_is_read_as_dates(texts: list[str | None], expected: list[int | str]) -> None:
    assert read(pa.array(texts, pa.string()), "iso8601") == expected


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([5, None]), [5, "unreadable"]),
        (pa.array([1.0, float("nan"), float("inf"), -3.4, 1e300]), [1, "unreadable", "beyond", -3, "beyond"]),
        (pa.array([2**63 + 5, 3], pa.uint64()), ["beyond", 3]),
        (pa.array([2**62, 2**62 + 1, -(2**62) - 1]), [2**62, "beyond", "beyond"]),
        (pa.array([date(1970, 1, 3), None]), [2 * 86_400, "unreadable"]),
        (pa.array([date(9999, 1, 1)], pa.date64()), [253_370_764_800]),
        (pa.array([datetime(1970, 1, 2), None], pa.timestamp("ms")), [86_400, "unreadable"]),
        (pa.array([datetime(9999, 1, 1)], pa.timestamp("us")), [253_370_764_800]),
        (pa.array([1_500_000_000, 2_500_000_000, -1_500_000_001], pa.timestamp("ns")), [2, 2, -2]),
        (pa.array([2**62 + 1], pa.timestamp("s")), ["beyond"]),
        (pa.array([datetime(1970, 1, 2, 1, tzinfo=timezone(timedelta(hours=1)))]), [86_400]),
        (pa.array([86_400], pa.timestamp("s", "Europe/Berlin")), [86_400]),
        (pa.array([timedelta(1)]), ["unreadable"]),
        (pa.array([time(1), None]), ["unreadable"] * 2),
        (pa.array([None, None]), ["unreadable"] * 2),
        (pa.array([b"7", b"\xff"]), [7, "unreadable"]),
    ],
)
def test_typed_columns_are_read_whatever_the_format(column: pa.Array, expected: list[int | str]) -> None:
    assert read(column) == expected


@settings(deadline=None)
@given(st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1)), st.integers(-12 * 60, 12 * 60))
def test_dates_are_those_of_the_calendar(moment: datetime, offset_minutes: int) -> None:
    aware = moment.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=offset_minutes)))
    expected = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    assert read(pa.array([aware.isoformat()]), "iso8601") == [expected]
    assert to_moment(aware) == expected


@settings(deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=10), st.sampled_from(["number", "iso8601"]))
def test_what_a_moment_is_does_not_depend_on_its_neighbours(texts: list[Any], format_: Format) -> None:
    """Else the sizes of batches would change a dataset."""
    together = read(pa.array(texts, pa.string()), format_)
    assert together == [read(pa.array([text], pa.string()), format_)[0] for text in texts]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(["1", "2", "soon"]), "number"),
        (pa.array(["1", "2020-01-01"]), "number"),
        (pa.array(["1", "2020-01-01", "soon"]), "iso8601"),
        (pa.array([5, 6]), "number"),
        (pa.array([2**63], pa.uint64()), "number"),
        (pa.array([datetime(2020, 1, 1)]), "iso8601"),
        (pa.array([], pa.string()), "number"),
    ],
)
def test_the_format_is_that_of_at_least_half_of_the_values(column: pa.Array, expected: str) -> None:
    assert guess_format(column, "t") == expected


def test_moments_of_a_configuration_are_utc() -> None:
    assert to_moment(7) == 7
    assert to_moment(date(1970, 1, 2)) == 86_400
    assert to_moment(datetime(1970, 1, 1, 1)) == 3_600
    assert to_moment(datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == 0


def test_missing_values_have_no_say_in_the_format() -> None:
    assert guess_format(pa.array(["1700000000", "", None, "", ""]), "at") == "number"
    assert guess_format(pa.array(["2024-01-01", "", None]), "at") == "iso8601"
