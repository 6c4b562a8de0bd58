"""Webhooks, and exports to CRM systems."""
