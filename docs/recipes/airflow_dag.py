"""Airflow 3 DAG that refreshes Bellwether every night and waits for data that is not ready.

Install Bellwether in an environment of its own and set the paths below. Exit code 8 (not ready) is
tried again every half hour; every other error fails at once, because a retry cannot help.
"""

from __future__ import annotations

import subprocess
from datetime import datetime, timedelta

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException

BELLWETHER = "/opt/bellwether/bin/bellwether"
COMPANY = "/srv/bellwether/acme"
STATE = "/srv/bellwether/state/acme"

NOT_READY = 8
LOCKED = 5


@dag(
    schedule="0 3 * * *",
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001  Airflow reads it in its own time zone
    catchup=False,
    max_active_runs=1,
)
def bellwether_refresh() -> None:
    """Refresh the scores of one company."""

    @task(retries=8, retry_delay=timedelta(minutes=30), execution_timeout=timedelta(hours=4))
    def refresh() -> None:
        """Run the refresh; its summary is in the log of the task."""
        command = [BELLWETHER, "refresh", COMPANY, "--state", STATE]
        code = subprocess.run(command, check=False).returncode  # noqa: S603  fixed arguments
        if code in (NOT_READY, LOCKED):
            raise AirflowException(f"exit code {code}: not ready or locked, tried again later")
        if code:
            raise AirflowFailException(f"exit code {code}: the earlier scores stay published")

    refresh()


bellwether_refresh()
