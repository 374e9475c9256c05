"""LitServe with a bundle's SavedModel: `python -m experiments.benchmarks.peers.litserve_server BUNDLE PORT BATCH`.

Batches as LitServe does: requests that arrive within the timeout share a call of the graph.
"""

import sys
from typing import Any

import litserve
import scann  # noqa: F401  registers the ops
import tensorflow as tf

_BATCH_SECONDS = 0.002


class Recommend(litserve.LitAPI):
    """Answers as our `/recommend` does, without titles."""

    def __init__(self, bundle: str, batch: int) -> None:
        """Takes a SavedModel's folder."""
        super().__init__(max_batch_size=batch, batch_timeout=_BATCH_SECONDS)
        self._bundle = bundle

    def setup(self, device: str) -> None:
        """Loads the model in the worker."""
        self._signature = tf.saved_model.load(self._bundle).signatures["recommend"]
        self.predict([{"user_id": "", "k": 10}])

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        """Takes the parsed JSON."""
        return request

    def batch(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Keeps the requests of a call as a list."""
        return inputs

    def predict(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Calls the graph once for all."""
        nothing = tf.fill([len(requests), 0], "")
        users = tf.constant([request["user_id"] for request in requests])
        answer = self._signature(user_id=users, history=nothing, exclude=nothing, k=tf.constant(requests[0]["k"]))
        ids, scores = answer["item_ids"].numpy(), answer["scores"].numpy().tolist()
        return [
            {"items": [{"item_id": item.decode(), "score": score} for item, score in zip(*row, strict=True)]}
            for row in zip(ids, scores, strict=True)
        ]

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Gives each request its answer."""
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """Answers in JSON."""
        return output


if __name__ == "__main__":
    bundle, port, batch = sys.argv[1:]
    server = litserve.LitServer(Recommend(bundle, int(batch)), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="error")
