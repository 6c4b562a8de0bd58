"""A small company whose events arrive in one file per day, for the tests of the refresh."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import yaml

ACCOUNTS = 60
HISTORY_DAYS = 500
GRID_DAYS = 335
DAILY_FILES = 12
"""Days with a file each; earlier ones share one per month."""


@dataclass(frozen=True)
class NightlyCompany:
    """Company folder, whose last event lies on the day before `today`.

    Every fourth account fades and leaves, spread over a year.
    """

    folder: Path
    today: date
    is_pinned: bool = True
    origin: date | None = None
    """The day the company was written, as of which accounts begin and leave."""

    @property
    def written_on(self) -> date:
        return self.origin or self.today

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def options(self) -> tuple[str, ...]:
        return (str(self.folder), "--state", str(self.state))

    def configure(self, **changes) -> None:
        config = {
            "name": "nightly",
            "reporting_currency": "GBP",
            "inputs": {
                "accounts": "accounts.csv",
                "subscriptions": "subscriptions.csv",
                "usage_events": "usage/*.csv",
            },
            "grid": {"every": "month", "start_on": self.written_on - timedelta(days=GRID_DAYS)},
            "targets": {
                "churn": {"outcome": "churn", "observed_in": "subscriptions", "horizon_days": 31}
            },
            "training": {
                "folds": 2,
                "fold_days": 61,
                "model_seeds": 1,
                "bootstrap_draws": 100,
                "threads": 1,
                "tuning": {"trials": 0},
            },
            **({"now": f"{self.today}T00:00:00Z"} if self.is_pinned else {}),
            **changes,
        }
        (self.folder / "company.yaml").write_text(yaml.safe_dump(config))

    def write(self) -> NightlyCompany:
        """Write the configuration and all tables up to the day before `today`."""
        self.configure()
        self.write_accounts(ACCOUNTS)
        terms = [("account_id", "subscription_id", "started_on", "ended_on", "arr", "currency")]
        for i in range(ACCOUNTS):
            end = self.left_on(i)
            terms.append((f"A-{i:02d}", f"S-{i}", self.began(i), end, 1_000 * (1 + i % 7), "GBP"))
        write_csv(self.folder / "subscriptions.csv", terms)
        first = self.today - timedelta(days=HISTORY_DAYS)
        for offset in range(HISTORY_DAYS):
            self.write_day(first + timedelta(days=offset))
        return self

    def write_accounts(self, n: int) -> None:
        rows = [(f"A-{i:02d}", self.began(i), f"Company {i}") for i in range(n)]
        write_csv(self.folder / "accounts.csv", [("account_id", "created_at", "name"), *rows])

    def began(self, i: int) -> date:
        return self.written_on - timedelta(days=HISTORY_DAYS + i)

    def left_on(self, i: int) -> date | None:
        return self.written_on - timedelta(days=20 + 5 * i) if i % 4 == 0 else None

    def file_of(self, day: date) -> Path:
        is_recent = (self.written_on - day).days <= DAILY_FILES
        name = f"{day}" if is_recent else f"{day:%Y-%m}"
        return self.folder / "usage" / f"{name}.csv"

    def write_day(self, day: date, *, last: int = ACCOUNTS) -> Path:
        """Add the events of one day."""
        path = self.file_of(day)
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            write_csv(path, [("account_id", "user_id", "occurred_at", "feature", "event_id")])
        with path.open("a", newline="") as handle:
            csv.writer(handle, lineterminator="\n").writerows(self.events(day, last))
        return path

    def events(self, day: date, last: int = ACCOUNTS) -> Iterable[tuple]:
        for i in range(last):
            end = self.left_on(i)
            if end is not None and day >= end:
                continue
            is_fading = end is not None and (end - day).days < 70
            for user in range(1 if is_fading else 2 + i % 3):
                if (day.toordinal() + i + user) % 2 == 0:
                    at = f"{day}T{8 + user:02d}:{i:02d}:00Z"
                    yield f"A-{i:02d}", f"{i}-{user}", at, "report", f"{day}-{i}-{user}"

    def forward(self, days: int = 1) -> NightlyCompany:
        """Return the company as of a later day, with the files of the days between.

        The older files stay as they are: only new ones are added.
        """
        today = self.today + timedelta(days=days)
        later = NightlyCompany(self.folder, today, self.is_pinned, self.written_on)
        for offset in range(days):
            day = self.today + timedelta(days=offset)
            path = self.folder / "usage" / f"{day}.csv"
            header = ("account_id", "user_id", "occurred_at", "feature", "event_id")
            write_csv(path, [header, *self.events(day)])
        if self.is_pinned:
            later.configure()
        return later


def write_csv(path: Path, rows: Iterable[Iterable[object]]) -> None:
    with path.open("w", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows(rows)


def utc_today() -> date:
    return datetime.now(UTC).date()
