"""Evaluation of models: metrics, significance, alert list, lead time, stability and drift."""
