"""Which rows are refused, why, and what becomes of the others."""

from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.config import FeatureConfig, InteractionsConfig
from data_prep.sources import RawBatch
from data_prep.validate import (
    Quarantine,
    ValidBatch,
    first_positions,
    refuse_repeated,
    validate_entities,
    validate_interactions,
)
from recsys.errors import SourceError

COLUMNS = InteractionsConfig(user_id="who", item_id="what", timestamp="when")
REFUSED_BY_READER = pa.schema([("position", pa.int64()), ("text", pa.string()), ("reason", pa.string())])


def batch(columns: dict[str, Any], refused: list[dict[str, Any]] | None = None, first: int = 0) -> RawBatch:
    table = pa.table(columns)
    taken = {row["position"] for row in refused or []}
    positions = [p for p in range(first, first + table.num_rows + len(taken)) if p not in taken]
    return RawBatch(table, np.array(positions, np.int64), pa.Table.from_pylist(refused or [], REFUSED_BY_READER))


def check(who: list[Any], what: list[Any], when: list[Any]) -> ValidBatch:
    return validate_interactions(batch({"who": who, "what": what, "when": when}), COLUMNS, "number")


def test_each_bad_row_is_kept_apart_with_its_reason() -> None:
    checked = check(
        ["u1", "", None, "u4", "u5", "a\nb", "u7", "", "ok", "a\0", "ok"],
        ["i1", "i2", "i3", "", None, "i6", "c\rd", "", "ok", "i9", "i10"],
        ["1", "2", "3", "4", "5", "6", "7", "soon", "soon", "9", "9999999999999999999"],
    )
    assert checked.user.to_pylist() == ["u1"]
    assert checked.item.to_pylist() == ["i1"]
    assert (checked.timestamp.tolist(), checked.position.tolist()) == ([1], [0])
    assert checked.quarantine.to_pydict() == {
        "position": list(range(1, 11)),
        "reason": [
            "missing user_id",
            "missing user_id",
            "missing item_id",
            "missing item_id",
            "line break or NUL in user_id",
            "line break or NUL in item_id",
            "missing user_id",
            "unreadable timestamp",
            "line break or NUL in user_id",
            "timestamp out of range",
        ],
        "text": [None] * 10,
        "who": ["", None, "u4", "u5", "a\nb", "u7", "", "ok", "a\0", "ok"],
        "what": ["i2", "i3", "", None, "i6", "c\rd", "", "ok", "i9", "i10"],
        "when": ["2", "3", "4", "5", "6", "7", "soon", "soon", "9", "9999999999999999999"],
    }


def test_labels_and_weights_must_be_numbers_and_weights_not_negative() -> None:
    columns = InteractionsConfig(label="stars", weight="times")
    raw = {
        "user_id": list("abcdefg"),
        "item_id": list("tuvwxyz"),
        "timestamp": range(7),
        "stars": pa.array([1.5, float("nan"), None, float("inf"), -2, 3, 4]),
        "times": pa.array(["1", "1", "1", "1", "0", "-0.5", ""]),
    }
    checked = validate_interactions(batch(raw), columns, "number")
    assert checked.label is not None
    assert checked.weight is not None
    assert (checked.label.dtype, checked.weight.dtype) == (np.float32, np.float32)
    assert (checked.label.tolist(), checked.weight.tolist()) == ([1.5, -2], [1, 0])
    reasons = ["missing label", "missing label", "unreadable label", "negative weight", "missing weight"]
    assert checked.quarantine["reason"].to_pylist() == reasons
    assert checked.quarantine["stars"].to_pylist() == ["nan", None, "inf", "3.0", "4.0"]


def test_a_number_beyond_single_precision_is_unreadable() -> None:
    columns = InteractionsConfig(label="stars")
    raw = {"user_id": ["a", "b"], "item_id": ["a", "b"], "timestamp": [1, 2], "stars": [1e300, 1.0]}
    checked = validate_interactions(batch(raw), columns, "number")
    assert checked.quarantine["reason"].to_pylist() == ["unreadable label"]


def test_ids_become_text_and_other_columns_stay() -> None:
    raw = {"who": [7.0, None, 7.5], "what": [1, 2, 2**60 + 1], "when": [5, 6, 7], "stars": [[4], [5], [6]]}
    checked = validate_interactions(batch(raw), COLUMNS, "number")
    assert checked.user.to_pylist() == ["7", "7.5"]
    assert checked.item.to_pylist() == ["1", "1152921504606846977"]
    assert checked.table["stars"].to_pylist() == [[4], [6]]
    assert checked.table["who"].to_pylist() == [7.0, 7.5]


