"""The proposed ``company.yaml`` on disk: written once, its guesses confirmed one by one."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import yaml

from configs.runtime.errors import ConfigError, did_you_mean
from configs.schema.company import COMPANY_FILE, parse_company
from configs.schema.yaml_models import read_yaml
from features.sources.proposal.proposal import Proposal
from features.sources.proposal.write_yaml import company_yaml

_SECTION = "guesses:"
_ENTRY = re.compile(r"  ([^\s:#][^:]*): \{.*\}\s*")


def write_company(
    folder: Path, data: Path, proposal: Proposal, *, is_replaced: bool = False
) -> Path:
    """Write the proposal as ``company.yaml`` of a company folder, and return its path.

    Parameters
    ----------
    folder : Path
        The company folder; created when absent.
    data : Path
        Folder of the files; stored relative to the company folder where it lies inside.
    proposal : Proposal
        From `features.sources.proposal.propose`.
    is_replaced : bool
        Replace an existing file; the caller has checked that nothing in it is lost.

    Raises
    ------
    ConfigError
        The folder has a company already, cannot be written, or a chosen value is not valid;
        nothing is written.
    """
    path = folder / COMPANY_FILE
    if not is_replaced:
        refuse_existing(folder)
    text = company_yaml(proposal, data_text(folder, data))
    parse_company(yaml.safe_load(text), where=str(path))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _swap(path, text)
    except OSError as error:
        raise ConfigError(
            f"company.yaml cannot be written: {error.strerror}",
            where=str(path),
            fix="choose a folder you may write to:  bellwether init FOLDER --data EXPORTS",
        ) from error
    return path


def data_text(folder: Path, data: Path) -> str:
    """Return the folder of the files as ``company.yaml`` names it: relative where it is inside."""
    inside, outer = data.resolve(), folder.resolve()
    return inside.relative_to(outer).as_posix() if inside.is_relative_to(outer) else str(inside)


def refuse_existing(folder: Path) -> None:
    """Refuse a folder that has a company.

    Raises
    ------
    ConfigError
        There is a ``company.yaml``.
    """
    path = folder / COMPANY_FILE
    if path.exists():
        raise ConfigError(
            "the company file already exists; nothing was written",
            where=str(path),
            fix="choose another folder, or delete the file first",
        )


def confirm_guesses(folder: Path, keys: Collection[str] = ()) -> list[str]:
    """Remove guesses from ``company.yaml``: a person has confirmed or corrected them.

    Only lines of the section ``guesses`` are touched.

    Parameters
    ----------
    folder : Path
        The company folder.
    keys : collection of str
        The guesses; empty for all.

    Returns
    -------
    list of str
        The confirmed keys.

    Raises
    ------
    ConfigError
        There is no such guess, or the section is not written one guess per line.
    """
    path = folder / COMPANY_FILE
    known = list((read_yaml(path) or {}).get("guesses") or {})
    unknown = [key for key in keys if key not in known]
    if unknown:
        hint = did_you_mean(unknown[0], known) or f"open guesses: {', '.join(known) or 'none'}"
        raise ConfigError(
            f"no guess {unknown[0]!r}; {hint}",
            where=f"guesses in {path}",
            fix=f"name an open guess, or confirm all:  bellwether confirm {folder}",
        )
    wanted = set(keys or known)
    text = _without(path.read_text(encoding="utf-8"), wanted)
    left = (yaml.safe_load(text) or {}).get("guesses") or {}
    if set(left) != set(known) - wanted:
        raise ConfigError(
            "the section `guesses` is not written one guess per line",
            where=str(path),
            fix="remove the confirmed guesses from the file by hand",
        )
    _swap(path, text)
    return [key for key in known if key in wanted]


def _swap(path: Path, text: str) -> None:
    """Write a file under another name and rename it, so that no error leaves a part of it."""
    swap = path.with_suffix(".yaml.new")
    try:
        swap.write_text(text, encoding="utf-8")
        swap.replace(path)
    except OSError:
        swap.unlink(missing_ok=True)
        raise


def _without(text: str, wanted: set[str]) -> str:
    """Return the file without some guesses, and without the section once it is empty."""
    lines = text.splitlines(keepends=True)
    kept: list[str] = []
    inside = False
    for line in lines:
        if not line.startswith((" ", "#")) and line.strip():
            inside = line.startswith(_SECTION)
        entry = _ENTRY.fullmatch(line.rstrip("\n")) if inside else None
        if entry is None or entry.group(1).strip("\"'") not in wanted:
            kept.append(line)
    joined = "".join(kept)
    return re.sub(r"(?m)(^#.*\n)*^guesses:\s*\n(?!  )", "", joined).rstrip("\n") + "\n"
