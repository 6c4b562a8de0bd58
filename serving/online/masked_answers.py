"""Answers and published scores without the ids of persons, for callers who do not need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from serving.http.personal_data import mask_contact, mask_person
from serving.online.score_request import EncodedAnswer, ScoredBatch
from serving.scoring.answer import Answer

if TYPE_CHECKING:
    from serving.online.server_state import CurrentBook

CONTACT = "expansion_contact"
"""Column of the canonical rows that names a person."""


def masked_answer(answer: Answer) -> Answer:
    """Return an answer with the contact of its expansion offer masked."""
    offer = answer.get("expansion")
    if offer is None or offer["contact"] is None:
        return answer
    contact = offer["contact"]
    hidden = {**contact, "contact_id": mask_person(contact["contact_id"])}
    return {**answer, "expansion": {**offer, "contact": hidden}}  # type: ignore[typeddict-item]


def masked_answers(given: Sequence[EncodedAnswer]) -> list[EncodedAnswer]:
    """Return encoded answers without ids of persons."""
    return [EncodedAnswer(masked_answer(item.value), status=item.status) for item in given]


def masked_batch(scored: ScoredBatch) -> ScoredBatch:
    """Return scored accounts without ids of persons; the ledger rows stay as they are."""
    return replace(scored, given=masked_answers(scored.given))


def masked_book(book: CurrentBook) -> CurrentBook:
    """Return published scores without ids of persons."""
    position = book.table.schema.get_field_index(CONTACT)
    values = [mask_contact(text) for text in book.table[CONTACT].to_pylist()]
    item = book.table.schema.field(position)
    table = book.table.set_column(position, item, pa.array(values, item.type))
    return replace(book, table=table)