def test_bytes_that_are_no_utf8_are_refused_and_shown_as_far_as_they_go() -> None:
    checked = check([b"a", b"a\xff", b"c"], [b"x", b"y", b"\xfe"], [1, 2, 3])
    assert checked.user.to_pylist() == ["a"]
    assert checked.quarantine["reason"].to_pylist() == ["invalid UTF-8 in user_id", "invalid UTF-8 in item_id"]
    assert checked.quarantine["who"].to_pylist() == ["a\ufffd", "c"]


def test_large_integer_timestamps_stay_exact_beside_a_bad_one() -> None:
    moments = [1_700_000_000_000_000_001, 1_700_000_000_000_000_003]
    checked = check(["u"] * 3, ["i"] * 3, [str(moments[0]), "", str(moments[1])])
    assert checked.timestamp.tolist() == moments


def test_dates_are_read_and_a_source_without_time_has_its_positions() -> None:
    raw = batch({"who": ["a", "", "c"], "what": ["x"] * 3, "when": [date(1970, 1, 2), None, None]}, first=40)
    assert validate_interactions(raw, COLUMNS, "iso8601").timestamp.tolist() == [86_400]
    without = InteractionsConfig(user_id="who", item_id="what", timestamp=False)
    assert validate_interactions(raw, without, "number").timestamp.tolist() == [40, 42]


def test_rows_that_the_reader_refused_stand_among_the_others() -> None:
    refused = [{"position": position, "text": "a,b", "reason": "wrong number of columns"} for position in (1, 3)]
    checked = validate_interactions(
        batch({"who": ["a", "", "c"], "what": ["x"] * 3, "when": ["1"] * 3}, refused), COLUMNS, "number"
    )
    assert checked.position.tolist() == [0, 4]
    assert checked.quarantine.select(["position", "reason", "text", "what"]).to_pydict() == {
        "position": [1, 2, 3],
        "reason": ["wrong number of columns", "missing user_id", "wrong number of columns"],
        "text": ["a,b", None, "a,b"],
        "what": [None, "x", None],
    }


def test_entities_whose_ids_came_before_are_refused_among_the_others() -> None:
    price = FeatureConfig(name="price", type="numeric")
    raw = batch({"sku": ["a", "b", "a", "", "old", "c", "c"], "price": ["1", "x", "2", "3", "4", "y", "5"]})
    valid = validate_entities(raw, "sku", [price])
    assert (valid.ids.to_pylist(), valid.position.tolist()) == (["a", "a", "old", "c"], [0, 2, 4, 6])
    found = refuse_repeated(valid, np.array([True, False, False, True]), "sku")
    assert (found.ids.to_pylist(), found.position.tolist()) == (["a", "c"], [0, 6])
    assert found.table.to_pydict() == {"sku": ["a", "c"], "price": ["1", "5"]}
    assert found.quarantine.select(["position", "reason", "price"]).to_pydict() == {
        "position": [1, 2, 3, 4, 5],
        "reason": ["unreadable price", "repeated sku", "missing sku", "repeated sku", "unreadable price"],
        "price": ["x", "2", "3", "4", "y"],
    }


def test_first_positions_ascend() -> None:
    assert first_positions(pa.array(["b", "a", "b", "c", "a"])).tolist() == [0, 1, 3]


def quarantine(reasons: list[str], num_good: int) -> Quarantine:
    made = Quarantine("interactions")
    made.add(pa.table({"reason": pa.array(reasons, pa.string())}), num_good)
    return made


def test_too_many_bad_rows_are_refused() -> None:
    found = quarantine(["missing user_id", "unreadable timestamp", "missing user_id"], num_good=1)
    with pytest.raises(SourceError) as error:
        found.require_few(0.5)
    assert str(error.value) == (
        "3 of 4 rows of the interactions are bad (2 × missing user_id, 1 × unreadable timestamp): "
        "expected at most a fraction of 0.5; mend the source or raise --max-bad-fraction"
    )


def test_the_limit_itself_is_accepted_and_one_row_more_is_not() -> None:
    at_limit = quarantine(["missing user_id"] * 3, num_good=9)
    at_limit.require_few(0.25)
    assert (at_limit.num_rows, dict(at_limit.counts)) == (12, {"missing user_id": 3})
    above = quarantine(["missing user_id"] * 3, num_good=8)
    with pytest.raises(SourceError) as error:
        above.require_few(0.25)
    assert str(error.value) == (
        "3 of 11 rows of the interactions are bad (3 × missing user_id): expected at most a fraction of 0.25; "
        "mend the source or raise --max-bad-fraction"
    )


def test_no_bad_row_is_few_under_any_limit_and_one_is_not_under_none() -> None:
    for num_good in (0, 5):
        none_bad = quarantine([], num_good)
        none_bad.require_few(0.0)
        assert (none_bad.num_rows, dict(none_bad.counts)) == (num_good, {})
    with pytest.raises(SourceError) as error:
        quarantine(["missing user_id"], num_good=5).require_few(0.0)
    assert str(error.value) == (
        "1 of 6 rows of the interactions are bad (1 × missing user_id): expected at most a fraction of 0.0; "
        "mend the source or raise --max-bad-fraction"
    )


