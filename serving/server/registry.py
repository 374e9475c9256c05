"""All models of a folder, watched."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from recsys.errors import BundleError
from serving.bundle import versions
from serving.server.metrics import Metrics
from serving.server.model import Model
from serving.server.servable import Servable
from serving.server.settings import ServerConfig
from serving.server.status import not_found

_LOG = logging.getLogger("recsys.serving")


class Registry:
    """Looks for new versions every so often, and finds the one that answers a request."""

    def __init__(self, models: Path, config: ServerConfig, metrics: Metrics) -> None:
        """Takes the folder of all models.

        Raises:
          BundleError: it holds no model.
        """
        self._models, self._config, self._metrics = models, config, metrics
        self._by_name: dict[str, Model] = {}
        self._at_start: frozenset[str] = frozenset()
        self._one_at_a_time = asyncio.Lock()
        if not model_names(models):
            hint = f"; {models} is a model itself: serve its parent" if versions(models) else ""
            raise BundleError(f"{models} holds no model: expected <name>/<version>/, made by `recsys export`{hint}")

    @property
    def is_ready(self) -> bool:
        """Whether every model that was there at the start can answer; one that is added later is not waited for."""
        return bool(self._at_start) and all(self._by_name[name].is_ready for name in self._at_start)

    @property
    def names(self) -> list[str]:
        """The models', sorted."""
        return sorted(self._by_name)

    def model(self, name: str, version: int | None = None) -> Model:
        """Returns the model that a client asks for, in a version or in any.

        Raises:
          ServingError: NOT_FOUND.
        """
        if name not in self._by_name:
            raise not_found(name, version)
        return self._by_name[name]

    @contextmanager
    def use(self, name: str, version: int | None = None, label: str | None = None) -> Iterator[Servable]:
        """Finds who answers and keeps it from being unloaded meanwhile.

        Raises:
          ServingError: see `Model.find`.
        """
        with self.model(name, version).find(version, label).in_use() as servable:
            yield servable

    async def watch(self, after_each: Callable[[], Awaitable[None]]) -> None:
        """Looks for new versions until it is cancelled, and calls a function after each look."""
        while True:
            await self.refresh()
            await after_each()
            await asyncio.sleep(self._config.release.poll_seconds)

    async def refresh(self, try_again: bool = False) -> None:
        """Looks once. A model whose folder cannot be read keeps serving what it serves.

        Args:
          try_again: versions that were refused before, too.
        """
        async with self._one_at_a_time:
            for name in await asyncio.to_thread(model_names, self._models):
                if name not in self._by_name:
                    self._by_name[name] = Model(self._models / name, self._config, self._metrics)
            self._at_start = self._at_start or frozenset(self._by_name)
            for name, model in self._by_name.items():
                try:
                    await model.refresh(try_again)
                except (BundleError, OSError) as error:
                    _LOG.error("a model's folder cannot be read", extra={"model": name, "reason": str(error)})

    async def unload(self) -> None:
        """Unloads everything, each version after its last request."""
        await asyncio.gather(*(model.unload() for model in self._by_name.values()))

    def path(self, name: str) -> Path:
        """The folder of a known model.

        Raises:
          ServingError: NOT_FOUND.
        """
        return self._models / self.model(name).name


def model_names(models: Path) -> list[str]:
    """The folders of `models` that hold a version, as `recsys export` names them."""
    if not models.is_dir():
        return []
    return sorted(
        entry.name
        for entry in models.iterdir()
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", entry.name) and not entry.name.isdecimal() and versions(entry)
    )
