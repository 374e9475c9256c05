"""Our own short API: `/recommend`, `/similar`, `/explain`, and `/items` for people who look for something."""

from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from serving.server.messages import Tensors, string_rows, strings
from serving.server.rest.answers import json_answer
from serving.server.rest.operation import MAX_INT32, MAX_VERSION, Operation, read_body, read_query
from serving.server.service import Result, Service, Target
from serving.server.signatures import Signature
from serving.server.status import invalid

_TAG = "recsys"
_LIMIT = 50


class _Asked(BaseModel):
    """Whom to ask: the only model there is, in its stable version, unless these say otherwise."""

    model_config = ConfigDict(extra="forbid")

    model: str = ""
    version: Annotated[int, Field(ge=0, le=MAX_VERSION)] = 0
    label: str = ""

    def target(self, service: Service, request: Request) -> Target:
        """Whom to ask, and notes the model for what is counted of the request."""
        if self.version and self.label:
            raise invalid("expected at most one of version and label")
        request.state.model = service.only_model(self.model)
        return Target(request.state.model, self.version or None, self.label or None)


class RecommendRequest(_Asked):
    """What `/recommend` takes.

    Attributes:
      user_id: unknown users are answered by their history, or else by what is popular of late.
      k: how many items.
      history: items the user took, oldest first; what the model knows of the user when empty.
      exclude: items not to recommend; items taken are never recommended.
      categories: `feature=value` of items' categorical features; only items of any of them are recommended.
      leaves, reorder_factor: how much of the index to look at; as it is tuned when 0.
    """

    model_config = ConfigDict(json_schema_extra={"example": {"user_id": "42", "k": 10}})

    user_id: str = ""
    k: Annotated[int, Field(ge=1, le=MAX_INT32)] = 10
    history: list[str] = []
    exclude: list[str] = []
    categories: list[str] = []
    leaves: Annotated[int, Field(ge=0, le=MAX_INT32)] = 0
    reorder_factor: Annotated[float, Field(ge=0, le=MAX_INT32)] = 0

    @property
    def has_options(self) -> bool:
        """Whether it takes the signature with options to answer."""
        return bool(self.categories or self.leaves or self.reorder_factor)


class SimilarRequest(_Asked):
    """What `/similar` takes: an item, and how many neighbours."""

    model_config = ConfigDict(json_schema_extra={"example": {"item_id": "1", "k": 10}})

    item_id: str
    k: Annotated[int, Field(ge=1, le=MAX_INT32)] = 10


class ExplainRequest(_Asked):
    """What `/explain` takes: who was recommended which items, and how many reasons are wanted for each."""

    model_config = ConfigDict(json_schema_extra={"example": {"user_id": "42", "item_ids": ["1", "3114"]}})

    user_id: str = ""
    history: list[str] = []
    item_ids: Annotated[list[str], Field(min_length=1)]
    k: Annotated[int, Field(ge=1, le=MAX_INT32)] = 2


class ItemsQuery(BaseModel):
    """What `/items` takes: part of an id or of what is shown, and how many items."""

    query: Annotated[str, Field(max_length=256)]
    limit: Annotated[int, Field(ge=1, le=_LIMIT)] = 20
    model: str = ""


class RankedItem(BaseModel):
    """An item of an answer, with what a person sees of it."""

    rank: int
    item_id: str
    score: float
    shown: dict[str, str]


class RecommendAnswer(BaseModel):
    """What `/recommend` gives.

    Attributes:
      model, version: who answered.
      user_id: as asked.
      known: whether the model knows the user.
      source: what the answer rests on: history, user or popularity.
      num_items: how many items there are: fewer than `k` only where no more are left.
      items: best first.
    """

    model: str
    version: int
    user_id: str
    known: bool
    source: str
    num_items: int
    items: list[RankedItem]


class SimilarAnswer(BaseModel):
    """What `/similar` gives: the nearest other items, none for an unknown one.

    Attributes:
      model, version: who answered.
      item_id: as asked.
      num_items: how many items there are: fewer than `k` only where no more are left.
      items: nearest first.
    """

    model: str
    version: int
    item_id: str
    num_items: int
    items: list[RankedItem]


class Explanation(BaseModel):
    """What a user took that is nearest to an item, nearest first."""

    item_id: str
    because: list[RankedItem]


class ExplainAnswer(BaseModel):
    """What `/explain` gives, in the order of the question."""

    model: str
    version: int
    user_id: str
    items: list[Explanation]


