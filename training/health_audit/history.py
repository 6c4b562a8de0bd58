"""Score history and outcomes as typed rows, with notes on irregular data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from configs.runtime.errors import DataError, SourceError, did_you_mean
from configs.runtime.formatting import count, listing, percent, plural
from training.health_audit.options import AuditOptions
from training.health_audit.reading.guess_columns import (
    OUTCOMES,
    SCORES,
    AuditColumns,
    component_columns,
    guess_columns,
    misnamed,
)
from training.health_audit.reading.parse_values import (
    DateOrder,
    plain_word,
    read_dates,
    read_numbers,
    read_words,
)
from training.health_audit.reading.read_files import NOTES

Severity = Literal["info", "warning"]
DAY = pd.Timedelta(days=1)
DATES, LINES = "dates", "lines"
"""Codes of notes on reading the files that the terminal also prints."""
COMPONENT = "part_"
"""Prefix of a component's column."""

KINDS: Mapping[str, tuple[str, ...]] = {
    "churn": ("churn", "churned", "lost", "loss", "cancel", "cancelled", "canceled",
              "cancellation", "closed lost", "non renewal", "nonrenewal", "not renewed",
              "terminated", "termination", "left", "inactive", "attrition", "logo churn"),
    "contraction": ("contraction", "downgrade", "downgraded", "downsell", "shrink", "reduced",
                    "reduction", "partial churn"),
    "expansion": ("expansion", "upsell", "upgrade", "upgraded", "cross sell", "crosssell",
                  "growth", "grew", "upsold"),
    "kept": ("renewed", "renewal", "retained", "kept", "active", "won", "closed won", "flat",
             "stayed", "new", "reactivation"),
}  # fmt: skip
"""Words of outcome files by meaning; ``kept`` is no event."""

_YES, _NO = {"1", "true", "yes", "y", "t", "1 0"}, {"0", "false", "no", "n", "f", "0 0"}
_LOST_NAMES = ("churn", "lost", "cancel")
_SAME_EVENT_DAYS = 90


@dataclass(frozen=True)
class Note:
    """A note on the files for the reader of the audit."""

    code: str
    words: str
    severity: Severity = "info"

    def as_dict(self) -> dict[str, str]:
        """Return the plain mapping."""
        return asdict(self)


@dataclass(frozen=True)
class ScoreRows:
    """The score's history.

    Attributes
    ----------
    rows : pandas.DataFrame
        One row per account, date and version: entity_id, scored_at (date of the score),
        known_at (first visible), recorded_at (time of writing, NaT without), score, band, segment,
        arr, currency, renews_at, and a float column per component.
    components : tuple of str
        Names of components, without `COMPONENT`.
    guesses, notes : list
        Column guesses, and notes on irregular data.
    n_read : int
        Rows of the file.
    has_recorded : bool
        Whether the file has times of writing.
    is_dated : bool
        Whether the file has dates of scores; otherwise scores count as of now.
    """

    rows: pd.DataFrame
    components: tuple[str, ...]
    guesses: list[AuditColumns]
    notes: list[Note]
    n_read: int
    has_recorded: bool
    is_dated: bool


@dataclass(frozen=True)
class OutcomeRows:
    """Decisions of accounts.

    Attributes
    ----------
    rows : pandas.DataFrame
        One row per account, kind and decision: entity_id, decision_at, kind (churn, contraction,
        expansion or kept), arr, currency.
    guesses, notes : list
        Column guesses, and notes on irregular data.
    n_read : int
        Rows of the file.
    """

    rows: pd.DataFrame
    guesses: list[AuditColumns]
    notes: list[Note]
    n_read: int


def score_rows(frame: pd.DataFrame, options: AuditOptions) -> ScoreRows:
    """Return the scores file as typed rows.

    Raises
    ------
    SourceError
        No account column, or neither score nor band.
    DataError
        No row is usable.
    """
    guesses = guess_columns(frame, "scores", SCORES, options.columns)
    scored = next(role for role in SCORES if role.name == "date")
    if "date" not in guesses and (error := misnamed(frame, "scores", scored)):
        raise error
    if "score" not in guesses and "band" not in guesses:
        raise SourceError(
            "no column of the scores file looks like a score or a band",
            where=f"columns: {', '.join(map(str, frame))}",
            fix="--column scores.score=NAME or --column scores.band=NAME; or swap the two files if "
            "they are in the wrong order",
        )
    notes = _file_notes(frame)
    rows = pd.DataFrame({"entity_id": _accounts(frame, guesses, notes)})
    _put_dates(rows, frame, guesses, options, notes)
    for role in ("score", "arr"):
        rows[role] = _numbers(frame, guesses, role, options)
    for role in ("band", "segment", "currency"):
        rows[role] = _words(frame, guesses, role)
    components = _put_components(rows, frame, guesses, options)
    rows = _usable(rows, notes, options)
    has_recorded = _check_recorded(rows, guesses, notes)
    rows["arr"] = _money(rows, options, notes)
    rows = _without_copies(rows, notes)
    return ScoreRows(
        _with_known(rows, has_recorded),
        components,
        list(guesses.values()),
        notes,
        len(frame),
        has_recorded,
        "date" in guesses,
    )


