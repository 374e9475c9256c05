"""The server's configuration: the tables of a `server.toml`, or `--set` on the command line."""

from pathlib import Path

from pydantic import Field

from recsys.config import MAX_K
from recsys.schema import Frozen


class NetworkConfig(Frozen):
    """Where the server listens.

    Attributes:
      host: the interface; only this machine by default.
      rest_port, grpc_port: TensorFlow Serving's ports by default; 0 takes any free one, which the log names.
      shutdown_seconds: after SIGTERM, requests under way have so long to end.
    """

    host: str = "127.0.0.1"
    rest_port: int = Field(default=8501, ge=0, le=65535)
    grpc_port: int = Field(default=8500, ge=0, le=65535)
    shutdown_seconds: float = Field(default=10.0, gt=0)


class BatchingConfig(Frozen):
    """How requests that wait at the same time share one call of the graph.

    Attributes:
      max_batch_size: rows of a call that several requests share; 1 gives every request a call of its own.
      batch_timeout_micros: how long an idle model waits for a call to fill up. While a call runs, requests gather
        without any timeout.
      max_enqueued_batches: requests beyond `max_batch_size` times this many waiting rows are refused at once.
      deadline_seconds: a request without an answer after so long is refused.
      hang_seconds: a model's process that has answered nothing for so long is killed and started again. A single call
        may not take longer.
    """

    max_batch_size: int = Field(default=64, ge=1)
    batch_timeout_micros: int = Field(default=0, ge=0)
    max_enqueued_batches: int = Field(default=16, ge=1)
    deadline_seconds: float = Field(default=10.0, gt=0)
    hang_seconds: float = Field(default=60.0, gt=0)


class LimitsConfig(Frozen):
    """What a single request may ask for.

    Attributes:
      body_bytes: of a REST body or a gRPC message.
      rows: its batch.
      k: answers per row; a model may allow fewer.
      history, exclude: items in one row's list, and in any other list of strings.
      string_bytes: of one id.
    """

    body_bytes: int = Field(default=1 << 20, ge=1024)
    rows: int = Field(default=1024, ge=1)
    k: int = Field(default=MAX_K, ge=1)
    history: int = Field(default=1000, ge=0)
    exclude: int = Field(default=1000, ge=0)
    string_bytes: int = Field(default=256, ge=1)


class ReleaseConfig(Frozen):
    """How new versions come into service.

    Attributes:
      poll_seconds: how often the models' folders are looked at.
      canary_fraction: the share of requests without a version or label that the newest version gets as `canary` until
        it is promoted; 0 serves the newest version to everybody as soon as it is warm.
    """

    poll_seconds: float = Field(default=1.0, gt=0)
    canary_fraction: float = Field(default=0.0, ge=0, lt=1)


class SecurityConfig(Frozen):
    """Who may ask.

    Attributes:
      tokens: a TOML file with the lists `predict` and `admin` of bearer tokens. Without it everybody may ask, and
        nobody may reload, promote or roll back over the network.
    """

    tokens: Path | None = None


class MonitoringConfig(Frozen):
    """What is measured while serving.

    Attributes:
      shadow_fraction: the share of `recommend` and `serving_default` requests of which the first row is also answered
        exactly, after the client has been answered, for the metric of live recall; 0 samples none. An exact answer
        takes a model's process as long as comparing with the whole catalogue does.
    """

    shadow_fraction: float = Field(default=0.001, ge=0, le=1)


class ServerConfig(Frozen):
    """All of it."""

    network: NetworkConfig = NetworkConfig()
    batching: BatchingConfig = BatchingConfig()
    limits: LimitsConfig = LimitsConfig()
    release: ReleaseConfig = ReleaseConfig()
    security: SecurityConfig = SecurityConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
