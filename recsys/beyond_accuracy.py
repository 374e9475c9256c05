"""What a set of rankings is like, whether relevant or not: how much of the catalogue it shows, and how popular that is.

In all of them `ranked` is [num_queries, k] int32 item rows, -1 where there was none, and `train_counts` [num_items]
int64, how often each candidate was taken in train.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from recsys.queries import Queries

Ranked = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

NAMES = ("coverage", "gini", "novelty", "popularity_lift")


def coverage(ranked: Ranked, num_items: int) -> float:
    """The share of the catalogue that is recommended to anybody; `num_items` is the catalogue's size."""
    return len(np.unique(ranked[ranked >= 0])) / num_items


def gini(ranked: Ranked, num_items: int) -> float:
    """How unevenly recommendations fall on the catalogue: 0 when each item gets as many, 1 when one item gets all.

    Σ_j (2j - n - 1) p_j / (n - 1) over the catalogue's n items, p_j being the j-th smallest share of all places.

    Source: Shani and Gunawardana, "Evaluating Recommendation Systems", 2011.
    """
    if num_items == 1:
        return 0.0
    counts = np.sort(np.bincount(ranked[ranked >= 0], minlength=num_items))
    rank = np.arange(1, num_items + 1)
    return float(((2 * rank - num_items - 1) * counts).sum() / (counts.sum() * (num_items - 1)))


def novelty(ranked: Ranked, train_counts: Int64s) -> float:
    """The mean self-information in bits of what is recommended, -log2(share of all train interactions).

    An item that was never taken counts as if it had been taken once.

    Source: Vargas and Castells, "Rank and Relevance in Novelty and Diversity Metrics for Recommender Systems", 2011,
    free discovery without discounts.
    """
    information = np.log2(train_counts.sum()) - np.log2(np.maximum(train_counts, 1))
    return float(information[ranked[ranked >= 0]].mean())


def popularity_lift(ranked: Ranked, queries: Queries, train_counts: Int64s) -> float | None:
    """How much more popular recommendations are than what their users took: 0 for alike, 1 for twice as popular.

    (G_ranked - G_seen) / G_seen, where G is the mean over queries of their items' mean train count. Queries without a
    history are left out; None when there is no other, or all that was seen is unknown to train.

    Source: Abdollahpouri et al., "The Connection Between Popularity Bias, Calibration, and Fairness in
    Recommendation", 2020, with queries for users.
    """
    total = np.concatenate([[0], np.cumsum(train_counts[queries.items])])
    num_seen = queries.seen_end - queries.seen_start
    asked = (num_seen > 0) & (ranked >= 0).any(axis=1)
    seen = (total[queries.seen_end] - total[queries.seen_start])[asked] / num_seen[asked]
    if not seen.any():
        return None
    present = ranked[asked] >= 0
    shown = np.where(present, train_counts[ranked[asked]], 0).sum(axis=1) / present.sum(axis=1)
    return float(shown.mean() / seen.mean() - 1)


def measure(ranked: Ranked, queries: Queries, train_counts: Int64s) -> Mapping[str, float | None]:
    """All of `NAMES` for one set of rankings."""
    return {
        "coverage": coverage(ranked, queries.num_items),
        "gini": gini(ranked, queries.num_items),
        "novelty": novelty(ranked, train_counts),
        "popularity_lift": popularity_lift(ranked, queries, train_counts),
    }
