"""What a server counts, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The counters of one app; two apps in a process do not share them."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "spikeclip_requests", "Answered requests.", ("route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "spikeclip_request_seconds", "From the first byte of a request to its answer.", ("route",),
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._inputs = Histogram(
            "spikeclip_batch_inputs", "Inputs of a batch.", ("kind",), buckets=_SIZES, registry=self._registry
        )
        self._engine = Histogram(
            "spikeclip_engine_seconds", "Seconds of a batch on the engine.", ("kind",), buckets=_SECONDS,
            registry=self._registry,
        )  # fmt: skip
        self.waiting = Gauge(
            "spikeclip_requests_now", "Requests that are worked on or wait.", registry=self._registry
        )

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request; `route` as it is declared, so that strangers cannot make names of counters."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, kind: str, inputs: int, seconds: float) -> None:
        """Count a batch of the engine."""
        self._inputs.labels(kind).observe(inputs)
        self._engine.labels(kind).observe(seconds)

    def text(self) -> bytes:
        """Return all counters in Prometheus's format."""
        return generate_latest(self._registry)
