"""Drafts of `data.toml`, against files written out by hand: what is guessed, what is left out, what is refused."""

import tomllib
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.config import DataConfig
from data_prep.infer import draft
from recsys.errors import ConfigError


def drafted(head: pa.Table, **options: Any) -> dict[str, Any]:
    """The draft as a dictionary, once the configuration has accepted it."""
    values = tomllib.loads(draft(head.column_names, head, **options))
    DataConfig.model_validate(values)
    return values


def with_ids(**columns: Any) -> pa.Table:
    """Columns of four rows beside ids, of which item a and user 1 come twice: in rows 0 and 2, and 0 and 1."""
    return pa.table({"user_id": ["1", "1", "2", "3"], "item_id": ["a", "b", "a", "c"], **columns})


def feature(head: pa.Table, entity: str = "items") -> Any:
    (only,) = drafted(head)[entity]["features"]
    return only


def test_movielens_with_its_movies_joined() -> None:
    head = pa.table(
        {
            "userId": ["1", "1", "2", "3"],
            "movieId": ["9", "8", "9", "7"],
            "rating": ["4.0", "3.5", "5", "1"],
            "timestamp": ["964982703", "964981247", "964982224", "964983815"],
            "title": ["Toy Story (1995)", "Heat (1995)", "Toy Story (1995)", "Sabrina (1995)"],
            "genres": ["Adventure|Comedy", "Action", "Adventure|Comedy", "Comedy|Romance"],
            "year": ["1995", "1996", "1995", "1997"],
        }
    )
    assert drafted(head, history_length=20) == {
        "history_length": 20,
        "interactions": {
            "user_id": "userId",
            "item_id": "movieId",
            "timestamp": "timestamp",
            "timestamp_format": "number",
            "label": "rating",
        },
        "items": {
            "show": ["title"],
            "features": [
                {"name": "title", "type": "text"},
                {"name": "genres", "type": "multi_categorical", "separator": "|"},
                {"name": "year", "type": "numeric"},
            ],
        },
        "split": {"rule": "temporal"},
    }


def test_amazon_reviews_with_two_times_of_which_one_cannot_be_read() -> None:
    head = pa.table(
        {
            "reviewerID": ["A1", "A1", "A2"],
            "asin": ["B1", "B2", "B1"],
            "overall": [5.0, 4.0, 1.0],
            "reviewText": ["good stuff", "so so", "never again"],
            "unixReviewTime": [1_390_000_000, 1_391_000_000, 1_392_000_000],
            "reviewTime": ["01 17, 2014", "01 29, 2014", "02 10, 2014"],
        }
    )
    text = draft(head.column_names, head)
    assert tomllib.loads(text) == {
        "interactions": {
            "user_id": "reviewerID",
            "item_id": "asin",
            "timestamp": "unixReviewTime",
            "timestamp_format": "number",
            "label": "overall",
        },
        "split": {"rule": "temporal"},
    }
    assert "looks like seconds since 1970" in text
    assert '#   "reviewText": differs between rows of one item and of one user: no property of either\n' in text
    assert '#   "reviewTime": called like a time, but neither numbers nor ISO 8601 dates\n' in text


def test_without_a_time_the_split_is_random() -> None:
    values = drafted(with_ids())
    assert values["interactions"]["timestamp"] is False
    assert values["split"] == {"rule": "random"}


def test_positions_in_each_users_history_are_no_common_time() -> None:
    """As in the Amazon Beauty files: users 1, 2 and 3 all begin at 0."""
    assert drafted(with_ids(timestamp=["0", "1", "0", "0"]))["split"] == {"rule": "leave_one_out"}
    assert drafted(with_ids(timestamp=["0", "1", "2", "3"]))["split"] == {"rule": "temporal"}


