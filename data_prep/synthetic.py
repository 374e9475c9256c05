"""A synthetic data set whose structure is known: factors, popularity skew, categories, time, genres and titles.

Rows come in chunks. Each has random streams of its own, so that any chunk can be drawn anywhere, in any order; what
is drawn does not depend on which columns are asked for.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from recsys.schema import Frozen
from recsys.toml_config import parse

CHUNK_ROWS = 1 << 17
COLUMNS = ("user_id", "item_id", "timestamp", "rating", "category", "genres", "title")

_FIRST_SECOND = 1_700_000_000
_SPAN_SECONDS = 180 * 86_400
# How much an item's fit to the user weighs against its popularity.
_AFFINITY = 3.0
# Rows whose shortlists are in memory together.
_DRAWN_AT_ONCE = 5_000
_CATEGORIES = ("film", "series", "short")
_ADJECTIVES = ("Silent", "Golden", "Broken", "Distant", "Electric", "Hidden", "Crimson", "Lonely", "Endless", "Frozen")
_GENRES = {
    "Adventure": ("Island", "Voyage", "Summit", "Jungle"),
    "Comedy": ("Wedding", "Roommate", "Holiday", "Waiter"),
    "Crime": ("Heist", "Witness", "Alibi", "Detective"),
    "Documentary": ("Glacier", "Orchestra", "Harvest", "Archive"),
    "Drama": ("Letter", "Daughter", "Winter", "Promise"),
    "Fantasy": ("Dragon", "Oracle", "Kingdom", "Spell"),
    "Horror": ("Cellar", "Scream", "Shadow", "Crypt"),
    "Musical": ("Chorus", "Encore", "Ballad", "Tango"),
    "Romance": ("Kiss", "Garden", "Serenade", "Stranger"),
    "Science": ("Comet", "Android", "Orbit", "Signal"),
}
_NUM_NOUNS = 4  # per genre

# Streams of random numbers; a chunk's own are numbered from 0 up.
_ITEM_GENRES, _FACTORS, _POPULARITY, _ACTIVITY, _CONTENT, _DRAWS, _RATINGS = range(7)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class SyntheticOptions(Frozen):
    """What to generate.

    Attributes:
      users, items: sizes.
      interactions: rows; a user may take an item again.
      factors: dimensions of the hidden user and item factors.
      skew: the Zipf exponent of popularity; 0 makes all items equally popular.
      shortlist: items, drawn by popularity, that a user chooses one of by affinity; 1 leaves no choice, and is fast.
      seed: same options and seed, same rows.
    """

    users: int = Field(default=3_000, ge=1)
    items: int = Field(default=2_000, ge=10)
    interactions: int = Field(default=120_000, ge=100)
    factors: int = Field(default=12, ge=1)
    skew: float = Field(default=0.7, ge=0)
    shortlist: int = Field(default=100, ge=1)
    seed: int = Field(default=0, ge=0)

    @property
    def num_chunks(self) -> int:
        """Chunks of `CHUNK_ROWS` rows; the last one may be shorter."""
        return -(-self.interactions // CHUNK_ROWS)


def parse_options(spec: str) -> SyntheticOptions:
    """Reads `synthetic:users=100,skew=0.5`.

    Raises:
      ConfigError: a key is unknown or a value wrong.
    """
    pairs = [pair.partition("=") for pair in spec.removeprefix("synthetic:").split(",") if pair]
    return parse(SyntheticOptions, {key: value for key, _, value in pairs}, spec)


def generate_chunk(options: SyntheticOptions, chunk: int, columns: Sequence[str] = COLUMNS) -> pa.Table:
    """Draws a chunk of interactions; items of a genre share a direction in factor space, and a user is a point in it.

    An item is chosen with a probability that grows with its popularity and exponentially with its affinity to the
    user (Gumbel-max sampling from the softmax of affinity over a shortlist drawn by popularity).

    Returns:
      Of `COLUMNS` those asked for, in the order of time, within a chunk and from chunk to chunk: `timestamp` in
      seconds, `rating` from 1 to 5, growing with affinity, `genres` joined by `|`.
    """
    first = chunk * CHUNK_ROWS
    size = min(CHUNK_ROWS, options.interactions - first)
    rng = _rng(options, _DRAWS, chunk)
    user = _sample(rng, _activity(options), size)
    timestamp = _timestamps(rng, options, first, size)
    item = _choose(rng, options, user)
    made = {
        "user_id": lambda: _ids("u", user),
        "item_id": lambda: _ids("i", item),
        "timestamp": lambda: pa.array(timestamp),
        "rating": lambda: pa.array(_ratings(options, chunk, user, item)),
    }
    content = {name: lambda name=name: _item_content(options)[name].take(pa.array(item)) for name in COLUMNS[4:]}
    return pa.table({name: (made | content)[name]() for name in columns})


def _rng(options: SyntheticOptions, stream: int, chunk: int = 0) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(options.seed, spawn_key=(stream, chunk)))


def _sample(rng: np.random.Generator, cumulative: Floats, size: int | tuple[int, int]) -> Integers:
    """Draws positions by their probabilities, of which the cumulative sums are given."""
    # Searching in ascending order is several times faster: the table is read from one end to the other.
    drawn = np.searchsorted(cumulative, np.sort(rng.random(np.prod(size))), side="right")
    rng.shuffle(drawn)
    return np.minimum(drawn, len(cumulative) - 1).reshape(size)


def _timestamps(rng: np.random.Generator, options: SyntheticOptions, first: int, size: int) -> Integers:
    """Seconds of the share of time that these rows have among all."""
    start, stop = (_SPAN_SECONDS * row // options.interactions for row in (first, first + size))
    return np.sort(rng.integers(start, max(stop, start + 1), size=size)) + _FIRST_SECOND


def _choose(rng: np.random.Generator, options: SyntheticOptions, user: Integers) -> Integers:
    """The item of each row: the best of a shortlist, by affinity and Gumbel noise."""
    cumulative = _popularity(options)
    if options.shortlist == 1:
        return _sample(rng, cumulative, len(user))
    user_factors, item_factors = _factors(options)
    chosen: list[Integers] = []
    for start in range(0, len(user), _DRAWN_AT_ONCE):
        batch = user[start : start + _DRAWN_AT_ONCE]
        candidates = _sample(rng, cumulative, (len(batch), options.shortlist))
        affinity = np.einsum("bf,bsf->bs", user_factors[batch], item_factors[candidates])
        best = np.argmax(_AFFINITY * affinity + rng.gumbel(size=affinity.shape), axis=1)
        chosen.append(candidates[np.arange(len(batch)), best])
    return np.concatenate(chosen)


def _ratings(options: SyntheticOptions, chunk: int, user: Integers, item: Integers) -> Integers:
    """[num_rows] int64 from 1 to 5: affinity, which is about as spread as the noise, around 3."""
    user_factors, item_factors = _factors(options)
    affinity = np.einsum("bf,bf->b", user_factors[user], item_factors[item])
    noise = _rng(options, _RATINGS, chunk).normal(size=len(user))
    return np.clip(np.rint(3 + 0.7 * (affinity + noise)), 1, 5).astype(np.int64)


def _ids(prefix: str, numbers: Integers) -> pa.Array:
    return pc.binary_join_element_wise(prefix, pc.cast(pa.array(numbers), pa.string()), "")


@lru_cache(maxsize=2)
def _activity(options: SyntheticOptions) -> Floats:
    """[users] cumulative probabilities."""
    return _cumulative(_rng(options, _ACTIVITY).lognormal(sigma=0.8, size=options.users))


@lru_cache(maxsize=2)
def _popularity(options: SyntheticOptions) -> Floats:
    """[items] cumulative probabilities."""
    rank = 1 + _rng(options, _POPULARITY).permutation(options.items)
    return _cumulative(rank.astype(np.float64) ** -options.skew)


def _cumulative(weights: Floats) -> Floats:
    sums = np.cumsum(weights)
    return sums / sums[-1]


@lru_cache(maxsize=2)
def _item_genres(options: SyntheticOptions) -> tuple[Integers, Integers]:
    """[items] first and second genre."""
    rng = _rng(options, _ITEM_GENRES)
    return rng.integers(len(_GENRES), size=options.items), rng.integers(len(_GENRES), size=options.items)


@lru_cache(maxsize=2)
def _factors(options: SyntheticOptions) -> tuple[Floats, Floats]:
    """[users, factors] and [items, factors]."""
    rng = _rng(options, _FACTORS)
    first_genre, second_genre = _item_genres(options)
    directions = rng.normal(size=(len(_GENRES), options.factors))
    item_factors = directions[first_genre] + 0.5 * directions[second_genre]
    item_factors += 0.6 * rng.normal(size=item_factors.shape)
    return rng.normal(size=(options.users, options.factors)) / np.sqrt(options.factors), item_factors


@lru_cache(maxsize=2)
def _item_content(options: SyntheticOptions) -> dict[str, Any]:
    """Category, genres and title of every item."""
    rng = _rng(options, _CONTENT)
    first, second = _item_genres(options)

    def named(names: Sequence[str], positions: Integers) -> pa.Array:
        return pa.array(names).take(pa.array(positions))

    names = list(_GENRES)
    first_names, second_names = named(names, first), named(names, second)
    both = pc.binary_join_element_wise(first_names, second_names, "|")
    nouns = [noun for of_genre in _GENRES.values() for noun in of_genre]
    noun = named(nouns, first * _NUM_NOUNS + rng.integers(_NUM_NOUNS, size=options.items))
    adjective = named(_ADJECTIVES, rng.integers(len(_ADJECTIVES), size=options.items))
    return {
        "category": named(_CATEGORIES, rng.integers(len(_CATEGORIES), size=options.items)),
        "genres": pc.if_else(pa.array(first == second), first_names, both),
        "title": pc.binary_join_element_wise(adjective, noun, _ids("", np.arange(options.items)), " "),
    }
