"""Our ranking and metrics against ir-measures, which runs trec_eval, on random inputs with ties.

trec_eval ranks by score and breaks ties by the document's name, the lexicographically greater first. Rows are given
names that descend, so that its ties too stand by item row. ir-measures computes RR@k by other code with other ties, so
RR is taken without a cutoff, and 0 below 1 / k.
"""

import ir_measures
import numpy as np
import pytest
import tensorflow as tf
from ir_measures import AP, RR, P, R, Success, nDCG

from recsys import metrics
from recsys.evaluation import evaluate
from recsys.queries import Queries

NUM_QUERIES, NUM_ITEMS = 200, 60
KS = (1, 5, 20, 60)
PEERS = {"recall": R, "ndcg": nDCG, "hit_rate": Success, "map": AP, "precision": P}


def name_of(item: int) -> str:
    return f"d{NUM_ITEMS - item:03}"


def random_queries(rng: np.random.Generator) -> Queries:
    """Up to 30 seen items and 1 … 8 relevant ones per query."""
    seen, relevant, bounds = [], [], [0]
    for query in range(NUM_QUERIES):
        items = rng.permutation(NUM_ITEMS)
        num_seen, num_relevant = rng.integers(31), rng.integers(1, 9)
        seen += items[:num_seen].tolist()
        bounds.append(len(seen))
        relevant += [(query, item) for item in items[num_seen : num_seen + num_relevant].tolist()]
    return Queries(
        user_row=np.arange(NUM_QUERIES, dtype=np.int32),
        seen_start=np.array(bounds[:-1]),
        seen_end=np.array(bounds[1:]),
        relevant_query=np.array([query for query, _ in relevant]),
        relevant_item=np.array([item for _, item in relevant], np.int32),
        items=np.array(seen, np.int32),
        num_items=NUM_ITEMS,
        num_repeats=0,
    )


@pytest.mark.parametrize("distinct_scores", [2, 10, 10**6])
def test_every_metric_is_that_of_trec_eval(distinct_scores: int) -> None:
    rng = np.random.default_rng(distinct_scores)
    queries = random_queries(rng)
    table = rng.integers(distinct_scores, size=(NUM_QUERIES, NUM_ITEMS)).astype(np.float32)
    names = [f"{name}@{k}" for k in KS for name in metrics.NAMES]
    ours = evaluate(lambda queries, start, stop: tf.constant(table[start:stop]), queries, names)

    run: dict[str, dict[str, float]] = {}
    relevant: dict[str, dict[str, int]] = {}
    for query, (start, end) in enumerate(zip(queries.seen_start, queries.seen_end, strict=True)):
        unseen = np.setdiff1d(np.arange(NUM_ITEMS), queries.items[start:end])
        run[str(query)] = {name_of(item): float(table[query, item]) for item in unseen}
        mine = queries.relevant_item[queries.relevant_query == query]
        relevant[str(query)] = {name_of(item): 1 for item in mine}
    peers = {f"{name}@{k}": PEERS[name] @ k for k in KS for name in PEERS} | {"mrr": RR}
    name_of_peer = {str(peer): name for name, peer in peers.items()}
    theirs = {name: np.full(NUM_QUERIES, np.nan) for name in peers}
    for found in ir_measures.iter_calc(list(peers.values()), relevant, run):
        theirs[name_of_peer[str(found.measure)]][int(found.query_id)] = found.value
    theirs |= {f"mrr@{k}": np.where(theirs["mrr"] > 1 / (k + 0.5), theirs["mrr"], 0) for k in KS}
    np.testing.assert_allclose(ours.values, np.stack([theirs[name] for name in names], axis=1), rtol=0, atol=1e-6)
