"""Which version is stable and which is canary: what is published, less what was withdrawn.

`<models>/<name>/serving.json` keeps the decisions of `rollback` and `promote`. The server reads it as often as it looks
for versions, so a command on another terminal takes effect within a second, and outlives a restart.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from recsys.artifacts import write_json
from recsys.errors import BundleError
from recsys.schema import Frozen
from serving.bundle import versions

_FILE = "serving.json"


class Decisions(Frozen):
    """The content of `serving.json`; an absent file decides nothing.

    Attributes:
      withdrawn: versions that are not served any more.
      promoted: the newest version that was accepted as stable.
    """

    withdrawn: tuple[int, ...] = ()
    promoted: int = 0


class Plan(Frozen):
    """The versions to serve.

    Attributes:
      stable: None while none is published.
      canary: a newer one on trial.
    """

    stable: int | None = None
    canary: int | None = None

    @property
    def wanted(self) -> tuple[int, ...]:
        """Stable first."""
        return tuple(version for version in (self.stable, self.canary) if version is not None)


def make_plan(published: list[int], decisions: Decisions, has_canary: bool) -> Plan:
    """Chooses among versions.

    Args:
      published: ascending.
      decisions: what was withdrawn and promoted.
      has_canary: whether the newest version, unless it was promoted or is the only one, is on trial first.
    """
    left = [version for version in published if version not in decisions.withdrawn]
    if not left:
        return Plan()
    if has_canary and len(left) > 1 and left[-1] > decisions.promoted:
        return Plan(stable=left[-2], canary=left[-1])
    return Plan(stable=left[-1])


def read_decisions(models: Path) -> Decisions:
    """Reads the decisions for `<models>/<name>`.

    Raises:
      BundleError: the file is damaged.
    """
    try:
        return Decisions.model_validate_json((models / _FILE).read_bytes())
    except FileNotFoundError:
        return Decisions()
    except ValidationError as error:
        raise BundleError(
            f"{models / _FILE} is damaged: expected withdrawn and promoted; correct or remove it"
        ) from error


def roll_back(models: Path) -> tuple[int, int]:
    """Withdraws the newest version that is not withdrawn yet.

    Returns:
      The withdrawn version, and the newest that is left.

    Raises:
      BundleError: nothing would be left to serve.
    """
    with _alone(models):
        decisions, left = _left(models)
        if len(left) < 2:
            have = ", ".join(map(str, left)) or "none"
            raise BundleError(f"{models} cannot be rolled back: expected an older version to serve, it has {have}")
        _write(models, decisions.model_copy(update={"withdrawn": (*decisions.withdrawn, left[-1])}))
        return left[-1], left[-2]


def promote(models: Path) -> int:
    """Accepts the newest version as stable, and returns it.

    Raises:
      BundleError: there is none.
    """
    with _alone(models):
        decisions, left = _left(models)
        if not left:
            raise BundleError(f"{models} has no version to promote: export one first")
        _write(models, decisions.model_copy(update={"promoted": left[-1]}))
        return left[-1]


@contextlib.contextmanager
def _alone(models: Path) -> Iterator[None]:
    """Keeps every other process and thread from deciding on what this one is about to change."""
    try:
        folder = os.open(models, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(f"{models} holds no bundle: expected the folder of a model, <models>/<name>") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _left(models: Path) -> tuple[Decisions, list[int]]:
    """The decisions so far, and the versions that they leave."""
    decisions = read_decisions(models)
    return decisions, [version for version in versions(models) if version not in decisions.withdrawn]


def _write(models: Path, decisions: Decisions) -> None:
    write_json(models / _FILE, decisions.model_dump(mode="json"))
