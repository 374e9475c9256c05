"""The gRPC server."""

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from recsys.errors import ConfigError
from serving.server.auth import Gatekeeper
from serving.server.metrics import Metrics
from serving.server.rpc import model, prediction
from serving.server.rpc.calls import Calls
from serving.server.service import Service
from serving.server.settings import ServerConfig


class RpcServer:
    """The services on a port.

    Attributes:
      port: the one that was taken.
    """

    def __init__(self, service: Service, gatekeeper: Gatekeeper, metrics: Metrics, config: ServerConfig) -> None:
        """Binds the port.

        Raises:
          ConfigError: it cannot be bound.
        """
        options = [
            ("grpc.max_receive_message_length", config.limits.body_bytes),
            ("grpc.so_reuseport", 0),  # two servers on a port would share its clients silently
        ]
        self._registry, self._grace = service.registry, config.network.shutdown_seconds
        self._server = grpc.aio.server(options=options)
        self._health = health.aio.HealthServicer()
        calls = Calls(gatekeeper, metrics, lambda name: name in self._registry.names)
        self._server.add_generic_rpc_handlers((prediction.handlers(service, calls), model.handlers(service, calls)))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        address = f"{config.network.host}:{config.network.grpc_port}"
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigError(f"{address} cannot be bound: expected a free port, network.grpc_port") from error

    async def start(self) -> None:
        """Accepts calls."""
        await self.tell_health()
        await self._server.start()

    async def tell_health(self) -> None:
        """Tells the health service's clients whether every model can answer."""
        ready = self._registry.is_ready
        state = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        await self._health.set("", state)

    async def stop(self) -> None:
        """Refuses new calls, and lets those under way end."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._grace)
