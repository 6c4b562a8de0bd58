"""Digests of a company: gathered from the published book, and sent by mail or to a channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from configs.runtime.errors import ConfigError, DataError
from configs.schema.plays import load_plays
from configs.schema.workspace import Workspace
from serving.auth.permissions import read_managers
from serving.batch.score_book import read_latest, read_table
from serving.integrations.digest_messages import Digest, mail, send
from serving.pages.history.charts import HistoryCharts
from serving.pages.portfolio.sums import whole
from serving.workflow.digest import (
    Situation,
    Totals,
    digest_of_leader,
    digest_of_manager,
    digest_of_owner,
    owners_of,
)
from serving.workflow.escalations import escalated
from serving.workflow.risk_store import RiskStore
from serving.workflow.updates import news
from training.model.bands import newest_vectors
from training.registry.releases import read_current

READER = "digest"
"""Name under which the book of the last digest is remembered."""


@dataclass(frozen=True)
class Sent:
    """Digests that were sent, and those without an address."""

    sent: Sequence[Digest]
    without_address: Sequence[Digest]


def digests(workspace: Workspace, now: datetime) -> list[Digest]:
    """Return the digests of today: of every CSM, every manager with escalations, every leader.

    On the weekday of `digest.weekday` they hold everything, on other days new notices only. Empty
    digests are left out. A second call with the same book returns the same digests.

    Raises
    ------
    DataError
        No scores are published.
    """
    run = read_latest(workspace.state)
    if run is None:
        raise DataError("no scores are published yet", fix="bellwether score COMPANY")
    table, plays = read_table(run), load_plays(workspace.folder)
    risks = RiskStore.open(workspace, plays)
    try:
        charts = HistoryCharts(workspace.state)
        earlier = charts.earlier(risks.look(READER, run.run_id)) or charts.about_a_week_before(run)
        before = read_table(earlier) if earlier else None
        managers = _managers(workspace)
        found = Situation(
            rows=table.to_pylist(),
            totals=_totals(table),
            totals_before=_totals(before) if before is not None else None,
            updates=news(before, table) if before is not None else [],
            risks=risks.open_risks(),
            escalations=escalated(table, risks.escalated_risks(), plays, managers, now),
            plays=plays,
            today=now.date(),
            currency=workspace.company.reporting_currency,
        )
    finally:
        risks.close()
    is_weekly = f"{now:%A}".lower() == workspace.company.digest.weekday
    made = [
        digest_of_owner(found, owner, urgent_only=not is_weekly) for owner in owners_of(found.rows)
    ]
    if is_weekly:
        made += [digest_of_manager(found, each) for each in sorted(set(managers.values()))]
        people = workspace.company.access.people
        made += [
            digest_of_leader(found, name)
            for name, person in sorted(people.items())
            if person.role == "leader"
        ]
    return [digest for digest in made if digest.lines]


def _totals(table: pa.Table) -> Totals:
    total = whole(table)
    return Totals(total.lost_91d, total.arr_high)


def _managers(workspace: Workspace) -> Mapping[str, str]:
    release = read_current(workspace.state.releases)
    if release is None:
        return {}
    return read_managers(newest_vectors(workspace.state, release.feature_set["hash"]))


def addresses(workspace: Workspace) -> Mapping[str, str]:
    """Return the mail address of each person of digests, from `access.people`."""
    found = {}
    for name, person in workspace.company.access.people.items():
        if "@" in name:
            found[person.owner_id or name] = name
            found.setdefault(name, name)
    return found


def send_digests(workspace: Workspace, made: Sequence[Digest]) -> Sent:
    """Send digests by mail to everyone with an address.

    Raises
    ------
    ConfigError
        The mail server or the address of the service is not configured.
    UnavailableError
        The mail server does not take them.
    """
    server = workspace.places.smtp_url.get_secret_value()
    if not server:
        raise ConfigError(
            "no mail server is configured",
            where="BELLWETHER_SMTP_URL",
            fix="set it to smtp://HOST:587, or leave --send out to print the digests",
        )
    settings = workspace.company.digest
    known = addresses(workspace)
    reached = [digest for digest in made if digest.person in known]
    send(
        [
            mail(digest, settings.sender, known[digest.person], settings.address)
            for digest in reached
        ],
        server,
    )
    return Sent(reached, [digest for digest in made if digest.person not in known])
