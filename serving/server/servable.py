"""A loaded version of a model, and how it is used up to its last request."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap

from serving.server import process
from serving.server.batching import Batcher
from serving.server.messages import Answer, Ask, Failed, Found, Loaded, Search
from serving.server.metrics import Metrics
from serving.server.process import ModelProcess
from serving.server.settings import BatchingConfig
from serving.server.signatures import read_signatures
from serving.server.status import Code, ServingError

# A search looks through the whole catalogue, and what is asked of the model waits for it.
_MAX_SEARCHES = 4


class Servable:
    """A version in its process, behind its batcher.

    Attributes:
      model, version: which one.
      record: its bundle's.
      signature_defs: of the SavedModel.
      signatures: what of them can be called.
      batcher: answers requests.
    """

    def __init__(
        self, models: Path, version: int, worker: ModelProcess, loaded: Loaded, config: BatchingConfig, metrics: Metrics
    ) -> None:
        """Use `load`."""
        self.model, self.version, self.record = models.name, version, loaded.record
        self.signature_defs = SignatureDefMap.FromString(loaded.signature_defs)
        self.signatures = read_signatures(self.signature_defs)
        self._process, self._hang_seconds = worker, config.hang_seconds
        self.batcher = Batcher(self._call, config, metrics.batch_rows.labels(self.model).observe)
        self._users = self._searches = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @property
    def is_alive(self) -> bool:
        """Whether its process can be asked."""
        return self._process.is_alive

    def kill_if_it_hangs(self) -> bool:
        """Ends a process that has not answered for `BatchingConfig.hang_seconds`; returns whether it did."""
        return self._process.kill_if_silent(self._hang_seconds)

    @contextmanager
    def in_use(self) -> Iterator["Servable"]:
        """Keeps it from being unloaded."""
        self._users += 1
        self._unused.clear()
        try:
            yield self
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def search(self, text: str, limit: int) -> Found:
        """Looks for items by what is shown of them.

        Raises:
          ServingError: UNAVAILABLE, too many look at the same time, or its process has ended.
        """
        if self._searches == _MAX_SEARCHES:
            raise ServingError(Code.UNAVAILABLE, "too many search at the same time: try again later")
        self._searches += 1
        try:
            found: Found = await self._process.ask(Search(text, limit))
            return found
        finally:
            self._searches -= 1

    async def ask_apart(self, ask: Ask) -> Answer:
        """Calls a signature beside the batcher, for nobody who waits.

        Raises:
          ServingError: as the model fails; UNAVAILABLE, its process has ended.
        """
        reply = await self._call(ask)
        if isinstance(reply, Failed):
            raise ServingError(reply.code, reply.reason)
        return reply

    async def unload(self) -> None:
        """Waits until its last request has ended, and ends its process."""
        await self._unused.wait()
        await self._process.stop()

    async def _call(self, ask: Ask) -> Answer | Failed:
        reply: Answer | Failed = await self._process.ask(ask)
        return reply


async def load(models: Path, version: int, config: BatchingConfig, metrics: Metrics) -> Servable:
    """Loads `<models>/<version>` into a process of its own, and warms it up.

    Raises:
      BundleError: it cannot be served.
      ServingError: UNAVAILABLE, it could not be loaded this time.
    """
    worker, loaded = await process.start(models, version)
    return Servable(models, version, worker, loaded, config, metrics)
