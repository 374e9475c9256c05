"""Asks what was written in a process of its own, as a client would, before anybody else does."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.errors import BundleError
from serving import answer_check
from serving.recommender import Recommender

_ROUNDING = 1e-4

Answers = dict[str, npt.NDArray[Any]]


def check(written: list[tuple[Recommender, Path]], users: list[str], k: int) -> None:
    """Compares what SavedModels answer in a process that imports only TensorFlow, and later ScaNN, with the originals.

    Args:
      written: what was saved where; the first one is asked before ScaNN is imported.
      users: whom to ask for, raw ids.
      k: how many items.

    Raises:
      BundleError: one does not answer, or answers otherwise.
    """
    with tempfile.TemporaryDirectory() as scratch:
        requests = Path(scratch) / "requests.npz"
        np.savez(requests, user_id=np.asarray(users), k=np.int32(k))
        # -P keeps this package's folder, whose modules are named after protocols, off the module search path.
        command = [sys.executable, "-P", answer_check.__file__, str(requests), scratch, *(str(p) for _, p in written)]
        # This process may hold all of the accelerator's memory.
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
        outcome = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if outcome.returncode:
            last_words = [f"exit code {outcome.returncode}", *outcome.stderr.strip().splitlines()][-1]
            raise BundleError(f"the exported model does not answer in a fresh process: {last_words}")
        for number, (recommender, _) in enumerate(written):
            in_memory = answer_check.answer(recommender.recommend, users, k)
            if not same_answers(in_memory, dict(np.load(Path(scratch) / f"answers-{number}.npz"))):
                raise BundleError("the exported model answers otherwise than the model in memory; it is not published")


def same_answers(one: Answers, other: Answers) -> bool:
    """Whether two answers agree: equal scores up to rounding, and items that differ only where scores are that close.

    Args:
      one: `item_ids` and `scores`, [batch, k] each.
      other: likewise.
    """
    if not np.allclose(one["scores"], other["scores"], rtol=_ROUNDING, atol=_ROUNDING):
        return False
    columns = (one["item_ids"], one["scores"], other["item_ids"], other["scores"])
    for ids, scores, other_ids, other_scores in zip(*columns, strict=True):
        score_of = dict(zip(ids, scores, strict=True))
        for item, score in zip(other_ids, other_scores, strict=True):
            # An item that is not among the first k may only tie with the last of them.
            if not np.isclose(score_of.get(item, scores[-1]), score, rtol=_ROUNDING, atol=_ROUNDING):
                return False
    return True