def _accounts(
    frame: pd.DataFrame, guesses: Mapping[str, AuditColumns], notes: list[Note]
) -> pd.Series:  # fmt: skip
    """Return account ids; ids that differ only by case are one account."""
    ids = read_words(frame[guesses["account"].column])
    spelled = pd.Series(ids.dropna().unique(), dtype="object")
    first = spelled.drop_duplicates().groupby(spelled.str.casefold()).transform("first")
    merged = spelled.nunique() - first.nunique()
    if merged:
        notes.append(
            Note("case", f"{plural(merged, 'account')} with two spellings (upper and lower case) "
                 "are merged")
        )  # fmt: skip
    return ids.map(dict(zip(spelled, first, strict=True))).astype("object")


def _put_dates(
    rows: pd.DataFrame,
    frame: pd.DataFrame,
    guesses: Mapping[str, AuditColumns],
    options: AuditOptions,
    notes: list[Note],
) -> None:
    """Add scored_at, recorded_at and renews_at; a date counts as the following midnight."""
    for role, name in (("date", "scored_at"), ("recorded", "recorded_at")):
        if role not in guesses:
            rows[name] = pd.Series(pd.NaT, index=rows.index, dtype="datetime64[us, UTC]")
            continue
        column = guesses[role].column
        read = _dates(frame[column], options, notes)
        rows[name] = read.at + DAY if read.is_day else read.at
    if "date" not in guesses:
        rows["scored_at"] = pd.Timestamp(options.now).as_unit("us")
    if "renewal" in guesses:
        rows["renews_at"] = _dates(frame[guesses["renewal"].column], options, notes).at
    else:
        rows["renews_at"] = pd.Series(pd.NaT, index=rows.index, dtype="datetime64[us, UTC]")


def _dates(column: pd.Series, options: AuditOptions, notes: list[Note]) -> DateOrder:
    """Return a column as timestamps, and note its format."""
    name = str(column.name)
    read = read_dates(column, day_first=options.day_first, proven=options.proven, name=name)
    if read.words:
        notes.append(Note(DATES, read.words))
    return read


def _file_notes(frame: pd.DataFrame) -> list[Note]:
    """Return the notes on the file of some rows."""
    return [Note(LINES, words, "warning") for words in frame.attrs.get(NOTES, [])]


def _numbers(
    frame: pd.DataFrame, guesses: Mapping[str, AuditColumns], role: str, options: AuditOptions
) -> pd.Series:
    if role not in guesses:
        return pd.Series(np.nan, index=frame.index)
    found = read_numbers(frame[guesses[role].column], options.decimal)
    return found.where(np.isfinite(found))


def _words(frame: pd.DataFrame, guesses: Mapping[str, AuditColumns], role: str) -> pd.Series:
    if role not in guesses:
        return pd.Series(None, index=frame.index, dtype="object")
    return read_words(frame[guesses[role].column])


def _put_components(
    rows: pd.DataFrame,
    frame: pd.DataFrame,
    guesses: Mapping[str, AuditColumns],
    options: AuditOptions,
) -> tuple[str, ...]:
    """Add the components, from separate columns or one column of JSON objects."""
    if "components" in guesses and (parts := _from_json(frame[guesses["components"].column])):
        for name, values in parts.items():
            rows[COMPONENT + name] = values
        return tuple(parts)
    names = component_columns(frame, guesses) if "score" in guesses else []
    for name in names:
        rows[COMPONENT + name] = read_numbers(frame[name], options.decimal)
    return tuple(names)


def _from_json(column: pd.Series) -> dict[str, pd.Series]:
    """Return number columns from JSON objects; empty for other cells."""
    parsed = [_object(cell) for cell in column]
    names = sorted({name for item in parsed for name in item})
    table = {
        name: pd.to_numeric(pd.Series([item.get(name) for item in parsed], column.index),
                            errors="coerce")
        for name in names
    }  # fmt: skip
    return {name: values.astype("float64") for name, values in table.items() if values.nunique()}


