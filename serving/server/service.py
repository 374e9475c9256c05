"""What every protocol does: find the version, check the request, ask, name what was answered."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from serving.server.logs import current_request_id
from serving.server.messages import Ask, Found, Tensors
from serving.server.registry import Registry
from serving.server.servable import Servable
from serving.server.settings import LimitsConfig, ServerConfig
from serving.server.shadow import ShadowRecall
from serving.server.signatures import Signature, find
from serving.server.status import invalid, too_late


@dataclass(frozen=True)
class Target:
    """Whom a client asks: a model, and at most one of a version and a label of it."""

    model: str
    version: int | None = None
    label: str | None = None


@dataclass(frozen=True)
class Result:
    """An answer and who gave it.

    Attributes:
      target: the model and the version that answered.
      signature: what was called.
      outputs: its outputs, or those asked for.
      shown: what a person sees of each recommended item, where it was asked for.
    """

    target: Target
    signature: Signature
    outputs: Tensors
    shown: list[list[dict[str, str]]] | None


class Service:
    """Answers requests that a protocol has taken apart."""

    def __init__(self, registry: Registry, config: ServerConfig, shadow: ShadowRecall) -> None:
        """Takes who answers, what a request may ask for, and who looks at answers afterwards."""
        self.registry, self._config, self._shadow = registry, config, shadow

    async def predict(
        self,
        target: Target,
        signature_name: str,
        inputs: Callable[[Signature], Tensors],
        outputs: Iterable[str] = (),
        seconds: float | None = None,
        shown: bool = False,
    ) -> Result:
        """Calls a signature.

        Args:
          target: whom to ask.
          signature_name: empty for the default.
          inputs: makes the inputs, once it is known what the signature takes.
          outputs: the names to answer with; all when empty.
          seconds: what the client has left, where it says so.
          shown: whether to tell what a person sees of each recommended item.

        Raises:
          ServingError: the request is refused.
        """
        with self.registry.use(target.model, target.version, target.label) as servable:
            signature = find(servable.signatures, signature_name)
            names = list(outputs)
            signature.require_outputs(names)
            given = inputs(signature)
            rows = signature.require_inputs(given)
            self._require_within_limits(given, rows, servable)
            deadline = self._config.batching.deadline_seconds
            ask = Ask(signature.name, given, shown, current_request_id.get())
            seconds = deadline if seconds is None else min(seconds, deadline)
            answer = await servable.batcher.run(signature, ask, rows, seconds)
            self._shadow.consider(servable, ask, answer)
            return Result(
                Target(servable.model, servable.version),
                signature,
                {name: answer.outputs[name] for name in names or answer.outputs},
                answer.shown,
            )

    async def search(self, target: Target, text: str, limit: int) -> Found:
        """Looks for items by what is shown of them.

        Raises:
          ServingError: the request is refused.
        """
        with self.registry.use(target.model, target.version, target.label) as servable:
            try:
                async with asyncio.timeout(self._config.batching.deadline_seconds):
                    return await servable.search(text, limit)
            except TimeoutError as error:
                raise too_late() from error

    def only_model(self, name: str) -> str:
        """Returns the model that is meant when a request names none.

        Raises:
          ServingError: INVALID_ARGUMENT, there are several.
        """
        names = self.registry.names
        if not name and len(names) != 1:
            raise invalid(f"model is missing: expected one of {', '.join(names)}")
        return name or names[0]

    def require_size(self, rows: int, history: int = 0) -> None:
        """Checks a batch and the width of its history; who repeats a history in every row asks before there are arrays.

        Raises:
          ServingError: INVALID_ARGUMENT, there are too many rows, or too many items in the history of each.
        """
        limits = self._config.limits
        if not 1 <= rows <= limits.rows:
            raise invalid(f"a batch of {rows}: expected 1 … {limits.rows} rows")
        _require_width("history", history, limits.history)

    def _require_within_limits(self, inputs: Tensors, rows: int, servable: Servable) -> None:
        limits = self._config.limits
        self.require_size(rows)
        for name, value in inputs.items():
            if value.dtype == object:
                _require_short_strings(name, value, limits)
            elif name == "k" and value.ndim == 0:
                most = min(limits.k, servable.record.max_k)
                if not 1 <= value <= most:
                    raise invalid(f"k = {value}: expected 1 … {most}")


def _require_short_strings(name: str, value: Any, limits: LimitsConfig) -> None:
    width = value.shape[1] if value.ndim > 1 else 0
    _require_width(name, width, limits.exclude if name == "exclude" else limits.history)
    longest = max(map(len, value.flat), default=0)
    if longest > limits.string_bytes:
        raise invalid(f"{name} has a string of {longest} bytes: expected at most {limits.string_bytes}")


def _require_width(name: str, width: int, most: int) -> None:
    if width > most:
        raise invalid(f"{name} has {width} elements: expected at most {most}")
