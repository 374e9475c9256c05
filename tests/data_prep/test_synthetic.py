"""The synthetic generator: determinism, and the structure that models are tested against."""

import numpy as np
import pandas as pd
import pytest

from data_prep.synthetic import generate, parse_options
from recsys.errors import ConfigError

SPEC = "synthetic:users=100,items=200,interactions=8000"


def make(more: str = "") -> pd.DataFrame:
    return generate(parse_options(SPEC + more))


def test_one_seed_gives_one_table() -> None:
    pd.testing.assert_frame_equal(make(",seed=3"), make(",seed=3"))
    assert not make(",seed=3").equals(make(",seed=4"))


def test_nobody_takes_an_item_twice_and_time_grows() -> None:
    frame = make()
    assert not frame.duplicated(["user_id", "item_id"]).any()
    assert frame["timestamp"].is_monotonic_increasing
    assert 1000 < len(frame) <= 8000
    assert frame["user_id"].nunique() <= 100
    assert frame["item_id"].nunique() <= 200


def test_skew_concentrates_popularity() -> None:
    def share_of_the_top_tenth(skew: float) -> float:
        counts = make(f",skew={skew}")["item_id"].value_counts().to_numpy()
        return float(counts[:20].sum() / counts.sum())

    assert share_of_the_top_tenth(0) + 0.05 < share_of_the_top_tenth(0.7) + 0.05 < share_of_the_top_tenth(1.5)


def test_users_prefer_genres() -> None:
    """The structure a model can learn: a user's genres are more alike than the same genres dealt out at random."""
    frame = make(",skew=0")
    genre = frame["genres"].str.split("|").str[0].to_numpy()

    def concentration(of: object) -> float:
        shares = pd.crosstab(frame["user_id"].to_numpy(), of, normalize="index").to_numpy()
        return float((shares**2).sum(axis=1).mean())

    assert concentration(genre) > 1.2 * concentration(np.random.default_rng(0).permutation(genre))


def test_items_keep_their_attributes() -> None:
    frame = make()
    distinct = frame[["item_id", "category", "genres", "title"]].drop_duplicates()
    assert len(distinct) == frame["item_id"].nunique()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("synthetic:user=5", "user: unknown key, remove it or correct its spelling"),
        (
            "synthetic:users=x,items=2",
            "users: input should be a valid integer, unable to parse string as an integer, received 'x'; "
            "items: input should be greater than or equal to 10, received '2'",
        ),
        ("synthetic:skew=-1", "skew: input should be greater than or equal to 0, received '-1'"),
    ],
)
def test_a_wrong_option_is_refused(spec: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_options(spec)
    assert str(error.value) == f"{spec}: {message}"
