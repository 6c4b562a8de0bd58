"""Commands that show whether scores are valid: reports, audits, replays, comparisons."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs.runtime.errors import ConfigError, ModelError, did_you_mean
from serving.commands.console import (
    Steps,
    console,
    lines_of,
    print_file,
    print_json,
    print_text,
    steps_unless,
)
from serving.commands.options import (
    NO_DATA,
    CompanyArgument,
    DataOption,
    JsonOption,
    PdfOption,
    StateOption,
    open_company,
    workspace_of,
)

if TYPE_CHECKING:
    from serving.ledger.replay import Replay

PANEL = "Reports and validity"

app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def report(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    pdf: PdfOption = False,
) -> None:
    """Write the report for leadership: validity of the scores, risk and growth of the accounts."""
    print_file(open_company(company, state, data, Steps()).report(), pdf=pdf)


@app.command(rich_help_panel=PANEL)
def audit(
    scores: Annotated[
        Path, typer.Argument(help="History of the score: CSV, Excel, JSON or Parquet file.")
    ],
    outcomes: Annotated[
        Path | None, typer.Argument(help="Outcomes with the day of each decision.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of the report and of the recorded scores.")
    ] = Path("audit"),
    column: Annotated[
        list[str] | None,
        typer.Option(help="Column as TABLE.PART=COLUMN, e.g. scores.account=Id; repeatable."),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="Outcome as WORD=KIND: churn, contraction, expansion or kept; repeatable."
        ),
    ] = None,
    higher: Annotated[
        str | None, typer.Option(help="Meaning of a high score: healthier or riskier.")
    ] = None,
    bands: Annotated[
        str, typer.Option(help='Bands of the score from best to worst: "green, yellow, red".')
    ] = "",
    horizon: Annotated[int, typer.Option(min=7, max=730, help="Prediction horizon in days.")] = 91,
    capacity: Annotated[
        int | None, typer.Option(min=1, help="Accounts that the team can work on in a month.")
    ] = None,
    through: Annotated[
        str | None, typer.Option(help="Last day with complete outcomes, YYYY-MM-DD.")
    ] = None,
    currency: Annotated[
        str | None, typer.Option(help="Currency; amounts in others are not counted.")
    ] = None,
    contracts: Annotated[
        bool,
        typer.Option("--contracts/--no-contracts", help="Accounts have contracts, or pay monthly."),
    ] = True,
    probability: Annotated[
        bool | None,
        typer.Option("--probability/--no-probability", help="The score is a probability or not."),
    ] = None,
    day_first: Annotated[
        bool | None,
        typer.Option("--day-first/--month-first", help="Read 3/4/2025 as 3 April or 4 March."),
    ] = None,
    decimal_comma: Annotated[
        bool | None,
        typer.Option("--decimal-comma/--decimal-point", help="Read 1,234 as 1.234 or as 1234."),
    ] = None,
    draws: Annotated[
        int, typer.Option(min=100, max=10_000, help="Draws of the bootstrap for intervals.")
    ] = 1000,
    today: Annotated[
        str | None, typer.Option(help="Day of the audit, YYYY-MM-DD. Default: the present.")
    ] = None,
    pdf: PdfOption = False,
    as_json: JsonOption = False,
) -> None:
    """Audit a health score that you already have, from two files and without training."""
    from datetime import time

    from training.health_audit import options
    from training.health_audit.history import kinds_option
    from training.health_audit.run import audit as run_audit

    day = options.day_option(today, "--today")
    now = datetime.now(UTC).replace(microsecond=0)
    asked = options.AuditOptions(
        now=datetime.combine(day, time(), UTC) if day else now,
        columns=options.column_options(column or []),
        higher=options.higher_option(higher),
        bands=options.band_options(bands),
        kinds=kinds_option(kind or []),
        horizon_days=horizon,
        capacity_per_month=capacity,
        through=options.day_option(through, "--through"),
        currency=currency,
        has_contracts=contracts,
        is_probability=probability,
        day_first=day_first,
        decimal=options.decimal_option(decimal_comma),
        draws=draws,
    )
    made = run_audit(scores, outcomes, out, asked, steps_unless(as_json))
    if as_json:
        print_json(made.as_dict())
        return
    for line in made.lines:
        print_text(line)
    if made.html is not None:
        print_file(made.html, pdf=pdf)


@app.command(rich_help_panel=PANEL)
def forecast(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forecast GRR and NRR with ranges, and show how past forecasts performed."""
    from serving.run.report import forecast_company
    from training.forecast.charts import forecast_lines

    workspace = workspace_of(company, state, data)
    steps = steps_unless(as_json)
    with workspace.state.lock("forecast"):
        content, path = forecast_company(workspace, workspace.company.clock(), steps)
    if as_json:
        print_json(content)
        return
    for line in forecast_lines(content):
        print_text(line)
    print_file(path)


