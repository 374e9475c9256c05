"""Live recall: a few requests are answered exactly as well, after their clients have been answered."""

import asyncio
import logging
import random

import numpy as np

from serving.server.messages import Answer, Ask, Tensors, string_rows
from serving.server.metrics import Metrics
from serving.server.servable import Servable
from serving.server.settings import MonitoringConfig
from serving.server.signatures import DEFAULT
from serving.server.status import ServingError

APPROXIMATE, EXACT = ("recommend", DEFAULT), "recommend_exactly"
_POPULARITY = b"popularity"
# Scores this close are equal but for the rounding of float32 sums.
_ROUNDING = 1e-5

_LOG = logging.getLogger("recsys.serving")


class ShadowRecall:
    """Compares sampled answers of `recommend` and `serving_default` with exact ones, one at a time.

    What is popular of late is not found by the index, and those who ask for an effort of their own judge another index:
    such answers are left out.
    """

    def __init__(self, config: MonitoringConfig, metrics: Metrics) -> None:
        """Takes how many to sample, and where to note what is found."""
        self._fraction, self._metrics = config.shadow_fraction, metrics
        self._comparison: asyncio.Task[None] | None = None

    def consider(self, servable: Servable, ask: Ask, answer: Answer) -> None:
        """Compares the first row of an answered request, if it is sampled and no other is being compared."""
        if ask.signature not in APPROXIMATE or EXACT not in servable.signatures or self._comparison is not None:
            return
        if random.random() < self._fraction:  # noqa: S311
            self._comparison = asyncio.create_task(self._compare(servable, ask.inputs, answer.outputs))
            self._comparison.add_done_callback(self._ended)

    def _ended(self, _: "asyncio.Task[None]") -> None:
        self._comparison = None

    async def _compare(self, servable: Servable, inputs: Tensors, found: Tensors) -> None:
        k = np.asarray(servable.record.default_k, np.int32)
        defaults = {"history": string_rows([[]]), "exclude": string_rows([[]]), "k": k}
        try:
            with servable.in_use():
                exact = await servable.ask_apart(Ask(EXACT, defaults | _first_row(inputs)))
        except ServingError as error:
            _LOG.warning("a request was not answered exactly", extra={"model": servable.model, "reason": str(error)})
            return
        if exact.outputs["source"][0] == _POPULARITY:
            return
        share = recall(found["scores"][0], exact.outputs["scores"][0])
        self._metrics.live_recall.labels(servable.model, servable.version).observe(share)


def _first_row(inputs: Tensors) -> Tensors:
    return {name: value[:1] if value.ndim else value for name, value in inputs.items()}


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Returns the share of the exact answer that was found; 1 where there is nothing to find.

    An item whose score equals the last exact one is a right answer, whichever of several such it is.

    Args:
      found: [k] float32 scores, best first; the smallest float32 where none is left.
      exact: likewise.
    """
    wanted = exact[exact > np.finfo(np.float32).min]
    if not len(wanted):
        return 1.0
    least = wanted[-1] - _ROUNDING * np.abs(wanted).max()
    return float(min(1.0, (found >= least).sum() / len(wanted)))
