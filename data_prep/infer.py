"""Drafts a `data.toml` from a table's column names and first rows, for a person to read and correct.

Every guess says in a comment what it rests on, and every column is either used or named as left out: a draft may be
wrong, but never silently.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import tomli_w
from pydantic import ValidationError

from data_prep.column_kinds import Kind, as_number, classify, moments, numbers, text
from data_prep.config import DataConfig, EntityConfig, FeatureConfig
from data_prep.sources import head, open_source
from recsys.errors import ConfigError

# The names by which each role is known, most telling first, as `_plain` spells them.
_USERS = (
    "user_id", "userid", "user", "uid", "customer_id", "customer", "reviewer_id", "visitor_id", "visitorid",
    "member_id", "account_id", "client_id", "client", "profile_id", "session_id", "session", "device_id",
)  # fmt: skip
_ITEMS = (
    "item_id", "itemid", "item", "iid", "product_id", "product", "movie_id", "parent_asin", "asin", "sku", "article_id",
    "book_id", "isbn", "track_id", "song_id", "artist_id", "video_id", "game_id", "app_id", "anime_id", "recipe_id",
    "business_id", "poi_id", "venue_id", "location_id", "listing_id", "hotel_id", "news_id", "content_id", "offer_id",
    "post_id", "course_id", "job_id", "gmap_id",
)  # fmt: skip
_TIMES = (
    "timestamp", "unix_timestamp", "unix_review_time", "unix_time", "event_time", "event_timestamp", "ts", "datetime",
    "time", "date", "created_at", "review_time", "event_date", "review_date", "purchase_date", "order_date", "t_dat",
    "check_in_time", "time_stamp",
)  # fmt: skip
_LABELS = (
    "rating", "user_rating", "movie_rating", "review_rating", "ratings", "stars", "star_rating", "score",
    "review_score", "overall", "label",
)  # fmt: skip
_WEIGHTS = (
    "weight", "sample_weight", "play_count", "playcount", "plays", "listen_count", "listens", "quantity", "qty",
    "count", "frequency", "clicks",
)  # fmt: skip
_USER_HINTS = ("age", "gender", "sex", "occupation", "zip", "zip_code", "user_", "customer_", "reviewer_", "member_")
_TITLES = ("title", "name", "headline")
# The share of what an id's rows say about it that may differ before it is no property of the id.
_TOLERANCE = 0.02


@dataclass(frozen=True)
class _Guess:
    """A column that was given a role, and why."""

    column: str
    reason: str


@dataclass(frozen=True)
class _Feature:
    """A drafted feature.

    Attributes:
      column: where its values are.
      entity: whose property it is.
      keys: of its table in the file; none where it is only shown.
      reason: what the guess rests on.
      is_title: whether a person should see it beside an answer.
    """

    column: str
    entity: Literal["items", "users"]
    keys: dict[str, Any]
    reason: str
    is_title: bool


def infer_data_toml(spec: str, tfds_manual_dir: Path | None = None) -> str:
    """Drafts a `data.toml` for a source from its first rows.

    Raises:
      SourceError: the source cannot be read.
      ConfigError: as `draft`.
    """
    source = open_source(spec, tfds_manual_dir)
    return draft(source.columns, head(source, source.columns))


def draft(columns: Sequence[str], head: pa.Table, history_length: int | None = None) -> str:
    """Drafts a `data.toml` that `DataConfig` accepts.

    Args:
      columns: the columns of the interactions, in their order.
      head: the first rows, with these columns; of text formats all are strings.
      history_length: written when given.

    Raises:
      ConfigError: no column looks like a user or an item id, or column names repeat.
    """
    values = {column: head.column(column) for column in _distinct(columns)}
    user, item = _ids(columns)
    rest = {column: values[column] for column in columns if column not in (user.column, item.column)}
    time, refused = _time(rest)
    rest = _without(rest, time)
    label = _number(rest, _LABELS)
    rest = _without(rest, label)
    weight = _number(rest, _WEIGHTS)
    rest = _without(rest, weight)
    ids = {"users": text(values[user.column]), "items": text(values[item.column])}
    features, left_out = _features(rest, ids, refused)
    lines = [
        f"# A first draft, from the column names and the first {head.num_rows} rows. Each guess says what it rests on:",
        "# read every line, correct what is wrong, and delete this comment.",
        *([] if history_length is None else [_line("history_length", history_length)]),
        "",
        "[interactions]",
        _line("user_id", user.column, user.reason),
        _line("item_id", item.column, item.reason),
        *_time_lines(time, values),
        *([_line("label", label.column, label.reason)] if label else []),
        *([_line("weight", weight.column, f"how much a row counts, {weight.reason}")] if weight else []),
        *_entity_lines("items", features),
        *_entity_lines("users", features),
        *_split_lines(time is not None, time is not None and _starts_over(values[time.column], ids["users"])),
        *_left_out_lines(left_out),
    ]
    return "\n".join(lines) + "\n"


def _without(values: dict[str, pa.ChunkedArray], guess: _Guess | None) -> dict[str, pa.ChunkedArray]:
    return {column: of for column, of in values.items() if guess is None or column != guess.column}


def _distinct(columns: Sequence[str]) -> Sequence[str]:
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if repeated:
        raise ConfigError(
            f"columns must differ in name to be told apart, received more than once: {_listed(repeated)}; rename them"
        )
    return columns


def _ids(columns: Sequence[str]) -> tuple[_Guess, _Guess]:
    found = {"user": _named(columns, _USERS), "item": _named(columns, _ITEMS)}
    absent = [role for role, candidates in found.items() if not candidates]
    if absent:
        examples = {"user": "user_id or customer", "item": "item_id or product"}
        raise ConfigError(
            f"no column looks like the id of {' or of '.join(f'the {role}' for role in absent)}: expected a name such "
            f"as {' and '.join(examples[role] for role in absent)}, received {_listed(columns)}; write data.toml by "
            "hand, with user_id and item_id under [interactions], or check that the file has a header"
        )

    def guess(candidates: list[str]) -> _Guess:
        others = f"; could also be {_listed(candidates[1:])}" if candidates[1:] else ""
        return _Guess(candidates[0], f"by its name{others}")

    return guess(found["user"]), guess(found["item"])


def _named(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """The columns that bear one of the names, the most telling first."""
    by_rank = {column: names.index(_plain(column)) for column in columns if _plain(column) in names}
    return sorted(by_rank, key=lambda column: by_rank[column])


def _plain(name: str) -> str:
    """Spells a name in lower case with underscores: `reviewerID` and `Reviewer Id` are both `reviewer_id`."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", apart.lower()).strip("_")


