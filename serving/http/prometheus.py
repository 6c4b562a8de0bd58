"""Prometheus metrics with route templates: no account id ever becomes a label."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.values import MutexValue, ValueClass

from serving.http.shared_counters import catch_up, write_instead_of_mapping

GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "ready": ("1 when a score asked for now would be answered.", ()),
    "degraded": ("1 while something is wrong with a part; /v1/health says what.", ("part",)),
    "webhook_messages": ("Messages that wait or were given up.", ("webhook", "state")),
    "feature_age_seconds": ("Age of the features in the online store.", ()),
    "book_age_seconds": ("Age of the last published book.", ()),
    "score_psi": ("How far the scores moved since the model's first book.", ("target",)),
    "inputs_moved": ("Inputs that moved since training, as far as the book can show.", ("target",)),
    "alarms": ("Alarms of the last look at drift and performance.", ("target",)),
    "expected_auc": ("AUC that calibrated probabilities of the book imply.", ("target",)),
    "realised_auc": ("AUC within months of past scores that have an outcome.", ("target",)),
    "realised_scores": ("Past scores that have an outcome.", ("target",)),
}
"""Gauges by name: what they are, and their labels. They are set when they are read."""

SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one process; made when the service starts, not at import."""

    def __init__(self) -> None:
        write_instead_of_mapping()
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
        self._gauges = {
            name: Gauge(
                f"bellwether_{name}",
                about,
                labels,
                registry=self.registry,
                multiprocess_mode="mostrecent",
            )
            for name, (about, labels) in GAUGES.items()
        }

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set one of `GAUGES`."""
        gauge = self._gauges[name]
        (gauge.labels(*labels) if labels else gauge).set(value)

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
            catch_up()
            together = CollectorRegistry()
            MultiProcessCollector(together)  # type: ignore[no-untyped-call]  # untyped library
            return generate_latest(together)
        return generate_latest(self.registry)
