"""What is true at the moment of asking, for Prometheus: readiness, trouble, age of data."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import product
from typing import Any

from serving.http.prometheus import Metrics
from serving.integrations.webhooks import DEAD, WAITING
from serving.online.server_state import ServerState

PARTS = ("release", "book", "ledger", "shadow", "webhooks")


def set_gauges(metrics: Metrics, live: ServerState) -> None:
    """Set every gauge to what holds now."""
    metrics.set("ready", float(live.is_ready()))
    for part in PARTS:
        metrics.set("degraded", float(part in live.notes), part)
    for name, state in product(live.workspace.company.webhooks, (WAITING, DEAD)):
        metrics.set("webhook_messages", live.undelivered.get((name, state), 0), name, state)
    now = live.clock()
    if live.stage is not None and live.stage.scorer.peers.as_of:
        # the peers lie beside the vectors that the online store was filled with
        filled = datetime.fromisoformat(live.stage.scorer.peers.as_of).replace(tzinfo=UTC)
        metrics.set("feature_age_seconds", (now - filled).total_seconds())
    if live.book is not None:
        served = now - datetime.fromisoformat(live.book.run.served_at)
        metrics.set("book_age_seconds", served.total_seconds())
    for target, told in (live.monitoring or {}).get("targets", {}).items():
        for name, value in _performance(told).items():
            if value is not None:
                metrics.set(name, float(value), target)


def _performance(told: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the gauges of one target, None where so few accounts cannot tell."""
    area = told["realised"]["auc"]
    return {
        "score_psi": (told["scores"] or {}).get("psi"),
        "inputs_moved": (told["inputs"] or {}).get("n_moved"),
        "alarms": sum(words.startswith("ALARM") for words in told["words"]),
        "expected_auc": (told["expected"] or {}).get("auc"),
        "realised_auc": area["value"] if area else None,
        "realised_scores": told["realised"]["n"],
    }
