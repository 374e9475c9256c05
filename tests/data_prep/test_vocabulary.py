"""Ids by frequency, padding and out-of-vocabulary buckets, and ids that are kept."""

from collections import Counter

import pyarrow as pa
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.vocabulary import Vocabulary, count_values, fit_vocabulary

VALUES = st.lists(st.text(alphabet="aAäz0 \U0001f3b8\uffee", max_size=2), max_size=40)


def texts(values: list[str]) -> pa.StringArray:
    return pa.array(values, pa.string())


def fit(values: list[str], num_oov: int = 1, old: list[str] | None = None) -> Vocabulary:
    return fit_vocabulary(*count_values(texts(values)), num_oov, None if old is None else texts(old))


def test_ids_follow_frequency_then_value() -> None:
    vocabulary = fit(["c", "b", "a", "b", "a", "d", "d", "d", ""], num_oov=2)
    assert vocabulary.table().to_pydict() == {"value": ["d", "a", "b", "c"], "id": [3, 4, 5, 6], "count": [3, 2, 2, 1]}
    assert vocabulary.num_ids == 7


def test_ties_follow_code_points() -> None:
    """In UTF-16 the guitar would stand before the half-width circle."""
    assert fit(["\U0001f3b8", "\uffee", "ä", "z", "A", "a"]).values.to_pylist() == [
        "A",
        "a",
        "z",
        "ä",
        "\uffee",
        "\U0001f3b8",
    ]


def test_known_values_have_their_id_and_the_empty_string_is_padding() -> None:
    assert fit(["b", "b", "a"]).encode(texts(["a", "", "b", "x"])).tolist() == [3, 0, 2, 1]


def test_unknown_values_are_hashed_into_the_buckets() -> None:
    """TensorFlow documents `to_hash_bucket_fast(["Hello", "TensorFlow", "2.x"], 3)` as [0, 2, 2]."""
    vocabulary = fit(["a"], num_oov=3)
    assert vocabulary.encode(texts(["Hello", "a", "TensorFlow", "2.x"])).tolist() == [1, 4, 3, 3]


@settings(deadline=None)
@given(st.lists(st.text(max_size=5), min_size=1, max_size=9), st.integers(1, 7))
def test_any_unknown_text_has_the_bucket_that_tensorflow_gives_it(values: list[str], num_oov: int) -> None:
    buckets = tf.strings.to_hash_bucket_fast(values, num_oov).numpy()
    expected = [int(1 + b) if value else 0 for value, b in zip(values, buckets, strict=True)]
    assert fit([], num_oov).encode(texts(values)).tolist() == expected


def test_a_value_without_train_rows_is_unknown() -> None:
    vocabulary = fit_vocabulary(texts(["a", "b", "c"]), pa.array([0, 2, 1]).to_numpy(), 1)
    assert vocabulary.values.to_pylist() == ["b", "c"]
    assert vocabulary.encode(texts(["a"])).tolist() == [1]


def test_a_vocabulary_of_nothing_knows_only_buckets() -> None:
    vocabulary = fit([""])
    assert vocabulary.num_ids == 2
    assert vocabulary.encode(texts(["a", ""])).tolist() == [1, 0]
    assert vocabulary.encode(texts([])).tolist() == []


def test_kept_values_go_first_and_new_ones_follow_by_frequency() -> None:
    vocabulary = fit(["n", "a", "m", "m", "m", "b", "b", "o", "n"], num_oov=2, old=["b", "gone", "a"])
    assert vocabulary.table().to_pydict() == {
        "value": ["b", "gone", "a", "m", "n", "o"],
        "id": [3, 4, 5, 6, 7, 8],
        "count": [2, 0, 1, 3, 2, 1],
    }
    assert vocabulary.encode(texts(["gone", "o", ""])).tolist() == [4, 8, 0]


@settings(deadline=None)
@given(VALUES, VALUES)
def test_ids_match_a_counter_and_extending_keeps_them(values: list[str], more: list[str]) -> None:
    vocabulary = fit(values)
    counted = Counter(value for value in values if value)
    expected = sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))
    assert list(zip(vocabulary.values.to_pylist(), vocabulary.counts.tolist(), strict=True)) == expected
    assert vocabulary.encode(texts([value for value, _ in expected])).tolist() == list(range(2, 2 + len(expected)))

    grown, recounted = fit(more, old=vocabulary.values.to_pylist()), Counter(value for value in more if value)
    known = grown.values.to_pylist()
    new = sorted(set(recounted) - set(counted), key=lambda value: (-recounted[value], value))
    assert known == [value for value, _ in expected] + new
    assert grown.counts.tolist() == [recounted[value] for value in known]
    assert grown.encode(vocabulary.values).tolist() == vocabulary.encode(vocabulary.values).tolist()
