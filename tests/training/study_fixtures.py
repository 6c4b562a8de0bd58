"""A simulated company's evidence: accounts with a known risk, scored through four periods."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from configs.runtime.state_directory import State
from configs.schema.company import Company, parse_company
from configs.schema.workspace import Workspace
from training.candidates.gates import evaluate_gates
from training.evaluation.evaluate import evaluate
from training.evaluation.sampling import Drawing
from training.fitting.fit import choose_tier
from training.report.content import report_bootstrap

NOW = datetime(2026, 7, 1, tzinfo=UTC)
FIRST = pd.Timestamp("2025-04-01", tz="UTC")
MONTHS = 12
SEGMENTS = ("Enterprise", "Mid-market", "Small business")
TUNED = "tuning lowered log-loss from 0.2400 to 0.2346"


@dataclass(frozen=True)
class Evidence:
    """What `build_report` takes."""

    workspace: Workspace
    quality: dict[str, Any]
    contracts: dict[str, dict[str, Any]]
    evaluations: dict[str, dict[str, Any]]
    gates: dict[str, Any]
    out_of_time: dict[str, pd.DataFrame]
    book: list[dict[str, Any]]
    release: dict[str, Any]
    now: datetime = NOW

    def parts(self) -> dict[str, Any]:
        names = ("quality", "contracts", "evaluations", "gates", "out_of_time", "book", "release")
        return {name: getattr(self, name) for name in names} | {"now": self.now}


def company() -> Company:
    return parse_company(
        {
            "name": "northwind_saas",
            "title": "Northwind SaaS",
            "about": "Simulated company.",
            "reporting_currency": "EUR",
            "targets": {
                "churn": {"outcome": "churn", "observed_in": "subscriptions"},
                "expansion": {"outcome": "expansion", "observed_in": "subscriptions"},
            },
            "training": {"bootstrap_draws": 200},
        },
        where="test",
    )


def logistic(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def predictions(
    *, seed: int = 3, accounts: int = 700, strength: float = 1.1, base: float = -3.6,
    is_growth: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """Monthly rows of each account until its decision; scores see its true risk through noise."""
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=accounts)
    seen = 0.85 * risk + 0.5 * rng.normal(size=accounts)
    arr = np.round(np.exp(rng.normal(10.3, 0.9, accounts)), -2)
    own = 70 - (12 if not is_growth else -12) * risk + 14 * rng.normal(size=accounts)
    renewal = rng.integers(0, 365, accounts)
    gone = np.full(accounts, 10_000)
    for month in range(MONTHS + 4):
        near = 0.8 * (np.abs((renewal - 30 * month) % 365 - 60) < 40)
        leaves = rng.random(accounts) < logistic(base - 0.4 + strength * risk + near)
        gone = np.where(leaves & (gone == 10_000), month * 30 + rng.integers(3, 27, accounts), gone)
    parts = []
    for month in range(MONTHS):
        day = 30 * month
        here = np.flatnonzero(gone > day)
        due = (renewal[here] - day) % 365
        near = 0.8 * (np.abs(due - 60) < 40)
        lead = gone[here] - day
        label = (lead <= 91).astype("int8")
        logit = base + 0.8 + strength * seen[here] + near
        parts.append(
            pd.DataFrame({
                "entity_id": [f"A{i:04d}" for i in here],
                "as_of": FIRST + pd.Timedelta(days=day),
                "label": label,
                "label_known_at": FIRST + pd.Timedelta(days=day + 91),
                "decision_at": [
                    FIRST + pd.Timedelta(days=int(gone[i])) if y else pd.NaT
                    for i, y in zip(here, label, strict=True)
                ],
                "arr": np.where(here % 50 == 0, np.nan, arr[here]),
                "segment": [SEGMENTS[i % 3] for i in here],
                "is_under_contract": here % 5 != 0,
                "days_to_renewal": due.astype(float),
                "health_score": np.where(here % 9 == 0, np.nan, own[here]),
                "fold": month // 3 + 1,
                "is_newcomer": here % 11 == 0,
                "raw": logit,
                "p_constant": 0.1,
                "p_calendar": logistic(base + 0.9 + near),
                "p_best_feature": logistic(base + 0.8 + 0.5 * strength * seen[here]
                                           + 0.4 * rng.normal(size=len(here))),
                "p_health_score": logistic(base + 0.8 - 0.04 * (own[here] - 70)),
                "p_logistic": logistic(logit + 0.4 * rng.normal(size=len(here))),
                "p_model_raw": logistic(1.3 * logit),
                "p_model": logistic(logit),
            })
        )  # fmt: skip
    rows = pd.concat(parts, ignore_index=True)
    rows["decision_at"] = pd.to_datetime(rows["decision_at"], utc=True)
    rows["is_headline"] = ~rows.duplicated(["entity_id", "fold"])
    return rows


def folds_of(rows: pd.DataFrame) -> pd.DataFrame:
    """The table `training.data.splits.describe` makes."""
    table = []
    for number, part in rows.groupby("fold"):
        first = part[part["is_headline"]]
        cutoff = part["as_of"].min()
        table.append({
            "fold": number,
            "cutoff": cutoff,
            "test_until": cutoff + pd.Timedelta(days=90),
            "train_from": FIRST - pd.Timedelta(days=500),
            "train_to": cutoff - pd.Timedelta(days=92),
            "known_to": cutoff,
            "n_train": 4_000 + 900 * int(str(number)),
            "n_train_events": 150 + 40 * int(str(number)),
            "n_test": len(part),
            "n_headline": len(first),
            "n_headline_events": int(first["label"].sum()),
        })  # fmt: skip
    return pd.DataFrame(table)


def contract(name: str, words: str, rows: pd.DataFrame, *, until_renewal: bool) -> dict[str, Any]:
    excluded = {
        "window not yet observed": 1_412,
        "too_new": 233,
        "notice_given": 118,
        "closed": 640,
    }
    used = len(rows) + 5_200
    return {
        "target": name,
        "outcome": name,
        "observed_in": "subscriptions",
        "horizon_days": 91,
        "lead_time_days": 0,
        "margin": 0.1,
        "until_renewal": until_renewal,
        "label_version": 1,
        "grace_days": 45,
        "words": words,
        "rows": used + sum(excluded.values()),
        "used_rows": used,
        "entities": int(rows["entity_id"].nunique()),
        "event_rows": int(rows["label"].sum()),
        "event_entities": int(rows.loc[rows["label"] == 1, "entity_id"].nunique()),
        "excluded": excluded,
    }


def quality() -> dict[str, Any]:
    facts = {
        "rows_read": 1_203_441, "rows": 1_202_877, "rows_quarantined": 553, "rows_duplicate": 11,
        "last_happened": "2026-06-30T23:50:00",
    }  # fmt: skip
    issue = {
        "code": "late_arrivals", "table": "usage_events", "rows": 4_120, "share": 0.0034,
        "detail": "4,120 of 1,202,877 rows (0.3 %)", "affects": ["adoption signals"],
        "severity": "warning", "grade": "A",
        "title": "rows that became visible more than a week after they happened",
        "to_do": "load later, or set known_delay_days",
    }  # fmt: skip
    return {
        "company": "Northwind SaaS",
        "now": NOW.isoformat(),
        "grade": "B",
        "issues": [
            issue | {"code": "unknown_accounts", "table": "support_tickets", "grade": "B",
                     "severity": "error", "title": "rows of accounts that do not exist",
                     "detail": "212 of 48,209 rows (0.4 %)",
                     "to_do": "load all accounts, including former ones"},
            issue,
            issue | {"severity": "info", "title": "to know"},
        ],
        "tables": {"usage_events": facts, "accounts": facts | {"rows_read": 700, "rows": 700,
                   "rows_quarantined": 0, "rows_duplicate": 0, "last_happened": None}},
        "gaps": {"touches": "no record of contact: treated accounts cannot be told apart"},
    }  # fmt: skip


def book(seed: int = 5, accounts: int = 420) -> list[dict[str, Any]]:
    """Answers as the service gives them."""
    rng = np.random.default_rng(seed)
    kinds = ("scored", "too_new", "notice_given", "pending_renewal")
    answers: list[dict[str, Any]] = []
    for i in range(accounts):
        status = kinds[0 if i % 14 else 1 + (i // 14) % 3]
        answer: dict[str, Any] = {
            "account_id": f"A{i:04d}",
            "status": status,
            "status_text": None,
            "name": f"Account {i:04d}",
            "segment": SEGMENTS[i % 3],
            "arr": None if i % 60 == 7 else float(np.round(np.exp(rng.normal(10.3, 0.9)), -2)),
            "as_of": "2026-07-01T00:00:00Z",
        }
        if status == "scored":
            risk, growth = logistic(rng.normal(-2.6, 1.1, 2))
            answer["scores"] = {
                "churn": score("churn", float(risk), i),
                "expansion": score("expansion", float(growth), i),
            }
        answers.append(answer)
    return answers


def score(target: str, p: float, i: int) -> dict[str, Any]:
    is_renewal = target == "churn" and i % 5 != 0
    users = 3 + i % 9
    aside = f"({users + 9} twelve weeks earlier; 14 at similar accounts)"
    fact = f"Active users {users} in the last 28 days {aside}"
    other = f"Days since the last core action: {20 + i % 30} days (4 at similar accounts)"
    moves = "a higher risk of leaving" if target == "churn" else "a higher chance of growth"
    reason = {
        "code": f"{target}.adoption.raises", "theme": "adoption", "direction": "raises",
        "points": 0.1, "text": f"Usage: associated with {moves}",
        "facts": [{"text": fact}, {"text": other}],
    }  # fmt: skip
    support = reason | {
        "theme": "support",
        "text": f"Support: associated with {moves}",
        "facts": [{"text": "Tickets open for longer than a week: 4 (0 twelve weeks earlier)"}],
    }
    return {
        "target": target,
        "outcome": target,
        "probability": p,
        "band": "high" if p >= 0.3 else "elevated" if p >= 0.15 else "low",
        "asks_about": "renewal" if is_renewal else "horizon",
        "until": f"2026-{8 + i % 4:02d}-15" if is_renewal else "2026-09-30",
        "raises": [reason, support] if p >= 0.15 else [],
    }


def evidence(folder: Path, **changes: Any) -> Evidence:
    """Everything `build_report` takes, of a good churn score and a weak one for expansion."""
    made = company()
    out_of_time = {
        "churn": predictions(**changes),
        "expansion": predictions(
            seed=11, accounts=260, strength=0.35, base=-4.2, is_growth=True
        ).drop(columns="p_health_score"),
    }
    out_of_time["expansion"]["health_score"] = np.nan
    drawing: Drawing = report_bootstrap(made)
    evaluations = {
        name: evaluate(rows, folds_of(rows), drawing, target=name, over="time", tuning=TUNED)
        for name, rows in out_of_time.items()
    }
    judgements = {
        name: evaluate_gates(found, choose_tier(300), made.gates)
        for name, found in evaluations.items()
    }
    words = {
        "churn": "churn: the decision to leave falls within 91 days; for an account under "
        "contract, by the renewal date plus 45 days of grace",
        "expansion": "expansion: recurring revenue rises 10% within 91 days, signed uplifts and "
        "currency apart",
    }
    contracts = {
        name: contract(name, words[name], rows, until_renewal=name == "churn")
        for name, rows in out_of_time.items()
    }
    release = {
        "release_id": "20260701-0a1b2c3d4e",
        "created_at": NOW.isoformat(),
        "bundles": {
            name: {"sha": ("a1" if name == "churn" else "b2") * 32, "verdict": found.verdict}
            for name, found in judgements.items()
        },
        "feature_set": {"hash": "f00dfeed1234", "names": [f"feature_{i}" for i in range(88)]},
        "bands": {name: {"elevated": 0.15, "high": 0.3} for name in out_of_time},
        "reason_catalogue_version": "1c2d3e4f5a6b",
        "label_contracts": contracts,
        "config_hash": made.config_hash,
        "evidence": {},
        "note": "",
    }
    return Evidence(
        Workspace(company=made, folder=folder, data=folder, state=State(folder / "state")),
        quality(),
        contracts,
        {name: found.as_dict() for name, found in evaluations.items()},
        {name: found.as_dict() for name, found in judgements.items()},
        out_of_time,
        book(),
        release,
    )


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return evidence(tmp_path_factory.mktemp("northwind"))
