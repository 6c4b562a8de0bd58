"""Scoring core: answers, expansion offers, plays and export rows."""
