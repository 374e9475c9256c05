"""Content features, worked out by hand or by pandas."""

import calendar
import math
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import features as f
from data_prep.config import FeatureConfig
from recsys.errors import SourceError

NUMBER = FeatureConfig(name="price", type="numeric")
FLOATS = st.one_of(st.just(float("nan")), st.floats(-1e6, 1e6), st.integers(-3, 3).map(float))


def numeric(quantiles: int) -> FeatureConfig:
    return FeatureConfig(name="price", type="numeric", quantiles=quantiles)


def multi(**keys: Any) -> FeatureConfig:
    return FeatureConfig(name="tags", type="multi_categorical", **keys)


@settings(deadline=None)
@given(st.lists(FLOATS, min_size=1, max_size=30))
def test_a_number_is_standardized_as_by_pandas(values: list[float]) -> None:
    series, fit = pd.Series(values), f.fit_numeric(np.array(values), NUMBER)
    mean, deviation = (0.0, 1.0) if series.isna().all() else (series.mean(), series.std(ddof=0))
    if deviation < 1e-6 * max(1.0, abs(mean)):
        return
    assert fit.mean == pytest.approx(mean, rel=1e-9, abs=1e-9 * deviation)
    assert fit.standard_deviation == pytest.approx(deviation, rel=1e-3)
    expected = ((series - fit.mean) / fit.standard_deviation).fillna(0).to_numpy()
    np.testing.assert_allclose(f.standardized(series.to_numpy(), fit), expected, rtol=1e-5, atol=1e-5)


def test_a_number_worked_out_by_hand() -> None:
    fit = f.fit_numeric(np.array([2.0, 4.0, np.nan, 6.0, 8.0]), NUMBER)
    assert (fit.mean, fit.standard_deviation) == (5.0, math.sqrt(5.0))
    assert fit.boundaries == ()
    values = f.standardized(np.array([5.0, np.nan, 5.0 + 2 * math.sqrt(5.0)]), fit)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, [0, 0, 2], atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-9, 1_700_000_000.3, 3e38])
def test_equal_numbers_have_no_spread(value: float) -> None:
    fit = f.fit_numeric(np.full(7, value), NUMBER)
    assert fit.standard_deviation == 1.0
    np.testing.assert_allclose(f.standardized(np.array([value, np.nan]), fit), 0, atol=1e-6 * max(1, value))


def test_nothing_to_learn_leaves_numbers_as_they_are() -> None:
    fit = f.fit_numeric(np.array([np.nan, np.nan]), NUMBER)
    assert (fit.mean, fit.standard_deviation) == (0.0, 1.0)
    assert f.standardized(np.array([3.0]), fit).tolist() == [3.0]


def test_a_number_far_from_those_of_train_stays_finite() -> None:
    fit = f.fit_numeric(np.array([1e-9, 2e-9]), NUMBER)
    assert np.isfinite(f.standardized(np.array([3e38, -3e38]), fit)).all()


def test_what_is_learned_does_not_depend_on_the_order() -> None:
    values = np.random.default_rng(0).lognormal(0, 9, size=1000)
    one, other = f.fit_numeric(values, NUMBER), f.fit_numeric(values[::-1], NUMBER)
    assert one == other


@pytest.mark.parametrize(
    ("values", "quantiles", "boundaries"),
    [
        ([8.0, 1, 7, 2, 6, 3, 5, 4], 4, (3.0, 5.0, 7.0)),
        ([1.0, 2, 3], 2, (2.0,)),
        ([1.0, 1, 1, 1, 2, 3], 3, (1.0, 2.0)),
        ([5.0, float("nan"), 5], 10, (5.0,)),
        ([float("nan")], 3, ()),
    ],
)
def test_buckets_begin_where_an_equal_share_of_the_values_does(
    values: list[float], quantiles: int, boundaries: tuple[float, ...]
) -> None:
    fit = f.fit_numeric(np.array(values), numeric(quantiles))
    assert fit.boundaries == boundaries
    assert (fit.mean, fit.standard_deviation) == (0.0, 1.0)


def test_a_bucket_includes_its_lower_boundary_and_a_missing_number_has_none() -> None:
    fit = f.fit_numeric(np.arange(1.0, 9.0), numeric(4))  # 3, 5, 7
    values = np.array([-9.0, 2.9, 3.0, 4.9, 5.0, 7.0, 99.0, np.nan])
    assert f.bucketized(values, fit).tolist() == [1, 1, 2, 2, 3, 4, 4, 0]


