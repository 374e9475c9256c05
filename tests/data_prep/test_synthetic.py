"""The synthetic generator: determinism, and the structure that models are tested against."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from data_prep import synthetic
from data_prep.synthetic import COLUMNS, generate_chunk, parse_options
from recsys.errors import ConfigError

SPEC = "synthetic:users=100,items=200,interactions=8000"


def make(more: str = "", columns: tuple[str, ...] = COLUMNS) -> pd.DataFrame:
    options = parse_options(SPEC + more)
    return pa.concat_tables(
        [generate_chunk(options, chunk, columns) for chunk in range(options.num_chunks)]
    ).to_pandas()


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "CHUNK_ROWS", 3000)


@pytest.mark.usefixtures("small_chunks")
def test_one_seed_gives_one_table() -> None:
    pd.testing.assert_frame_equal(make(",seed=3"), make(",seed=3"))
    assert not make(",seed=3").equals(make(",seed=4"))


@pytest.mark.usefixtures("small_chunks")
def test_chunks_have_streams_of_their_own() -> None:
    options = parse_options(SPEC)
    assert [generate_chunk(options, chunk).num_rows for chunk in range(options.num_chunks)] == [3000, 3000, 2000]
    first, second = (generate_chunk(options, chunk, ["user_id", "item_id"]) for chunk in (0, 1))
    assert not first.equals(second)


@pytest.mark.parametrize("more", ["", ",shortlist=1"])
def test_rows_do_not_depend_on_the_columns_asked(more: str) -> None:
    everything = make(more)
    for name in COLUMNS:
        pd.testing.assert_frame_equal(make(more, (name,)), everything[[name]])


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("more", ["", ",shortlist=1", ",interactions=100000000"])
def test_time_grows_within_chunks_and_from_chunk_to_chunk(more: str) -> None:
    options = parse_options(SPEC + more)
    times = [generate_chunk(options, chunk, ["timestamp"])["timestamp"].to_numpy() for chunk in range(2)]
    last = generate_chunk(options, options.num_chunks - 1, ["timestamp"])["timestamp"].to_numpy()
    together = np.concatenate([*times, last])
    assert (np.diff(together) >= 0).all()
    assert together[0] >= 1_700_000_000 > together[-1] - 180 * 86_400
    assert together[-1] - together[0] > 179 * 86_400


def test_rows_users_and_items_are_as_many_as_asked() -> None:
    frame = make(",shortlist=1,skew=0")
    assert len(frame) == 8000
    assert sorted(frame["user_id"].unique()) == sorted(f"u{n}" for n in range(100))
    assert sorted(frame["item_id"].unique()) == sorted(f"i{n}" for n in range(200))


@pytest.mark.parametrize("shortlist", [1, 100])
def test_skew_concentrates_popularity(shortlist: int) -> None:
    def share_of_the_top_tenth(skew: float) -> float:
        counts = make(f",skew={skew},shortlist={shortlist}")["item_id"].value_counts().to_numpy()
        return float(counts[:20].sum() / counts.sum())

    assert share_of_the_top_tenth(0) + 0.05 < share_of_the_top_tenth(0.7) + 0.05 < share_of_the_top_tenth(1.5)


def test_popularity_alone_follows_zipf() -> None:
    """The expected share of the k-th item, k ** -skew over their sum, within five standard errors."""
    counts = make(",shortlist=1,skew=1,interactions=100000,items=50")["item_id"].value_counts().to_numpy()
    expected = (1 / np.arange(1, 51)) / (1 / np.arange(1, 51)).sum()
    assert (abs(counts / 100_000 - expected) < 5 * np.sqrt(expected / 100_000)).all()


def test_users_prefer_genres_when_they_may_choose() -> None:
    """The structure a model can learn: a user's genres are more alike than the same genres dealt out at random."""

    def excess(more: str) -> float:
        frame = make(",skew=0" + more)
        genre = frame["genres"].str.split("|").str[0].to_numpy()

        def concentration(of: object) -> float:
            shares = pd.crosstab(frame["user_id"].to_numpy(), of, normalize="index").to_numpy()
            return float((shares**2).sum(axis=1).mean())

        return concentration(genre) / concentration(np.random.default_rng(0).permutation(genre))

    assert excess("") > 1.2
    assert abs(excess(",shortlist=1") - 1) < 0.05


def test_ratings_grow_with_affinity() -> None:
    """Of the same pair they are alike; and users who choose rate higher than users who do not."""
    chosen, dealt = make()["rating"], make(",shortlist=1")
    assert set(dealt["rating"]) == {1, 2, 3, 4, 5}
    assert chosen.mean() > dealt["rating"].mean() + 0.5
    pairs = dealt.groupby(["user_id", "item_id"])["rating"].agg(["size", "var"])
    assert pairs.loc[pairs["size"] > 1, "var"].mean() < 0.7 * dealt["rating"].var()


def test_items_keep_their_attributes() -> None:
    frame = make()
    distinct = frame[["item_id", "category", "genres", "title"]].drop_duplicates()
    assert len(distinct) == frame["item_id"].nunique()
    assert frame["title"].str.split().str[2].equals(frame["item_id"].str[1:])
    assert frame["genres"].str.fullmatch(r"[A-Z][a-z]+(\|[A-Z][a-z]+)?").all()
    assert not frame["genres"].str.fullmatch(r"(\w+)\|\1").any()


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
        ("synthetic:shortlist=0", "shortlist: input should be greater than or equal to 1, received '0'"),
    ],
)
def test_a_wrong_option_is_refused(spec: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_options(spec)
    assert str(error.value) == f"{spec}: {message}"
