"""Turns model output into answers: scorer, expansion offers, playbooks, tables and export rows."""
