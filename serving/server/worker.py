"""The process of one version of one model: verifies, loads and warms it up, then answers until its socket closes."""

import contextlib
import gc
import itertools
import logging
import signal
import socket
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap

from recsys.errors import RecsysError
from serving.bundle import Bundle, open_bundle
from serving.server.logs import log_as_json
from serving.server.messages import Answer, Ask, Failed, Found, Loaded, Refused, Search, frame, receive_blocking
from serving.server.status import Code
from serving.server.warmup import warm_up

_BY_REQUEST = (Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE, Code.FAILED_PRECONDITION)

_LOG = logging.getLogger("recsys.serving")


def main(connection: socket.socket, models: Path, version: int) -> None:
    """Serves `<models>/<version>` on `connection`; ends when the other end closes it."""
    # Ctrl-C and a supervisor's SIGTERM reach all processes; the server lets requests end before it closes the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    log_as_json()
    tensorflow = logging.getLogger("tensorflow")
    tensorflow.handlers.clear()  # its own writes plain text
    tensorflow.setLevel(logging.ERROR)
    # The other end may go with a reply unread, or before there is one.
    with contextlib.suppress(ConnectionError), connection, connection.makefile("rb") as requests:
        try:
            bundle, loaded = _load(models, version)
            catalogue = _Catalogue(bundle)
        except (RecsysError, OSError, tf.errors.OpError, DecodeError) as error:
            connection.sendall(frame(_refused(error, models, version)))
            return
        # What has been loaded is never garbage; looking through it again and again would stall requests.
        gc.freeze()
        connection.sendall(frame(loaded))
        while (request := receive_blocking(requests)) is not None:
            connection.sendall(frame(_reply(request, bundle, catalogue)))


def _load(models: Path, version: int) -> tuple[Bundle, Loaded]:
    bundle = open_bundle(models, version)
    saved = saved_model_pb2.SavedModel.FromString((bundle.path / "saved_model.pb").read_bytes())
    signatures = SignatureDefMap(signature_def=dict(saved.meta_graphs[0].signature_def))
    requests = warm_up(bundle)
    return bundle, Loaded(bundle.record, signatures.SerializeToString(), requests)


def _refused(error: Exception, models: Path, version: int) -> Refused:
    """What clients may read: `<name>/<version>` in place of where that is."""
    if isinstance(error, RecsysError):
        return Refused(" ".join(str(error).replace(f"{models.parent}/", "").split()), is_final=True)
    _LOG.error("a version cannot be loaded", exc_info=error)
    return Refused(f"{models.name}/{version} cannot be loaded", is_final=False)


class _Catalogue:
    """The items by what is shown of them."""

    def __init__(self, bundle: Bundle) -> None:
        self.shown = bundle.shown
        self._texts = [(item, " ".join((item, *shown.values())).casefold()) for item, shown in self.shown.items()]

    def search(self, text: str, limit: int) -> Found:
        wanted = text.casefold()
        found = itertools.islice((item for item, content in self._texts if wanted in content), limit)
        return Found([(item, self.shown[item]) for item in found])


def _reply(request: Ask | Search, bundle: Bundle, catalogue: _Catalogue) -> Answer | Found | Failed:
    if isinstance(request, Search):
        return catalogue.search(request.text, request.limit)
    answer = call(bundle.model.signatures[request.signature], request)
    if isinstance(answer, Failed) or not request.shown:
        return answer
    ids = answer.outputs["item_ids"]
    return Answer(answer.outputs, [[catalogue.shown.get(item.decode(), {}) for item in row if item] for row in ids])


def call(signature: Any, ask: Ask) -> Answer | Failed:
    """Calls a signature. Whatever it raises, the next request may be answered."""
    try:
        return Answer({name: value.numpy() for name, value in signature(**_tensors(ask.inputs)).items()})
    except Exception as error:
        code = Code.numbered(error.error_code) if isinstance(error, tf.errors.OpError) else Code.INTERNAL
        if code in _BY_REQUEST:
            return Failed("the model cannot answer these inputs", code)
        _LOG.exception("a call of %s failed", ask.signature, extra={"request_id": ask.request_id})
        return Failed("the model failed", code)


def _tensors(inputs: dict[str, Any]) -> dict[str, tf.Tensor]:
    # An array of no objects does not tell TensorFlow that it holds strings.
    return {
        name: tf.constant(value, tf.string) if value.dtype == object else tf.constant(value)
        for name, value in inputs.items()
    }
