"""Proposals for folders of vendor exports: the mapping, links and times an expert would choose."""

from __future__ import annotations

import shutil
from functools import cache

import pytest

from features.sources.proposal import Proposal, propose
from features.sources.proposal.draft import TableDraft
from tests.features.sources.proposal.vendor_exports import (
    FIXTURES,
    FOLDERS,
    NOW,
    ExpectedTable,
    expected,
)

EXPECTED = [table for folder in FOLDERS for table in expected(folder).tables]
each_table = pytest.mark.parametrize("wanted", EXPECTED, ids=[item.place for item in EXPECTED])


@pytest.fixture(scope="session")
def proposal_of(tmp_path_factory):
    """The proposal for a folder, made once per session."""

    @cache
    def make(folder: str) -> Proposal:
        place = tmp_path_factory.mktemp(folder) / "data"
        shutil.copytree(FIXTURES / folder, place)
        return propose(place, NOW)

    return make


def _draft(proposal: Proposal, wanted: ExpectedTable) -> TableDraft:
    found = [
        draft
        for draft in proposal.drafts
        if draft.table == wanted.table and proposal.inputs[draft.file.name] == wanted.file
    ]
    assert found, proposal.unused.get(wanted.file, "mapped to another table")
    return found[0]


@each_table
def test_a_proposal_maps_a_vendor_export_as_an_expert_would(wanted, proposal_of):
    draft = _draft(proposal_of(wanted.folder), wanted)
    assert draft.origin == f"{wanted.vendor}: {wanted.starter.about}"
    wrong = {
        name: draft.columns.get(name)
        for name, header in wanted.columns.items()
        if name not in draft.columns or not _reads(draft.columns[name].value, header)
    }
    assert not wrong
    found = {key: choice.value for key, choice in draft.billing.items()}
    assert found.keys() == wanted.billing.keys()
    for key, value in wanted.billing.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        assert _reads(found[key], text), key


@each_table
def test_a_proposal_links_a_vendor_export_to_its_accounts(wanted, proposal_of):
    draft = _draft(proposal_of(wanted.folder), wanted)
    if not wanted.account:
        return
    choice = draft.columns.get("account_id")
    if draft.links:
        choice, matches, by = draft.links[0]
        assert (matches, by) == (wanted.account["matches"], wanted.account["by"])
    assert choice is not None
    assert _reads(choice.value, wanted.account["column"])


@each_table
def test_a_proposal_knows_when_a_row_of_a_vendor_export_arrived(wanted, proposal_of):
    draft = _draft(proposal_of(wanted.folder), wanted)
    found = draft.known_at and draft.known_at.value
    if wanted.known_at is not None:
        assert found == wanted.known_at
    else:
        assert found not in wanted.never_known_at


def _reads(text: str, header: str) -> bool:
    return text == header or f'"{header}"' in text
