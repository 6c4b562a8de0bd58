"""Accounts of the last loads: names that change, and ids that vanish or are replaced.

Names, domains and billing ids are kept as hashes, in ``quality/accounts-<identity>.parquet`` for
the present accounts table and the one before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb

from configs.runtime.state_directory import State
from features.quality.changes.checks import named
from features.quality.changes.identities import comparable
from features.quality.context import QualityContext, count_of
from features.quality.report import Issue
from features.sources.files.sql import literal, open_duckdb

PREFIX = "accounts-"
VALUES = ("name", "domain", "billing_id")

LEAST_GONE, GONE_SHARE = 2, 0.01
"""Minimum number and share of accounts that are gone."""


def account_issues(context: QualityContext) -> Iterator[Issue]:
    """Report accounts that were renamed, are gone or have another id since the load before."""
    before = accounts_before(context.workspace.state, context.loaded.info("accounts").identity)
    if before is None:
        return
    with open_duckdb(files=[before, context.loaded.info("accounts").path]) as connection:
        moment = f"TIMESTAMP '{context.now}'"
        connection.execute(
            f"CREATE TEMP TABLE new AS {_identity_query(context, moment)}; "
            f"CREATE TEMP TABLE old AS SELECT * FROM read_parquet({literal(before)})"
        )
        whole = _list(connection, "SELECT account_id FROM old")
        renamed = _list(
            connection,
            "SELECT account_id FROM old JOIN new USING (account_id) "
            "WHERE old.name <> new.name ORDER BY 1",
        )
        fits = " OR ".join(f"o.{item} = n.{item}" for item in VALUES)
        pairs = connection.execute(
            f"SELECT o.account_id, min(n.account_id) FROM "
            f"(SELECT * FROM old ANTI JOIN new USING (account_id)) o "
            f"JOIN (SELECT * FROM new ANTI JOIN old USING (account_id)) n ON {fits} "
            f"GROUP BY 1 ORDER BY 1"
        ).fetchall()
        replaced = dict(pairs)
        gone = [
            item
            for item in _list(
                connection, "SELECT account_id FROM old ANTI JOIN new USING (account_id) ORDER BY 1"
            )
            if item not in replaced
        ]
    yield from _issues(context, renamed, replaced, gone, len(whole))


def _issues(
    context: QualityContext,
    renamed: list[str],
    replaced: dict[str, str],
    gone: list[str],
    whole: int,
) -> Iterator[Issue]:
    if renamed:
        detail = f"{count_of(len(renamed), whole, 'accounts')}: {named(renamed)}"
        issue = context.issue("accounts_renamed", "accounts", len(renamed), whole, detail)
        yield replace(issue, accounts=tuple(renamed))
    if replaced:
        shown = named([f"{old} is now {new}" for old, new in replaced.items()])
        detail = f"{count_of(len(replaced), whole, 'accounts')} with another id: {shown}"
        issue = context.issue("ids_replaced", "accounts", len(replaced), whole, detail)
        yield replace(issue, accounts=tuple(item for pair in replaced.items() for item in pair))
    if len(gone) >= max(LEAST_GONE, GONE_SHARE * whole):
        detail = f"{count_of(len(gone), whole, 'accounts')} are gone: {named(gone)}"
        issue = context.issue("accounts_gone", "accounts", len(gone), whole, detail)
        yield replace(issue, accounts=tuple(gone))


def _list(connection: duckdb.DuckDBPyConnection, query: str) -> list[str]:
    rows = connection.execute(query).fetchall()
    return [str(row[0]) for row in rows]


def _identity_query(context: QualityContext, moment: str) -> str:
    """Return SQL of the latest values of each account, as hashes."""
    parts = [
        f"md5(last({comparable(item)} ORDER BY known_at)) AS {item}"
        if context.has("accounts", item)
        else f"NULL::VARCHAR AS {item}"
        for item in VALUES
    ]
    path = literal(context.loaded.info("accounts").path)
    return (
        f"SELECT account_id, {', '.join(parts)} FROM read_parquet({path}) "
        f"WHERE known_at <= {moment} GROUP BY 1"
    )


def accounts_before(state: State, identity: str) -> Path | None:
    """Return the newest kept accounts of another identity, or None."""
    found = [path for path in _kept(state) if path.stem != f"{PREFIX}{identity}"]
    return found[-1] if found else None


def _kept(state: State) -> list[Path]:
    """Return the kept files, oldest first."""
    return sorted(
        state.quality.glob(f"{PREFIX}*.parquet"), key=lambda path: path.stat().st_mtime_ns
    )


def keep_accounts(context: QualityContext) -> None:
    """Keep the present accounts, and those of the load before; atomic."""
    state, info = context.workspace.state, context.loaded.info("accounts")
    path = state.quality / f"{PREFIX}{info.identity}.parquet"
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        work = path.with_suffix(".work")
        with open_duckdb(files=[info.path], folders=[path.parent]) as connection:
            query = _identity_query(context, f"TIMESTAMP '{context.now}'")
            connection.execute(f"COPY ({query}) TO {literal(work)} (FORMAT parquet)")
        work.replace(path)
    path.touch()  # the newest, also when an earlier content returns
    for old in _kept(state)[:-2]:
        old.unlink(missing_ok=True)