@settings(deadline=None)
@given(st.lists(st.floats(-9, 9), min_size=1, max_size=60, unique=True), st.integers(2, 8))
def test_buckets_of_distinct_numbers_are_of_equal_size(values: list[float], quantiles: int) -> None:
    ids = f.bucketized(np.array(values), f.fit_numeric(np.array(values), numeric(quantiles)))
    sizes = np.unique(ids, return_counts=True)[1]
    if len(values) >= quantiles:
        assert len(sizes) == quantiles
        assert sizes.max() - sizes.min() <= 1


def test_words_are_lower_cased_and_divided_at_what_is_no_letter_or_digit() -> None:
    words = FeatureConfig(name="title", type="text", max_length=3)
    column = pa.array(["The ÉTÉ: 1999 (again)", "thE", "", None, "?!"])
    assert f.tokens_of(column, words) == [["the", "été", "1999"], ["the"], [], [], []]


def test_sequences_of_words_follow_all_words() -> None:
    words = FeatureConfig(name="title", type="text", max_ngram=3, max_length=8)
    assert f.tokens_of(pa.array(["a b c d"]), words) == [["a", "b", "c", "d", "a b", "b c", "c d", "a b c"]]
    assert f.tokens_of(pa.array(["a b"]), words) == [["a", "b", "a b"]]


def test_words_are_hashed_beside_padding() -> None:
    words = FeatureConfig(name="title", type="text", num_buckets=7)
    tokens = ["the", "été", "a b", "ab"]
    assert f.hashed(tokens, words).tolist() == (1 + tf.strings.to_hash_bucket_fast(tokens, 7)).numpy().tolist()
    assert f.hashed([], words).tolist() == []


@pytest.mark.parametrize(
    ("separator", "column"),
    [
        ("|", pa.array(["x|y|z", "y|x", "", None, "y||w"])),
        (None, pa.array([["x", "y", "z"], ["y", "x"], [], None, ["y", "", None, "w"]])),
        (None, pa.array([["x", "y", "z"], ["y", "x"], [], None, ["y", "", None, "w"]], pa.large_list(pa.string()))),
    ],
)
def test_several_values_are_divided_and_cut_to_max_length(separator: str | None, column: pa.Array) -> None:
    tokens = f.tokens_of(column, multi(separator=separator, max_length=2))
    assert tokens == [["x", "y"], ["y", "x"], [], [], ["y", "w"]]


def test_several_numbers_are_texts() -> None:
    assert f.tokens_of(pa.array([[1, 2], None]), multi()) == [["1", "2"], []]
    assert f.tokens_of(pa.array([None, [1.0, 2.5, float("nan")]]), multi()) == [[], ["1", "2.5"]]
    assert f.tokens_of(pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int8(), 2)), multi()) == [
        ["1", "2"],
        [],
        ["3", "4"],
    ]
    assert f.tokens_of(pa.array([[0], [1, 2], None, [3]]).slice(1), multi()) == [["1", "2"], [], ["3"]]


def test_a_value_without_separator_is_one_value() -> None:
    assert f.tokens_of(pa.array(["x|y", "x|y"]), multi()) == [["x|y"], ["x|y"]]
    assert f.tokens_of(pa.array([7.0, None]), multi()) == [["7"], []]


def test_records_are_no_lists_of_values() -> None:
    with pytest.raises(SourceError) as error:
        f.tokens_of(pa.array([{"x": 1}]), multi())
    assert str(error.value) == ("column tags holds struct<x: int64>: expected a list or text")


def test_one_value_is_one_token() -> None:
    one = FeatureConfig(name="colour", type="categorical")
    assert f.tokens_of(pa.array(["red", None, ""]), one) == [["red"], [""], [""]]
    assert f.tokens_of(pa.array([1995.0, None]), one) == [["1995"], [""]]


