"""Every command that a shipped file names exists, with the options it is named with."""

from __future__ import annotations

import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

import bellwether
from serving.commands.app import _unexpected, app

ROOT = Path(bellwether.__file__).resolve().parent
SHIPPED = (
    "README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "Makefile", "Containerfile",
    "pyproject.toml", "bellwether.py",
)  # fmt: skip
ROOMS = ("configs", "features", "training", "serving", "notebooks", ".github", "docs")
SUFFIXES = {
    ".py", ".md", ".yaml", ".yml", ".j2", ".html", ".json", ".ipynb", ".toml", ".txt", ".cfg", "",
}  # fmt: skip

NAMED = re.compile(r"\bbellwether(?:\.py)?((?: +--?[a-z][\w-]*)*) +([a-z][a-z_-]*)([^`\"'<\n]*)")
"""The command line's own options, the command, and what follows on the line."""

PROSE = {"import"}
"""Words that follow the name where no command is meant: ``from bellwether import …``."""


def shipped() -> list[Path]:
    """Files that people read or run; the tests are not shipped."""
    listed = [ROOT / name for name in SHIPPED]
    for room in ROOMS:
        listed += [path for path in (ROOT / room).rglob("*") if path.is_file()]
    kept = [path for path in listed if path.is_file() and path.suffix in SUFFIXES]
    return sorted(path for path in kept if "__pycache__" not in path.parts)


def text_of(path: Path) -> str:
    """Return what a file says; of Python its strings and comments, neighbours joined."""
    raw = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return raw
    tokens = tokenize.generate_tokens(io.StringIO(raw).readline)
    kinds = (tokenize.STRING, tokenize.COMMENT)
    return "\n".join(token.string for token in tokens if token.type in kinds)


def commands() -> dict[str, set[str]]:
    """Return every command with its options; those of a group as ``keys create``."""
    found: dict[str, set[str]] = {}

    def walk(command, words: tuple[str, ...]) -> None:
        found[" ".join(words)] = {"--help"} | {
            name for item in command.params for name in (*item.opts, *item.secondary_opts)
        }
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, (*words, name))

    walk(get_command(app), ())
    return found


KNOWN = commands()
GROUPS = {name.split()[0] for name in KNOWN if " " in name}


def faults(text: str) -> Iterator[str]:
    """Name every command in a text that does not exist, or is given an option it has not."""
    for match in NAMED.finditer(text):
        before, word, rest = match.groups()
        if word in PROSE:
            continue
        name = word
        if word in GROUPS:  # a group takes no argument: the word after it is its command
            second = re.match(r" +([\w-]+)", rest)
            name = f"{word} {second[1]}" if second else word
        if name not in KNOWN:
            yield f"no command: {match[0].strip()}"
            continue
        # What follows a comma, or another command on the same line, has options of its own.
        own = re.split(r"[,;]|\bbellwether\b", rest)[0]
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", own):
            if option not in KNOWN[name]:
                yield f"{option} is no option of {name}: {match[0].strip()}"
        for option in re.findall(r"--?[a-z][\w-]*", before):
            if option not in KNOWN[""]:
                yield f"{option} does not stand before a command: {match[0].strip()}"


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_a_shipped_file_names_exists(path):
    assert list(faults(text_of(path))) == []


def test_many_files_name_commands():
    naming = [path for path in shipped() if NAMED.search(text_of(path))]
    assert len(naming) > 40
    assert {path.suffix for path in naming} >= {".py", ".md", ".yaml", ".html", ".j2", ".json"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("`bellwether demo` writes its files", "no command: bellwether demo"),
        ('fix="bellwether features --rebuild"', "--rebuild is no option of features"),
        ("bellwether --verbose run x", "--verbose does not stand before a command"),
        (".venv/bin/bellwether keys make acme", "no command: bellwether keys make"),
        ("`bellwether keys create x --day 3`", "--day is no option of keys create"),
        ("bellwether run acme --wekks 3", "--wekks is no option of run"),
    ],
)
def test_a_command_that_does_not_exist_is_found(text, fault):
    (found,) = faults(text)
    assert found.startswith(fault)


@pytest.mark.parametrize(
    "target", ["demo", "sample", "test", "check", "docs", "lock", "spark", "bench"]
)
def test_the_make_targets_that_are_named_exist(target):
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


PANELS = [
    "Data",
    "Train and publish",
    "Score and serve",
    "Reports and validity",
    "Administration",
]

ODD_WORDS = re.compile(
    r"\b(?:nobody|whoever|somebody|anybody|anew|beside|told|tells?|stands?|stood|book|lot)\b", re.I
)


def walked(command, name: str = "") -> Iterator[tuple[str, TyperCommand | TyperGroup]]:
    if name:
        yield name, command
    for inner, found in getattr(command, "commands", {}).items():
        yield from walked(found, f"{name} {inner}".strip())


EVERY = dict(walked(get_command(app)))


def test_help_shows_the_commands_in_groups_that_fit_a_terminal():
    shown = CliRunner().invoke(app, ["--help"], terminal_width=80).output
    assert [line[3:].split(" ─")[0] for line in shown.splitlines() if line[:1] == "╭"] == [
        "Options",
        *PANELS,
    ]
    assert max(map(len, shown.splitlines())) <= 80
    for name in (name for name in EVERY if " " not in name):
        assert re.search(rf"^│ {name} +[A-Z]", shown, re.MULTILINE), name


@pytest.mark.parametrize("name", sorted(EVERY))
def test_help_is_plain_english_for_every_command_and_option(name):
    command = EVERY[name]
    texts = {"": command.help or ""}
    texts |= {item.name: getattr(item, "help", None) or "" for item in command.params}
    for option, text in texts.items():
        assert text, f"{name} {option}: no help"
        assert text[0].isupper(), text
        assert text.rstrip().endswith("."), text
        assert not ODD_WORDS.search(text), text
    shown = CliRunner().invoke(app, [*name.split(), "--help"], terminal_width=80).output
    assert "…" not in shown, "nothing is cut"


def test_a_missing_package_names_its_extra():
    for package, extra in (("optuna.study", "train"), ("orjson", "serve")):
        text, code = _unexpected(ModuleNotFoundError("missing", name=package))
        assert code == 2
        assert f"bellwether-cs\\[{extra}]" in text
        assert package.partition(".")[0] in text