@pytest.mark.parametrize(
    ("times", "written"),
    [
        (["2020-01-05", "2020-01-06T10:00:00", "2020-01-07 10:11:12+02:00", "2020-01-08"], "iso8601"),
        (["1577836800000"] * 4, "number"),
        (pa.array([1, 2, 3, 4], pa.timestamp("ms")), None),
        (pa.array([1, 2, 3, 4], pa.date32()), None),
    ],
)
def test_times_are_known_by_name_and_values(times: Any, written: str | None) -> None:
    interactions = drafted(with_ids(created_at=times))["interactions"]
    assert interactions["timestamp"] == "created_at"
    assert interactions.get("timestamp_format") == written


def test_a_typed_time_needs_no_telling_name_unless_there_are_two() -> None:
    times = pa.array([1, 2, 3, 4], pa.timestamp("us"))
    assert drafted(with_ids(when_seen=times))["interactions"]["timestamp"] == "when_seen"
    two = with_ids(when_seen=times, when_paid=times)
    assert drafted(two)["interactions"]["timestamp"] is False
    assert '"when_paid": another time' in draft(two.column_names, two)


def test_milliseconds_are_called_so() -> None:
    head = with_ids(ts=["1577836800000", "1577836800001", "1577836800002", "1577836800003"])
    assert "# looks like milliseconds since 1970\n" in draft(head.column_names, head)


def test_a_label_and_a_weight_must_be_numbers() -> None:
    interactions = drafted(with_ids(score=["7", "8", "x", "y"], stars=[1, 2, 3, 4], plays=[9, 9, 9, 9]))["interactions"]
    assert interactions["label"] == "stars"
    assert interactions["weight"] == "plays"


def test_the_most_telling_name_wins_and_the_others_are_named() -> None:
    head = pa.table({"session_id": ["s"], "user_id": ["u"], "product_id": ["p"]})
    assert 'user_id = "user_id"  # by its name; could also be session_id\n' in draft(head.column_names, head)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["red", "blue", "red", "green"], {"type": "categorical"}),
        (["12", "7.5", "12", "-1e3"], {"type": "numeric"}),
        ([3, 4, 3, 5], {"type": "numeric"}),
        ([True, False, True, True], {"type": "categorical"}),
        (["007", "010", "007", "011"], {"type": "categorical"}),
        ([["x"], ["y", "z"], ["x"], None], {"type": "multi_categorical"}),
        ([[1], [2, 3], [1], []], {"type": "multi_categorical"}),
        (["x|y", "z", "x|y", "w"], {"type": "multi_categorical", "separator": "|"}),
        (["x;y", "x", "x;y", "y"], {"type": "multi_categorical", "separator": ";"}),
        (["x, y", "x", "x, y", "y"], {"type": "multi_categorical", "separator": ", "}),
        (["x,y", "x", "x,y", "y"], {"type": "multi_categorical", "separator": ","}),
        (["Heat, a long film", "Alien and more", "Heat, a long film", "Up in the air"], {"type": "text"}),
    ],
)
def test_item_columns_become_features_by_their_values(values: list[Any], expected: dict[str, str]) -> None:
    assert feature(with_ids(what=values)) == {"name": "what", **expected}


def test_a_number_that_is_called_a_code_is_categorical() -> None:
    assert feature(with_ids(department_code=[3, 4, 3, 5]))["type"] == "categorical"


def test_popular_items_do_not_make_a_title_a_category() -> None:
    """One item in 60 of 80 rows: of 21 items, each has a text of its own."""
    items = ["hit"] * 60 + [f"i{n}" for n in range(20)]
    head = pa.table(
        {
            "user_id": [f"u{n}" for n in range(80)],
            "item_id": items,
            "about": [f"all about {item}" for item in items],
            "code_name": [f"n-{item}" for item in items],
        }
    )
    values = drafted(head)["items"]
    assert values == {"show": ["code_name"], "features": [{"name": "about", "type": "text"}]}


def test_what_is_constant_for_a_user_and_not_for_an_item_is_the_users() -> None:
    assert feature(with_ids(city=["x", "x", "y", "x"]), "users") == {"name": "city", "type": "categorical"}