def _object(cell: Any) -> dict[str, Any]:
    try:
        found = json.loads(cell)
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _usable(rows: pd.DataFrame, notes: list[Note], options: AuditOptions) -> pd.DataFrame:
    """Leave out rows without account, date or score, or with a future date, with a note."""
    reasons = {
        "no account": rows["entity_id"].isna(),
        "no readable date": rows["scored_at"].isna(),
        f"dated later than today, {options.now:%Y-%m-%d}": rows["scored_at"] > options.now + DAY,
        "neither score nor band": rows["score"].isna() & rows["band"].isna(),
    }
    out = pd.Series(False, index=rows.index)
    for reason, mask in reasons.items():
        if n := int((mask & ~out).sum()):
            notes.append(Note("unusable", f"{plural(n, 'row')} of scores left out: {reason}"))
        out |= mask
    if out.all():
        raise DataError(
            f"none of {count(len(rows))} rows of scores is usable",
            where="; ".join(reason for reason, mask in reasons.items() if mask.any()),
            fix="set the columns with --column",
        )
    return rows[~out].reset_index(drop=True)


def _check_recorded(
    rows: pd.DataFrame, guesses: dict[str, AuditColumns], notes: list[Note]
) -> bool:  # fmt: skip
    """Return whether the times of writing are plausible: not before the dates of the scores."""
    if "recorded" not in guesses or "date" not in guesses:
        return False
    early = (rows["recorded_at"] < rows["scored_at"] - 2 * DAY).mean()
    if early > 0.5:
        column = guesses.pop("recorded").column
        notes.append(
            Note("recorded", f"{column} is before the score's date in {percent(early)} of rows, "
                 "so it is not used as the time of writing")
        )  # fmt: skip
        rows["recorded_at"] = pd.Series(pd.NaT, index=rows.index, dtype="datetime64[us, UTC]")
        return False
    return True


def _money(rows: pd.DataFrame, options: AuditOptions, notes: list[Note]) -> pd.Series:
    """Return ARR in one currency, without negative values."""
    arr = rows["arr"].copy()
    if negative := int((arr < 0).sum()):
        n = rows.loc[arr < 0, "entity_id"].nunique()
        notes.append(
            Note("negative_arr", f"{plural(negative, 'row')} of {plural(n, 'account')} have a "
                 "negative ARR; it counts as unknown", "warning")
        )  # fmt: skip
        arr = arr.where(~(arr < 0))
    currencies = sorted(rows.loc[arr.notna(), "currency"].dropna().str.upper().unique())
    if options.currency:
        return arr.where(rows["currency"].str.upper() == options.currency.upper())
    if len(currencies) > 1:
        notes.append(
            Note("currencies", f"ARR is in {listing(currencies)} and is not added up: only "
                 f"accounts are counted; --currency {currencies[0]} counts the ARR in that "
                 "currency, or "
                 "convert to one currency", "warning")
        )  # fmt: skip
        return pd.Series(np.nan, index=rows.index)
    return arr


def currency_of(rows: pd.DataFrame, options: AuditOptions) -> str:
    """Return the currency of the amounts; empty with several."""
    if options.currency:
        return options.currency.upper()
    found = rows.loc[rows["arr"].notna(), "currency"].dropna().str.upper().unique()
    return str(found[0]) if len(found) == 1 else ""


def _without_copies(rows: pd.DataFrame, notes: list[Note]) -> pd.DataFrame:
    """Leave out duplicates, and account-days with two scores at one time of writing."""
    said = ["entity_id", "scored_at", "recorded_at", "score", "band"]
    copies = rows.duplicated(said)
    if n := int(copies.sum()):
        notes.append(Note("copies", f"{plural(n, 'row')} of scores are exact duplicates"))
    rows = rows[~copies]
    torn = rows.duplicated(["entity_id", "scored_at", "recorded_at"], keep=False)
    if n := int(torn.sum()):
        who = rows.loc[torn, "entity_id"].nunique()
        notes.append(
            Note("contradictions", f"{plural(n, 'row')} of {plural(who, 'account')} have two "
                 "scores for one account and time; they are left out", "warning")
        )  # fmt: skip
    if torn.all():
        raise DataError(
            "every account has two scores at one time",
            fix="set the date column with --column scores.date=NAME",
        )
    return rows[~torn].reset_index(drop=True)


def _with_known(rows: pd.DataFrame, has_recorded: bool) -> pd.DataFrame:
    known = rows["scored_at"]
    if has_recorded:
        known = rows[["scored_at", "recorded_at"]].max(axis=1)
    made = rows.assign(known_at=known.astype("datetime64[us, UTC]"))
    return made.sort_values(["entity_id", "scored_at", "known_at"], ignore_index=True)


