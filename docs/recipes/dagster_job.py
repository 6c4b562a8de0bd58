"""Dagster job that refreshes Bellwether every night and waits for data that is not ready.

Install Bellwether in an environment of its own and set the paths below. Exit code 8 (not ready) is
tried again every half hour; every other error fails at once, because a retry cannot help.
"""

import subprocess

from dagster import (
    Definitions,
    Failure,
    OpExecutionContext,
    RetryRequested,
    ScheduleDefinition,
    job,
    op,
)

BELLWETHER = "/opt/bellwether/bin/bellwether"
COMPANY = "/srv/bellwether/acme"
STATE = "/srv/bellwether/state/acme"

NOT_READY = 8
LOCKED = 5


@op
def refresh(context: OpExecutionContext) -> None:
    """Run the refresh; its summary is in the log of the step."""
    command = [BELLWETHER, "refresh", COMPANY, "--state", STATE]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    context.log.info(done.stdout)
    if done.returncode in (NOT_READY, LOCKED):
        raise RetryRequested(max_retries=8, seconds_to_wait=1_800)
    if done.returncode:
        raise Failure(f"exit code {done.returncode}: {done.stderr}", allow_retries=False)


@job
def bellwether_refresh() -> None:
    """Refresh the scores of one company."""
    refresh()


definitions = Definitions(
    jobs=[bellwether_refresh],
    schedules=[ScheduleDefinition(job=bellwether_refresh, cron_schedule="0 3 * * *")],
)
