"""What a bundle must answer, recomputed from its run: towers called by hand and a NumPy matrix product."""

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.interactions import load_interactions
from recsys.run import Run

FLOAT32_MIN = np.float32(-3.4028234663852886e38)
CLOSE = 1e-5


class Oracle:
    """Recomputes answers from the run: raw ids in, scores of the whole catalogue out."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.items: list[str] = run.dataset.items["item"].to_pylist()
        self.users: list[str] = run.dataset.users["user"].to_pylist()
        everything = load_interactions(run.dataset)
        order = np.lexsort((everything.item_row, everything.timestamp))
        self.taken: dict[str, list[str]] = {user: [] for user in self.users}
        for user, item in zip(everything.user_row[order], everything.item_row[order], strict=True):
            self.taken[self.users[user]].append(self.items[item])

    @cached_property
    def candidates(self) -> npt.NDArray[np.float32]:
        features = self._run.dataset.item_features
        embedded: npt.NDArray[np.float32] = self._run.towers.candidate(features).numpy()
        return embedded

    def embed(self, user: str, history: list[str]) -> npt.NDArray[np.float32]:
        """Id 1 is the only out-of-vocabulary bucket, for unknown and empty users; 30 items are remembered."""
        user_id = self._run.dataset.users["user_id"][self.users.index(user)].as_py() if user in self.users else 1
        item_ids = dict(zip(self.items, self._run.dataset.items["item_id"].to_pylist(), strict=True))
        ids = [item_ids.get(item, 1) for item in (history or self.taken.get(user, []))][-30:]
        inputs = {
            "user_id": np.array([user_id], np.int32),
            "history": np.array([ids + [0] * (30 - len(ids))], np.int32),
        }
        embedded: npt.NDArray[np.float32] = self._run.towers.query(inputs).numpy()[0]
        return embedded

    def assert_best(
        self, ids: npt.NDArray[Any], scores: npt.NDArray[np.float32], embedding: npt.NDArray[Any], barred: set[str]
    ) -> None:
        """The returned items are allowed, distinct, scored right, and no allowed item is better. Ties are free."""
        score_of = dict(zip(self.items, (self.candidates @ embedding).tolist(), strict=True))
        best = sorted((score for item, score in score_of.items() if item not in barred), reverse=True)[: len(ids)]
        found = [item.decode("utf-8") for item in ids if item]
        assert len(found) == len(set(found)) == len(best)
        assert not set(found) & barred
        np.testing.assert_allclose(scores[: len(best)], best, atol=CLOSE)
        np.testing.assert_allclose(scores[: len(best)], [score_of[item] for item in found], atol=CLOSE)
        assert not any(ids[len(best) :])
        assert (scores[len(best) :] == FLOAT32_MIN).all()