def test_a_table_of_only_bad_rows_is_refused_whatever_the_limit() -> None:
    with pytest.raises(SourceError) as error:
        quarantine(["unreadable timestamp"], num_good=0).require_few(1.0)
    assert str(error.value) == (
        "1 of 1 rows of the interactions are bad (1 × unreadable timestamp): "
        "expected at most a fraction of 1.0; mend the source or raise --max-bad-fraction"
    )


def test_a_quarantine_gathers_batches() -> None:
    made = quarantine(["a"], num_good=3)
    made.add(pa.table({"reason": pa.array(["b", "a"])}), 2)
    assert (made.num_rows, dict(made.counts)) == (8, {"a": 2, "b": 1})
    assert made.table()["reason"].to_pylist() == ["a", "b", "a"]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", None, "a", "b\n", "c"]),
            st.sampled_from(["", None, "x", "y\r", "z"]),
            st.sampled_from(["1", "1", "-5", "", None, "2020-01-01"]),
            st.sampled_from(["1", "0", "-1", "", None, "x"]),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_every_row_is_kept_or_quarantined(rows: list[tuple[str | None, ...]]) -> None:
    names = ("who", "what", "when", "weight")
    raw = {name: pa.array(column, pa.string()) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    checked = validate_interactions(batch(raw), COLUMNS.model_copy(update={"weight": "weight"}), "number")
    good = [
        position
        for position, (who, what, when, weight) in enumerate(rows)
        if who in ("a", "c") and what in ("x", "z") and when in ("1", "-5") and weight in ("0", "1")
    ]
    assert checked.position.tolist() == good
    assert checked.user.to_pylist() == [rows[position][0] for position in good]
    bad = checked.quarantine
    assert sorted(good + bad["position"].to_pylist()) == list(range(len(rows)))
    kept_apart = zip(*(bad[name].to_pylist() for name in names), strict=True)
    assert list(kept_apart) == [rows[position] for position in bad["position"].to_pylist()]
    assert bad["reason"].null_count == 0


def test_a_number_beside_the_interactions_is_checked_like_one_of_a_table() -> None:
    columns = {"who": ["a", "b", "c"], "what": ["x"] * 3, "when": [1, 2, 3], "cost": ["1.5", "abc", ""]}
    price = FeatureConfig(name="price", column="cost", type="numeric")
    checked = validate_interactions(batch(columns), COLUMNS, "number", [price])
    assert checked.user.to_pylist() == ["a", "c"]
    assert checked.quarantine["reason"].to_pylist() == ["unreadable cost"]


@pytest.mark.parametrize(
    ("column", "bad"),
    [
        (["2020-01-01", "n/a", "", None, "2020-13-01", "1.5", "now", "99999999999999999999"], [1, 4, 6, 7]),
        (["2020-01-01T10:00:00Z", "2020-01-01 10:00", "nan", "-86400", "0x10", "2020"], [2, 4]),
        (pa.array([1.5, float("nan"), None, float("inf"), 1e300]), [3, 4]),
        (pa.array([5, None, 2**62, -(2**62) - 1]), [3]),
        (pa.array([date(1970, 1, 1), None]), []),
        (pa.array([1, None], pa.duration("s")), [0]),
        (pa.array([b"2020-01-01", b"\xff"]), [1]),
    ],
)
def test_a_moment_among_the_features_is_checked_like_a_number(column: Any, bad: list[int]) -> None:
    born = FeatureConfig(name="born", column="since", type="timestamp")
    names = [f"u{number}" for number in range(len(column))]
    good = [name for number, name in enumerate(names) if number not in bad]
    beside = batch({"who": names, "what": names, "when": range(len(names)), "since": column})
    checked = validate_interactions(beside, COLUMNS, "number", [born])
    assert (checked.user.to_pylist(), checked.quarantine["position"].to_pylist()) == (good, bad)
    listed = validate_entities(batch({"sku": names, "since": column}), "sku", [born])
    assert (listed.ids.to_pylist(), listed.quarantine["position"].to_pylist()) == (good, bad)
    for found in (checked.quarantine, listed.quarantine):
        assert found["reason"].to_pylist() == ["unreadable since"] * len(bad)


def test_a_refused_row_may_hold_a_date_beyond_all_calendars() -> None:
    far = pa.array([1_700_000_000_000_000, 1], pa.timestamp("ms"))
    refused = validate_interactions(batch({"who": [None, "u"], "what": ["i", "i"], "when": far}), COLUMNS, "number")
    assert refused.quarantine["reason"].to_pylist() == ["missing user_id"]
    assert refused.quarantine["when"].to_pylist() == ["<value out of range: 1700000000000000>"]
