"""The company folder that the pages set up, and the choices made on the pages so far."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from configs.runtime.errors import ConfigError, StateError
from configs.runtime.hashing import digest
from configs.runtime.state_directory import read_json, write_json_atomically, write_text_atomically
from configs.schema.company import COMPANY_FILE
from configs.schema.workspace import Workspace
from configs.schema.yaml_models import read_yaml
from features.sources.proposal.company_file import confirm_guesses, write_company
from features.sources.proposal.proposal import Proposal
from features.sources.proposal.raw_tables import READABLE
from serving.http.problems import ProblemError

WORK = ".start"
"""Folder of the pages' own files inside a company folder; hidden, so it is never read as data."""

EXPORTS = "exports"
RECORD, TOKEN = "start.json", "token"
TOKEN_BYTES = 32


class SetupRecord(BaseModel):
    """Choices made on the pages.

    Attributes
    ----------
    data : str
        Folder of the exports; empty while none is chosen.
    answers : mapping of str to str
        Key in ``company.yaml`` to the chosen value, as `propose` takes them.
    confirmed : mapping of str to str
        Confirmed guesses, with the value that was confirmed.
    written : str
        Digest of ``company.yaml`` as these pages wrote it last.
    agreed : str
        Digest of the content of ``company.yaml`` whose figures a person found right.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    data: str = ""
    answers: Mapping[str, str] = Field(default_factory=dict)
    confirmed: Mapping[str, str] = Field(default_factory=dict)
    written: str = ""
    agreed: str = ""


@dataclass(frozen=True)
class Desk:
    """One company folder.

    Attributes
    ----------
    folder : Path
        The company folder.
    work : Path
        Folder of the pages' own files.
    roots : tuple of Path
        Folders below which exports may be chosen; empty: neither choice nor upload is offered.
    link : str
        Query of every link and form, which names the folder where several are possible.
    is_service : bool
        The pages are part of the running service: it starts no run and no second service.
    options : tuple of str
        Options of the commands on this folder, such as ``--state``; see `command_options`.
    root : Path or None
        Folder in which the running service offers other folders to set up.
    """

    folder: Path
    work: Path
    roots: tuple[Path, ...] = ()
    link: str = ""
    is_service: bool = False
    options: tuple[str, ...] = ()
    root: Path | None = None

    @property
    def title(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    @property
    def may_choose(self) -> bool:
        """Whether exports may be uploaded or chosen."""
        return bool(self.roots)

    @property
    def exports(self) -> Path:
        """Folder of uploaded files."""
        return self.folder / EXPORTS

    @property
    def company_file(self) -> Path:
        """Path of ``company.yaml``."""
        return self.folder / COMPANY_FILE

    @property
    def record(self) -> SetupRecord:
        """The choices so far."""
        path = self.work / RECORD
        try:
            return SetupRecord.model_validate(read_json(path))
        except FileNotFoundError:
            return SetupRecord()
        except ValidationError as error:
            raise StateError(
                "damaged file of the setup pages", where=str(path), fix="delete it and start again"
            ) from error

    def keep(self, **changes: object) -> None:
        """Record choices."""
        made = self.record.model_copy(update=changes)
        write_json_atomically(self.work / RECORD, made.model_dump(mode="json"))

    @property
    def data(self) -> Path:
        """Folder of the exports: the chosen one, that of uploads, or the company folder itself."""
        chosen = self.record.data
        if chosen:
            return Path(chosen)
        has_files = self.folder.is_dir() and any(
            path.name.lower().endswith(READABLE) for path in self.folder.iterdir()
        )
        return self.folder if has_files else self.exports

    @property
    def written(self) -> str:
        """Digest of ``company.yaml`` as it is now; empty without."""
        with suppress(FileNotFoundError):
            return hashlib.sha256(self.company_file.read_bytes()).hexdigest()
        return ""

    @property
    def content(self) -> str:
        """Digest of what ``company.yaml`` states, without its open guesses; empty without."""
        try:
            found = read_yaml(self.company_file)
        except FileNotFoundError:
            return ""
        kept = {key: value for key, value in (found or {}).items() if key != "guesses"}
        return digest(json.dumps(kept, sort_keys=True, default=str))

    @property
    def command_options(self) -> tuple[str, ...]:
        """Options of the commands on this folder.

        The folder of the exports is named where the pages wrote the mapping, so that
        ``BELLWETHER_DATA`` of this process replaces it with no other data.
        """
        is_ours = self.is_own and bool(self.written)
        return (*self.options, *(("--data", str(self.data)) if is_ours else ()))

    @property
    def is_own(self) -> bool:
        """Whether the pages may write ``company.yaml``: it is absent, or they wrote it."""
        return self.written in ("", self.record.written)

    def save(self, proposal: Proposal) -> None:
        """Write ``company.yaml``; guesses that were confirmed stay confirmed.

        Raises
        ------
        ConfigError
            The file was changed by hand, or a chosen value is not valid; nothing is written.
        """
        if not self.is_own:
            raise ConfigError(
                "company.yaml was written or changed outside these pages; nothing was overwritten",
                where=str(self.company_file),
                fix="edit the file itself, or move it away to propose the mapping again",
            )
        write_company(self.folder, self.data, proposal, is_replaced=True)
        kept, guesses = self.record.confirmed, proposal.guesses()
        same = [
            key for key, value in kept.items() if key in guesses and guesses[key].value == value
        ]
        if same:
            confirm_guesses(self.folder, same)
        self.keep(written=self.written)

    def confirm(self, keys: Mapping[str, str]) -> None:
        """Confirm guesses, given with their values; an empty mapping confirms nothing.

        Raises
        ------
        ConfigError
            There is no such guess.
        """
        if not keys:
            return
        was_own = self.is_own
        confirm_guesses(self.folder, list(keys))
        kept = {**self.record.confirmed, **keys}
        self.keep(confirmed=kept, **({"written": self.written} if was_own else {}))

    def token(self) -> str:
        """Return the random token of every form; it is created on the first call."""
        path = self.work / TOKEN
        with suppress(FileNotFoundError):
            text = path.read_text(encoding="utf-8").strip()
            if len(text) >= TOKEN_BYTES:
                return text
        write_text_atomically(path, secrets.token_urlsafe(TOKEN_BYTES))
        return path.read_text(encoding="utf-8")

    def has_token(self, given: str) -> bool:
        """Whether a form carries the token."""
        return secrets.compare_digest(given.encode(), self.token().encode())


def local_desk(folder: Path, roots: tuple[Path, ...]) -> Desk:
    """Return the desk of the local application."""
    return Desk(folder, folder / WORK, roots)


def service_desk(workspace: Workspace, root: str | None, folder: str) -> Desk:
    """Return a desk of the running service.

    Parameters
    ----------
    workspace : Workspace
        The served company.
    root : str or None
        Folder below which others may be set up (``BELLWETHER_START_ROOT``).
    folder : str
        Folder relative to the root; empty for the served company.

    Raises
    ------
    ProblemError
        There is no root, or no such folder below it.
    """
    top = Path(root).expanduser().resolve() if root else None
    if not folder:
        served = ("--state", str(workspace.state.root), "--data", str(workspace.data))
        work = workspace.state.root / "start"
        return Desk(workspace.folder, work, is_service=True, options=served, root=top)
    if top is None:
        raise ProblemError(
            "forbidden", "this service offers no other folder: BELLWETHER_START_ROOT is not set"
        )
    try:
        path = chosen_folder((top,), folder)
    except ConfigError as error:
        raise ProblemError("invalid-request", error.what) from error
    link = f"?folder={quote(path.relative_to(top).as_posix(), safe='')}"
    work = path / WORK
    # The state of the served company is in the environment of this process.
    options = ("--state", str(work / "state"))
    return Desk(path, work, (top,), link, is_service=True, options=options, root=top)


def chosen_folder(roots: tuple[Path, ...], text: str) -> Path:
    """Return a folder that a person named, if it is below one of the roots.

    Parameters
    ----------
    roots : tuple of Path
        Permitted folders.
    text : str
        Absolute, or relative to the first root. Links are followed before the check.

    Raises
    ------
    ConfigError
        There is no such folder, or it lies outside.
    """
    if not text.strip() or "\0" in text:
        raise ConfigError("no folder is named", fix="write the path of the folder of the exports")
    try:
        path = (roots[0] / Path(text.strip()).expanduser()).resolve()
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"the folder cannot be read: {error}", where=text[:300]) from error
    if not any(path.is_relative_to(root.resolve()) for root in roots):
        raise ConfigError(
            "the folder is outside the folders that these pages may read",
            where=str(path)[:300],
            fix=f"copy the exports below {roots[0]}, or set BELLWETHER_START_ROOT to a folder that "
            "contains them and start again",
        )
    if not path.is_dir():
        raise ConfigError(
            "there is no such folder", where=str(path)[:300], fix="correct the path, then try again"
        )
    return path
