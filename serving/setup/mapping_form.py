"""The proposed mapping as a form: one card per file, one field per value of ``company.yaml``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import get_args
from zoneinfo import available_timezones

from babel.core import get_global

from configs.schema.source_mapping import Billing
from features.sources.proposal.draft import Choice, TableDraft
from features.sources.proposal.file_profile import FileProfile
from features.sources.proposal.proposal import Proposal
from features.tables.source_tables import TABLES
from serving.http.problems import ProblemError

AS_RECOGNISED = "as recognised"
"""Value of the table of a file that no person has decided."""

N_SAMPLES, SAMPLE_LENGTH = 3, 60
OPTION_SAMPLE_LENGTH = 28
LONGEST = 2_000

_REGIONS = ("Africa", "America", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific")

BILLING_MEANINGS = {
    "rows": "what one row of the file is",
    "amount": "the price",
    "amount_is": "what the amount pays for",
    "quantity": "multiplies the amount, such as seats",
    "interval": "the billing interval",
    "interval_count": "intervals per period",
    "minor_units": "amounts are in cents",
}


@dataclass(frozen=True)
class Option:
    """One choice of a field: its value, and its text."""

    value: str
    text: str


@dataclass(frozen=True)
class MappingField:
    """One value of the mapping.

    Attributes
    ----------
    key : str
        Its key in ``company.yaml``, as `propose` takes answers.
    label, meaning : str
        Name, and meaning in words.
    proposed, value : str
        The proposed value, and the present one.
    options : tuple of Option
        Permitted values.
    why, sure : str
        Evidence for the present value, and confidence; empty without a value.
    sample : str
        Some values of the present column.
    is_required : bool
        The table cannot be used without it.
    """

    key: str
    label: str
    meaning: str
    proposed: str
    value: str
    options: tuple[Option, ...]
    why: str = ""
    sure: str = ""
    sample: str = ""
    is_required: bool = False


@dataclass(frozen=True)
class TableCard:
    """Mapping of one file to one table.

    Attributes
    ----------
    table, grain, origin : str
        Canonical table, meaning of its rows, and what recognised the file.
    notes : tuple of str
        Traps.
    accounts, columns, others : tuple of MappingField
        How the account is found; canonical columns; billing, known time, time zone.
    """

    table: str
    grain: str
    origin: str
    notes: tuple[str, ...]
    accounts: tuple[MappingField, ...]
    columns: tuple[MappingField, ...]
    others: tuple[MappingField, ...]

    @property
    def mapped(self) -> tuple[MappingField, ...]:
        """Columns with a value, and required ones."""
        return tuple(item for item in self.columns if item.value or item.is_required)

    @property
    def unmapped(self) -> tuple[MappingField, ...]:
        """Optional columns without a value."""
        return tuple(item for item in self.columns if not item.value and not item.is_required)


@dataclass(frozen=True)
class FileCard:
    """A file that is used: name, pattern, rows, choice of the table, and its tables."""

    name: str
    pattern: str
    rows: int
    n_columns: int
    table: MappingField
    tables: tuple[TableCard, ...]


@dataclass(frozen=True)
class UnusedFile:
    """A file that is not used, the reason, and the choice of a table where it can be read."""

    pattern: str
    why: str
    table: MappingField | None


@dataclass(frozen=True)
class MappingForm:
    """The whole mapping.

    Attributes
    ----------
    files : tuple of FileCard
        Used files, accounts first.
    unused : tuple of UnusedFile
        Other files.
    settings : tuple of MappingField
        Currency and clock.
    """

    files: tuple[FileCard, ...]
    unused: tuple[UnusedFile, ...]
    settings: tuple[MappingField, ...]

    def fields(self) -> dict[str, MappingField]:
        """Return every field by its key."""
        found = list(self.settings)
        for file in self.files:
            found.append(file.table)
            for card in file.tables:
                found += [*card.accounts, *card.columns, *card.others]
        found += [item.table for item in self.unused if item.table is not None]
        return {item.key: item for item in found}

    def answers(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return what a sent form decides: the values that differ from the proposal.

        Raises
        ------
        ProblemError
            A value is not among the options of its field.
        """
        known = self.fields()
        found = {}
        for key, value in given.items():
            item = known.get(key)
            if item is None or value not in {option.value for option in item.options}:
                errors = [{"pointer": key[:200], "message": "not a possible value"}]
                raise ProblemError(
                    "invalid-request",
                    "the files or the mapping have changed since the page was loaded; load it "
                    "again",
                    errors=errors,  # type: ignore[arg-type]
                )
            if value != item.proposed:
                found[key] = value
        return found

    def kept(self, answers: Mapping[str, str]) -> dict[str, str]:
        """Return the answers that still belong to a field and are possible there."""
        known = self.fields()
        return {
            key: value
            for key, value in answers.items()
            if key in known and value in {option.value for option in known[key].options}
        }


