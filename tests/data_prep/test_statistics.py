"""Statistics and the leak audit, against pandas on the rows that a dataset holds."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.config import DataConfig
from data_prep.pipeline import prepare
from data_prep.sequences import Sequences, build_sequences
from data_prep.statistics import UserProfile, length_bins, popularity, profile_users, time_edges
from recsys.dataset import Dataset, open_dataset
from recsys.interactions import load_interactions

RULES: dict[str, dict[str, Any]] = {
    "temporal": {},
    "leave_one_out": {"split": {"rule": "leave_one_out"}},
    "random": {"split": {"rule": "random", "test_fraction": 0.3}},
    "given": {"split": {"rule": "given"}},
    "rows": {"split": {"rule": "given"}, "interactions": {"timestamp": False}},
}


def rows(seed: int, num_rows: int = 900) -> pd.DataFrame:
    """Users and items that appear late, repeats, and ties in time."""
    rng = np.random.default_rng(seed)
    time = np.sort(rng.integers(300, size=num_rows))
    return pd.DataFrame(
        {
            "user_id": [f"u{n}" for n in rng.integers(5 + time // 10)],
            "item_id": [f"i{n}" for n in rng.integers(10 + time // 5)],
            "timestamp": time,
        }
    )


@pytest.fixture(scope="module", params=list(RULES))
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("statistics")
    config = {"history_length": 12, **RULES[request.param]}
    whole = rows(1)
    if config.get("split", {}).get("rule") == "given":
        config["split"] = config["split"] | {"test": str(folder / "test.csv"), "validation_fraction": 0.2}
        in_test = np.random.default_rng(2).random(len(whole)) < 0.2
        whole[in_test].to_csv(folder / "test.csv", index=False)
        whole = whole[~in_test]
    whole.to_csv(folder / "rows.csv", index=False)
    listed = pd.DataFrame({"item_id": ["i1", "never", "i3"], "title": ["x", "", "y"]})
    listed.to_csv(folder / "items.csv", index=False)
    title = {"name": "title", "type": "categorical"}
    config["items"] = {"source": str(folder / "items.csv"), "features": [title]}
    prepare(str(folder / "rows.csv"), DataConfig.model_validate(config), folder / "dataset")
    return open_dataset(folder / "dataset")


@pytest.fixture(scope="module")
def stored(dataset: Dataset) -> pd.DataFrame:
    loaded = load_interactions(dataset)
    columns = {"user": loaded.user_row, "item": loaded.item_row, "time": loaded.timestamp, "split": loaded.split}
    return pd.DataFrame(columns)


def test_counts_match_pandas(dataset: Dataset, stored: pd.DataFrame) -> None:
    found, timed = dataset.manifest.statistics, dataset.manifest.split_rule.order == "timestamp"
    train, test = stored[stored["split"] == 0], stored[stored["split"] == 2]
    items = stored["item"].nunique() + 1  # `never`
    expected = {
        "interactions": 900,
        "users": stored["user"].nunique(),
        "items": items,
        "first_timestamp": rows(1)["timestamp"].min() if timed else None,
        "last_timestamp": rows(1)["timestamp"].max() if timed else None,
        "test_users": test["user"].nunique(),
        "test_users_seen_in_train": len(set(test["user"]) & set(train["user"])),
        "items_without_train_interaction": items - train["item"].nunique(),
        "users_without_interactions": 0,
        "items_without_interactions": 1,
        "users_not_listed": 0,
        "items_not_listed": items - 3,
        "feature_coverage": {"user": {}, "item": {"title": 2 / items}},
    }
    assert {name: found[name] for name in expected} == expected


def test_the_leak_audit_matches_pandas(dataset: Dataset, stored: pd.DataFrame) -> None:
    train, validation, test = (stored[stored["split"] == part] for part in range(3))
    pairs = set(zip(train["user"], train["item"], strict=True))
    cold_users, cold_items = set(test["user"]) - set(train["user"]), set(test["item"]) - set(train["item"])
    splits_of_a_moment = stored.groupby(["user", "time"])["split"].nunique()
    expected = {
        "future_in_train": int((train["time"] >= test["time"].min()).sum()),
        "validation_pairs_in_train": sum(p in pairs for p in zip(validation["user"], validation["item"], strict=True)),
        "test_pairs_in_train": sum(p in pairs for p in zip(test["user"], test["item"], strict=True)),
        "users_with_ties_across_cuts": splits_of_a_moment[splits_of_a_moment > 1].reset_index()["user"].nunique(),
        "test_cold_users": len(cold_users),
        "test_interactions_of_cold_users": int(test["user"].isin(cold_users).sum()),
        "test_cold_items": len(cold_items),
        "test_interactions_of_cold_items": int(test["item"].isin(cold_items).sum()),
    }
    rule = dataset.manifest.split_rule
    if rule.order == "row":
        expected |= {"future_in_train": None, "users_with_ties_across_cuts": None}
    assert dataset.manifest.statistics["audit"] == expected
    if rule.rule == "temporal":
        assert expected["future_in_train"] == expected["users_with_ties_across_cuts"] == 0
    elif rule.order == "timestamp":
        assert expected["future_in_train"] > 0


def test_the_histogram_of_time_counts_every_row_once(dataset: Dataset, stored: pd.DataFrame) -> None:
    found = dataset.manifest.statistics["time_histogram"]
    if dataset.manifest.split_rule.order == "row":
        assert found is None
        return
    for number, split in enumerate(("train", "validation", "test")):
        expected = np.histogram(stored.loc[stored["split"] == number, "time"], bins=found["edges"])[0]
        assert found[split] == expected.tolist()
        assert sum(found[split]) == dataset.manifest.num_rows(split)


def test_lengths_of_histories_are_those_of_brute_force(dataset: Dataset, stored: pd.DataFrame) -> None:
    user, time, split = (stored[name].to_numpy() for name in ("user", "time", "split"))
    earlier = (split < split[:, None]) | ((split == split[:, None]) & (time < time[:, None]))
    lengths = np.minimum(12, (earlier & (user == user[:, None])).sum(axis=1))
    found = dataset.manifest.statistics["history_lengths"]
    assert found["length"] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    for number, name in enumerate(("train", "validation", "test")):
        assert found[name] == np.bincount(lengths[split == number], minlength=13).tolist()


def test_popularity_is_that_of_train(dataset: Dataset, stored: pd.DataFrame) -> None:
    counts = np.zeros(dataset.items.num_rows, int)
    np.add.at(counts, stored.loc[stored["split"] == 0, "item"], 1)
    counts = np.sort(counts)[::-1]
    found = dataset.manifest.statistics["popularity"]
    assert found["interactions"] == counts[np.array(found["rank"]) - 1].tolist()
    assert (found["rank"][0], found["rank"][-1]) == (1, len(counts))
    assert found["top_1_percent"] == pytest.approx(counts[:1].sum() / counts.sum())
    tenth = round(len(counts) / 10)
    assert found["top_10_percent"] == pytest.approx(counts[:tenth].sum() / counts.sum())


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 7), st.integers(0, 5), st.integers(0, 20), st.integers(0, 2)), min_size=1, max_size=60
    ),
    st.integers(0, 8),
    st.sampled_from([0, 3, 40]),
)
def test_profiles_of_two_halves_add_up_to_that_of_all(
    interactions: list[tuple[int, int, int, int]], first_user: int, length: int
) -> None:
    edges = time_edges(min(row[2] for row in interactions), max(row[2] for row in interactions))

    def profile(part: list[tuple[int, int, int, int]]) -> UserProfile:
        return profile_users(sequences(part, length), edges, length, test_start=11)

    whole = profile(interactions)
    left = profile([row for row in interactions if row[0] < first_user])
    right = profile([row for row in interactions if row[0] >= first_user])
    for name, value in vars(whole).items():
        np.testing.assert_array_equal(getattr(left + right, name), value)
    assert whole.rows.sum() == whole.time.sum() == whole.history_lengths.sum() == len(interactions)


def sequences(part: list[tuple[int, int, int, int]], length: int) -> Sequences:
    user, item, time, split = np.array(part, np.int64).reshape(-1, 4).T
    codes = (column.astype(np.int32) for column in (user, item))
    return build_sequences(*codes, time, split.astype(np.int8), None, None, length)


@pytest.mark.parametrize(("first", "last"), [(0, 0), (5, 7), (-100, 100), (0, 10**6), (-(2**61), 2**61)])
def test_edges_of_time_hold_every_moment(first: int, last: int) -> None:
    edges = time_edges(first, last)
    assert (edges[0], edges[-1]) == (first, last + 1)
    assert (np.diff(edges) > 0).all()
    assert len(edges) == min(60, last - first + 1) + 1


@pytest.mark.parametrize("longest", [0, 1, 10, 11, 50, 1000])
def test_bins_of_lengths_begin_at_none_and_end_at_the_longest(longest: int) -> None:
    bins = length_bins(longest)
    assert (bins[0], bins[-1]) == (0, longest)
    assert (np.diff(bins) > 0).all()
    assert len(bins) <= 31


def test_popularity_worked_out_by_hand() -> None:
    found = popularity(np.array([50, 30] + [1] * 20))
    assert found["interactions"][:4] == [50, 30, 1, 1]
    assert (found["top_1_percent"], found["top_10_percent"]) == (0.5, 0.8)
