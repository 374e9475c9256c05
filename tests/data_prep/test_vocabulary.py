"""Ids by frequency, padding and out-of-vocabulary buckets."""

from collections import Counter

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.vocabulary import fit_vocabulary


def index(values: list[str]) -> "pd.Index[str]":
    return pd.Index(values, dtype=object)


def test_ids_follow_frequency_then_value() -> None:
    vocabulary = fit_vocabulary(index(["c", "b", "a", "b", "a", "d", "d", "d", ""]), num_oov=2)
    assert vocabulary.table().to_pydict() == {"value": ["d", "a", "b", "c"], "id": [3, 4, 5, 6], "count": [3, 2, 2, 1]}
    assert vocabulary.num_ids == 7


def test_known_values_have_their_id_and_the_empty_string_is_padding() -> None:
    vocabulary = fit_vocabulary(index(["b", "b", "a"]), num_oov=1)
    assert vocabulary.encode(index(["a", "", "b", "x"])).tolist() == [3, 0, 2, 1]


def test_unknown_values_are_hashed_into_the_buckets() -> None:
    """TensorFlow documents `to_hash_bucket_fast(["Hello", "TensorFlow", "2.x"], 3)` as [0, 2, 2]."""
    vocabulary = fit_vocabulary(index(["a"]), num_oov=3)
    assert vocabulary.encode(index(["Hello", "a", "TensorFlow", "2.x"])).tolist() == [1, 4, 3, 3]


def test_a_vocabulary_of_nothing_knows_only_buckets() -> None:
    vocabulary = fit_vocabulary(index([""]), num_oov=1)
    assert vocabulary.num_ids == 2
    assert vocabulary.encode(index(["a", ""])).tolist() == [1, 0]


@settings(deadline=None)  # other work may share the machine
@given(st.lists(st.text(alphabet="aAäz0 ", max_size=2), max_size=40))
def test_ids_match_a_counter(values: list[str]) -> None:
    vocabulary = fit_vocabulary(index(values), num_oov=1)
    counted = Counter(value for value in values if value)
    expected = sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))
    assert list(zip(vocabulary.values, vocabulary.counts.tolist(), strict=True)) == expected
    assert vocabulary.encode(index([value for value, _ in expected])).tolist() == list(range(2, 2 + len(expected)))
