"""Published models: releases, the MLflow registry, model cards and shadow models."""
