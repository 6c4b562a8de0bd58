"""Texts, SVG charts and PDF shared by the validation report and the audit."""