@pytest.mark.parametrize(
    ("moments", "expected"),
    [
        # 1970 began on a Thursday: three sevenths of the week after Monday. 6:00 is a quarter of the day.
        ([6 * 3600], [[1, 0, math.sin(6 * math.pi / 7), math.cos(6 * math.pi / 7)]]),
        # Monday the 5th, 12:00.
        ([4 * 86_400 + 12 * 3600], [[0, -1, 0, 1]]),
        # Sunday, 1969-12-28, 18:00: before 1970, six sevenths.
        ([-4 * 86_400 + 18 * 3600], [[-1, 0, math.sin(12 * math.pi / 7), math.cos(12 * math.pi / 7)]]),
        (["1970-01-01T06:00:00", "soon", None, ""], [[1, 0, math.sin(6 * math.pi / 7), math.cos(6 * math.pi / 7)]]),
        ([datetime(1970, 1, 5), None], [[0, 1, 0, 1]]),
    ],
)
def test_moments_are_points_on_circles(moments: list[Any], expected: list[list[float]]) -> None:
    points = f.on_circles(pa.array(moments), FeatureConfig(name="released", type="timestamp"))
    assert points.dtype == np.float32
    nothing = [[0.0] * 4] * (len(moments) - len(expected))
    np.testing.assert_allclose(points, expected + nothing, atol=1e-6)


def circles_of(moment: datetime) -> list[float]:
    seconds = moment.hour * 3600 + moment.minute * 60 + moment.second
    angles = 2 * math.pi * seconds / 86_400, 2 * math.pi * moment.weekday() / 7
    return [g(a) for a in angles for g in (math.sin, math.cos)]


@pytest.mark.parametrize("per_second", [1, 10**3, 10**6, 10**9])
def test_numbers_count_what_most_of_them_count_since_1970(per_second: int) -> None:
    """The first has no say: in no unit it is beyond 1973."""
    moments = [datetime(1970, 1, 1, 0, 20), datetime(2001, 9, 9, 1, 46, 39), datetime(2023, 11, 14, 22, 13, 20)]
    numbers = [calendar.timegm(moment.timetuple()) * per_second + per_second // 2 for moment in moments]
    expected = [circles_of(moment) for moment in moments]
    for column in (pa.array(numbers), pa.array(list(map(str, numbers)))):
        points = f.on_circles(column, FeatureConfig(name="released", type="timestamp"))
        np.testing.assert_allclose(points, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("texts", "last"),
    [
        # 20200103 seconds are 233 days and 19:08:23.
        (["1577934245000", "1577934245001", "2020-01-02T03:04:05", "20200103000"], datetime(1970, 8, 22, 19, 8, 23)),
        (["2020-01-02T03:04:05", "2020-01-02 03:04:05Z"] * 2 + ["1577934245000", "20200103"], datetime(2020, 1, 3)),
    ],
)
def test_numbers_and_dates_may_mix(texts: list[str], last: datetime) -> None:
    """What may be either is what most are."""
    points = f.on_circles(pa.array(texts), FeatureConfig(name="released", type="timestamp"))
    expected = [circles_of(datetime(2020, 1, 2, 3, 4, 5))] * (len(texts) - 1) + [circles_of(last)]
    np.testing.assert_allclose(points, expected, atol=1e-6)


@settings(deadline=None)
@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)))
def test_circles_agree_with_the_calendar(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    points = f.on_circles(pa.array([moment.isoformat()]), FeatureConfig(name="released", type="timestamp"))[0]
    np.testing.assert_allclose(points, circles_of(moment), atol=1e-6)


@pytest.mark.parametrize(
    ("config", "num_values", "num_boundaries", "expected"),
    [
        (FeatureConfig(name="c", type="categorical", num_oov=3), 10, 0, ("categorical", 14, 3, 1)),
        (FeatureConfig(name="c", type="multi_categorical", max_length=5), 10, 0, ("multi_categorical", 12, 1, 5)),
        (FeatureConfig(name="c", type="text", num_buckets=9, max_length=5), 0, 0, ("text", 10, 0, 5)),
        (FeatureConfig(name="c", type="numeric"), 0, 0, ("numeric", 0, 0, 1)),
        (FeatureConfig(name="c", type="numeric", quantiles=4), 0, 3, ("bucketized", 5, 0, 1)),
        (FeatureConfig(name="c", type="timestamp"), 0, 0, ("timestamp", 0, 0, 4)),
    ],
)
def test_features_describe_their_ids_and_width(
    config: FeatureConfig, num_values: int, num_boundaries: int, expected: tuple[Any, ...]
) -> None:
    made = f.describe(config, num_values, num_boundaries)
    assert (made.type, made.num_ids, made.num_oov, made.max_length) == expected
