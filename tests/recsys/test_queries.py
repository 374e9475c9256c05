"""Queries of both protocols against a search through all interactions."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from recsys.dataset import Dataset
from recsys.interactions import Interactions, load_interactions
from recsys.queries import Protocol, Queries, make_queries, make_train_queries

NUM_USERS, NUM_ITEMS = 9, 40
SPLITS = ("train", "validation", "test")
CUTS = (60, 80)

# user, time, item, split; sorted by user, split, time and item.
Row = tuple[int, int, int, int]


def random_rows(by_chance: bool = False) -> list[Row]:
    """Repeated items, also within a moment, and ties in time; user 0 is new in test, user 8 never comes.

    The rows are split in time, or else by chance, where ties straddle the splits.
    """
    rng = np.random.default_rng(2)
    rows: list[Row] = []
    for user, time, item in rng.integers([8, 100, NUM_ITEMS], size=(300, 3)).tolist():
        time = max(time, CUTS[1] + 1) if user == 0 else time
        rows.append((user, time // 3 * 3, item, sum(time // 3 * 3 >= cut for cut in CUTS)))
    rows += [(3, 90, 5, 2), (3, 90, 5, 2), (4, 90, 24, 2), (4, 93, 24, 2)]
    if by_chance:
        rows = [(u, t, i, 2 if u == 0 else int(rng.choice(3, p=[0.6, 0.2, 0.2]))) for u, t, i, _ in rows]
    return sorted(rows, key=lambda row: (row[0], row[3], row[1], row[2]))


def interactions(rows: list[Row]) -> Interactions:
    user, time, item, split = np.array(rows).T
    return Interactions(
        user_row=user.astype(np.int32),
        item_row=item.astype(np.int32),
        timestamp=time,
        split=split.astype(np.int8),
        user_start=np.array([sum(u < user for u, *_ in rows) for user in range(NUM_USERS + 1)]),
        num_items=NUM_ITEMS,
    )


def expected_queries(rows: list[Row], split: str, protocol: Protocol) -> list[tuple[int, list[int], list[int]]]:
    """User, seen items oldest first, relevant items, of every query."""
    held_out = [
        row
        for n, row in enumerate(rows)
        if row[3] == SPLITS.index(split) and all((u, i) != (row[0], row[2]) for u, _, i, _ in rows[:n])
    ]
    if protocol == "event":
        return [
            (user, [i for u, t, i, s in rows if u == user and (s < part or (s == part and t < time))], [item])
            for user, time, item, part in held_out
        ]
    found = []
    for user in sorted({row[0] for row in held_out}):
        seen = [i for u, _, i, s in rows if u == user and s < SPLITS.index(split)]
        found.append((user, seen, [i for u, _, i, _ in held_out if u == user]))
    return found


def as_list(queries: Queries) -> list[tuple[int, list[int], list[int]]]:
    return [
        (
            int(queries.user_row[n]),
            queries.items[queries.seen_start[n] : queries.seen_end[n]].tolist(),
            queries.relevant_item[queries.relevant_query == n].tolist(),
        )
        for n in range(len(queries))
    ]


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("protocol", ["event", "user"])
@pytest.mark.parametrize("by_chance", [False, True])
def test_queries_match_brute_force(split: str, protocol: Protocol, by_chance: bool) -> None:
    rows = random_rows(by_chance)
    queries = make_queries(interactions(rows), split, protocol)
    expected = expected_queries(rows, split, protocol)
    assert as_list(queries) == expected
    assert queries.num_relevant.tolist() == [len(relevant) for _, _, relevant in expected]
    held_out = sum(row[3] == SPLITS.index(split) for row in rows)
    assert queries.num_repeats == held_out - sum(len(relevant) for _, _, relevant in expected) > 0


def test_a_small_case_by_hand() -> None:
    rows = [(0, 1, 7, 0), (0, 65, 8, 1), (0, 81, 7, 2), (0, 82, 3, 2), (0, 82, 4, 2), (0, 83, 3, 2), (1, 85, 7, 2)]
    made = interactions(rows)
    assert as_list(make_queries(made, "test", "event")) == [(0, [7, 8, 7], [3]), (0, [7, 8, 7], [4]), (1, [], [7])]
    assert as_list(make_queries(made, "test", "user")) == [(0, [7, 8], [3, 4]), (1, [], [7])]


@pytest.mark.parametrize("protocol", ["event", "user"])
def test_history_and_seen_pairs_cover_a_range_of_queries(protocol: Protocol) -> None:
    rows = random_rows()
    queries = make_queries(interactions(rows), "test", protocol)
    expected = expected_queries(rows, "test", protocol)[2:7]
    padded = [seen[-4:] + [-1] * (4 - len(seen[-4:])) for _, seen, _ in expected]
    assert queries.history(2, 7, 4).tolist() == padded
    pairs = [[n, item] for n, (_, seen, _) in enumerate(expected) for item in seen]
    assert queries.seen_pairs(2, 7).tolist() == pairs


def test_users_without_a_past_have_an_empty_history() -> None:
    queries = make_queries(interactions(random_rows()), "test", "user")
    assert queries.user_row[0] == 0
    assert queries.history(0, 1, 3).tolist() == [[-1, -1, -1]]
    assert queries.seen_pairs(0, 1).shape == (0, 2)


def test_a_subset_keeps_the_chosen_queries_whole() -> None:
    queries = make_queries(interactions(random_rows()), "test", "user")
    chosen = np.arange(len(queries)) % 3 == 1
    assert as_list(queries.subset(chosen)) == [
        query for query, kept in zip(as_list(queries), chosen, strict=True) if kept
    ]


def test_a_sample_is_drawn_without_replacement_by_its_seed() -> None:
    queries = make_queries(interactions(random_rows()), "test", "event")

    def positions(seed: int) -> list[int]:
        numbered = as_list(queries)
        return [numbered.index(query) for query in as_list(queries.sample(12, seed))]

    assert len(positions(1)) == 12
    assert positions(1) == sorted(set(positions(1))) == positions(1)
    assert positions(1) != positions(2)
    assert as_list(queries.sample(len(queries), 1)) == as_list(queries)


def test_loaded_interactions_are_the_sources_rows(tiny_dataset: Dataset, tiny_rows: pd.DataFrame) -> None:
    loaded = load_interactions(tiny_dataset)
    names = pd.DataFrame(
        {
            "user_id": tiny_dataset.users["user"].to_numpy()[loaded.user_row],
            "item_id": tiny_dataset.items["item"].to_numpy()[loaded.item_row],
            "timestamp": loaded.timestamp,
        }
    )
    order = ["user_id", "item_id", "timestamp"]
    pd.testing.assert_frame_equal(
        names.sort_values(order, ignore_index=True), tiny_rows[order].sort_values(order, ignore_index=True)
    )
    keys: list[npt.NDArray[np.int64]] = [loaded.user_row, loaded.split, loaded.timestamp, loaded.item_row]
    rows = list(zip(*keys, strict=True))
    assert rows == sorted(rows)
    assert (np.diff(loaded.user_start) == np.bincount(loaded.user_row, minlength=tiny_dataset.users.num_rows)).all()
    moments = [next(m for m in range(n + 1) if rows[m][:3] == rows[n][:3]) for n in range(0, len(rows), 97)]
    assert loaded.moment_start[::97].tolist() == moments


@pytest.mark.parametrize("by_chance", [False, True])
def test_every_user_with_train_items_asks_after_the_last_of_them(by_chance: bool) -> None:
    rows = random_rows(by_chance)
    queries = make_train_queries(interactions(rows))
    taken = [(user, [item for u, _, item, split in rows if (u, split) == (user, 0)]) for user in range(NUM_USERS)]
    found = [queries.items[start:end].tolist() for start, end in zip(queries.seen_start, queries.seen_end, strict=True)]
    assert list(zip(queries.user_row.tolist(), found, strict=True)) == [(user, items) for user, items in taken if items]
    assert len(queries.relevant_item) == len(queries.relevant_query) == 0
    assert len(queries) == 7


def test_the_latest_queries_of_users_are_one_each_and_know_something() -> None:
    rows = random_rows()
    for split in ("validation", "test"):
        expected = {}
        for user, seen, relevant in expected_queries(rows, split, "event"):
            expected[user] = (seen, relevant)
        found = make_queries(interactions(rows), split, "event").latest_of_users()
        known = {user: query for user, query in expected.items() if query[0]}
        assert found.user_row.tolist() == sorted(known)
        for number, user in enumerate(found.user_row.tolist()):
            seen, relevant = known[user]
            start, end = found.seen_start[number], found.seen_end[number]
            assert found.items[start:end].tolist() == seen
            assert found.relevant_item[found.relevant_query == number].tolist() == relevant


def test_a_user_whose_first_moment_is_held_out_asks_nothing_yet() -> None:
    rows = [(0, 10, 1, 0), (0, 90, 2, 2), (1, 90, 3, 2), (1, 90, 4, 2)]
    assert make_queries(interactions(rows), "test", "event").latest_of_users().user_row.tolist() == [0]
