"""What the server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """Counters of one server; several in one process do not share them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "retune_serving_requests", "Requests.", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "retune_serving_request_seconds",
            "From a request to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.first_token_seconds = Histogram(
            "retune_serving_first_token_seconds",
            "From an order to its first token.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.tokens = Counter(
            "retune_serving_tokens", "Tokens, of prompts and written.", ["kind"], registry=registry
        )
        self.in_flight = Gauge(
            "retune_serving_in_flight", "Requests being answered.", registry=registry
        )
        self.running = Gauge(
            "retune_serving_batch", "Answers that are computed at once.", registry=registry
        )
        self.waiting = Gauge(
            "retune_serving_queue", "Answers that wait for a place.", registry=registry
        )
        self.ready = Gauge(
            "retune_serving_ready", "1 while a proved model answers.", registry=registry
        )
        self.version = Gauge(
            "retune_serving_version",
            "Registered version that answers; 0 for none.",
            registry=registry,
        )
        self.restarts = Counter(
            "retune_serving_worker_restarts", "Processes that died.", registry=registry
        )
        self.returns = Counter(
            "retune_serving_challenger_returns",
            "Challengers that are asked no more: unfit, slow, or they failed too often.",
            registry=registry,
        )
        self.shadows = Counter(
            "retune_serving_shadows",
            "Requests that a challenger was asked in the shadow, by what became of them.",
            ["outcome"],
            registry=registry,
        )
        self.limited = Counter(
            "retune_serving_limited",
            "Requests beyond what a key may ask for in a minute.",
            ["limit"],
            registry=registry,
        )
        self.unkept = Counter(
            "retune_serving_unkept",
            "Requests that could not be written to the request log.",
            registry=registry,
        )
        self.swaps = Counter(
            "retune_serving_swaps",
            "Versions that an alias came to point to, by what became of them.",
            ["outcome"],
            registry=registry,
        )