def outcome_rows(frame: pd.DataFrame, options: AuditOptions, accounts: set[str]) -> OutcomeRows:
    """Return the outcomes file as typed rows.

    Parameters
    ----------
    frame : pandas.DataFrame
        The file as read.
    options : AuditOptions
        Options.
    accounts : set of str
        Accounts of the scores file; their spelling is used.

    Raises
    ------
    SourceError
        No account or date column, or no known outcome word.
    """
    guesses = guess_columns(frame, "outcomes", OUTCOMES, options.columns)
    notes = _file_notes(frame)
    ids = _accounts(frame, guesses, notes)
    spelling = {name.casefold(): name for name in accounts}
    rows = pd.DataFrame({"entity_id": ids.map(lambda x: spelling.get(str(x).casefold(), x))})
    rows["decision_at"] = _dates(frame[guesses["date"].column], options, notes).at
    rows["kind"] = _kinds(frame, guesses, options, notes)
    rows["arr"] = _numbers(frame, guesses, "arr", options).abs()
    rows["currency"] = _words(frame, guesses, "currency")
    rows = _usable_outcomes(rows, notes)
    rows["arr"] = _money(rows, options, notes)
    return OutcomeRows(_distinct(rows, notes), list(guesses.values()), notes, len(frame))


def _kinds(
    frame: pd.DataFrame,
    guesses: Mapping[str, AuditColumns],
    options: AuditOptions,
    notes: list[Note],
) -> pd.Series:
    """Return churn, contraction, expansion or kept per row; None without an event."""
    if "kind" not in guesses:
        notes.append(Note("kind", "there is no outcome column: every row counts as churn"))
        return pd.Series("churn", index=frame.index, dtype="object")
    column = guesses["kind"].column
    words = read_words(frame[column]).map(plain_word, na_action="ignore")
    if set(words.dropna()) <= _YES | _NO:
        return _from_flags(words, column)
    meaning = {word: kind for kind, known in KINDS.items() for word in known}
    meaning |= {plain_word(word): kind for word, kind in options.kinds.items()}
    kinds = words.map(meaning)
    unknown = sorted(set(words[kinds.isna()].dropna()))
    if kinds.isna().all():
        raise SourceError(
            f"no word of column {column!r} is a known outcome",
            where=f"words: {', '.join(unknown[:8])}",
            fix=f'--kind "{unknown[0] if unknown else "lost"}=churn"',
        )
    if unknown:
        n = int(kinds.isna().sum())
        notes.append(
            Note("strange_kinds", f"{plural(n, 'outcome')} left out because of unknown words: "
                 f"{listing(unknown[:6])}; map a word with --kind \"{unknown[0]}=churn\"",
                 "warning")
        )  # fmt: skip
    return kinds.astype("object")


def _from_flags(words: pd.Series, column: str) -> pd.Series:
    """Return churn from a yes-or-no column; "no" in a "renewed" column is a loss."""
    is_loss = any(name in column.lower() for name in _LOST_NAMES)
    happened = words.isin(_YES) if is_loss else words.isin(_NO)
    return pd.Series(np.where(happened, "churn", "kept"), index=words.index, dtype="object")


def _usable_outcomes(rows: pd.DataFrame, notes: list[Note]) -> pd.DataFrame:
    reasons = {
        "no account": rows["entity_id"].isna(),
        "no readable date": rows["decision_at"].isna(),
        "no outcome": rows["kind"].isna(),
    }
    out = pd.Series(False, index=rows.index)
    for reason, mask in reasons.items():
        if (n := int((mask & ~out).sum())) and reason != "no outcome":
            notes.append(Note("unusable", f"{plural(n, 'outcome')} left out: {reason}"))
        out |= mask
    if out.all():
        raise DataError(
            f"none of {count(len(rows))} outcomes is usable",
            where="; ".join(reason for reason, mask in reasons.items() if mask.any()),
            fix="set the columns, for example with --column outcomes.date=NAME",
        )
    return rows[~out].reset_index(drop=True)


def _distinct(rows: pd.DataFrame, notes: list[Note]) -> pd.DataFrame:
    """Keep one row per account, kind and decision; repeats within 90 days are the same event."""
    rows = rows.sort_values(["entity_id", "kind", "decision_at"], ignore_index=True)
    key = rows["entity_id"] + "\0" + rows["kind"]
    gap = rows["decision_at"].diff()
    again = (key == key.shift()) & (gap <= pd.Timedelta(days=_SAME_EVENT_DAYS))
    again &= rows["kind"] != "kept"
    if n := int(again.sum()):
        notes.append(
            Note("same_event", f"{plural(n, 'outcome')} of an account within "
                 f"{_SAME_EVENT_DAYS} days of the same kind are counted with the first")
        )  # fmt: skip
    return rows[~again].reset_index(drop=True)


def kinds_option(pairs: Sequence[str]) -> dict[str, str]:
    """Return ``WORD=churn`` options as a mapping.

    Raises
    ------
    SourceError
        Wrong form or unknown kind.
    """
    found = {}
    for pair in pairs:
        word, _, kind = pair.rpartition("=")
        if not word or kind not in KINDS:
            raise SourceError(
                f"--kind {pair!r} is not WORD=KIND",
                fix=did_you_mean(kind, KINDS) or f"KIND is one of {', '.join(KINDS)}",
            )
        found[word] = kind
    return found
