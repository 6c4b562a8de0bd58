"""Prometheus metrics with route templates: no account id ever becomes a label."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.values import MutexValue, ValueClass

SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one process; made when the service starts, not at import."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "bellwether_request_seconds",
            "Time from request to response.",
            ("method", "route", "status"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._accounts = Counter(
            "bellwether_accounts_total",
            "Accounts answered, by status.",
            ("status",),
            registry=self.registry,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    def count_accounts(self, counts: dict[str, int]) -> None:
        """Count accounts by the status they were answered with."""
        for status, n in counts.items():
            self._accounts.labels(status).inc(n)

    def expose(self) -> bytes:
        """Return the metrics as text: of every worker where several share a folder."""
        if ValueClass is not MutexValue:  # chosen when the library was imported
            together = CollectorRegistry()
            MultiProcessCollector(together)  # type: ignore[no-untyped-call]  # untyped library
            return generate_latest(together)
        return generate_latest(self.registry)
