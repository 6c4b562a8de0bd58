"""Statuses of invoices, in a module without data-frame libraries: the service reads it, too."""

NOT_BILLED = ("draft", "void", "voided", "deleted", "canceled", "cancelled", "uncollectible")
"""Statuses of invoices without a payment obligation."""
