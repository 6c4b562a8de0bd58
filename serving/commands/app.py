"""The command line application: all groups of commands, and what an error looks like."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from configs.runtime.errors import BellwetherError
from serving.commands import admin, data, digest, privacy, prove, refresh, score, train
from serving.commands.console import error_console, escape

TRAINING_PACKAGES = frozenset({"matplotlib", "mlflow", "optuna", "pandera", "shap", "sklearn"})
"""Import names of the packages that only the extra ``train`` installs."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Predict which accounts will leave and which will grow: how early, why, how sure, and "
    "whether earlier predictions were right.",
)
groups = (data, train, score, refresh, digest, prove, admin, privacy)
for group in (module.app for module in groups):
    app.add_typer(group)


@dataclass
class Settings:
    """Options before the command."""

    is_debug: bool = False


settings = Settings()


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Take the options before the command."""
    settings.is_debug = debug


def main() -> None:
    """Run a command; an error is printed with its place and its fix, without a traceback."""
    try:
        app()
    except BellwetherError as error:
        if settings.is_debug:
            raise
        error_console.print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if settings.is_debug:
            raise
        text, code = _unexpected(error)
        error_console.print(f"[bold red]{text}")
        sys.exit(code)


def _unexpected(error: Exception) -> tuple[str, int]:
    """Return the message of an error that is not a `BellwetherError`, and the exit code."""
    if isinstance(error, OSError) and error.filename is not None:
        return (
            f"error:[/] cannot be read or written: {escape(str(error.strerror))}\n"
            f"  where: {escape(str(error.filename))}\n"
            "  to do: correct the path, its permissions or the disk, then run the command again",
            74,
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        extra = "train" if package in TRAINING_PACKAGES else "serve"
        return (
            f"error:[/] this command needs the package {package}, which is not installed\n"
            f"  to do: pip install 'bellwether-cs\\[{extra}]'",
            2,
        )
    return (
        f"unexpected error:[/] {escape(f'{type(error).__name__}: {error}')}\n"
        "  to do: run the same command as `bellwether --debug …` and report what it prints",
        70,
    )
