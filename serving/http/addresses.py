"""Addresses of pages."""

from __future__ import annotations

from urllib.parse import quote


def account_url(account_id: str) -> str:
    """Return the URL path of an account page; the account id is percent-encoded."""
    return f"/accounts/{quote(account_id, safe='')}"
