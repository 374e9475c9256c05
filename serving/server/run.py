"""`recsys serve`: puts the parts together, listens, and ends in order."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn
import uvloop

from recsys.errors import ConfigError
from serving.server.auth import Gatekeeper
from serving.server.logs import log_as_json
from serving.server.metrics import Metrics
from serving.server.registry import Registry
from serving.server.rest.app import make_app
from serving.server.rest.one_write import OneWriteProtocol
from serving.server.rpc.app import RpcServer
from serving.server.service import Service
from serving.server.settings import NetworkConfig, ServerConfig
from serving.server.shadow import ShadowRecall

_LOG = logging.getLogger("recsys.serving")


def serve(models: Path, config: ServerConfig) -> None:
    """Serves every model of a folder until SIGTERM or SIGINT; then lets requests under way end.

    Args:
      models: the folder of all models.
      config: everything else.

    Raises:
      BundleError: the folder holds no model.
      ConfigError: the tokens' file is wrong, or a port is taken.
    """
    log_as_json()
    uvloop.run(_serve(models.absolute(), config))


async def _serve(models: Path, config: ServerConfig) -> None:
    metrics = Metrics()
    registry = Registry(models, config, metrics)
    service = Service(registry, config, ShadowRecall(config.monitoring, metrics))
    gatekeeper = Gatekeeper(config.security.tokens)
    rest = _RestServer(
        uvicorn.Config(
            make_app(service, gatekeeper, metrics, config.limits),
            http=OneWriteProtocol,
            ws="none",
            proxy_headers=False,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, round(config.network.shutdown_seconds)),
        )
    )
    listening = _bound(config.network)
    rpc = RpcServer(service, gatekeeper, metrics, config)
    ending = _ending_on_signals()
    await rpc.start()
    rest_port = listening.getsockname()[1]
    _LOG.info("listening", extra={"host": config.network.host, "rest_port": rest_port, "grpc_port": rpc.port})
    # What has been imported is never garbage; looking through it again and again would stall requests.
    gc.freeze()
    watching = asyncio.create_task(registry.watch(rpc.tell_health))
    answering = asyncio.create_task(rest.serve(sockets=[listening]))
    for task in (watching, answering):
        task.add_done_callback(lambda _: ending.set())
    await ending.wait()
    rest.should_exit = True
    await asyncio.gather(rpc.stop(), answering)
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    await registry.unload()
    _LOG.info("ended")


class _RestServer(uvicorn.Server):
    """Leaves the signals to us: uvicorn would end the process before gRPC's calls are over."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _ending_on_signals() -> asyncio.Event:
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    return ending


def _bound(network: NetworkConfig) -> socket.socket:
    try:
        family = socket.getaddrinfo(network.host, network.rest_port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((network.host, network.rest_port))
    except OSError as error:
        raise ConfigError(
            f"{network.host}:{network.rest_port} cannot be bound ({error.strerror}): expected a free port, "
            "network.rest_port, on an interface of this machine, network.host"
        ) from error
    return listening
