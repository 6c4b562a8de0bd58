"""Prometheus metrics; labels contain route templates, never account ids."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.values import MutexValue, ValueClass

from serving.http.shared_counters import catch_up, write_instead_of_mapping

GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "ready": ("1 if accounts can be scored.", ()),
    "degraded": ("1 while a part has a problem; see /v1/health.", ("part",)),
    "webhook_messages": ("Messages waiting for delivery or given up.", ("webhook", "state")),
    "feature_age_seconds": ("Age of the features in the online store.", ()),
    "book_age_seconds": ("Age of the latest published scores.", ()),
    "score_psi": ("PSI of the scores since the first score run of the model.", ("target",)),
    "inputs_moved": ("Model inputs with significant drift since training.", ("target",)),
    "alarms": ("Alarms of the latest monitoring report.", ("target",)),
    "expected_auc": (
        "AUC implied by the calibrated probabilities of the latest scores.",
        ("target",),
    ),
    "realised_auc": ("AUC within months of past scores with a known outcome.", ("target",)),
    "realised_scores": ("Past scores with a known outcome.", ("target",)),
}
"""Gauges by name with description and labels; they are updated on every read."""

SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Metrics of one process; created at service start, not at import."""

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
        """Record one request."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    def count_accounts(self, counts: dict[str, int]) -> None:
        """Count answered accounts by status."""
        for status, n in counts.items():
            self._accounts.labels(status).inc(n)

    def expose(self) -> bytes:
        """Return the metrics as text, of all workers if they share a folder."""
        if ValueClass is not MutexValue:  # set at import of the library
            catch_up()
            together = CollectorRegistry()
            MultiProcessCollector(together)  # type: ignore[no-untyped-call]  # untyped library
            return generate_latest(together)
        return generate_latest(self.registry)