def _time(values: dict[str, pa.ChunkedArray]) -> tuple[_Guess | None, dict[str, str]]:
    """The time column, and those that are called like one but cannot be it, with the reason."""
    named = _named(list(values), _TIMES)
    typed = [c for c in values if pa.types.is_timestamp(values[c].type) and c not in named]
    readable = [column for column in named if moments(values[column])]
    unreadable = "called like a time, but neither numbers nor ISO 8601 dates"
    refused = {column: unreadable for column in named if column not in readable}
    # A typed column of any name is a time, but rather that of the interaction when it is the only one.
    candidates = readable or (typed if len(typed) == 1 else [])
    refused |= {column: "another time" for column in [*readable, *typed] if column not in candidates[:1]}
    if not candidates:
        return None, refused
    by = "by its name" if readable else "the only column of times"
    return _Guess(candidates[0], by), refused


def _time_lines(time: _Guess | None, values: dict[str, pa.ChunkedArray]) -> list[str]:
    if time is None:
        return [_line("timestamp", False, "no column can be read as times: rows are taken to stand in order of time")]
    kind = moments(values[time.column])
    if kind == "typed":
        return [_line("timestamp", time.column, f"{time.reason}; the column is of type {values[time.column].type}")]
    return [
        _line("timestamp", time.column, time.reason),
        _line("timestamp_format", kind, _scale(values[time.column]) if kind == "number" else "dates and times as text"),
    ]


def _scale(column: pa.ChunkedArray) -> str:
    smallest, largest = min(numbers(column)), max(numbers(column))
    units = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6}
    for unit, scale in units.items():
        if 10**8 * scale <= smallest and largest < 4 * 10**9 * scale:
            return f"looks like {unit} since 1970"
    return f"numbers from {smallest:.15g} to {largest:.15g}: must grow with time"


def _number(values: dict[str, pa.ChunkedArray], names: Sequence[str]) -> _Guess | None:
    """The column with one of the names that holds numbers only."""
    for column in _named(list(values), names):
        if found := numbers(values[column]):
            return _Guess(column, f"by its name; numbers from {min(found):g} to {max(found):g}")
    return None


def _features(
    rest: dict[str, pa.ChunkedArray], ids: dict[str, list[str | None]], refused: dict[str, str]
) -> tuple[list[_Feature], dict[str, str]]:
    """Drafts a feature of every column that is a property of an item or user; says why of every other."""
    features: list[_Feature] = []
    left_out: dict[str, str] = {}
    for column, values in rest.items():
        if column in refused:
            left_out[column] = refused[column]
            continue
        entity, why = _owner(column, text(values), ids)
        if entity is None:
            left_out[column] = why
            continue
        kind = classify(_plain(column), _one_each(values, ids[entity]))
        is_title = entity == "items" and _is_title(column, kind)
        if kind.type is None and not is_title:
            left_out[column] = kind.reason
            continue
        keys = _keys(column, kind, {feature.keys["name"] for feature in features if feature.keys})
        features.append(_Feature(column, entity, keys, f"{kind.reason}; {why}", is_title))
    return features, left_out


def _is_title(column: str, kind: Kind) -> bool:
    named = _plain(column) in _TITLES or _plain(column).endswith(tuple(f"_{title}" for title in _TITLES))
    return named and kind.is_readable


