"""Whether a caller sees persons of an account: `privacy.people` of company.yaml."""

from __future__ import annotations

from configs.schema.company import Company
from serving.auth.permissions import LOCAL, Caller


def sees_people(company: Company, caller: Caller) -> bool:
    """Return whether a caller sees the ids of contacts, users and respondents.

    A local caller of a service without keys and sign-in has the files anyway, and sees them.

    Examples
    --------
    >>> from configs.schema.company import parse_company
    >>> company = parse_company({"name": "acme", "targets": {}}, where="an example")
    >>> sees_people(company, Caller("ada", frozenset(), "csm", "ada"))
    True
    >>> sees_people(company, Caller("bo", frozenset(), "leader"))
    False
    """
    if caller is LOCAL or caller == LOCAL:
        return True
    shown = {**company.privacy.people.model_dump()}
    return bool(shown[caller.role or "systems"] == "shown")
