"""The hash of strings, against TensorFlow's documentation."""

import numpy as np

from data_prep.hashing import bucket, order


def test_buckets_are_those_of_tensorflows_documented_example() -> None:
    assert bucket(["Hello", "TensorFlow", "2.x"], 3).tolist() == [0, 2, 2]


def test_no_values_have_no_buckets() -> None:
    assert bucket([], 5).shape == (0,)


def test_an_order_is_a_permutation_that_follows_values_not_positions() -> None:
    values = [f"i{n}" for n in range(500)]
    shuffled = np.random.default_rng(0).permutation(values).tolist()
    first = [values[p] for p in order(values, seed=1)]
    assert sorted(first) == sorted(values)
    assert first == [shuffled[p] for p in order(shuffled, seed=1)]
    assert first != [values[p] for p in order(values, seed=2)]


def test_an_order_is_unrelated_to_the_order_of_values() -> None:
    correlation = np.corrcoef(order([f"i{n:05d}" for n in range(5000)], seed=0), np.arange(5000))[0, 1]
    assert abs(correlation) < 4 / np.sqrt(5000)
