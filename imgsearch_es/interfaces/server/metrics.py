"""Figures for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The figures of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "imgsearch_requests", "Requests answered.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "imgsearch_request_seconds",
            "Seconds until an answer begins.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_progress = Gauge(
            "imgsearch_requests_in_progress", "Requests being answered.", registry=self.registry
        )
        self.refused = Counter(
            "imgsearch_refused", "Requests refused at the door.", ["reason"], registry=self.registry
        )
        self.batches = Histogram(
            "imgsearch_model_batch_pictures",
            "Pictures of a forward pass.",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self.registry,
        )
        self.thumbnails = Counter(
            "imgsearch_thumbnails",
            "Thumbnails given, from the cache (hit) or made (miss).",
            ["cache"],
            registry=self.registry,
        )
        self.pictures = Gauge(
            "imgsearch_pictures", "Pictures in the index, when last asked.", registry=self.registry
        )

    def text(self) -> bytes:
        """All of them, in Prometheus's text format."""
        return generate_latest(self.registry)
