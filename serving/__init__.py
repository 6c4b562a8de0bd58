"""Serves scores to people and systems: API, pages, exports, webhooks and the score ledger."""

import sys
from pathlib import Path

ROOMS = ("configs", "features", "training")


def _forget_other_rooms() -> None:
    """Forget rooms that were imported from another installation of Bellwether.

    `bentoml serve bellwether:latest` looks for a module `bellwether` before it looks for the
    Bento, and an installed one imports its own `configs`: the Bento would run on a mixture.
    """
    root = Path(__file__).resolve().parent.parent
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] in ROOMS and file and root not in Path(file).resolve().parents:
            del sys.modules[name]


_forget_other_rooms()