def mapping_form(
    base: Proposal, shown: Proposal, names: Mapping[str, str], answers: Mapping[str, str]
) -> MappingForm:
    """Return the form of a proposal.

    Parameters
    ----------
    base : Proposal
        Without answers, except for the tables of files.
    shown : Proposal
        With all answers.
    names : mapping of str to str
        Every input to its pattern (`input_names`).
    answers : mapping of str to str
        The answers so far.
    """
    pairs = list(zip(base.drafts, shown.drafts, strict=True))
    used = dict.fromkeys(draft.file.name for draft in base.drafts)
    files = tuple(_file_card(base, name, pairs, answers) for name in used)
    by_pattern = {pattern: name for name, pattern in {**names, **base.inputs}.items()}
    unused = tuple(
        UnusedFile(
            pattern,
            why,
            _table_field(by_pattern[pattern], answers) if pattern in by_pattern else None,
        )
        for pattern, why in base.unused.items()
        if by_pattern.get(pattern) not in used
    )
    return MappingForm(files, unused, _settings(base, shown))


def unread_form(names: Mapping[str, str], answers: Mapping[str, str]) -> MappingForm:
    """Return the form of a folder whose files could not be brought together."""
    unused = tuple(
        UnusedFile(pattern, "", _table_field(name, answers)) for name, pattern in names.items()
    )
    return MappingForm((), unused, ())


def _file_card(
    base: Proposal,
    name: str,
    pairs: Iterable[tuple[TableDraft, TableDraft]],
    answers: Mapping[str, str],
) -> FileCard:
    own = [(before, now) for before, now in pairs if now.file.name == name]
    profile = own[0][1].file
    return FileCard(
        name,
        base.inputs[name],
        profile.source.rows,
        len(profile.columns),
        _table_field(name, answers),
        tuple(_table_card(base.place_of(before), before, now) for before, now in own),
    )


def _table_field(name: str, answers: Mapping[str, str]) -> MappingField:
    options = (
        Option(AS_RECOGNISED, AS_RECOGNISED),
        Option("", "leave this file out"),
        *(Option(table, table) for table in TABLES),
    )
    value = answers.get(f"files.{name}", AS_RECOGNISED)
    return MappingField(f"files.{name}", "Table", "", AS_RECOGNISED, value, options)


def _table_card(place: str, before: TableDraft, now: TableDraft) -> TableCard:
    spec, file = TABLES[now.table], now.file
    columns = []
    for name, column in spec.columns.items():
        if name == "arr" and now.billing:
            continue  # `billing` computes it
        columns.append(
            _field(
                f"{place}.columns.{name}",
                name,
                column.meaning,
                before.columns.get(name),
                now.columns.get(name),
                file,
                # The account may also be found by other values.
                is_required=column.required and not (name == "account_id" and now.links),
            )
        )
    return TableCard(
        now.table,
        spec.grain,
        now.origin,
        tuple(now.notes),
        tuple(_links(place, before, now)),
        tuple(columns),
        tuple(_others(place, before, now)),
    )


def _links(place: str, before: TableDraft, now: TableDraft) -> Iterable[MappingField]:
    present = {choice_key: choice for choice_key, (choice, _, _) in enumerate(now.links)}
    for number, (choice, matches, by) in enumerate(before.links):
        how = {"value": "equals", "domain": "has the domain of", "name": "names"}[by]
        yield _field(
            f"{place}.account.{number}",
            f"account, by {by}",
            f"{how} {matches} of the accounts",
            choice,
            present.get(number),
            now.file,
        )


def _others(place: str, before: TableDraft, now: TableDraft) -> Iterable[MappingField]:
    if now.table == "subscriptions" and (now.billing or "arr" not in now.columns):
        yield from _billing(place, before, now)
    yield _field(
        f"{place}.known_at",
        "known_at",
        "the time a row became known; none: when it happened",
        before.known_at,
        now.known_at,
        now.file,
    )
    if before.leave_out is not None:
        yield _field(
            f"{place}.leave_out",
            "leave_out",
            "condition of rows to leave out",
            before.leave_out,
            now.leave_out,
            now.file,
            values=(before.leave_out.value,),
        )
    if before.timezone is not None:
        yield _field(
            f"{place}.timezone",
            "timezone",
            "time zone of times without one",
            before.timezone,
            now.timezone,
            now.file,
            values=time_zones(),
        )


