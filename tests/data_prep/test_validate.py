"""Which rows are refused, why, and what becomes of the others."""

import datetime
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.config import InteractionsConfig
from data_prep.validate import Validated, validate
from recsys.errors import SourceError

COLUMNS = InteractionsConfig(user_id="who", item_id="what", timestamp="when")


def check(who: list[Any], what: list[Any], when: Any, max_bad_fraction: float = 0.99) -> Validated:
    return validate(pd.DataFrame({"who": who, "what": what, "when": when}), COLUMNS, max_bad_fraction)


def seconds(when: Any) -> list[int]:
    """The timestamps that are accepted."""
    return check(["u"] * len(when), ["i"] * len(when), when).interactions["timestamp"].tolist()


def test_each_bad_row_is_kept_apart_with_its_reason() -> None:
    checked = check(
        ["u1", "", None, "u4", "u5", "a\nb", "u7", "", "ok"],
        ["i1", "i2", "i3", "", None, "i6", "c\rd", "", "ok"],
        ["1", "2", "3", "4", "5", "6", "7", "soon", "soon"],
    )
    assert checked.interactions[["user", "item", "timestamp"]].to_dict("list") == {
        "user": ["u1"],
        "item": ["i1"],
        "timestamp": [1],
    }
    assert checked.quarantine["reason"].tolist() == [
        "missing user_id",
        "missing user_id",
        "missing item_id",
        "missing item_id",
        "line break in user_id",
        "line break in item_id",
        "missing user_id",
        "unreadable timestamp",
    ]
    assert checked.quarantine["when"].tolist() == ["2", "3", "4", "5", "6", "7", "soon", "soon"]
    assert checked.counts == {
        "line break in item_id": 1,
        "line break in user_id": 1,
        "missing item_id": 2,
        "missing user_id": 3,
        "unreadable timestamp": 1,
    }


def test_ids_become_text_and_other_columns_stay() -> None:
    frame = pd.DataFrame({"who": pd.Series([7, None], dtype=object), "what": [1, 2], "when": [5, 6], "stars": [4, 5]})
    checked = validate(frame, COLUMNS, 0.5)
    assert checked.interactions[["user", "item"]].to_dict("list") == {"user": ["7"], "item": ["1"]}
    assert checked.raw.to_dict("list") == {"who": [7], "what": [1], "when": [5], "stars": [4]}


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (["1970-01-02", "1970-01-01T00:00:07Z", "1970-01-01 01:00:00+01:00", "12.6"], [86_400, 7, 0]),
        (["nan", "inf", "1e400", "-inf", "9", "12.6", "2020-01-01"], [9, 13]),
        ([1.0, float("nan"), float("inf"), -3.0], [1, -3]),
        (pd.to_datetime(["1970-01-02", "NaT"]), [86_400]),
        (pd.to_datetime(["1970-01-02 01:00", "NaT"]).tz_localize("Europe/Berlin"), [86_400]),
        ([datetime.date(1970, 1, 3), None], [2 * 86_400]),
    ],
)
def test_timestamps_are_seconds_since_1970(when: Any, expected: list[int]) -> None:
    assert seconds(when) == expected


def test_large_integer_timestamps_keep_their_order() -> None:
    """Nanoseconds do not fit a float: neighbours must not become ties."""
    assert seconds([1_700_000_000_000_000_001, 1_700_000_000_000_000_003]) == [
        1_700_000_000_000_000_001,
        1_700_000_000_000_000_003,
    ]


def test_too_many_bad_rows_are_refused() -> None:
    with pytest.raises(SourceError) as error:
        check(["u", "", "", "u"], ["i", "i", "i", "i"], ["1", "2", "3", "soon"], max_bad_fraction=0.5)
    assert str(error.value) == (
        "3 of 4 rows are bad (2 × missing user_id, 1 × unreadable timestamp): expected at most a fraction of 0.5; "
        "mend the source or raise --max-bad-fraction"
    )


def test_the_limit_itself_is_accepted() -> None:
    assert len(check(["u", ""], ["i", "i"], [1, 2], max_bad_fraction=0.5).interactions) == 1


def test_a_table_of_only_bad_rows_is_refused_whatever_the_limit() -> None:
    with pytest.raises(SourceError) as error:
        check(["u"], ["i"], ["soon"], max_bad_fraction=1.0)
    assert str(error.value) == (
        "1 of 1 rows are bad (1 × unreadable timestamp): expected at most a fraction of 1.0; "
        "mend the source or raise --max-bad-fraction"
    )


@settings(deadline=None)  # other work may share the machine
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", None, "a", "b\n", "c"]),
            st.sampled_from(["", None, "x", "y\r", "z"]),
            st.sampled_from(["1", "1", "-5", "", None, "2020-01-01"]),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_every_row_is_kept_or_quarantined(rows: list[tuple[str | None, str | None, str | None]]) -> None:
    rows = [*rows, *[("a", "x", "1")] * len(rows)]
    who, what, when = (list(column) for column in zip(*rows, strict=True))
    checked = check(who, what, when, max_bad_fraction=1.0)
    good = [(u, i) for u, i, t in rows if u in ("a", "c") and i in ("x", "z") and t in ("1", "-5")]
    assert list(zip(checked.interactions["user"], checked.interactions["item"], strict=True)) == good
    assert len(checked.interactions) + len(checked.quarantine) == len(rows)
    assert sum(checked.counts.values()) == len(checked.quarantine)
