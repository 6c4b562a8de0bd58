"""Measures of a model: metrics, significance, alert lists, lead time, stability and drift."""
