"""Answers from an opened bundle, with the fields that a person sees."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from recsys.errors import RequestError
from serving.bundle import Bundle


def recommend(
    bundle: Bundle, user_id: str, k: int, history: Sequence[str] = (), exclude: Sequence[str] = ()
) -> dict[str, Any]:
    """Recommends to one user.

    Args:
      bundle: what to ask.
      user_id: the raw id; unknown users are answered by their history, or else by what is popular.
      k: how many items.
      history: raw ids of items the user took, oldest first; what the bundle knows when empty.
      exclude: raw ids of items not to recommend; items taken are never recommended.

    Returns:
      `user_id`, `known`, `source` as `Recommender.recommend` has it, and `items`: a list of `rank`, `item_id`, `score`
      and `shown`, the fields a person sees.

    Raises:
      RequestError: `k` is out of range.
    """
    require_k(bundle, k)
    answer = bundle.model.signatures["recommend"](
        user_id=tf.constant([user_id]),
        history=tf.constant([list(history)], tf.string, shape=(1, len(history))),
        exclude=tf.constant([list(exclude)], tf.string, shape=(1, len(exclude))),
        k=tf.constant(k),
    )
    pairs = zip(answer["item_ids"].numpy()[0], answer["scores"].numpy()[0], strict=True)
    found = [(item.decode("utf-8"), float(score)) for item, score in pairs if item]
    items = [
        {"rank": rank, "item_id": item, "score": score, "shown": bundle.shown[item]}
        for rank, (item, score) in enumerate(found, start=1)
    ]
    known, source = bool(answer["known"].numpy()[0]), answer["source"].numpy()[0].decode()
    return {"user_id": user_id, "known": known, "source": source, "items": items}


def require_k(bundle: Bundle, k: int) -> None:
    """Raises `RequestError` when a bundle does not answer with so many items."""
    limit = bundle.record.max_k
    if not 1 <= k <= limit:
        raise RequestError(f"k = {k}: expected 1 … {limit} (the catalogue has {bundle.record.num_candidates} items)")
