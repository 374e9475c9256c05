"""A request of every signature of a bundle."""

import numpy as np
import numpy.typing as npt

Inputs = dict[str, npt.NDArray[np.str_] | npt.NDArray[np.int32] | npt.NDArray[np.float32]]


def ask_every_signature(
    user_id: npt.NDArray[np.str_],
    history: npt.NDArray[np.str_],
    exclude: npt.NDArray[np.str_],
    categories: npt.NDArray[np.str_],
    item_id: npt.NDArray[np.str_],
    k: int,
) -> dict[str, Inputs]:
    """Returns the inputs of a request by the name of its signature; see `serving.recommender.Recommender`.

    Args:
      user_id: [batch] str.
      history: [batch, any] str.
      exclude: [batch, any] str.
      categories: [batch, any] str.
      item_id: [batch] str.
      k: how many items to ask for; the index is asked as it is tuned.
    """
    number = np.asarray(k, np.int32)
    asked: Inputs = {"user_id": user_id, "history": history, "exclude": exclude, "k": number}
    options: Inputs = {
        "categories": categories,
        "leaves": np.zeros((), np.int32),
        "reorder_factor": np.zeros((), np.float32),
    }
    return {
        "serving_default": {"user_id": user_id},
        "recommend": asked,
        "recommend_with_options": asked | options,
        "recommend_exactly": asked,
        "embed_query": {"user_id": user_id, "history": history},
        "similar_items": {"item_id": item_id, "k": number},
        "explain": {"user_id": user_id, "history": history, "item_id": item_id, "k": number},
    }
