"""Databases that one serving process holds open."""

from __future__ import annotations

from configs.schema.plays import load_plays
from configs.schema.workspace import Workspace
from serving.auth.api_keys import KeyStore
from serving.integrations.webhooks import Outbox
from serving.ledger.store.feedback_store import FeedbackStore
from serving.ledger.store.ledger import Ledger
from serving.online.jobs import Jobs
from serving.workflow.risk_store import RiskStore


class OpenStores:
    """Stores of one company, each opened when it is first asked for and None until then.

    Opening raises what is wrong and is tried again at the next call.

    Parameters
    ----------
    workspace : Workspace
        The company.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.ledger: Ledger | None = None
        self.intake: FeedbackStore | None = None
        self.jobs: Jobs | None = None
        self.outbox: Outbox | None = None
        self._keys: KeyStore | None = None
        self._risks: RiskStore | None = None

    def open_ledger(self) -> None:
        """Open the score ledger, the feedback and the score jobs."""
        if self.ledger is None:
            self.ledger = Ledger.open(self._workspace)
        if self.intake is None:
            self.intake = FeedbackStore(self._workspace)
        if self.jobs is None:
            self.jobs = Jobs(self._workspace)

    def open_risks(self) -> None:
        """Hold the risks open: on a disk that fills up later, an open file can still be read."""
        if self._risks is None and self._workspace.places.ledger_url is None:
            self._risks = RiskStore.open(self._workspace, load_plays(self._workspace.folder))

    def keys(self) -> KeyStore:
        """Return the API keys."""
        if self._keys is None:
            self._keys = KeyStore(self._workspace)
        return self._keys

    def open_outbox(self) -> Outbox:
        """Return the outbox of webhooks."""
        if self.outbox is None:
            self.outbox = Outbox(self._workspace)
        return self.outbox

    def close(self) -> None:
        """Commit what waits for the ledger, and close everything."""
        stores = (self.ledger, self.intake, self.jobs, self._keys, self.outbox, self._risks)
        for store in stores:
            if store is not None:
                store.close()
