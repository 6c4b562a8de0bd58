"""Registry of all checks, discovered by file name, and their catalogue."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from configs.runtime.errors import ConfigError, did_you_mean
from configs.schema.company import Company
from training.checks.base import (
    SECTIONS,
    Check,
    Finding,
    result_of,
    section_of,
)
from training.checks.context import CheckContext
from training.model.manifest_parts import CheckResult

PACKAGE = "training.checks"
FILES = "*/[a-z][0-9][0-9]_*.py"
"""Files of the checks: one folder per section, one file per check."""


@lru_cache(maxsize=1)
def modules() -> tuple[ModuleType, ...]:
    """Import and return the module of every check, by code."""
    paths = sorted(Path(__file__).parent.glob(FILES), key=lambda path: path.name)
    return tuple(import_module(f"{PACKAGE}.{path.parent.name}.{path.stem}") for path in paths)


@lru_cache(maxsize=1)
def check_catalogue() -> tuple[Check, ...]:
    """Return one check per file, by code: leakage, sufficiency, stability."""
    return tuple(_check_in(module) for module in modules())


def _check_in(module: ModuleType) -> Check:
    found = [
        item
        for _, item in inspect.getmembers(module, inspect.isclass)
        if issubclass(item, Check) and item.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise TypeError(f"{module.__name__} declares {len(found)} checks, not one")
    check: Check = found[0]()
    return check


def run_checks(context: CheckContext) -> list[CheckResult]:
    """Run every check on one training run; ignored checks are listed with the company's reason.

    Raises
    ------
    ConfigError
        The company ignores a check that does not exist.
    """
    refuse_unknown_checks(context.company)
    ignored = context.company.checks.ignore
    return [
        result_of(
            check,
            Finding("ignored", ignored[check.code])
            if check.code in ignored
            else check.run(context),
        )
        for check in check_catalogue()
    ]


def leakage_marks(results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the leakage checks as input of the validation report.

    Parameters
    ----------
    results : iterable of mapping
        `CheckResult.as_dict`.

    Returns
    -------
    list of dict
        title; passed: False for an issue, None if it did not run; words.
    """
    verdicts = {"issue": False, "tip": True, "passed": True}
    return [
        {
            "title": f"{item['title']} ({item['code']})",
            "passed": verdicts.get(str(item["outcome"])),
            "words": item["words"],
        }
        for item in results
        if item["section"] == SECTIONS["L"]
    ]


def refuse_unknown_checks(company: Company) -> None:
    """Raise when the company ignores a check that does not exist."""
    known = [check.code for check in check_catalogue()]
    for code in company.checks.ignore:
        if code not in known:
            raise ConfigError(
                f"there is no check {code!r}",
                where="checks.ignore in company.yaml",
                fix=did_you_mean(code, known) or "bellwether checks   lists them",
            )


def about_check(check: Check) -> str:
    """Return the docstring of a check: fault and method."""
    return inspect.cleandoc(type(check).__doc__ or "")


def as_dicts() -> list[dict[str, str]]:
    """Return the catalogue as plain JSON content."""
    return [
        {
            "code": check.code,
            "title": check.title,
            "section": section_of(check.code),
            "severity": check.severity,
            "about": about_check(check),
            "to_do": check.to_do,
        }
        for check in check_catalogue()
    ]
