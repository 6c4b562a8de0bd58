"""Releases, the MLflow registry, model cards and shadow models."""
