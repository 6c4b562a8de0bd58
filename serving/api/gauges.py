"""Prometheus gauges of the service state: readiness, problems, age of the data."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product

from serving.http.prometheus import Metrics
from serving.integrations.webhooks import DEAD, WAITING
from serving.monitoring.report import TargetReport
from serving.online.server_state import ServerState

PARTS = ("release", "book", "ledger", "shadow", "webhooks")


def set_gauges(metrics: Metrics, live: ServerState) -> None:
    """Update every gauge."""
    metrics.set("ready", float(live.is_ready()))
    for part in PARTS:
        metrics.set("degraded", float(part in live.notes), part)
    for name, state in product(live.workspace.company.webhooks, (WAITING, DEAD)):
        metrics.set("webhook_messages", live.undelivered.get((name, state), 0), name, state)
    now = live.clock()
    if live.stage is not None and live.stage.scorer.peers.as_of:
        # the peer groups belong to the vectors of the online store
        filled = datetime.fromisoformat(live.stage.scorer.peers.as_of).replace(tzinfo=UTC)
        metrics.set("feature_age_seconds", (now - filled).total_seconds())
    if live.book is not None:
        served = now - datetime.fromisoformat(live.book.run.served_at)
        metrics.set("book_age_seconds", served.total_seconds())
    for target, report in (live.monitoring["targets"] if live.monitoring else {}).items():
        for name, value in _performance(report).items():
            if value is not None:
                metrics.set(name, float(value), target)


def _performance(report: TargetReport) -> dict[str, float | None]:
    """Return the gauges of one target, None where there are too few accounts."""
    area, scores, inputs = report["realised"]["auc"], report["scores"], report["inputs"]
    expected = report["expected"]
    return {
        "score_psi": scores["psi"] if scores else None,
        "inputs_moved": inputs["n_moved"] if inputs else None,
        "alarms": sum(words.startswith("ALARM") for words in report["words"]),
        "expected_auc": expected["auc"] if expected else None,
        "realised_auc": area["value"] if area else None,
        "realised_scores": report["realised"]["n"],
    }