def _billing(place: str, before: TableDraft, now: TableDraft) -> Iterable[MappingField]:
    words: dict[str, tuple[str, ...]] = {
        "rows": get_args(Billing.model_fields["rows"].annotation),
        "amount_is": get_args(Billing.model_fields["amount_is"].annotation),
        "minor_units": ("true", "false"),
    }
    for name, meaning in BILLING_MEANINGS.items():
        extra = ("'month'", "'quarter'", "'year'") if name == "interval" else ()
        yield _field(
            f"{place}.billing.{name}",
            f"billing.{name}",
            meaning,
            before.billing.get(name),
            now.billing.get(name),
            now.file,
            values=words.get(name),
            extra=extra,
        )


def _field(
    key: str,
    label: str,
    meaning: str,
    before: Choice | None,
    now: Choice | None,
    file: FileProfile,
    *,
    values: tuple[str, ...] | None = None,
    extra: tuple[str, ...] = (),
    is_required: bool = False,
) -> MappingField:
    """Return a field whose values are the columns of the file, unless `values` are given."""
    texts = dict.fromkeys((*(values if values is not None else file.columns), *extra))
    for choice in (before, now):
        if choice is not None and choice.value:
            texts.setdefault(choice.value)
    options = [Option("", "none")]
    options += [Option(text, _option_text(text, file)) for text in texts]
    value = now.value if now else ""
    return MappingField(
        key,
        label,
        meaning,
        before.value if before else "",
        value,
        tuple(options),
        now.why if now else "",
        now.sure if now else "",
        _sample(value, file),
        is_required,
    )


def _option_text(value: str, file: FileProfile) -> str:
    """Return a column with its first value, to recognise it in a list."""
    column = file.columns.get(value)
    if column is None:
        return value if len(value) <= SAMPLE_LENGTH else f"{value[:SAMPLE_LENGTH]}…"
    first = column.examples[0] if column.examples else "empty"
    short = first if len(first) <= OPTION_SAMPLE_LENGTH else f"{first[:OPTION_SAMPLE_LENGTH]}…"
    return f"{value}  ({short})"


def _sample(value: str, file: FileProfile) -> str:
    column = file.columns.get(value)
    if column is None:
        return ""
    text = ", ".join(column.examples[:N_SAMPLES]) or "no values"
    return text if len(text) <= SAMPLE_LENGTH else f"{text[:SAMPLE_LENGTH]}…"


def _settings(base: Proposal, shown: Proposal) -> tuple[MappingField, ...]:
    found = []
    before, now = (item.settings.get("reporting_currency") for item in (base, shown))
    if before is not None:
        codes = dict.fromkeys((before.value, *before.others, *currencies()))
        options = tuple(Option(code, code) for code in codes)
        found.append(_setting("reporting_currency", "Currency", "of ARR and reports",
                              before, now, options))  # fmt: skip
    before, now = (item.settings.get("now") for item in (base, shown))
    if before is not None:
        options = (
            Option(before.value, f"{before.value[:10]}: the data ends there"),
            Option("", "the present"),
        )
        found.append(_setting("now", "Today is", "the day of the scores", before, now, options))
    return tuple(found)


def _setting(
    key: str,
    label: str,
    meaning: str,
    before: Choice,
    now: Choice | None,
    options: tuple[Option, ...],
) -> MappingField:
    value, why, sure = (now.value, now.why, now.sure) if now else ("", "", "")
    return MappingField(key, label, meaning, before.value, value, options, why, sure)


@lru_cache(maxsize=1)
def time_zones() -> tuple[str, ...]:
    """Return the time zones of regions, UTC first."""
    return ("UTC", *sorted(z for z in available_timezones() if z.partition("/")[0] in _REGIONS))


@lru_cache(maxsize=1)
def currencies() -> tuple[str, ...]:
    """Return the codes of currencies that are legal tender somewhere today, sorted."""
    return tuple(
        sorted(
            {
                code
                for held in get_global("territory_currencies").values()
                for code, _, until, is_tender in held
                if until is None and is_tender
            }
        )
    )
