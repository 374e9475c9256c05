"""One model: its versions on disk, what of them is loaded, and which serves whom."""

import asyncio
import logging
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path

from recsys.errors import BundleError
from serving.bundle import versions
from serving.server import servable
from serving.server.metrics import Metrics
from serving.server.release import Decisions, Plan, make_plan, read_decisions
from serving.server.servable import Servable
from serving.server.settings import ServerConfig
from serving.server.status import Code, ServingError, invalid, not_found

_LOG = logging.getLogger("recsys.serving")

STABLE, CANARY = "stable", "canary"
# What failed to load is tried again after twice as long each time.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 60.0


@dataclass(frozen=True)
class VersionStatus:
    """TensorFlow Serving's view of a version.

    Attributes:
      version: the number.
      state: LOADING, AVAILABLE, UNLOADING or END.
      error: why it is not served; empty when nothing is wrong.
    """

    version: int
    state: str
    error: str = ""


class Model:
    """The versions of `<models>/<name>` in service.

    Attributes:
      name: the folder's.
      statuses: of the versions this server has dealt with and that are still published.
    """

    def __init__(self, path: Path, config: ServerConfig, metrics: Metrics) -> None:
        """Loads nothing yet."""
        self.name, self._path, self._config, self._metrics = path.name, path, config, metrics
        self.statuses: dict[int, VersionStatus] = {}
        self._loaded: dict[int, Servable] = {}
        self._refused: dict[int, float] = {}  # until when, by the monotonic clock
        self._pauses_seconds: dict[int, float] = {}  # after the next failure
        self._plan = Plan()
        self._unloading: set[asyncio.Task[None]] = set()

    @property
    def plan(self) -> Plan:
        """What serves now."""
        return self._plan

    @property
    def is_ready(self) -> bool:
        """Whether it can answer."""
        return self._plan.stable is not None and self._loaded[self._plan.stable].is_alive

    def find(self, version: int | None, label: str | None) -> Servable:
        """Returns the version to ask; without a version and label by the traffic fraction of the canary.

        Raises:
          ServingError: NOT_FOUND, the version is not served; INVALID_ARGUMENT, there is no such label;
            UNAVAILABLE, its process has just ended.
        """
        if label is not None:
            chosen = {STABLE: self._plan.stable, CANARY: self._plan.canary}.get(label)
            if chosen is None:
                raise invalid(f"Unrecognized servable version label: {label[:64]}")
        elif version is not None:
            chosen = version
        elif self._plan.canary is not None and random.random() < self._config.release.canary_fraction:  # noqa: S311
            chosen = self._plan.canary
        else:
            chosen = self._plan.stable
        if chosen not in self._plan.wanted:
            raise not_found(self.name, version)
        found = self._loaded[chosen]
        if not found.is_alive:
            raise ServingError(Code.UNAVAILABLE, self._why_down(chosen))
        return found

    async def refresh(self, try_again: bool) -> None:
        """Brings what is loaded in line with what is published: loads first, then switches, then unloads.

        Args:
          try_again: versions that were refused before, too; by itself it tries again what failed, after a pause, and
            not what is damaged.
        """
        now = math.inf if try_again else time.monotonic()
        self._refused = {version: until for version, until in self._refused.items() if now < until}
        for version, loaded in self._loaded.items():
            if loaded.kill_if_it_hangs():
                _LOG.error("a model's process hangs and is killed", extra={"model": self.name, "version": version})
        published, decisions = await asyncio.to_thread(self._look)
        self.statuses = {version: status for version, status in self.statuses.items() if version in published}
        has_canary = self._config.release.canary_fraction > 0
        while True:
            plan = make_plan([one for one in published if one not in self._refused], decisions, has_canary)
            missing = [one for one in plan.wanted if one not in self._loaded or not self._loaded[one].is_alive]
            if not missing:
                break
            await self._load(missing[0])
        if plan.wanted and plan != self._plan:
            self._switch(plan)

    async def unload(self) -> None:
        """Ends all of its processes, each after its last request."""
        for version in list(self._loaded):
            self._unload(version)
        await asyncio.gather(*self._unloading)

    def _look(self) -> tuple[list[int], Decisions]:
        return versions(self._path), read_decisions(self._path)

    async def _load(self, version: int) -> None:
        if version in self._loaded:
            _LOG.error("the process of a model has ended", extra={"model": self.name, "version": version})
        else:
            self._set(version, "LOADING")
        try:
            loaded = await servable.load(self._path, version, self._config.batching, self._metrics)
        except BundleError as error:
            self._refuse(version, math.inf, "refused", error)
            return
        except ServingError as error:
            pause = self._pauses_seconds.get(version, _FIRST_PAUSE_SECONDS)
            self._pauses_seconds[version] = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            self._refuse(version, time.monotonic() + pause, "failed", error)
            return
        self._pauses_seconds.pop(version, None)
        if version in self._loaded:
            self._unload(version)
        self._loaded[version] = loaded
        self._set(version, "AVAILABLE")
        self._metrics.loads.labels(self.name, "loaded").inc()
        self._metrics.index_recall.labels(self.name, version).set(loaded.record.index_recall)
        self._metrics.live_recall.labels(self.name, version)
        _LOG.info("a version is loaded and warm", extra={"model": self.name, "version": version})

    def _refuse(self, version: int, until: float, outcome: str, error: Exception) -> None:
        self._refused[version] = until
        self._set(version, "END", str(error))
        self._metrics.loads.labels(self.name, outcome).inc()
        _LOG.error("a version is refused", extra={"model": self.name, "version": version, "reason": str(error)})

    def _switch(self, plan: Plan) -> None:
        self._plan = plan
        for label, version in ((STABLE, plan.stable), (CANARY, plan.canary)):
            self._metrics.version.labels(self.name, label).set(version or 0)
        _LOG.info("serving", extra={"model": self.name, STABLE: plan.stable, CANARY: plan.canary})
        for version in self._loaded.keys() - set(plan.wanted):
            self._metrics.index_recall.remove(self.name, version)
            self._metrics.live_recall.remove(self.name, version)
            self._unload(version)

    def _unload(self, version: int) -> None:
        task = asyncio.create_task(self._drain(version, self._loaded.pop(version)))
        self._unloading.add(task)
        task.add_done_callback(self._unloading.discard)

    async def _drain(self, version: int, old: Servable) -> None:
        # Of the process that replaces one that has ended, or why there is none.
        has_status = version in self._loaded or version in self._refused
        if not has_status:
            self._set(version, "UNLOADING")
        await old.unload()
        _LOG.info("a version is unloaded", extra={"model": self.name, "version": version})
        if not has_status:
            self._set(version, "END")

    def _why_down(self, version: int) -> str:
        status = self.statuses.get(version)
        if status is not None and status.error:
            return status.error
        return "the model's process has ended; it is being started again"

    def _set(self, version: int, state: str, error: str = "") -> None:
        self.statuses[version] = VersionStatus(version, state, error)