def _owner(
    column: str, values: list[str | None], ids: dict[str, list[str | None]]
) -> tuple[Literal["items", "users"] | None, str]:
    """Whose property a column is: that id's, whose rows all agree on it."""
    rates = {entity: _disagreement(values, of) for entity, of in ids.items()}
    plain = _plain(column)
    hinted = any(plain == hint or (hint.endswith("_") and plain.startswith(hint)) for hint in _USER_HINTS)
    first: Literal["items", "users"] = "users" if hinted else "items"
    second: Literal["items", "users"] = "items" if hinted else "users"
    for entity in (first, second):
        rate = rates[entity]
        if rate is not None and rate <= _TOLERANCE:
            return entity, f"the same in all rows of one {entity[:-1]}"
    if rates[first] is None:
        return first, f"taken for a property of {first}: no {first[:-1]} is in these rows twice to tell"
    return None, "differs between rows of one item and of one user: no property of either"


def _disagreement(values: list[str | None], ids: list[str | None]) -> float | None:
    """Of the rows that repeat an id, the share whose value is not the id's first one; None when none repeats."""
    first: dict[str | None, str | None] = {}
    repeated = differing = 0
    for identity, value in zip(ids, values, strict=True):
        if identity is None:
            continue
        if identity in first:
            repeated += 1
            differing += value != first[identity]
        else:
            first[identity] = value
    return differing / repeated if repeated else None


def _one_each(values: pa.ChunkedArray, ids: list[str | None]) -> pa.ChunkedArray:
    """One value of each id, so that a popular item does not make its title look frequent."""
    return values.take(list({identity: row for row, identity in reversed(list(enumerate(ids)))}.values()))


def _keys(column: str, kind: Kind, used: set[str]) -> dict[str, Any]:
    if kind.type is None:
        return {}
    name = next(name for name in _possible_names(column) if name not in used and _is_free(name))
    keys: dict[str, Any] = {"name": name}
    if name != column:
        keys["column"] = column
    keys["type"] = kind.type
    if kind.separator is not None:
        keys["separator"] = kind.separator
    return keys


def _possible_names(column: str) -> Iterator[str]:
    plain = re.sub(r"^[^a-z]+", "", _plain(column)) or "feature"
    yield plain
    yield f"feature_{plain}"
    for number in itertools.count(2):
        yield f"feature_{number}_{plain}"


def _is_free(name: str) -> bool:
    """Asks the configuration itself, which keeps some names for the dataset's own columns."""
    try:
        DataConfig(items=EntityConfig(features=(FeatureConfig(name=name, type="numeric"),)))
    except ValidationError:
        return False
    return True


def _entity_lines(entity: str, features: list[_Feature]) -> list[str]:
    own = [feature for feature in features if feature.entity == entity]
    lines = []
    if shown := [feature.column for feature in own if feature.is_title]:
        listed = ", ".join(_quoted(column) for column in shown)
        lines += ["", f"[{entity}]", f"show = [{listed}]  # what a person sees beside an answer, by its name"]
    for feature in own:
        if feature.keys:
            lines += ["", f"[[{entity}.features]]  # {feature.reason}"]
            lines += [_line(key, value) for key, value in feature.keys.items()]
    return lines


def _starts_over(times: pa.ChunkedArray, users: list[str | None]) -> bool:
    """Whether times are positions in each user's own history, which cannot be compared between users."""
    if moments(times) != "number":
        return False
    earliest: dict[str | None, float] = {}
    for user, time in zip(users, map(as_number, text(times)), strict=True):
        if time is not None:
            earliest[user] = min(time, earliest.get(user, time))
    return len(earliest) > 1 and set(earliest.values()) in ({0.0}, {1.0})


def _split_lines(has_time: bool, starts_over: bool) -> list[str]:
    if not has_time:
        rule = _line("rule", "random", "a temporal split needs a timestamp")
    elif starts_over:
        rule = _line("rule", "leave_one_out", "the times start over with every user: no cut fits all of them")
    else:
        rule = _line("rule", "temporal", "the newest tenth tests, the tenth before it validates")
    return ["", "[split]", rule]


def _left_out_lines(left_out: dict[str, str]) -> list[str]:
    if not left_out:
        return []
    return ["", "# Columns that are left out:", *(f"#   {_quoted(column)}: {why}" for column, why in left_out.items())]


def _line(key: str, value: Any, comment: str = "") -> str:
    return tomli_w.dumps({key: value}).rstrip("\n") + (f"  # {comment}" if comment else "")


def _quoted(name: str) -> str:
    """A name on one line, whatever is in it: TOML's own escapes keep a comment a comment."""
    return tomli_w.dumps({"name": name}).removeprefix("name = ").rstrip("\n")


def _listed(names: Sequence[str]) -> str:
    plain = (name if name.isprintable() and name.strip() == name != "" else _quoted(name) for name in names)
    return ", ".join(plain)
