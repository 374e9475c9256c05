"""What Prometheus reads."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest

_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 2.0, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Every metric of one server. Labels never hold what a client made up."""

    def __init__(self) -> None:
        """Starts at zero."""
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "recsys_requests",
            "Answered requests, by protocol, method, model and status: of REST the HTTP status, of gRPC the code.",
            ("protocol", "method", "model", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "recsys_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ("protocol", "method"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_rows = Histogram(
            "recsys_batch_rows",
            "Rows of one call of a model, of all requests that shared it.",
            ("model",),
            buckets=_ROWS,
            registry=self.registry,
        )
        self.version = Gauge(
            "recsys_model_version", "The version that serves under a label.", ("model", "label"), registry=self.registry
        )
        self.loads = Counter(
            "recsys_model_loads",
            "Versions loaded, refused for good, or failed and to be tried again.",
            ("model", "outcome"),
            registry=self.registry,
        )
        self.index_recall = Gauge(
            "recsys_index_recall",
            "Recall of a loaded index against exact search, as measured when it was exported.",
            ("model", "version"),
            registry=self.registry,
        )
        self.live_recall = Summary(
            "recsys_live_recall",
            "Recall of sampled live requests against exact search: the sum over requests, and their number.",
            ("model", "version"),
            registry=self.registry,
        )

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
