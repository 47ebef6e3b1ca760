"""The metrics of the server, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

# Upper bounds of the histograms.
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
IMAGES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """Counters of one server. Labels are paths of routes and names of models, never clients' text.

    accepted_images: how many images are accepted and not yet answered.
    """

    def __init__(self, accepted_images: Callable[[], float] = lambda: 0):
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        accepted = Gauge(
            "mrcnn_accepted_images", "Accepted and not yet answered", registry=registry
        )
        accepted.set_function(accepted_images)
        self.requests = Counter(
            "mrcnn_requests", "Answers", ["method", "path", "code"], registry=registry
        )
        self.request_seconds = Histogram(
            "mrcnn_request_seconds",
            "From the head of a request to the head of its answer",
            ["path"],
            buckets=SECONDS,
            registry=registry,
        )
        self.batch_images = Histogram(
            "mrcnn_batch_images", "Images of a batch", ["model"], buckets=IMAGES, registry=registry
        )
        self.batch_seconds = Histogram(
            "mrcnn_batch_seconds",
            "Detection of a batch",
            ["model"],
            buckets=SECONDS,
            registry=registry,
        )
        self.detections = Counter(
            "mrcnn_detections",
            "Objects found, from the lowest score on that a request may ask for",
            ["model"],
            registry=registry,
        )
        self.reloads = Counter(
            "mrcnn_reloads", "Reloaded weight files", ["model", "result"], registry=registry
        )

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format, version 0.0.4."""
        return generate_latest(self._registry)
