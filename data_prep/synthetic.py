"""A synthetic data set whose structure is known: factors, popularity skew, categories, time, genres and titles."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from recsys.schema import Frozen
from recsys.toml_config import parse

_FIRST_SECOND = 1_700_000_000
_SPAN_SECONDS = 180 * 86_400
# How much an item's fit to the user weighs against its popularity.
_AFFINITY = 3.0
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

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class SyntheticOptions(Frozen):
    """What to generate.

    Attributes:
      users, items: sizes.
      interactions: draws; a user who draws an item again does not take it twice, so fewer rows come of it.
      factors: dimensions of the hidden user and item factors.
      skew: the Zipf exponent of popularity; 0 makes all items equally popular.
      seed: same options and seed, same rows.
    """

    users: int = Field(default=3_000, ge=1)
    items: int = Field(default=2_000, ge=10)
    interactions: int = Field(default=120_000, ge=100)
    factors: int = Field(default=12, ge=1)
    skew: float = Field(default=0.7, ge=0)
    seed: int = Field(default=0, ge=0)


def parse_options(spec: str) -> SyntheticOptions:
    """Reads `synthetic:users=100,skew=0.5`.

    Raises:
      ConfigError: a key is unknown or a value wrong.
    """
    pairs = [pair.partition("=") for pair in spec.removeprefix("synthetic:").split(",") if pair]
    return parse(SyntheticOptions, {key: value for key, _, value in pairs}, spec)


def generate(options: SyntheticOptions) -> pd.DataFrame:
    """Draws interactions; items of a genre share a direction in factor space, and a user is a point in it.

    An item is chosen with a probability that grows with its popularity and exponentially with its affinity to the
    user (Gumbel-max sampling from the softmax of both over a random shortlist). Nobody takes an item twice.

    Returns:
      Columns `user_id`, `item_id`, `timestamp` (seconds), `category`, `genres` (joined by `|`) and `title`, in the
      order of time.
    """
    rng = np.random.default_rng(options.seed)
    genre_of = rng.integers(len(_GENRES), size=options.items)
    second_genre_of = rng.integers(len(_GENRES), size=options.items)
    directions = rng.normal(size=(len(_GENRES), options.factors))
    item_factors = directions[genre_of] + 0.5 * directions[second_genre_of]
    item_factors += 0.6 * rng.normal(size=item_factors.shape)
    user_factors = rng.normal(size=(options.users, options.factors)) / np.sqrt(options.factors)
    log_popularity = -options.skew * np.log(1 + rng.permutation(options.items))

    user, item = _draw(rng, options, user_factors, item_factors, log_popularity)
    timestamp = np.sort(rng.integers(_SPAN_SECONDS, size=len(user))) + _FIRST_SECOND
    items = _item_table(rng, genre_of, second_genre_of)
    return pd.concat(
        [
            pd.DataFrame({"user_id": [f"u{u}" for u in user], "item_id": [f"i{i}" for i in item]}),
            pd.DataFrame({"timestamp": timestamp}),
            items.iloc[item].reset_index(drop=True),
        ],
        axis=1,
    )


def _draw(
    rng: np.random.Generator,
    options: SyntheticOptions,
    user_factors: Floats,
    item_factors: Floats,
    log_popularity: Floats,
) -> tuple[Integers, Integers]:
    """Draws distinct (user, item) pairs, a chunk at a time: the shortlists of all rows would not fit in memory."""
    chunk, shortlist = 5_000, 100
    activity = rng.lognormal(sigma=0.8, size=options.users)
    activity /= activity.sum()
    popularity = np.exp(log_popularity)
    popularity /= popularity.sum()
    pairs: list[Integers] = []
    for start in range(0, options.interactions, chunk):
        size = min(chunk, options.interactions - start)
        user = rng.choice(options.users, size=size, p=activity)
        candidates = rng.choice(options.items, size=(size, shortlist), p=popularity)
        affinity = np.einsum("bf,bsf->bs", user_factors[user], item_factors[candidates])
        chosen = np.argmax(_AFFINITY * affinity + rng.gumbel(size=affinity.shape), axis=1)
        pairs.append(user * options.items + candidates[np.arange(size), chosen])
    keys = np.concatenate(pairs)
    _, first = np.unique(keys, return_index=True)
    kept = keys[np.sort(first)]
    return kept // options.items, kept % options.items


def _item_table(rng: np.random.Generator, genre_of: Integers, second_genre_of: Integers) -> pd.DataFrame:
    names = list(_GENRES)
    rows: list[dict[str, Any]] = []
    for number, (first, second) in enumerate(zip(genre_of, second_genre_of, strict=True)):
        noun = _GENRES[names[first]][rng.integers(4)]
        genres = names[first] if first == second else f"{names[first]}|{names[second]}"
        category = ("film", "series", "short")[rng.integers(3)]
        title = f"{_ADJECTIVES[rng.integers(len(_ADJECTIVES))]} {noun} {number}"
        rows.append({"category": category, "genres": genres, "title": title})
    return pd.DataFrame(rows)