class ShownItem(BaseModel):
    """An item of the catalogue."""

    item_id: str
    shown: dict[str, str]


class ItemsAnswer(BaseModel):
    """What `/items` gives."""

    items: list[ShownItem]


def operations(service: Service) -> list[Operation]:
    """Returns the API's operations."""

    async def recommend(request: Request) -> Response:
        """Recommends items that a user has not taken."""
        asked = await read_body(request, RecommendRequest)

        def inputs(signature: Signature) -> Tensors:
            query = _scalars(signature, k=asked.k) | {
                "user_id": strings([asked.user_id.encode()]),
                "history": string_rows([[item.encode() for item in asked.history]]),
                "exclude": string_rows([[item.encode() for item in asked.exclude]]),
            }
            if not asked.has_options:
                return query
            effort = _scalars(signature, leaves=asked.leaves, reorder_factor=asked.reorder_factor)
            return query | effort | {"categories": string_rows([[name.encode() for name in asked.categories]])}

        name = "recommend_with_options" if asked.has_options else "recommend"
        result = await service.predict(asked.target(service, request), name, inputs, shown=True)
        known = bool(result.outputs["known"][0])
        source, num_items = result.outputs["source"][0].decode(), int(result.outputs["num_items"][0])
        about = {"user_id": asked.user_id, "known": known, "source": source, "num_items": num_items}
        return json_answer(_who(result) | about | {"items": _ranked(result)[0]})

    async def similar(request: Request) -> Response:
        """Finds the nearest other items."""
        asked = await read_body(request, SimilarRequest)

        def inputs(signature: Signature) -> Tensors:
            return _scalars(signature, k=asked.k) | {"item_id": strings([asked.item_id.encode()])}

        result = await service.predict(asked.target(service, request), "similar_items", inputs, shown=True)
        about = {"item_id": asked.item_id, "num_items": int(result.outputs["num_items"][0])}
        return json_answer(_who(result) | about | {"items": _ranked(result)[0]})

    async def explain(request: Request) -> Response:
        """Finds what a user took that is nearest to items: why they may have been recommended."""
        asked = await read_body(request, ExplainRequest)
        rows = len(asked.item_ids)

        def inputs(signature: Signature) -> Tensors:
            service.require_size(rows, len(asked.history))
            return _scalars(signature, k=asked.k) | {
                "user_id": strings([asked.user_id.encode()] * rows),
                "history": string_rows([[item.encode() for item in asked.history]] * rows),
                "item_id": strings([item.encode() for item in asked.item_ids]),
            }

        result = await service.predict(asked.target(service, request), "explain", inputs, shown=True)
        explained = zip(asked.item_ids, _ranked(result), strict=True)
        items = [{"item_id": item, "because": because} for item, because in explained]
        return json_answer(_who(result) | {"user_id": asked.user_id, "items": items})

    async def items(request: Request) -> Response:
        """Looks for items of the catalogue."""
        asked = read_query(request, ItemsQuery)
        found = await service.search(Target(service.only_model(asked.model)), asked.query, asked.limit)
        return json_answer({"items": [{"item_id": item, "shown": shown} for item, shown in found.items]})

    return [
        Operation("POST", "/recommend", recommend, _TAG, body=RecommendRequest, answer=RecommendAnswer),
        Operation("POST", "/similar", similar, _TAG, body=SimilarRequest, answer=SimilarAnswer),
        Operation("POST", "/explain", explain, _TAG, body=ExplainRequest, answer=ExplainAnswer),
        Operation("GET", "/items", items, _TAG, query=ItemsQuery, answer=ItemsAnswer),
    ]


def _scalars(signature: Signature, **values: float) -> Tensors:
    return {name: np.asarray(value, signature.inputs[name].dtype) for name, value in values.items()}


def _who(result: Result) -> dict[str, Any]:
    return {"model": result.target.model, "version": result.target.version}


def _ranked(result: Result) -> list[list[dict[str, Any]]]:
    """Each row's items; every request of this API asks for what is shown."""
    rows = zip(result.outputs["item_ids"], result.outputs["scores"], result.shown or [], strict=True)
    return [_ranked_row(*row) for row in rows]


def _ranked_row(ids: Any, scores: Any, shown: list[dict[str, str]]) -> list[dict[str, Any]]:
    found = [(item.decode(errors="replace"), score) for item, score in zip(ids, scores, strict=True) if item]
    return [
        {"rank": rank, "item_id": item, "score": score, "shown": fields}
        for rank, ((item, score), fields) in enumerate(zip(found, shown, strict=True), start=1)
    ]
