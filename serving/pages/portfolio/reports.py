"""Leadership report and health-score audits: files of the state directory, shown as pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastapi import Depends, Request
from starlette.responses import Response

from configs.runtime.state_directory import State, read_json
from serving.http.problems import ProblemError
from serving.online.current_state import Live
from serving.pages.common import PageRouter, common, visible_owners
from serving.pages.templating import PRIVATE, page

REPORT = "latest.html"
REPORT_POLICY = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""A report is one file with inline styles; scripts and other origins stay blocked."""

FOLDER, AUDIT_HTML, AUDIT_JSON = "audits", "audit.html", "audit.json"

_BRAND = '<p class="brand">Bellwether'
_BRAND_LINK = '<p class="brand"><a href="/">Bellwether</a>'


async def require_whole_company(live: Live, request: Request) -> None:
    """Refuse callers who may see only a part of the accounts.

    Raises
    ------
    ProblemError
        The caller sees the accounts of some owners only.
    """
    if visible_owners(live, request) is not None:
        raise ProblemError(
            "forbidden", "Reports contain accounts of the whole company. Leaders can open them."
        )


router = PageRouter(dependencies=[Depends(require_whole_company)])


@router.page("/report")
def report(live: Live) -> Response:
    """Return the latest leadership report."""
    path = live.workspace.state.reports / REPORT
    if path.is_file():
        return _report_file(path)
    return page("no_report.html", **common(live, "report"))


@router.page("/audits")
def audit_list(live: Live) -> Response:
    """Return the list of health-score audits."""
    return page("audits.html", **common(live, "report"), audits=audits(live.workspace.state))


@router.page("/audits/{name}")
def one_audit(name: str, live: Live) -> Response:
    """Return the page of one health-score audit."""
    path = audit_page(live.workspace.state, name)
    if path is None:
        raise ProblemError("not-found", f"There is no audit “{name[:200]}”.")
    return _report_file(path)


def _report_file(path: Path) -> Response:
    """Return a report file with a link back to the pages."""
    text = path.read_text(encoding="utf-8").replace(_BRAND, _BRAND_LINK, 1)
    return Response(
        text,
        media_type="text/html",
        headers={"Content-Security-Policy": REPORT_POLICY, **PRIVATE},
    )


@dataclass(frozen=True)
class AuditSummary:
    """Audit of a health score.

    Attributes
    ----------
    name : str
        Name of its folder.
    as_of : str
        Day of the audit.
    accounts : int
        Number of accounts with a health score.
    verdicts : sequence of (str, str)
        Outcome and verdict.
    """

    name: str
    as_of: str
    accounts: int
    verdicts: Sequence[tuple[str, str]]


def audits(state: State) -> list[AuditSummary]:
    """Return all audits in ``reports/audits/``, by name.

    Raises
    ------
    StateError
        A file is damaged.
    """
    folder = state.reports / FOLDER
    found = sorted(folder.glob(f"*/{AUDIT_JSON}")) if folder.is_dir() else []
    return [_read(path) for path in found]


def _read(path: Path) -> AuditSummary:
    content = read_json(path)
    targets = content["targets"]
    return AuditSummary(
        path.parent.name,
        content["as_of"],
        content["reading"]["accounts"],
        [(name, targets[name]["verdict"]["word"]) for name in content["order"]],
    )


def audit_page(state: State, name: str) -> Path | None:
    """Return the HTML file of an audit; None if there is no such audit."""
    folder = state.reports / FOLDER
    named = {path.name: path / AUDIT_HTML for path in folder.iterdir()} if folder.is_dir() else {}
    path = named.get(name)
    return path if path is not None and path.is_file() else None
