"""Webhooks, and exports in the fields of CRM systems."""
