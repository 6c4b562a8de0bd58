"""Turns model output into answers: scores, expansion offers, plays and export rows."""