def test_what_rows_cannot_tell_is_told_by_the_name() -> None:
    head = pa.table({"user_id": ["1", "2"], "item_id": ["a", "b"], "gender": ["f", "m"], "brand": ["x", "y"]})
    values = drafted(head)
    assert [f["name"] for f in values["users"]["features"]] == ["gender"]
    assert [f["name"] for f in values["items"]["features"]] == ["brand"]
    assert "no item is in these rows twice to tell" in draft(head.column_names, head)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (["", "", "", ""], "empty in these rows"),
        ([None] * 4, "empty in these rows"),
        (["x"] * 4, "the same in all these rows"),
        (["['a']", "['b']", "['a']", "[]"], "lists or records written as text, which no feature type reads"),
        (["http://x/a", "http://x/b", "http://x/a", "http://x/c"], "addresses on the web"),
        ([[0.1], [0.2], [0.1], [0.3]], "of type list<item: double>, which no feature type reads"),
        (["p", "q", "r", "s"], "differs between rows of one item and of one user: no property of either"),
    ],
)
def test_what_cannot_be_classified_is_left_out_with_a_reason(values: list[Any], reason: str) -> None:
    head = with_ids(what=values)
    text = draft(head.column_names, head)
    assert f'# Columns that are left out:\n#   "what": {reason}\n' in text
    assert "features" not in tomllib.loads(text).get("items", {})


def test_names_that_the_dataset_keeps_for_itself_and_names_alike_are_changed() -> None:
    values = {
        "history": ["1", "2", "1", "3"],
        "show_x": ["2", "3", "2", "4"],
        "Größe": ["4", "5", "4", "6"],
        "gr e": ["7", "8", "7", "9"],
        "gr-e": ["8", "9", "8", "0"],
    }
    assert drafted(with_ids(**values))["items"]["features"] == [
        {"name": "feature_history", "column": "history", "type": "numeric"},
        {"name": "feature_show_x", "column": "show_x", "type": "numeric"},
        {"name": "gr_e", "column": "Größe", "type": "numeric"},
        {"name": "feature_gr_e", "column": "gr e", "type": "numeric"},
        {"name": "feature_2_gr_e", "column": "gr-e", "type": "numeric"},
    ]


def test_without_ids_there_is_no_draft() -> None:
    head = pa.table({"a": ["1"], "b\n": ["2"]})
    with pytest.raises(ConfigError) as error:
        draft(head.column_names, head)
    assert str(error.value) == (
        "no column looks like the id of the user or of the item: expected a name such as user_id or customer and "
        'item_id or product, received a, "b\\n"; write data.toml by hand, with user_id and item_id under '
        "[interactions], or check that the file has a header"
    )


def test_columns_of_one_name_are_refused() -> None:
    head = pa.table([pa.array(["1"])] * 3, names=["user_id", "x", "x"])
    with pytest.raises(ConfigError) as error:
        draft(head.column_names, head)
    assert str(error.value) == ("columns must differ in name to be told apart, received more than once: x; rename them")


_NAMES = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.sampled_from(
        ["timestamp", "ts", "rating", "plays", "title", "history", "show_x", 'a"b\\', "user", "age", "\x7f#"]
    ),
)
_VALUES = st.one_of(
    st.none(), st.text(st.characters(codec="utf-8"), max_size=6), st.sampled_from(["1", "2.5", "a|b", "[", "http://x"])
)


@settings(max_examples=60, deadline=None)
@given(columns=st.dictionaries(_NAMES, st.lists(_VALUES, min_size=4, max_size=4), max_size=5))
def test_whatever_the_columns_the_draft_is_valid_and_names_each(columns: dict[str, list[str | None]]) -> None:
    typed = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    head = with_ids(**{name: values for name, values in typed.items() if name not in ("user_id", "item_id")})
    text = draft(head.column_names, head)
    values = tomllib.loads(text)
    config = DataConfig.model_validate(values)
    used = config.interactions.columns | config.items.columns | config.users.columns
    # A comment quotes names as TOML does, so TOML reads them back.
    left_out = [line for line in text.split("\n") if line.startswith("#   ")]
    named = {tomllib.loads("name = " + line[4 : line.rindex('": ') + 1])["name"] for line in left_out}
    assert used | named == set(head.column_names)
    assert not used & named
