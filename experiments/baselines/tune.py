"""Ranks the validation split with many settings of the baselines; the test split is never read.

python -m experiments.baselines.tune data/ml-small
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path

from experiments.baselines import skipped_baselines
from experiments.baselines.als import ImplicitAls
from experiments.baselines.ease import Ease
from experiments.baselines.fold_in import FoldIn, FoldInScorer
from experiments.baselines.item_knn import ItemKnn
from experiments.baselines.past import matrix_before
from experiments.baselines.popularity import recent_popularity
from recsys.dataset import open_dataset
from recsys.evaluation import evaluate
from recsys.interactions import load_interactions
from recsys.queries import make_queries

_METRIC = "ndcg@20"
_LATEST = (2, 5, 10, 20, 50, None)
# Model, and the values that are tried of each setting.
_GRIDS: dict[str, tuple[Callable[..., FoldIn], dict[str, tuple[float, ...]]]] = {
    "item-kNN": (ItemKnn, {"neighbours": (100, 200, 500), "shrink": (0, 10, 50)}),
    "EASE^R": (Ease, {"l2": (200, 500, 1000, 2000)}),
    "implicit ALS": (
        ImplicitAls,
        {
            "factors": (32, 64, 128),
            "regularization": (0.1, 10),
            "alpha": (1, 5, 20),
            "iterations": (15,),
            "seed": (0,),
        },
    ),
}


def tune(path: Path, names: Sequence[str]) -> Iterator[str]:
    """Yields a line for each setting of the named baselines: the metric by both protocols, and what was set."""
    interactions = load_interactions(open_dataset(path))
    taken = matrix_before(interactions, "validation")
    recent = recent_popularity(interactions, "validation")
    queries = [make_queries(interactions, "validation", protocol) for protocol in ("event", "user")]
    for name, settings, make in _settings(names, interactions.num_items):
        model: FoldIn = make(taken)
        for latest in _LATEST:
            scorer = FoldInScorer(model, latest, recent)
            event, user = (evaluate(scorer, asked, [_METRIC]).mean(_METRIC) for asked in queries)
            yield f"{name}  {_METRIC} event {event:.4f} user {user:.4f}  {settings} latest={latest}"


def _settings(names: Sequence[str], num_items: int) -> Iterator[tuple[str, str, partial[FoldIn]]]:
    skipped = skipped_baselines(num_items)
    for name in names:
        model, grid = _GRIDS[name]
        for values in product(*grid.values()) if name not in skipped else ():
            chosen = dict(zip(grid, values, strict=True))
            yield name, " ".join(f"{key}={value}" for key, value in chosen.items()), partial(model, **chosen)


if __name__ == "__main__":
    for line in tune(Path(sys.argv[1]), sys.argv[2:] or list(_GRIDS)):
        print(line, flush=True)
