"""The ``refresh`` section of ``company.yaml``: when today's data is ready to be scored."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from configs.schema.base import ConfigModel, Days, Name, Share


class Refresh(ConfigModel):
    """Readiness of today's data, which `bellwether refresh` decides before it scores."""

    needed: tuple[Name, ...] = Field(
        (),
        description="tables without which nothing is scored when they are late or incomplete; by "
        "default accounts and the activity table. Other tables only degrade the scores",
    )
    ignore: tuple[Name, ...] = Field(
        (), description="tables whose arrival is not judged, such as one that is loaded by hand"
    )
    late_days: Days = Field(
        0,
        description="days a table may be later than its own rhythm: the longest usual gap between "
        "days with new rows (99th percentile of half a year) and the usual delay of its delivery",
    )
    min_rows_share: Share = Field(
        0.2,
        description="a table is incomplete when its latest day has fewer rows than this share of "
        "the median of the same weekday in the 8 weeks before, if that is at least 20 rows",
    )
    max_missing_jump: Share = Field(
        0.3,
        description="largest increase of the share of missing values of a column, of the latest "
        "week compared with the 8 weeks before, or of the whole table since the last refresh",
    )
    max_parse_failures: Share = Field(
        0.05,
        description="largest increase of the share of rows with values or lines that cannot be "
        "read, of the new rows compared with the last refresh",
    )
    max_accounts_lost: Share = Field(
        0.1, description="largest share of accounts that may be missing since the last refresh"
    )
    max_unconverted: Share = Field(
        0.05,
        description="largest increase of the share of amounts in a currency without a rate since "
        "the last refresh",
    )
    keep_history: Annotated[int, Field(ge=1, le=3_660)] = Field(
        400, description="number of refreshes whose summaries are kept"
    )
