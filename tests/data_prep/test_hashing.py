"""The hash of strings, against TensorFlow's documentation, and the order and chance that are made from it."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.hashing import bucket, fingerprints, order, shares

INT64 = st.integers(-(2**63), 2**63 - 1)


def test_buckets_are_those_of_tensorflows_documented_example() -> None:
    assert bucket(["Hello", "TensorFlow", "2.x"], 3).tolist() == [0, 2, 2]


def test_no_values_have_no_buckets() -> None:
    assert bucket([], 5).shape == (0,)


def test_fingerprints_depend_on_the_value_and_the_seed_alone() -> None:
    one, other = fingerprints(pa.array(["a", "b", "a"]), 1), fingerprints(pa.array(["b", "a"]), 1)
    assert one[0] == one[2] == other[1] != one[1] == other[0]
    assert set(fingerprints(pa.array(["a", "b"]), 2)).isdisjoint(one)
    # "1:1a" and "11:a" differ by where the seed ends.
    assert fingerprints(pa.array(["1:a"]), 1)[0] != fingerprints(pa.array(["a"]), 11)[0]


def test_an_order_is_a_permutation_that_follows_values_not_positions() -> None:
    values = [f"i{n}" for n in range(500)]
    shuffled = np.random.default_rng(0).permutation(values).tolist()
    first = [values[p] for p in order(pa.array(values), seed=1)]
    assert sorted(first) == sorted(values)
    assert first == [shuffled[p] for p in order(pa.array(shuffled), seed=1)]
    assert first != [values[p] for p in order(pa.array(values), seed=2)]


def test_an_order_is_unrelated_to_the_order_of_values() -> None:
    values = pa.array([f"i{n:05d}" for n in range(5000)])
    correlation = np.corrcoef(order(values, seed=0), np.arange(5000))[0, 1]
    assert abs(correlation) < 4 / np.sqrt(5000)


def splitmix64(value: int) -> int:
    """Steele, Lea & Flood, 2014, figure 17, in integers of any size."""
    value = (value + 0x9E3779B97F4A7C15) % 2**64
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return value ^ value >> 31


def test_the_reference_mixer_is_the_published_one() -> None:
    """The first numbers of the generator seeded with 1234567, as published with its code."""
    assert [splitmix64(1234567 + n * 0x9E3779B97F4A7C15 % 2**64) for n in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@settings(deadline=None)
@given(st.lists(st.tuples(INT64, INT64, INT64), min_size=1, max_size=20))
def test_shares_mix_user_item_and_time_in_turn(rows: list[tuple[int, int, int]]) -> None:
    columns: list[npt.NDArray[np.int64]] = [np.array(column, np.int64) for column in zip(*rows, strict=True)]
    expected = []
    for user, item, time in rows:
        mixed = splitmix64(splitmix64(splitmix64(user % 2**64) ^ item % 2**64) ^ time % 2**64)
        expected.append((mixed >> 11) / 2**53)
    assert shares(*columns).tolist() == expected


def test_shares_are_uniform() -> None:
    counts = np.histogram(shares(*(np.arange(100_000) for _ in range(3))), bins=100, range=(0, 1))[0]
    # The 99.99 % quantile of chi-square with 99 degrees of freedom.
    assert ((counts - 1000) ** 2 / 1000).sum() < 160.0
