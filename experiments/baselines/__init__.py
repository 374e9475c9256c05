"""Rankings that a model has to beat: chance, popularity, item-kNN, EASE^R, implicit ALS.

All but chance learn from every interaction before the evaluated split. `SETTINGS` were chosen once, by NDCG@20 on the
validation split of MovieLens latest-small: `python -m experiments.baselines.tune data/ml-small`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import scipy.sparse as sp

from experiments.baselines.als import ImplicitAls
from experiments.baselines.chance import RandomScorer
from experiments.baselines.ease import MAX_ITEMS, Ease
from experiments.baselines.fold_in import FoldIn, FoldInScorer
from experiments.baselines.item_knn import ItemKnn
from experiments.baselines.past import matrix_before
from experiments.baselines.popularity import popularity, recent_popularity
from recsys.evaluation import Scorer
from recsys.interactions import Interactions
from recsys.queries import Protocol


@dataclass(frozen=True)
class Setting:
    """How a folded-in model is made of what was taken, and what it is shown of a query.

    Attributes:
      make: learns the model.
      latest: by protocol, how many of the latest seen items the model is shown. What comes next depends on fewer than
        what comes at all; the user protocol of MovieLens has too few users with a history to say more exactly.
    """

    make: Callable[[sp.csr_array], FoldIn]
    latest: Mapping[Protocol, int]


SETTINGS = {
    "EASE^R": Setting(partial(Ease, l2=200), {"event": 10, "user": 50}),
    "item-kNN": Setting(partial(ItemKnn, neighbours=100, shrink=10), {"event": 10, "user": 50}),
    "implicit ALS": Setting(
        partial(ImplicitAls, factors=64, regularization=10, alpha=5, iterations=15, seed=0), {"event": 5, "user": 50}
    ),
}


@dataclass(frozen=True)
class Baselines:
    """What a model is compared with.

    Attributes:
      models: the folded-in ones, by the name that a report shows.
      simple: the scorers that look at no history, by name.
      skipped: why, by the name of each baseline that cannot be had here.
    """

    models: Mapping[str, FoldIn]
    simple: Mapping[str, Scorer]
    skipped: dict[str, str]

    def scorers(self, protocol: Protocol) -> dict[str, Scorer]:
        """All baselines by name; where a query has no history, recent popularity answers for the folded-in ones."""
        folded_in = {
            name: FoldInScorer(model, SETTINGS[name].latest[protocol], self.simple["recent popularity"])
            for name, model in self.models.items()
        }
        return {**folded_in, **self.simple}


def learn_baselines(interactions: Interactions, split: str, seed: int) -> Baselines:
    """Learns all baselines that can be had from what came before `split`; `seed` is chance's."""
    taken = matrix_before(interactions, split)
    skipped = skipped_baselines(interactions.num_items)
    return Baselines(
        models={name: setting.make(taken) for name, setting in SETTINGS.items() if name not in skipped},
        simple={
            "recent popularity": recent_popularity(interactions, split),
            "popularity": popularity(interactions, split),
            "random": RandomScorer(seed),
        },
        skipped=skipped,
    )


def skipped_baselines(num_items: int) -> dict[str, str]:
    """Returns why, by the name of each baseline that cannot be had for so many items or without an extra."""
    skipped = {}
    if num_items > MAX_ITEMS:
        skipped["EASE^R"] = (
            f"it inverts a matrix of {num_items:,} × {num_items:,}: expected at most {MAX_ITEMS:,} items"
        )
    if find_spec("implicit") is None:
        skipped["implicit ALS"] = "the package implicit is missing: pip install 'recsys[bench]'"
    return skipped
