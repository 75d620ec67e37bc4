"""Metrics of requests."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

_REQUESTS = Counter("inference_gateway_requests_total", "Requests answered.", ["method", "status"])
_SECONDS = Histogram(
    "inference_gateway_request_seconds",
    "Time until a response began, seconds.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
# Callers choose the method: unknown ones must not create new time series.
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "QUERY"})
_children: dict[tuple[str, int], Counter] = {}


def answered(method: str, status: int, seconds: float) -> None:
    child = _children.get((method, status))
    if child is None:
        known = method if method in _METHODS else "other"
        child = _REQUESTS.labels(known, str(status))
        if known == method:
            _children[method, status] = child
    child.inc()
    _SECONDS.observe(seconds)