@app.command(rich_help_panel=PANEL)
def replay(
    company: CompanyArgument,
    state: StateOption = None,
    score_id: Annotated[str | None, typer.Option(help="Id of one score.")] = None,
    account: Annotated[
        str | None, typer.Option(help="Account id: its latest score of each target.")
    ] = None,
    at: Annotated[
        datetime | None, typer.Option(help="With --account: scores served by this day, UTC.")
    ] = None,
    sample: Annotated[
        int, typer.Option(min=1, help="Otherwise: number of scores, spread over the ledger.")
    ] = 20,
    as_json: JsonOption = False,
) -> None:
    """Recompute past scores from the ledger and compare them with what was served."""
    from serving.run.ledger import replay_scores

    found = replay_scores(
        workspace_of(company, state, NO_DATA),
        score_id=score_id,
        account=account,
        at=at.replace(tzinfo=UTC) + timedelta(days=1) if at else None,
        sample=sample,
    )
    if as_json:
        print_json([item.as_dict() for item in found])
    else:
        _print_replays(found)
    failed = [item for item in found if not item.is_reproduced]
    if failed:
        raise ModelError(
            f"{len(failed)} of {len(found)} scores cannot be reproduced",
            where=", ".join(item.row.score_id for item in failed[:5]),
            fix="restore the model or the row that is named; the ledger keeps what was served",
        )


def _print_replays(found: list[Replay]) -> None:
    for item in found:
        row = item.row
        print_text(
            f"{row.score_id}  {row.entity_id} {row.target} as of {row.as_of:%Y-%m-%d}, "
            f"{row.channel}, model {row.bundle_sha[:12]}\n"
            f"    served   {row.probability!r}\n"
            f"    replayed {item.probability!r}   {item.words}"
        )
    same = sum(item.is_identical for item in found)
    console.print(f"{same} of {len(found)} the same, bit for bit")


@app.command(rich_help_panel=PANEL)
def verify(
    company: CompanyArgument,
    target: Annotated[
        str | None, typer.Argument(help="Target to verify. Default: all targets.")
    ] = None,
    state: StateOption = None,
    data: DataOption = None,
    refit: Annotated[
        bool,
        typer.Option("--refit", help="Train again with the recorded settings, to the same bytes."),
    ] = False,
) -> None:
    """Recompute every number of the model cards, and report values that differ."""
    from training.pipeline import candidates
    from training.reproduce import rebuilt_rows, verify_all

    workspace, steps = workspace_of(company, state, data if refit else NO_DATA), Steps()
    with workspace.state.lock("verify"):
        known = candidates(workspace)
        if target is not None and target not in known:
            raise ConfigError(f"no trained target {target!r}", fix=did_you_mean(target, known))
        chosen = {target: known[target]} if target else known
        rows = rebuilt_rows(workspace, workspace.company.clock(), steps) if refit else None
        for item in verify_all(workspace, chosen, rows):
            steps(f"{item.target}: {item.n_compared:,} values came out again")


@app.command(rich_help_panel=PANEL)
def truth(
    company: CompanyArgument,
    state: StateOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the trained models of a simulated company with its true probabilities."""
    from features.pipeline import build_features
    from training.pipeline import candidates
    from training.simulated_truth import as_text, compare_with_truth

    workspace = workspace_of(company, state, data)
    with workspace.state.lock("truth"):
        built = build_features(workspace, workspace.company.clock())
        found = [
            compare_with_truth(workspace, built, item) for item in candidates(workspace).values()
        ]
    if as_json:
        print_json(found)
        return
    for item in found:
        print_text(as_text(item))


@app.command(rich_help_panel=PANEL)
def holdout(
    company: CompanyArgument,
    state: StateOption = None,
    share: Annotated[
        float, typer.Option(help="Share of the flagged accounts to hold out, 0 to 1.")
    ] = 0.2,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed gives the same draw.")] = 7,
) -> None:
    """Randomly assign flagged accounts to a hold-out group, stratified by risk and ARR.

    Accounts that were assigned before keep their group.
    """
    from serving.workflow.holdouts import draw_holdout
    from training.validation.interventions import EXAMPLE, accounts_per_arm

    workspace = workspace_of(company, state, NO_DATA)
    with workspace.state.lock("holdout"):
        drawn = draw_holdout(workspace, share=share, seed=seed, now=workspace.company.clock())
    table = lines_of("stratum", "treated", "held out")
    for stratum, rows in drawn.accounts.groupby("stratum"):
        held = int((rows["arm"] == "held_out").sum())
        table.add_row(str(stratum), str(len(rows) - held), str(held))
    console.print(table)
    print_text(
        f"{len(drawn.accounts)} accounts assigned, {drawn.kept} keep their earlier group; to "
        f"detect {EXAMPLE[0]:.0%} against {EXAMPLE[1]:.0%}, each group needs "
        f"{accounts_per_arm(*EXAMPLE):,} accounts"
    )
    print_text(f"kept in {drawn.file}")
