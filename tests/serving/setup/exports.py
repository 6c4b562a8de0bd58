"""Exports of a made-up company, as raw files of its tools; twelve accounts by default."""

from __future__ import annotations

import csv
import io
from datetime import date, timedelta
from pathlib import Path

N_ACCOUNTS = 12
TODAY = date(2026, 6, 1)
START = date(2024, 3, 1)


def text_of(header: str, rows) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header.split(","))
    writer.writerows(rows)
    return out.getvalue()


def begins(i: int) -> date:
    return START + timedelta(days=(13 * i + i // 30) % 389)


def left(i: int) -> date | None:
    """The first day without a contract: every fourth account leaves, at a renewal."""
    gone = begins(i) + timedelta(days=365 * (1 + i % 8 // 4))
    return gone if i % 4 == 3 and gone < TODAY else None


def accounts(n: int) -> str:
    return text_of(
        "Client Ref,Client Name,Web Site,Customer Since,CSM",
        [
            (f"C-{100 + i}", f"Client {i} Ltd", f"www.client{i}.example", begins(i), f"csm{i % 2}")
            for i in range(n)
        ],
    )


def subscriptions(n: int) -> str:
    rows = []
    for i in range(n):
        begun, number = begins(i), 0
        while begun < min(TODAY, left(i) or TODAY):
            until = begun + timedelta(days=365)
            ended = until if until == left(i) else ""
            arr = 1200 * (1 + i % 4) * (1 + number)
            rows.append((f"S-{i}-{number}", f"C-{100 + i}", begun, until, ended, arr, "EUR"))
            begun, number = until, number + 1
    return text_of("subscription_id,account_id,started_on,renews_on,ended_on,arr,currency", rows)


def events(n: int) -> str:
    rows = []
    for i in range(n):
        last = (left(i) or TODAY) - timedelta(days=1)
        moment = begins(i) + timedelta(days=2)
        while moment <= last:
            for user in range(1 + i % 3):
                rows.append(
                    (
                        f"u{user}@client{i}.example",
                        f"{moment} 1{user}:{i % 60:02}:00",
                        ("report_viewed", "export_clicked")[(moment.day + user + i) % 2],
                    )
                )
            is_fading = left(i) is not None and (last - moment).days < 120
            moment += timedelta(days=17 if is_fading else 4 + i % 5)
    return text_of("user,event_time,action", rows)


FILES = {"clients.csv": accounts, "subscriptions.csv": subscriptions, "usage_log.csv": events}


def write_exports(folder: Path, n: int = N_ACCOUNTS) -> Path:
    """Write the exports into a folder, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in FILES.items():
        (folder / name).write_text(content(n), encoding="utf-8")
    return folder
