"""Report for leadership: one self-contained page, and the same numbers as JSON."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from configs.runtime import formatting
from configs.runtime.errors import DataError
from configs.runtime.hashing import canonical_json, digest
from configs.runtime.state_directory import new_folder, write_text_atomically
from configs.schema.workspace import Workspace
from training.evaluation.metrics import AUC_POOLED, AUC_WITHIN
from training.forecast import charts as forecast_charts
from training.report.content import ReportInputs, report_content
from training.report.content_types import JsonContent, ReportContent
from training.reporting import charts, report_text
from training.validation.content_types import CheckContent
from training.validation.score_evidence import EQUIVALENCE
from training.validation.verdict import PassMarks

PAGE, STYLE = "report.html.j2", "report.css"
HTML, JSON = "report.html", "report.json"
LATEST_HTML, LATEST_JSON = "latest.html", "latest.json"

SECTIONS = {
    "forecast": "The forecast",
    "growth": "Kinds and size of growth",
    "served": "Realised outcomes of served scores",
    "interventions": "Interventions",
}
"""Further sections in order: name to title; ``_<name>.html.j2`` renders each section."""


@dataclass(frozen=True)
class ReportPaths:
    """Files of a report.

    Attributes
    ----------
    folder : Path
        ``reports/<as_of>-<hash>/``.
    html, json : Path
        The page and its numbers, in the folder.
    latest_html, latest_json : Path
        Copies of the newest report, replaced last.
    """

    folder: Path
    html: Path
    json: Path
    latest_html: Path
    latest_json: Path


def build_report(
    workspace: Workspace,
    *,
    quality: JsonContent,
    contracts: Mapping[str, JsonContent],
    evaluations: Mapping[str, JsonContent],
    gates: Mapping[str, JsonContent | Sequence[JsonContent]],
    out_of_time: Mapping[str, pd.DataFrame],
    book: pd.DataFrame | Iterable[JsonContent],
    release: JsonContent,
    now: datetime,
    checks: Mapping[str, Sequence[JsonContent]] | None = None,
    marks: PassMarks | None = None,
    sections: Mapping[str, JsonContent] | None = None,
    health_parts: pd.DataFrame | None = None,
    own_score: Sequence[CheckContent] = (),
) -> ReportPaths:
    """Write the report of a company's published release.

    The same inputs give the same bytes in the same folder.

    Parameters
    ----------
    workspace : Workspace
        The company and its state; the caller holds the lock.
    quality : mapping
        `features.quality.QualityReport.as_dict`.
    contracts : mapping
        Target to label contract with its counts; reported in this order.
    evaluations : mapping
        Target to `training.evaluation.evaluate.Evaluation.as_dict`.
    gates : mapping
        Target to `training.candidates.gates.GateResult.as_dict`, or to its list of gates.
    out_of_time : mapping of str to pandas.DataFrame
        Target to predictions (`training.candidates.train.TrainingResult.predictions`), one row per
        fold and test row, times in UTC.
    book : pandas.DataFrame or iterable of mapping
        The latest scores, one per account; see
        `training.validation.current_accounts.book_rows`.
    release : mapping
        `training.registry.releases.Release.as_dict`.
    now : datetime
        The clock, UTC.
    checks : mapping, optional
        Target to the leakage checks that ran: title, passed (None when it could not run), words.
    marks : PassMarks, optional
        Thresholds of the verdict.
    sections : mapping, optional
        Content of the sections named in `SECTIONS`; absent sections are left out.
    health_parts : pandas.DataFrame, optional
        Components of the health score in use (`training.data.dataset.health_score_parts`).
    own_score : sequence of mapping
        Integrity checks on the health score in use (`training.health_audit.own_score`).

    Raises
    ------
    DataError
        A target has no evaluation, no predictions or no bundle in the release.
    """
    _refuse_incomplete(contracts, evaluations, out_of_time, release)
    marks = marks or PassMarks(max_auc=workspace.company.gates.max_auc)
    studies = {
        target: ReportInputs(
            target,
            contract,
            evaluations[target],
            _gates_of(gates.get(target, ())),
            out_of_time[target],
            release["bands"][target],
            str(release["bundles"][target]["verdict"]),
            tuple((checks or {}).get(target, ())),
            health_parts,
            own_score,
        )
        for target, contract in contracts.items()
    }
    content = report_content(
        workspace.company,
        studies,
        quality=quality,
        book=book,
        release=release,
        now=now,
        marks=marks,
        sections=sections,
    )
    return _write(workspace.state.reports, content, marks)


def _refuse_incomplete(
    contracts: Mapping[str, JsonContent],
    evaluations: Mapping[str, JsonContent],
    out_of_time: Mapping[str, pd.DataFrame],
    release: JsonContent,
) -> None:
    parts = {
        "evaluation": evaluations,
        "out-of-time predictions": out_of_time,
        "bundle in the release": release["bundles"],
        "bands in the release": release["bands"],
    }
    lacking = [
        f"{target}: no {what}"
        for target in contracts
        for what, found in parts.items()
        if target not in found
    ]
    if lacking or not contracts:
        raise DataError(
            "there is nothing to report on: " + ("; ".join(lacking) or "no targets"),
            where=f"release {release.get('release_id')}",
            fix="train and promote every target, then report again",
        )


def _gates_of(
    judgement: JsonContent | Sequence[JsonContent],
) -> Sequence[JsonContent]:
    if isinstance(judgement, Mapping):
        gates: Sequence[JsonContent] = judgement["gates"]
        return gates
    return judgement


def _write(reports: Path, content: ReportContent, marks: PassMarks) -> ReportPaths:
    """Write page and JSON to the report folder, then replace the latest copies."""
    page, numbers = render(content, marks), canonical_json(content) + "\n"
    identity = digest(page, numbers)
    folder = reports / f"{content['as_of']}-{identity}"
    with new_folder(folder, {"as_of": content["as_of"], "identity": identity}) as aside:
        (aside / HTML).write_text(page, encoding="utf-8")
        (aside / JSON).write_text(numbers, encoding="utf-8")
    write_text_atomically(reports / LATEST_JSON, numbers)
    write_text_atomically(reports / LATEST_HTML, page)
    return ReportPaths(
        folder,
        folder / HTML,
        folder / JSON,
        reports / LATEST_HTML,
        reports / LATEST_JSON,
    )


def render(content: JsonContent | ReportContent, marks: PassMarks | None = None) -> str:
    """Return the HTML page of a report: one file without scripts or external resources.

    Parameters
    ----------
    content : mapping
        From `training.report.content.report_content`, or read back from its JSON.
    marks : PassMarks, optional
        Thresholds shown in the charts.
    """
    return render_page(PAGE, content, marks)


def render_page(
    name: str, content: JsonContent | ReportContent, marks: PassMarks | None = None
) -> str:
    """Return a page from a template and content, with the values shared by all pages."""
    return (
        _pages()
        .get_template(name)
        .render(
            content=content,
            marks=marks or PassMarks(),
            auc_within=AUC_WITHIN,
            auc_pooled=AUC_POOLED,
            equivalence=EQUIVALENCE,
            style_hash=style_hash(),
        )
    )


def style_hash() -> str:
    """Return the hash of the page's style element for the content security policy.

    Returns
    -------
    str
        ``sha256-…``, for ``style-src 'sha256-…'``.
    """
    text = _pages().get_template(STYLE).render()
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@lru_cache(maxsize=1)
def _pages() -> Environment:
    pages = Environment(
        loader=PackageLoader("training.report"),
        autoescape=True,
        undefined=StrictUndefined,
        lstrip_blocks=True,
    )
    pages.filters |= {
        **{
            name: getattr(formatting, name)
            for name in (
                "fixed", "signed", "percent", "percent_in_words", "times", "count", "money",
                "day", "month", "plural", "listing",
            )
        },
        **{
            name: getattr(report_text, name)
            for name in ("interval", "estimated", "p_words", "lower_first", "combined", "pairs",
                         "points")
        },
    }  # fmt: skip
    pages.globals |= {
        "charts": charts,
        "outcome_of": report_text.outcome_of,
        "MODELS": report_text.MODELS,
        "MODEL_NOTES": report_text.MODEL_NOTES,
        "SERVED": report_text.SERVED,
        "SECTIONS": SECTIONS,
        "forecast_drawing": forecast_charts,
    }
    return pages
